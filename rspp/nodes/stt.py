"""The recognition node: follows one caller's utterances and reports hypotheses.

It keeps the audio of the open utterance. A probe asks the recogniser for its whole hypothesis while
the caller pauses; when the caller goes on, recognition starts over with all of the audio, because
most recognisers cannot take back an end of utterance. Decoding a few seconds again costs a tenth of
their length at most. When another recogniser takes over, it starts over in the same way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog

from rspp.contracts.errors import ProviderError
from rspp.contracts.media import INPUT_RATE_HZ, Pcm
from rspp.contracts.ports import Clock, Hypothesis

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.nodes.recognisers import Recognisers

log = structlog.get_logger(__name__)

BATCH_SAMPLES = INPUT_RATE_HZ // 10
"""Partials are asked for every 100 ms: fine enough to confirm an interruption, coarse enough that
twenty sessions share two cores."""

REFEED_SAMPLES = INPUT_RATE_HZ // 2
"""Audio handed over at once while catching up: 500 ms, so that no call holds a thread for long."""


class TranscriptListener(Protocol):
    """What the node reports to."""

    def __call__(self, utterance: int, revision: int, hypothesis: Hypothesis, *, probe: bool) -> None:
        """A hypothesis arrived."""
        ...


class RecognitionNode:
    """Runs the recognisers of one session in one task.

    Args:
        recognisers: one of them hears at a time.
        clock: for latencies.
        on_transcript: called with every hypothesis.
        on_outcome: called with (outcome class, latency in microseconds) after each probe.
        max_utterance_ms: bound on the audio kept.
    """

    def __init__(
        self,
        recognisers: Recognisers,
        clock: Clock,
        on_transcript: TranscriptListener,
        on_outcome: Callable[[str, int], None],
        max_utterance_ms: int,
    ) -> None:
        self._recognisers = recognisers
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
        self._concluding_us = 0
        self._given_up = False
        self._partial = Hypothesis(text="")
        self._wake = asyncio.Event()

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
        self._start_over()
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
            self._concluding_us = 0
            self._recognisers.expect()
            if self._given_up:
                # Whoever failed while the caller spoke is asked once more, now that it counts.
                self._fed, self._begun, self._given_up = 0, False, False
            self._wake.set()

    def resume(self, utterance: int) -> None:
        """The caller went on: recognise the utterance anew from its beginning."""
        if utterance == self._utterance:
            self._revision += 1
            self._start_over()
            self._wake.set()

    def _start_over(self) -> None:
        self._fed, self._begun, self._probe_at = 0, False, -1
        self._concluding_us = 0
        self._given_up = False
        self._partial = Hypothesis(text="")
        self._recognisers.listen()

    def end(self, utterance: int) -> None:
        """The utterance is over."""
        if utterance == self._utterance:
            # An answer that is still awaited may come late; whether it counts is not decided here.
            self._utterance, self._ended = 0, utterance
            self._recognisers.listen()

    async def run(self) -> None:
        """Recognise until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while await self._advance():
                    pass
        finally:
            self._recognisers.abandon()

    async def _advance(self) -> bool:
        """Do one piece of work; false when there is none."""
        utterance, revision = self._utterance, self._revision
        limit = self._probe_at if self._probe_at >= 0 else self._length
        waiting = limit - self._fed
        listening = self._probe_at < 0
        if not utterance or (listening and (waiting < BATCH_SAMPLES or self._given_up)):
            return False
        started = self._clock.now_us()
        try:
            self._recognisers.begin()
            if not self._begun:
                self._begun = True
                await self._recognisers.call(lambda stream: stream.begin())
                return True
            if waiting > 0:
                end = self._fed + min(waiting, REFEED_SAMPLES)
                block = self._audio[self._fed : end].copy()
                self._fed = end
                partial = await self._recognisers.call(lambda stream: stream.accept(block))
                if partial is not None:
                    self._heard_in_part(utterance, revision, partial)
                return True
            self._concluding_us = self._concluding_us or started
            hypothesis = await self._recognisers.call(lambda stream: stream.conclude())
        except ProviderError as error:
            log.warning("recognition failed", error=error.message)
            failure = error
        except TimeoutError:
            failure = ProviderError(
                "the recogniser gave nothing in time",
                outcome="timeout",
                retryable=True,
                reason="provider_timeout",
            )
        except Exception:
            # Whatever a recogniser's own code raises ends its utterance and not the call.
            log.exception("recognition failed")
            failure = ProviderError("the recogniser raised", retryable=True, reason="adapter_invoke_error")
        else:
            self._recognisers.succeed()
            self._answered("success", started, utterance, revision, hypothesis)
            return True
        return await self._failed(failure, started, utterance, revision)

    async def _failed(self, failure: ProviderError, started: int, utterance: int, revision: int) -> bool:
        """Let another attempt start over with all the audio, or answer with what there is."""
        if self._probe_at >= 0:
            self._concluding_us = self._concluding_us or started
        if await self._recognisers.try_again(failure):
            if self._utterance:
                self._fed, self._begun = 0, False
                return True
            self._recognisers.abandon()
        if failure.outcome == "cancelled" and utterance != self._utterance:
            return True
        hypothesis = self._partial if self._recognisers.degraded else Hypothesis(text="")
        if self._recognisers.managed and self._probe_at < 0 and utterance == self._utterance:
            # Nobody asked yet, so the recognisers have another chance when somebody does.
            self._given_up = True
            return False
        self._answered(failure.outcome, started, utterance, revision, hypothesis)
        return False

    def _heard_in_part(self, utterance: int, revision: int, partial: Hypothesis) -> None:
        if utterance == self._utterance and revision == self._revision and partial.text:
            self._partial = partial
        self._report(utterance, revision, partial, probe=False)

    def _answered(
        self, outcome: str, started: int, utterance: int, revision: int, hypothesis: Hypothesis
    ) -> None:
        self._on_outcome(outcome, self._clock.now_us() - (self._concluding_us or started))
        self._report(utterance, revision, hypothesis, probe=True)
        self._settle(utterance, revision)

    def cancel(self, invocation: int) -> bool:
        """Stop what the kernel cancelled; false when it is no invocation of recognition."""
        return self._recognisers.cancel(invocation)

    @property
    def managed(self) -> bool:
        """Whether the kernel decides and records the attempts."""
        return self._recognisers.managed

    def _report(self, utterance: int, revision: int, hypothesis: Hypothesis, *, probe: bool) -> None:
        if utterance in (self._utterance, self._ended) and revision == self._revision:
            self._on_transcript(utterance, revision, hypothesis, probe=probe)

    def _settle(self, utterance: int, revision: int) -> None:
        """After a probe was answered nothing is fed until the caller goes on."""
        if utterance == self._utterance and revision == self._revision:
            self._fed = len(self._audio)
            self._probe_at = -1
            self._concluding_us = 0
            self._recognisers.listen()
