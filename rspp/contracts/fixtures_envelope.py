"""Fixtures of event records and control signals: every field, every condition, every signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp.contracts.envelope import emitters, registry
from rspp.contracts.fixtures import Fixture, invalid, rendered, valid
from rspp.contracts.samples import ABSENT, changed, control, event, full_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.contracts.samples import Document

EVENT, CONTROL = "event_record", "control_signal"

REQUIRED = (
    "schema_version",
    "event_scope",
    "session_id",
    "pipeline_version",
    "event_id",
    "lane",
    "transport_sequence",
    "runtime_sequence",
    "runtime_timestamp_ms",
    "wall_clock_timestamp_ms",
    "payload_class",
)
NUMBERS = (
    "transport_sequence",
    "runtime_sequence",
    "authority_epoch",
    "runtime_timestamp_ms",
    "wall_clock_timestamp_ms",
    "timestamp_ms",
)
WORDS = ("event_scope", "lane", "payload_class", "emitted_by", "target_lane")
SHAPES = (
    "shape.type",
    "shape.required",
    "shape.unknown_field",
    "shape.empty_text",
    "shape.range",
    "shape.word",
    "shape.format",
)
LIMIT_BYTES = 64 * 1024


def fixtures() -> Iterator[Fixture]:
    """Yield every fixture of envelopes."""
    yield from _reading()
    yield from _valid_events()
    yield from _event_fields()
    yield from _conditions(EVENT, event())
    yield from _conditions(CONTROL, control("barge_in", within="turn"))
    yield invalid(EVENT, "event.no_signal", "signal", event(signal="commit"))
    yield invalid(EVENT, "event.lane", "lane", event(lane="ControlLane"))
    yield from _control_shapes()
    for signal in registry():
        yield from _signal(signal)


def _reading() -> Iterator[Fixture]:
    """Faults that a plain JSON reader would hide."""
    text = rendered(event()).decode()
    at_limit = LIMIT_BYTES - len(rendered(event(lease_token="")))
    full = rendered(event(lease_token="x" * at_limit))
    yield Fixture(EVENT, "largest", full, shows=("json.size",))
    over = rendered(event(lease_token="x" * (at_limit + 1)))
    yield Fixture(EVENT, "json.size--one-byte-more", over, "json.size")
    yield Fixture(EVENT, "json.syntax--torn", text[:-3].encode(), "json.syntax")
    yield Fixture(EVENT, "json.syntax--latin-1", text.replace("s-1", "ß").encode("latin-1"), "json.syntax")
    half = text.replace('"s-1"', '"\\ud800"').encode()
    yield Fixture(EVENT, "json.syntax--half-character", half, "json.syntax")
    not_finite = text.replace(": 41,", ": NaN,").encode()
    yield Fixture(EVENT, "json.syntax--not-a-number", not_finite, "json.syntax")
    deep = text.replace('"s-1"', "[" * 16 + "]" * 16).encode()
    yield Fixture(EVENT, "json.depth--17-levels", deep, "json.depth")
    twice = text.replace('"lane"', '"session_id": "s-2",\n "lane"').encode()
    yield Fixture(EVENT, "json.duplicate_key--session", twice, "json.duplicate_key", "session_id")
    for name, number in (("point", "41.0"), ("exponent", "41e0"), ("negative-zero", "-0")):
        written = text.replace(": 41,", f": {number},").encode()
        yield Fixture(EVENT, f"json.whole_number--{name}", written, "json.whole_number", "runtime_sequence")


def _valid_events() -> Iterator[Fixture]:
    reading = ("json.syntax", "json.depth", "json.duplicate_key", "json.whole_number")
    yield valid(EVENT, "text", event(), *reading, *SHAPES, "envelope.turn_id", "envelope.turn_epoch")
    yield valid(
        EVENT,
        "every-field",
        full_event(),
        *SHAPES,
        "shape.count",
        "shape.unique",
        "envelope.minor_version",
        "envelope.merge_group",
        "envelope.sync_domain",
    )
    session = event(event_scope="session", turn_id=ABSENT, authority_epoch=ABSENT, lane="TelemetryLane")
    yield valid(EVENT, "session-telemetry", session, "event.lane", "event.no_signal")
    yield valid(EVENT, "session-with-turn", changed(session, turn_id="turn-3-1"), "envelope.turn_id")
    audio = event(payload_class="audio_raw", media_time={"sample_index": 0})
    yield valid(EVENT, "audio-by-sample", audio, "envelope.media_time", "envelope.media_time_one")
    yield valid(EVENT, "audio-by-time", changed(audio, media_time={"pts_ms": 20}), "envelope.media_time_one")
    merged = {"merge_group_id": "m", "merged_from_event_ids": [f"e{number}" for number in range(64)]}
    yield valid(EVENT, "merged-from-64", event(**merged), "shape.count", "shape.unique")
    yield valid(
        EVENT, "discontinuity", event(discontinuity_id="gap", sync_domain="audio"), "envelope.sync_domain"
    )
    yield valid(EVENT, "late", event(late_after_cancel=True), "envelope.late_scope")
    yield valid(EVENT, "not-late", changed(session, late_after_cancel=False), "envelope.late_scope")
    yield valid(EVENT, "one-number-range", event(seq_range={"start": 5, "end": 5}), "envelope.range_order")
    yield valid(EVENT, "largest-numbers", event(runtime_sequence=2**63 - 1), "shape.range")
    yield valid(EVENT, "from-transport", event(transport_sequence=0), "shape.type")
    for version in ("v1.1", "v1.1.0", "v1.12", "v2.0"):
        newer = event(schema_version=version, tenant_id="a", trace_id="b", payload_ref="c")
        yield valid(EVENT, f"tenant-in-{version}", newer, "envelope.minor_version")
    for version in ("v1.0.9", "v0.9"):
        yield valid(EVENT, f"version-{version}", event(schema_version=version), "shape.format")


def _event_fields() -> Iterator[Fixture]:
    yield from _missing(EVENT, event(), REQUIRED)
    full = full_event()
    for field, value in full.items():
        wrong: object = 7 if isinstance(value, str) else "7"
        yield invalid(EVENT, "shape.type", field, changed(full, **{field: wrong}))
        if isinstance(value, str) and field not in (*WORDS, "schema_version", "scope"):
            yield invalid(EVENT, "shape.empty_text", field, changed(full, **{field: ""}))
    yield invalid(EVENT, "shape.type", "turn_id", event(turn_id=None), "turn_id-null")
    yield invalid(EVENT, "shape.type", "runtime_sequence", event(runtime_sequence=True), "sequence-boolean")
    yield invalid(EVENT, "shape.type", "runtime_sequence", event(runtime_sequence=1.5), "sequence-fraction")
    for field in NUMBERS:
        yield invalid(EVENT, "shape.range", field, changed(full, **{field: -1}))
    yield invalid(EVENT, "shape.range", "amount", changed(full, amount=0))
    yield invalid(
        EVENT, "shape.range", "runtime_sequence", event(runtime_sequence=2**63), "sequence-too-large"
    )
    for field in WORDS:
        yield invalid(EVENT, "shape.word", field, changed(full, **{field: "other"}))
    for number, version in enumerate(("1.0", "v1", "v1.0.0.0", "v1.x", "v1.0\n", "v1234567890.0")):
        document = event(schema_version=version)
        yield invalid(EVENT, "shape.format", "schema_version", document, f"version-{number}")
    yield invalid(EVENT, "shape.unknown_field", "color", event(color="red"))
    for field, value in (("media_time", {"pts_ms": 1}), ("seq_range", {"start": 1, "end": 2})):
        name = f"{field}.color"
        yield invalid(EVENT, "shape.unknown_field", name, event(**{field: value | {"color": 1}}))
        part = next(iter(value))
        yield invalid(EVENT, "shape.range", f"{field}.{part}", event(**{field: value | {part: -1}}))
        yield invalid(EVENT, "shape.type", f"{field}.{part}", event(**{field: value | {part: "1"}}))
    for part in ("start", "end"):
        range_ = {"start": 1, "end": 2}
        del range_[part]
        yield invalid(EVENT, "shape.required", f"seq_range.{part}", event(seq_range=range_))
    ids = [f"e{number}" for number in range(65)]
    for detail, rule, field, sources in (
        ("none", "shape.count", "merged_from_event_ids", ids[:0]),
        ("65", "shape.count", "merged_from_event_ids", ids),
        ("twice", "shape.unique", "merged_from_event_ids", ["a", "b", "a"]),
        ("empty", "shape.empty_text", "merged_from_event_ids[1]", ["a", ""]),
        ("number", "shape.type", "merged_from_event_ids[0]", [1]),
    ):
        document = event(merge_group_id="m", merged_from_event_ids=sources)
        yield invalid(EVENT, rule, field, document, f"merged-from-{detail}")


def _missing(kind: str, document: Document, fields: tuple[str, ...]) -> Iterator[Fixture]:
    for field in fields:
        yield invalid(kind, "shape.required", field, changed(document, **{field: ABSENT}))


def _conditions(kind: str, base: Document) -> Iterator[Fixture]:
    """The rules that tie fields together hold on both kinds of envelope."""
    for rule, field, changes in (
        ("envelope.turn_id", "turn_id", {"turn_id": ABSENT}),
        ("envelope.media_time_one", "media_time", {"media_time": {}}),
        ("envelope.merge_group", "merge_group_id", {"merged_from_event_ids": ["a"]}),
        ("envelope.sync_domain", "sync_domain", {"discontinuity_id": "gap"}),
        ("envelope.range_order", "seq_range", {"seq_range": {"start": 2, "end": 1}}),
        ("envelope.minor_version", "tenant_id", {"tenant_id": "a"}),
        ("envelope.minor_version", "trace_id", {"trace_id": "a", "schema_version": "v1.0.7"}),
        ("envelope.minor_version", "payload_ref", {"payload_ref": "a", "schema_version": "v0.9"}),
    ):
        yield invalid(kind, rule, field, changed(base, **changes))
    both = {"media_time": {"sample_index": 1, "pts_ms": 1}}
    yield invalid(kind, "envelope.media_time_one", "media_time", changed(base, **both), "both")
    late = changed(base, event_scope="session", late_after_cancel=True)
    yield invalid(kind, "envelope.late_scope", "event_scope", late)
    if kind == EVENT:
        epoch = changed(base, authority_epoch=ABSENT)
        yield invalid(kind, "envelope.turn_epoch", "authority_epoch", epoch)
        audio = changed(base, payload_class="audio_raw")
        yield invalid(kind, "envelope.media_time", "media_time", audio)


def _control_shapes() -> Iterator[Fixture]:
    base = control("connected")
    yield from _missing(CONTROL, base, (*REQUIRED, "authority_epoch", "signal", "emitted_by"))
    for field, value in (
        ("signal", "plan_frozen"),
        ("emitted_by", "RK-04"),
        ("lane", "OtherLane"),
        ("payload_class", "audio"),
        ("scope", "tenant"),
        ("target_lane", "Data"),
    ):
        yield invalid(CONTROL, "shape.word", field, changed(base, **{field: value}))
    for field, wrong in (("signal", 1), ("authority_epoch", "3"), ("reason", None), ("scope", 1)):
        yield invalid(CONTROL, "shape.type", field, changed(base, **{field: wrong}))
    yield invalid(CONTROL, "shape.range", "authority_epoch", changed(base, authority_epoch=-1))
    yield invalid(CONTROL, "shape.range", "amount", control("credit_grant", amount=0))
    yield invalid(CONTROL, "shape.unknown_field", "payload", changed(base, payload="hello"))
    yield invalid(CONTROL, "control.lane", "lane", changed(base, lane="DataLane"))
    yield invalid(CONTROL, "control.payload", "payload_class", changed(base, payload_class="text_raw"))


def _signal(signal: str) -> Iterator[Fixture]:
    """One signal under its row of the registry."""
    row = registry()[signal]
    shows = ("control.lane", "control.payload", "control.emitter", "control.event_scope", "control.required")
    for scope in ("session", "turn") if row.scope == "either" else (row.scope,):
        for emitter in row.emitters:
            document = control(signal, emitter=emitter, within=scope)
            kept = (*shows, "control.reason") if "reason" in document else shows
            yield valid(CONTROL, f"{signal}-{scope}-{emitter}", document, *kept)
    for reason in row.reasons[1:]:
        yield valid(CONTROL, f"{signal}-{reason}", control(signal, reason=reason), "control.reason")
    foreign = min(emitters() - set(row.emitters))
    yield invalid(CONTROL, "control.emitter", "emitted_by", control(signal, emitter=foreign), signal)
    if row.scope != "either":
        other = "turn" if row.scope == "session" else "session"
        document = control(signal, within=other)
        yield invalid(CONTROL, "control.event_scope", "event_scope", document, signal)
    for field in row.required:
        document = changed(control(signal), **{field: ABSENT})
        if field == "turn_id":
            yield invalid(CONTROL, "envelope.turn_id", field, document, f"{signal}-turn_id")
        else:
            yield invalid(CONTROL, "control.required", field, document, f"{signal}-{field}")
    document = control(signal, reason="deterministic_reason")
    yield invalid(CONTROL, "control.reason", "reason", document, signal)
