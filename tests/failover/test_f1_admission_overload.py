"""F1: the quotas that the calls of a runtime share are used up, before a turn and inside of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rspp._kernel import Admission
from rspp.pipeline.quotas import FOREVER_US
from rspp.tooling.fault_call import ANSWER, ASK, FaultCall, refused_before_open

if TYPE_CHECKING:
    from rspp.tooling.faults import Step

FREE: Step = {"do": "pause", "name": "fault", "ms": 15_000}
PLENTY = (10_000, 10_000, 10_000)
LINES_OF_ANSWER = (False, ANSWER)
NOTICE = (False, "Sorry, please ask me again.")


def quotas(**points: tuple[int, int, int]) -> Admission:
    admission = Admission()
    plenty = dict.fromkeys(("turn_start", "edge_enqueue", "edge_dequeue", "node_dispatch"), PLENTY)
    admission.adopt(
        snapshot_ref="admission-policy/test",
        valid_until_us=FOREVER_US,
        max_deferred=4,
        claim_us=3_000_000,
        **{**plenty, **points},
    )
    return admission


def taken_by_another(point: str, *, places: int = 1) -> Admission:
    """Quotas whose places at one point another session has."""
    admission = quotas(**{point: (places, places, places)})
    for _ in range(places):
        assert admission.ask(0, point, "DataLane", "another", True).admitted
    return admission


def gives_back(admission: Admission, point: str) -> None:
    assert admission.done(point, "DataLane", "another")


def overloaded(admission: Admission, wait_ms: int, *, free: str = "") -> FaultCall:
    """Ask once; the other session gives its place at ``free`` back ``wait_ms`` after the question."""
    steps = (*ASK, {"do": "pause", "ms": wait_ms}, FREE, {"do": "hang_up"})
    call = FaultCall(steps, admission=admission)
    if free:
        call.caller.on_fault(lambda: gives_back(admission, free))
    return call.hold()


def told(call: FaultCall, point: str) -> list[dict[str, Any]]:
    """What admission said at a point."""
    return [
        record
        for record in call.records
        if record["kind"] == "input" and record["name"] == "admission" and record["point"] == point
    ]


def test_f1_a_turn_without_a_place_is_deferred_and_opens_as_soon_as_there_is_one() -> None:
    call = overloaded(taken_by_another("turn_start"), 1_500, free="turn_start").check()
    assert call.signals("defer") == [("defer", "admission_capacity_defer")]
    assert call.signals("reject", "abort") == []
    (deferred,) = call.decisions("defer")
    assert (deferred["phase"], deferred["scope"], deferred["emitted_by"]) == ("pre_turn", "turn", "RK-25")
    assert not {"turn_open", "abort", "close"} & set(call.life(1))
    assert call.ending(2) == ["commit", "close"]
    assert LINES_OF_ANSWER in call.caller.transcripts
    first = told(call, "turn_start")[0]
    assert (first["snapshot"], first["fairness_key"]) == ("admission-policy/test", "call")
    assert (first["in_use"], first["places"], first["outcome"]) == (1, 1, "defer")
    assert [record["outcome"] for record in told(call, "turn_start")][-1] == "admit"
    freed_us = call.caller.begun_ms["fault"] * 1000
    opened = [record["at_us"] for record in call.records if record.get("to") == "Active"]
    assert 0 <= opened[0] - call.records[0]["started_us"] - freed_us <= 150_000


def test_f1_a_turn_that_finds_no_place_in_time_is_rejected_and_the_caller_is_shown_a_notice() -> None:
    call = overloaded(taken_by_another("turn_start"), 1_000)
    assert refused_before_open(call.records)
    assert [outcome for outcome, _ in call.signals("defer", "reject")] == ["defer", "reject"]
    assert call.signals("reject") == [("reject", "admission_capacity_reject")]
    assert NOTICE in call.caller.transcripts
    assert not np.any(call.caller.heard)
    assert [message.text for message in call.session.history] == ["tell me about the house"]


def test_f1_a_rejected_caller_is_told_aloud_once_there_is_a_place() -> None:
    call = overloaded(taken_by_another("turn_start"), 5_000, free="turn_start").check()
    assert [name for name, _ in call.signals("defer", "reject", "admit")] == ["defer", "reject", "admit"]
    assert call.ending(3) == ["commit", "close"]
    assert np.any(call.caller.heard_after(call.caller.begun_ms["fault"]))
    assert call.caller.transcripts.count(NOTICE) == 2


def test_f1_a_denied_node_ends_its_turn_once_and_gives_the_place_back() -> None:
    admission = taken_by_another("node_dispatch")
    call = overloaded(admission, 20).check()
    shed = call.decisions("shed")
    assert {(each["phase"], each["scope"], each["reason"]) for each in shed} == {
        ("scheduling_point", "node_dispatch", "scheduling_point_shed")
    }
    assert call.signals("shed") == [("shed", "scheduling_point_shed")] * len(shed)
    assert call.life(1)[-3:] == ["shed", "abort", "close"]
    assert call.signals("abort")[0] == ("abort", "execution_plan_denied")
    assert told(call, "node_dispatch")[0]["outcome"] == "shed"
    assert NOTICE in call.caller.transcripts
    assert (admission.in_use("turn_start"), admission.in_use("node_dispatch")) == (0, 1)


def test_f1_items_are_shed_as_they_come_to_a_full_runtime_and_the_turn_ends_once() -> None:
    admission = quotas(edge_enqueue=(12, 12, 12))
    call = overloaded(admission, 20).check()
    assert {each["scope"] for each in call.decisions("shed")} == {"edge_enqueue"}
    assert ("drop_notice", "queue_pressure_drop") in call.signals("drop_notice")
    assert call.ending(1) == ["commit", "close"]
    assert told(call, "edge_enqueue")[0]["places"] == 12
    assert np.any(call.caller.heard)
    assert LINES_OF_ANSWER not in call.caller.transcripts
    assert all(message.text != ANSWER for message in call.session.history)
    assert admission.in_use("edge_enqueue") == 0


def test_f1_items_are_shed_as_they_go_when_too_many_are_handed_over() -> None:
    call = overloaded(taken_by_another("edge_dequeue"), 20).check()
    assert {each["scope"] for each in call.decisions("shed")} == {"edge_dequeue"}
    assert call.ending(1) == ["commit", "close"]
    assert not np.any(call.caller.heard)


@pytest.mark.parametrize("point", ["turn_start", "node_dispatch"])
def test_f1_equal_overload_has_equal_outcomes(point: str) -> None:
    def once() -> list[bytes]:
        return overloaded(taken_by_another(point), 800, free=point).timeline.lines

    assert once() == once()


def test_f1_a_call_with_room_says_nothing_of_admission_and_returns_every_place() -> None:
    admission = quotas()
    call = overloaded(admission, 20).check()
    assert not any(record.get("name") == "admission" for record in call.records)
    assert call.ending(1) == ["commit", "close"]
    assert admission.keys == 0


def test_f1_a_tenant_has_one_share_for_all_its_calls() -> None:
    profile = {"name": "shared", "admission": {"fairness_key": "tenant", "turn_start": {"places": 1}}}
    settings = {"profile": "shared", "profiles": {"shared": profile}}
    admission = quotas(turn_start=(2, 1, 2))
    assert admission.ask(0, "turn_start", "DataLane", "default").admitted
    steps = (*ASK, {"do": "pause", "ms": 4_000}, {"do": "hang_up"})
    call = FaultCall(steps, settings=settings, admission=admission).hold()
    assert refused_before_open(call.records)
    first = told(call, "turn_start")[0]
    assert (first["fairness_key"], first["key_in_use"], first["in_use"]) == ("default", 1, 1)
