"""Shows states and transcripts to front ends, without ever making the session wait.

What is shown goes through the kernel's lane router:

| lane | carries | when a front end is slow |
|---|---|---|
| control | the agent's state | waits for no transcript, is never shed; where no room is, the newest stays |
| data | final transcripts | as the plan says of the edge |
| telemetry | a reply as it grows | the newest are kept; what a final transcript overtakes is shed |

The end of a call waits in no queue: the room is left in the step that ends it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import structlog

from rspp._kernel import LaneRouter
from rspp.contracts.errors import TransportError
from rspp.pipeline.profile import SIMPLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rspp._kernel import EdgeBuffer
    from rspp.contracts.ports import Clock, Transport

log = structlog.get_logger(__name__)

Update: TypeAlias = "Callable[[], Awaitable[None]]"

CONTROL, DATA, TELEMETRY = "ControlLane", "DataLane", "TelemetryLane"
GROWING = (8, 6, 3)
"""Versions of a growing reply that may wait, and the marks. Each holds the whole text so far, so of many
only the newest are worth showing."""
FLUSH_SECONDS = 0.25
"""Longest that the end of a call waits for what was to be shown."""


class Presenter:
    """Hands updates to the transport, control apart from the rest.

    Args:
        transport: where front ends listen.
        edge: settings of the data lane, as the plan has them; itself it stays empty.
        clock: tells which updates have waited too long to be shown.
        control: most states that may wait, and the marks.
    """

    def __init__(
        self,
        transport: Transport,
        edge: EdgeBuffer[Update],
        clock: Clock,
        control: tuple[int, int, int] = SIMPLE.flow_control.lane_bounds("control"),
    ) -> None:
        self._transport = transport
        self.router = LaneRouter.over(
            edge, control=control, telemetry=GROWING, telemetry_strategy="best_effort_drop"
        )
        self._clock = clock
        self._late_state = ""
        self._stirred = {lane: asyncio.Event() for lane in (CONTROL, DATA)}
        self._delivering = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def agent_state(self, state: str) -> None:
        """Show the agent's state."""
        self._late_state = "" if self._put_state(state) else state

    def transcript(self, segment_id: str, text: str, *, caller: bool, final: bool, turn: int = 0) -> None:
        """Show words of a party; those of a growing reply belong to a turn."""
        if final and turn:
            self.router.overtake(turn, self._clock.now_us())
        self._put(
            DATA if final else TELEMETRY,
            lambda: self._transport.publish_transcript(segment_id, text, caller=caller, final=final),
            0 if final else turn,
            len(text),
        )

    def _put_state(self, state: str) -> bool:
        return self._put(CONTROL, lambda: self._transport.set_agent_state(state), 0, len(state))

    def _put(self, lane: str, update: Update, turn: int, size: int) -> bool:
        taken = self.router.put(lane, update, turn, 0, size, self._clock.now_us())
        if taken:
            self._idle.clear()
            for stirred in self._stirred.values():
                stirred.set()
        return taken

    async def run(self) -> None:
        """Deliver updates until cancelled: control in one task, the rest in another."""
        async with asyncio.TaskGroup() as group:
            for lane in (CONTROL, DATA):
                group.create_task(self._deliver(lane), name=f"presenter-{lane}")

    async def flush(self) -> None:
        """Wait until nothing is left to be shown, for at most a quarter of a second."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.info("front ends were not told everything before the end", waiting=len(self.router))

    async def _deliver(self, lane: str) -> None:
        while True:
            update = self._next(lane)
            if update is None:
                self._stirred[lane].clear()
                if not self._delivering and not len(self.router):
                    self._idle.set()
                await self._stirred[lane].wait()
                continue
            self._delivering += 1
            try:
                await update()
            except TransportError as error:
                log.info("front ends were not told", error=error.message)
            finally:
                self._delivering -= 1

    def _next(self, lane: str) -> Update | None:
        """Take what ``lane`` delivers next; while control waits, nothing else is begun."""
        if (lane == CONTROL) != (self.router.waiting(CONTROL) > 0):
            return None
        taken = self.router.get(self._clock.now_us())
        if lane == CONTROL:
            if self._late_state and self._put_state(self._late_state):
                self._late_state = ""
            if not self.router.waiting(CONTROL):
                self._stirred[DATA].set()
        return None if taken is None else taken[1]
