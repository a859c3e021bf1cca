"""Ordinary participants and sinks for tests in a real room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
from livekit import api, rtc

from rspp.transports.livekit import LiveKitTransport
from rspp.transports.livekit_access import ServerAccess, agent_identity, mint_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.media import Pcm
    from rspp.contracts.ports import ConnectionState
    from rspp.tooling.livekit_server import LiveKitServer

WAIT_SECONDS = 15.0
LOUD = 500.0
RATE = 48_000
STEP = RATE // 100


def access_to(server: LiveKitServer) -> ServerAccess:
    """The key of a test's server."""
    return ServerAccess(url=server.url, api_key=server.api_key, api_secret=server.api_secret)


def agent_transport(
    server: LiveKitServer,
    room: str,
    *,
    epoch: int = 1,
    caller: str = "",
    grace_seconds: float = 5.0,
    stall_seconds: float = 2.0,
    wait_seconds: float | None = WAIT_SECONDS,
) -> LiveKitTransport:
    """The transport under test, with the identity of an epoch of session ``s``."""
    access = access_to(server)
    identity = agent_identity("s", epoch)
    return LiveKitTransport(
        url=access.websocket_url,
        token=mint_token(access, room=room, identity=identity),
        identity=identity,
        room_name=room,
        access=access,
        caller_identity=caller,
        caller_wait_seconds=wait_seconds,
        grace_seconds=grace_seconds,
        stall_seconds=stall_seconds,
    )


def loudness(pcm: Pcm) -> float:
    """Mean magnitude of samples."""
    return float(np.abs(pcm.astype(np.float64)).mean()) if len(pcm) else 0.0


def tone(samples: int, rate: int, *, start: int = 0, hertz: float = 440.0) -> Pcm:
    """A tone that goes on where the last piece ended."""
    phase = 2 * np.pi * hertz * (start + np.arange(samples)) / rate
    return (8000 * np.sin(phase)).astype(np.int16)


class Watched:
    """Something to wait for without sleeping."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Wake those who wait."""
        self._changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until ``true()`` holds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not true():
                self._changed.clear()
                await self._changed.wait()


class FakeSink(Watched):
    """Notes what a transport reports."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0
        self.loud_frames = 0
        self.texts: list[str] = []
        self.stops: list[str] = []
        self.successors: list[int] = []
        self.signals: list[tuple[ConnectionState, str]] = []

    def on_audio(self, pcm: Pcm) -> None:
        """Caller's audio."""
        self.samples += len(pcm)
        self.loud_frames += loudness(pcm) > LOUD
        self.changed()

    def on_text(self, text: str, event_id: str = "") -> None:
        """Chat text."""
        self.texts.append(text)
        self.changed()

    def on_stop(self, event_id: str) -> None:
        """Stop."""
        self.stops.append(event_id)

    def on_successor(self, epoch: int) -> None:
        """A later holder."""
        self.successors.append(epoch)

    def on_connection(self, state: ConnectionState, reason: str) -> None:
        """Signal."""
        self.signals.append((state, reason))
        self.changed()

    async def signal(self, state: ConnectionState, reason: str) -> None:
        """Wait for a signal."""
        await self.until(lambda: (state, reason) in self.signals)


