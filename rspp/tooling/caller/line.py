"""The caller's end of the line: a paced microphone, ears for every other voice, and the log.

Nothing here knows what an agent is; all other participants of the room are heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
from livekit import rtc

from rspp.tooling.caller.recording import FRAME_SAMPLES, HeardTrack
from rspp.tooling.caller.sound import AUDIBLE_LEVEL, INNER_PAUSE_SAMPLES, RATE_HZ, Samples

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

STREAM_FRAMES = 100
"""Most frames that wait between the SDK and this process (1 s); the SDK then drops the oldest."""
_NANOSECONDS = 1_000_000_000


def reason_name(reason: rtc.DisconnectReason.ValueType | None) -> str:
    """Return the SDK's name for why somebody left."""
    return "UNKNOWN_REASON" if reason is None else rtc.DisconnectReason.Name(reason)


class EventLog:
    """Writes what happens as JSON lines, to a file and to standard output for a live view."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self.records = 0

    def write(self, event: str, **fields: object) -> None:
        """Append one event."""
        line = json.dumps({"event": event, "wall_ms": time.time_ns() // 1_000_000, **fields})
        self._file.write(line + "\n")
        self._file.flush()
        self.records += 1
        try:
            print(line, flush=True)
        except BrokenPipeError:
            # Nobody watches any more; the file has it all.
            sys.stdout = open("/dev/null", "w", encoding="utf-8")  # noqa: PTH123, SIM115

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Line:
    """One participant of a room that speaks and hears on one timeline of samples.

    Args:
        log: takes what is noticed.
        limit_samples: longest recording; the call ends there.
    """

    def __init__(self, log: EventLog, limit_samples: int) -> None:
        self._log = log
        self._limit = limit_samples
        self._room = rtc.Room()
        # Without a queue of its own the source hands each frame straight to the encoder.
        self._source = rtc.AudioSource(RATE_HZ, 1, queue_size_ms=0)
        self._started_ns = 0
        self._pending: Samples = np.zeros(0, dtype=np.int16)
        self._pending_from = 0
        self._sent: list[Samples] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._audible_from: int | None = None
        self._audible_until = 0
        self._quiet = asyncio.Event()
        self.heard: list[HeardTrack] = []
        self.ended = asyncio.Event()
        self.end_reason = ""
        self.others: set[str] = set()
        self.worst_lateness_ms = 0.0

    # ------------------------------------------------------------------------------- connecting
    async def open(self, url: str, token: str, timeout_seconds: float) -> None:
        """Join, publish a microphone and start the timeline.

        Raises:
            rtc.ConnectError: the server refuses.
            TimeoutError: it does not answer.
        """
        self._room.on("participant_connected", self._on_joined)
        self._room.on("participant_disconnected", self._on_left)
        self._room.on("track_subscribed", self._on_track)
        self._room.on("disconnected", self._on_disconnected)
        self._started_ns = time.monotonic_ns()
        async with asyncio.timeout(timeout_seconds):
            await self._room.connect(url, token)
            track = rtc.LocalAudioTrack.create_audio_track("caller", self._source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
            await self._room.local_participant.publish_track(track, options)
        for participant in list(self._room.remote_participants.values()):
            if participant.identity not in self.others:
                self._on_joined(participant)
        self._started_ns = time.monotonic_ns()
        self._log.write("started", rate_hz=RATE_HZ, identity=self._room.local_participant.identity)
        self._tasks.append(asyncio.create_task(self._pump()))

    async def close(self) -> None:
        """Hang up and free the room."""
        self.ended.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(3.0):
                await self._room.disconnect()
        except TimeoutError:
            self._log.write("note", text="the SDK did not confirm the hang-up within 3 s")

    def now(self) -> int:
        """Sample of the timeline that is due now."""
        return (time.monotonic_ns() - self._started_ns) * RATE_HZ // _NANOSECONDS

    # ---------------------------------------------------------------------------------- speaking
    async def _pump(self) -> None:
        """Send 10 ms frames when due; after a stall the missed ones leave at once."""
        index = 0
        while not self.ended.is_set():
            due_ns = self._started_ns + index * FRAME_SAMPLES * _NANOSECONDS // RATE_HZ
            wait = (due_ns - time.monotonic_ns()) / _NANOSECONDS
            if wait > 0:
                await asyncio.sleep(wait)
            self.worst_lateness_ms = max(self.worst_lateness_ms, (time.monotonic_ns() - due_ns) / 1_000_000)
            if index * FRAME_SAMPLES >= self._limit:
                self._end("limit")
                return
            frame = self._next_frame(index * FRAME_SAMPLES)
            self._sent.append(frame)
            await self._source.capture_frame(rtc.AudioFrame(frame.tobytes(), RATE_HZ, 1, FRAME_SAMPLES))
            index += 1

    def _next_frame(self, position: int) -> Samples:
        if not self._pending.size:
            return np.zeros(FRAME_SAMPLES, dtype=np.int16)
        if self._pending_from < 0:
            self._pending_from = position
        taken, self._pending = self._pending[:FRAME_SAMPLES], self._pending[FRAME_SAMPLES:]
        if not self._pending.size:
            self._quiet.set()
        return taken if taken.size == FRAME_SAMPLES else np.pad(taken, (0, FRAME_SAMPLES - taken.size))

    async def send(self, pcm: Samples) -> tuple[int, int]:
        """Send samples and return their first and last position; returns early when the call ends."""
        self._quiet.clear()
        self._pending, self._pending_from = pcm, -1
        await self._until(self._quiet)
        first = max(self._pending_from, 0)
        return first, first + pcm.size

    def sent(self) -> Samples:
        """Everything sent so far."""
        return np.concatenate(self._sent) if self._sent else np.zeros(0, dtype=np.int16)

    # ----------------------------------------------------------------------------------- hearing
    def _on_track(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if track.kind != rtc.TrackKind.KIND_AUDIO:
            return
        self._log.write("subscribed", identity=participant.identity, at=self.now())
        heard = HeardTrack(participant.identity)
        self.heard.append(heard)
        self._tasks.append(asyncio.create_task(self._listen(track, heard)))

    async def _listen(self, track: rtc.Track, heard: HeardTrack) -> None:
        stream = rtc.AudioStream(
            track, capacity=STREAM_FRAMES, sample_rate=RATE_HZ, num_channels=1, frame_size_ms=10
        )
        try:
            async for event in stream:
                arrival = self.now()
                pcm = np.frombuffer(event.frame.data, dtype=np.int16)
                heard.add(arrival, pcm)
                self._judge(arrival, pcm)
        finally:
            await stream.aclose()

    def _judge(self, arrival: int, pcm: Samples) -> None:
        loudness = math.sqrt(float(np.mean(np.square(pcm.astype(np.float64))))) / 32768
        if loudness >= AUDIBLE_LEVEL:
            if self._audible_from is None:
                self._audible_from = arrival
                self._log.write("agent_audible", at=arrival)
            self._audible_until = arrival + pcm.size
        elif self._audible_from is not None and arrival - self._audible_until >= INNER_PAUSE_SAMPLES:
            self._audible_from = None
            self._log.write("agent_silent", at=self._audible_until)

    async def until_speaking(self, samples: int) -> bool:
        """Wait until another voice has been audible for this long; false when the call ended."""
        while not self.ended.is_set():
            if self._audible_from is not None and self._audible_until - self._audible_from >= samples:
                return True
            await asyncio.sleep(0.005)
        return False

    async def until_silent(self, samples: int) -> bool:
        """Wait until nothing has been audible for this long; false when the call ended."""
        while not self.ended.is_set():
            if self.now() - self._audible_until >= samples:
                return True
            await asyncio.sleep(0.005)
        return False

    async def until_present(self) -> bool:
        """Wait until another voice can be heard; false when the call ended."""
        while not self.ended.is_set():
            if self.heard:
                return True
            await asyncio.sleep(0.02)
        return False

    async def pause(self, samples: int) -> None:
        """Say nothing for this long; returns early when the call ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), samples / RATE_HZ)

    # ------------------------------------------------------------------------------------ ending
    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        self.others.add(participant.identity)
        self._log.write("joined", identity=participant.identity, at=self.now())

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        self.others.discard(participant.identity)
        reason = reason_name(participant.disconnect_reason)
        self._log.write("left", identity=participant.identity, at=self.now(), reason=reason)

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        if not self.ended.is_set():
            self._end(f"disconnected: {reason_name(reason)}")

    def _end(self, reason: str) -> None:
        self.end_reason = self.end_reason or reason
        self.ended.set()

    async def _until(self, event: asyncio.Event) -> None:
        done = asyncio.ensure_future(event.wait())
        ended = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            done.cancel()
            ended.cancel()
