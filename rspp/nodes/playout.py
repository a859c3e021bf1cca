"""The playout node: takes speech off its edge and offers it, frame by frame, to the egress gate.

Between the gate's verdict and the hand-over to the transport nothing is awaited, so a frame that
passed cannot be overtaken by a fence. Behind the gate lie at most 40 ms, which the transport can
clear; cleared samples return to the front, so a hold costs no sample and repeats none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from rspp._kernel import FENCED, HELD, LEASE_EXPIRED, PASS, EdgeBuffer, SessionKernel
from rspp.contracts.media import FRAME_MS, MAX_QUEUED_MS, OUTPUT_FRAME_SAMPLES, OUTPUT_RATE_HZ, Pcm

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.execution import Outcome
    from rspp.contracts.ports import Clock, Transport

TAIL_FRAMES = 2 * MAX_QUEUED_MS // FRAME_MS
"""Sent frames kept for a rewind: twice what may be queued."""

_EMPTY = np.zeros(0, dtype=np.int16)


SOUND_GRID_US = 5_000
"""Grid of the times at which sound comes and leaves: frames last 20 ms, packets 10 ms, and their jitter on a
machine that is not overloaded stays below half a millisecond, so it seldom crosses a line of the grid."""


def sound_time(now_us: int) -> int:
    """Return a time in microseconds, rounded up to the grid of sound.

    Jitter decides nothing, but recorded it would be half of a recording: random digits cannot be packed.
    Rounded up, a lease is never taken to last a moment longer than it does.
    """
    return -(-now_us // SOUND_GRID_US) * SOUND_GRID_US


class PlayoutNode:
    """Plays one turn's speech at a time.

    Args:
        kernel: whose gate is asked for each frame.
        clock: the kernel's time.
        transport: where frames go.
        edge: where speech waits; its producer waits when it is full.
        on_first_frame: called with the turn when its first frame has left.
        on_drained: called with the turn when its last frame has left.
        on_lease_expired: called when the gate found the lease expired.
        on_sound: called with the turn and each frame that passed the gate.
        on_cleared: called with the samples that were taken back before they were played.
        on_pressure: called when the edge stops its producer, lets it go on, or sheds.
    """

    def __init__(
        self,
        kernel: SessionKernel,
        clock: Clock,
        transport: Transport,
        edge: EdgeBuffer[Pcm],
        on_first_frame: Callable[[int], None],
        on_drained: Callable[[int], None],
        on_lease_expired: Callable[[], None],
        on_sound: Callable[[int, Pcm], None],
        on_cleared: Callable[[int], None],
        on_pressure: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._transport = transport
        self._on_first_frame = on_first_frame
        self._on_drained = on_drained
        self._on_lease_expired = on_lease_expired
        self._on_sound = on_sound
        self._on_cleared = on_cleared
        self._on_pressure = on_pressure
        self._flowing = True
        self.edge = edge
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._turn = self._epoch = self._sequence = 0
        self._finished = False
        self._shed = 0
        self._cancelled = self._heard = 0
        self._front = _EMPTY
        self._tail: deque[Pcm] = deque(maxlen=TAIL_FRAMES)
        self.sent = 0
        """Samples of the turn that passed the gate and were not taken back."""
        self.cancelled_us = (0, 0)
        """When the latest cancel came to this node and when nothing was left of its turn, microseconds."""

    def begin(self, turn: int, epoch: int) -> None:
        """A turn starts to speak."""
        self._turn, self._epoch, self._sequence = turn, epoch, 0
        self._front = _EMPTY
        self._tail.clear()
        self._finished = False
        self.sent = 0
        self.edge.clear()
        self._shed = self.edge.shed
        self._room.set()

    @property
    def shed_samples(self) -> int:
        """Samples of the turn that its edge shed, the last frame counted as a whole one."""
        return (self.edge.shed - self._shed) * OUTPUT_FRAME_SAMPLES

    async def put(self, turn: int, pcm: Pcm) -> bool:
        """Queue speech of ``turn``; waits while the edge is full. False when the turn is over."""
        for start in range(0, len(pcm), OUTPUT_FRAME_SAMPLES):
            frame = pcm[start : start + OUTPUT_FRAME_SAMPLES]
            duration_us = len(frame) * 1_000_000 // OUTPUT_RATE_HZ
            while turn == self._turn:
                if self.edge.flowing:
                    shed = self.edge.shed
                    taken = self.edge.put(frame, turn, duration_us, frame.nbytes)
                    self._watch_pressure()
                    if taken:
                        break
                    if self.edge.shed > shed:
                        self._on_pressure()
                        break
                    if self.edge.flowing:
                        raise RuntimeError("the speech edge has no room for a single frame")
                self._room.clear()
                await self._room.wait()
            else:
                return False
            self._work.set()
        return True

    def _watch_pressure(self) -> None:
        """Tell of what the edge decided when it did; what it keeps to itself carries no time."""
        if self.edge.flowing != self._flowing:
            self._flowing = not self._flowing
            self._on_pressure()

    def finish(self, turn: int) -> None:
        """No more speech of ``turn`` will come."""
        if turn == self._turn:
            self._finished = True
            self._work.set()

    def hold(self) -> None:
        """Silence at once: what the transport has not played comes back to the front."""
        cleared = self._transport.clear()
        if cleared and self._turn:
            sent = np.concatenate(self._tail)
            # A transport may have filled the last frame up with silence.
            cleared = min(cleared, len(sent))
            self._front = np.concatenate((sent[len(sent) - cleared :], self._front))
            self._tail.clear()
            self._tail.append(sent[: len(sent) - cleared])
            self.sent -= cleared
            self._on_cleared(cleared)

    def resume(self) -> None:
        """Go on after a hold."""
        self._work.set()

    def cancel(self, turn: int) -> int:
        """Drop everything of ``turn``, if that was not done; returns how many of its samples were heard."""
        if turn != self._cancelled:
            started_us = self._clock.now_us()
            self._cancelled, self._heard = turn, self._clear(turn)
            self.cancelled_us = (started_us, self._clock.now_us())
        return self._heard

    def _clear(self, turn: int) -> int:
        if turn != self._turn:
            return 0
        cleared = self._transport.clear()
        self.edge.fence(turn)
        self._turn = 0
        self._front = _EMPTY
        self._room.set()
        self.sent -= cleared
        self._on_cleared(cleared)
        return self.sent

    def on_cancel(self) -> None:
        """The turn is over."""
        self.cancel(self._turn)

    def on_barge_in(self) -> None:
        """The caller interrupted."""
        self.cancel(self._turn)

    def on_budget_exhausted(self, outcome: Outcome) -> None:
        """The turn ends because its time is used up."""
        self.cancel(self._turn)

    async def run(self) -> None:
        """Play until cancelled."""
        while True:
            frame = self._next()
            if frame is None:
                if self._finished and self._turn and not len(self.edge):
                    self._finished = False
                    self._on_drained(self._turn)
                    continue
                self._work.clear()
                await self._work.wait()
                continue
            self._sequence += 1
            verdict = self._kernel.frame(
                sound_time(self._clock.now_us()), self._turn, self._epoch, self._sequence, len(frame)
            )
            if verdict == PASS:
                self.sent += len(frame)
                self._tail.append(frame)
                self._on_sound(self._turn, frame)
                if self._sequence == 1:
                    self._on_first_frame(self._turn)
                await self._transport.write(frame)
            elif verdict == HELD:
                self._front = np.concatenate((frame, self._front))
                self._work.clear()
                await self._work.wait()
            elif verdict == LEASE_EXPIRED:
                self._drop()
                self._on_lease_expired()
            else:
                self._drop()
                if verdict != FENCED:
                    self._on_lease_expired()

    def _next(self) -> Pcm | None:
        """The next frame, exactly 20 ms long except for the last of a turn."""
        if not self._turn:
            return None
        while len(self._front) < OUTPUT_FRAME_SAMPLES:
            item = self.edge.get()
            if item is None:
                break
            self._watch_pressure()
            self._front = np.concatenate((self._front, item)) if len(self._front) else item
        if self.edge.flowing:
            self._room.set()
        if not len(self._front) or (len(self._front) < OUTPUT_FRAME_SAMPLES and not self._finished):
            return None
        frame = self._front[:OUTPUT_FRAME_SAMPLES]
        self._front = self._front[OUTPUT_FRAME_SAMPLES:]
        return frame

    def _drop(self) -> None:
        self._front = _EMPTY
        self.edge.clear()
        self._turn = 0
        self._room.set()
