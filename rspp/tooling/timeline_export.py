"""A recorded call in the forms that other tools read: OpenTelemetry traces and Perfetto.

Ids are derived from session and turn, so that exporting a recording twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rspp.tooling.call_page.model import Attempt, CallModel, Mark, TurnView

SPAN_KIND_INTERNAL, SPAN_KIND_CLIENT = 1, 3
STATUS_OK, STATUS_ERROR = 1, 2
MAX_EVENTS = 1_000
"""Most events of one span; how many were left out is said as the protocol has it."""
_FINE = frozenset({"success", "cancelled"})


def otlp_traces(model: CallModel) -> dict[str, Any]:
    """Return the call as one ``ExportTraceServiceRequest`` in the JSON form of OTLP.

    The session is the root span, its turns are the children, and provider attempts are theirs. What is
    told of a turn before it began or after it closed is an event of the session, with the turn's id. Ids are
    hexadecimal and 64-bit times are strings, as the JSON mapping of OTLP wants it.
    """
    trace = _digest(f"session/{model.tenant}/{model.session_id}/{model.started_wall_ms}", 16)
    root = _digest(f"{trace}/root", 8)
    stretches = {turn.key: (turn.begin_us, model.end_of(turn)) for turn in model.ordered}
    events: dict[str, list[Mark]] = {}
    for mark in model.marks:
        begin_us, end_us = stretches.get(mark.turn, (1, 0))
        events.setdefault(mark.turn if begin_us <= mark.at_us <= end_us else "", []).append(mark)
    spans = [
        _span(
            model,
            trace,
            root,
            "",
            "session",
            0,
            model.duration_us,
            attributes={"rspp.session_id": model.session_id, "rspp.end_reason": model.ended_reason},
            events=events.get("", []),
        )
    ]
    for turn in model.ordered:
        spans += _turn_spans(model, turn, trace, root, events.get(turn.key, []))
    resource = {
        "service.name": "rspp",
        "service.version": model.kernel,
        "rspp.tenant": model.tenant,
        "rspp.pipeline": model.pipeline,
    }
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": "rspp.recording"}, "spans": spans}],
            }
        ]
    }


def _turn_spans(
    model: CallModel, turn: TurnView, trace: str, root: str, events: list[Mark]
) -> list[dict[str, Any]]:
    own = _digest(f"{trace}/{turn.key}", 8)
    attributes: dict[str, object] = {
        "rspp.session_id": model.session_id,
        "rspp.turn_id": turn.key,
        "rspp.authority_epoch": turn.epoch,
        "rspp.outcome": turn.outcome,
        "rspp.reason": turn.reason,
        "rspp.plan_hash": turn.plan_hash,
        "rspp.barge_in": turn.barge_in,
    }
    attributes |= {f"rspp.latency.{name}_us": value for name, value in turn.latencies.items()}
    failed = turn.outcome == "abort" and not turn.barge_in
    spans = [
        _span(
            model,
            trace,
            own,
            root,
            "turn",
            turn.begin_us,
            model.end_of(turn),
            attributes=attributes,
            events=events,
            error=turn.reason if failed else None,
        )
    ]
    for number, attempt in enumerate(turn.attempts):
        spans.append(_attempt_span(model, attempt, trace, own, number))
    return spans


def _attempt_span(model: CallModel, attempt: Attempt, trace: str, parent: str, number: int) -> dict[str, Any]:
    return _span(
        model,
        trace,
        _digest(f"{trace}/{attempt.turn}/{attempt.invocation}/{number}", 8),
        parent,
        f"provider_invocation {attempt.modality}",
        attempt.begin_us,
        attempt.end_us,
        kind=SPAN_KIND_CLIENT,
        attributes={
            "rspp.provider_invocation_id": attempt.invocation,
            "rspp.modality": attempt.modality,
            "rspp.provider_id": attempt.provider,
            "rspp.attempt": attempt.number,
            "rspp.outcome_class": attempt.outcome,
            "rspp.retry_decision": attempt.decision,
            "rspp.reason": attempt.reason,
        },
        error=None if attempt.outcome in _FINE else attempt.reason or attempt.outcome,
    )


def _span(
    model: CallModel,
    trace: str,
    own: str,
    parent: str,
    name: str,
    begin_us: int,
    end_us: int,
    *,
    attributes: dict[str, object],
    events: list[Mark] | None = None,
    error: str | None = None,
    kind: int = SPAN_KIND_INTERNAL,
) -> dict[str, Any]:
    shown = sorted(events or [], key=lambda mark: mark.at_us)
    return {
        "traceId": trace,
        "spanId": own,
        "parentSpanId": parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": _nanoseconds(model, begin_us),
        "endTimeUnixNano": _nanoseconds(model, max(begin_us, end_us)),
        "attributes": _attributes(attributes),
        "events": [
            {
                "timeUnixNano": _nanoseconds(model, mark.at_us),
                "name": mark.name,
                "attributes": _attributes(
                    {"rspp.lane": mark.row, "rspp.turn_id": "" if "rspp.turn_id" in attributes else mark.turn}
                ),
            }
            for mark in shown[:MAX_EVENTS]
        ],
        "droppedEventsCount": max(0, len(shown) - MAX_EVENTS),
        "status": {"code": STATUS_OK} if error is None else {"code": STATUS_ERROR, "message": error},
    }


def _nanoseconds(model: CallModel, at_us: int) -> str:
    return str(model.started_wall_ms * 1_000_000 + at_us * 1_000)


def _attributes(values: Mapping[str, object]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    for key, value in values.items():
        if value is None or value == "":
            continue
        if isinstance(value, bool):
            typed: dict[str, Any] = {"boolValue": value}
        elif isinstance(value, int):
            typed = {"intValue": str(value)}
        else:
            typed = {"stringValue": str(value)}
        listed.append({"key": key, "value": typed})
    return listed


def _digest(text: str, size: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:size].hex()


def perfetto_trace(model: CallModel) -> dict[str, Any]:
    """Return the call in the trace event format that ui.perfetto.dev and ``trace_processor`` read.

    One track for each lane and party, one for the turns, and a counter for each edge. Times are
    microseconds from the first record.
    """
    tracks: dict[str, int] = {}
    events: list[dict[str, Any]] = []

    def track(name: str) -> int:
        return tracks.setdefault(name, len(tracks) + 1)

    def slice_of(name: str, where: str, begin: int, end: int, arguments: dict[str, Any]) -> None:
        events.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": track(where),
                "ts": begin,
                "dur": max(0, end - begin),
                "name": name,
                "cat": where,
                "args": arguments,
            }
        )

    for turn in model.ordered:
        arguments = {
            "turn_id": turn.key,
            "outcome": turn.outcome,
            "reason": turn.reason,
            "plan_hash": turn.plan_hash,
        }
        end = model.end_of(turn)
        slice_of(f"turn {turn.number}: {turn.ending}", "turns", turn.begin_us, end, arguments)
        states = [*turn.states, ("", end)]
        for (state, begin), (_, until) in itertools.pairwise(states):
            if until > begin:
                slice_of(state, "turn states", begin, until, {"turn_id": turn.key})
    busy: dict[str, list[int]] = {}
    for span in sorted(model.spans, key=lambda span: (span.begin_us, span.row, span.name)):
        end = model.duration_us if span.end_us is None else span.end_us
        # Slices of one track may nest but not cross, so what overlaps goes to a track of its own.
        ends = busy.setdefault(span.row, [])
        lane = next((place for place, until in enumerate(ends) if until <= span.begin_us), len(ends))
        ends[lane : lane + 1] = [end]
        where = span.row if lane == 0 else f"{span.row} {lane + 1}"
        slice_of(span.name, where, span.begin_us, end, {"turn_id": span.turn})
    for mark in model.marks:
        arguments = {"turn_id": mark.turn}
        if mark.records:
            arguments["record"] = str(model.records[mark.records[0]].index)
        events.append(
            {
                "ph": "i",
                "s": "t",
                "pid": 1,
                "tid": track(f"{mark.row} events"),
                "ts": mark.at_us,
                "name": mark.name,
                "cat": mark.row,
                "args": arguments,
            }
        )
    for edge in model.edges.values():
        events += [
            {"ph": "C", "pid": 1, "ts": at, "name": f"{edge.name} queued ms", "args": {"ms": queued}}
            for at, queued, _ in edge.depth
        ]
    events.sort(key=lambda event: (event["ts"], -int(event.get("dur", 0))))
    named: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"session {model.session_id}"}}
    ]
    for name, number in tracks.items():
        named.append({"ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": name}})
        named.append(
            {"ph": "M", "pid": 1, "tid": number, "name": "thread_sort_index", "args": {"sort_index": number}}
        )
    return {
        "traceEvents": named + events,
        "displayTimeUnit": "ms",
        "otherData": {"session_id": model.session_id, "tenant": model.tenant, "pipeline": model.pipeline},
    }
