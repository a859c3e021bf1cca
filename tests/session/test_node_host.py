"""Nodes in a whole call: what their providers are given when they run, and told of their fate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rspp._kernel import PlanTemplate, ProbeUtterance, ProviderPolicy, SessionKernel, TurnPolicy
from rspp.contracts.errors import ProviderError
from rspp.contracts.execution import ExecutionContext, execution_context
from rspp.contracts.ports import Hypothesis, Message, ResponseDelta
from rspp.nodes.hosting import NodeHost
from rspp.nodes.invocation import Invocation
from rspp.nodes.recognisers import Recognisers
from rspp.pipeline.normalise import compile_pipeline, plan_template, turn_policy
from rspp.session.state import Kept
from rspp.session.virtual_time import VirtualClock, run_virtual
from tests.session.fakes import (
    FakeCaller,
    FakeRecognition,
    FakeResponder,
    FakeSynthesizer,
    FakeWorld,
    voice_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rspp.contracts.execution import NodeStateClass
    from rspp.contracts.media import SpeechChunk
    from rspp.pipeline.graph_section import NodeType

QUESTION, STOP = 8_001, 8_002
HEARD = {
    QUESTION: Hypothesis("a question", complete=True),
    STOP: Hypothesis("please stop now", complete=True),
}
LONG = " ".join(f"w{number}" for number in range(40))
TWO_PARTS = f"first part here. {LONG}"
ASK = (500, 1_300, QUESTION)
CLASSES: tuple[NodeStateClass, ...] = ("turn_ephemeral", "session_hot")


class FakeHooks:
    """Keeps what a provider was told and given."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.contexts: list[ExecutionContext | None] = []
        self.told_at: list[tuple[int, bool]] = []
        """When, in microseconds, and whether the work in hand was cancelled then."""
        self.raises = False

    def on_cancel(self) -> None:
        self._tell("on_cancel")

    def on_barge_in(self) -> None:
        self._tell("on_barge_in")

    def on_budget_exhausted(self, outcome: str) -> None:
        self._tell("on_budget_exhausted", outcome)

    def _tell(self, *told: str) -> None:
        self.told.append(told)
        context = self.contexts[-1]
        assert context is not None
        self.told_at.append((context.clock.now_us(), context.cancel.cancelled))
        if self.raises:
            raise RuntimeError("a bug in a hook")

    def run(self) -> ExecutionContext:
        context = execution_context()
        self.contexts.append(context)
        assert context is not None
        return context


class FakeHookedRecognition(FakeRecognition, FakeHooks):
    def __init__(self) -> None:
        FakeRecognition.__init__(self, HEARD)
        FakeHooks.__init__(self)
        self.slow_s = 0.0
        self.seen_cancelled = False

    async def begin(self) -> None:
        self.run()
        await super().begin()

    async def conclude(self) -> Hypothesis:
        context = self.run()
        await asyncio.sleep(self.slow_s)
        self.seen_cancelled = context.cancel.cancelled
        return await super().conclude()


class FakeHookedResponder(FakeResponder, FakeHooks):
    def __init__(self, reply: str) -> None:
        FakeResponder.__init__(self, lambda history: reply)
        FakeHooks.__init__(self)
        self.seen: list[tuple[str, str | None]] = []
        self.closed_us: list[int] = []

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        context = self.run()
        try:
            async for delta in FakeResponder.respond(self, history):
                yield delta
                again = execution_context()
                assert again is context
                self.seen.append((again.node, again.turn_id))
        finally:
            self.closed_us.append(context.clock.now_us())


class FakeHookedVoice(FakeSynthesizer, FakeHooks):
    def __init__(self) -> None:
        FakeSynthesizer.__init__(self)
        FakeHooks.__init__(self)
        self.hang = False

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        self.run()
        if self.hang:
            await asyncio.sleep(10_000)
        async for chunk in FakeSynthesizer.synthesize(self, text):
            yield chunk


