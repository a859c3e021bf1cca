"""Speech for tests, made by the speech program as anybody would run it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from rspp.contracts.media import INPUT_RATE_HZ, Pcm
from rspp.transports.wav import read_wav


@lru_cache(maxsize=128)
def speech(text: str, voice: str = "en-us", rate: int = 165) -> Pcm:
    """Synthesised speech at 16 kHz without silence around it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        program = [sys.executable, "-m", "rspp.providers.espeak_process"]
        options = ["--voice", voice, "--rate", str(rate), "--rate-hz", str(INPUT_RATE_HZ)]
        subprocess.run([*program, "--text", text, *options, "--wav", str(path)], check=True, timeout=20)
        return read_wav(path)


def silence(milliseconds: int) -> Pcm:
    """Digital silence at 16 kHz."""
    return np.zeros(milliseconds * INPUT_RATE_HZ // 1000, dtype=np.int16)


def cough(seed: int, milliseconds: int = 220, amplitude: float = 6000.0) -> Pcm:
    """A burst of noise that fades at 16 kHz."""
    samples = milliseconds * INPUT_RATE_HZ // 1000
    steps = np.arange(samples)
    envelope = np.minimum(1.0, steps / 160) * np.exp(-3.0 * steps / samples)
    noise = np.random.default_rng(seed).standard_normal(samples) * envelope * amplitude
    burst: Pcm = noise.clip(-32768, 32767).astype(np.int16)
    return burst
