"""What was said before a takeover, read beside the joining of the room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rspp.contracts.conversation import Conversation

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.ports import Offloader

log = structlog.get_logger(__name__)

REATTACH_SECONDS = 1.0
"""Longest wait, once the room was joined, for what was said before a takeover: the caller hears nothing
meanwhile, and a conversation without its history is better than silence."""


class EarlierConversation:
    """The conversation that an earlier holder of the session left.

    Args:
        read: reads it, off the event loop.
        offloader: where.
    """

    def __init__(self, read: Callable[[], Conversation], offloader: Offloader) -> None:
        self._read = read
        self._offloader = offloader
        self._reading: asyncio.Task[Conversation] | None = None

    def begin(self) -> None:
        """Start reading."""
        self._reading = asyncio.create_task(self._offloader.run(self._read), name="reattach")

    async def wait(self) -> None:
        """Wait for it, but not for ever."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=REATTACH_SECONDS)

    def cancel(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()

    def result(self) -> Conversation:
        """Return what was read by now; an empty conversation when nothing was."""
        if self._reading is None or not self._reading.done() or self._reading.cancelled():
            log.warning("the conversation before the takeover was not read in time")
            return Conversation()
        failure = self._reading.exception()
        if failure is not None:
            log.warning("the conversation before the takeover cannot be read", error=str(failure))
            return Conversation()
        return self._reading.result()
