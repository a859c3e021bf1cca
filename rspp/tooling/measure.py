"""Figures from a caller's recording alone: energy onsets and offsets of its PCM, nobody's stamps.

A voice is followed in windows of 5 ms. It becomes audible at a window whose root mean square reaches
-40 dBFS, of two such windows in a row, and stops being audible after the last window at or above
-46 dBFS that is followed by 30 ms below it. Onsets are therefore exact to 5 ms. The 30 ms bridge the
closures inside words; -40 dBFS lies 25 dB under the synthesised voices and 30 dB over what the codec
leaves of silence.
"""

from __future__ import annotations

import itertools
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WINDOW_MS = 5
ON_LEVEL = 0.01
"""Root mean square of a window as a part of full scale at which a voice becomes audible (-40 dBFS)."""
OFF_LEVEL = 0.005
"""A window below this is inaudible (-46 dBFS)."""
BRIDGE_MS = 30
"""Inaudible windows of this length in a row end a stretch of voice."""

Samples: TypeAlias = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Stretch:
    """An audible stretch of one voice, ms from the start of the recording."""

    begin: float
    end: float

    @property
    def length(self) -> float:
        """Length in ms."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Recording:
    """Two voices on one timeline.

    Attributes:
        rate_hz: samples per second.
        sent: the caller's voice.
        heard: the agent's voice as it arrived at the caller.
    """

    rate_hz: int
    sent: Samples
    heard: Samples

    @property
    def length_ms(self) -> float:
        """Length of the call."""
        return self.sent.size * 1000 / self.rate_hz

    def ms(self, sample: int) -> float:
        """Turn a sample position into ms."""
        return sample * 1000 / self.rate_hz

    def caller(self, begin: int, end: int) -> Stretch | None:
        """Return what is audible of the caller between two samples, from first onset to last offset."""
        found = stretches(self.sent[max(0, begin) : end], self.rate_hz)
        if not found:
            return None
        shift = self.ms(max(0, begin))
        return Stretch(found[0].begin + shift, found[-1].end + shift)


def read_recording(path: Path) -> Recording:
    """Read a stereo recording: caller left, agent right.

    Raises:
        ConfigurationError: it is missing or of another kind.
    """
    channels, rate = read_channels(path)
    if len(channels) != 2:
        raise ConfigurationError(f"{path}: {len(channels)} channels; a call has 2", hint="name a call.wav")
    return Recording(rate, channels[0], channels[1])


def read_channels(path: Path) -> tuple[list[Samples], int]:
    """Read every channel of a 16-bit WAV file; returns them with the rate.

    Raises:
        ConfigurationError: it is missing or of another kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            count, rate, width = file.getnchannels(), file.getframerate(), file.getsampwidth()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise ConfigurationError(f"{path}: {error}", hint="name a 16-bit WAV file") from None
    if width != 2:
        raise ConfigurationError(f"{path}: {width * 8}-bit samples; 16 are needed", hint="convert the file")
    samples = np.frombuffer(data, dtype=np.int16).reshape(-1, count)
    return [np.ascontiguousarray(samples[:, index]) for index in range(count)], rate


def levels(pcm: Samples, rate_hz: int, window_ms: int = WINDOW_MS) -> npt.NDArray[np.float64]:
    """Return the root mean square of each whole window as a part of full scale."""
    size = rate_hz * window_ms // 1000
    count = pcm.size // size
    windows = pcm[: count * size].reshape(count, size).astype(np.float64) / 32768
    return np.asarray(np.sqrt(np.mean(np.square(windows), axis=1)), dtype=np.float64)


def stretches(pcm: Samples, rate_hz: int) -> list[Stretch]:
    """Return the audible stretches of one voice, in order, ms from its first sample."""
    loudness = levels(pcm, rate_hz)
    bridge = BRIDGE_MS // WINDOW_MS
    found: list[Stretch] = []
    begin, last = -1, -1
    for index, level in enumerate(loudness):
        if begin < 0:
            following = loudness[index + 1] if index + 1 < loudness.size else 0.0
            if level >= ON_LEVEL and following >= ON_LEVEL:
                begin = last = index
        elif level >= OFF_LEVEL:
            last = index
        elif index - last >= bridge:
            found.append(Stretch(begin * WINDOW_MS, (last + 1) * WINDOW_MS))
            begin = -1
    if begin >= 0:
        found.append(Stretch(begin * WINDOW_MS, (last + 1) * WINDOW_MS))
    return found


def joined(found: Sequence[Stretch], pause_ms: float) -> list[Stretch]:
    """Join stretches that are less than ``pause_ms`` apart: words become answers."""
    result: list[Stretch] = []
    for stretch in found:
        if result and stretch.begin - result[-1].end < pause_ms:
            result[-1] = Stretch(result[-1].begin, stretch.end)
        else:
            result.append(stretch)
    return result


def answer_delay(voice: Sequence[Stretch], speech_end: float) -> float | None:
    """End of the caller's speech to the first audible answer, ms; none when there is none.

    A negative delay means that the agent was already speaking when the caller ended.
    """
    for stretch in voice:
        if stretch.begin >= speech_end:
            return stretch.begin - speech_end
        if stretch.end > speech_end:
            return stretch.begin - speech_end
    return None


def silence_delay(voice: Sequence[Stretch], onset: float, speech_end: float) -> float | None:
    """Onset of an interruption to the agent's last audible instant while the caller speaks, ms.

    The strictest reading: whatever of the old answer is still audible before the caller has ended
    counts, a late leak as well. Zero when the agent paused by itself at the onset; none when the agent
    spoke on past the caller's end.
    """
    last = onset
    for stretch in voice:
        if stretch.end > onset and stretch.begin < speech_end:
            last = max(last, stretch.end)
    return None if last >= speech_end else last - onset


def longest_silence(voice: Sequence[Stretch], begin: float, end: float) -> float | None:
    """The agent's longest silence that touches the time from ``begin`` to ``end``, ms.

    None when the agent never goes on after it.
    """
    longest = 0.0
    for before, after in itertools.pairwise(voice):
        if before.end < end and after.begin > begin:
            longest = max(longest, after.begin - before.end)
    if not voice or voice[-1].end <= end:
        return None
    return longest


def round_trips(sent: Sequence[Stretch], heard: Sequence[Stretch], limit_ms: float = 500.0) -> list[float]:
    """Onset of each tone sent to the onset of its echo, ms; tones without an echo are left out."""
    trips: list[float] = []
    for tone in sent:
        echoes = [echo.begin - tone.begin for echo in heard if 0 < echo.begin - tone.begin <= limit_ms]
        if echoes:
            trips.append(echoes[0])
    return trips


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, 95th percentile and extremes of one figure."""

    count: int
    median: float
    p95: float
    minimum: float
    maximum: float


def summarise(values: Sequence[float]) -> Summary | None:
    """Summarise measured values; none when there is none. The 95th percentile is a value that occurred."""
    if not values:
        return None
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return Summary(
        count=int(ordered.size),
        median=float(np.median(ordered)),
        p95=float(np.percentile(ordered, 95, method="higher")),
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
    )
