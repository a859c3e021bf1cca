"""Shows states and transcripts to front ends, without ever making the session wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rspp._kernel import EdgeBuffer
from rspp.contracts.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rspp.contracts.ports import Transport

log = structlog.get_logger(__name__)

MAX_WAITING = 64
"""Updates that may wait; later ones are shed, since a front end that is this far behind is gone."""


class Presenter:
    """Hands updates to the transport one after another in one task.

    Args:
        transport: where front ends listen.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._edge: EdgeBuffer[Callable[[], Awaitable[None]]] = EdgeBuffer(
            edge_id="session->presenter",
            strategy="drop",
            max_items=MAX_WAITING,
            max_ms=600_000,
            max_bytes=1 << 20,
            high_items=MAX_WAITING,
            low_items=MAX_WAITING // 2,
        )
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
        if self._edge.put(update, 0, 0, size):
            self._wake.set()

    async def run(self) -> None:
        """Deliver updates until cancelled."""
        while True:
            update = self._edge.get()
            if update is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await update()
            except TransportError as error:
                log.info("front ends were not told", error=error.message)
