"""``rspp-local-runner``: holds a call over files."""

from __future__ import annotations

import sys

from rspp.terminal import answer_version, run_app, run_command

COMMAND = "rspp-local-runner"


def _run() -> int:
    from rspp.runtime.local_commands import app
    from rspp.runtime.logs import set_up_logs

    set_up_logs()
    return run_app(app)


def main() -> None:
    """Entry point of ``rspp-local-runner``."""
    if not answer_version(COMMAND):
        sys.exit(run_command(_run))


if __name__ == "__main__":
    main()
