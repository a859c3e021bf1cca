"""Audio formats at the seams of a session.

Inside a session audio is 16-bit signed little-endian mono PCM. The two rates are fixed: recognition
and voice activity detection run at 16 kHz because the Silero weights and the pocketsphinx model were
trained at it; speech leaves at 24 kHz, which WebRTC carries without a fractional frame.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

INPUT_RATE_HZ = 16_000
OUTPUT_RATE_HZ = 24_000
FRAME_MS = 20
OUTPUT_FRAME_SAMPLES = OUTPUT_RATE_HZ * FRAME_MS // 1000
MAX_QUEUED_MS = 40
"""Most audio that may wait behind the egress gate (law 5 of the house)."""

Pcm: TypeAlias = npt.NDArray[np.int16]
"""Mono samples, shape ``(n,)``, dtype int16."""


class WordMark(msgspec.Struct, frozen=True):
    """Where a spoken word begins.

    Attributes:
        text: the word as written, with its punctuation.
        start: samples at 24 kHz from the start of its segment.
    """

    text: str
    start: int


class SpeechChunk(msgspec.Struct, frozen=True):
    """A piece of synthesised speech.

    Attributes:
        pcm: samples at 24 kHz.
        words: marks of words that begin in the segment and were not reported before. ``start`` counts
            from the start of the segment, not of the chunk.
    """

    pcm: Pcm
    words: tuple[WordMark, ...] = ()
