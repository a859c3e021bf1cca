"""The span tree of a turn, from the evidence it left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind, StatusCode

from rspp.telemetry.traces import LINGER_US, MAX_INVOCATIONS, SessionTraces
from tests.telemetry.evidence import (
    ANSWERED,
    INTERRUPTED,
    START_US,
    WALL_MS,
    attempt,
    context,
    decision,
    marker,
    signal,
    taken,
    transition,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.sdk.trace import ReadableSpan

    from rspp.telemetry.context import SessionContext
    from tests.telemetry.evidence import Record

NODES = "rspp.node"


def spans_of(records: Iterable[Record], of: SessionContext | None = None) -> list[ReadableSpan]:
    traces = SessionTraces(of or context(), Resource({}))
    spans = [span for record in records for span in traces.take(record)]
    return [*spans, *traces.finish()]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def tree(spans: list[ReadableSpan]) -> dict[str, list[str]]:
    """Each span with its children, by what they are."""
    names = {id_of(span): label(span) for span in spans}
    grown: dict[str, list[str]] = {}
    for span in spans:
        parent = names[span.parent.span_id] if span.parent is not None else ""
        grown.setdefault(parent, []).append(label(span))
    return grown


def label(span: ReadableSpan) -> str:
    told = dict(span.attributes or {})
    return str(told.get("rspp.provider_invocation_id") or told.get(NODES) or told["rspp.turn_id"])


def named(spans: list[ReadableSpan], wanted: str) -> ReadableSpan:
    (found,) = [span for span in spans if label(span) == wanted]
    return found


def times_ms(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return tuple((moment - WALL_MS * 1_000_000) / 1e6 for moment in (span.start_time, span.end_time))  # type: ignore[return-value]


def test_a_turn_has_its_nodes_and_these_their_provider_invocations() -> None:
    spans = spans_of(ANSWERED)
    assert tree(spans) == {
        "": ["turn-2-1"],
        "turn-2-1": ["stt", "llm", "tts", "playout"],
        "stt": ["stt/1"],
        "llm": ["pvi/call-1/2/1/000001"],
        "tts": ["pvi/call-1/2/1/000002"],
    }
    assert [span.name for span in spans[:2]] == ["turn_span", "node_span"]
    assert named(spans, "stt/1").name == "provider_invocation_span"
    assert named(spans, "stt/1").kind is SpanKind.CLIENT


def test_times_are_those_of_the_evidence() -> None:
    spans = spans_of(ANSWERED)
    assert times_ms(named(spans, "turn-2-1")) == (1000, 2000)
    assert times_ms(named(spans, "stt")) == (100, 1000)
    assert times_ms(named(spans, "stt/1")) == (870, 900)
    assert times_ms(named(spans, "pvi/call-1/2/1/000001")) == (1010, 1200)
    # 150 ms of the voice's call were waiting for room on the edge: queue time, not execution.
    assert times_ms(named(spans, "pvi/call-1/2/1/000002")) == (1230, 1400)
    assert (named(spans, "pvi/call-1/2/1/000002").attributes or {})["rspp.execution_us"] == 20_000
    assert times_ms(named(spans, "playout")) == (1300, 2040)


def test_every_span_carries_the_correlation_attributes() -> None:
    for span in spans_of(ANSWERED):
        told = dict(span.attributes or {})
        assert told["rspp.tenant"] == "acme"
        assert told["rspp.session_id"] == "call-1"
        assert told["rspp.turn_id"] == "turn-2-1"
        assert str(told["rspp.event_id"]).startswith("evt/call-1/2/1/")
        assert told["rspp.pipeline_version"] == "desk@v3"
        assert told["rspp.authority_epoch"] == 2
        assert told["rspp.lane"] in ("ControlLane", "DataLane")
        assert str(told["rspp.emitted_by"]).startswith("RK-")
        start_ms = times_ms(span)[0]
        assert told["rspp.runtime_timestamp_ms"] == START_US // 1000 + int(start_ms)
        assert told["rspp.wall_clock_timestamp_ms"] == WALL_MS + int(start_ms)


def test_attempts_are_events_and_the_last_outcome_counts() -> None:
    span = named(spans_of(ANSWERED), "pvi/call-1/2/1/000001")
    attempts = [dict(event.attributes or {}) for event in span.events]
    assert [(told["rspp.outcome"], told["rspp.retry_decision"]) for told in attempts] == [
        ("overload", "retry"),
        ("success", "none"),
    ]
    assert (span.attributes or {})["rspp.attempts"] == 2
    assert span.status.status_code is StatusCode.UNSET


def test_a_failed_turn_is_an_error_and_an_interrupted_one_is_not() -> None:
    interrupted = named(spans_of(INTERRUPTED), "turn-2-2")
    assert interrupted.status.status_code is StatusCode.UNSET
    assert (interrupted.attributes or {})["rspp.turn.reason"] == "cancelled"
    failed = spans_of(
        (
            transition(0, 1, "turn_open_proposed", "Idle", "Opening"),
            decision(0, "admit", "pre_turn", "admission_capacity_allow", 1),
            attempt(50, 1, 1, outcome="timeout", reason="provider_timeout"),
            signal(60, "abort", 1, reason="provider_timeout"),
            transition(60, 1, "close", "Terminal", "Closed"),
        )
    )
    assert named(failed, "turn-2-1").status.description == "provider_timeout"
    assert named(failed, "pvi/call-1/2/1/000001").status.status_code is StatusCode.ERROR


def test_a_cancelled_provider_that_reports_after_the_close_is_in_the_tree() -> None:
    spans = spans_of((*INTERRUPTED, taken(7000, "tick")))
    assert "pvi/call-1/2/2/000009" in tree(spans)["llm"]
    assert [event.name for event in named(spans, "turn-2-2").events][-4:-1] == [
        "fence_applied",
        "abort",
        "close",
    ]


def test_a_turn_is_made_a_while_after_its_close_and_once() -> None:
    traces = SessionTraces(context(), Resource({}))
    for record in ANSWERED:
        assert traces.take(record) == []
    assert traces.take(taken(2000 + LINGER_US / 1000 - 1, "tick")) == []
    assert len(traces.take(taken(2000 + LINGER_US / 1000, "tick"))) == 8
    assert traces.finish() == []


def test_equal_evidence_gives_equal_spans_and_another_tenant_other_ids() -> None:
    first, again = spans_of(ANSWERED), spans_of(ANSWERED)
    assert [span.to_json() for span in first] == [span.to_json() for span in again]
    ids = {id_of(span) for span in first}
    assert len(ids) == len(first)
    other = spans_of(ANSWERED, context(tenant="other"))
    assert ids.isdisjoint(id_of(span) for span in other)
    assert {span.context.trace_id for span in first if span.context}.isdisjoint(
        span.context.trace_id for span in other if span.context
    )


def test_a_discarded_utterance_belongs_to_no_turn() -> None:
    spans = spans_of(
        (
            marker(0, "utterance_started"),
            marker(400, "utterance_discarded"),
            transition(1000, 1, "turn_open_proposed", "Idle", "Opening"),
        )
    )
    assert tree(spans) == {"": ["turn-2-1"]}


def test_an_endless_turn_keeps_a_bounded_number_of_spans_and_says_so() -> None:
    begun = (transition(0, 1, "turn_open_proposed", "Idle", "Opening"),)
    spans = spans_of((*begun, *(attempt(10, 1, number) for number in range(MAX_INVOCATIONS + 7))))
    assert len(spans) == MAX_INVOCATIONS + 2
    assert (named(spans, "llm").attributes or {})["rspp.invocations_left_out"] == 7
