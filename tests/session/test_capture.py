"""What waits for a flush is bounded, reaches the recorder with it alone, and tells when it was too much."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from rspp.evidence.levels import RecordingLevel
from rspp.evidence.memory import MemoryRecorder
from rspp.nodes.playout import sound_time
from rspp.pipeline.data_flow import data_flow
from rspp.pipeline.spec import PipelineSpec
from rspp.session.capture import MAX_WAITING_BYTES, PayloadCapture

RULES = {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}
SECOND = np.ones(16_000, dtype=np.int16)


def capture_into(recorder: MemoryRecorder) -> PayloadCapture:
    spec = msgspec.convert({"name": "fake", "llm": RULES}, PipelineSpec)
    level = RecordingLevel("L2", allow=("text_raw", "audio_raw"))
    return PayloadCapture(level, recorder, data_flow(spec))


def test_nothing_reaches_the_recorder_before_the_flush() -> None:
    recorder = MemoryRecorder("L2")
    capture = capture_into(recorder)
    capture.caller_sound(0, 0, SECOND)
    capture.caller_sound(1, 1_000_000, SECOND)
    capture.text("caller", 1, 1_000_000, "good morning", final=True)
    capture.agent_sound(1, 1_500_000, SECOND)
    capture.agent_cleared(1, 1_600_000, 480)
    assert recorder.payloads == []
    capture.flush()
    kept = [(kind, turn, len(data)) for kind, turn, _, data in recorder.payloads]
    assert sorted(kept) == [
        ("audio_raw", 0, 32_000),
        ("audio_raw", 1, 0),
        ("audio_raw", 1, 32_000),
        ("audio_raw", 1, 32_000),
        ("text_raw", 1, 12),
    ]
    capture.flush()
    assert len(recorder.payloads) == 5


def test_what_waits_is_bounded_and_too_much_of_it_lowers_the_level() -> None:
    recorder = MemoryRecorder("L2")
    capture = capture_into(recorder)
    assert capture.lower(0, failing=False) is None
    for second in range(60):
        capture.caller_sound(0, second * 1_000_000, SECOND)
    capture.flush()
    assert MAX_WAITING_BYTES - 32_000 < sum(len(data) for *_, data in recorder.payloads) <= MAX_WAITING_BYTES
    step = capture.lower(7, failing=False)
    assert step is not None
    assert (step.to_level, step.reason) == ("L0", "payload_store_unavailable")
    assert not capture.wants_sound("caller")


@pytest.mark.parametrize(("now_us", "told_us"), [(0, 0), (1, 5_000), (5_000, 5_000), (5_001, 10_000)])
def test_sound_is_told_on_a_grid_and_never_earlier(now_us: int, told_us: int) -> None:
    assert sound_time(now_us) == told_us
