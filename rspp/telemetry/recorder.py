"""Lets telemetry see the evidence of a session on its way to disk.

Everything goes to the recorder first and is offered to telemetry afterwards. Payloads (text,
audio) pass by: telemetry is never given them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rspp.telemetry.context import DEFAULT_TENANT, SessionContext

if TYPE_CHECKING:
    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.redaction import Action
    from rspp.pipeline.profile import RecordingLevel
    from rspp.session.recording import Recorder
    from rspp.telemetry.sink import TelemetrySink


class TelemetryRecorder:
    """A session's recorder that telemetry listens to; use as a context manager or call ``close``.

    Args:
        recorder: keeps the evidence; none keeps none.
        sink: the process's telemetry.
        tenant: whose call it is.
        epoch: epoch of the lease that it begins under.
    """

    def __init__(
        self, recorder: Recorder | None, sink: TelemetrySink, *, tenant: str = DEFAULT_TENANT, epoch: int = 0
    ) -> None:
        self._recorder = recorder
        self._sink = sink
        self._told = {"tenant": tenant, "epoch": epoch}
        self._context: SessionContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def level(self) -> RecordingLevel:
        """Recording level of the recorder; without one nothing but the baseline is wanted."""
        return self._recorder.level if self._recorder is not None else "L0"

    def begin(self, header: dict[str, object]) -> None:
        """The session begins."""
        if self._recorder is not None:
            self._recorder.begin(header)
        self._context = SessionContext.from_header(self._told | header)
        self._sink.begin(self._context)

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        """Hand evidence over; never waits for telemetry."""
        if self._recorder is not None:
            self._recorder.write(block, records, durable=durable)
        if self._context is not None and (block or records):
            self._sink.offer(self._context, records, block)

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
        """Hand content over to the recorder alone."""
        if self._recorder is not None:
            self._recorder.payload(payload_class, turn, at_us, data, action=action, **details)

    def close(self) -> None:
        """The session has ended; safe to call twice."""
        if self._context is not None:
            self._sink.end(self._context)
            self._context = None
