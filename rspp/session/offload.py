"""Where blocking work runs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

THREADS_PER_SESSION = 3
"""One each for recognition, speech and lease renewal: a hung one starves none of the others."""


class ThreadOffloader:
    """Runs blocking work on threads of one session.

    Each session has its own threads, so that a provider that hangs in one call cannot take the
    threads of another. The nodes await each piece of work before they hand in the next, so no more
    than ``threads`` pieces are ever waiting.

    Args:
        name: prefix of the thread names.
        threads: most pieces of work at once.
    """

    def __init__(self, name: str, threads: int = THREADS_PER_SESSION) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` on a thread and return its result; cancelling the caller does not stop it."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Let the threads end; work that has not begun is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class InlineOffloader:
    """Runs blocking work on the spot: virtual time stands still meanwhile, so runs repeat exactly."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` at once and return its result."""
        return work()

    def close(self) -> None:
        """Nothing to free."""
