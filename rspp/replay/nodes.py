"""The whole pipeline over the recorded audio: every node runs again, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rspp import _kernel
from rspp.contracts.errors import EvidenceError
from rspp.pipeline.spec import PipelineSpec
from rspp.replay.audio import read_audio
from rspp.replay.recorded_call import read_call
from rspp.runtime.local_runner import needs_network
from rspp.runtime.loopback_call import loopback_call
from rspp.session.virtual_time import run_virtual
from rspp.transports.loopback import INPUT_TICK_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.contracts.media import Pcm
    from rspp.evidence.reader import Recording, Stint
    from rspp.pipeline.profile import RecordingLevel
    from rspp.replay.inputs import Record
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


class _Memory:
    """A recorder that keeps everything in memory."""

    level: RecordingLevel = "L0"

    def __init__(self) -> None:
        self.header: dict[str, object] = {}
        self.blocks: list[bytes] = []

    def begin(self, header: dict[str, object]) -> None:
        """Keep the header."""
        self.header = {**header, "behaviours": list(_kernel.BEHAVIOURS)}

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        """Keep the kernel's records."""
        if block:
            self.blocks.append(block)

    def records(self) -> Iterator[Record]:
        """The kernel's records, in order."""
        decoder = _kernel.RecordDecoder(
            session_id=str(self.header["session_id"]),
            pipeline_version=str(self.header["pipeline_version"]),
            created_us=int(str(self.header["created_us"])),
            created_wall_ms=int(str(self.header["created_wall_ms"])),
        )
        for block in self.blocks:
            yield from map(msgspec.json.decode, decoder.decode(block))

    def payload(self, payload_class: str, turn: int, at_us: int, data: bytes, **details: object) -> None:
        """Never called at this level."""


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
            hint="Use --mode playback_recorded_provider_outputs.",
        )
    audio = read_audio(recording.path, recording.stints, stint=str(stint.header["stint"]))
    memory = _Memory()
    run_virtual(
        loopback_call(RecordedCaller(audio.caller), spec, session_id=recording.session_id, recorder=memory)
    )
    trace = read_call(memory.header, list(memory.records())).trace
    later_us = int(stint.header["created_us"]) - int(str(memory.header["created_us"]))
    trace.shift(later_us)
    return trace
