"""A recorded call under other settings: nothing changes by itself, what is changed shows where it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rspp.contracts.errors import EvidenceError
from rspp.replay.recorded_call import RecordedCall, read_call
from rspp.replay.turn_changes import TurnChange, changed, compare_turns
from rspp.replay.what_if import run_what_if
from tests.replay.test_audio import FULL, hold

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> RecordedCall:
    """Turn 1 is interrupted, turn 2 goes on after an "mhm"."""
    root: Path = tmp_path_factory.mktemp("what-if")
    _, recording = hold(root, FULL)
    stint = recording.stints[0]
    return read_call(stint.header, list(stint.records()))


def compared(call: RecordedCall, **changes: dict[str, Any]) -> tuple[TurnChange, ...]:
    trace = run_what_if(call, **changes)
    return compare_turns(call.trace, trace, int(call.header["created_us"]))


def test_the_recorded_turns_are_read_as_they_were(call: RecordedCall) -> None:
    first, second = call.trace.turns.values()
    assert (first.intent, first.outcome, first.reason, first.holds) == ("utterance", "abort", "cancelled", 1)
    assert (second.intent, second.outcome, second.holds) == ("utterance", "commit", 1)
    assert call.turns[2].whole
    assert call.turns[2].generated == 72_000
    assert call.ended == "caller_left"


def test_unchanged_settings_change_no_turn(call: RecordedCall) -> None:
    assert changed(compared(call)) == []


def test_without_interruptions_the_answer_goes_on(call: RecordedCall) -> None:
    first, *_ = compared(call, policy={"interruptions": False})
    assert first.replayed is not None
    assert first.recorded is not None
    assert first.recorded.reason == "cancelled"
    assert first.replayed.reason != "cancelled"
    assert first.replayed.heard_ms > first.recorded.heard_ms + 1_000
    assert "held 1 → 0 times" in first.changes
    assert first.assumptions == ("how long its answer would have been was not recorded",)


def test_a_shorter_confirmation_makes_an_interruption_of_the_murmur(call: RecordedCall) -> None:
    changes = compared(call, policy={"confirm_ms": 200})
    second = changes[1]
    assert second.recorded is not None
    assert second.replayed is not None
    assert (second.recorded.outcome, second.replayed.outcome) == ("commit", "abort")
    assert second.replayed.reason == "cancelled"


def test_a_longer_wait_moves_the_opening_by_that_much(call: RecordedCall) -> None:
    before = call.header["settings"]["policy"]["complete_wait_ms"]
    for change in compared(call, policy={"complete_wait_ms": before + 400}):
        assert change.recorded is not None
        assert change.replayed is not None
        assert 380 <= change.replayed.opened_ms - change.recorded.opened_ms <= 420


def test_another_plan_has_another_hash_and_changes_no_turn(call: RecordedCall) -> None:
    trace = run_what_if(call, plan={"execution_profile": "other"})
    assert {turn.plan_hash for turn in trace.turns.values()}.isdisjoint(
        turn.plan_hash for turn in call.trace.turns.values()
    )
    assert changed(compare_turns(call.trace, trace, int(call.header["created_us"]))) == []


def test_a_value_that_no_kernel_takes_is_an_error_that_names_it(call: RecordedCall) -> None:
    with pytest.raises(EvidenceError, match="confirm_ms"):
        run_what_if(call, policy={"confirm_ms": -1})
    with pytest.raises(EvidenceError, match="no_such_thing"):
        run_what_if(call, policy={"no_such_thing": 1})


def test_a_header_without_settings_is_an_error(call: RecordedCall) -> None:
    with pytest.raises(EvidenceError, match="settings"):
        read_call({"session_id": "x"}, [])
