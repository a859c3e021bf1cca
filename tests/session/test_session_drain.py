"""A session that is asked to leave finishes what it has to say first."""

from __future__ import annotations

from rspp.contracts.errors import ProviderError
from rspp.contracts.ports import Hypothesis
from tests.session.fakes import FakeCaller, FakeWorld

QUESTION = 6_000
NOTICE = "sorry say that again"


def test_a_failure_while_draining_is_told_before_the_session_leaves() -> None:
    caller = FakeCaller(bursts=[(1_000, 2_000, QUESTION)], hang_up_ms=30_000)
    heard = {QUESTION: Hypothesis(text="tell me all", complete=True)}
    world = FakeWorld(caller, heard, lambda _: "never said", settings={"failure_notice": NOTICE})
    world.responder.delay_s = 1.0
    world.responder.failure = ProviderError("broken", outcome="infrastructure_failure")

    def drain() -> None:
        assert world.session is not None
        assert world.session.kernel.turn == 1
        world.session.drain()

    caller.at[2_600] = drain
    session = world.hold()
    assert session.reason == "drained"
    assert (False, NOTICE) in caller.transcripts
    assert caller.now_ms < 10_000
    assert session.kernel.drained


def test_a_turn_that_is_stopped_while_draining_is_the_last_one() -> None:
    caller = FakeCaller(bursts=[(1_000, 2_000, QUESTION)], hang_up_ms=30_000)
    heard = {QUESTION: Hypothesis(text="tell me all", complete=True)}
    world = FakeWorld(caller, heard, lambda _: " ".join(["word"] * 60))

    def drain() -> None:
        assert world.session is not None
        assert world.session.kernel.turn == 1
        world.session.drain()

    def stop() -> None:
        assert world.session is not None
        world.session.on_stop("ann/1")

    caller.at.update({3_000: drain, 4_000: stop})
    session = world.hold()
    assert session.reason == "drained"
    assert caller.now_ms <= 4_100
