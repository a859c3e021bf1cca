"""The old place of ``rspp.terminal``."""

from __future__ import annotations

from rspp.terminal import answer_version, coloured, run_app, run_command, show_error, version

__all__ = ["answer_version", "coloured", "run_app", "run_command", "show_error", "version"]
