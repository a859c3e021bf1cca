"""Cuts the caller's audio into the detector's windows, and keeps the last of it for the recogniser.

All of it runs within the step of the frame that came: the buffers are made once and filled in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rspp.contracts.media import INPUT_RATE_HZ, Pcm

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.ports import VoiceActivityDetector

LEAD_IN_SAMPLES = INPUT_RATE_HZ * 3 // 10
"""Audio before the onset that the recogniser gets too: 300 ms, because a soft first sound lies below
the detector's threshold."""


class VoiceActivityNode:
    """Asks the detector about each window.

    Args:
        detector: tells speech from silence.
        on_window: gets the speech probability of a window, 0 to 1000, and the index of its first sample at
            16 kHz since the caller's audio began.
    """

    def __init__(self, detector: VoiceActivityDetector, on_window: Callable[[int, int], None]) -> None:
        self._detector = detector
        self._on_window = on_window
        self._window = np.zeros(detector.window_samples, dtype=np.int16)
        self._filled = 0
        self._media_sample = 0
        self._recent = np.zeros(LEAD_IN_SAMPLES, dtype=np.int16)
        self._oldest = 0

    def feed(self, pcm: Pcm) -> None:
        """Take audio of the caller: int16 at 16 kHz, shape (samples,)."""
        self._keep(pcm)
        size, offset = len(self._window), 0
        while offset < len(pcm):
            taken = min(size - self._filled, len(pcm) - offset)
            self._window[self._filled : self._filled + taken] = pcm[offset : offset + taken]
            self._filled += taken
            offset += taken
            if self._filled == size:
                self._filled = 0
                media_sample = self._media_sample
                self._media_sample += size
                self._on_window(round(self._detector.probability(self._window) * 1000), media_sample)

    def lead_in(self) -> Pcm:
        """Return a copy of the last 300 ms, oldest first; silence stands for what never came."""
        return np.roll(self._recent, -self._oldest)

    def _keep(self, pcm: Pcm) -> None:
        latest = pcm[-LEAD_IN_SAMPLES:]
        ahead = min(len(latest), LEAD_IN_SAMPLES - self._oldest)
        self._recent[self._oldest : self._oldest + ahead] = latest[:ahead]
        self._recent[: len(latest) - ahead] = latest[ahead:]
        self._oldest = (self._oldest + len(latest)) % LEAD_IN_SAMPLES
