"""Two-stage interruption: hold at the onset, then confirm or release."""

from __future__ import annotations

import pytest

from rspp._kernel import (
    HELD,
    CancelTurn,
    EndUtterance,
    HoldOutput,
    OpenTurn,
    ProbeUtterance,
    ResumeOutput,
    StartUtterance,
    TurnPolicy,
)
from tests.kernel.fake_shell import FakeRecogniser, FakeShell, make_policy


def speaking(recogniser: FakeRecogniser | None = None, policy: TurnPolicy | None = None) -> FakeShell:
    """A shell one second into a ten-second answer."""
    shell = FakeShell(policy, recogniser=recogniser)
    shell.open_text(playing=10_000)
    shell.run(1_000)
    assert shell.passed
    return shell


def test_the_voice_is_held_with_the_first_window_of_speech() -> None:
    shell = speaking()
    before = len(shell.passed)
    onset = shell.now_us
    shell.speak(100)
    assert shell.at(HoldOutput) - onset <= 32_000
    held_from = shell.at(HoldOutput)
    assert all(moment <= held_from for moment, _, _ in shell.passed[before:])
    kinds = [type(effect) for moment, effect in shell.log if moment == held_from]
    assert kinds == [HoldOutput, StartUtterance]
    assert shell.kernel.held


def test_lasting_speech_interrupts_after_confirm_ms() -> None:
    shell = speaking()
    shell.speak(1_500)
    lasted = shell.at(CancelTurn) - shell.at(HoldOutput)
    assert 700_000 <= lasted < 700_000 + 32_000
    assert shell.endings() == [(1, "abort", "cancelled")]
    assert not shell.kernel.held


def test_two_words_interrupt_before_that() -> None:
    shell = speaking()
    shell.speak(300)
    shell.transcript(1)
    assert shell.kernel.turn == 1
    shell.transcript(2)
    assert shell.endings() == [(1, "abort", "cancelled")]


def test_an_interrupting_sentence_is_answered_after_its_end() -> None:
    recogniser = FakeRecogniser()
    recogniser.hears(4, complete=True)
    shell = speaking(recogniser)
    shell.speak(1_200)
    last_speech = shell.now_us
    shell.run(1_000)
    assert shell.intents() == ["text", "utterance"]
    assert 150_000 <= shell.at(OpenTurn, 1) - last_speech <= 250_000
    assert shell.effects(EndUtterance) == [shell.effects(EndUtterance)[0]]
    assert shell.effects(EndUtterance)[0].used


def test_a_short_complete_sentence_interrupts_when_the_probe_answers() -> None:
    recogniser = FakeRecogniser(delay_ms=30)
    recogniser.hears(1, complete=True)
    shell = speaking(recogniser)
    shell.speak(400)
    shell.run(150)
    assert shell.endings() == [(1, "abort", "cancelled")]
    assert shell.holds() == (1, 0, 1)


@pytest.mark.parametrize("length_ms", [400, 500, 600])
def test_a_listeners_mhm_costs_its_length_and_little_more(length_ms: int) -> None:
    recogniser = FakeRecogniser()
    recogniser.hears(1, backchannel=True, complete=True)
    shell = speaking(recogniser)
    began = shell.now_us
    shell.speak(length_ms)
    shell.run(2_500)
    assert shell.holds() == (1, 1, 0)
    assert shell.at(ResumeOutput) - began <= (length_ms + 350) * 1000
    assert [effect.used for effect in shell.effects(EndUtterance)] == [False]
    assert shell.kernel.turn == 1


@pytest.mark.parametrize("length_ms", [40, 100, 200])
def test_a_cough_costs_at_most_300_ms_beyond_its_own_length(length_ms: int) -> None:
    shell = speaking(FakeRecogniser())
    shell.speak(length_ms)
    shell.run(1_000)
    assert shell.holds() == (1, 1, 0)
    assert shell.at(ResumeOutput) - shell.at(HoldOutput) <= (length_ms + 200) * 1000


def test_a_click_costs_at_most_300_ms() -> None:
    shell = speaking(FakeRecogniser())
    shell.speak(64)
    shell.run(1_000)
    assert shell.at(ResumeOutput) - shell.at(HoldOutput) <= 300_000


