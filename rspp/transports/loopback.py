"""The loopback transport: a call with a caller in the same process, in virtual or in real time.

The caller gives 10 ms of audio at a time and hears what the agent played in the same 10 ms. All
positions are exact samples of one timeline, so a test can compare what was heard sample by sample.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rspp.contracts.media import INPUT_RATE_HZ, MAX_QUEUED_MS, OUTPUT_FRAME_SAMPLES, OUTPUT_RATE_HZ, Pcm

if TYPE_CHECKING:
    from rspp.contracts.ports import TransportSink

TICK_MS = 10
INPUT_TICK_SAMPLES = INPUT_RATE_HZ * TICK_MS // 1000
OUTPUT_TICK_SAMPLES = OUTPUT_RATE_HZ * TICK_MS // 1000
QUEUE_SAMPLES = MAX_QUEUED_MS * OUTPUT_RATE_HZ // 1000


class LoopbackCaller(Protocol):
    """The other party of a loopback call."""

    def hear(self, pcm: Pcm) -> None:
        """Take 10 ms of the agent's voice, 240 samples at 24 kHz, zeros where it was silent."""
        ...

    def speak(self) -> Pcm | None:
        """Give the next 10 ms, 160 samples at 16 kHz; none hangs up."""
        ...

    def agent_state(self, state: str) -> None:
        """The agent shows another state."""
        ...

    def transcript(self, text: str, *, caller: bool, final: bool) -> None:
        """The agent shows a transcript."""
        ...


class LoopbackTransport:
    """Joins a session and a ``LoopbackCaller``.

    Args:
        caller: the other party.
    """

    def __init__(self, caller: LoopbackCaller) -> None:
        self._caller = caller
        # At most what write lets in before it waits: 40 ms.
        self._queue: deque[tuple[int, Pcm]] = deque()
        self._queue_end = 0
        self._started_s = 0.0
        self._position = 0
        self._task: asyncio.Task[None] | None = None

    async def connect(self, sink: TransportSink) -> None:
        """Start the call's timeline."""
        self._started_s = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._exchange(sink), name="loopback")

    def _now(self) -> int:
        """Position of now on the timeline, samples at 24 kHz."""
        elapsed_s = asyncio.get_running_loop().time() - self._started_s
        return round(elapsed_s * OUTPUT_RATE_HZ)

    async def write(self, pcm: Pcm) -> None:
        """Queue a frame at once, then wait until there is room for another."""
        start = max(self._queue_end, self._now())
        self._queue.append((start, pcm))
        self._queue_end = start + len(pcm)
        while (excess := self.queued_samples() + OUTPUT_FRAME_SAMPLES - QUEUE_SAMPLES) > 0:  # noqa: ASYNC110
            # The queue empties by the passing of time alone; there is no event to wait for.
            await asyncio.sleep(excess / OUTPUT_RATE_HZ)

    def clear(self) -> int:
        """Drop what has not been played; returns how many samples."""
        now = self._now()
        cleared = max(0, self._queue_end - now)
        while self._queue and self._queue[-1][0] >= now:
            self._queue.pop()
        if self._queue:
            start, pcm = self._queue.pop()
            self._queue.append((start, pcm[: now - start]))
        self._queue_end = min(self._queue_end, now)
        return cleared

    def queued_samples(self) -> int:
        """Samples accepted and not yet played."""
        return max(0, self._queue_end - self._now())

    async def set_agent_state(self, state: str) -> None:
        """Tell the caller."""
        self._caller.agent_state(state)

    async def publish_transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        """Tell the caller."""
        self._caller.transcript(text, caller=caller, final=final)

    def leave_now(self) -> None:
        """Fall silent at once and end the call."""
        self.clear()
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """End the call's timeline."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            if self._position < self._now():
                self._caller.hear(self._played(self._position, self._position + OUTPUT_TICK_SAMPLES))

    async def _exchange(self, sink: TransportSink) -> None:
        loop = asyncio.get_running_loop()
        while True:
            end = self._position + OUTPUT_TICK_SAMPLES
            await asyncio.sleep(self._started_s + end / OUTPUT_RATE_HZ - loop.time())
            self._caller.hear(self._played(self._position, end))
            self._position = end
            pcm = self._caller.speak()
            if pcm is None:
                sink.on_connection("ended", "caller_left")
                return
            sink.on_audio(pcm)

    def _played(self, start: int, end: int) -> Pcm:
        """What was played between two positions; forgets it."""
        played = np.zeros(end - start, dtype=np.int16)
        while self._queue and self._queue[0][0] < end:
            at, pcm = self._queue.popleft()
            if at + len(pcm) > end:
                self._queue.appendleft((end, pcm[end - at :]))
                pcm = pcm[: end - at]
            played[at - start : at - start + len(pcm)] = pcm
        return played
