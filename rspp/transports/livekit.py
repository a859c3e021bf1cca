"""A LiveKit room as the transport of a session."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import structlog
from livekit import rtc

from rspp.contracts.errors import TransportError
from rspp.transports.livekit_access import (
    ServerAccess,
    remove_older_identities,
    split_identity,
)
from rspp.transports.livekit_caller import Caller
from rspp.transports.livekit_join import enter_room
from rspp.transports.livekit_notices import Notices, Transcript
from rspp.transports.livekit_voice import VoiceSource

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from livekit.rtc.room import EventTypes

    from rspp.contracts.media import Pcm
    from rspp.contracts.ports import ConnectionState, TransportSink

CHAT_TOPIC = "lk.chat"
STOP_METHOD = "rspp.stop"
"""What a front end calls to silence the agent; it takes nothing and answers nothing."""
NOT_THE_CALLER = 403
"""Error of a call by somebody whom the agent does not talk with."""
CHAT_CHARACTERS = 16_385
"""Read of one text: one more than the kernel lets in, so that a longer one is refused and not cut."""
CHAT_SECONDS = 5.0
CHAT_READERS = 4
"""Chat texts that may arrive at the same time; further ones are refused."""
ENTRIES = 3
"""Times that the room is entered anew when media do not come about: under heavy load the SDK's
negotiation hung for ever in 4 of 380 joins, ten of them at once on two busy cores (measured)."""
PUBLISH_SECONDS = 2.5
"""Longest wait for the voice track to be taken; 5 to 14 ms on an idle machine."""
DISCONNECT_SECONDS = 1.2
OTHER_ENDS = {
    rtc.DisconnectReason.ROOM_DELETED: "room_deleted",
    rtc.DisconnectReason.ROOM_CLOSED: "room_closed",
    rtc.DisconnectReason.PARTICIPANT_REMOVED: "removed_from_room",
    rtc.DisconnectReason.DUPLICATE_IDENTITY: "duplicate_identity",
    rtc.DisconnectReason.SERVER_SHUTDOWN: "server_shutdown",
    rtc.DisconnectReason.CLIENT_INITIATED: "left_room",
}

log = structlog.get_logger(__name__)


class _MediaStuckError(TransportError):
    """The room let the agent in, but its media do not come about."""


class LiveKitTransport:
    """Joins one room under one identity, speaks there and listens to one caller.

    Args:
        url: address of the server.
        token: access token for the room; its identity is ``agent-<session>-e<epoch>``.
        identity: the identity in the token.
        room_name: the room in the token.
        access: key for the server API; with it, earlier epochs of the session are removed from the room
            before the voice is published and whenever one comes back.
        caller_identity: participant to talk with; empty takes the first one with a microphone.
        caller_wait_seconds: longest wait for the caller; none waits without limit.
        grace_seconds: how long a caller who vanished may take to come back.
        stall_seconds: how long a microphone may deliver nothing before a stall is reported.
    """

    def __init__(
        self,
        *,
        url: str,
        token: str,
        identity: str,
        room_name: str,
        access: ServerAccess | None = None,
        caller_identity: str = "",
        caller_wait_seconds: float | None = None,
        grace_seconds: float = 5.0,
        stall_seconds: float = 2.0,
    ) -> None:
        self.identity = identity
        self.room_name = room_name
        self._url = url
        self._token = token
        self._access = access
        self._caller_identity = caller_identity
        self._caller_wait_seconds = caller_wait_seconds
        self._grace_seconds = grace_seconds
        self._stall_seconds = stall_seconds
        self._room: rtc.Room | None = None
        self._voice: VoiceSource | None = None
        self._publication: rtc.LocalTrackPublication | None = None
        self._caller: Caller | None = None
        self._sink: TransportSink | None = None
        self._notices = Notices(self._speaker)
        self._tasks: set[asyncio.Task[None]] = set()
        self._chats = 0
        self._joined = asyncio.Event()
        self._ended = asyncio.Event()
        self._end_reason = ""
        self._left = False

    @property
    def caller_identity(self) -> str:
        """Identity of the caller, empty before he is known."""
        return self._caller.identity if self._caller is not None else self._caller_identity

    async def connect(self, sink: TransportSink) -> None:
        """Join, put earlier epochs out, publish a silent voice track and wait for the caller.

        Raises:
            ConfigurationError: the server refuses the key.
            TransportError: unreachable, refused, superseded, or no caller within the limit.
        """
        self._sink = sink
        try:
            for left in reversed(range(ENTRIES)):
                try:
                    await self._enter(sink)
                    break
                except _MediaStuckError as error:
                    if not left:
                        raise
                    log.warning("entering the room anew", error=error.message, room=self.room_name)
                    await self._withdraw()
        except BaseException:
            await self.close()
            raise
        sink.on_connection("connected", "")

    async def _enter(self, sink: TransportSink) -> None:
        # Before the room is entered, so that a text which waits there already finds its reader.
        caller = self._caller = Caller(
            sink,
            identity=self._caller_identity,
            grace_seconds=self._grace_seconds,
            stall_seconds=self._stall_seconds,
        )
        room = await enter_room(self._url, self._token, self._attach)
        self._room = room
        room.local_participant.register_rpc_method(STOP_METHOD, self._on_stop)
        if self._left:
            await self._disconnect(room)
            raise TransportError(
                f"room {self.room_name!r} was left while joining it",
                hint="the call ended before it began",
                reason="lease_deauthorized",
            )
        self._refuse_when_superseded(room)
        if self._access is not None:
            await remove_older_identities(self._access, room=self.room_name, identity=self.identity)
        await self._publish(room)
        self._notices.start(room.local_participant)
        await self._await_caller(room, caller)

    async def _withdraw(self) -> None:
        """Undo an entry whose media are stuck."""
        self._notices.stop()
        room, self._room = self._room, None
        caller, self._caller = self._caller, None
        voice, self._voice = self._voice, None
        if caller is not None:
            await caller.close()
        if room is not None:
            for event, handler in self._handlers().items():
                room.off(event, handler)
            await self._disconnect(room)
        if voice is not None:
            await voice.close()

    async def write(self, pcm: Pcm) -> None:
        """Queue one frame at 24 kHz behind the gate; waits while 40 ms are queued."""
        if self._voice is not None and not self._left:
            await self._voice.write(pcm)

    def clear(self) -> int:
        """Drop what is queued and return how many samples were dropped unheard."""
        return self._voice.clear() if self._voice is not None else 0

    def queued_samples(self) -> int:
        """Samples accepted and not yet played."""
        return self._voice.queued_samples() if self._voice is not None else 0

    async def set_agent_state(self, state: str) -> None:
        """Show ``initializing``, ``listening``, ``thinking`` or ``speaking``; waits for the server."""
        await self._notices.set_state(state)

    async def publish_transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        """Show a transcript; ``text`` is the whole segment so far. Waits for the server.

        Raises:
            TransportError: the server did not take it in time.
        """
        await self._notices.show(Transcript(segment_id=segment_id, text=text, caller=caller, final=final))

    def leave_now(self) -> None:
        """Leave at once because the authority to speak is gone; returns before the server knows.

        Nothing is heard any more from the moment this returns: the queue is empty, further frames are
        dropped, and the request to disconnect is in the SDK before its own reconnection can begin.
        ``close`` waits for the rest.
        """
        if self._left:
            return
        self._left = True
        self._ended.set()
        self._notices.stop()
        if self._voice is not None:
            self._voice.clear()
        if self._room is not None:
            self._spawn(self._disconnect(self._room), "leave-room")

    async def close(self) -> None:
        """Leave and free everything within two seconds; safe to call twice."""
        self.leave_now()
        if self._caller is not None:
            await self._caller.close()
        if self._voice is not None:
            await self._voice.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=DISCONNECT_SECONDS + 0.1)
        for task in tuple(self._tasks):
            task.cancel()

    def _handlers(self) -> dict[EventTypes, Callable[..., None]]:
        return {
            "disconnected": self._on_disconnected,
            "reconnecting": self._on_reconnecting,
            "reconnected": self._on_reconnected,
            "participant_connected": self._on_participant,
        }

    def _attach(self, room: rtc.Room) -> None:
        for event, handler in self._handlers().items():
            room.on(event, handler)
        room.register_text_stream_handler(CHAT_TOPIC, functools.partial(self._on_chat, room))

    async def _publish(self, room: rtc.Room) -> None:
        self._voice = VoiceSource()
        track = rtc.LocalAudioTrack.create_audio_track("agent-voice", self._voice.native)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                self._publication = await room.local_participant.publish_track(track, options)
        except TimeoutError:
            raise self._stuck("did not take the agent's voice track") from None
        except rtc.participant.PublishTrackError as error:
            raise TransportError(
                f"room {self.room_name!r} refused the agent's voice track: {error.message}",
                hint="the token needs the grant canPublish",
            ) from error

    def _stuck(self, what: str) -> _MediaStuckError:
        return _MediaStuckError(
            f"room {self.room_name!r} {what}: no answer",
            hint="the machine or the server is overloaded, or media ports of the server are closed",
        )

    async def _await_caller(self, room: rtc.Room, caller: Caller) -> None:
        caller.follow(room)
        loop = asyncio.get_running_loop()
        events = (caller.present, caller.stuck, self._ended)
        waits = [loop.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=self._caller_wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._ended.is_set():
            raise TransportError(
                f"room {self.room_name!r} ended before a caller came: {self._end_reason or 'closed'}",
                hint="join again when the room is open",
                reason="transport_disconnect_or_stall",
            )
        if caller.present.is_set():
            return
        if caller.stuck.is_set():
            raise self._stuck("did not deliver the caller's microphone")
        raise TransportError(
            f"no caller came to room {self.room_name!r} within {self._caller_wait_seconds} s",
            hint="join with a microphone, or wait longer",
        )

    def _refuse_when_superseded(self, room: rtc.Room) -> None:
        for participant in room.remote_participants.values():
            if self._newer(participant):
                raise TransportError(
                    f"another runtime has taken over the call in room {self.room_name!r}: "
                    f"{participant.identity}",
                    hint="nothing is to be done; that runtime speaks now",
                    reason="lease_deauthorized",
                )

    def _newer(self, participant: rtc.RemoteParticipant) -> bool:
        own, other = split_identity(self.identity), split_identity(participant.identity)
        return own is not None and other is not None and own[0] == other[0] and other[1] > own[1]

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        self._joined.set()
        own, other = split_identity(self.identity), split_identity(participant.identity)
        if own is None or other is None or own[0] != other[0]:
            return
        if other[1] > own[1]:
            log.warning("superseded in the room", by=participant.identity)
            if self._sink is not None:
                self._sink.on_successor(other[1])
            self._report_end("superseded")
            self.leave_now()
        elif self._access is not None:
            log.warning("an earlier epoch came back to the room", identity=participant.identity)
            self._spawn(self._put_out(self._access), "put-out-earlier-epoch")

    async def _put_out(self, access: ServerAccess) -> None:
        try:
            await remove_older_identities(access, room=self.room_name, identity=self.identity)
        except TransportError as error:
            log.warning("an earlier epoch stays in the room", error=error.message)

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        self._report_end(OTHER_ENDS.get(reason, "transport_disconnect_or_stall"))

    def _on_reconnecting(self) -> None:
        self._notices.pause()
        self._report("reconnecting", "transport_disconnect_or_stall")

    def _on_reconnected(self) -> None:
        assert self._room is not None
        for participant in self._room.remote_participants.values():
            self._on_participant(participant)
        if self._left:
            return
        self._report("connected", "reconnected")
        self._notices.resume()
        if self._caller is not None:
            self._caller.look_around(self._room)

    def _on_chat(self, room: rtc.Room, reader: rtc.TextStreamReader, identity: str) -> None:
        if self._caller is None or self._left or self._chats >= CHAT_READERS:
            reader.close()
            return
        self._chats += 1
        self._spawn(self._read_chat(room, self._caller, reader, identity), "read-chat")

    async def _read_chat(
        self, room: rtc.Room, caller: Caller, reader: rtc.TextStreamReader, identity: str
    ) -> None:
        text = ""
        try:
            async with asyncio.timeout(CHAT_SECONDS):
                # The text may overtake the news that its sender has joined.
                while identity not in room.remote_participants:
                    self._joined.clear()
                    await self._joined.wait()
                if not caller.accepts(room.remote_participants[identity]):
                    return
                async for piece in reader:
                    text += piece
                    if len(text) >= CHAT_CHARACTERS:
                        break
        except (ConnectionError, TimeoutError) as error:
            log.warning("a chat text was cut short", error=str(error) or type(error).__name__)
        finally:
            reader.close()
            self._chats -= 1
        text = text[:CHAT_CHARACTERS].strip()
        participant = room.remote_participants.get(identity)
        if text and not self._left and participant is not None and self._sink is not None:
            # A caller who only writes is there too.
            caller.recognise(participant)
            caller.present.set()
            self._sink.on_text(text, f"{identity}/{reader.info.stream_id}")

    def _on_stop(self, asked: rtc.RpcInvocationData) -> str:
        caller = self._caller.identity if self._caller is not None else ""
        if self._left or self._sink is None or not caller or asked.caller_identity != caller:
            raise rtc.RpcError(NOT_THE_CALLER, "only the caller may stop the agent")
        self._sink.on_stop(f"{caller}/{asked.request_id}")
        return ""

    def _speaker(self, transcript: Transcript) -> tuple[str, str]:
        if transcript.caller and self._caller is not None:
            return self._caller.identity, self._caller.track_sid
        return self.identity, self._publication.sid if self._publication is not None else ""

    def _report_end(self, reason: str) -> None:
        if not self._ended.is_set():
            self._end_reason = reason
            self._ended.set()
            self._report("ended", reason)

    def _report(self, state: ConnectionState, reason: str) -> None:
        log.info("room", state=state, reason=reason, room=self.room_name)
        if self._sink is not None:
            self._sink.on_connection(state, reason)

    async def _disconnect(self, room: rtc.Room) -> None:
        try:
            async with asyncio.timeout(DISCONNECT_SECONDS):
                await room.disconnect()
        except TimeoutError:
            log.warning("the room did not confirm that the agent left", room=self.room_name)

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