class HookedWorld(FakeWorld):
    """A call whose providers keep what they are told."""

    def __init__(
        self,
        *bursts: tuple[int, int, int],
        hang_up_ms: int = 9_000,
        reply: str = LONG,
        **settings: object,
    ) -> None:
        super().__init__(
            FakeCaller(bursts or (ASK,), hang_up_ms),
            HEARD,
            lambda history: reply,
            {"failure_notice": "", **settings},
        )
        self.hearing = self.recognition = FakeHookedRecognition()
        self.writing = self.responder = FakeHookedResponder(reply)
        self.speaking = self.synthesizer = FakeHookedVoice()

    def markers(self, name: str) -> list[dict[str, Any]]:
        return [record for record in self.timeline.records if record.get("name") == name]


def test_an_interruption_is_told_to_whoever_works_and_the_recogniser_listens_on() -> None:
    call = HookedWorld(ASK, (4_000, 5_200, STOP))
    session = call.hold()
    assert call.speaking.told == [("on_barge_in",), ("on_cancel",)]  # the second as the caller hangs up
    assert call.writing.told == []  # it had written everything
    assert call.hearing.told == [("on_barge_in",), ("on_cancel",)]
    first, *_ = call.speaking.contexts
    assert first is not None
    assert first.cancel.cancelled
    assert [cancelled for _, cancelled in call.hearing.told_at] == [False, True]
    assert [cancelled for _, cancelled in call.speaking.told_at] == [True, True]
    assert session.history[2].text == "please stop now"
    old = call.caller.heard_between(1_400, 5_300)
    assert np.array_equal(old[old != 0], voice_of(LONG)[: np.count_nonzero(old)])
    assert not call.caller.heard_between(4_080, 5_200).any()


def test_an_interruption_of_what_is_being_written_is_told_to_the_writer() -> None:
    call = HookedWorld(ASK, (4_000, 5_200, STOP), reply=TWO_PARTS)
    call.writing.hang_after_words = 20
    call.hold()
    assert call.writing.told[0] == ("on_barge_in",)
    # Both of its streams were stopped at once: the first by the caller's word, the second with the call.
    assert call.writing.closed_us == [at_us for at_us, _ in call.writing.told_at]


def test_what_is_nearest_to_the_callers_ear_is_dropped_first() -> None:
    call = HookedWorld(ASK, (4_000, 5_200, STOP))
    waiting: list[int] = []

    def look() -> None:
        assert call.session is not None
        waiting.append(len(call.session._playout.edge))

    call.caller.at[4_000] = look
    call.speaking.on_barge_in = look  # type: ignore[method-assign]
    call.hold()
    assert waiting[0] > 50
    assert waiting[1] == 0


def test_a_hook_that_raises_keeps_nothing_from_being_cancelled() -> None:
    usual = HookedWorld(ASK, (4_000, 5_200, STOP))
    usual.hold()
    call = HookedWorld(ASK, (4_000, 5_200, STOP))
    for provider in (call.hearing, call.writing, call.speaking):
        provider.raises = True
    session = call.hold()
    assert call.speaking.told == [("on_barge_in",), ("on_cancel",)]
    assert session.reason == "caller_left"
    assert call.timeline.blocks == usual.timeline.blocks
    assert np.array_equal(call.caller.voice, usual.caller.voice)


@pytest.mark.parametrize("scope", ["turn", "session"])
def test_a_cancel_is_told_to_the_nodes_within_its_scope(scope: str) -> None:
    call = HookedWorld(ASK, hang_up_ms=6_000)

    def cancel() -> None:
        assert call.session is not None
        session, kernel = call.session, call.session.kernel
        target = kernel.turn if scope == "turn" else 0
        session._perform(kernel.cancel_within(session._step_time(), scope, target))

    call.caller.at[4_000] = cancel
    call.hold()
    assert call.speaking.told == [("on_cancel",)]
    assert not call.caller.heard_between(4_050, 6_000).any()


def test_one_node_is_cancelled_and_its_turn_ends_with_the_rest_told_once() -> None:
    call = HookedWorld(ASK, hang_up_ms=6_000, reply=TWO_PARTS)
    call.writing.hang_after_words = 20

    def cancel() -> None:
        assert call.session is not None
        session = call.session
        session._perform(session.kernel.cancel_within(session._step_time(), "node", 1))

    call.caller.at[4_000] = cancel
    call.hold()
    assert call.writing.told == [("on_cancel",)]
    assert call.writing.closed_us == [at_us for at_us, _ in call.writing.told_at]
    assert call.timeline.signals("abort") == [("abort", "provider_cancelled")]


