"""Tests of the kernel through its Python face."""