class Peer(Watched):
    """An ordinary participant: speaks a tone while ``speaking`` is set, and notes whom it hears."""

    def __init__(self, server: LiveKitServer, room: str, identity: str = "caller") -> None:
        super().__init__()
        self.identity = identity
        self.room = rtc.Room()
        self.loud: dict[str, int] = {}
        self.attributes: dict[str, str] = {}
        self.streams: list[tuple[str, str, dict[str, str]]] = []
        self.left: list[str] = []
        self.track: rtc.LocalAudioTrack | None = None
        self.disconnected = False
        self._server = server
        self._name = room
        self._tasks: set[asyncio.Task[None]] = set()
        self._source: rtc.AudioSource | None = None
        self._speaker: asyncio.Task[None] | None = None
        self.speaking = False

    async def join(self, *, microphone: bool = True) -> Peer:
        """Join, and publish a microphone."""
        self.room.on("track_subscribed", self._on_track)
        self.room.on("participant_attributes_changed", self._on_attributes)
        self.room.on("participant_connected", lambda _: self.changed())
        self.room.on("track_published", lambda *_: self.changed())
        self.room.on("participant_active", lambda _: self.changed())
        self.room.on("participant_disconnected", self._on_left)
        self.room.on("disconnected", self._on_disconnected)
        self.room.register_text_stream_handler("lk.transcription", self._on_stream)
        token = api.AccessToken(self._server.api_key, self._server.api_secret).with_identity(self.identity)
        token = token.with_grants(api.VideoGrants(room_join=True, room=self._name))
        await self.room.connect(self._server.url, token.to_jwt())
        if microphone:
            await self.publish()
        return self

    async def publish(self) -> None:
        """Publish a microphone and send, silence or the tone."""
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=20)
        self.track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self.room.local_participant.publish_track(self.track, options)
        self.send()

    def send(self) -> None:
        """Begin or go on to send."""
        self._speaker = asyncio.get_running_loop().create_task(self._send())

    async def stop_sending(self) -> None:
        """Send nothing any more, not even silence."""
        if self._speaker is not None:
            self._speaker.cancel()
            await asyncio.gather(self._speaker, return_exceptions=True)
            self._speaker = None

    async def chat(self, text: str) -> None:
        """Write to the agent."""
        await self.room.local_participant.send_text(text, topic="lk.chat")

    async def stop(self, identity: str) -> str:
        """Ask the agent to be silent; returns its answer."""
        participant = self.room.local_participant
        return await participant.perform_rpc(destination_identity=identity, method="rspp.stop", payload="")

    async def reaches(self, identity: str) -> None:
        """Wait until a participant can take texts; the server drops earlier ones."""

        def active() -> bool:
            participant = self.room.remote_participants.get(identity)
            return (
                participant is not None and participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE
            )

        await self.until(active)

    async def hear(self, identity: str, frames: int = 5) -> None:
        """Wait until so many more loud frames of a participant were heard."""
        target = self.loud.get(identity, 0) + frames
        await self.until(lambda: self.loud.get(identity, 0) >= target)

    async def leave(
        self, reason: rtc.DisconnectReason.ValueType = rtc.DisconnectReason.CLIENT_INITIATED
    ) -> None:
        """Leave and free everything."""
        await self.stop_sending()
        await self.room.disconnect(reason=reason)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._source is not None:
            await self._source.aclose()
            self._source = None

    async def _send(self) -> None:
        assert self._source is not None
        sent = 0
        # A source whose last write was cancelled is busy for a moment.
        self._source.clear_queue()
        while True:
            pcm = tone(STEP, RATE, start=sent) if self.speaking else np.zeros(STEP, np.int16)
            sent += STEP
            try:
                await self._source.capture_frame(rtc.AudioFrame(pcm.tobytes(), RATE, 1, STEP))
            except Exception as error:
                if "InvalidState" not in str(error):
                    raise
                await asyncio.sleep(0.01)

    def _on_track(
        self, track: rtc.RemoteTrack, _: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        self._spawn(self._listen(track, participant.identity))

    async def _listen(self, track: rtc.RemoteTrack, identity: str) -> None:
        stream = rtc.AudioStream(track, capacity=32, sample_rate=16_000, num_channels=1, frame_size_ms=20)
        try:
            async for event in stream:
                if loudness(np.frombuffer(event.frame.data, np.int16)) > LOUD:
                    self.loud[identity] = self.loud.get(identity, 0) + 1
                    self.changed()
        finally:
            await stream.aclose()

    def _on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        self.attributes.update(changed)
        self.changed()

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        self.left.append(participant.identity)
        self.changed()

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        self.disconnected = True
        self.changed()

    def _on_stream(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._spawn(self._read(reader, identity))

    async def _read(self, reader: rtc.TextStreamReader, identity: str) -> None:
        text = await reader.read_all()
        self.streams.append((identity, text, dict(reader.info.attributes or {})))
        self.changed()

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
