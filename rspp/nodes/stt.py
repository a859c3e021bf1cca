"""The recognition node: follows one caller's utterances and reports hypotheses.

It keeps the audio of the open utterance. A probe asks the recogniser for its whole hypothesis while
the caller pauses; when the caller goes on, recognition starts over with all of the audio, because
most recognisers cannot take back an end of utterance. Decoding a few seconds again costs a tenth of
their length at most.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import structlog

from rspp.contracts.errors import ProviderError
from rspp.contracts.media import INPUT_RATE_HZ, Pcm
from rspp.contracts.ports import Clock, Hypothesis, RecognitionStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = structlog.get_logger(__name__)

T = TypeVar("T")

BATCH_SAMPLES = INPUT_RATE_HZ // 10
"""Partials are asked for every 100 ms: fine enough to confirm an interruption, coarse enough that
twenty sessions share two cores."""

REFEED_SAMPLES = INPUT_RATE_HZ // 2
"""Audio handed over at once while catching up: 500 ms, so that no call holds a thread for long."""

TIME_LIMIT_S = 5.0
"""Longest wait for one answer of a recogniser before the utterance counts as not understood."""


class TranscriptListener(Protocol):
    """What the node reports to."""

    def __call__(self, utterance: int, revision: int, hypothesis: Hypothesis, *, probe: bool) -> None:
        """A hypothesis arrived."""
        ...


class RecognitionNode:
    """Runs a ``RecognitionStream`` for one session in one task.

    Args:
        stream: the recogniser.
        clock: for latencies.
        on_transcript: called with every hypothesis.
        on_outcome: called with (outcome class, latency in microseconds) after each probe.
        max_utterance_ms: bound on the audio kept.
    """

    def __init__(
        self,
        stream: RecognitionStream,
        clock: Clock,
        on_transcript: TranscriptListener,
        on_outcome: Callable[[str, int], None],
        max_utterance_ms: int,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._on_transcript = on_transcript
        self._on_outcome = on_outcome
        # Pauses and the last probe come on top of the longest utterance.
        self._audio = np.zeros((max_utterance_ms + 10_000) * INPUT_RATE_HZ // 1000, dtype=np.int16)
        self._length = 0
        self._fed = 0
        self._begun = False
        self._utterance = 0
        self._ended = 0
        self._revision = 0
        self._probe_at = -1
        self._wake = asyncio.Event()
        self._hung: asyncio.Task[Any] | None = None

    @property
    def utterance(self) -> int:
        """The open utterance, 0 when none is."""
        return self._utterance

    @property
    def waiting(self) -> bool:
        """Whether a probe has not been answered yet."""
        return self._probe_at >= 0

    def start(self, utterance: int, lead_in: Pcm) -> None:
        """An utterance begins; ``lead_in`` is the audio just before and up to now."""
        self._utterance, self._revision = utterance, 0
        self._ended = 0
        self._length = self._fed = 0
        self._begun, self._probe_at = False, -1
        self.feed(lead_in)

    def feed(self, pcm: Pcm) -> None:
        """Audio of the open utterance; beyond the longest utterance it is left out."""
        if not self._utterance:
            return
        taken = min(len(pcm), len(self._audio) - self._length)
        self._audio[self._length : self._length + taken] = pcm[:taken]
        self._length += taken
        if self._probe_at < 0 and self._length - self._fed >= BATCH_SAMPLES:
            self._wake.set()

    def probe(self, utterance: int) -> None:
        """The caller paused: conclude what was heard so far."""
        if utterance == self._utterance:
            self._probe_at = self._length
            self._wake.set()

    def resume(self, utterance: int) -> None:
        """The caller went on: recognise the utterance anew from its beginning."""
        if utterance == self._utterance:
            self._revision += 1
            self._fed, self._begun, self._probe_at = 0, False, -1
            self._wake.set()

    def end(self, utterance: int) -> None:
        """The utterance is over."""
        if utterance == self._utterance:
            # An answer that is still awaited may come late; whether it counts is not decided here.
            self._utterance, self._ended = 0, utterance

    async def run(self) -> None:
        """Recognise until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await self._advance():
                pass

    async def _advance(self) -> bool:
        """Do one piece of work; false when there is none."""
        utterance, revision = self._utterance, self._revision
        limit = self._probe_at if self._probe_at >= 0 else self._length
        waiting = limit - self._fed
        if not utterance or (waiting < BATCH_SAMPLES and self._probe_at < 0):
            return False
        started = self._clock.now_us()
        try:
            if not self._begun:
                self._begun = True
                await self._bounded(self._stream.begin())
                return True
            if waiting > 0:
                end = self._fed + min(waiting, REFEED_SAMPLES)
                block = self._audio[self._fed : end].copy()
                self._fed = end
                partial = await self._bounded(self._stream.accept(block))
                if partial is not None:
                    self._report(utterance, revision, partial, probe=False)
                return True
            hypothesis = await self._bounded(self._stream.conclude())
        except ProviderError as error:
            log.warning("recognition failed", error=error.message)
            outcome, hypothesis = error.outcome, Hypothesis(text="")
        except TimeoutError:
            outcome, hypothesis = "timeout", Hypothesis(text="")
        except Exception:
            # Whatever a recogniser's own code raises ends its utterance and not the call.
            log.exception("recognition failed")
            outcome, hypothesis = "infrastructure_failure", Hypothesis(text="")
        else:
            outcome = "success"
        self._on_outcome(outcome, self._clock.now_us() - started)
        self._report(utterance, revision, hypothesis, probe=True)
        self._settle(utterance, revision)
        return outcome == "success"

    async def _bounded(self, call: Coroutine[Any, Any, T]) -> T:
        """Await one call of the recogniser; one that hangs is never joined by a second."""
        if self._hung is not None and not self._hung.done():
            call.close()
            raise ProviderError("the recogniser has not returned from an earlier call", outcome="timeout")
        task = asyncio.ensure_future(call)
        done, _ = await asyncio.wait({task}, timeout=TIME_LIMIT_S)
        if not done:
            self._hung = task
            raise TimeoutError
        return task.result()

    def _report(self, utterance: int, revision: int, hypothesis: Hypothesis, *, probe: bool) -> None:
        if utterance in (self._utterance, self._ended) and revision == self._revision:
            self._on_transcript(utterance, revision, hypothesis, probe=probe)

    def _settle(self, utterance: int, revision: int) -> None:
        """After a probe was answered nothing is fed until the caller goes on."""
        if utterance == self._utterance and revision == self._revision:
            self._fed = len(self._audio)
            self._probe_at = -1
