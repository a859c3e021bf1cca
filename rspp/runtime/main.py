"""``rspp-runtime``: joins a room, or serves a LiveKit server's dispatches."""

from __future__ import annotations

import sys

from rspp.terminal import answer_version, run_app, run_command

COMMAND = "rspp-runtime"


def _run() -> int:
    from rspp.runtime.commands import app

    return run_app(app)


def main() -> None:
    """Entry point of ``rspp-runtime``."""
    if not answer_version(COMMAND):
        sys.exit(run_command(_run))


if __name__ == "__main__":
    main()
