"""The whole pipeline over the recorded audio: every node runs again, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rspp import _kernel
from rspp.contracts.errors import EvidenceError
from rspp.evidence.memory import MemoryRecorder
from rspp.pipeline.normalise import needs_network
from rspp.pipeline.spec import PipelineSpec
from rspp.replay.audio import read_audio
from rspp.replay.recorded_call import read_call
from rspp.replay.turn_starts import recorded_turn_starts
from rspp.runtime.loopback_call import loopback_call
from rspp.session.virtual_time import run_virtual
from rspp.transports.loopback import INPUT_TICK_SAMPLES

if TYPE_CHECKING:
    from rspp.contracts.media import Pcm
    from rspp.evidence.reader import Recording, Stint
    from rspp.replay.trace import Trace


class RecordedCaller:
    """A caller who says what was recorded, sample by sample, and then hangs up.

    Args:
        speech: int16 at 16 kHz.
    """

    def __init__(self, speech: Pcm) -> None:
        self._speech = speech
        self._position = 0

    def hear(self, pcm: Pcm) -> None:
        """The recorded caller does not react."""

    def speak(self) -> Pcm | None:
        """Give the next 10 ms; none at the end of the recording."""
        frame = self._speech[self._position : self._position + INPUT_TICK_SAMPLES]
        self._position += INPUT_TICK_SAMPLES
        return frame if len(frame) == INPUT_TICK_SAMPLES else None

    def agent_state(self, state: str) -> None:
        """Nothing to show."""

    def transcript(self, text: str, *, caller: bool, final: bool) -> None:
        """Nothing to show."""


def hear_again(recording: Recording, stint: Stint) -> Trace:
    """Let the pipeline of a stint hear its recorded audio once more.

    Raises:
        EvidenceError: the audio was not kept, or a provider of the pipeline needs a network, whose answers
            no recording can ask for again.
    """
    spec = msgspec.convert(stint.header["spec"], PipelineSpec)
    if needs_network(spec):
        raise EvidenceError(
            f"pipeline {spec.name}: its providers answer over a network and are not asked again",
            hint="use --mode playback_recorded_provider_outputs",
        )
    audio = read_audio(recording.path, recording.stints, stint=str(stint.header["stint"]))
    memory = MemoryRecorder()
    turn_starts = recorded_turn_starts(stint.header, stint.records())
    run_virtual(
        loopback_call(
            RecordedCaller(audio.caller),
            spec,
            session_id=recording.session_id,
            recorder=memory,
            turn_starts=turn_starts,
        )
    )
    header = memory.headers[0] | {"behaviours": list(_kernel.BEHAVIOURS)}
    trace = read_call(header, memory.records).trace
    later_us = int(stint.header["created_us"]) - int(header["created_us"])
    trace.shift(later_us)
    return trace
