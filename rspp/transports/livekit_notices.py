"""What front ends are shown: the agent's state and the transcripts, sent apart from the voice.

Nothing waits here: whoever shows something waits until the server has it, so that what is too much piles up
in the session's lanes, where it is bounded and on record.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import structlog

from rspp.contracts.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from livekit import rtc

TRANSCRIPTION_TOPIC = "lk.transcription"
STATE_ATTRIBUTE = "lk.agent.state"
SEND_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Transcript(msgspec.Struct, frozen=True):
    """The words of one segment so far.

    Attributes:
        segment_id: same for all versions of a segment.
        text: whole text of the segment; a later version replaces an earlier one.
        caller: whose words they are.
        final: no later version comes.
    """

    segment_id: str
    text: str
    caller: bool
    final: bool


class Notices:
    """The way to the front ends of one room.

    Args:
        speaker: returns participant identity and track id of whoever spoke a transcript.
    """

    def __init__(self, speaker: Callable[[Transcript], tuple[str, str]]) -> None:
        self._speaker = speaker
        self._state = ""
        self._participant: rtc.LocalParticipant | None = None
        self._open = asyncio.Event()
        self._resending: asyncio.Task[None] | None = None

    def start(self, participant: rtc.LocalParticipant) -> None:
        """Begin to send as ``participant``; a state that was set before is shown now."""
        self._participant = participant
        self.resume()

    def pause(self) -> None:
        """The connection is down: the newest state is kept, transcripts wait."""
        self._open.clear()

    def resume(self) -> None:
        """Show the state again after the room was joined anew, and let transcripts go on."""
        self._open.set()
        if self._state:
            self._stop_resending()
            self._resending = asyncio.get_running_loop().create_task(self._send_state(), name="room-state")

    def stop(self) -> None:
        """Send nothing more; safe to call twice."""
        self._participant = None
        self._open.set()
        self._stop_resending()

    async def set_state(self, state: str) -> None:
        """Show a state. While the connection is down the newest one waits for it."""
        self._state = state
        if self._open.is_set():
            self._stop_resending()
            await self._send_state()

    async def show(self, transcript: Transcript) -> None:
        """Show a transcript; waits while the connection is down.

        Raises:
            TransportError: the server did not take it in time.
        """
        await self._open.wait()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(transcript)
        except (ConnectionError, TimeoutError) as error:
            raise TransportError(
                f"a transcript was not sent: {str(error) or type(error).__name__}",
                hint="front ends lose a line; the call does not depend on it",
            ) from error

    async def _send_state(self) -> None:
        if self._participant is None:
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._participant.set_attributes({STATE_ATTRIBUTE: self._state})
        except (ConnectionError, TimeoutError) as error:
            log.warning("state not sent", error=str(error) or type(error).__name__)

    async def _send(self, transcript: Transcript) -> None:
        if self._participant is None:
            return
        identity, track_sid = self._speaker(transcript)
        writer = await self._participant.stream_text(
            topic=TRANSCRIPTION_TOPIC,
            sender_identity=identity or None,
            attributes={
                "lk.segment_id": transcript.segment_id,
                "lk.transcription_final": "true" if transcript.final else "false",
                "lk.transcribed_track_id": track_sid,
            },
        )
        await writer.write(transcript.text)
        await writer.aclose()

    def _stop_resending(self) -> None:
        if self._resending is not None:
            self._resending.cancel()
            self._resending = None
