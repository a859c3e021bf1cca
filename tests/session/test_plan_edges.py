"""The edges of a session hold what its plan says: tighter bounds slow producers down and lose nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from rspp.contracts.errors import ConfigurationError
from rspp.contracts.ports import Hypothesis
from rspp.nodes.edge import edge_buffer
from rspp.pipeline.normalise import compile_pipeline
from rspp.pipeline.spec import PipelineSpec
from rspp.session.presenter import Presenter
from tests.session.fakes import FakeCaller, FakeWorld, voice_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp._kernel import LaneRouter
    from rspp.contracts.ports import Message

QUESTION = 8_001
LONG = " ".join(f"w{number}" for number in range(40))


class FakeClock:
    now = 0

    def now_us(self) -> int:
        return self.now


class FakeFrontEnd:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def set_agent_state(self, state: str) -> None:
        self.told.append(state)

    async def publish_transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        self.told.append(text)


def reply(history: Sequence[Message]) -> str:
    return LONG


def held(graph: dict[str, Any] | None) -> FakeWorld:
    call = FakeWorld(
        FakeCaller([(500, 1_300, QUESTION)], 14_000),
        {QUESTION: Hypothesis("a question", complete=True)},
        reply,
        {} if graph is None else {"graph": graph},
    )
    call.hold()
    return call


@pytest.mark.parametrize(
    "override",
    [
        {"max_queue_ms": 1000},
        {"max_queue_ms": 40},
        {"max_queue_items": 2},
        {"max_queue_bytes": 1920},
        {"watermarks": {"queue_items": {"high": 1, "low": 0}}},
        {"watermarks": {"queue_ms": {"high": 40, "low": 20}}},
    ],
)
@pytest.mark.conformance("M-04")
def test_a_tight_speech_edge_changes_nothing_that_the_caller_hears(override: dict[str, int]) -> None:
    usual = held(None)
    call = held({"edges": [{"from": "tts", "to": "playout", **override}]})
    assert np.array_equal(call.caller.voice, usual.caller.voice)
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(LONG))
    queued = [
        int(str(record["queued_ms"])) for record in call.timeline.records if record["kind"] == "pressure"
    ]
    most = override.get("max_queue_ms", override.get("max_queue_bytes", 0) // 48)
    assert queued
    assert not most or max(queued) <= most


def test_the_pressure_that_is_recorded_names_the_edge_of_the_plan() -> None:
    call = held({"edges": [{"from": "tts", "to": "playout", "id": "voice"}]})
    edges = {record["edge"] for record in call.timeline.records if record["kind"] == "pressure"}
    assert edges == {"voice"}


def test_a_front_end_that_is_gone_costs_as_much_as_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[LaneRouter[Any]] = []
    create = Presenter.__init__

    def remember(self: Presenter, *arguments: Any) -> None:
        create(self, *arguments)
        made.append(self.router)

    monkeypatch.setattr(Presenter, "__init__", remember)
    held({"edges": [{"from": "turn", "to": "presenter", "max_queue_items": 3}]})
    (router,) = made
    assert router.router_id == "turn->presenter"
    assert len(router) == 0
    kept = [router.put("DataLane", lambda: None, 0, 0, 1) for _ in range(5)]
    assert kept == [True, True, True, False, False]


async def test_an_update_that_waited_longer_than_the_plan_allows_is_not_shown() -> None:
    rules = {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}
    override = {"from": "turn", "to": "presenter", "max_latency_contribution_ms": 50}
    spec = msgspec.convert({"name": "x", "llm": rules, "graph": {"edges": [override]}}, PipelineSpec)
    edge = edge_buffer(compile_pipeline(spec).known().edge("turn", "presenter"))
    clock, front_end = FakeClock(), FakeFrontEnd()
    presenter = Presenter(front_end, edge, clock)  # type: ignore[arg-type]
    presenter.transcript("u1", "too late", caller=True, final=True)
    presenter.agent_state("listening")
    clock.now += 60_000
    presenter.transcript("u2", "in time", caller=True, final=True)
    task = asyncio.create_task(presenter.run())
    await presenter.flush()
    task.cancel()
    assert front_end.told == ["listening", "in time"]


@pytest.mark.parametrize(
    ("lane", "edge"), [("TelemetryLane", "shell->recorder"), ("ControlLane", "turn->presenter")]
)
def test_lanes_have_the_marks_of_the_profile(lane: str, edge: str) -> None:
    def crossed(high: int) -> set[tuple[str, str]]:
        profile = {"name": "own", "flow_control": {"watermarks": {lane: {"high": high, "low": 0}}}}
        call = FakeWorld(
            FakeCaller([(500, 1_300, QUESTION)], 14_000),
            {QUESTION: Hypothesis("a question", complete=True)},
            reply,
            {"profile": "own", "profiles": {"own": profile}},
        )
        call.hold()
        events = [record["event"] for record in call.timeline.records if record["kind"] == "signal"]
        marked = [event for event in events if event["signal"] == "watermark"]
        return {(event["edge_id"], event["target_lane"]) for event in marked}

    assert (edge, lane) in crossed(1)
    assert (edge, lane) not in crossed(300)


def test_what_a_lane_sheds_is_what_the_profile_says() -> None:
    made = []
    for strategy in ("drop", "latest_only"):
        profile = {"name": "own", "flow_control": {"shedding_strategy_by_lane": {"DataLane": strategy}}}
        call = FakeWorld(FakeCaller([], 300), {}, reply, {"profile": "own", "profiles": {"own": profile}})
        call.hold()
        assert call.session is not None
        router = call.session._recording._shell
        for number in range(200):
            router.put("DataLane", b"%d" % number, 0, 0, 1)
        made.append(router.get())
    assert made == [("DataLane", b"0"), ("DataLane", b"128")]


def test_a_pipeline_whose_graph_cannot_run_holds_no_call() -> None:
    wrong = {"edges": [{"from": "tts", "to": "playout", "strategy": "drop"}]}
    with pytest.raises(ConfigurationError, match="cannot work with drop"):
        held(wrong)
    rules = {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}
    spec = msgspec.convert({"name": "x", "llm": rules, "profile": "none"}, PipelineSpec)
    with pytest.raises(ConfigurationError, match="unknown execution profile"):
        compile_pipeline(spec)
