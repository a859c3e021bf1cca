"""Chat texts pass the ingress gateway: size, duplicates, authority; a refusal is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rspp.contracts.validation import check_stream
from rspp.session.session import Session
from rspp.session.texts import MAX_EARLY_TEXTS
from tests.session.fakes import FakeCaller, FakeWorld
from tests.session.test_session import HEARD, reply

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = 16_384


def texted(*texts: tuple[int, str, str]) -> FakeWorld:
    """A call in which texts with their ids arrive at given ms."""
    call = FakeWorld(FakeCaller([], 9_000), HEARD, reply, {})

    def send(text: str, event_id: str) -> Callable[[], None]:
        def sends() -> None:
            assert isinstance(call.session, Session)
            call.session.on_text(text, event_id)

        return sends

    for at_ms, text, event_id in texts:
        call.caller.at[at_ms] = send(text, event_id)
    call.hold()
    return call


def refusals(call: FakeWorld) -> list[dict[str, Any]]:
    events = [record["event"] for record in call.timeline.records if record["kind"] == "signal"]
    return [event for event in events if event["signal"] == "abi_reject"]


def arrivals(call: FakeWorld) -> list[dict[str, Any]]:
    return [record for record in call.timeline.records if record.get("name") == "arrival"]


def user_texts(call: FakeWorld) -> list[str]:
    assert call.session is not None
    return [message.text for message in call.session.history if message.role == "user"]


def test_a_text_that_comes_again_after_a_reconnection_is_refused_and_recorded() -> None:
    call = texted((500, "please stop now", "ann/1"), (4_000, "please stop now", "ann/1"))
    (refused,) = refusals(call)
    assert (refused["reason"], refused["emitted_by"]) == ("abi_duplicate_event", "RK-05")
    assert refused["causal_parent_id"] == "arr/fake/1/2"
    assert user_texts(call) == ["please stop now"]
    first, second = arrivals(call)
    assert first["event"] == second["event"]
    assert (first["number"], second["number"], first["bytes"]) == (1, 2, 15)
    assert call.timeline.signals("turn_open") == [("turn_open", "")]


def test_equal_texts_with_ids_of_their_own_are_both_answered() -> None:
    call = texted((500, "please stop now", "ann/1"), (4_000, "please stop now", "ann/2"))
    assert refusals(call) == []
    assert len(user_texts(call)) == 2


@pytest.mark.parametrize(("letters", "refused"), [(LARGEST // 2, 0), (LARGEST // 2 + 1, 1)])
def test_a_text_is_refused_for_its_bytes_and_not_cut(letters: int, refused: int) -> None:
    call = texted((500, "é" * letters, "ann/1"), (3_000, "please stop now", "ann/2"))
    assert [event["reason"] for event in refusals(call)] == ["abi_size_exceeded"] * refused
    assert len(user_texts(call)) == 2 - refused
    assert user_texts(call)[-1] == "please stop now"


def test_texts_without_ids_are_new_ones_and_carry_the_epoch_of_the_session() -> None:
    call = texted((500, "please stop now", ""), (4_000, "please stop now", ""))
    assert refusals(call) == []
    assert [record["carrier_epoch"] for record in arrivals(call)] == [None, None]
    names = [record.get("name") for record in call.timeline.records]
    assert names.count("epoch_enriched") == 2


def test_a_recording_with_refusals_keeps_every_rule() -> None:
    call = texted((500, "x" * 20_000, "ann/1"), (700, "please stop now", "ann/2"), (800, "stop", "ann/2"))
    assert len(refusals(call)) == 2
    assert check_stream(iter(call.timeline.lines)).faults == []


def test_of_the_texts_before_the_conversation_only_the_latest_are_kept() -> None:
    call = FakeWorld(FakeCaller([], 3_000), HEARD, reply, {"turn": {"overlap": "queue"}})
    call.early_texts = [f"text {number}" for number in range(MAX_EARLY_TEXTS + 3)]
    call.hold()
    assert len(arrivals(call)) == MAX_EARLY_TEXTS
    assert call.responder.histories[0][0].text.startswith("text 3 ")
