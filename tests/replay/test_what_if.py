"""A recorded call under other settings: nothing changes by itself, what is changed shows where it should."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.contracts.ports import Hypothesis
from rspp.evidence.reader import open_recording
from rspp.evidence.writer import EvidenceWriter
from rspp.replay.recorded_call import RecordedCall, read_call
from rspp.replay.trace import Trace, TurnTrace
from rspp.replay.turn_changes import TurnChange, changed, compare_turns
from rspp.replay.what_if import run_what_if
from rspp.tooling.golden import ROOT
from tests.replay.test_audio import FULL, MURMUR, QUESTION, hold
from tests.session.fakes import FakeCaller, FakeResponder, FakeSynthesizer, FakeWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from rspp.contracts.media import SpeechChunk
    from rspp.contracts.ports import Message, ResponseDelta


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
    assert "commit → abort(cancelled)" in second.changes


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
    with pytest.raises(ConfigurationError, match="confirm_ms"):
        run_what_if(call, policy={"confirm_ms": -1})
    with pytest.raises(ConfigurationError, match="no_such_thing"):
        run_what_if(call, policy={"no_such_thing": 1})


def test_a_header_without_settings_is_an_error(call: RecordedCall) -> None:
    with pytest.raises(EvidenceError, match="settings"):
        read_call({"session_id": "x"}, [])


UNKNOWN_LENGTH = ("how long its answer would have been was not recorded",)


@pytest.mark.parametrize("golden", sorted(path.name for path in ROOT.iterdir()))
def test_unchanged_settings_change_no_turn_of_a_golden_recording(golden: str) -> None:
    for stint in open_recording(ROOT / golden).stints:
        found = compared(read_call(stint.header, list(stint.records())))
        assert changed(found) == []
        assert {turn.assumptions for turn in found} <= {(), UNKNOWN_LENGTH}


RULES, SPARE = ["llm", "rules"], ["llm", "llm.1"]
NEW, VOICE = ["llm", "new"], ["tts", "espeak/en-us"]
FAILED = "abort(provider_server_error)"


@pytest.mark.parametrize(
    ("golden", "providers", "ending", "lasted_ms", "assumed"),
    [
        ("f3-provider-failure", {}, "commit", None, ""),
        ("f3-provider-failure", {"max_attempts": 1}, "commit", None, ""),
        ("f3-provider-failure", {"candidates": [SPARE, RULES, VOICE]}, "commit", None, ""),
        ("f3-provider-failure", {"candidates": [RULES, VOICE]}, FAILED, 100, ""),
        (
            "f3-provider-failure",
            {"candidates": [RULES, NEW, VOICE]},
            "commit",
            None,
            "new is taken to answer",
        ),
        ("f3-provider-failure-abort", {}, "abort(provider_overload)", 500, ""),
        ("f3-provider-failure-abort", {"max_attempts": 1}, "abort(provider_overload)", 0, ""),
        (
            "f3-provider-failure-abort",
            {"candidates": [RULES, NEW, VOICE]},
            "abort(provider_overload)",
            500,
            "more often than was recorded",
        ),
    ],
)
def test_attempts_end_as_their_provider_s_were_recorded_to(
    golden: str, providers: dict[str, Any], ending: str, lasted_ms: int | None, assumed: str
) -> None:
    (stint,) = open_recording(ROOT / golden).stints
    trace = run_what_if(read_call(stint.header, list(stint.records())), providers=providers)
    turn = trace.turns[1]
    assert (f"{turn.outcome}({turn.reason})" if turn.reason else turn.outcome) == ending
    assert assumed in " ".join(turn.assumptions)
    assert bool(turn.assumptions) == bool(assumed)
    if lasted_ms is not None:
        assert turn.closed_us - turn.opened_us == lasted_ms * 1000


class FakeThinker(FakeResponder):
    """A language model that thinks before it begins, and again in the middle."""

    def __init__(self, reply: Callable[[Sequence[Message]], str], pauses_s: tuple[float, float]) -> None:
        super().__init__(reply)
        self.delay_s, self.pause_s = pauses_s

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        number = 0
        async for delta in super().respond(history):
            number += 1
            if number == 8:
                await asyncio.sleep(self.pause_s)
            yield delta


def slow_call(root: Path, *, pauses_s: tuple[float, float] = (0.9, 0.0), spares: int = 0) -> RecordedCall:
    """A call whose language model thinks."""
    world = FakeWorld(
        FakeCaller(bursts=[(1_000, 2_000, QUESTION)], hang_up_ms=9_000),
        {QUESTION: Hypothesis(text="tell me all", complete=True)},
        lambda _: "one two three. four five six. seven eight nine. ten eleven twelve.",
    )
    world.responder = FakeThinker(world.reply, pauses_s)
    for _ in range(spares):
        world.spare_responders.append(FakeResponder(world.reply))
    with EvidenceWriter(root) as writer, writer.open("fake", epoch=1) as recorder:
        world.timeline = recorder  # type: ignore[assignment]
        world.hold()
    (stint,) = open_recording(root / "default" / "fake").stints
    return read_call(stint.header, list(stint.records()))


def with_spares(call: RecordedCall, count: int) -> list[list[str]]:
    recorded: list[list[str]] = call.header["settings"]["providers"]["candidates"]
    return [*recorded, *(["llm", f"spare-{number}"] for number in range(count))]


@pytest.mark.parametrize(
    ("spares", "attempt_ms", "later_ms"), [(1, 300, 300), (2, 300, 600), (3, 400, 1_200)]
)
def test_an_attempt_that_gave_nothing_in_the_new_time_is_given_up_and_what_follows_comes_later(
    tmp_path: Path, spares: int, attempt_ms: int, later_ms: int
) -> None:
    # The voice halts in the middle for longer than what it says before.
    call = slow_call(tmp_path, pauses_s=(0.9, 3.0))
    settings = {"candidates": with_spares(call, spares), "attempt_ms": attempt_ms, "warn_ms": 200}
    (change,) = compared(call, providers=settings)
    recorded, replayed = change.recorded, change.replayed
    assert recorded is not None
    assert replayed is not None
    assert recorded.first_output_ms is not None
    assert replayed.first_output_ms == recorded.first_output_ms + later_ms
    assert (replayed.outcome, replayed.heard_ms) == (recorded.outcome, recorded.heard_ms)
    closed_us = run_what_if(call, providers=settings).turns[1].closed_us
    assert abs(closed_us - call.trace.turns[1].closed_us - later_ms * 1_000) <= 40_000
    said = f"is given up after {attempt_ms} ms, and what follows is taken to come as much later"
    assert any(said in assumption for assumption in change.assumptions)


def test_where_no_other_provider_is_left_nobody_is_given_up(tmp_path: Path) -> None:
    call = slow_call(tmp_path)
    assert changed(compared(call, providers={"attempt_ms": 300, "warn_ms": 200})) == []
    trace = run_what_if(call, providers={"attempt_ms": 300, "warn_ms": 200})
    assert trace.turns[1].assumptions == []


@pytest.mark.parametrize("attempt_ms", [300, 900, 1_500, 5_000])
def test_a_first_result_that_comes_in_the_new_time_changes_nothing(tmp_path: Path, attempt_ms: int) -> None:
    call = slow_call(tmp_path, pauses_s=(0.3, 0.7), spares=1)
    ends = (step for step in call.turns[1].steps if step["name"] == "attempt_finished")
    step = next(step for step in ends if step["invocation"] == 1)
    assert (step["took_us"] - step["idle_us"], step["limit_us"]) == (1_000_000, 1_500_000)
    assert step["first_us"] == 300_000
    trace = run_what_if(call, providers={"attempt_ms": attempt_ms, "warn_ms": 200})
    assert trace.turns[1].assumptions == []
    assert changed(compared(call, providers={"attempt_ms": attempt_ms, "warn_ms": 200})) == []


def test_the_time_that_results_wait_for_the_shell_is_not_their_providers() -> None:
    (stint,) = open_recording(ROOT / "room-001-barge-in").stints
    turns = read_call(stint.header, list(stint.records())).turns.values()
    (step,) = (step for turn in turns for step in turn.steps if step.get("idle_us") == 64)
    assert (step["took_us"], step["first_us"]) == (192, 128)


def test_what_a_provider_that_was_given_up_would_have_said_later_is_not_known() -> None:
    (stint,) = open_recording(ROOT / "f2-degraded-language-model").stints
    call = read_call(stint.header, list(stint.records()))
    as_it_was = run_what_if(call).turns[1].assumptions
    found = run_what_if(call, providers={"attempt_ms": 2_000}).turns[1].assumptions
    unknown = "what rules would have given after 1500 ms was not recorded: it is taken to fail then"
    assert unknown in found
    assert unknown not in as_it_was
    sooner = run_what_if(call, providers={"attempt_ms": 400, "warn_ms": 200}).turns[1].assumptions
    assert any(one.startswith("rules is given up after 400 ms") for one in sooner)
    assert unknown not in sooner


class FakeHaltingSynthesizer(FakeSynthesizer):
    """A voice that stops to think in the middle."""

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        number = 0
        async for chunk in super().synthesize(text):
            number += 1
            if number == 8:
                await asyncio.sleep(3.5)
            yield chunk


def test_a_voice_that_halts_after_a_hold_halts_in_the_what_if_too(tmp_path: Path) -> None:
    caller = FakeCaller(bursts=[(1_000, 2_000, QUESTION), (2_600, 2_900, MURMUR)], hang_up_ms=12_000)
    heard = {
        QUESTION: Hypothesis(text="tell me all", complete=True),
        MURMUR: Hypothesis(text="mhm", backchannel=True, complete=True),
    }
    world = FakeWorld(caller, heard, lambda _: "one two three four five six seven eight nine ten")
    world.synthesizer = FakeHaltingSynthesizer()
    with EvidenceWriter(tmp_path) as writer, writer.open("fake", epoch=1) as recorder:
        world.timeline = recorder  # type: ignore[assignment]
        world.hold()
    (stint,) = open_recording(tmp_path / "default" / "fake").stints
    call = read_call(stint.header, list(stint.records()))
    (turn,) = call.trace.turns.values()
    assert (turn.outcome, turn.holds) == ("commit", 1)
    assert turn.closed_us - turn.opened_us > 4_000_000
    assert changed(compared(call)) == []


def test_turns_of_another_clock_are_moved_and_matched_each_once() -> None:
    recorded, other = Trace(), Trace()
    recorded.turns = {1: TurnTrace(1, "utterance", 5_000_000, ""), 2: TurnTrace(2, "text", 9_000_000, "")}
    other.turns = {
        1: TurnTrace(1, "utterance", 100_000, "", 200_000, 300_000),
        2: TurnTrace(2, "utterance", 200_000, ""),
        3: TurnTrace(3, "text", 9_000_000, ""),
    }
    other.shift(5_000_000)
    first = other.turns[1]
    assert (first.opened_us, first.first_output_us, first.closed_us) == (5_100_000, 5_200_000, 5_300_000)
    assert (other.turns[2].first_output_us, other.turns[2].closed_us) == (-1, -1)
    other.match(recorded)
    assert [turn.counterpart for turn in other.turns.values()] == [1, 0, 0]
