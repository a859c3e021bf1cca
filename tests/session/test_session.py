"""The shell around a real kernel, with fakes of known behaviour on all other sides."""

from collections.abc import Sequence

import numpy as np
import pytest

from rspp.contracts.errors import ProviderError
from rspp.contracts.media import OUTPUT_RATE_HZ
from rspp.contracts.ports import Hypothesis, Message
from tests.session.fakes import WORD_SAMPLES, FakeCaller, FakeWorld, voice_of

QUESTION, STOP, MHM, NOISE, PART = 8_001, 8_002, 8_003, 8_004, 8_005
HEARD = {
    QUESTION: Hypothesis("a question", complete=True),
    STOP: Hypothesis("please stop now", complete=True),
    MHM: Hypothesis("mhm", backchannel=True, complete=True),
    PART: Hypothesis("i would like", complete=False),
}
LONG = " ".join(f"w{number}" for number in range(40))


def reply(history: Sequence[Message]) -> str:
    return {"a question": LONG, "please stop now": "stopped.", "i would like a question": "both."}.get(
        history[-1].text, "what?"
    )


def world(bursts: list[tuple[int, int, int]], hang_up_ms: int, **settings: object) -> FakeWorld:
    return FakeWorld(FakeCaller(bursts, hang_up_ms), HEARD, reply, settings)


def ask(at_ms: int = 500) -> tuple[int, int, int]:
    return (at_ms, at_ms + 800, QUESTION)


def test_a_question_is_answered_once_and_whole() -> None:
    call = world([ask()], 14_000)
    session = call.hold()
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(LONG))
    assert [message.text for message in session.history] == ["a question", LONG]
    assert call.timeline.signals("turn_open", "commit", "abort", "close") == [
        ("turn_open", ""),
        ("commit", ""),
        ("close", ""),
    ]
    assert call.caller.states == ["listening", "thinking", "speaking", "listening"]


def test_a_greeting_comes_first() -> None:
    call = world([], 3_000, greeting="Hello there.")
    call.hold()
    assert call.caller.transcripts == [(False, "Hello there.")]


@pytest.mark.conformance("M-06", "CF-001")
def test_an_interruption_is_a_fence_and_history_keeps_what_was_heard() -> None:
    call = world([ask(), (4_000, 5_200, STOP)], 9_000)
    session = call.hold()
    old = call.caller.heard_between(1_400, 5_300)
    spoken = old[old != 0]
    assert np.array_equal(spoken, voice_of(LONG)[: len(spoken)])
    assert not call.caller.heard_between(4_080, 5_200).any()
    words = len(spoken) // WORD_SAMPLES
    assert [message.text for message in session.history] == [
        "a question",
        " ".join(f"w{number}" for number in range(words)),
        "please stop now",
        "stopped.",
    ]
    assert call.timeline.signals("barge_in", "abort", "close", "playback_cancelled")[0][0] == "barge_in"
    assert ("abort", "cancelled") in call.timeline.signals("abort")


@pytest.mark.parametrize("length_ms", [40, 100, 200, 400, 600])
@pytest.mark.parametrize("start_ms", [4_000, 4_010, 4_030])
def test_a_backchannel_costs_no_sample_and_repeats_none(length_ms: int, start_ms: int) -> None:
    call = world([ask(), (start_ms, start_ms + length_ms, MHM)], 16_000)
    session = call.hold()
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(LONG))
    gap = np.flatnonzero(call.caller.heard_between(start_ms, start_ms + 1_500) == 0)
    assert 0 < len(gap) <= (length_ms + 350) * OUTPUT_RATE_HZ // 1000
    assert [message.text for message in session.history] == ["a question", LONG]
    assert call.timeline.signals("abort") == []


def test_noise_costs_at_most_300_ms() -> None:
    call = world([ask(), (4_000, 4_200, NOISE)], 16_000)
    call.hold()
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(LONG))
    gap = np.flatnonzero(call.caller.heard_between(4_000, 5_500) == 0)
    assert 0 < len(gap) <= 300 * OUTPUT_RATE_HZ // 1000


def test_with_interruptions_off_the_agent_finishes() -> None:
    call = world([ask(), (4_000, 5_200, STOP)], 14_000, interruption={"enabled": False})
    call.hold()
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(LONG))


def test_an_unfinished_sentence_is_waited_for_and_answered_once() -> None:
    call = world([(500, 1_300, PART), (2_200, 3_000, QUESTION)], 7_000)
    call.heard_as[QUESTION] = Hypothesis("i would like a question", complete=True)
    try:
        session = call.hold()
    finally:
        call.heard_as[QUESTION] = Hypothesis("a question", complete=True)
    assert [message.text for message in session.history] == ["i would like a question", "both."]
    assert not call.caller.heard_between(1_300, 3_000).any()


def test_an_unfinished_sentence_is_answered_after_the_longest_wait() -> None:
    call = world([(500, 1_300, PART)], 7_000)
    call.hold()
    assert not call.caller.heard_between(0, 1_300 + 1_450).any()
    assert call.caller.heard_between(1_300 + 1_450, 1_300 + 1_700).any()


