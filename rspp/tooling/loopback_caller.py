"""The scripted caller without a room: the same script on the loopback transport, tick by tick.

It reacts only to the energy it hears, like the caller in a room, and keeps the same kind of recording.
"""

from __future__ import annotations

import math
import tempfile
from typing import IO, TYPE_CHECKING

import numpy as np
import soxr

from rspp.contracts.media import INPUT_RATE_HZ, OUTPUT_RATE_HZ, Pcm
from rspp.tooling.caller.script import StepRecord
from rspp.tooling.caller.sound import AUDIBLE_LEVEL, INNER_PAUSE_SAMPLES, RATE_HZ
from rspp.tooling.measure import Recording
from rspp.transports.loopback import INPUT_TICK_SAMPLES, OUTPUT_TICK_SAMPLES, TICK_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.tooling.caller.script import Script
    from rspp.tooling.caller.sound import Samples


class _Spool:
    """Samples appended to a temporary file, which is there from the first of them on."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self.samples = 0

    def append(self, pcm: Pcm) -> None:
        if self._file is None:
            # A caller of a call that never begins opens nothing that somebody must close.
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the call
        self._file.write(pcm.tobytes())
        self.samples += len(pcm)

    def read(self) -> Pcm:
        if self._file is None:
            return np.zeros(0, dtype=np.int16)
        self._file.seek(0)
        return np.frombuffer(self._file.read(), dtype=np.int16)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class ScriptedLoopbackCaller:
    """A ``LoopbackCaller`` that carries a script out.

    Args:
        script: what to do.
        sounds: what each step sends, at 24 kHz (``rspp.tooling.caller.sound.prepare``).
    """

    def __init__(self, script: Script, sounds: Sequence[Samples]) -> None:
        self._script = script
        # Whole numbers would be dithered at random, and equal calls would not be equal.
        self._sounds = [
            np.rint(soxr.resample(sound.astype(np.float32), RATE_HZ, INPUT_RATE_HZ)).astype(np.int16)
            for sound in sounds
        ]
        self._wide = sounds
        self._tick = 0
        self._index = -1
        self._begun = 0
        self._audible_from: int | None = None
        self._audible_until = 0
        # On disk, so that a bench measures the sessions' memory and not its own.
        self._heard = _Spool()
        self._sent = _Spool()
        self.outcome = ""
        self.steps: list[StepRecord] = []
        self.transcripts: list[tuple[bool, str]] = []
        """Final transcripts in order: whether the caller's, and the words."""
        self.states: list[str] = []
        """Agent states in order."""

    @property
    def recording(self) -> Recording:
        """Both voices so far."""
        sent, heard = self._sent.read(), self._heard.read()
        size = min(len(sent), len(heard))
        return Recording(rate_hz=OUTPUT_RATE_HZ, sent=sent[:size], heard=heard[:size])

    def close(self) -> None:
        """Free the recording; what was read of it stays."""
        self._heard.close()
        self._sent.close()

    def agent_state(self, state: str) -> None:
        """Note the agent's state."""
        self.states.append(state)

    def transcript(self, text: str, *, caller: bool, final: bool) -> None:
        """Note final transcripts."""
        if final and text:
            self.transcripts.append((caller, text))

    def hear(self, pcm: Pcm) -> None:
        """Judge 10 ms by their energy and keep them."""
        self._heard.append(pcm)
        arrival = self._heard.samples - len(pcm)
        loudness = math.sqrt(float(np.mean(np.square(pcm.astype(np.float64))))) / 32768
        if loudness >= AUDIBLE_LEVEL:
            if self._audible_from is None:
                self._audible_from = arrival
            self._audible_until = arrival + len(pcm)
        elif self._audible_from is not None and arrival - self._audible_until >= INNER_PAUSE_SAMPLES:
            self._audible_from = None

    def speak(self) -> Pcm | None:
        """The next 10 ms of the script; none once it is over."""
        if self._index < 0:
            self._begin(0)
        elapsed_ms = (self._tick - self._begun) * TICK_MS
        while self._done(elapsed_ms):
            if not self._finish():
                return None
            elapsed_ms = 0
        if self._timed_out(elapsed_ms):
            step = self._script.steps[self._index]
            self.outcome = f"step {self._index} ({step.do} {step.name}".rstrip() + ") timed out"
            return None
        offset = self._tick - self._begun
        frame = self._sounds[self._index][offset * INPUT_TICK_SAMPLES :][:INPUT_TICK_SAMPLES]
        wide = self._wide[self._index][offset * OUTPUT_TICK_SAMPLES :][:OUTPUT_TICK_SAMPLES]
        self._sent.append(np.pad(wide, (0, OUTPUT_TICK_SAMPLES - len(wide))))
        self._tick += 1
        return np.pad(frame, (0, INPUT_TICK_SAMPLES - len(frame)))

    def _begin(self, index: int) -> None:
        self._index, self._begun = index, self._tick

    def _done(self, elapsed_ms: int) -> bool:
        step = self._script.steps[self._index]
        now = self._tick * OUTPUT_TICK_SAMPLES
        if step.do in {"say", "cough", "click", "tone"}:
            return elapsed_ms * RATE_HZ // 1000 >= len(self._wide[self._index])
        if step.do == "pause":
            return elapsed_ms >= step.ms
        if step.do == "wait_agent_speaking":
            audible = 0 if self._audible_from is None else self._audible_until - self._audible_from
            return audible >= step.ms * OUTPUT_RATE_HZ // 1000 and self._audible_from is not None
        if step.do == "wait_agent_silent":
            return now - self._audible_until >= step.ms * OUTPUT_RATE_HZ // 1000
        return True

    def _finish(self) -> bool:
        """Note the present step and go to the next; false when the script is over."""
        step = self._script.steps[self._index]
        begin, end = self._begun * OUTPUT_TICK_SAMPLES, self._tick * OUTPUT_TICK_SAMPLES
        self.steps.append(StepRecord(step.do, step.name, step.text, begin, end))
        if step.do == "hang_up" or self._index + 1 == len(self._script.steps):
            self.outcome = "completed"
            return False
        self._begin(self._index + 1)
        return True

    def _timed_out(self, elapsed_ms: int) -> bool:
        step = self._script.steps[self._index]
        over = self._tick * TICK_MS >= self._script.limit_ms
        return over or (step.do.startswith("wait_") and elapsed_ms >= step.timeout_ms)
