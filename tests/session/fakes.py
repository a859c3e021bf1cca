"""Providers and a caller of known behaviour, so that a session's shell can be tested to the sample."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from rspp.contracts.media import Pcm, SpeechChunk, WordMark
from rspp.contracts.ports import Hypothesis, Message, ResponseDelta
from rspp.evidence.memory import MemoryRecorder
from rspp.pipeline.spec import PipelineSpec
from rspp.providers.registry import Providers
from rspp.runtime.loopback_call import loopback_call
from rspp.session.virtual_time import run_virtual
from rspp.transports.loopback import INPUT_TICK_SAMPLES, OUTPUT_TICK_SAMPLES, TICK_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rspp.contracts.errors import ProviderError
    from rspp.session.session import Session

WORD_SAMPLES = 6_000
"""Each word of the fake voice lasts 250 ms."""

LOUD = 5_000


def voice_of(text: str) -> Pcm:
    """The fake voice: a ramp without any zero, so that every sample can be told from its neighbours."""
    samples = len(text.split()) * WORD_SAMPLES
    return (np.arange(samples) % 30_011 + 1).astype(np.int16)


class FakeDetector:
    window_samples = 512

    def probability(self, window: Pcm) -> float:
        return 0.95 if int(np.abs(window).max()) >= LOUD else 0.02

    def close(self) -> None:
        pass


class FakeRecognition:
    """Hears the amplitude of the speech as a number that stands for a hypothesis."""

    def __init__(self, heard: dict[int, Hypothesis]) -> None:
        self._heard = heard
        self._latest = 0
        self.failure: ProviderError | None = None
        self.hang = False

    async def begin(self) -> None:
        self._latest = 0

    async def accept(self, pcm: Pcm) -> Hypothesis | None:
        if self.hang:
            await asyncio.sleep(10_000)
        loud = pcm[pcm >= LOUD]
        if len(loud):
            self._latest = int(loud[-1])
        return None

    async def conclude(self) -> Hypothesis:
        if self.failure is not None:
            raise self.failure
        return self._heard.get(self._latest, Hypothesis(text=""))

    async def close(self) -> None:
        pass


class FakeResponder:
    def __init__(self, reply: Callable[[Sequence[Message]], str]) -> None:
        self._reply = reply
        self.failure: ProviderError | None = None
        self.hang_after_words = -1
        self.delay_s = 0.0
        self.histories: list[tuple[Message, ...]] = []
        self.closed = 0

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        self.histories.append(tuple(history))
        await asyncio.sleep(self.delay_s)
        if self.failure is not None:
            raise self.failure
        try:
            for index, word in enumerate(self._reply(history).split(" ")):
                if index == self.hang_after_words:
                    await asyncio.sleep(10_000)
                action = "hang_up" if word == "<hang_up>" else ""
                yield ResponseDelta(text="" if action else f"{word} ", action=action)  # type: ignore[arg-type]
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


class FakeSynthesizer:
    def __init__(self) -> None:
        self.failure: ProviderError | None = None

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        if self.failure is not None:
            raise self.failure
        whole = voice_of(text)
        for index, word in enumerate(text.split()):
            start = index * WORD_SAMPLES
            yield SpeechChunk(pcm=whole[start : start + WORD_SAMPLES], words=(WordMark(word, start),))

    async def close(self) -> None:
        pass


@dataclass
class FakeCaller:
    """Says bursts of a given amplitude at given times and keeps what it hears."""

    bursts: Sequence[tuple[int, int, int]]
    """(from ms, to ms, amplitude)."""
    hang_up_ms: int
    heard: list[Pcm] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    transcripts: list[tuple[bool, str]] = field(default_factory=list)
    at: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What else happens at which ms."""
    now_ms: int = 0

    def hear(self, pcm: Pcm) -> None:
        self.heard.append(pcm)

    def speak(self) -> Pcm | None:
        start = self.now_ms
        if start >= self.hang_up_ms:
            return None
        if start in self.at:
            self.at[start]()
        self.now_ms += TICK_MS
        level = next((level for begin, end, level in self.bursts if begin <= start < end), 0)
        return np.full(INPUT_TICK_SAMPLES, level, dtype=np.int16)

    def agent_state(self, state: str) -> None:
        self.states.append(state)

    def transcript(self, text: str, *, caller: bool, final: bool) -> None:
        if final and text:
            self.transcripts.append((caller, text))

    @property
    def voice(self) -> Pcm:
        """Everything heard, at 24 kHz."""
        return np.concatenate(self.heard)

    def heard_between(self, begin_ms: int, end_ms: int) -> Pcm:
        """What was heard in a stretch of the call."""
        return self.voice[begin_ms * OUTPUT_TICK_SAMPLES // TICK_MS : end_ms * OUTPUT_TICK_SAMPLES // TICK_MS]


class FakeRecorder(MemoryRecorder):
    """Keeps what a session recorded, and answers questions about it."""

    def signals(self, *names: str) -> list[tuple[str, str]]:
        """Signal names with their reasons, in order."""
        events = [record["event"] for record in self.records if record["kind"] == "signal"]
        pairs = [(str(event["signal"]), str(event.get("reason", ""))) for event in events]
        return [pair for pair in pairs if pair[0] in names]


@dataclass
class FakeWorld:
    """One call with fakes all around a real session and kernel."""

    caller: FakeCaller
    heard_as: dict[int, Hypothesis]
    reply: Callable[[Sequence[Message]], str]
    settings: dict[str, object] = field(default_factory=dict)
    early_texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recognition = FakeRecognition(self.heard_as)
        self.responder = FakeResponder(self.reply)
        self.synthesizer = FakeSynthesizer()
        self.spare_recognitions: list[FakeRecognition] = []
        self.lesser_voice: FakeSynthesizer | None = None
        self.lesser_responder: FakeResponder | None = None
        self.spare_responders: list[FakeResponder] = []
        self.spare_synthesizers: list[FakeSynthesizer] = []
        self.timeline = FakeRecorder()
        self.session: Session | None = None

    @property
    def spec(self) -> PipelineSpec:
        """The call's pipeline."""
        rules = {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}
        return msgspec.convert({"name": "fake", "llm": rules, **self.settings}, PipelineSpec)

    def hold(self) -> Session:
        """Hold the call in virtual time and return the ended session."""
        providers = Providers(
            vad=FakeDetector(),
            recognition=self.recognition,
            responder=self.responder,
            synthesizer=self.synthesizer,
            other_responders=self.spare_responders,
            other_synthesizers=self.spare_synthesizers,
            other_recognisers=self.spare_recognitions,
            lesser_voice=self.lesser_voice,
            lesser_responder=self.lesser_responder,
        )

        def keep(session: Session) -> None:
            self.session = session
            for text in self.early_texts:
                session.on_text(text)

        return run_virtual(
            loopback_call(
                self.caller,
                self.spec,
                session_id="fake",
                recorder=self.timeline,
                providers=providers,
                on_session=keep,
            )
        )
