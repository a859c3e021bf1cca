"""How a tool that holds child processes ends: also SIGTERM lets it stop them."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

TERMINATED_STATUS = 143


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
