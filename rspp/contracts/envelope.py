"""Event records and control signals as typed documents (sections 1 and 2 of the contracts)."""

from __future__ import annotations

import re
from collections.abc import Iterator  # noqa: TC003 - msgspec reads the annotations of this module
from functools import cache
from typing import Annotated, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from rspp import _kernel
from rspp.contracts.reading import Fault

MAX_INTEGER = 2**63 - 1
"""Largest integer in a document; beyond it readers differ."""
DEFAULT_TENANT = "default"
"""Tenant of those who name none."""
MAX_MERGED = 64
"""Most events that one event may be merged from (contract section 1.1)."""

Name = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Positive = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Version = Annotated[str, Meta(pattern=r"^v[0-9]{1,9}\.[0-9]{1,9}(\.[0-9]{1,9})?$(?!\n)")]
Lane = Literal["DataLane", "ControlLane", "TelemetryLane"]
EventScope = Literal["session", "turn"]
PayloadClass = Literal["PII", "PHI", "audio_raw", "text_raw", "derived_summary", "metadata"]

MINOR_FIELDS = ("tenant_id", "trace_id", "payload_ref")
"""Fields that exist from v1.1 on."""


class SequenceRange(Struct, frozen=True, forbid_unknown_fields=True):
    """Inclusive window of ``runtime_sequence``."""

    start: Count
    end: Count