def test_a_used_up_budget_is_told_with_what_follows() -> None:
    call = HookedWorld(ASK)
    spare = FakeHookedResponder("instead.")
    call.spare_responders = [spare]
    call.writing.hang_after_words = 0
    call.hold()
    assert call.writing.told == [("on_budget_exhausted", "fallback")]
    assert [cancelled for _, cancelled in call.writing.told_at] == [False]
    assert spare.told == []
    first, second = call.writing.contexts[0], spare.contexts[0]
    assert first is not None
    assert second is not None
    assert (first.budget.limit_us, first.invocation) == (1_500_000, second.invocation)
    assert first.seed == second.seed


def test_a_used_up_budget_without_a_way_out_ends_the_turn() -> None:
    call = HookedWorld(ASK, adaptive_actions=[])
    call.spare_responders = [FakeHookedResponder("instead.")]
    call.writing.hang_after_words = 0
    call.hold()
    assert call.writing.told == [("on_budget_exhausted", "terminate")]
    assert [cancelled for _, cancelled in call.writing.told_at] == [True]
    assert call.timeline.signals("abort") == [("abort", "node_timeout_or_failure")]


def test_the_turns_budget_is_told_to_whoever_works() -> None:
    call = HookedWorld(ASK, budget={"first_output_ms": 1_000})
    call.speaking.hang = True
    call.hold()
    assert call.speaking.told == [("on_budget_exhausted", "terminate")]


@pytest.mark.conformance("G-13")
def test_a_failure_within_the_budget_is_no_matter_of_budgets() -> None:
    call = HookedWorld(ASK)
    call.writing.failure = ProviderError("no", outcome="blocked", reason="provider_client_error")
    call.spare_responders = [FakeHookedResponder("instead.")]
    call.hold()
    assert call.writing.told == []
    assert call.timeline.signals("budget_warning", "budget_exhausted") == []


def test_a_cooperative_recogniser_ends_by_itself_and_sees_that_nobody_waits() -> None:
    call = HookedWorld(ASK, hang_up_ms=16_000)
    spare = FakeHookedRecognition()
    call.spare_recognitions = [spare]
    call.hearing.slow_s = 3.0
    call.hold()
    assert call.hearing.told == [("on_budget_exhausted", "fallback")]
    assert call.hearing.seen_cancelled
    assert spare.told == [("on_cancel",)]
    assert {found.invocation for found in spare.contexts if found} == {1}
    assert call.timeline.signals("commit") == [("commit", "")]


def test_each_node_runs_with_the_context_of_its_scope() -> None:
    call = HookedWorld(ASK, (9_000, 9_800, QUESTION), hang_up_ms=16_000, reply="one part. two parts.")
    call.hold()
    assert {(found.scope, found.turn_id, found.seed) for found in call.hearing.contexts if found} == {
        ("session", None, None)
    }
    seeds = [record["value"] for record in call.markers("plan_frozen")]
    written = [(found.turn_id, found.seed) for found in call.writing.contexts if found]
    assert [seed for _, seed in written] == seeds
    turns = [turn for turn, _ in written]
    assert len(set(turns)) == len(set(seeds)) == 2
    assert {(found.node, found.turn_id) for found in call.speaking.contexts if found} == {
        ("tts", turn) for turn in turns
    }
    # Speech is made while the reply is written; each goes on with its own.
    assert set(call.writing.seen) == {("llm", turn) for turn in turns}
    assert execution_context() is None


