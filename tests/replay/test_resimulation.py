"""Whole calls run again from what their kernels recorded: nothing differs unless something was changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from rspp import _kernel
from rspp.contracts.errors import ProviderError
from rspp.pipeline.normalise import plan_template, turn_policy
from rspp.pipeline.spec import PipelineSpec
from rspp.tooling.fault_call import ASK, FaultCall, TakeoverCall, fault_after
from rspp.tooling.faults import FaultResponder
from tests.replay.tapes import TapedKernel, Tapes
from tests.session.test_session import MHM, STOP, ask, world

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> Tapes:
    return Tapes(monkeypatch)


def identical(kernel: TapedKernel) -> _kernel.Replay:
    """Replay and assert that it is the same call, to the last record."""
    replay = kernel.replay()
    assert replay.divergences == []
    assert replay.gap is None
    assert replay.position == replay.compared > replay.inputs > 100
    assert (replay.turn, replay.turn_state, replay.epoch) == (
        kernel.turn,
        kernel.turn_state,
        kernel.epoch,
    )
    return replay


def conversation(tapes: Tapes) -> TapedKernel:
    """A question, a listener's word, an interruption."""
    world([ask(), (3_000, 3_400, MHM), (4_000, 5_200, STOP)], 9_000, greeting="Hello there.").hold()
    return tapes.kernels[0]


def server_error() -> ProviderError:
    return ProviderError("500", retryable=True, reason="provider_server_error")


def failing_provider() -> FaultCall:
    wait = (*ASK, {"do": "pause", "ms": 4_500}, {"do": "hang_up"})
    return FaultCall(wait, responder=lambda real: FaultResponder(real, [server_error()] * 2), spare=1)


def lost_lease() -> FaultCall:
    call = FaultCall(fault_after(2_000), earlier_epochs=2)
    call.caller.on_fault(lambda: call.session._lost("lease_deauthorized"))
    return call


def unreachable_store() -> FaultCall:
    call = FaultCall(fault_after(9_000))
    call.caller.on_fault(lambda: setattr(call.store, "partitioned", True))
    return call


def hanging_front_end() -> FaultCall:
    marks = {"watermarks": {"queue_items": {"high": 2, "low": 1}}}
    edge = {"from": "turn", "to": "presenter", "strategy": "drop", "max_queue_items": 2, **marks}
    steps = (*ASK, {"do": "pause", "ms": 14_000}, {"do": "hang_up"})
    call = FaultCall(steps, settings={"graph": {"edges": [edge]}})
    call.caller.on_step("question", lambda: setattr(call.transport, "front_end_hangs", True))
    return call


def stale_arrivals() -> FaultCall:
    call = FaultCall(fault_after(1_000))

    def arrive() -> None:
        kernel, now = call.session.kernel, call.clock.now_us()
        for epoch in (0, 7):
            kernel.frame(now, 1, epoch, 10**6, 480)
        for carrier in (0, 1, None, -1, 9):
            kernel.ingress(now, carrier)

    call.caller.on_fault(arrive)
    return call


def test_or_03_a_conversation_replays_to_the_identical_trace(tapes: Tapes) -> None:
    replay = identical(conversation(tapes))
    assert replay.inputs > 400


@pytest.mark.parametrize(
    "fault", [failing_provider, lost_lease, unreachable_store, hanging_front_end, stale_arrivals]
)
def test_or_03_a_call_with_a_fault_replays_to_the_identical_trace(
    tapes: Tapes, fault: Callable[[], FaultCall]
) -> None:
    fault().hold()
    identical(tapes.kernels[0])


def test_or_03_both_stints_of_a_takeover_replay_to_the_identical_trace(tapes: Tapes) -> None:
    second = FaultCall(({"do": "pause", "ms": 3_500}, *ASK, {"do": "pause", "ms": 2_000}, {"do": "hang_up"}))
    TakeoverCall(FaultCall(fault_after(9_000)), second).hold()
    epochs = [identical(kernel).epoch for kernel in tapes.kernels]
    assert epochs == [1, 2]


def conversation_spec() -> PipelineSpec:
    """The pipeline of ``conversation``."""
    rules = {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}
    return msgspec.convert({"name": "fake", "llm": rules, "greeting": "Hello there."}, PipelineSpec)


def test_or_03_another_threshold_diverges_in_the_turn_that_it_decides(tapes: Tapes) -> None:
    kernel = conversation(tapes)
    values = {**turn_policy(conversation_spec()), "confirm_ms": 1_100, "confirm_words": 9}
    replay = kernel.replay(policy=_kernel.TurnPolicy(**values))
    first = replay.divergences[0]
    assert (first.class_, first.turn, first.scope) == ("OUTCOME_DIVERGENCE", 2, "turn:turn-1-2")
    assert json.loads(first.recorded)["event"]["signal"] == "barge_in"
    assert first.replayed == ""


