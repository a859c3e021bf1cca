"""A whole session in virtual time: what its evidence becomes."""

from __future__ import annotations

import functools

import msgspec
import pytest
from opentelemetry.sdk.resources import Resource

from rspp.contracts.ports import Hypothesis
from rspp.telemetry.context import SessionContext
from rspp.telemetry.recorder import TelemetryRecorder
from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from rspp.telemetry.traces import SessionTraces
from tests.session.fakes import FakeCaller, FakeWorld
from tests.telemetry.evidence import ANSWERED, Record, lines
from tests.telemetry.scraping import read_samples, sample
from tests.telemetry.test_traces import label, tree

HEADER: Record = {"kind": "header", "session_id": "call-1", "pipeline": "desk@v3", "started_wall_ms": 1}


@functools.cache
def call() -> tuple[Record, ...]:
    """The caller asks, is answered, interrupts the answer with another question, and is answered again."""
    world = FakeWorld(
        FakeCaller(bursts=((500, 1500, 6000), (4000, 6000, 7000)), hang_up_ms=14_000),
        {
            6000: Hypothesis(text="first question", complete=True),
            7000: Hypothesis(text="another question please", complete=True),
        },
        lambda history: " ".join(["word"] * (24 if len(history) < 2 else 6)) + ".",
    )
    world.hold()
    return tuple(world.timeline.records)


@pytest.mark.conformance("M-14")
def test_or_01_a_session_gives_one_tree_for_each_turn() -> None:
    records = call()
    context = SessionContext.from_header(dict(records[0]) | {"tenant": "acme", "epoch": 1})
    traces = SessionTraces(context, Resource({}))
    spans = [span for record in records for span in traces.take(record)] + traces.finish()
    turns = [span for span in spans if span.name == "turn_span"]
    endings = [dict(turn.attributes or {})["rspp.turn.outcome"] for turn in turns]
    assert endings == ["abort", "commit"]
    grown = tree(spans)
    assert grown[""] == [label(turn) for turn in turns] == ["turn-1-1", "turn-1-2"]
    for turn in turns:
        of_turn = [span for span in spans if span.context.trace_id == turn.context.trace_id]
        below = tree(of_turn)
        assert sorted(below[label(turn)]) == ["llm", "playout", "stt", "tts"]
        assert len(below["stt"]) == len(below["llm"]) == 1
        assert len(below["tts"]) >= 1
        assert {span.start_time for span in of_turn if label(span) in ("llm", "tts")} == {turn.start_time}
        for span in of_turn:
            assert span.start_time is not None
            assert span.end_time is not None
            assert span.start_time <= span.end_time


@pytest.mark.conformance("M-14")
def test_or_01_a_session_heard_through_the_sink_gives_its_metrics() -> None:
    sink = TelemetrySink(TelemetrySettings())
    header, *records = call()
    with TelemetryRecorder(None, sink, tenant="acme", epoch=1) as recorder:
        recorder.begin(header)
        for record in records:
            recorder.write(b"", [msgspec.json.encode(record)])
            sink.flush()
        found = read_samples(sink)
    sink.close()
    told = {"pipeline": "fake@v1", "reason": "none"}
    assert sample(found, "rspp_turns_total", outcome="commit", **told) == 1
    assert sample(found, "rspp_turns_total", outcome="abort", **told | {"reason": "cancelled"}) == 1
    assert sample(found, "rspp_barge_ins_total") == 1
    assert sample(found, "rspp_answer_latency_ms_count") == 2
    assert sample(found, "rspp_active_sessions") == 1
    assert sample(found, "rspp_telemetry_unreadable_total") == 0
    assert sample(found, "rspp_telemetry_dropped_total", stage="evidence") == 0


class FakeRecorder:
    level = "L2"

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def begin(self, header: dict[str, object]) -> None:
        self.calls.append(("begin", header))

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        self.calls.append(("write", block, records))

    def payload(self, payload_class: str, turn: int, at_us: int, data: bytes, **details: object) -> None:
        self.calls.append(("payload", payload_class, turn, at_us, data, details["lasting_ms"]))


def test_a_recorder_gets_everything_and_telemetry_no_payload() -> None:
    sink = TelemetrySink(TelemetrySettings())
    recorder = FakeRecorder()
    with TelemetryRecorder(recorder, sink) as listened:  # type: ignore[arg-type]
        assert listened.level == "L2"
        listened.begin(HEADER | {"tenant": "acme", "epoch": 2})
        listened.write(b"", lines(*ANSWERED))
        listened.payload("text_raw", 1, 5, b"secret", lasting_ms=3)
        found = read_samples(sink)
        assert sample(found, "rspp_active_sessions") == 1
    assert sample(found, "rspp_turns_total", pipeline="desk@v3", outcome="commit", reason="none") == 1
    assert [name for name, *_ in recorder.calls] == ["begin", "write", "payload"]
    assert recorder.calls[2] == ("payload", "text_raw", 1, 5, b"secret", 3)
    assert list(sink.gauges.active_sessions()) == [(0, {"tenant": "default"})]
    assert sink.enqueued == 1
    sink.close()


def test_telemetry_listens_without_a_recorder_as_well() -> None:
    sink = TelemetrySink(TelemetrySettings())
    with TelemetryRecorder(None, sink) as listened:
        assert listened.level == "L0"
        listened.begin(HEADER)
        listened.write(b"", lines(*ANSWERED))
        listened.write(b"", [])
        listened.payload("text_raw", 1, 5, b"secret")
    assert sink.enqueued == 1
    sink.close()


def test_what_the_recorder_lost_is_counted_once() -> None:
    sink = TelemetrySink(TelemetrySettings())
    lost = 0
    with TelemetryRecorder(None, sink, tenant="acme", lost=lambda: lost) as listened:
        listened.begin(HEADER)
        listened.write(b"", lines(*ANSWERED))
        lost = 4
        listened.write(b"", lines(ANSWERED[0]))
        listened.write(b"", lines(ANSWERED[0]))
        lost = 7
    found = read_samples(sink)
    sink.close()
    assert sample(found, "rspp_evidence_lost_records_total") == 7
    assert sample(found, "rspp_evidence_gaps_total") == 2
