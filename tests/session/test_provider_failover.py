"""A provider fails in the middle of a call: another takes over within the turn, as the kernel decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rspp._kernel import Replay
from rspp.contracts.errors import ProviderError
from rspp.contracts.media import SpeechChunk
from rspp.contracts.ports import Hypothesis, Message
from rspp.replay.inputs import kernel_arguments
from tests.session.fakes import FakeCaller, FakeResponder, FakeSynthesizer, FakeWorld, voice_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rspp.contracts.ports import ResponseDelta

QUESTION = 8_001
HEARD = {QUESTION: Hypothesis("a question", complete=True)}
ANSWER = "first part here. second part there."
DEGRADE = ("retry", "provider_switch", "degrade", "fallback")
NETWORK_VOICE = {"provider": "openai", "model": "loud", "api_key_env": ""}
SIGNALS = ("provider_error", "circuit_event", "provider_switch", "commit", "abort")


class FlakyResponder(FakeResponder):
    """Fails its first calls, each after ``after_words`` words."""

    def __init__(self, failures: list[ProviderError], after_words: int = 0) -> None:
        super().__init__(lambda history: ANSWER)
        self._failures = failures
        self._after_words = after_words
        self.calls = 0

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        self.calls += 1
        spoken = 0
        async for delta in super().respond(history):
            if self._failures and spoken == self._after_words:
                raise self._failures.pop(0)
            spoken += 1
            yield delta


class FlakySynthesizer(FakeSynthesizer):
    """Fails from the call of that number on, before or after its first word."""

    def __init__(self, from_call: int, *, after_first_word: bool = False) -> None:
        super().__init__()
        self._from_call = from_call
        self._after_first_word = after_first_word
        self.calls = 0

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        self.calls += 1
        failing = self.calls >= self._from_call
        if failing and not self._after_first_word:
            raise ProviderError("no voice", outcome="blocked", reason="provider_client_error")
        async for chunk in super().synthesize(text):
            yield chunk
            if failing:
                raise ProviderError("broken off", retryable=True, reason="provider_transport_error")


def server_error() -> ProviderError:
    return ProviderError("no", retryable=True, reason="provider_server_error")


def refusal() -> ProviderError:
    return ProviderError("no", outcome="blocked", reason="provider_auth_or_policy_block")


def world(
    bursts: Sequence[tuple[int, int, int]] = ((500, 1_300, QUESTION),),
    hang_up_ms: int = 9_000,
    **settings: object,
) -> FakeWorld:
    return FakeWorld(FakeCaller(bursts, hang_up_ms), HEARD, lambda history: ANSWER, dict(settings))


def attempts(call: FakeWorld) -> list[tuple[Any, ...]]:
    return [
        (record["modality"], record["attempt"], record["outcome"], record["retry_decision"])
        for record in call.timeline.records
        if record["kind"] == "provider_attempt"
    ]


def voice(call: FakeWorld) -> Any:
    heard = call.caller.voice
    return heard[heard != 0]


def whole(*segments: str) -> Any:
    return np.concatenate([voice_of(segment) for segment in segments])


ALL = whole("first part here.", "second part there.")


def test_a_refusing_responder_is_replaced_within_the_turn() -> None:
    call = world()
    call.responder = FlakyResponder([refusal()])
    call.spare_responders = [FakeResponder(lambda history: ANSWER)]
    session = call.hold()
    assert np.array_equal(voice(call), ALL)
    assert call.timeline.signals(*SIGNALS) == [
        ("provider_error", "provider_auth_or_policy_block"),
        ("provider_switch", "provider_auth_or_policy_block"),
        ("commit", ""),
    ]
    assert [message.text for message in session.history] == ["a question", ANSWER]


def test_what_a_failed_attempt_wanted_to_do_is_not_done() -> None:
    call = world()
    call.responder = FlakyResponder([server_error()], after_words=1)
    call.responder._reply = lambda history: f"<hang_up> {ANSWER}" if responder.calls == 1 else ANSWER
    responder = call.responder
    session = call.hold()
    assert responder.calls == 2
    assert np.array_equal(voice(call), ALL)
    assert session.reason == "caller_left"


def test_a_bad_moment_is_retried_at_the_same_responder() -> None:
    call = world()
    responder = FlakyResponder([server_error()])
    call.responder = responder
    call.spare_responders = [FakeResponder(lambda history: "not needed.")]
    call.hold()
    assert np.array_equal(voice(call), ALL)
    assert responder.calls == 2
    assert [attempt for attempt in attempts(call) if attempt[0] == "llm"] == [
        ("llm", 1, "infrastructure_failure", "retry"),
        ("llm", 2, "success", "none"),
    ]


def test_what_a_failed_attempt_began_to_write_is_void() -> None:
    call = world()
    call.responder = FlakyResponder([server_error()], after_words=2)
    call.hold()
    assert np.array_equal(voice(call), ALL)


def test_a_responder_that_hangs_is_left_for_the_next_in_time() -> None:
    call = world()
    call.responder.delay_s = 1_000.0
    call.spare_responders = [FakeResponder(lambda history: ANSWER)]
    call.hold()
    assert np.array_equal(voice(call), ALL)
    assert ("provider_error", "provider_timeout") in call.timeline.signals("provider_error")
    assert call.caller.heard_between(1_460 + 1_500, 1_460 + 1_800).any()
    assert not call.caller.heard_between(0, 1_460 + 1_480).any()


def test_a_voice_that_fails_between_two_sentences_is_replaced() -> None:
    call = world()
    call.synthesizer = FlakySynthesizer(from_call=2)
    call.spare_synthesizers = [FakeSynthesizer()]
    call.hold()
    assert np.array_equal(voice(call), ALL)
    assert ("provider_switch", "provider_client_error") in call.timeline.signals("provider_switch")


def test_words_that_were_heard_are_not_said_again() -> None:
    call = world(failure_notice="sorry.")
    call.synthesizer = FlakySynthesizer(from_call=2, after_first_word=True)
    spare = FlakySynthesizer(from_call=99)
    call.spare_synthesizers = [spare]
    call.hold()
    assert ("abort", "provider_transport_error") in call.timeline.signals("abort")
    assert call.timeline.signals("provider_switch") == []


@pytest.mark.parametrize("count", [1, 3, 7])
def test_g_17_no_more_candidates_than_the_bound_and_no_more_than_two_attempts(count: int) -> None:
    call = world(failure_notice="")
    responders = [FlakyResponder([server_error() for _ in range(9)]) for _ in range(count)]
    call.responder, call.spare_responders = responders[0], list(responders[1:])
    call.hold()
    assert [responder.calls for responder in responders] == [2] * min(count, 5) + [0] * max(0, count - 5)
    assert ("abort", "provider_server_error") in call.timeline.signals("abort")


@pytest.mark.conformance("M-09")
def test_g_07_an_open_circuit_ends_in_a_terminal_reason_and_spares_the_next_turn() -> None:
    call = world(((500, 1_300, QUESTION), (4_000, 4_800, QUESTION)), 9_000, failure_notice="")
    failing = FlakyResponder([server_error() for _ in range(9)])
    call.responder = failing
    call.spare_responders = [FakeResponder(lambda history: ANSWER)]
    call.hold()
    assert failing.calls == 2
    assert call.timeline.signals(*SIGNALS) == [
        ("provider_error", "provider_server_error"),
        ("provider_error", "provider_server_error"),
        ("circuit_event", "circuit_opened"),
        ("provider_switch", "provider_server_error"),
        ("commit", ""),
        ("commit", ""),
    ]
    sequences = [record["event"]["runtime_sequence"] for record in records(call, "signal")]
    assert sequences == sorted(set(sequences))


def records(call: FakeWorld, kind: str) -> list[dict[str, Any]]:
    return [dict(record) for record in call.timeline.records if record["kind"] == kind]


def test_g_06_each_attempt_is_told_and_the_total_covers_them_all() -> None:
    call = world()
    call.responder = FlakyResponder([server_error()])
    call.responder.delay_s = 0.2
    call.hold()
    told = [record for record in records(call, "provider_attempt") if record["modality"] == "llm"]
    keys = {"provider_invocation_id", "provider_id", "attempt", "outcome", "retryable", "retry_decision"}
    assert all(
        keys | {"attempt_latency_us", "authority_epoch", "turn", "at_us"} <= record.keys() for record in told
    )
    assert {record["provider_invocation_id"] for record in told} == {"pvi/fake/1/1/000001"}
    total = next(record["latency_us"] for record in records(call, "provider") if record["modality"] == "llm")
    # Two attempts of 200 ms and the wait of 100 ms between them; speaking is not the responder's time.
    assert [record["attempt_latency_us"] for record in told] == [200_000, 200_000]
    assert total == 500_000


def test_g_06_time_that_a_responder_waits_for_the_speech_is_not_its_latency() -> None:
    call = world(hang_up_ms=12_000)
    call.responder.delay_s = 0.2
    call.responder._reply = lambda history: 4 * "one two three four five six seven eight. "
    call.hold()
    told = next(record for record in records(call, "provider_attempt") if record["modality"] == "llm")
    assert (told["outcome"], told["attempt_latency_us"]) == ("success", 200_000)


def test_cf_004_a_cancelled_call_of_a_provider_leaves_its_markers() -> None:
    call = world(failure_notice="")
    call.responder.delay_s = 3.0
    call.caller.at[2_500] = lambda: call.session.on_text("stop that")  # type: ignore[union-attr]
    call.hold()
    marks = [record["name"] for record in records(call, "marker") if record["turn"] == 1]
    order = ["cancel_accepted", "cancel_sent_at", "frames_passed", "cancel_ack_at"]
    assert [mark for mark in marks if mark in order] == order
    assert ("provider_error", "provider_cancelled") not in call.timeline.signals("provider_error")
    assert attempts(call)[0] == ("llm", 1, "cancelled", "none")


def test_a_cancelled_node_ends_the_turn_that_cannot_do_without_it() -> None:
    call = world(failure_notice="")
    call.responder.delay_s = 3.0

    def cancel() -> None:
        session = call.session
        assert session is not None
        session._perform(session.kernel.cancel_within(session._step_time(), "node", 1))

    call.caller.at[2_500] = cancel
    call.hold()
    assert ("abort", "provider_cancelled") in call.timeline.signals("abort")
    scopes = [
        record["event"].get("scope")
        for record in records(call, "signal")
        if record["event"]["signal"] == "cancel"
    ]
    assert scopes == ["node"]


def test_two_equal_calls_with_failures_are_equal() -> None:
    def once() -> list[dict[str, object]]:
        call = world()
        call.responder = FlakyResponder([server_error(), server_error(), server_error()])
        call.spare_responders = [FakeResponder(lambda history: ANSWER)]
        call.hold()
        return call.timeline.records

    assert once() == once()


class LesserVoice(FakeSynthesizer):
    """The embedded voice: half as loud, so that it can be told from the chosen one."""

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        async for chunk in super().synthesize(text):
            yield SpeechChunk(pcm=(chunk.pcm // 2 + 1).astype(np.int16), words=chunk.words)


class StuckSynthesizer(FlakySynthesizer):
    """Hangs in the call of that number."""

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        self.calls += 1
        if self.calls == self._from_call:
            await asyncio.sleep(1_000)
        async for chunk in FakeSynthesizer.synthesize(self, text):
            yield chunk


def lesser(*segments: str) -> Any:
    return np.concatenate([voice_of(segment) // 2 + 1 for segment in segments])


def degraded_world(
    synthesizer: FakeSynthesizer, actions: tuple[str, ...] = DEGRADE, **settings: object
) -> FakeWorld:
    bursts = ((500, 1_300, QUESTION), (9_000, 9_800, QUESTION))
    given = {"tts": NETWORK_VOICE, "adaptive_actions": actions, "failure_notice": "", **settings}
    call = world(bursts, 16_000, **given)
    call.synthesizer = synthesizer
    if "degrade" in actions:
        call.lesser_voice = LesserVoice()
    return call


def test_a_lesser_voice_speaks_the_rest_of_a_turn_whose_voice_is_stuck_and_no_more() -> None:
    stuck = StuckSynthesizer(from_call=1)
    call = degraded_world(stuck)
    call.hold()
    spoken = ("first part here.", "second part there.")
    assert np.array_equal(voice(call), np.concatenate([lesser(*spoken), ALL]))
    assert stuck.calls == 3
    assert call.timeline.signals("budget_exhausted", "degrade", "fallback", "commit", "abort") == [
        ("budget_exhausted", "budget_exhausted"),
        ("degrade", "budget_exhausted"),
        ("commit", ""),
        ("commit", ""),
    ]
    providers = [
        record["provider_id"]
        for record in call.timeline.records
        if record["kind"] == "provider_attempt" and record["modality"] == "tts"
    ]
    assert providers == ["openai/loud", "espeak/en-us", "espeak/en-us", "openai/loud", "openai/loud"]
    replay = Replay(**kernel_arguments(call.timeline.headers[0]))
    for block in call.timeline.blocks:
        replay.feed(block)
    replay.finish()
    assert list(replay.divergences) == []


def test_degrading_wins_over_another_voice_when_the_budget_is_used_up() -> None:
    call = degraded_world(StuckSynthesizer(from_call=1))
    call.spare_synthesizers = [FakeSynthesizer()]
    call.hold()
    assert call.timeline.signals("degrade", "provider_switch") == [("degrade", "budget_exhausted")]


def test_the_index_of_the_lesser_voice_follows_the_candidates_that_the_profile_uses() -> None:
    profile = {"name": "few", "attempts": {"candidates": 1}}
    call = degraded_world(StuckSynthesizer(from_call=1), profile="few", profiles={"few": profile})
    call.spare_synthesizers = [FakeSynthesizer()]
    call.hold()
    assert np.array_equal(voice(call)[: len(lesser("first"))], lesser("first"))


def test_a_voice_that_refuses_is_replaced_by_another_first_and_by_the_lesser_one_last() -> None:
    call = degraded_world(FlakySynthesizer(from_call=1))
    call.spare_synthesizers = [FlakySynthesizer(from_call=2)]
    call.hold()
    assert call.timeline.signals("provider_switch", "degrade")[:3] == [
        ("provider_switch", "provider_client_error"),
        ("provider_switch", "provider_client_error"),
        ("degrade", "node_timeout_or_failure"),
    ]
    said = np.concatenate([voice_of("first part here."), lesser("second part there.")])
    assert np.array_equal(voice(call)[: len(said)], said)


def test_what_was_heard_of_a_sentence_is_not_said_again_by_a_lesser_voice() -> None:
    call = degraded_world(FlakySynthesizer(from_call=1, after_first_word=True))
    call.hold()
    assert call.timeline.signals("degrade") == []
    assert ("abort", "provider_transport_error") in call.timeline.signals("abort")


def test_no_lesser_voice_speaks_where_the_plan_does_not_allow_it() -> None:
    call = degraded_world(FlakySynthesizer(from_call=1), ("retry", "fallback"))
    call.hold()
    assert call.timeline.signals("degrade") == []
    assert ("abort", "provider_client_error") in call.timeline.signals("abort")
