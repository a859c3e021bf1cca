"""Windows and lead-in are the caller's audio, sample by sample, however it is cut into frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rspp.nodes.voice_activity import LEAD_IN_SAMPLES, VoiceActivityNode

if TYPE_CHECKING:
    from rspp.contracts.media import Pcm

WINDOW_SAMPLES = 512


class FakeDetector:
    window_samples = WINDOW_SAMPLES

    def __init__(self) -> None:
        self.windows: list[Pcm] = []

    def probability(self, window: Pcm) -> float:
        self.windows.append(window.copy())
        return 0.25

    def close(self) -> None: ...


@pytest.mark.parametrize("frame", [1, 160, 320, WINDOW_SAMPLES, LEAD_IN_SAMPLES, LEAD_IN_SAMPLES + 1])
def test_frames_of_every_length_give_the_same_windows(frame: int) -> None:
    heard(np.arange(3 * LEAD_IN_SAMPLES, dtype=np.int16), [frame])


@given(st.lists(st.integers(50, 3 * LEAD_IN_SAMPLES), min_size=1, max_size=8), st.integers(1, 20_000))
def test_so_do_frames_of_changing_lengths(frames: list[int], samples: int) -> None:
    heard(np.arange(samples, dtype=np.int16), frames)


def heard(sound: Pcm, frames: list[int]) -> None:
    detector = FakeDetector()
    told: list[tuple[int, int]] = []
    node = VoiceActivityNode(detector, lambda permille, sample: told.append((permille, sample)))
    after_silence = np.concatenate((np.zeros(LEAD_IN_SAMPLES, dtype=np.int16), sound))
    fed = index = 0
    while fed < len(sound):
        taken = sound[fed : fed + frames[index % len(frames)]]
        node.feed(taken)
        fed, index = fed + len(taken), index + 1
        assert np.array_equal(node.lead_in(), after_silence[fed : fed + LEAD_IN_SAMPLES])
    whole = len(sound) // WINDOW_SAMPLES
    assert told == [(250, number * WINDOW_SAMPLES) for number in range(whole)]
    np.testing.assert_array_equal(
        np.concatenate([np.zeros(0, np.int16), *detector.windows]), sound[: whole * WINDOW_SAMPLES]
    )


def test_what_is_handed_out_is_not_overwritten() -> None:
    node = VoiceActivityNode(FakeDetector(), lambda *_: None)
    node.feed(np.full(100, 7, dtype=np.int16))
    lead_in = node.lead_in()
    node.feed(np.full(LEAD_IN_SAMPLES, 9, dtype=np.int16))
    assert set(lead_in.tolist()) == {0, 7}
