"""Shows states and transcripts to front ends, without ever making the session wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import structlog

from rspp.contracts.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rspp._kernel import EdgeBuffer
    from rspp.contracts.ports import Clock, Transport

log = structlog.get_logger(__name__)

Update: TypeAlias = "Callable[[], Awaitable[None]]"


class Presenter:
    """Hands updates to the transport one after another in one task.

    Args:
        transport: where front ends listen.
        edge: where updates wait; it sheds rather than make the session wait.
        clock: tells which updates have waited too long to be shown.
    """

    def __init__(self, transport: Transport, edge: EdgeBuffer[Update], clock: Clock) -> None:
        self._transport = transport
        self.edge = edge
        self._clock = clock
        self._wake = asyncio.Event()

    def agent_state(self, state: str) -> None:
        """Show the agent's state."""
        self._put(lambda: self._transport.set_agent_state(state), len(state))

    def transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        """Show words of a party."""
        self._put(
            lambda: self._transport.publish_transcript(segment_id, text, caller=caller, final=final),
            len(text),
        )

    def _put(self, update: Callable[[], Awaitable[None]], size: int) -> None:
        if self.edge.put(update, 0, 0, size, self._clock.now_us()):
            self._wake.set()

    async def run(self) -> None:
        """Deliver updates until cancelled."""
        while True:
            update = self.edge.get(self._clock.now_us())
            if update is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await update()
            except TransportError as error:
                log.info("front ends were not told", error=error.message)