def test_speech_before_the_first_sound_keeps_the_stale_reply_silent() -> None:
    call = world([ask(), (1_900, 2_900, STOP)], 8_000)
    call.responder.delay_s = 0.6
    session = call.hold()
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of("stopped."))
    assert [message.text for message in session.history] == ["a question please stop now", "what?"] or next(
        message.text for message in session.history
    ).startswith("a question")


def test_a_chat_text_interrupts_and_is_answered() -> None:
    call = world([ask()], 8_000)
    call.caller.at[4_000] = lambda: call.session.on_text("please stop now")  # type: ignore[union-attr]
    session = call.hold()
    assert [message.text for message in session.history][-2:] == ["please stop now", "stopped."]
    assert ("abort", "cancelled") in call.timeline.signals("abort")


def test_a_chat_text_from_before_the_start_is_answered_and_cuts_the_greeting() -> None:
    call = world([], 8_000, greeting=LONG)
    call.early_texts = ["please stop now"]
    session = call.hold()
    assert [message.text for message in session.history][-2:] == ["please stop now", "stopped."]


def test_the_reply_may_hang_up_once_it_was_heard() -> None:
    call = world([ask()], 20_000)
    call.responder._reply = lambda history: "bye now. <hang_up>"
    session = call.hold()
    assert session.reason == "hang_up"
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of("bye now."))


def test_a_failing_responder_ends_the_turn_and_the_caller_is_told() -> None:
    call = world([ask(), (6_000, 6_800, STOP)], 12_000, failure_notice="sorry again.")
    call.responder.failure = ProviderError("no", reason="provider_server_error")

    def mend() -> None:
        call.responder.failure = None

    call.caller.at[5_000] = mend
    session = call.hold()
    assert ("abort", "provider_server_error") in call.timeline.signals("abort")
    assert (False, "sorry again.") in call.caller.transcripts
    assert session.history[-1].text == "what?" or session.history[-1].text == "stopped."


def test_a_failing_voice_still_tells_the_caller() -> None:
    call = world([ask()], 6_000, failure_notice="sorry again.")

    def fail() -> None:
        call.synthesizer.failure = ProviderError("no voice")

    call.caller.at[400] = fail
    call.hold()
    assert ("abort", "provider_failure") in call.timeline.signals("abort")
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of("sorry again."))


def test_a_bug_in_a_provider_ends_its_turn_and_not_the_call() -> None:
    call = world([ask()], 9_000, failure_notice="sorry again.")
    call.responder._reply = lambda history: [][0]
    session = call.hold()
    assert session.reason == "caller_left"
    assert ("abort", "node_timeout_or_failure") in call.timeline.signals("abort")
    assert (False, "sorry again.") in call.caller.transcripts


def test_a_responder_that_hangs_in_the_middle_is_given_up() -> None:
    call = world([ask()], 14_000, failure_notice="sorry again.", budget={"stall_ms": 1_000})
    call.responder.hang_after_words = 3
    call.responder._reply = lambda history: "one two. three four five"
    call.hold()
    assert ("abort", "node_timeout_or_failure") in call.timeline.signals("abort")
    assert call.responder.closed == 1
    assert (False, "sorry again.") in call.caller.transcripts


def test_a_recogniser_that_hangs_does_not_end_the_call() -> None:
    call = world([ask()], 20_000, failure_notice="sorry again.")
    call.recognition.hang = True
    session = call.hold()
    assert session.reason == "caller_left"
    assert (False, "sorry again.") in call.caller.transcripts


def test_a_lost_lease_silences_at_once_and_leaves() -> None:
    call = world([ask()], 14_000)
    call.caller.at[4_000] = lambda: call.session._lost("lease_deauthorized")  # type: ignore[union-attr]
    session = call.hold()
    assert session.reason == "lease_deauthorized"
    assert not call.caller.heard_between(4_010, call.caller.now_ms).any()
    assert call.timeline.signals("deauthorized_drain", "abort", "close")[-3:] == [
        ("deauthorized_drain", "authority_revoked_in_turn"),
        ("abort", "authority_loss"),
        ("close", ""),
    ]


def test_draining_finishes_the_running_turn() -> None:
    call = world([ask()], 30_000)
    call.caller.at[4_000] = lambda: call.session.drain()  # type: ignore[union-attr]
    session = call.hold()
    assert session.reason == "drained"
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(LONG))


@pytest.mark.conformance("RD-001")
def test_two_equal_calls_are_equal_to_the_last_record() -> None:
    def once() -> list[dict[str, object]]:
        call = world([ask(), (4_000, 5_200, STOP)], 9_000)
        call.hold()
        return call.timeline.records

    assert once() == once()


def test_at_most_two_kernel_crossings_per_frame_of_audio() -> None:
    call = world([ask()], 14_000)
    session = call.hold()
    inbound = 14_000 / 32
    outbound = len(voice_of(LONG)) / (OUTPUT_RATE_HZ // 50)
    decisions_and_housekeeping = 2 * 14_000 / 100 + 100
    assert session.kernel.crossings <= 2 * (inbound + outbound) + decisions_and_housekeeping
