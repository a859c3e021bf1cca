"""What the speech edge of a call decided is in its timeline, under every flow mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rspp.contracts.ports import Hypothesis
from tests.session.fakes import FakeCaller, FakeWorld, voice_of

QUESTION = 8_001
LONG = " ".join(f"w{number}" for number in range(40))


def decisions(flow: str) -> list[dict[str, Any]]:
    edge = {"from": "tts", "to": "playout", "max_queue_ms": 1_000, "flow_control": flow}
    call = FakeWorld(
        FakeCaller([(500, 1_300, QUESTION)], 14_000),
        {QUESTION: Hypothesis("a question", complete=True)},
        lambda history: LONG,
        {"graph": {"edges": [{**edge, "watermarks": {"queue_items": {"high": 20, "low": 10}}}]}},
    )
    call.hold()
    voice = call.caller.voice
    assert np.array_equal(voice[voice != 0], voice_of(LONG))
    events = [
        {**record["event"], "at_us": record["at_us"]}
        for record in call.timeline.records
        if record["kind"] == "signal"
    ]
    return [event for event in events if event.get("edge_id") == "tts->playout"]


@pytest.mark.parametrize(
    ("flow", "told"),
    [
        ("signal", {"watermark", "flow_xoff", "flow_xon"}),
        ("credit", {"watermark", "credit_grant"}),
        ("hybrid", {"watermark", "flow_xoff", "flow_xon", "credit_grant"}),
    ],
)
def test_g14_f4_the_speech_edge_tells_its_producer_and_loses_nothing(flow: str, told: set[str]) -> None:
    found = decisions(flow)
    assert {fields["signal"] for fields in found} == told
    switches = [fields["signal"] for fields in found if fields["signal"].startswith("flow_")]
    pairs = len(switches) // 2
    assert switches == ["flow_xoff", "flow_xon"] * pairs
    assert (pairs > 0) == (flow != "credit")
    # Each is told when it was decided, not with the next pressure record.
    assert len({fields["at_us"] for fields in found if fields["signal"].startswith("flow_")}) >= pairs
