"""How the tools end: one clear message and an exit status, never a traceback.

Nothing may import ``rspp.cli``, so the tools have their own few lines for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from rspp.contracts.errors import RsppError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

INTERNAL_ERROR_STATUS = 70
INTERRUPTED_STATUS = 130
TERMINATED_STATUS = 143


def run_tool(work: Callable[[], int]) -> int:
    """Run ``work`` and return the exit status: its own, 2 for bad input, 130 for an interrupt."""
    try:
        return work()
    except RsppError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except Exception as error:
        if os.environ.get("RSPP_DEBUG"):
            traceback.print_exc()
        print(f"internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("hint: run again with RSPP_DEBUG=1 for the traceback", file=sys.stderr)
        return INTERNAL_ERROR_STATUS


def run_async(work: Coroutine[None, None, int]) -> int:
    """Run a coroutine to its end; SIGTERM ends it like Ctrl-C, so that its children are stopped.

    Returns:
        Its own status, or 143 when SIGTERM ended it.
    """
    terminated = False

    async def guarded() -> int:
        nonlocal terminated
        task = asyncio.current_task()
        assert task is not None

        def on_terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_terminate)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if terminated:
            return TERMINATED_STATUS
        raise
