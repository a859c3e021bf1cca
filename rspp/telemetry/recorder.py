"""Lets telemetry see the evidence of a session on its way to disk.

Both wrappers hand everything to the recorder first and offer it to telemetry afterwards. Payloads (text,
audio) pass by: telemetry is never given them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, Self

import msgspec

from rspp.telemetry.context import DEFAULT_TENANT, SessionContext

if TYPE_CHECKING:
    from rspp.telemetry.sink import TelemetrySink

_HEADER = b'{"kind":"header"'
Level = Literal["L0", "L1", "L2"]


class _Timeline(Protocol):
    def write(self, records: list[bytes]) -> None: ...


class _Recorder(Protocol):
    @property
    def level(self) -> Level: ...

    def begin(self, header: dict[str, object]) -> None: ...

    def write(self, block: bytes, records: list[bytes]) -> None: ...

    def payload(self, payload_class: str, turn: int, at_us: int, data: bytes, **details: object) -> None: ...


class TelemetryRecorder:
    """A session's recorder that telemetry listens to; use as a context manager or call ``close``.

    Args:
        recorder: keeps the evidence; none keeps none.
        sink: the process's telemetry.
    """

    def __init__(self, recorder: _Recorder | None, sink: TelemetrySink) -> None:
        self._recorder = recorder
        self._sink = sink
        self._context: SessionContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def level(self) -> Level:
        """Recording level of the recorder; without one nothing but the baseline is wanted."""
        return self._recorder.level if self._recorder is not None else "L0"

    def begin(self, header: dict[str, object]) -> None:
        """The session begins."""
        if self._recorder is not None:
            self._recorder.begin(header)
        self._context = SessionContext.from_header(header)
        self._sink.begin(self._context)

    def write(self, block: bytes, records: list[bytes]) -> None:
        """Hand evidence over; never waits for telemetry."""
        if self._recorder is not None:
            self._recorder.write(block, records)
        if self._context is not None and (block or records):
            self._sink.offer(self._context, records, block)

    def payload(self, payload_class: str, turn: int, at_us: int, data: bytes, **details: object) -> None:
        """Hand content over to the recorder alone."""
        if self._recorder is not None:
            self._recorder.payload(payload_class, turn, at_us, data, **details)

    def close(self) -> None:
        """The session has ended; safe to call twice."""
        if self._context is not None:
            self._sink.end(self._context)
            self._context = None


class TelemetryTimeline:
    """A session's timeline that telemetry listens to; use as a context manager or call ``close``.

    Args:
        timeline: keeps the evidence; none keeps none.
        sink: the process's telemetry.
        tenant: whose call it is.
        epoch: epoch of the lease that it begins under.
    """

    def __init__(
        self, timeline: _Timeline | None, sink: TelemetrySink, *, tenant: str = DEFAULT_TENANT, epoch: int = 0
    ) -> None:
        self._timeline = timeline
        self._sink = sink
        self._told = {"tenant": tenant, "epoch": epoch}
        self._context: SessionContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, records: list[bytes]) -> None:
        """Hand evidence over; the first record is the header."""
        if self._timeline is not None:
            self._timeline.write(records)
        if self._context is None and records and records[0].startswith(_HEADER):
            self._context = SessionContext.from_header(msgspec.json.decode(records[0]) | self._told)
            self._sink.begin(self._context)
        if self._context is not None and records:
            self._sink.offer(self._context, records)

    def close(self) -> None:
        """The session has ended; safe to call twice."""
        if self._context is not None:
            self._sink.end(self._context)
            self._context = None
