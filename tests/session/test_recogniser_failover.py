"""A recogniser fails while it listens or when it should answer: another takes over, as the kernel decides."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rspp._kernel import Replay
from rspp.contracts.errors import ProviderError
from rspp.contracts.ports import Hypothesis
from rspp.contracts.validation import check_stream
from rspp.nodes.recognisers import Recognisers
from rspp.replay.inputs import kernel_arguments
from rspp.replay.recorded_call import read_call
from rspp.replay.what_if import run_what_if
from rspp.session.virtual_time import VirtualClock
from tests.session.fakes import FakeCaller, FakeRecognition, FakeWorld

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.contracts.media import Pcm

QUESTION, AGAIN = 8_001, 8_002
WORDS = Hypothesis("a question", complete=True)
HEARD = {QUESTION: WORDS, AGAIN: Hypothesis("another question", complete=True)}
ASKED_MS = (500, 1_700)
SORRY = "sorry again."
DEGRADE = ("retry", "provider_switch", "degrade", "fallback")


class FlakyRecognition(FakeRecognition):
    """Hears like the fake one, tells what it heard in part, and breaks when told to."""

    def __init__(self, *, partial: bool = False) -> None:
        super().__init__(HEARD)
        self._partial = partial
        self.conclusions: list[ProviderError | None] = []
        self.slow_s = self.slow_part_s = 0.0
        self.breaks_after = -1
        self.hangs = False
        self.samples = 0
        self.begun = self.concluded = 0

    async def begin(self) -> None:
        self.begun += 1
        self.samples = 0
        await super().begin()

    async def accept(self, pcm: Pcm) -> Hypothesis | None:
        self.samples += len(pcm)
        await asyncio.sleep(self.slow_part_s)
        await super().accept(pcm)
        if 0 <= self.breaks_after <= self.samples:
            if self.hangs:
                await asyncio.sleep(1_000)
            raise ProviderError("broken", outcome="blocked", reason="provider_client_error")
        return Hypothesis("a part") if self._partial and self._latest else None

    async def conclude(self) -> Hypothesis:
        self.concluded += 1
        await asyncio.sleep(self.slow_s)
        failure = self.conclusions.pop(0) if self.conclusions else None
        if failure is not None:
            raise failure
        return await super().conclude()


def refusal() -> ProviderError:
    return ProviderError("no", outcome="blocked", reason="provider_auth_or_policy_block")


def server_error() -> ProviderError:
    return ProviderError("no", retryable=True, reason="provider_server_error")


def world(*recognisers: FlakyRecognition, hang_up_ms: int = 9_000, **settings: object) -> FakeWorld:
    bursts = [(*ASKED_MS, QUESTION)]
    call = FakeWorld(
        FakeCaller(bursts, hang_up_ms),
        HEARD,
        lambda history: "an answer.",
        {"failure_notice": SORRY, **settings},
    )
    call.recognition = recognisers[0]
    call.spare_recognitions = list(recognisers[1:])
    return call


def attempts(call: FakeWorld) -> list[tuple[Any, ...]]:
    return [
        (record["provider_id"], record["outcome"], record["retry_decision"])
        for record in call.timeline.records
        if record["kind"] == "provider_attempt" and record["modality"] == "stt"
    ]


def answered(call: FakeWorld) -> bool:
    return (False, "an answer.") in call.caller.transcripts


def latency_us(call: FakeWorld, name: str) -> list[int]:
    return [
        record["value_us"]
        for record in call.timeline.records
        if record["kind"] == "latency" and record["name"] == name
    ]


def replays_exactly(call: FakeWorld) -> None:
    header = call.timeline.headers[0]
    replay = Replay(**kernel_arguments(header))
    for block in call.timeline.blocks:
        replay.feed(block)
    replay.finish()
    assert replay.inputs > 0
    assert list(replay.divergences) == []
    assert check_stream(iter(call.timeline.lines)).faults == []


BROKEN: Sequence[str] = ("refuses", "hangs", "fails_mid_utterance", "hangs_mid_utterance")


def broken(how: str) -> FlakyRecognition:
    recogniser = FlakyRecognition()
    match how:
        case "refuses":
            recogniser.conclusions = [refusal()]
        case "hangs":
            recogniser.slow_s = 1_000.0
        case "fails_mid_utterance" | "hangs_mid_utterance":
            recogniser.breaks_after = 6_000
            recogniser.hangs = how == "hangs_mid_utterance"
    return recogniser


@pytest.mark.parametrize("how", BROKEN)
def test_another_recogniser_takes_over_within_the_utterance_with_all_the_audio(how: str) -> None:
    first, second = broken(how), FlakyRecognition()
    call = world(first, second)
    session = call.hold()
    assert answered(call)
    assert [message.text for message in session.history] == ["a question", "an answer."]
    assert attempts(call)[0][2] == "provider_switch"
    assert attempts(call)[1] == ("stt.1", "success", "none")
    assert len(attempts(call)) == 2
    # 300 ms before the onset, the question, and what lay between its end and the probe.
    asked_ms = ASKED_MS[1] - ASKED_MS[0]
    assert second.samples >= 16 * (asked_ms + 250)
    assert len(call.timeline.signals("provider_switch")) == 1
    assert len(latency_us(call, "stt_final")) == 1
    replays_exactly(call)


def test_a_recogniser_that_hangs_costs_its_limit_and_no_more() -> None:
    silence_us = {}
    for how in ("refuses", "hangs"):
        call = world(broken(how), FlakyRecognition())
        call.hold()
        silence_us[how] = latency_us(call, "end_of_speech_to_turn_open")[0]
    assert silence_us["refuses"] <= 200_000
    assert 1_500_000 <= silence_us["hangs"] <= 1_700_000


def test_a_recogniser_that_falls_behind_has_one_limit_for_its_answer() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.slow_part_s = 0.9
    call = world(first, second)
    call.hold()
    assert answered(call)
    assert [attempt[1] for attempt in attempts(call)] == ["timeout", "success"]
    assert latency_us(call, "end_of_speech_to_turn_open")[0] <= 1_700_000


class FakeKernel:
    """Degrades its first invocation and refuses every further one."""

    def __init__(self) -> None:
        self._invoked = 0

    def invoke(self, now_us: int, turn: int, modality: str) -> SimpleNamespace | str:
        self._invoked += 1
        refused = self._invoked > 1
        return (
            "execution_plan_denied" if refused else SimpleNamespace(invocation=1, candidate=0, limit_us=None)
        )

    def attempt_finished(self, now_us: int, invocation: int, outcome: str, **ending: object) -> None:
        pass

    def degraded(self, invocation: int) -> bool:
        return invocation == 1


async def test_what_was_degraded_once_is_not_taken_for_so_when_nothing_may_be_called() -> None:
    hearing = Recognisers([FlakyRecognition()], FakeKernel(), VirtualClock())  # type: ignore[arg-type]
    hearing.begin()
    assert not await hearing.try_again(server_error())
    assert hearing.degraded
    with pytest.raises(ProviderError, match="no stt provider"):
        hearing.begin()
    assert not hearing.degraded


def test_two_recognisers_answer_as_fast_as_one() -> None:
    alone = world(FlakyRecognition())
    both = world(FlakyRecognition(), FlakyRecognition())
    figures = []
    for call in (alone, both):
        call.hold()
        figures.append(latency_us(call, "end_of_speech_to_turn_open") + latency_us(call, "stt_final"))
    assert figures[0] == figures[1]
    assert attempts(alone) == []
    assert attempts(both) == [("pocketsphinx", "success", "none")]


def test_a_bad_moment_is_retried_at_the_same_recogniser() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.conclusions = [server_error()]
    call = world(first, second)
    call.hold()
    assert answered(call)
    assert [outcome[1:] for outcome in attempts(call)] == [
        ("infrastructure_failure", "retry"),
        ("success", "none"),
    ]
    assert (first.begun, second.begun) == (2, 0)


def test_when_all_fail_the_caller_is_told() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.conclusions, second.conclusions = [refusal()], [refusal()]
    call = world(first, second)
    session = call.hold()
    assert (False, SORRY) in call.caller.transcripts
    assert not answered(call)
    assert [attempt[2] for attempt in attempts(call)] == ["provider_switch", "none"]
    assert session.reason == "caller_left"
    replays_exactly(call)


def test_all_that_failed_while_the_caller_spoke_are_asked_once_more() -> None:
    first, second = broken("fails_mid_utterance"), broken("fails_mid_utterance")
    second.breaks_after = 3_000
    call = world(first, second)

    def repaired() -> None:
        first.breaks_after = second.breaks_after = -1

    call.caller.at[1_600] = repaired
    call.hold()
    assert answered(call)
    assert attempts(call)[-1] == ("pocketsphinx", "success", "none")
    assert (first.begun, second.begun) == (2, 1)
    assert first.samples >= 16 * (ASKED_MS[1] - ASKED_MS[0] + 250)
    replays_exactly(call)


def test_a_recogniser_that_keeps_failing_is_left_alone() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.conclusions = [server_error(), server_error(), server_error(), server_error()]
    call = world(first, second, hang_up_ms=12_000)
    call.caller.bursts = [(*ASKED_MS, QUESTION), (5_000, 6_200, AGAIN)]
    call.hold()
    assert call.timeline.signals("circuit_event") == [("circuit_event", "circuit_opened")]
    assert attempts(call)[-1] == ("stt.1", "success", "none")
    assert first.concluded == 2
    assert [text for of_caller, text in call.caller.transcripts if of_caller] == [
        "a question",
        "another question",
    ]


def test_nothing_takes_over_where_the_plan_allows_nothing() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.conclusions = [server_error()]
    call = world(first, second, adaptive_actions=())
    call.hold()
    assert (False, SORRY) in call.caller.transcripts
    assert second.begun == 0


def test_words_that_would_come_too_late_are_not_waited_for() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.slow_s = second.slow_s = 1_000.0
    call = world(first, second, hang_up_ms=12_000)
    call.hold()
    names = [record.get("name") for record in call.timeline.records if record["kind"] == "marker"]
    assert names.index("cancel_sent_at") < names.index("cancel_ack_at")
    assert [attempt[1] for attempt in attempts(call)] == ["timeout", "cancelled"]
    assert (False, SORRY) in call.caller.transcripts
    replays_exactly(call)


def test_a_cancel_of_the_node_ends_what_it_awaits_and_leaves_the_turn_alone() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.slow_s = 1.0
    call = world(first, second)

    def cancel() -> None:
        assert call.session is not None
        call.session._perform(call.session.kernel.cancel_within(call.session._clock.now_us(), "node", 0))

    call.caller.at[2_100] = cancel
    call.hold()
    assert attempts(call)[0][1] == "cancelled"
    assert call.timeline.signals("cancel") == [("cancel", "")]
    assert (False, SORRY) in call.caller.transcripts
    replays_exactly(call)


def test_a_call_that_ends_meanwhile_ends_the_attempt() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.slow_s = 1_000.0
    call = world(first, second, hang_up_ms=2_200)
    call.hold()
    assert [attempt[1] for attempt in attempts(call)] == ["cancelled"]
    replays_exactly(call)


def test_words_heard_in_part_stand_in_when_the_budget_is_used_up_and_the_plan_allows_it() -> None:
    first, second = FlakyRecognition(partial=True), FlakyRecognition()
    first.slow_s = 1_000.0
    call = world(first, second, adaptive_actions=DEGRADE)
    session = call.hold()
    assert session.history[0].text == "a part"
    assert answered(call)
    assert attempts(call) == [("pocketsphinx", "timeout", "none")]
    assert second.begun == 0
    told = call.timeline.signals("budget_warning", "budget_exhausted", "degrade", "fallback")
    assert told == [
        ("budget_warning", "budget_warning"),
        ("budget_exhausted", "budget_exhausted"),
        ("degrade", "budget_exhausted"),
    ]
    replays_exactly(call)


def test_without_words_in_part_another_recogniser_is_the_way_out() -> None:
    first, second = FlakyRecognition(), FlakyRecognition()
    first.slow_s = 1_000.0
    call = world(first, second, adaptive_actions=DEGRADE)
    session = call.hold()
    assert session.history[0].text == "a question"
    assert call.timeline.signals("degrade", "fallback") == [("fallback", "budget_exhausted")]


def test_words_heard_in_part_stand_in_for_a_single_recogniser_that_fails() -> None:
    only = FlakyRecognition(partial=True)
    only.conclusions = [refusal()]
    call = world(only, adaptive_actions=DEGRADE)
    session = call.hold()
    assert session.history[0].text == "a part"
    assert call.timeline.signals("degrade") == [("degrade", "node_timeout_or_failure")]
    replays_exactly(call)


def test_words_heard_in_part_are_no_answer_where_the_plan_does_not_allow_it() -> None:
    only = FlakyRecognition(partial=True)
    only.conclusions = [refusal()]
    call = world(only)
    call.hold()
    assert not answered(call)
    assert (False, SORRY) in call.caller.transcripts
    assert call.timeline.signals("degrade") == []


def test_listening_is_not_charged_to_the_budget() -> None:
    call = world(FlakyRecognition(partial=True), FlakyRecognition(), hang_up_ms=12_000)
    call.caller.bursts = [(500, 5_700, QUESTION)]
    call.hold()
    assert answered(call)
    assert call.timeline.signals("budget_warning", "budget_exhausted") == []


def test_a_what_if_of_such_a_call_hears_what_was_heard() -> None:
    call = world(broken("hangs"), FlakyRecognition())
    call.hold()
    recorded = read_call(call.timeline.headers[0], call.timeline.records)
    assert [turn.outcome for turn in recorded.trace.turns.values()] == ["commit"]
    changed = run_what_if(recorded, policy={"complete_wait_ms": 600})
    assert [turn.outcome for turn in changed.turns.values()] == ["commit"]