def test_or_03_another_plan_diverges_in_every_turn_and_nowhere_else(tapes: Tapes) -> None:
    kernel = conversation(tapes)
    template = plan_template(conversation_spec())
    plan = _kernel.PlanTemplate(**{**template, "graph_definition_ref": "graph/other"})
    replay = kernel.replay(plan=plan)
    told = [(found.class_, found.scope) for found in replay.divergences]
    assert told == [("PLAN_DIVERGENCE", f"turn:turn-1-{turn}") for turn in (1, 2, 3)]
    for found in replay.divergences:
        was, now = json.loads(found.recorded), json.loads(found.replayed)
        assert was["plan_hash"] != now["plan_hash"]
        assert was["at_us"] == found.at_us


def test_or_03_other_providers_diverge_in_the_attempts(tapes: Tapes) -> None:
    failing_provider().hold()
    kernel = tapes.kernels[0]
    providers = _kernel.ProviderPolicy(candidates=[("llm", "another"), ("tts", "voice"), ("stt", "ears")])
    replay = kernel.replay(providers=providers)
    assert {found.class_ for found in replay.divergences} <= {"OUTCOME_DIVERGENCE", "ORDERING_DIVERGENCE"}
    assert any("another" in found.replayed for found in replay.divergences)


def test_or_03_a_behaviour_that_is_left_out_diverges_where_it_decided(tapes: Tapes) -> None:
    kernel = conversation(tapes)
    assert kernel.replay(behaviours=list(_kernel.BEHAVIOURS)).divergences == []
    divergences = kernel.replay(behaviours=[]).divergences
    assert {(found.class_, found.scope) for found in divergences[:4]} == {
        ("OUTCOME_DIVERGENCE", "turn:turn-1-2")
    }
    assert "input tick changed nothing" in divergences[0].message
    assert '"output_released"' in divergences[1].recorded
    with pytest.raises(ValueError, match="behaviours"):
        kernel.replay(behaviours=[999])


def test_or_03_nothing_is_judged_behind_records_that_are_known_to_be_missing(tapes: Tapes) -> None:
    kernel = conversation(tapes)
    kernel.replay()
    whole, lost = kernel.blocks, len(kernel.blocks) // 2
    replay = _kernel.Replay(**kernel.arguments)
    for block in whole[:lost]:
        replay.feed(block)
    replay.feed_gap(5_000_000, 0)
    for block in whole[lost + 1 :]:
        replay.feed(block)
    replay.finish()
    assert (replay.divergences, replay.gap) == ([], (5_000_000, 0))
    assert 0 < replay.compared < replay.position


def test_or_03_a_loss_that_nobody_told_shows_wherever_it_mattered(tapes: Tapes) -> None:
    kernel = conversation(tapes)
    kernel.replay()
    noticed = []
    for lost in range(len(kernel.blocks)):
        replay = _kernel.Replay(**kernel.arguments)
        for block in (*kernel.blocks[:lost], *kernel.blocks[lost + 1 :]):
            replay.feed(block)
        replay.finish()
        assert replay.gap is None
        if replay.divergences:
            noticed.append(lost)
    assert noticed[0] == 0
    # A block of nothing but silence is the one thing whose loss changes nothing.
    assert len(noticed) > len(kernel.blocks) // 3


def test_or_03_the_cursor_steps_to_a_time_and_to_a_turn(tapes: Tapes) -> None:
    kernel = conversation(tapes)
    replay = kernel.begin()
    assert (replay.position, replay.turn_state, replay.epoch) == (0, "Idle", 0)
    assert (replay.advance(1), replay.position, replay.epoch) == (1, 1, 1)
    assert replay.advance_to_turn(2)
    assert (replay.turn, replay.turn_state) == (2, "Active")
    until = replay.at_us + 500_000
    assert replay.advance_to_us(until) > 0
    assert replay.at_us <= until
    assert not replay.advance_to_turn(99)
    assert replay.advance(1) == 0


def test_or_03_what_is_no_block_is_refused_with_its_offset(tapes: Tapes) -> None:
    kernel = conversation(tapes)
    replay = kernel.begin()
    with pytest.raises(ValueError, match=r"\d"):
        replay.feed(b"\xff" + kernel.blocks[0])
    with pytest.raises(ValueError, match="session_id"):
        _kernel.Replay(**{**kernel.arguments, "session_id": ""})
