"""A recogniser that does not return is waited for: no second call ever joins the first one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rspp.contracts.ports import Hypothesis
from tests.session.fakes import FakeCaller, FakeRecognition, FakeWorld

if TYPE_CHECKING:
    from rspp.contracts.media import Pcm

QUESTION = 8_001


class HangingRecognition(FakeRecognition):
    """Its first call takes for ever; counts the calls."""

    def __init__(self) -> None:
        super().__init__({QUESTION: Hypothesis("a question", complete=True)})
        self.calls = 0

    async def begin(self) -> None:
        self.calls += 1
        if self.calls == 1:
            await asyncio.sleep(10_000)
        await super().begin()

    async def accept(self, pcm: Pcm) -> Hypothesis | None:
        self.calls += 1
        return await super().accept(pcm)

    async def conclude(self) -> Hypothesis:
        self.calls += 1
        return await super().conclude()


def test_a_call_that_hangs_is_joined_by_no_other() -> None:
    bursts = [(500, 1_300, QUESTION), (9_000, 9_800, QUESTION)]
    call = FakeWorld(
        FakeCaller(bursts, 20_000), {}, lambda history: "an answer.", {"failure_notice": "sorry"}
    )
    call.recognition = recognition = HangingRecognition()
    session = call.hold()
    assert recognition.calls == 1
    assert session.reason == "caller_left"
    assert [message.text for message in session.history if message.role == "user"] == []
