"""Lets telemetry see the evidence of a session on its way to disk.

Everything goes to the recorder first and is offered to telemetry afterwards. Payloads (text,
audio) pass by: telemetry is never given them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.telemetry.context import SessionContext

if TYPE_CHECKING:
    from collections.abc import Callable

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
        lost: returns how many records of the session are not and will not be on disk, at once.
    """

    def __init__(
        self,
        recorder: Recorder | None,
        sink: TelemetrySink,
        *,
        tenant: str = DEFAULT_TENANT,
        epoch: int = 0,
        lost: Callable[[], int] | None = None,
    ) -> None:
        self._recorder = recorder
        self._sink = sink
        self._told = {"tenant": tenant, "epoch": epoch}
        self._lost = lost
        self._lost_told = 0
        self._context: SessionContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def level(self) -> RecordingLevel:
        """Recording level of the recorder; without one nothing but the baseline is wanted."""
        return self._recorder.level if self._recorder is not None else "L0"

    @property
    def payload_failure(self) -> str:
        """Why the recorder could not keep a payload; empty while it could."""
        return self._recorder.payload_failure if self._recorder is not None else ""

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
            self._sink.offer(self._context, self._with_losses(records), block)

    def _with_losses(self, records: list[bytes]) -> list[bytes]:
        """Add what the recorder lost since the last time, which stands on disk and not in the evidence."""
        lost = self._lost() if self._lost is not None else 0
        if lost <= self._lost_told:
            return records
        missing, self._lost_told = lost - self._lost_told, lost
        return [*records, msgspec.json.encode({"kind": "gap", "records": missing})]

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
            losses = self._with_losses([])
            if losses:
                self._sink.offer(self._context, losses)
            self._sink.end(self._context)
            self._context = None
