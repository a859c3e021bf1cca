"""The reply node: one turn's reply from words to speech, one segment after another."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from rspp.contracts.ports import Clock, Message, Responder, ResponseDelta, Synthesizer
from rspp.nodes.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rspp.contracts.media import SpeechChunk
    from rspp.nodes.playout import PlayoutNode
    from rspp.session.spoken import SpokenTurn


class ReplyListener(Protocol):
    """What the node reports to."""

    def segment_started(self, turn: int, text: str) -> None:
        """The speech of a segment is about to be made."""
        ...

    def provider_finished(self, turn: int, modality: str, outcome: str, first_us: int, total_us: int) -> None:
        """A provider invocation ended: latency to its first result and in all, microseconds."""
        ...


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
    started = clock.now_us()
    first_us = -1
    async with aclosing(responder.respond(history)) as deltas:  # type: ignore[type-var]
        async for delta in deltas:
            if first_us < 0:
                first_us = clock.now_us() - started
            if delta.action:
                on_action(delta.action)
            for segment in segmenter.push(delta.text):
                if not await _speak(turn, segment, synthesizer, playout, spoken, clock, listener):
                    return
    listener.provider_finished(turn, "llm", "success", first_us, clock.now_us() - started)
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
    started = clock.now_us()
    first_us = -1
    async with aclosing(synthesizer.synthesize(text)) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            if first_us < 0:
                first_us = clock.now_us() - started
            spoken.add(len(chunk.pcm), chunk.words)
            if not await playout.put(turn, chunk.pcm):
                return False
    spoken.end_segment()
    listener.provider_finished(turn, "tts", "success", first_us, clock.now_us() - started)
    return True
