"""The caller in a LiveKit room: who he is, his microphone, and what became of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import structlog
from livekit import rtc

from rspp.contracts.media import INPUT_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.ports import ConnectionState, TransportSink

INPUT_FRAME_MS = 32
"""One window of the voice activity detector (512 samples at 16 kHz): a shorter frame would wake the
process more often and decide nothing earlier."""
INPUT_FRAMES = 32
"""Frames that may wait for the event loop, about one second; older ones are dropped."""
WATCH_SECONDS = 0.25
SUBSCRIBE_SECONDS = 3.0
"""Longest wait for a microphone that was asked for; 185 ms on an idle machine."""
DOUBT_SECONDS = 0.6
"""Two looks at the packet counter this far apart tell a stall from silence: a sender that saves bandwidth
still sends a packet every 400 ms."""
STRANGERS = (
    rtc.ParticipantKind.PARTICIPANT_KIND_AGENT,
    rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS,
)
"""Kinds of participants that are never the caller."""
VOICE_SOURCES = (rtc.TrackSource.SOURCE_MICROPHONE, rtc.TrackSource.SOURCE_UNKNOWN)
FINAL_REASONS = {
    rtc.DisconnectReason.CLIENT_INITIATED: "caller_left",
    rtc.DisconnectReason.ROOM_DELETED: "room_deleted",
    rtc.DisconnectReason.PARTICIPANT_REMOVED: "caller_removed",
    rtc.DisconnectReason.USER_REJECTED: "caller_rejected",
    rtc.DisconnectReason.USER_UNAVAILABLE: "caller_unavailable",
}
"""Reasons after which the caller does not come back."""

log = structlog.get_logger(__name__)


class Caller:
    """Follows the one participant whom the agent talks with.

    Attributes:
        identity: who he is, empty before he is known.
        track_sid: id of his microphone track, empty without one.
        present: set once he is there, with a microphone or a text.
        stuck: set when his microphone was asked for and does not come.

    Args:
        sink: takes audio and signals.
        identity: participant to wait for; empty takes the first one who is no agent.
        grace_seconds: how long a caller who vanished may take to come back.
        stall_seconds: without a packet of an unmuted microphone for this long, a stall is reported.
            Frames go on meanwhile: the SDK fills in exact zeros (from 0.3 s on, measured), which even
            digital silence is not once it went through the codec.
    """

    def __init__(
        self, sink: TransportSink, *, identity: str, grace_seconds: float, stall_seconds: float
    ) -> None:
        self.identity = identity
        self.track_sid = ""
        self.present = asyncio.Event()
        self.stuck = asyncio.Event()
        self._sink = sink
        self._grace_seconds = grace_seconds
        self._stall_seconds = stall_seconds
        self._loop = asyncio.get_running_loop()
        self._pump: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._asked: asyncio.TimerHandle | None = None
        self._last_sound_at = 0.0
        self._track: rtc.RemoteTrack | None = None
        self._doubt: asyncio.Task[None] | None = None
        self._muted = False
        self._stalled = False
        self._closed = False
        self._joined = False

    def follow(self, room: rtc.Room) -> None:
        """Take part in the room's events, and look at who is already there."""
        room.on("participant_connected", self._on_joined)
        room.on("participant_disconnected", self._on_left)
        room.on("track_published", self._on_published)
        room.on("track_subscribed", self._on_subscribed)
        room.on("track_unsubscribed", self._on_unsubscribed)
        room.on("track_unpublished", self._on_unpublished)
        room.on("track_muted", self._on_muted)
        room.on("track_unmuted", self._on_unmuted)
        self.look_around(room)

    def look_around(self, room: rtc.Room) -> None:
        """Find the caller among the participants present, after joining or rejoining."""
        for participant in sorted(room.remote_participants.values(), key=_joined_at):
            self._on_joined(participant)
        if self._joined and self.identity not in room.remote_participants:
            self._vanished("caller_absent")

    def accepts(self, participant: rtc.RemoteParticipant) -> bool:
        """Whether this participant is the caller, or becomes him now."""
        if self.identity:
            return participant.identity == self.identity
        return participant.kind not in STRANGERS

    def recognise(self, participant: rtc.RemoteParticipant) -> None:
        """Take the participant as the caller, with or without a microphone."""
        self.identity = participant.identity
        self._joined = True
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
            self._report("connected", "caller_returned")

    async def close(self) -> None:
        """Stop listening; safe to call twice."""
        self._closed = True
        self._track_came()
        for timer in (self._grace, self._watch):
            if timer is not None:
                timer.cancel()
        self._grace = self._watch = None
        if self._doubt is not None:
            self._doubt.cancel()
        await self._stop_pump()

    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        if not self.accepts(participant):
            return
        if self.identity:
            self.recognise(participant)
        for publication in participant.track_publications.values():
            self._on_published(publication, participant)

    def _on_published(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if not _is_voice(publication) or not self.accepts(participant):
            return
        self.recognise(participant)
        if publication.track is not None and publication.subscribed:
            self._on_subscribed(publication.track, publication, participant)
        else:
            publication.set_subscribed(True)
            self._await_track()

    def _await_track(self) -> None:
        if self._asked is None:
            self._asked = self._loop.call_later(SUBSCRIBE_SECONDS, self._on_stuck)

    def _on_stuck(self) -> None:
        self._asked = None
        self.stuck.set()
        if self.present.is_set() and not self._stalled:
            # In the middle of a call the session decides what a stall means.
            self._stalled = True
            self._report("stall", "transport_disconnect_or_stall")

    def _track_came(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _on_subscribed(
        self,
        track: rtc.RemoteTrack,
        publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        if self._closed or participant.identity != self.identity or not _is_voice(publication):
            return
        if self.track_sid == publication.sid and self._pump is not None and not self._pump.done():
            return
        self.track_sid = publication.sid
        self._muted = publication.muted
        self._last_sound_at = self._loop.time()
        self._track = track
        self._track_came()
        if self._pump is not None:
            self._pump.cancel()
        self._pump = self._loop.create_task(self._listen(track), name=f"caller-audio-{publication.sid}")
        self._pump.add_done_callback(self._on_pump_done)
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_SECONDS, self._check)
        self.present.set()
        if self._muted:
            self._report("muted", "track_muted")

    def _on_unsubscribed(
        self,
        track: rtc.RemoteTrack,
        publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        self._on_unpublished(publication, participant)

    def _on_unpublished(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity == self.identity:
            self._track_came()
        if participant.identity == self.identity and publication.sid == self.track_sid:
            self.track_sid = ""
            if self._pump is not None:
                self._pump.cancel()
            self._report("muted", "track_unpublished")

    def _on_muted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        if participant.identity == self.identity and publication.sid == self.track_sid:
            self._muted = True
            self._report("muted", "track_muted")

    def _on_unmuted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        if participant.identity == self.identity and publication.sid == self.track_sid:
            self._muted = False
            self._last_sound_at = self._loop.time()
            self._report("connected", "track_unmuted")

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if not self._joined or participant.identity != self.identity:
            return
        self._track_came()
        reason = participant.disconnect_reason
        if reason in FINAL_REASONS:
            self._report("ended", FINAL_REASONS[reason])
        else:
            self._vanished("caller_vanished")

    def _vanished(self, reason: str) -> None:
        if self._grace is None and not self._closed:
            self._report("disconnected", reason)
            self._grace = self._loop.call_later(self._grace_seconds, self._give_up)

    def _give_up(self) -> None:
        self._grace = None
        self._report("ended", "caller_vanished")

    async def _listen(self, track: rtc.RemoteTrack) -> None:
        stream = rtc.AudioStream(
            track,
            capacity=INPUT_FRAMES,
            sample_rate=INPUT_RATE_HZ,
            num_channels=1,
            frame_size_ms=INPUT_FRAME_MS,
        )
        on_audio: Callable[[np.ndarray], None] = self._sink.on_audio
        try:
            async for event in stream:
                pcm = np.frombuffer(event.frame.data, np.int16)
                if pcm.any():
                    self._last_sound_at = self._loop.time()
                    if self._stalled:
                        self._stalled = False
                        self._report("connected", "audio_resumed")
                on_audio(pcm)
        finally:
            await stream.aclose()

    def _on_pump_done(self, pump: asyncio.Task[None]) -> None:
        error = None if pump.cancelled() else pump.exception()
        if error is not None:
            log.error("the session failed on the caller's audio", error=f"{type(error).__name__}: {error}")
            self._report("ended", "internal_error")

    async def _stop_pump(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    def _check(self) -> None:
        if self._closed:
            return
        self._watch = self._loop.call_later(WATCH_SECONDS, self._check)
        if self._stalled or self._doubt is not None or not self._expects_sound():
            return
        if self._loop.time() - self._last_sound_at > self._stall_seconds - DOUBT_SECONDS:
            self._doubt = self._loop.create_task(self._tell_stall(), name="caller-stall")
            self._doubt.add_done_callback(self._on_doubt_done)

    def _expects_sound(self) -> bool:
        return bool(self.track_sid) and not self._muted and self._grace is None and not self._closed

    async def _tell_stall(self) -> None:
        """Report a stall when no packet of the microphone arrives while we look."""
        looked_at = self._last_sound_at
        before = await self._packets()
        await asyncio.sleep(DOUBT_SECONDS)
        if await self._packets() == before and self._last_sound_at == looked_at and self._expects_sound():
            self._stalled = True
            self._report("stall", "transport_disconnect_or_stall")

    async def _packets(self) -> int:
        """Packets of the caller's microphone since it was subscribed."""
        if self._track is None:
            return 0
        stats = await self._track.get_stats()
        return sum(
            item.inbound_rtp.received.packets_received for item in stats if item.HasField("inbound_rtp")
        )

    def _on_doubt_done(self, doubt: asyncio.Task[None]) -> None:
        self._doubt = None
        error = None if doubt.cancelled() else doubt.exception()
        if error is not None:
            # The SDK gives no figures while it reconnects; the next look comes soon.
            log.info("packets of the caller cannot be counted", error=str(error))

    def _report(self, state: ConnectionState, reason: str) -> None:
        if not self._closed:
            log.info("caller", state=state, reason=reason, identity=self.identity)
            self._sink.on_connection(state, reason)


def _is_voice(publication: rtc.RemoteTrackPublication) -> bool:
    return publication.kind == rtc.TrackKind.KIND_AUDIO and publication.source in VOICE_SOURCES


def _joined_at(participant: rtc.RemoteParticipant) -> float:
    joined = participant.joined_at
    return joined.timestamp() if joined is not None else 0.0
