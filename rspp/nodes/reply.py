"""The reply node: one turn's reply from words to speech, one segment after another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, TypeVar

from rspp.contracts.ports import ResponseDelta
from rspp.nodes.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rspp.contracts.media import SpeechChunk
    from rspp.contracts.ports import Clock, Message, Responder, Synthesizer
    from rspp.nodes.playout import PlayoutNode
    from rspp.session.spoken import SpokenTurn

T = TypeVar("T")


class ReplyListener(Protocol):
    """What the node reports to."""

    def segment_started(self, turn: int, text: str) -> None:
        """The speech of a segment is about to be made."""
        ...

    def provider_finished(self, turn: int, modality: str, outcome: str, first_us: int, total_us: int) -> None:
        """A provider invocation ended: latency to its first result and in all, microseconds."""
        ...


class Timed(AsyncIterator[T]):
    """Counts the time that a provider takes, without the time its listener takes.

    Args:
        results: what the provider streams.
        clock: to count with.
    """

    def __init__(self, results: AsyncIterator[T], clock: Clock) -> None:
        self._results = results
        self._clock = clock
        self.first_us = -1
        """Microseconds to the first result, -1 before it."""
        self.total_us = 0
        """Microseconds spent waiting for results."""

    async def __anext__(self) -> T:
        started = self._clock.now_us()
        try:
            return await anext(self._results)
        finally:
            self.total_us += self._clock.now_us() - started
            if self.first_us < 0:
                self.first_us = self.total_us

    async def aclose(self) -> None:
        """Cancel the provider's call."""
        if isinstance(self._results, AsyncGenerator):
            await self._results.aclose()


class FixedResponder:
    """Says one prepared text: greetings and notices need no model.

    Args:
        text: what to say.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        """Give the whole text at once."""
        yield ResponseDelta(text=self._text)

    async def close(self) -> None:
        """Nothing to free."""


class PreparedSpeech:
    """Speech made ahead, so that a notice about a failed provider does not need that provider."""

    def __init__(self, chunks: Sequence[SpeechChunk]) -> None:
        self._chunks = tuple(chunks)

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        """Give the prepared chunks, whatever the text."""
        for chunk in self._chunks:
            yield chunk

    async def close(self) -> None:
        """Nothing to free."""


async def speak_reply(
    turn: int,
    history: Sequence[Message],
    responder: Responder,
    synthesizer: Synthesizer,
    playout: PlayoutNode,
    spoken: SpokenTurn,
    clock: Clock,
    listener: ReplyListener,
    on_action: Callable[[str], None],
) -> None:
    """Stream a reply into the playout node until it is whole or the turn is over.

    Raises:
        ProviderError: a provider failed; what was queued stays queued.
    """
    segmenter = Segmenter()
    async with aclosing(Timed(responder.respond(history), clock)) as deltas:
        async for delta in deltas:
            if delta.action:
                on_action(delta.action)
            for segment in segmenter.push(delta.text):
                if not await _speak(turn, segment, synthesizer, playout, spoken, clock, listener):
                    return
    listener.provider_finished(turn, "llm", "success", deltas.first_us, deltas.total_us)
    for segment in segmenter.flush():
        if not await _speak(turn, segment, synthesizer, playout, spoken, clock, listener):
            return
    playout.finish(turn)


async def _speak(
    turn: int,
    text: str,
    synthesizer: Synthesizer,
    playout: PlayoutNode,
    spoken: SpokenTurn,
    clock: Clock,
    listener: ReplyListener,
) -> bool:
    """Speak one segment; false when the turn is over."""
    spoken.begin_segment(text)
    listener.segment_started(turn, text)
    async with aclosing(Timed(synthesizer.synthesize(text), clock)) as chunks:
        async for chunk in chunks:
            spoken.add(len(chunk.pcm), chunk.words)
            if not await playout.put(turn, chunk.pcm):
                return False
    spoken.end_segment()
    listener.provider_finished(turn, "tts", "success", chunks.first_us, chunks.total_us)
    return True