def test_no_frame_is_lost_or_repeated_over_a_hold() -> None:
    recogniser = FakeRecogniser()
    recogniser.hears(1, backchannel=True)
    shell = FakeShell(recogniser=recogniser)
    shell.open_text(playing=4_000)
    shell.run(1_000)
    shell.speak(500)
    shell.run(6_000)
    assert [sequence for _, _, sequence in shell.passed] == list(range(200))
    assert shell.endings() == [(1, "commit", "")]


def test_an_unanswered_probe_delays_the_release_by_at_most_100_ms() -> None:
    shell = speaking()
    shell.speak(400)
    released_after = []
    shell.run(1_000)
    released_after.append(shell.at(ResumeOutput) - shell.at(ProbeUtterance))
    # The probe is sent after 90 ms of silence, the release waits 200 + 100 ms.
    assert released_after == [210_000]


def test_an_unfinished_word_is_waited_for_and_then_the_agent_finishes() -> None:
    recogniser = FakeRecogniser()
    recogniser.hears(1)
    shell = speaking(recogniser)
    shell.speak(400)
    shell.run(2_000)
    assert shell.at(ResumeOutput) - shell.at(ProbeUtterance) == 210_000
    assert shell.intents() == ["text"]
    assert not any(isinstance(effect, CancelTurn) for _, effect in shell.log)


def test_words_after_a_release_still_interrupt() -> None:
    shell = speaking()
    shell.speak(300)
    shell.run(500)
    assert shell.holds() == (1, 1, 0)
    shell.transcript(3, probe=True)
    assert shell.holds() == (1, 1, 1)


def test_bursts_within_one_hold_count_together() -> None:
    shell = speaking()
    for _ in range(5):
        shell.speak(128)
        shell.run(64)
    assert shell.holds() == (1, 0, 1)


def test_bursts_after_a_release_begin_anew() -> None:
    shell = speaking(FakeRecogniser())
    for _ in range(6):
        shell.speak(160)
        shell.run(400)
    assert shell.holds() == (6, 6, 0)


def test_a_hold_before_the_first_output_keeps_all_of_it_back() -> None:
    shell = FakeShell()
    shell.open_text()
    shell.speak(64)
    assert shell.kernel.held
    assert shell.kernel.frame(shell.now_us, 1, 1, 0, 480) == HELD
    shell.speak(900)
    assert shell.endings() == [(1, "abort", "cancelled")]
    assert not shell.passed


def test_three_words_may_be_asked_for() -> None:
    recogniser = FakeRecogniser()
    shell = speaking(recogniser, make_policy(confirm_words=3, confirm_ms=5_000))
    recogniser.hears(1)
    shell.speak(900)
    shell.run(400)
    assert shell.holds() == (1, 1, 0)
    shell.speak(900)
    shell.transcript(3)
    assert shell.holds() == (2, 1, 1)


def test_interruptions_can_be_switched_off() -> None:
    recogniser = FakeRecogniser()
    recogniser.hears(4, complete=True)
    shell = speaking(recogniser, make_policy(interruptions=False))
    shell.speak(1_500)
    shell.run(2_000)
    assert shell.holds() == (0, 0, 0)
    assert shell.intents() == ["text"]
    assert [effect.used for effect in shell.effects(EndUtterance)] == [False]
    shell.open_text()
    assert shell.endings() == [(1, "abort", "cancelled")]


def test_a_text_interrupts_speech_and_is_answered() -> None:
    shell = speaking()
    shell.open_text()
    assert shell.intents() == ["text", "text"]
    assert shell.endings() == [(1, "abort", "cancelled")]


def test_an_answer_that_ends_under_a_hold_commits_with_the_release() -> None:
    shell = FakeShell(recogniser=FakeRecogniser())
    shell.open_text(playing=500)
    shell.run(300)
    shell.speak(64)
    shell.do(shell.kernel.generation_finished(shell.now_us, 1))
    shell.playing = 0
    assert shell.endings() == []
    shell.run(1_000)
    assert shell.holds() == (1, 1, 0)
    assert shell.endings() == [(1, "commit", "")]


def test_nobody_starts_to_talk_over_a_caller_who_is_speaking() -> None:
    shell = FakeShell()
    shell.speak(320)
    shell.open_text()
    assert shell.kernel.held
    shell.speak(500)
    assert shell.kernel.turn == 1
    shell.speak(400)
    assert shell.endings() == [(1, "abort", "cancelled")]
