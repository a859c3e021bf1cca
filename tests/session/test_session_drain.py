"""A session that is asked to leave finishes what it has to say first; the kernel says when it may go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rspp._kernel import Replay
from rspp.contracts.errors import ProviderError
from rspp.contracts.ports import Hypothesis
from rspp.contracts.validation import check_stream
from rspp.replay.inputs import kernel_arguments
from tests.session.fakes import FakeCaller, FakeWorld, voice_of

if TYPE_CHECKING:
    from collections.abc import Callable

QUESTION = 6_000
ANSWER = "one two three four five six seven eight"
NOTICE = "sorry say that again"
MOMENTS = ("turn_open", "reject", "commit", "abort", "close", "playback_completed", "ended")


def asked(happens: dict[int, Callable[[FakeWorld], None]], **settings: object) -> FakeWorld:
    """A caller who asks once; what else happens at which millisecond."""
    caller = FakeCaller(bursts=[(1_000, 2_000, QUESTION)], hang_up_ms=30_000)
    heard = {QUESTION: Hypothesis(text="tell me all", complete=True)}
    declared = {"failure_notice": NOTICE, **settings}
    world = FakeWorld(caller, heard, lambda _: ANSWER, settings=declared)
    for ms, happen in happens.items():
        caller.at[ms] = lambda happen=happen: happen(world)  # type: ignore[misc]
    return world


def drain(world: FakeWorld) -> None:
    assert world.session is not None
    world.session.drain()


def write(world: FakeWorld) -> None:
    assert world.session is not None
    world.session.on_text("and another thing")


def inputs(world: FakeWorld, *names: str) -> list[str]:
    found = [record["name"] for record in world.timeline.records if record["kind"] == "input"]
    return [name for name in found if name in names]


def assert_replays(world: FakeWorld) -> None:
    replay = Replay(**kernel_arguments(world.timeline.headers[0]))
    for block in world.timeline.blocks:
        replay.feed(block)
    replay.finish()
    assert list(replay.divergences) == []
    assert check_stream(iter(world.timeline.lines)).faults == []


def test_with_nothing_to_finish_the_session_leaves_at_once() -> None:
    world = asked({500: drain})
    session = world.hold()
    assert session.reason == "drained"
    assert world.caller.now_ms <= 520
    assert world.timeline.signals(*MOMENTS) == [("ended", "drained")]
    assert_replays(world)


def test_the_running_answer_is_heard_to_its_end_and_the_drain_is_an_input() -> None:
    world = asked({3_500: drain, 3_600: drain})
    session = world.hold()
    assert session.reason == "drained"
    voice = world.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(ANSWER))
    assert world.timeline.signals(*MOMENTS) == [
        ("turn_open", ""),
        ("commit", ""),
        ("close", ""),
        ("playback_completed", ""),
        ("ended", "drained"),
    ]
    assert inputs(world, "drain", "connection") == ["drain", "drain"]
    assert_replays(world)
    session.drain()
    assert session.reason == "drained"


def test_a_text_during_a_drain_is_refused_and_cuts_nothing_off() -> None:
    world = asked({3_500: drain, 3_600: write})
    assert world.hold().reason == "drained"
    assert world.timeline.signals(*MOMENTS)[:4] == [
        ("turn_open", ""),
        ("reject", "admission_capacity_reject"),
        ("commit", ""),
        ("close", ""),
    ]
    voice = world.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(ANSWER))
    assert [text for of_caller, text in world.caller.transcripts if not of_caller] == [NOTICE, ANSWER]
    assert_replays(world)


def test_a_text_that_waited_for_the_answer_is_refused_when_that_is_over() -> None:
    world = asked({3_400: write, 3_500: drain}, turn={"overlap": "queue"})
    assert world.hold().reason == "drained"
    told = world.timeline.signals(*MOMENTS)
    assert [name for name, _ in told] == [
        "turn_open",
        "commit",
        "close",
        "reject",
        "playback_completed",
        "ended",
    ]
    assert_replays(world)


def test_a_stop_during_a_drain_ends_the_answer_and_the_call() -> None:
    def stop(world: FakeWorld) -> None:
        assert world.session is not None
        world.session.on_stop("stop/1")

    world = asked({3_500: drain, 3_700: stop})
    assert world.hold().reason == "drained"
    assert world.timeline.signals(*MOMENTS) == [
        ("turn_open", ""),
        ("abort", "cancelled"),
        ("close", ""),
        ("ended", "drained"),
    ]
    assert world.caller.now_ms <= 3_740
    assert_replays(world)


def test_a_failure_while_draining_is_told_before_the_session_leaves() -> None:
    def begin(world: FakeWorld) -> None:
        assert world.session is not None
        assert world.session.kernel.turn == 1
        world.session.drain()

    world = asked({2_600: begin})
    world.responder.delay_s = 1.0
    world.responder.failure = ProviderError("broken", outcome="infrastructure_failure")
    session = world.hold()
    assert session.reason == "drained"
    assert (False, NOTICE) in world.caller.transcripts
    assert world.caller.now_ms < 10_000
    assert session.kernel.drained
    assert_replays(world)