class MediaTime(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Media clock: exactly one of a sample index and a presentation time in ms."""

    sample_index: Count | UnsetType = UNSET
    pts_ms: Count | UnsetType = UNSET


class Envelope(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What event records and control signals share (contract section 1.1)."""

    schema_version: Version
    event_scope: EventScope
    session_id: Name
    turn_id: Name | UnsetType = UNSET
    pipeline_version: Name
    node_id: Name | UnsetType = UNSET
    edge_id: Name | UnsetType = UNSET
    event_id: Name
    causal_parent_id: Name | UnsetType = UNSET
    idempotency_key: Name | UnsetType = UNSET
    provider_invocation_id: Name | UnsetType = UNSET
    lane: Lane
    transport_sequence: Count | None
    runtime_sequence: Count
    sync_id: Name | UnsetType = UNSET
    sync_domain: Name | UnsetType = UNSET
    discontinuity_id: Name | UnsetType = UNSET
    merge_group_id: Name | UnsetType = UNSET
    merged_from_event_ids: Annotated[list[Name], Meta(min_length=1, max_length=MAX_MERGED)] | UnsetType = (
        UNSET
    )
    late_after_cancel: bool | UnsetType = UNSET
    authority_epoch: Count | UnsetType = UNSET
    lease_token: Name | UnsetType = UNSET
    runtime_timestamp_ms: Count
    wall_clock_timestamp_ms: Count
    timestamp_ms: Count | UnsetType = UNSET
    payload_class: PayloadClass
    media_time: MediaTime | UnsetType = UNSET
    emitted_by: str | UnsetType = UNSET
    reason: Name | UnsetType = UNSET
    seq_range: SequenceRange | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    target_lane: Lane | UnsetType = UNSET
    amount: Positive | UnsetType = UNSET
    tenant_id: Name | UnsetType = UNSET
    trace_id: Name | UnsetType = UNSET
    payload_ref: Name | UnsetType = UNSET

    def check(self) -> Iterator[Fault]:
        """Yield every rule that ties fields of an envelope together and is broken."""
        in_turn = self.event_scope == "turn"
        if self.merged_from_event_ids and len(set(self.merged_from_event_ids)) < len(
            self.merged_from_event_ids
        ):
            yield Fault("shape.unique", "merged_from_event_ids", "an event is named twice")
        if self.late_after_cancel is True and not in_turn:
            yield Fault("envelope.late_scope", "event_scope", "late output belongs to a turn")
        if in_turn and self.turn_id is UNSET:
            yield Fault("envelope.turn_id", "turn_id", "an event of turn scope names its turn")
        if in_turn and self.authority_epoch is UNSET:
            yield Fault("envelope.turn_epoch", "authority_epoch", "an event of turn scope carries the epoch")
        if self.payload_class == "audio_raw" and self.media_time is UNSET:
            yield Fault("envelope.media_time", "media_time", "raw audio carries media time")
        time = self.media_time
        if time is not UNSET and (time.sample_index is UNSET) == (time.pts_ms is UNSET):
            yield Fault("envelope.media_time_one", "media_time", "exactly one of sample_index and pts_ms")
        if self.merged_from_event_ids is not UNSET and self.merge_group_id is UNSET:
            yield Fault("envelope.merge_group", "merge_group_id", "a merged event names its group")
        if self.discontinuity_id is not UNSET and self.sync_domain is UNSET:
            yield Fault("envelope.sync_domain", "sync_domain", "a discontinuity names its sync domain")
        if self.seq_range is not UNSET and self.seq_range.end < self.seq_range.start:
            yield Fault("envelope.range_order", "seq_range", "the range ends before it starts")
        if not has_minor_fields(self.schema_version):
            for field in MINOR_FIELDS:
                if getattr(self, field) is not UNSET:
                    yield Fault("envelope.minor_version", field, "exists from v1.1 on")


class EventRecord(Envelope, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One event on the DataLane or the TelemetryLane."""

    signal: object = UNSET

    def check(self) -> Iterator[Fault]:
        """Yield every broken rule beyond the types."""
        if self.signal is not UNSET:
            yield Fault("event.no_signal", "signal", "an event record is no control signal")
        if self.emitted_by is not UNSET and self.emitted_by not in emitters():
            yield Fault("shape.word", "emitted_by", f"{self.emitted_by!r} is no module")
        if self.lane == "ControlLane":
            yield Fault("event.lane", "lane", "only control signals travel on the ControlLane")
        yield from super().check()


class ControlSignal(Envelope, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One control signal under its row of the registry."""

    authority_epoch: Count
    signal: str
    emitted_by: str
    scope: Literal["session", "turn", "node", "provider_invocation"] | UnsetType = UNSET

    def check(self) -> Iterator[Fault]:
        """Yield every broken rule beyond the types."""
        row = registry().get(self.signal)
        if row is None:
            yield Fault("shape.word", "signal", f"{self.signal!r} is no signal")
        if self.emitted_by not in emitters():
            yield Fault("shape.word", "emitted_by", f"{self.emitted_by!r} is no module")
        if self.lane != "ControlLane":
            yield Fault("control.lane", "lane", "a control signal travels on the ControlLane")
        if self.payload_class != "metadata":
            yield Fault("control.payload", "payload_class", "a control signal carries metadata only")
        if row is not None:
            yield from self._check_row(row)
        yield from super().check()

    def _check_row(self, row: SignalRow) -> Iterator[Fault]:
        if self.emitted_by not in row.emitters:
            yield Fault("control.emitter", "emitted_by", f"{self.emitted_by} may not emit {self.signal}")
        if row.scope not in ("either", self.event_scope):
            yield Fault("control.event_scope", "event_scope", f"{self.signal} has {row.scope} scope")
        for field in row.required:
            if field != "turn_id" and getattr(self, field) is UNSET:
                yield Fault("control.required", field, f"{self.signal} needs it")
        if self.reason is not UNSET and self.reason not in row.reasons:
            yield Fault("control.reason", "reason", f"{self.reason!r} is no reason of {self.signal}")


class SignalRow(NamedTuple):
    """What the kernel's registry says about one signal."""

    emitters: tuple[str, ...]
    scope: str
    required: tuple[str, ...]
    reasons: tuple[str, ...]


@cache
def registry() -> dict[str, SignalRow]:
    """Return the kernel's registry with the vocabulary of every signal."""
    reasons = dict(_kernel.signal_reasons())
    return {
        signal: SignalRow(emitters, scope, required, reasons[signal])
        for signal, emitters, scope, required in _kernel.signal_registry()
    }


@cache
def emitters() -> frozenset[str]:
    """Return every module that may emit a control signal."""
    return frozenset(name for row in registry().values() for name in row.emitters)


def has_minor_fields(version: str) -> bool:
    """Tell whether ``tenant_id``, ``trace_id`` and ``payload_ref`` exist in ``version``."""
    major, minor = (int(part) for part in re.findall(r"[0-9]+", version)[:2])
    return (major, minor) >= (1, 1)
