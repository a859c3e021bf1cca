"""F4: more waits on an edge than its marks allow, by depth and by time; the turn goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rspp.tooling.fault_call import ASK, SPEAKING, FaultCall, fault_after

if TYPE_CHECKING:
    from rspp.tooling.faults import Record

FLOW = ("watermark", "flow_xoff", "flow_xon")
DEPTH = {"max_queue_ms": 1_000, "watermarks": {"queue_items": {"high": 20, "low": 10}}}
TIME = {
    "max_queue_ms": 1_000,
    "watermarks": {"queue_items": {"high": 50, "low": 40}, "queue_ms": {"high": 300, "low": 100}},
}
TALK = (*ASK, SPEAKING, *ASK, {"do": "pause", "ms": 14_000}, {"do": "hang_up"})
"""More is said than the front end's edge holds: a question, an answer cut short, and both once more."""


def edges(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"graph": {"edges": list(changes)}}


def events(call: FaultCall, *names: str) -> list[Record]:
    found = [record["event"] for record in call.records if record["kind"] == "signal"]
    return [event for event in found if event["signal"] in names]


@pytest.mark.parametrize("marks", [DEPTH, TIME], ids=["depth", "time"])
def test_f4_a_speech_edge_above_its_mark_stops_its_producer_and_loses_nothing(marks: dict[str, Any]) -> None:
    call = FaultCall(fault_after(12_000), settings=edges({"from": "tts", "to": "playout", **marks}))
    call.hold().check()
    told = events(call, *FLOW)
    assert [event["signal"] for event in told[:2]] == ["watermark", "flow_xoff"]
    assert {event["edge_id"] for event in told} == {"tts->playout"}
    assert {event["target_lane"] for event in told} == {"DataLane"}
    switches = [event["signal"] for event in told if event["signal"] != "watermark"]
    assert switches == ["flow_xoff", "flow_xon"] * (len(switches) // 2)
    assert call.signals("drop_notice", "abort", "shed") == []
    assert call.ending(1) == ["commit", "close"]
    usual = FaultCall(fault_after(12_000)).hold()
    assert np.array_equal(call.caller.heard, usual.caller.heard)
    depths = [record["queued_ms"] for record in call.records if record["kind"] == "pressure"]
    assert 0 < max(depths) <= 1_000


@pytest.mark.conformance("ML-001", "ML-003")
@pytest.mark.parametrize("strategy", ["drop", "latest_only"])
def test_f4_a_front_end_that_hangs_loses_updates_by_name_and_the_call_goes_on(strategy: str) -> None:
    def held() -> FaultCall:
        edge = {"from": "turn", "to": "presenter", "strategy": strategy, "max_queue_items": 2}
        marks = {"watermarks": {"queue_items": {"high": 2, "low": 1}}}
        call = FaultCall(TALK, settings=edges({**edge, **marks}))
        call.caller.on_step("question", lambda: setattr(call.transport, "front_end_hangs", True))
        return call.hold().check()

    call = held()
    notices = events(call, "drop_notice")
    assert notices
    for notice in notices:
        assert notice["edge_id"] == "turn->presenter"
        assert notice["reason"] == "queue_pressure_drop"
        assert 0 <= notice["seq_range"]["start"] <= notice["seq_range"]["end"]
    sequences = [
        number
        for notice in notices
        for number in range(notice["seq_range"]["start"], notice["seq_range"]["end"] + 1)
    ]
    assert len(sequences) == len(set(sequences))
    assert {notice["target_lane"] for notice in notices} == {"DataLane", "TelemetryLane"}
    assert call.ending(1) == ["abort", "close"]
    assert call.ending(2) == ["commit", "close"]
    assert held().timeline.lines == call.timeline.lines
