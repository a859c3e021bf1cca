"""The caller stops the agent: what is being answered ends at once, and the stop is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rspp._kernel import Replay
from rspp.contracts.ports import Hypothesis
from rspp.contracts.validation import check_stream
from rspp.replay.inputs import kernel_arguments
from tests.session.fakes import FakeCaller, FakeWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rspp.contracts.ports import Message

QUESTION = 8_001
HEARD = {QUESTION: Hypothesis("a question", complete=True)}
STOPPED_MS = 4_000


def reply(history: Sequence[Message]) -> str:
    return " ".join(f"w{number}" for number in range(40))


def stopped(*stops: tuple[int, str]) -> FakeWorld:
    """A call with one question and stops at given ms with their ids."""
    call = FakeWorld(FakeCaller([(500, 1_300, QUESTION)], 9_000), HEARD, reply)

    def stop(event_id: str) -> Callable[[], None]:
        def stops() -> None:
            assert call.session is not None
            call.session.on_stop(event_id)

        return stops

    for at_ms, event_id in stops:
        call.caller.at[at_ms] = stop(event_id)
    call.hold()
    return call


def named(call: FakeWorld, *names: str) -> list[dict[str, Any]]:
    return [record for record in call.timeline.records if record.get("name") in names]


@pytest.mark.conformance("M-06")
def test_a_stop_silences_the_agent_ends_the_turn_and_cancels_its_provider() -> None:
    call = stopped((STOPPED_MS, "ann/1"))
    assert call.timeline.signals("stop", "abort", "close", "playback_cancelled") == [
        ("stop", ""),
        ("abort", "cancelled"),
        ("close", ""),
        ("playback_cancelled", "cancel_fence_applied"),
    ]
    assert np.any(call.caller.heard_between(0, STOPPED_MS))
    assert not np.any(call.caller.heard_between(STOPPED_MS + 60, 9_000))
    assert call.responder.closed == 1
    assert call.caller.states[-1] == "listening"
    assert check_stream(iter(call.timeline.lines)).faults == []


def test_only_what_was_heard_before_the_stop_is_remembered() -> None:
    call = stopped((STOPPED_MS, "ann/1"))
    assert call.session is not None
    said = call.session.history[-1]
    assert said.role == "assistant"
    assert 0 < len(said.text.split()) < 40


def test_a_stop_that_comes_twice_or_when_nobody_speaks_ends_nothing_more() -> None:
    call = stopped((200, "ann/0"), (STOPPED_MS, "ann/1"), (STOPPED_MS + 500, "ann/1"), (7_000, "ann/2"))
    assert call.timeline.signals("stop", "abort") == [("stop", ""), ("abort", "cancelled")]
    assert call.timeline.signals("abi_reject") == [("abi_reject", "abi_duplicate_event")]
    assert len(named(call, "cancel_ignored")) == 2


def test_a_call_with_a_stop_replays_to_the_same_decisions() -> None:
    call = stopped((STOPPED_MS, "ann/1"))
    replay = Replay(**kernel_arguments(call.timeline.headers[0]))
    for block in call.timeline.blocks:
        replay.feed(block)
    replay.finish()
    assert list(replay.divergences) == []


def test_a_stop_after_the_end_of_the_call_is_nothing() -> None:
    call = stopped()
    assert call.session is not None
    before = len(call.timeline.records)
    call.session.on_stop("ann/9")
    assert call.session.kernel.drain_records(10) == b""
    assert len(call.timeline.records) == before
