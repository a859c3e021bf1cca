"""What was sent and what was heard, on one timeline of samples.

Sample ``n`` of the timeline is ``n / 24000`` s after the caller's own monotonic start. What is sent
stands where its frame was due; a frame that left late makes every figure longer, never shorter. What
is heard stands where it arrived.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rspp.tooling.caller.sound import RATE_HZ, Samples

if TYPE_CHECKING:
    from pathlib import Path

FRAME_SAMPLES = RATE_HZ // 100
"""10 ms, the frame of the room."""

ENVELOPE_FRAMES = 50
"""Frames on either side over which the steady arrival time is sought (0.5 s)."""
STEP_SAMPLES = RATE_HZ * 10 // 1000
"""A steady arrival that moves by more than this is a gap or a drift and moves the recording with it."""


@dataclass(slots=True)
class HeardTrack:
    """Frames of one participant's voice with the sample of the timeline at which each arrived."""

    identity: str
    arrivals: list[int] = field(default_factory=list)
    frames: list[Samples] = field(default_factory=list)

    def add(self, arrival: int, pcm: Samples) -> None:
        """Keep one frame."""
        self.arrivals.append(arrival)
        self.frames.append(pcm)


def place(arrivals: list[int], frames: list[Samples], length: int) -> Samples:
    """Place frames by arrival without the jitter of the process that noted it.

    A frame is noted late when this process was busy, never early. So the steady arrival is the lower
    envelope of ``arrival - samples so far``: the larger of its minimum over the next and over the last
    0.5 s. A stall of the process leaves it untouched, a gap or a drift of the stream moves it at once.

    Args:
        arrivals: sample of the timeline at which each frame arrived.
        frames: the frames.
        length: samples of the result.

    Returns:
        Samples, zero where nothing was heard; where frames overlap the later one stands.
    """
    heard = np.zeros(length, dtype=np.int16)
    if not frames:
        return heard
    ends = np.cumsum([frame.size for frame in frames])
    starts = np.concatenate(([0], ends[:-1]))
    lag = np.asarray(arrivals, dtype=np.int64) - starts
    padded = np.pad(lag, ENVELOPE_FRAMES, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, ENVELOPE_FRAMES + 1)
    minima = windows.min(axis=1)
    steady = np.maximum(minima[ENVELOPE_FRAMES:], minima[: lag.size])
    current = int(steady[0])
    for begin, base, frame in zip(starts, steady, frames, strict=True):
        if abs(int(base) - current) > STEP_SAMPLES:
            current = int(base)
        first = int(begin) + current
        skipped = max(0, -first)
        last = min(length, first + frame.size)
        if last > first + skipped:
            heard[first + skipped : last] = frame[skipped : last - first]
    return heard


def write_wav(path: Path, channels: list[Samples]) -> None:
    """Write channels of one length as a WAV file, all or nothing."""
    temporary = path.with_name(path.name + ".part")
    with wave.open(str(temporary), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.stack(channels, axis=1).tobytes())
    temporary.replace(path)


def mix(tracks: list[Samples], length: int) -> Samples:
    """Add tracks up as a listener hears them, with clipping."""
    total = np.zeros(length, dtype=np.int32)
    for track in tracks:
        total += track
    return np.clip(total, -32768, 32767).astype(np.int16)
