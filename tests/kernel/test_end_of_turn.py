"""Utterances and the end of the caller's turn."""

from __future__ import annotations

from rspp._kernel import (
    ContinueUtterance,
    EndUtterance,
    OpenTurn,
    ProbeUtterance,
    StartUtterance,
)
from tests.kernel.fake_shell import FakeRecogniser, FakeShell, make_policy


def listening(words: int, *, complete: bool = False, backchannel: bool = False) -> FakeShell:
    recogniser = FakeRecogniser()
    recogniser.hears(words, complete=complete, backchannel=backchannel)
    shell = FakeShell(recogniser=recogniser)
    shell.run(320)
    return shell


def silence_before_answer(shell: FakeShell) -> int:
    """Milliseconds from the probe's pause begin (90 ms before it) to the turn."""
    return (shell.at(OpenTurn) - shell.at(ProbeUtterance)) // 1000 + 90


def test_a_complete_sentence_is_answered_after_the_short_wait() -> None:
    shell = listening(4, complete=True)
    shell.speak(1_000)
    shell.run(400)
    assert silence_before_answer(shell) == 180
    assert [effect.used for effect in shell.effects(EndUtterance)] == [True]
    opened = shell.effects(OpenTurn)[0]
    assert (opened.intent, opened.reference, opened.turn_id) == ("utterance", 1, "turn-1-1")


def test_an_incomplete_one_is_waited_for() -> None:
    shell = listening(2)
    shell.speak(600)
    shell.run(1_450)
    assert shell.intents() == []
    shell.run(100)
    assert silence_before_answer(shell) == 1_500


def test_a_thinking_pause_of_900_ms_is_answered_once_after_its_end() -> None:
    shell = listening(3)
    shell.speak(700)
    shell.run(900)
    assert shell.recogniser is not None
    shell.recogniser.hears(7, complete=True)
    shell.speak(700)
    shell.run(2_000)
    assert len(shell.effects(StartUtterance)) == 1
    assert len(shell.effects(ContinueUtterance)) == 1
    assert len(shell.effects(ProbeUtterance)) == 2
    assert shell.intents() == ["utterance"]


def test_a_hypothesis_from_before_the_pause_is_stale() -> None:
    shell = listening(0)
    shell.recogniser = None
    shell.speak(400)
    shell.run(200)
    shell.speak(200)
    shell.run(200)
    shell.do(shell.kernel.transcript(shell.now_us, 1, 0, 5, False, True, True))
    shell.run(500)
    assert shell.intents() == []
    shell.transcript(5, complete=True, probe=True)
    assert shell.intents() == ["utterance"]


def test_a_pause_too_short_to_probe_leaves_the_hypothesis_alone() -> None:
    shell = listening(5, complete=True)
    shell.speak(320)
    shell.run(32)
    shell.speak(320)
    assert not shell.effects(ContinueUtterance)
    assert not shell.effects(ProbeUtterance)


def test_an_answer_that_comes_late_ends_the_utterance_at_once() -> None:
    shell = listening(5, complete=True)
    assert shell.recogniser is not None
    shell.recogniser.delay_us = 600_000
    shell.speak(500)
    shell.run(1_000)
    assert shell.at(OpenTurn) - shell.at(ProbeUtterance) == 600_000


def test_a_recogniser_that_never_answers_is_given_up() -> None:
    shell = FakeShell()
    shell.speak(500)
    shell.transcript(3)
    shell.run(3_000)
    assert silence_before_answer(shell) == 2_500
    assert shell.intents() == ["utterance"]


def test_short_noise_without_words_is_dropped() -> None:
    shell = listening(0)
    shell.speak(200)
    shell.run(1_000)
    assert shell.intents() == []
    assert [effect.used for effect in shell.effects(EndUtterance)] == [False]


def test_long_speech_without_words_is_asked_about() -> None:
    shell = listening(0)
    shell.speak(1_000)
    shell.run(1_000)
    opened = shell.effects(OpenTurn)
    assert [(turn.intent, turn.reference) for turn in opened] == [("unrecognised", 1)]
    assert [effect.used for effect in shell.effects(EndUtterance)] == [False]


def test_an_interruption_without_words_is_asked_about() -> None:
    shell = listening(0)
    shell.open_text(playing=5_000)
    shell.run(500)
    shell.speak(800)
    shell.run(1_000)
    assert shell.intents() == ["text", "unrecognised"]


def test_a_backchannel_alone_is_an_answer_when_nobody_speaks() -> None:
    shell = listening(1, backchannel=True, complete=True)
    shell.speak(300)
    shell.run(500)
    assert shell.intents() == ["utterance"]


def test_the_longest_utterance_is_answered_as_far_as_it_was_heard() -> None:
    recogniser = FakeRecogniser()
    recogniser.hears(9)
    shell = FakeShell(make_policy(max_utterance_ms=2_000), recogniser=recogniser)
    shell.speak(2_200)
    assert shell.at(ProbeUtterance) - shell.at(StartUtterance) == 2_000_000
    assert shell.at(OpenTurn) - shell.at(ProbeUtterance) == recogniser.delay_us


def test_the_longest_utterance_waits_half_a_second_for_its_words() -> None:
    shell = FakeShell(make_policy(max_utterance_ms=2_000))
    shell.speak(1_000)
    shell.transcript(3)
    shell.speak(1_700)
    assert shell.at(OpenTurn) - shell.at(StartUtterance) == 2_500_000


def test_lost_audio_is_silence() -> None:
    shell = listening(4, complete=True)
    shell.speak(320)
    heard = shell.now_us
    shell._next_window += 5_000_000
    shell.run(1_000)
    assert shell.intents() == ["utterance"]
    assert shell.at(OpenTurn) - heard <= 600_000


def test_a_muted_caller_has_stopped_speaking() -> None:
    shell = listening(4, complete=True)
    shell.speak(320)
    muted = shell.now_us
    shell._next_window += 5_000_000
    shell.do(shell.kernel.connection(shell.now_us, "muted", ""))
    shell.run(300)
    assert shell.intents() == ["utterance"]
    assert shell.at(OpenTurn) - muted <= 180_000


def test_the_caller_who_goes_on_while_the_agent_thinks_hears_nothing_stale() -> None:
    shell = listening(4, complete=True)
    shell.speak(500)
    shell.run(250)
    assert shell.kernel.turn == 1
    shell.play(2_000)
    shell.playing = 0
    shell.speak(100)
    assert shell.kernel.held
    shell.speak(900)
    shell.run(400)
    assert shell.intents() == ["utterance", "utterance"]
    assert not shell.passed