class FakeKeeper(FakeHookedVoice):
    """Counts what it said in the turn and in the call."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[object, object]] = []

    @staticmethod
    def count(context: ExecutionContext, state_class: NodeStateClass) -> int:
        said = context.state.get(state_class, "said") or 0
        assert isinstance(said, int)
        context.state.put(state_class, "said", said + 1)
        return said + 1

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        context = self.run()
        of_turn, of_call = (self.count(context, name) for name in CLASSES)
        self.counts.append((of_turn, of_call))
        for _ in range(20):
            context.telemetry.measure("queue", 1_500)
        with pytest.raises(ValueError, match="state_class is 'session_durable'"):
            context.state.put("session_durable", "said", 1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="name is 'No name'"):
            context.telemetry.measure("No name", 1)
        async for chunk in FakeSynthesizer.synthesize(self, text):
            yield chunk


def test_what_a_node_keeps_lives_by_its_class_and_what_it_measures_is_recorded() -> None:
    call = HookedWorld(ASK, (7_000, 7_800, QUESTION), hang_up_ms=12_000, reply="one part. two parts.")
    voice = FakeKeeper()
    call.synthesizer = call.speaking = voice
    kept: list[object] = []

    def look() -> None:
        context = voice.contexts[-1]
        assert context is not None
        kept.extend(context.state.get(name, "said") for name in CLASSES)

    call.caller.at[6_000] = look
    call.hold()
    assert kept == [None, 2]
    assert voice.counts == [(1, 1), (2, 2), (1, 3), (2, 4)]
    measured = call.markers("tts.queue")
    assert [record["value_us"] for record in measured] == [1_500] * 8 * 4


def test_a_node_of_the_session_has_no_state_of_a_turn() -> None:
    call = HookedWorld(ASK, hang_up_ms=4_000)
    call.hold()
    context = call.hearing.contexts[0]
    assert context is not None
    context.state.put("session_hot", "windows", 3)
    assert context.state.get("session_hot", "windows") == 3
    assert context.state.get("turn_ephemeral", "windows") is None
    with pytest.raises(ValueError, match="turn_ephemeral"):
        context.state.put("turn_ephemeral", "windows", 3)


async def report(node: NodeType, provider: FakeHooks) -> list[tuple[str, ...]]:
    """What a provider is told whose attempt is at its limit before any timer of the kernel has fired."""
    clock = VirtualClock()
    call = FakeWorld(FakeCaller((), 0), HEARD, lambda history: LONG)
    kernel = SessionKernel(
        session_id="alone",
        policy=TurnPolicy(**turn_policy(call.spec)),
        plan=PlanTemplate(**plan_template(call.spec)),
        now_us=clock.now_us(),
        wall_clock_ms=0,
        evidence_capacity=512,
        providers=ProviderPolicy(
            candidates=[(node, "first"), (node, "second")], attempt_ms=400, warn_ms=300, max_attempts=1
        ),
    )
    kernel.lease(clock.now_us(), 1, clock.now_us() + 4_000_000)
    if node == "llm":
        kernel.text_message(clock.now_us(), 1)
    kept = Kept()
    graph = compile_pipeline(call.spec).known()
    host = NodeHost(
        kernel, graph.nodes, clock, kept.of_node, lambda name, turn, value_us: None, lambda turn: None
    )
    if node == "stt":
        spare = FakeHookedRecognition()
        assert isinstance(provider, FakeHookedRecognition)
        provider.slow_s = 10.0
        streams = (provider, spare)
        hearing = Recognisers(streams, kernel, clock, host.dispatch("stt", streams, 0))
        hearing.begin()
        for window in range(60):
            await asyncio.sleep(0.032)
            permille = 950 if window < 30 else 20
            effects = kernel.voice_activity(clock.now_us(), window * 512, permille)
            if any(isinstance(effect, ProbeUtterance) for effect in effects):
                break
        hearing.expect()
        with pytest.raises(TimeoutError):
            await hearing.call(lambda stream: stream.conclude())
        assert await hearing.try_again(ProviderError("late", outcome="timeout", reason="provider_timeout"))
        assert spare.told == []
    else:
        assert isinstance(provider, FakeHookedResponder)
        provider.delay_s = 10.0
        writers = (provider, FakeHookedResponder("instead."))
        invocation = Invocation(kernel, clock, 1, "llm", host.dispatch("llm", writers, 1))
        results = invocation.stream(lambda candidate: writers[candidate].respond(()))
        assert [delta.text async for _, delta in results] == ["instead. "]
        assert writers[1].told == []
    return provider.told


@pytest.mark.parametrize("node", ["stt", "llm"])
def test_a_provider_is_told_of_its_budget_also_when_its_limit_comes_before_the_timer(node: NodeType) -> None:
    provider = FakeHookedRecognition() if node == "stt" else FakeHookedResponder(LONG)
    assert run_virtual(report(node, provider)) == [("on_budget_exhausted", "fallback")]
