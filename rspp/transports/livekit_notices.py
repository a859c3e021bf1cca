"""What front ends are shown: the agent's state and the transcripts, sent apart from the voice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from livekit import rtc

TRANSCRIPTION_TOPIC = "lk.transcription"
STATE_ATTRIBUTE = "lk.agent.state"
SEND_SECONDS = 2.0
WAITING_SEGMENTS = 64
"""Transcript segments that may wait; when full the oldest that is not final is given up."""

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
    """One sender for one room: the newest state and the newest version of each segment win.

    Args:
        speaker: returns participant identity and track id of whoever spoke a transcript.
    """

    def __init__(self, speaker: Callable[[Transcript], tuple[str, str]]) -> None:
        self._speaker = speaker
        self._state = ""
        self._state_sent = ""
        self._waiting: OrderedDict[str, Transcript] = OrderedDict()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.given_up = 0

    def start(self, participant: rtc.LocalParticipant) -> None:
        """Begin to send as ``participant``."""
        self._task = asyncio.get_running_loop().create_task(self._send_all(participant), name="room-notices")

    def set_state(self, state: str) -> None:
        """Show a state; one that was not sent yet is skipped."""
        self._state = state
        self._stir()

    def resend_state(self) -> None:
        """Show the state again after the room was joined anew."""
        self._state_sent = ""
        self._stir()

    def put(self, transcript: Transcript) -> None:
        """Show a transcript."""
        self._waiting.pop(transcript.segment_id, None)
        if len(self._waiting) >= WAITING_SEGMENTS:
            victim = next((key for key, item in self._waiting.items() if not item.final), None)
            self._waiting.pop(victim if victim is not None else next(iter(self._waiting)))
            self.given_up += 1
        self._waiting[transcript.segment_id] = transcript
        self._stir()

    async def close(self, flush_seconds: float) -> None:
        """Send what waits, for at most ``flush_seconds``, and stop; safe to call twice."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            async with asyncio.timeout(flush_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.info("notices given up at the end of the call", waiting=len(self._waiting))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _stir(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _send_all(self, participant: rtc.LocalParticipant) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._state != self._state_sent or self._waiting:
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._send_next(participant)
                except (ConnectionError, TimeoutError) as error:
                    # Front ends lose a line; the call does not depend on it.
                    log.warning("notice not sent", error=str(error) or type(error).__name__)
            self._idle.set()

    async def _send_next(self, participant: rtc.LocalParticipant) -> None:
        if self._state != self._state_sent:
            self._state_sent = self._state
            await participant.set_attributes({STATE_ATTRIBUTE: self._state})
            return
        _, transcript = self._waiting.popitem(last=False)
        identity, track_sid = self._speaker(transcript)
        writer = await participant.stream_text(
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
