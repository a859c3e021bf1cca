"""The evidence half of a session: what the kernel recorded and what the shell adds to it.

Nothing here waits. The kernel's records are fetched a few times a second by a task of their own; what
the shell measures is kept between two fetches.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from rspp import _kernel
from rspp.evidence.redaction import PAYLOAD_CLASSES, decisions
from rspp.nodes.edge import pressure_of
from rspp.pipeline.normalise import pipeline_version, with_defaults

if TYPE_CHECKING:
    from rspp._kernel import EdgeBuffer, SessionKernel
    from rspp.contracts.envelope import PayloadClass
    from rspp.contracts.ports import Clock
    from rspp.evidence.redaction import Action
    from rspp.pipeline.profile import RecordingLevel
    from rspp.pipeline.spec import PipelineSpec

DRAIN_INTERVAL_S = 0.5
"""How often Stage A is emptied; it has room for most of a minute, so being late costs nothing."""

EVIDENCE_CAPACITY = 4096
"""Records that Stage A of a session keeps."""
DRAIN_LIMIT = 2 * EVIDENCE_CAPACITY
"""More than Stage A holds, so that one flush takes all there is and its records can be put in order."""
PRESSURE_INTERVAL_US = 1_000_000


class Recorder(Protocol):
    """Where the evidence of one session goes; never waits."""

    @property
    def level(self) -> RecordingLevel:
        """Recording level."""
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
        presenter: the edge of what front ends are shown.
        settings: keyword arguments that the kernel was made with: policy, plan and providers.
        recorder: takes the evidence; none discards it.
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
        settings: dict[str, Any],
        recorder: Recorder | None,
    ) -> None:
        self._session_id = session_id
        self._spec = spec
        self._kernel = kernel
        self._clock = clock
        self._speech = speech
        self._presenter = presenter
        self._settings = settings
        self._recorder = recorder
        self._shell_records: list[bytes] = []
        self._durable = False
        self._pressure: dict[str, Any] = {}
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

    def begin(self, created_us: int, created_wall_ms: int) -> None:
        """Record the header: everything that the kernel was made from.

        Args:
            created_us: time that the kernel was given when it was made.
            created_wall_ms: wall clock that it was given, ms since the epoch.
        """
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
                "settings": self._settings,
                "spec": msgspec.to_builtins(with_defaults(self._spec)),
                "redaction": msgspec.to_builtins(
                    decisions(PAYLOAD_CLASSES, self._recorder.level, allow=self._spec.recording.allow)
                ),
            }
        )

    def turn_closed(self) -> None:
        """A turn ended: the next flush is to be waited for, where the recorder waits at all."""
        self._durable = True

    def finish(self) -> None:
        """Hand over what is left once the call has ended."""
        self._edges()
        self._durable = True
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
        """Record what the edges decided; of the speech edge also what waits on it, when that changed."""
        now = self._clock.now_us()
        decided = self._kernel.edge_decisions(now, self._speech)
        self._kernel.edge_decisions(now, self._presenter)
        pressure = pressure_of(self._speech, decided)
        if pressure != self._pressure:
            self._pressure = pressure
            self._record(kind="pressure", **pressure)

    def _drain(self) -> None:
        records = self._kernel.drain_evidence(DRAIN_LIMIT)
        if self._recorder is not None:
            self._recorder.write(b"", records + self._shell_records, durable=self._durable)
            self._durable = False
        self._shell_records = []

    def _record(self, **fields: object) -> None:
        if self._recorder is not None:
            fields["at_us"] = self._clock.now_us()
            self._shell_records.append(msgspec.json.encode(fields))
