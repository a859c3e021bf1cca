"""What the caller says: synthesised speech, coughs, clicks and tones as mono PCM at 24 kHz."""

from __future__ import annotations

import asyncio
import os
import tempfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.tooling.caller.script import Script, Step

RATE_HZ = 24_000
"""Rate of the caller's timeline: the whole band of the agent's 24 kHz voice, half the size of 48 kHz."""

AUDIBLE_LEVEL = 0.01
"""A frame whose root mean square reaches this part of full scale (-40 dBFS) is heard."""
INNER_PAUSE_SAMPLES = RATE_HZ * 400 // 1000
"""Silence inside speech that does not end it, as between two sentences."""
SPEECH_LIMIT_SECONDS = 30.0
SILENCE_LEVEL = 0.003
"""Leading and trailing samples below this part of full scale (-50 dBFS) are cut off speech."""

Samples: TypeAlias = npt.NDArray[np.int16]


class SoundError(RuntimeError):
    """Something that the script wants said cannot be had."""


def read_wav(path: Path) -> Samples:
    """Read a 16-bit WAV file as mono at the timeline's rate.

    Raises:
        SoundError: the file is missing or of another kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise SoundError(f"{path}: {file.getsampwidth() * 8}-bit samples; 16 are needed")
            channels, rate = file.getnchannels(), file.getframerate()
            data = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
    except (OSError, EOFError, wave.Error) as error:
        raise SoundError(f"{path}: {error}") from None
    mono = data.reshape(-1, channels).mean(axis=1).astype(np.int16) if channels > 1 else data
    return resample(mono, rate)


def resample(pcm: Samples, rate_hz: int) -> Samples:
    """Bring samples to the timeline's rate."""
    if rate_hz == RATE_HZ:
        return pcm
    return np.asarray(soxr.resample(pcm, rate_hz, RATE_HZ), dtype=np.int16)


def trim(pcm: Samples) -> Samples:
    """Cut silence off both ends."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > SILENCE_LEVEL * 32768)
    return pcm[loud[0] : loud[-1] + 1] if loud.size else pcm[:0]


def tone(hz: int, ms: int, level: float) -> Samples:
    """A sine with edges of 2 ms."""
    count = RATE_HZ * ms // 1000
    wave_form = np.sin(2 * np.pi * hz * np.arange(count) / RATE_HZ)
    edge = min(count // 2, RATE_HZ // 500)
    envelope = np.ones(count)
    envelope[:edge] = np.linspace(0, 1, edge)
    envelope[count - edge :] = np.linspace(1, 0, edge)
    return np.asarray(wave_form * envelope * level * 32767, dtype=np.int16)


def click(level: float) -> Samples:
    """A knock of about 8 ms."""
    count = RATE_HZ * 8 // 1000
    decay = np.exp(-np.arange(count) / (RATE_HZ * 0.002))
    noise = np.random.default_rng(1).uniform(-1, 1, count)
    return np.asarray(noise * decay * level * 32767, dtype=np.int16)


def cough(ms: int, level: float) -> Samples:
    """A burst of breathy noise with a sharp attack, weighted to 0.3-2.5 kHz; the same every time."""
    count = RATE_HZ * ms // 1000
    noise = np.random.default_rng(2).standard_normal(count + 128)
    smooth = np.convolve(noise, np.hanning(10), mode="same")
    band = smooth - np.convolve(smooth, np.ones(80) / 80, mode="same")
    time = np.arange(count) / max(count, 1)
    envelope = np.minimum(1.0, time * 20) * np.exp(-3.0 * time)
    burst = band[:count] * envelope
    return np.asarray(burst / (np.abs(burst).max() or 1.0) * level * 32767, dtype=np.int16)


async def prepare(script: Script, speech_program: Sequence[str], base: Path) -> list[Samples]:
    """Make what every step of a script sends; steps that send nothing get an empty array.

    Args:
        script: the call.
        speech_program: command that takes ``--voice``, ``--rate``, ``--text`` and ``--wav``.
        base: folder that relative WAV paths count from.

    Raises:
        SoundError: a file cannot be read or the speech program fails.
    """
    speech: dict[tuple[str, str, int], Samples] = {}
    with tempfile.TemporaryDirectory(prefix="rspp-caller-") as folder:
        for step in script.steps:
            key = (step.text, step.voice, step.rate)
            if step.do == "say" and step.text and key not in speech:
                target = Path(folder) / f"{len(speech)}.wav"
                speech[key] = trim(await _speak(step, speech_program, target))
    return [_sound(step, speech, base) for step in script.steps]


def _sound(step: Step, speech: dict[tuple[str, str, int], Samples], base: Path) -> Samples:
    if step.do == "say":
        return speech[step.text, step.voice, step.rate] if step.text else trim(read_wav(base / step.wav))
    if step.do == "tone":
        return tone(step.hz, step.ms, step.level)
    if step.do == "cough":
        return cough(step.ms, step.level)
    if step.do == "click":
        return click(step.level)
    return np.zeros(0, dtype=np.int16)


async def _speak(step: Step, program: Sequence[str], target: Path) -> Samples:
    process = await asyncio.create_subprocess_exec(
        *program,
        "--voice",
        step.voice,
        "--rate",
        str(step.rate),
        "--text",
        step.text,
        "--wav",
        str(target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    try:
        async with asyncio.timeout(SPEECH_LIMIT_SECONDS):
            _, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SoundError(f"the speech program took over {SPEECH_LIMIT_SECONDS:.0f} s: {program[0]}") from None
    if process.returncode != 0:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        raise SoundError(f"the speech program failed: {lines[-1] if lines else process.returncode}")
    return read_wav(target)
