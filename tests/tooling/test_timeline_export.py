"""Exports of a call: the forms that other tools read."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rspp.tooling.call_page.builder import build_call
from rspp.tooling.timeline_export import otlp_traces, perfetto_trace
from tests.e2e.fake_call import HOSTILE, START_WALL_MS
from tests.tooling.pages import at, header, takeover_call, turn


def spans(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert isinstance(found, list)
    return found


def test_otlp_is_what_the_protocol_reads() -> None:
    document = otlp_traces(build_call(takeover_call()))
    for span in spans(document):
        assert len(span["traceId"]) == 32
        assert len(span["spanId"]) == 16
        # The mapping of OTLP writes ids as hexadecimal digits where that of protobuf has base64.
        for name in ("traceId", "spanId", "parentSpanId"):
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    request = json_format.ParseDict(document, ExportTraceServiceRequest())
    read = request.resource_spans[0].scope_spans[0].spans
    assert len({span.span_id for span in read}) == len(read) == 1 + 3 + 6
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in read)
    assert read[0].start_time_unix_nano == START_WALL_MS * 1_000_000


def test_provider_calls_hang_under_their_turn_and_turns_under_the_session() -> None:
    found = spans(otlp_traces(build_call(takeover_call())))
    names = {span["spanId"]: span["name"] for span in found}
    pairs = {(span["name"], names.get(span["parentSpanId"], "")) for span in found}
    assert pairs == {
        ("session", ""),
        ("turn", "session"),
        ("provider_invocation llm", "turn"),
        ("provider_invocation tts", "turn"),
    }
    turns = [span for span in found if span["name"] == "turn"]
    assert [span["status"]["code"] for span in turns] == [1, 1, 2]
    assert turns[2]["status"]["message"] == HOSTILE
    plans = [a["value"] for span in turns for a in span["attributes"] if a["key"] == "rspp.plan_hash"]
    assert plans[0] == {"stringValue": f"{1:064x}"}
    assert any(event["name"] == "barge-in" for event in turns[1]["events"])


def test_every_event_lies_within_its_span_and_one_of_a_turn_that_is_over_is_the_sessions() -> None:
    playback = {"kind": "signal", "event": {"signal": "playback_completed", "turn_id": "turn-1-1"}}
    plan = {"kind": "marker", "turn": 1, "name": "plan_frozen"}
    records = [header(), plan | at(500), *turn(1, 1_000, 2_000), playback | at(2_400), *turn(2, 3_000, 4_000)]
    found = spans(otlp_traces(build_call(records)))
    for span in found:
        assert span["events"] or span["name"].startswith("provider_invocation")
        for event in span["events"]:
            moment = int(event["timeUnixNano"])
            assert int(span["startTimeUnixNano"]) <= moment <= int(span["endTimeUnixNano"])
    outside = {
        event["name"]: attribute["value"]
        for event in found[0]["events"]
        for attribute in event["attributes"]
        if attribute["key"] == "rspp.turn_id"
    }
    assert outside == {
        "playback completed": {"stringValue": "turn-1-1"},
        "plan frozen": {"stringValue": "turn-1-1"},
    }
    assert sum(len(span["events"]) for span in found) == len(build_call(records).marks)


def test_exports_are_the_same_each_time_and_differ_between_calls() -> None:
    first, again = build_call(takeover_call()), build_call(takeover_call())
    assert otlp_traces(first) == otlp_traces(again)
    assert perfetto_trace(first) == perfetto_trace(again)
    other = build_call([header(session="other"), *turn(1, 1_000, 2_000)])
    assert spans(otlp_traces(other))[0]["traceId"] != spans(otlp_traces(first))[0]["traceId"]


def test_perfetto_has_tracks_slices_that_nest_and_counters() -> None:
    document = json.loads(json.dumps(perfetto_trace(build_call(takeover_call()))))
    events = document["traceEvents"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"turns", "turn states", "agent", "caller", "data", "control events"} <= set(tracks.values())
    counters = [event for event in events if event["ph"] == "C"]
    assert [(event["ts"], event["args"]) for event in counters] == [(2_000_000, {"ms": 700})]
    for event in events:
        assert event["ph"] in {"M", "X", "i", "C"}
        if event["ph"] in {"X", "i"}:
            assert event["tid"] in tracks
            assert event["ts"] >= 0
    for number in tracks:
        slices = sorted(
            (
                (event["ts"], event["ts"] + event["dur"])
                for event in events
                if event["ph"] == "X" and event["tid"] == number
            ),
            key=lambda one: (one[0], -one[1]),
        )
        open_until: list[int] = []
        for begin, end in slices:
            while open_until and open_until[-1] <= begin:
                open_until.pop()
            assert not open_until or end <= open_until[-1]
            open_until.append(end)


def test_an_empty_recording_exports_too() -> None:
    model = build_call([])
    assert len(spans(otlp_traces(model))) == 1
    assert perfetto_trace(model)["traceEvents"][0]["name"] == "process_name"
