"""F2: a node of a turn hangs, raises, or gives nothing within its budget."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rspp._kernel import Replay
from rspp.pipeline.node_types import NODE_TYPES, STOCK_EDGES
from rspp.replay.inputs import kernel_arguments
from rspp.tooling.fault_call import ASK, FaultCall, fault_after
from rspp.tooling.faults import FaultResponder

WAIT = (*ASK, {"do": "pause", "ms": 5_500}, {"do": "hang_up"})
QUICK_BUDGET = {"budget": {"first_output_ms": 1_200, "stall_ms": 1_000}}


def test_f2_a_node_without_output_exhausts_the_budget_and_the_caller_is_told() -> None:
    call = FaultCall(
        WAIT, settings=QUICK_BUDGET, responder=lambda real: FaultResponder(real, ["hang", "hang"])
    )
    call.hold().check()
    assert call.signals("budget_exhausted") == [("budget_exhausted", "node_timeout_or_failure")]
    assert call.signals("abort")[0] == ("abort", "node_timeout_or_failure")
    assert call.life(1)[-3:] == ["budget_exhausted", "abort", "close"]
    assert "output_accepted" not in call.life(1)
    assert (False, "Sorry, please ask me again.") in call.caller.transcripts
    opened, exhausted = (
        next(
            record["at_us"]
            for record in call.records
            if record["kind"] == "signal" and record["event"]["signal"] == name
        )
        for name in ("turn_open", "budget_exhausted")
    )
    assert exhausted - opened == 1_200_000


def test_f2_a_node_that_stalls_in_the_middle_ends_the_turn() -> None:
    call = FaultCall(fault_after(9_000), settings=QUICK_BUDGET)
    call.caller.on_fault(lambda: setattr(call.voice, "broken", "hang"))
    call.hold().check()
    assert call.signals("abort")[0] == ("abort", "node_timeout_or_failure")
    assert call.ending(1) == ["abort", "close"]
    assert np.any(call.caller.heard)


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("deep"), ValueError("no")])
def test_f2_a_bug_in_a_node_ends_its_turn_and_not_the_call(error: Exception) -> None:
    call = FaultCall(fault_after(9_000))
    call.caller.on_fault(lambda: setattr(call.voice, "broken", error))
    call.hold().check()
    assert call.session.reason == "caller_left"
    assert call.signals("abort")[0][1] in ("node_timeout_or_failure", "adapter_invoke_error")
    assert call.ending(1) == ["abort", "close"]


def test_f2_equal_faults_have_equal_outcomes() -> None:
    def once() -> list[bytes]:
        call = FaultCall(
            WAIT, settings=QUICK_BUDGET, responder=lambda real: FaultResponder(real, ["hang", "hang"])
        )
        return call.hold().timeline.lines

    assert once() == once()


def told_at(call: FaultCall, *names: str) -> list[tuple[str, int]]:
    """The first of each signal with its time after the first invocation, in ms."""
    records = [record for record in call.records if record["kind"] == "signal"]
    begun = next(record["at_us"] for record in call.records if record.get("name") == "invoke")
    found = [(record["event"]["signal"], (record["at_us"] - begun) // 1000) for record in records]
    return [next(pair for pair in found if pair[0] == name) for name in names]


@pytest.mark.conformance("G-13")
def test_f2_a_node_that_uses_up_its_budget_is_warned_and_replaced() -> None:
    call = FaultCall(WAIT, responder=lambda real: FaultResponder(real, ["hang"]), spare=1).hold().check()
    moments = ("budget_warning", "budget_exhausted", "provider_switch", "fallback")
    assert told_at(call, *moments) == [(moments[0], 1_200), *((name, 1_500) for name in moments[1:])]
    assert call.signals("budget_exhausted", "fallback") == [
        ("budget_exhausted", "budget_exhausted"),
        ("fallback", "budget_exhausted"),
    ]
    assert call.life(1)[-1] != "abort"
    assert call.responders[1].calls == 1


def test_f2_a_used_up_budget_ends_the_turn_when_the_plan_allows_no_way_out() -> None:
    call = FaultCall(
        WAIT,
        settings={"adaptive_actions": []},
        responder=lambda real: FaultResponder(real, ["hang"]),
        spare=1,
    )
    call.hold().check()
    moments = ("budget_warning", "budget_exhausted", "abort")
    assert told_at(call, *moments) == [(moments[0], 1_200), (moments[1], 1_500), (moments[2], 1_500)]
    assert call.signals("abort")[0] == ("abort", "node_timeout_or_failure")
    assert call.signals("fallback", "provider_switch") == []
    assert call.responders[1].calls == 0


def test_f2_with_a_way_out_allowed_and_none_left_the_turn_has_its_own_budget() -> None:
    call = FaultCall(WAIT, responder=lambda real: FaultResponder(real, ["hang"])).hold().check()
    assert told_at(call, "budget_warning", "budget_exhausted")[1][1] == 1_500
    assert call.signals("budget_exhausted") == [
        ("budget_exhausted", "budget_exhausted"),
        ("budget_exhausted", "node_timeout_or_failure"),
    ]
    assert told_at(call, "abort")[0][1] in range(4_990, 5_001)


def test_f2_the_numbers_of_the_profile_are_the_budget() -> None:
    profile = {
        "name": "quick",
        "budgets": {"node_warn_ms": 300, "node_ms": 400},
        "attempts": {"candidates": 1},
    }
    settings = {"profile": "quick", "profiles": {"quick": profile}}
    call = FaultCall(WAIT, settings=settings, responder=lambda real: FaultResponder(real, ["hang"]), spare=1)
    call.hold().check()
    assert told_at(call, "budget_warning", "budget_exhausted") == [
        ("budget_warning", 300),
        ("budget_exhausted", 400),
    ]
    assert call.responders[1].calls == 0


def test_f2_an_answer_in_time_hears_nothing_of_budgets() -> None:
    call = FaultCall(fault_after(9_500)).hold().check()
    assert call.signals("budget_warning", "budget_exhausted") == []


def with_budget(node: str, budget_ms: int) -> dict[str, object]:
    """The built-in graph written out, with one node that has a budget of its own."""
    own = {node: {"budget_ms": budget_ms}}
    nodes = [{"id": kind, "type": kind, **own.get(kind, {})} for kind in NODE_TYPES]
    return {"graph": {"nodes": nodes, "edges": [{"from": one, "to": two} for one, two in STOCK_EDGES]}}


@pytest.mark.parametrize(("budget_ms", "warned_ms"), [(700, 700), (2_400, 1_200)])
def test_f2_a_budget_of_its_own_is_the_one_that_a_node_is_held_to(budget_ms: int, warned_ms: int) -> None:
    def told_with(node: str) -> list[tuple[str, int]]:
        settings = with_budget(node, budget_ms)
        call = FaultCall(
            WAIT, settings=settings, responder=lambda real: FaultResponder(real, ["hang"]), spare=1
        )
        return told_at(call.hold().check(), "budget_warning", "budget_exhausted", "provider_switch")

    assert told_with("llm") == [
        ("budget_warning", warned_ms),
        ("budget_exhausted", budget_ms),
        ("provider_switch", budget_ms),
    ]
    assert [at_ms for _, at_ms in told_with("tts")] == [1_200, 1_500, 1_500]


def test_f2_a_recording_with_a_budget_of_its_own_replays_to_the_same_decisions() -> None:
    settings = with_budget("llm", 700)
    call = FaultCall(WAIT, settings=settings, responder=lambda real: FaultResponder(real, ["hang"]), spare=1)
    call.hold()
    (header,) = call.timeline.headers
    assert header["settings"]["providers"]["node_budgets"] == [("llm", 700, 700)]
    kept = json.loads(json.dumps(header))
    replay = Replay(**kernel_arguments(kept))
    for block in call.timeline.blocks:
        replay.feed(block)
    replay.finish()
    assert list(replay.divergences) == []
