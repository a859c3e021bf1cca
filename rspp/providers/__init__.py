"""Providers: one file per provider, and the registry that opens those a pipeline names."""
