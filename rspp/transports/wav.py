"""WAV files as the two ends of a loopback call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
import soundfile
import soxr

from rspp.contracts.errors import ConfigurationError
from rspp.contracts.media import INPUT_RATE_HZ, OUTPUT_RATE_HZ, Pcm
from rspp.transports.loopback import INPUT_TICK_SAMPLES, TICK_MS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SETTLE_MS = 2_500
"""The call ends when the file is over and the agent has been silent this long: longer than the
longest wait for an unfinished sentence and its answer."""

MAX_TAIL_MS = 120_000
"""The call ends this long after the file at the latest."""

MAX_DURATION_S = 4 * 3600
"""Longest input file."""


def read_wav(path: Path) -> Pcm:
    """Read an audio file as mono at 16 kHz.

    Raises:
        ConfigurationError: missing, unreadable, empty, or longer than four hours.
    """
    hint = (
        "give a WAV file, such as one made with: "
        "python -m rspp.providers.espeak_process --text 'what time do you open' --wav question.wav"
    )
    try:
        with soundfile.SoundFile(str(path)) as file:
            if file.frames > MAX_DURATION_S * file.samplerate:
                raise ConfigurationError(f"{path}: longer than four hours", hint="split the file")
            samples = file.read(dtype="float32", always_2d=True)
            rate = file.samplerate
    except (OSError, soundfile.SoundFileError) as error:
        what = "no such file" if not path.exists() else "not a readable audio file"
        raise ConfigurationError(f"{path}: {what}", hint=hint) from error
    if not len(samples):
        raise ConfigurationError(f"{path}: holds no audio", hint=hint)
    mono = soxr.resample(samples.mean(axis=1), rate, INPUT_RATE_HZ)
    return np.asarray(np.clip(np.round(mono * 32767), -32768, 32767), dtype=np.int16)


class WavRecorder:
    """Writes what the agent played to a WAV file that appears whole or not at all.

    Args:
        path: the file; written next to it first and moved into place on success.

    Raises:
        ConfigurationError: the folder is missing or not writable, or the file is a folder.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise ConfigurationError(f"{path}: is a folder", hint="name the WAV file to write")
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        try:
            self._file = soundfile.SoundFile(
                str(self._partial), "w", samplerate=OUTPUT_RATE_HZ, channels=1, subtype="PCM_16", format="WAV"
            )
        except (OSError, soundfile.SoundFileError) as error:
            raise ConfigurationError(
                f"{path}: cannot be written", hint="check that its folder exists and is writable"
            ) from error

    def write(self, pcm: Pcm) -> None:
        """Append samples at 24 kHz."""
        self._file.write(pcm)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


class WavCaller:
    """A caller who says what is in a file and hangs up when the agent has nothing left to say.

    Args:
        speech: samples at 16 kHz.
        recorder: takes what the agent played.
    """

    def __init__(self, speech: Pcm, recorder: WavRecorder) -> None:
        self._speech = speech
        self._recorder = recorder
        self._position = 0
        self._quiet_ms = 0
        self._tail_ms = 0
        self.transcripts: list[tuple[bool, str]] = []
        """Final transcripts in order: whether the caller's, and the words."""

    def hear(self, pcm: Pcm) -> None:
        """Record the agent."""
        self._recorder.write(pcm)
        self._quiet_ms = 0 if pcm.any() else self._quiet_ms + TICK_MS

    def speak(self) -> Pcm | None:
        """Give the file, then silence until the agent has settled."""
        frame = self._speech[self._position : self._position + INPUT_TICK_SAMPLES]
        self._position += INPUT_TICK_SAMPLES
        if not len(frame):
            self._tail_ms += TICK_MS
            if min(self._tail_ms, self._quiet_ms) >= SETTLE_MS or self._tail_ms >= MAX_TAIL_MS:
                return None
        return np.pad(frame, (0, INPUT_TICK_SAMPLES - len(frame)))

    def agent_state(self, state: str) -> None:
        """Not shown in a file."""

    def transcript(self, text: str, *, caller: bool, final: bool) -> None:
        """Keep final transcripts."""
        if final and text:
            self.transcripts.append((caller, text))
