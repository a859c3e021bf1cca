"""The agent's voice track: a source behind the gate that never holds more than 40 ms."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
from livekit import rtc

from rspp.contracts.errors import TransportError
from rspp.contracts.media import OUTPUT_RATE_HZ

if TYPE_CHECKING:
    from rspp.contracts.media import Pcm

NATIVE_QUEUE_MS = 20
"""The native source accepts a frame at once while it holds at most this much and takes one more before
it makes the writer wait, so with frames of 20 ms it never holds more than 40 ms."""
NATIVE_STEP_SAMPLES = OUTPUT_RATE_HZ // 100
"""The native source plays in steps of 10 ms; a shorter rest would wait for the next utterance."""
SETTLE_SECONDS = 0.005
SETTLE_ATTEMPTS = 20
"""After a cancelled write the native source is busy until that frame is in, at most 40 ms."""


class VoiceSource:
    """Takes frames at 24 kHz, one after another, and knows how many samples are still to be played.

    The SDK's own figure runs freely from the first frame; this one is set right each time the native
    source reports that it went down to its threshold.
    """

    def __init__(self) -> None:
        self.native = rtc.AudioSource(OUTPUT_RATE_HZ, 1, queue_size_ms=NATIVE_QUEUE_MS)
        self._level = 0
        self._level_at = time.monotonic()
        self._closed = False

    def queued_samples(self) -> int:
        """Samples accepted and not yet played."""
        played = int((time.monotonic() - self._level_at) * OUTPUT_RATE_HZ)
        return max(0, self._level - played)

    async def write(self, pcm: Pcm) -> None:
        """Queue one frame; returns when at most 20 ms wait to be played.

        Args:
            pcm: samples at 24 kHz, shape ``(n,)``, at most 20 ms; filled up with silence to 10 ms steps.

        Raises:
            TransportError: the native source does not take the frame.
        """
        rest = -len(pcm) % NATIVE_STEP_SAMPLES
        if rest:
            pcm = np.concatenate([pcm, np.zeros(rest, np.int16)])
        frame = rtc.AudioFrame(pcm.tobytes(), OUTPUT_RATE_HZ, 1, len(pcm))
        for _ in range(SETTLE_ATTEMPTS):
            if self._closed:
                return
            self._settle(self.queued_samples() + len(pcm))
            try:
                await self.native.capture_frame(frame)
            except Exception as error:  # the SDK raises bare exceptions
                self._settle(self.queued_samples() - len(pcm))
                if "InvalidState" not in str(error):
                    raise TransportError(
                        f"the room did not take a frame of speech: {error}", hint="the call ends; join again"
                    ) from error
                await asyncio.sleep(SETTLE_SECONDS)
                continue
            threshold = NATIVE_QUEUE_MS * OUTPUT_RATE_HZ // 1000
            if self.queued_samples() > threshold:
                self._settle(threshold)
            return
        raise TransportError(
            f"the room took no frame of speech for {SETTLE_ATTEMPTS * SETTLE_SECONDS * 1000:.0f} ms",
            hint="the call ends; join again",
        )

    def clear(self) -> int:
        """Drop what is queued; returns how many samples were dropped unheard."""
        dropped = self.queued_samples()
        self._settle(0)
        if not self._closed:
            self.native.clear_queue()
        return dropped

    async def close(self) -> None:
        """Free the native source; safe to call twice."""
        if not self._closed:
            self._closed = True
            await self.native.aclose()

    def _settle(self, level: int) -> None:
        self._level = max(0, level)
        self._level_at = time.monotonic()
