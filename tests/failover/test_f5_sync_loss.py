"""F5: one stream of a synchronised domain loses items; the domain is told to reset and the call goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rspp.tooling.fault_call import ASK, SPEAKING, FaultCall

if TYPE_CHECKING:
    from rspp.tooling.faults import Record

TALK = (*ASK, SPEAKING, *ASK, {"do": "pause", "ms": 14_000}, {"do": "hang_up"})
"""More is said than the front end's edge holds: a question, an answer cut short, and both once more."""


def held(policy: dict[str, Any]) -> FaultCall:
    edge = {
        "from": "turn",
        "to": "presenter",
        "strategy": "drop",
        "max_queue_items": 2,
        "watermarks": {"queue_items": {"high": 2, "low": 1}},
        "sync_drop_policy": policy,
    }
    call = FaultCall(TALK, settings={"graph": {"edges": [edge]}})
    call.caller.on_step("question", lambda: setattr(call.transport, "front_end_hangs", True))
    return call.hold().check()


def events(call: FaultCall, *names: str) -> list[Record]:
    found = [record["event"] for record in call.records if record["kind"] == "signal"]
    return [event for event in found if event["signal"] in names]


@pytest.mark.conformance("ML-004")
def test_f5_a_loss_is_a_discontinuity_of_its_domain_and_the_call_goes_on() -> None:
    policy = {
        "policy": "drop_with_discontinuity",
        "scope": "edge_local",
        "group_by": "sync_id",
        "sync_domain": "captions",
    }
    call = held(policy)
    breaks = events(call, "discontinuity")
    assert breaks
    assert {event["sync_domain"] for event in breaks} == {"captions"}
    assert {event["reason"] for event in breaks} == {"sync_domain_partial_loss"}
    assert len({event["discontinuity_id"] for event in breaks}) == len(breaks)
    lost = events(call, "drop_notice", "discontinuity")
    words = [event for event in lost if event.get("target_lane", "DataLane") == "DataLane"]
    assert words[0]["signal"] == "drop_notice"
    assert breaks[0]["discontinuity_id"] == f"captions/{words[0]['seq_range']['start']}"
    assert call.ending(2) == ["commit", "close"]
    assert held(policy).timeline.lines == call.timeline.lines
