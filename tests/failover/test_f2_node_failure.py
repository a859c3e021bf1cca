"""F2: a node of a turn hangs, raises, or gives nothing within its budget."""

from __future__ import annotations

import numpy as np
import pytest

from tests.failover.faults import ASK, FaultCall, FaultResponder, fault_after

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
