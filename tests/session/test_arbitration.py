"""What the pipeline file says of texts during an answer, and of words that come too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.loader import parse_pipeline
from tests.session.fakes import FakeCaller, FakeRecognition, FakeWorld
from tests.session.test_session import HEARD, LONG, QUESTION, ask, reply

if TYPE_CHECKING:
    from rspp.contracts.ports import Hypothesis

TEXT = "please stop now"


def texted(overlap: str) -> FakeWorld:
    """A long answer that is texted into."""
    call = FakeWorld(FakeCaller([ask()], 20_000), HEARD, reply, {"turn": {"overlap": overlap}})
    call.caller.at[4_000] = lambda: call.session.on_text(TEXT)  # type: ignore[union-attr]
    call.hold()
    return call


def agent(call: FakeWorld) -> list[str]:
    return [text for of_caller, text in call.caller.transcripts if not of_caller]


def test_a_text_preempts_the_answer() -> None:
    call = texted("preempt")
    assert [name for name, _ in call.timeline.signals("barge_in", "abort", "commit")] == [
        "barge_in",
        "abort",
        "commit",
    ]
    assert agent(call)[-1] == "stopped."
    assert agent(call)[0] != LONG


def test_a_text_waits_for_the_end_of_the_answer() -> None:
    call = texted("queue")
    assert call.timeline.signals("barge_in", "abort", "commit") == [("commit", ""), ("commit", "")]
    assert agent(call) == [LONG, "stopped."]


def test_a_deferred_text_is_no_turn_of_its_own_and_is_not_forgotten() -> None:
    call = texted("defer")
    assert call.timeline.signals("defer", "barge_in", "abort", "commit") == [
        ("defer", "admission_capacity_defer"),
        ("commit", ""),
    ]
    assert agent(call) == [LONG]
    assert call.session is not None
    assert [message.text for message in call.session.history] == [f"a question {TEXT}", LONG]


class LateRecognition(FakeRecognition):
    """Knows the words only seconds after they were said."""

    async def conclude(self) -> Hypothesis:
        await asyncio.sleep(2.8)
        return await super().conclude()


def heard_late(**turn: object) -> FakeWorld:
    call = FakeWorld(FakeCaller([(500, 1_000, QUESTION)], 18_000), HEARD, reply, {"turn": turn})
    call.recognition = LateRecognition(HEARD)
    call.hold()
    return call


@pytest.mark.parametrize("action", ["drop", "diagnostics"])
def test_late_words_are_not_answered(action: str) -> None:
    call = heard_late(late_event=action)
    assert agent(call) == []
    assert call.timeline.signals("turn_open") == []


def test_late_words_are_answered_within_their_grace() -> None:
    call = heard_late(late_event="remap", late_grace_ms=1_500)
    assert agent(call) == [LONG]
    assert (True, "a question") in call.caller.transcripts
    names = [record.get("name") for record in call.timeline.records]
    assert "late_event_remapped" in names


def test_late_words_beyond_their_grace_are_not_answered() -> None:
    assert agent(heard_late(late_event="remap", late_grace_ms=100)) == []


@pytest.mark.parametrize("turn", [{"late_event": "remap"}, {"late_grace_ms": 100}])
def test_grace_and_remap_go_together(turn: dict[str, object]) -> None:
    rules = {"provider": "rules", "rules": [{"hear": "hello", "say": "Hello."}]}
    document = msgspec.json.encode({"name": "late", "llm": rules, "turn": turn}).decode()
    with pytest.raises(ConfigurationError, match=r"turn\.late_grace_ms"):
        parse_pipeline(document, "late.yaml")
