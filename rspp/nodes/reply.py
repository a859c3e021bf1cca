"""The reply node: one turn's reply from words to speech, one segment after another."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rspp.contracts.media import SpeechChunk
    from rspp.contracts.ports import Message, Responder, Synthesizer
    from rspp.nodes.invocation import Call, Candidates
    from rspp.nodes.playout import PlayoutNode
    from rspp.nodes.segmenter import Segmenter
    from rspp.session.spoken import SpokenTurn


class ReplyListener(Protocol):
    """What the node reports to."""

    def segment_started(self, turn: int, text: str) -> None:
        """The speech of a segment is about to be made."""
        ...

    def provider_finished(self, turn: int, modality: str, outcome: str, call: Call) -> None:
        """A call ended; it tells how long it took to its first result and in all."""
        ...


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
    responders: Candidates[Responder],
    segmenter: Segmenter,
    synthesizers: Candidates[Synthesizer],
    playout: PlayoutNode,
    spoken: SpokenTurn,
    listener: ReplyListener,
    on_action: Callable[[str], None],
) -> None:
    """Stream a reply into the playout node until it is whole or the turn is over.

    Raises:
        ProviderError: a provider failed and no other could take over; what was queued stays queued.
    """
    handed_on = False
    call = responders.begin()
    results = call.stream(lambda candidate: responders.providers[candidate].respond(history))
    async with aclosing(results):
        async for fresh, delta in results:
            if fresh:
                segmenter.drop()
                on_action("")
            if delta.action:
                on_action(delta.action)
            for segment in segmenter.push(delta.text):
                if not handed_on and not call.hand_on():
                    return
                handed_on = True
                if not await _speak(turn, segment, synthesizers, playout, spoken, listener):
                    return
    listener.provider_finished(turn, "llm", "success", call)
    for segment in segmenter.flush():
        if not await _speak(turn, segment, synthesizers, playout, spoken, listener):
            return
    playout.finish(turn)


async def _speak(
    turn: int,
    text: str,
    synthesizers: Candidates[Synthesizer],
    playout: PlayoutNode,
    spoken: SpokenTurn,
    listener: ReplyListener,
) -> bool:
    """Speak one segment; false when the turn is over."""
    spoken.begin_segment(text)
    listener.segment_started(turn, text)
    call = synthesizers.begin()
    results = call.stream(lambda candidate: synthesizers.providers[candidate].synthesize(text))
    async with aclosing(results):
        async for fresh, chunk in results:
            if fresh and not call.hand_on():
                return False
            spoken.add(len(chunk.pcm), chunk.words)
            if not await playout.put(turn, chunk.pcm):
                call.hand_on()
                return False
    spoken.end_segment()
    listener.provider_finished(turn, "tts", "success", call)
    return True
