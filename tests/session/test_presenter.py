"""What front ends are shown goes by lanes: control first, growing replies shed first, all of it on record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from rspp.nodes.edge import edge_buffer
from rspp.pipeline.normalise import compile_pipeline
from rspp.pipeline.spec import PipelineSpec
from rspp.session.presenter import GROWING, Presenter
from rspp.tooling.fault_call import ASK, FaultCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.tooling.faults import Record

CONTROL_ROOM = 64


class FakeClock:
    def now_us(self) -> int:
        return 0


class FakeFrontEnd:
    """Takes nothing until it is let."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.states = asyncio.Event()
        self.words = asyncio.Event()

    async def set_agent_state(self, state: str) -> None:
        self.begun.append(state)
        await self.states.wait()

    async def publish_transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        self.begun.append(text)
        await self.words.wait()


def make() -> tuple[Presenter, FakeFrontEnd]:
    rules = {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}
    spec = msgspec.convert({"name": "x", "llm": rules}, PipelineSpec)
    front_end = FakeFrontEnd()
    edge = edge_buffer(compile_pipeline(spec).known().edge("turn", "presenter"))
    return Presenter(front_end, edge, FakeClock()), front_end  # type: ignore[arg-type]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - one step of the loop at a time
            await asyncio.sleep(0)


@pytest.mark.conformance("M-05")
async def test_a_state_waits_for_no_transcript_and_goes_before_those_that_wait() -> None:
    presenter, front_end = make()
    task = asyncio.create_task(presenter.run())
    presenter.transcript("u1", "hanging", caller=True, final=True)
    await until(lambda: front_end.begun == ["hanging"])
    presenter.transcript("u2", "waiting", caller=True, final=True)
    presenter.agent_state("thinking")
    await until(lambda: len(front_end.begun) == 2)
    assert front_end.begun == ["hanging", "thinking"]
    presenter.agent_state("speaking")
    front_end.words.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert front_end.begun == ["hanging", "thinking"], "states come one after another, and before words"
    front_end.states.set()
    await presenter.flush()
    assert front_end.begun == ["hanging", "thinking", "speaking", "waiting"]
    task.cancel()


async def test_of_states_without_room_the_newest_is_shown() -> None:
    presenter, front_end = make()
    names = [f"s{number}" for number in range(CONTROL_ROOM + 10)]
    for name in names:
        presenter.agent_state(name)
    front_end.states.set()
    task = asyncio.create_task(presenter.run())
    await presenter.flush()
    assert front_end.begun == [*names[:CONTROL_ROOM], names[-1]]
    task.cancel()


@pytest.mark.conformance("ML-001")
async def test_a_growing_reply_is_shed_first_and_never_shown_after_its_end() -> None:
    presenter, front_end = make()
    for number in range(20):
        presenter.transcript("turn-1", f"grown {number}", caller=False, final=False, turn=1)
    assert presenter.router.shed("TelemetryLane") == 20 - GROWING[0]
    presenter.transcript("turn-1", "whole", caller=False, final=True, turn=1)
    presenter.transcript("turn-2", "next", caller=False, final=False, turn=2)
    front_end.words.set()
    task = asyncio.create_task(presenter.run())
    await presenter.flush()
    assert front_end.begun == ["whole", "next"]
    told = presenter.router.poll_signals()
    lost = [event["seq_range"] for event in told if event["signal"] == "drop_notice"]
    assert {event["target_lane"] for event in told} == {"TelemetryLane"}
    assert sum(span["end"] - span["start"] + 1 for span in lost) == 20
    assert presenter.router.shed("DataLane") == presenter.router.shed("ControlLane") == 0
    task.cancel()


async def test_the_end_does_not_wait_for_a_front_end_that_hangs() -> None:
    presenter, _ = make()
    task = asyncio.create_task(presenter.run())
    presenter.transcript("u1", "hanging", caller=True, final=True)
    async with asyncio.timeout(5):
        await presenter.flush()
    task.cancel()


def shown(*, hangs: bool) -> tuple[FaultCall, list[tuple[int, str]]]:
    call = FaultCall((*ASK, {"do": "pause", "ms": 14_000}, {"do": "hang_up"}))
    states: list[tuple[int, str]] = []
    show = call.transport.set_agent_state

    async def remember(state: str) -> None:
        states.append((call.clock.now_us(), state))
        await show(state)

    call.transport.set_agent_state = remember  # type: ignore[method-assign]
    if hangs:
        call.caller.on_step("question", lambda: setattr(call.transport, "front_end_hangs", True))
    return call.hold().check(), states


@pytest.mark.conformance("M-05")
def test_a_front_end_that_hangs_on_words_sees_every_state_of_the_call_in_its_moment() -> None:
    usual, states = shown(hangs=False)
    call, seen = shown(hangs=True)
    assert [state for _, state in seen] == ["listening", "thinking", "speaking", "listening"]
    assert seen == states
    markers: list[Record] = [record for record in call.records if record.get("name") == "agent_state"]
    assert [at for at, _ in seen] == [record["at_us"] for record in markers]
    assert usual.ending(1) == call.ending(1) == ["commit", "close"]
