"""Whole calls with one fault: real detector, recogniser, rules, voice, kernel, lease store and loopback.

Each ``Fault…`` wraps the real thing and breaks it in one way from a named moment on. Calls run in virtual
time, so a fault hits the same sample every time.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rspp.authority.sqlite import SqliteLeaseStore
from rspp.authority.store import Lease, LeaseStoreError
from rspp.contracts.errors import ProviderError
from rspp.tooling.caller.script import Script, parse_script
from rspp.tooling.caller.sound import Samples, prepare
from rspp.tooling.loopback_caller import ScriptedLoopbackCaller
from rspp.transports.loopback import TICK_MS, LoopbackTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rspp.contracts.media import Pcm, SpeechChunk
    from rspp.contracts.ports import (
        Hypothesis,
        Message,
        RecognitionStream,
        Responder,
        ResponseDelta,
        Synthesizer,
        TransportSink,
    )

SPEECH_PROGRAM = (sys.executable, "-m", "rspp.providers.espeak_process")
Record = dict[str, Any]
Step = dict[str, Any]


@functools.cache
def _sounds(script: str) -> tuple[Script, tuple[Samples, ...]]:
    parsed = parse_script(json.loads(script))
    return parsed, tuple(asyncio.run(prepare(parsed, SPEECH_PROGRAM, Path())))


class FaultCaller(ScriptedLoopbackCaller):
    """The scripted caller, who also sets faults off as named steps begin."""

    def __init__(self, steps: Sequence[Step]) -> None:
        document = {"name": "fault", "limit_ms": 60_000, "timeout_ms": 20_000, "steps": list(steps)}
        script, sounds = _sounds(json.dumps(document))
        super().__init__(script, sounds)
        self._on_step: dict[str, Callable[[], None]] = {}
        self.begun_ms: dict[str, int] = {}
        """When each named step began, from the start of the call."""
        self.heard: Pcm = np.zeros(0, dtype=np.int16)

    def on_step(self, name: str, happens: Callable[[], None]) -> None:
        """Let something happen as the step of that name begins."""
        self._on_step[name] = happens

    def on_fault(self, happens: Callable[[], None]) -> None:
        """Let something happen as the step named ``fault`` begins."""
        self.on_step("fault", happens)

    def _begin(self, index: int) -> None:
        super()._begin(index)
        name = self._script.steps[index].name
        if name:
            self.begun_ms[name] = self._tick * TICK_MS
        if name in self._on_step:
            self._on_step.pop(name)()

    def close(self) -> None:
        """Keep what was heard and free the rest."""
        self.heard = self.recording.heard
        super().close()

    def heard_after(self, ms: int) -> Pcm:
        """What was heard from ``ms`` after the start on, once the call is over."""
        return self.heard[ms * 24 :]


class FaultRecognition:
    """A recogniser that fails or hangs, and counts the audio it was given.

    Args:
        real: the recogniser behind it.
        fault: an error is raised, a text hangs; none leaves it whole.
        after_samples: audio at 16 kHz after which it breaks; none breaks it when it is to answer.
    """

    def __init__(
        self,
        real: RecognitionStream,
        fault: ProviderError | str | None = None,
        after_samples: int | None = None,
    ) -> None:
        self._real = real
        self._fault = fault
        self._after_samples = after_samples
        self.samples = 0

    async def begin(self) -> None:
        """Begin anew."""
        self.samples = 0
        await self._real.begin()

    async def accept(self, pcm: Pcm) -> Hypothesis | None:
        """Hear, or break in the middle."""
        self.samples += len(pcm)
        if self._after_samples is not None and self.samples >= self._after_samples:
            await self._break()
        return await self._real.accept(pcm)

    async def conclude(self) -> Hypothesis:
        """Answer, or break instead."""
        await self._break()
        return await self._real.conclude()

    async def _break(self) -> None:
        if isinstance(self._fault, ProviderError):
            raise self._fault
        if self._fault is not None:
            await asyncio.sleep(1_000)

    async def close(self) -> None:
        """Close the real one."""
        await self._real.close()


class FaultResponder:
    """A responder that fails, hangs or takes its time.

    Args:
        real: the responder behind it.
        faults: each one takes one call: an error is raised, a text hangs.
        words: how much is given before the fault.
        delay_ms: wait before the first word.
        word_ms: wait before each further one.
    """

    def __init__(
        self,
        real: Responder,
        faults: Sequence[ProviderError | str] = (),
        words: int = 0,
        delay_ms: int = 0,
        word_ms: int = 0,
    ) -> None:
        self._real = real
        self._delay_s, self._word_s = delay_ms / 1000, word_ms / 1000
        self._faults = list(faults)
        self._words = words
        self.calls = 0

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        """Answer, or fail as the next fault says."""
        self.calls += 1
        fault = self._faults.pop(0) if self._faults else None
        given = 0
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        async for delta in self._real.respond(history):
            if given and self._word_s:
                await asyncio.sleep(self._word_s)
            if fault is not None and given == self._words:
                if isinstance(fault, str):
                    await asyncio.sleep(1_000)
                else:
                    raise fault
            given += 1
            yield delta

    async def close(self) -> None:
        """Close the real one."""
        await self._real.close()


class FaultSynthesizer:
    """A voice that, once ``broken``, hangs or raises instead of speaking."""

    def __init__(self, real: Synthesizer) -> None:
        self._real = real
        self.broken: Exception | str | None = None
        self.calls = 0

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        """Speak, or fail while it is broken."""
        self.calls += 1
        async for chunk in self._real.synthesize(text):
            if isinstance(self.broken, str):
                await asyncio.sleep(1_000)
            elif self.broken is not None:
                raise self.broken
            yield chunk

    async def close(self) -> None:
        """Close the real one."""
        await self._real.close()


class FaultTransport(LoopbackTransport):
    """A room whose connection and front end can fail."""

    def __init__(self, caller: FaultCaller) -> None:
        super().__init__(caller)
        self.sink: TransportSink | None = None
        self.front_end_hangs = False
        self.left = 0

    async def connect(self, sink: TransportSink) -> None:
        """Connect and keep the sink, through which faults come."""
        self.sink = sink
        await super().connect(sink)

    async def publish_transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        """Show words, unless the front end hangs."""
        if self.front_end_hangs:
            await asyncio.sleep(1_000)
        await super().publish_transcript(segment_id, text, caller=caller, final=final)

    def leave_now(self) -> None:
        """Leave, counted."""
        self.left += 1
        super().leave_now()


class FaultStore(SqliteLeaseStore):
    """A lease store that cannot be reached while ``partitioned``, or that has given a lease away."""

    partitioned = False

    def renew(self, lease: Lease) -> Lease:
        """Renew, unless the store cannot be reached."""
        if self.partitioned:
            raise LeaseStoreError("lease store: disk I/O error")
        return super().renew(lease)

    def revoke(self, lease: Lease) -> None:
        """Give the lease back behind its holder's back."""
        super().release(lease)
