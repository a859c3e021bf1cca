"""The evidence half of a session: what the kernel recorded and what the shell adds to it.

Nothing here waits. The kernel's records are fetched a few times a second by a task of their own; what
the shell measures is kept between two fetches.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from rspp.nodes.edge import pressure_of

if TYPE_CHECKING:
    from rspp._kernel import EdgeBuffer, SessionKernel
    from rspp.contracts.ports import Clock
    from rspp.pipeline.spec import PipelineSpec

DRAIN_INTERVAL_S = 0.1
"""How often Stage A is emptied; it has room for two minutes, so a late turn costs nothing."""

DRAIN_BATCH = 512
PRESSURE_INTERVAL_US = 1_000_000


class Timeline(Protocol):
    """Where drained evidence goes; never waits."""

    def write(self, records: list[bytes]) -> None:
        """Hand records over; each is one JSON object."""
        ...


class SessionRecording:
    """Fetches the kernel's evidence of one session and adds the shell's.

    Args:
        session_id: id of the logical conversation.
        spec: the pipeline.
        kernel: the session's kernel.
        clock: the kernel's time.
        speech: the edge between voice and room, whose depth is measured.
        presenter: the edge of what front ends are shown.
        timeline: takes the evidence; none discards it.
    """

    def __init__(
        self,
        *,
        session_id: str,
        spec: PipelineSpec,
        kernel: SessionKernel,
        clock: Clock,
        speech: EdgeBuffer[Any],
        presenter: EdgeBuffer[Any],
        timeline: Timeline | None,
    ) -> None:
        self._session_id = session_id
        self._spec = spec
        self._kernel = kernel
        self._clock = clock
        self._speech = speech
        self._presenter = presenter
        self._timeline = timeline
        self._shell_records: list[bytes] = []
        self._pressure_us = clock.now_us()

    async def run(self) -> None:
        """Empty Stage A and measure pressure, off the hot path; ends only by cancelling."""
        while True:
            await asyncio.sleep(DRAIN_INTERVAL_S)
            now = self._clock.now_us()
            if now - self._pressure_us >= PRESSURE_INTERVAL_US:
                self._pressure_us = now
                self._edges()
            self._drain()

    def begin(self) -> None:
        """Record the header."""
        if self._timeline is not None:
            header = {
                "kind": "header",
                "session_id": self._session_id,
                "pipeline": f"{self._spec.name}@{self._spec.version}",
                "started_wall_ms": self._clock.wall_clock_ms(),
                "started_us": self._clock.now_us(),
            }
            self._timeline.write([msgspec.json.encode(header)])

    def finish(self) -> None:
        """Hand over what is left once the call has ended."""
        self._edges()
        self._drain()

    def latency(self, name: str, turn: int, value_us: int) -> None:
        """Record a latency of ``turn``, 0 for none, in microseconds."""
        self._record(kind="latency", turn=turn, name=name, value_us=value_us)

    def transcript(self, party: str, turn: int, text: str) -> None:
        """Record what ``caller`` or ``agent`` said in ``turn``; the words only where the pipeline allows."""
        shown = text if self._spec.recording.transcripts else ""
        self._record(
            kind="transcript", party=party, turn=turn, text=shown, words=len(text.split()), final=True
        )

    def _edges(self) -> None:
        """Record what the edges decided; of the speech edge also what waits on it."""
        now = self._clock.now_us()
        decided = self._kernel.edge_decisions(now, self._speech)
        self._kernel.edge_decisions(now, self._presenter)
        self._record(kind="pressure", **pressure_of(self._speech, decided))

    def _drain(self) -> None:
        while True:
            records = self._kernel.drain_evidence(DRAIN_BATCH)
            if not records:
                break
            if self._timeline is not None:
                self._timeline.write(records)
        if self._shell_records and self._timeline is not None:
            self._timeline.write(self._shell_records)
        self._shell_records = []

    def _record(self, **fields: object) -> None:
        if self._timeline is not None:
            fields["at_us"] = self._clock.now_us()
            fields["wall_ms"] = self._clock.wall_clock_ms()
            self._shell_records.append(msgspec.json.encode(fields))
