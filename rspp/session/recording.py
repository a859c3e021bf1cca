"""The evidence half of a session: what the kernel recorded and what the shell adds to it.

Nothing here waits. The kernel's records are fetched a few times a second by a task of their own; what
the shell measures is kept between two fetches.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from rspp import _kernel
from rspp.nodes.edge import pressure_of
from rspp.nodes.playout import sound_time
from rspp.pipeline.data_flow import data_flow
from rspp.pipeline.normalise import pipeline_version, profile_of, with_defaults
from rspp.session.capture import PayloadCapture

if TYPE_CHECKING:
    from rspp._kernel import EdgeBuffer, LaneRouter, SessionKernel
    from rspp.contracts.envelope import PayloadClass
    from rspp.contracts.ports import Clock
    from rspp.evidence.levels import RecordingLevel
    from rspp.evidence.redaction import Action
    from rspp.pipeline.profile import RecordingLevel as Level
    from rspp.pipeline.spec import PipelineSpec
    from rspp.session.pool import SessionWork

DRAIN_INTERVAL_S = 1.0
"""How often Stage A is emptied, besides at the close of each turn: what a killed process may lose. It has
room for most of a minute, so being late costs nothing; twice as often takes a tenth more room on disk."""

EVIDENCE_CAPACITY = 4096
"""Records that Stage A of a session keeps."""
DRAIN_LIMIT = 2 * EVIDENCE_CAPACITY
"""More than Stage A holds, so that one flush takes all there is and its records can be put in order."""
PRESSURE_INTERVAL_US = 1_000_000
LANE_OF = {"recording_level": "ControlLane", "transcript": "DataLane"}
"""Lanes of what the shell records between two fetches; what is measured is telemetry."""


class Recorder(Protocol):
    """Where the evidence of one session goes; never waits."""

    @property
    def level(self) -> Level:
        """Recording level."""
        ...

    @property
    def payload_failure(self) -> str:
        """Why a payload could not be kept; empty while all could."""
        ...

    def begin(self, header: dict[str, object]) -> None:
        """Take what the recording says of itself, before anything else."""
        ...

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        """Hand over what was recorded since the last time.

        Args:
            block: records of the kernel, in its binary form; may be empty.
            records: records of the shell, each one JSON object without a line break.
            durable: a turn closed.
        """
        ...

    def payload(
        self,
        payload_class: PayloadClass,
        turn: int,
        at_us: int,
        data: bytes,
        *,
        action: Action = "drop",
        **details: object,
    ) -> None:
        """Hand over content of ``turn``, 0 for none, and what the level does with its class."""
        ...


class SessionRecording:
    """Fetches the kernel's evidence of one session and adds the shell's.

    Args:
        session_id: id of the logical conversation.
        spec: the pipeline.
        kernel: the session's kernel.
        clock: the kernel's time.
        speech: the edge between voice and room, whose depth is measured.
        presenter: the lanes of what front ends are shown.
        settings: keyword arguments that the kernel was made with: policy, plan and providers.
        recorder: takes the evidence; none discards it.
        level: recording level of the call.
        work: the session's share of the pool, whose waits are recorded; none when it has none.
    """

    def __init__(
        self,
        *,
        session_id: str,
        spec: PipelineSpec,
        kernel: SessionKernel,
        clock: Clock,
        speech: EdgeBuffer[Any],
        presenter: LaneRouter[Any],
        settings: dict[str, Any],
        recorder: Recorder | None,
        level: RecordingLevel,
        work: SessionWork | None = None,
    ) -> None:
        self._session_id = session_id
        self._spec = spec
        self._kernel = kernel
        self._clock = clock
        self._speech = speech
        self._presenter = presenter
        self._settings = settings
        self._recorder = recorder
        self._level = level
        self._work = work
        self._created = 0, 0
        self._classes = data_flow(spec)
        self.capture = PayloadCapture(level, recorder, self._classes) if recorder is not None else None
        """Takes what was said and heard; none when nothing is recorded."""
        flow = profile_of(spec).flow_control
        self._shell: LaneRouter[bytes] = _kernel.LaneRouter(
            router_id="shell->recorder",
            control=flow.lane_bounds("control"),
            data=flow.lane_bounds("data"),
            telemetry=flow.lane_bounds("telemetry"),
            data_strategy=flow.shedding_strategy_by_lane.data,
            telemetry_strategy=flow.shedding_strategy_by_lane.telemetry,
        )
        self._durable = False
        self._closed = asyncio.Event()
        self._pressure: dict[str, Any] = {}
        self._pressure_us = clock.now_us()

    async def run(self) -> None:
        """Empty Stage A and measure pressure, off the hot path; ends only by cancelling."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_INTERVAL_S):
                    await self._closed.wait()
            self._closed.clear()
            now = self._clock.now_us()
            if now - self._pressure_us >= PRESSURE_INTERVAL_US:
                self._pressure_us = now
                self._edges()
            self._drain()

    def begin(self, created_us: int, created_wall_ms: int) -> None:
        """Record the header: everything that the kernel was made from.

        Args:
            created_us: time that the kernel was given when it was made.
            created_wall_ms: wall clock that it was given, ms since the epoch.
        """
        self._created = created_us, created_wall_ms
        if self._recorder is None:
            return
        self._recorder.begin(
            {
                "session_id": self._session_id,
                "pipeline": f"{self._spec.name}@{self._spec.version}",
                "pipeline_version": pipeline_version(self._spec),
                "created_us": created_us,
                "created_wall_ms": created_wall_ms,
                "kernel": _kernel.VERSION,
                "behaviours": sorted(_kernel.BEHAVIOURS),
                "settings": self._settings,
                "spec": msgspec.to_builtins(with_defaults(self._spec)),
                "data": msgspec.to_builtins(self._classes),
                "redaction": msgspec.to_builtins(self._level.decided()),
            }
        )

    def turn_closed(self, turn: int) -> None:
        """``turn`` ended: what was recorded of it is handed over at once."""
        self._durable = True
        self._pool(turn)
        self._closed.set()

    def finish(self) -> None:
        """Hand over what is left once the call has ended."""
        self._edges()
        self._pool(0)
        self._durable = True
        self._drain()

    def latency(self, name: str, turn: int, value_us: int) -> None:
        """Record a latency of ``turn``, 0 for none, in microseconds."""
        self._record(kind="latency", turn=turn, name=name, value_us=value_us)

    def transcript(self, party: str, turn: int, text: str, **details: object) -> None:
        """Record that ``caller`` or ``agent`` said something in ``turn``; the words are a payload.

        Args:
            party: who.
            turn: the turn, 0 for none.
            text: the words.
            details: further facts, such as how much speech there was.
        """
        self._record(
            kind="transcript",
            party=party,
            turn=turn,
            text="",
            words=len(text.split()),
            final=True,
            **details,
        )
        if self.capture is not None:
            self.capture.text(party, turn, self._clock.now_us(), text, final=True)

    def edges_decided(self) -> None:
        """Record what the speech edge decided, at the time of it."""
        self._kernel.edge_decisions(sound_time(self._clock.now_us()), self._speech)

    def _edges(self) -> None:
        """Record what the edges decided; of the speech edge also what waits on it, when that changed."""
        now = self._clock.now_us()
        self.edges_decided()
        self._kernel.lane_decisions(now, self._presenter)
        pressure = pressure_of(self._speech)
        if pressure != self._pressure:
            self._pressure = pressure
            self._record(kind="pressure", **pressure)

    def _pool(self, turn: int) -> None:
        """Record what was asked of the pool since the last time, ``turn`` being the one that ended."""
        for node, use in self._work.taken() if self._work is not None else ():
            self._record(kind="pool", turn=turn, node=node, **msgspec.to_builtins(use))

    def _drain(self) -> None:
        # What the lanes shed is on record before what they kept is handed over.
        self._kernel.lane_decisions(self._clock.now_us(), self._shell)
        if self.capture is not None:
            self.capture.flush()
            self._lower()
        blocks = list(iter(lambda: self._kernel.drain_records(DRAIN_LIMIT), b""))
        if self._recorder is not None:
            for block in blocks[:-1]:
                self._recorder.write(block, [])
            last = blocks[-1] if blocks else b""
            self._recorder.write(last, self._shell_records(), durable=self._durable)
            self._durable = False

    def _shell_records(self) -> list[bytes]:
        now = self._clock.now_us()
        return [record for _, record in iter(lambda: self._shell.get(now), None)]

    def _lower(self) -> None:
        """Go down a level when it is time, and say so."""
        assert self.capture is not None
        assert self._recorder is not None
        failing = bool(self._recorder.payload_failure)
        step = self.capture.lower(self._time_of_day_ms(), failing=failing)
        if step is not None:
            self._kernel.level_lowered(self._clock.now_us(), step.reason)
            self._record(
                kind="recording_level", before=step.from_level, after=step.to_level, reason=step.reason
            )

    def _time_of_day_ms(self) -> int:
        """Return the time of day, for a window that ends: a clock that is set back does not lengthen it."""
        created_us, created_wall_ms = self._created
        passed_ms = (self._clock.now_us() - created_us) // 1000
        return max(self._clock.wall_clock_ms(), created_wall_ms + passed_ms)

    def _record(self, **fields: object) -> None:
        if self._recorder is None:
            return
        # The kernel may have been told of sound ahead of its time; what follows from that comes after.
        now = max(self._clock.now_us(), self._kernel.now_us)
        record = msgspec.json.encode({**fields, "at_us": now})
        self._shell.put(LANE_OF.get(str(fields["kind"]), "TelemetryLane"), record, 0, 0, len(record), now)
