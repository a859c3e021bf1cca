"""The pipeline file: its types, its loader, its checks and what the kernel is told of it."""
