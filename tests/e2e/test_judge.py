"""The judge must see what went wrong in a call, not only what went right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from rspp.tooling.call_judge import check_demo, figures_of, judge
from rspp.tooling.demo_loopback import demo_over_loopback

if TYPE_CHECKING:
    from rspp.tooling.demo import Outcome
    from rspp.tooling.room_call import CallResult


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return demo_over_loopback(tmp_path_factory.mktemp("call"))


def heard_instead(call: CallResult, begin_ms: float, end_ms: float, value: int | None) -> CallResult:
    """The same call with the agent's voice silenced (or a loud one put there) for a time."""
    heard = call.recording.heard.copy()
    first, last = (int(at * call.recording.rate_hz / 1000) for at in (begin_ms, end_ms))
    heard[first:last] = 0 if value is None else np.resize([value, -value], last - first)
    return replace(call, recording=replace(call.recording, heard=heard))


def failed(call: CallResult, outcome: Outcome) -> list[str]:
    return [check.title for check in check_demo(call, outcome.story) if not check.passed]


def at(outcome: Outcome, name: str) -> tuple[float, float]:
    (step, *_) = outcome.call.named(name)
    return outcome.call.recording.ms(step.begin), outcome.call.recording.ms(step.end)


def test_a_call_that_went_well_has_no_failures(outcome: Outcome) -> None:
    assert outcome.failures == []


def test_a_greeting_that_was_not_heard_is_seen(outcome: Outcome) -> None:
    begin, _ = at(outcome, "question")
    assert "the greeting was heard" in failed(heard_instead(outcome.call, 0, begin, None), outcome)


def test_an_answer_that_was_not_heard_is_seen(outcome: Outcome) -> None:
    _, end = at(outcome, "question")
    call = heard_instead(outcome.call, end, end + 4500, None)
    assert "every question was answered" in failed(call, outcome)
    assert "answer" in judge(call).missed


def test_an_agent_that_speaks_on_through_an_interruption_is_seen(outcome: Outcome) -> None:
    begin, end = at(outcome, "interruption")
    call = heard_instead(outcome.call, begin, end + 100, 8000)
    assert "the interrupted answer fell silent and was given up" in failed(call, outcome)
    assert "silence" in judge(call).missed


def test_a_voice_in_the_thinking_pause_is_seen(outcome: Outcome) -> None:
    _, end = at(outcome, "broken")
    call = heard_instead(outcome.call, end + 400, end + 600, 8000)
    assert any(title.startswith("a thinking pause") for title in failed(call, outcome))


def test_an_answer_that_never_goes_on_after_a_murmur_is_seen(outcome: Outcome) -> None:
    begin, _ = at(outcome, "backchannel")
    call = heard_instead(outcome.call, begin + 100, outcome.call.recording.length_ms, None)
    assert any("went on with the same answer" in title for title in failed(call, outcome))


def test_a_long_silence_after_a_murmur_fails_its_gate(outcome: Outcome) -> None:
    begin, end = at(outcome, "backchannel")
    call = heard_instead(outcome.call, begin + 100, end + 500, None)
    figures = {figure.key: figure for figure in figures_of(judge(call), outcome.story, 90, "floor", needed=1)}
    assert figures["backchannel"].failures() != []


def test_words_that_were_not_understood_are_seen(outcome: Outcome) -> None:
    turn = next(turn for turn in outcome.story.ordered if turn.caller_text)
    said, turn.caller_text = turn.caller_text, "something else"
    try:
        assert "every sentence was understood as it was said" in failed(outcome.call, outcome)
    finally:
        turn.caller_text = said


def test_a_call_that_was_cut_is_seen(outcome: Outcome) -> None:
    call = replace(outcome.call, outcome="disconnected: SERVER_SHUTDOWN")
    assert "the caller carried its script out and hung up" in failed(call, outcome)


def test_missing_records_are_seen(outcome: Outcome) -> None:
    outcome.story.gaps = 3
    try:
        assert "the timeline is whole" in failed(outcome.call, outcome)
    finally:
        outcome.story.gaps = 0
