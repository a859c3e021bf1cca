"""Ports of a session: what a transport and a provider must offer to take part.

Providers that block must run their work through the session's ``Offloader``; nothing here may block
the event loop. What a provider is given beside its arguments, and what it may be told, is in
``rspp.contracts.execution``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rspp.contracts.media import Pcm, SpeechChunk

T = TypeVar("T")

ConnectionState = Literal["connected", "reconnecting", "disconnected", "ended", "silence", "stall", "muted"]
"""Connection signals of the contract (section 2.1) as a transport reports them."""


class Clock(Protocol):
    """The time that the kernel is told."""

    def now_us(self) -> int:
        """Microseconds since boot, suspended time included; virtual on the loopback transport."""
        ...

    def wall_clock_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class Offloader(Protocol):
    """Runs blocking work off the event loop; inline in virtual time, so that runs repeat exactly."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` and return its result; a cancelled caller does not stop the work."""
        ...


class TransportSink(Protocol):
    """What a transport calls, always from the event loop."""

    def on_audio(self, pcm: Pcm) -> None:
        """Caller's audio at 16 kHz, in order, any length up to 100 ms."""
        ...

    def on_text(self, text: str, event_id: str = "") -> None:
        """A chat text of the caller.

        Args:
            text: the text.
            event_id: id that the transport knows it by, the same when it comes again after a reconnection;
                empty when the transport gives none, and then every text is a new one.
        """
        ...

    def on_stop(self, event_id: str) -> None:
        """The caller asks the agent to be silent; ``event_id`` as for a chat text."""
        ...

    def on_successor(self, epoch: int) -> None:
        """A holder of the session with this higher epoch is there."""
        ...

    def on_connection(self, state: ConnectionState, reason: str) -> None:
        """The connection or the caller's track changed; ``ended`` means the call is over."""
        ...


class Transport(Protocol):
    """Maps a room to a session."""

    async def connect(self, sink: TransportSink) -> None:
        """Join, publish a silent voice track and wait for the caller's audio.

        Raises:
            TransportError: unreachable, refused, or no caller within the transport's limit.
        """
        ...

    async def write(self, pcm: Pcm) -> None:
        """Queue one frame at 24 kHz behind the gate before anything is awaited, then wait for room.

        The gate is asked in the same step of the event loop, so no fence can come in between.
        """
        ...

    def clear(self) -> int:
        """Drop what is queued and return how many samples were dropped unheard."""
        ...

    def queued_samples(self) -> int:
        """Samples accepted and not yet played."""
        ...

    async def set_agent_state(self, state: str) -> None:
        """Show ``initializing``, ``listening``, ``thinking`` or ``speaking`` to front ends."""
        ...

    async def publish_transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        """Show a transcript to front ends; ``caller`` tells whose words they are."""
        ...

    def leave_now(self) -> None:
        """Authority is gone: nothing more is heard from here; ``close`` frees the rest."""
        ...

    async def close(self) -> None:
        """Leave and free everything; safe to call twice."""
        ...


class VoiceActivityDetector(Protocol):
    """Tells speech from silence, one window at a time."""

    window_samples: int
    """Window length at 16 kHz."""

    def probability(self, window: Pcm) -> float:
        """Speech probability of one window, 0 to 1; fast enough for the event loop (≤ 1 ms)."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class Hypothesis(msgspec.Struct, frozen=True):
    """What a recogniser believes it heard.

    Attributes:
        text: lower-case words separated by one blank; empty when nothing was recognised.
        complete: the recogniser holds the sentence for finished.
        backchannel: all its words are a listener's, such as "mhm".
    """

    text: str
    complete: bool = False
    backchannel: bool = False

    @property
    def words(self) -> int:
        """Number of words."""
        return len(self.text.split())


class RecognitionStream(Protocol):
    """Recognises one caller's utterances, one after another; calls are never concurrent."""

    async def begin(self) -> None:
        """Start a new utterance; drops what an unfinished one held."""
        ...

    async def accept(self, pcm: Pcm) -> Hypothesis | None:
        """Take audio at 16 kHz; returns a new partial hypothesis or none."""
        ...

    async def conclude(self) -> Hypothesis:
        """The caller paused: return the best whole hypothesis of the utterance so far."""
        ...

    async def close(self) -> None:
        """Free the recogniser."""
        ...


class Message(msgspec.Struct, frozen=True):
    """One entry of a conversation's history: what was said, for the agent only what was heard."""

    role: Literal["user", "assistant"]
    text: str


class ResponseDelta(msgspec.Struct, frozen=True):
    """A piece of a reply.

    Attributes:
        text: words to append, blanks included.
        action: ``hang_up`` ends the call once the reply was heard.
    """

    text: str = ""
    action: Literal["", "hang_up"] = ""


class Responder(Protocol):
    """Writes replies."""

    def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        """Stream a reply to ``history``, whose last entry is the caller's.

        Closing the iterator cancels the call.

        Raises:
            ProviderError: the reply cannot be had.
        """
        ...

    async def close(self) -> None:
        """Free connections."""
        ...


class Synthesizer(Protocol):
    """Speaks."""

    def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        """Stream the speech of one segment; closing the iterator cancels it.

        Raises:
            ProviderError: the speech cannot be had.
        """
        ...

    async def close(self) -> None:
        """Free processes and connections."""
        ...
