"""Calling a provider for one turn: attempt after attempt, as the kernel decides.

The kernel names the provider of each attempt, how long to wait before it and when to give up on it; this
node makes the attempt and reports how it ended. What a failed attempt streamed before anything of it was
handed on is void, so the results of every attempt begin with a mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

import structlog

from rspp.contracts.errors import ProviderError
from rspp.contracts.execution import running_with

if TYPE_CHECKING:
    from rspp._kernel import Attempt, SessionKernel
    from rspp.contracts.execution import ExecutionContext
    from rspp.contracts.ports import Clock
    from rspp.nodes.hosting import Dispatch

log = structlog.get_logger(__name__)

P = TypeVar("P")
T = TypeVar("T")

Modality: TypeAlias = Literal["stt", "llm", "tts"]


class Call:
    """One call of something that cannot fail over: a prepared text, prepared speech.

    Args:
        clock: to count with.
    """

    managed = False
    """Whether the kernel decides and records the attempts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._busy_us = 0
        self.first_us = -1
        """Microseconds from the first attempt to the first result, -1 before it."""
        self.total_us = 0
        """Microseconds that the provider took, waiting between attempts included."""

    async def stream(self, open_stream: Callable[[int], AsyncIterator[T]]) -> AsyncGenerator[tuple[bool, T]]:
        """Give each result with whether it is the first of an attempt, which makes earlier ones void.

        Args:
            open_stream: starts the call of the candidate of that index.

        Raises:
            ProviderError: nothing more can be tried; a provider's own exception passes through.
        """
        async for fresh, item in self._results(lambda: open_stream(0), None, None):
            yield fresh, item
        self.total_us = self._busy_us

    def hand_on(self) -> bool:
        """What came so far is about to be handed on; false when it must be dropped."""
        return True

    async def _results(
        self,
        open_stream: Callable[[], AsyncIterator[T]],
        limit_us: int | None,
        context: ExecutionContext | None,
    ) -> AsyncGenerator[tuple[bool, T]]:
        """Give the results of one attempt and count what its provider takes."""
        self._busy_us = 0
        fresh = True
        with running_with(context):
            results = open_stream()
        try:
            while True:
                started = self._clock.now_us()
                limit_s = limit_us / 1e6 if fresh and limit_us is not None else None
                try:
                    with running_with(context):
                        async with asyncio.timeout(limit_s):
                            item = await anext(results)
                except StopAsyncIteration:
                    return
                finally:
                    self._busy_us += self._clock.now_us() - started
                if fresh:
                    self._got_first()
                yield fresh, item
                fresh = False
        finally:
            if isinstance(results, AsyncGenerator):
                await results.aclose()

    def _got_first(self) -> None:
        self.first_us = self._busy_us


class Invocation(Call):
    """One provider invocation of a turn.

    Args:
        kernel: which decides.
        clock: the kernel's time.
        turn: the turn.
        modality: what the provider does.
        dispatch: runs the providers of its node.
    """

    managed = True

    def __init__(
        self, kernel: SessionKernel, clock: Clock, turn: int, modality: Modality, dispatch: Dispatch
    ) -> None:
        super().__init__(clock)
        self._dispatch = dispatch
        self._kernel = kernel
        self._turn = turn
        self._modality = modality
        self._number = 0
        self._started_us = self._attempt_us = 0

    async def stream(self, open_stream: Callable[[int], AsyncIterator[T]]) -> AsyncGenerator[tuple[bool, T]]:
        """Give each result with whether it is the first of an attempt; see ``Call.stream``."""
        self._started_us = self._attempt_us = self._clock.now_us()
        attempt: Attempt | None = self._begin(self._started_us)
        failure: Exception = ProviderError("nothing was tried")
        while attempt is not None:
            try:
                if attempt.wait_us:
                    await asyncio.sleep(attempt.wait_us / 1e6)
                self._attempt_us = self._clock.now_us()
                candidate, limit_us = attempt.candidate, attempt.limit_us
                with self._dispatch.running(attempt) as context:
                    results = self._results(partial(open_stream, candidate), limit_us, context)
                    async for fresh, item in results:
                        yield fresh, item
            except (asyncio.CancelledError, GeneratorExit):
                self._finish("cancelled")
                raise
            except ProviderError as error:
                failure = error
                attempt = self._finish(error.outcome, reason=error.reason, retryable=error.retryable)
            except TimeoutError:
                failure = ProviderError(
                    f"the {self._modality} provider gave nothing in time",
                    outcome="timeout",
                    retryable=True,
                    reason="provider_timeout",
                )
                attempt = self._finish("timeout", reason="provider_timeout", retryable=True)
            except Exception as error:
                # Whatever a provider's own code raises may be no more than a bad moment of it.
                log.exception("provider raised", modality=self._modality)
                failure = error
                attempt = self._finish(
                    "infrastructure_failure", reason="adapter_invoke_error", retryable=True
                )
            else:
                self._finish("success")
                self.total_us = self._attempt_us - self._started_us + self._busy_us
                return
            if attempt is None and self._kernel.degraded(self._number):
                log.info("going on in a lesser form", modality=self._modality, error=str(failure))
                attempt = self._begin(self._clock.now_us())
            elif attempt is not None:
                log.info("provider failed, trying again", modality=self._modality, error=str(failure))
        raise failure

    def _begin(self, now_us: int) -> Attempt:
        answer = self._kernel.invoke(now_us, self._turn, self._modality)
        if isinstance(answer, str):
            raise ProviderError(
                f"no {self._modality} provider may be called", outcome="blocked", reason=answer
            )
        self._number = answer.invocation
        return answer

    def hand_on(self) -> bool:
        """From now on the words are not said again by another attempt."""
        return self._kernel.output_handed_on(self._clock.now_us(), self._number)

    def _got_first(self) -> None:
        self.first_us = self._clock.now_us() - self._started_us

    def _finish(self, outcome: str, *, reason: str = "", retryable: bool = False) -> Attempt | None:
        now = self._clock.now_us()
        following = self._kernel.attempt_finished(
            now,
            self._number,
            outcome,
            reason=reason,
            retryable=retryable,
            idle_us=max(0, now - self._attempt_us - self._busy_us),
        )
        self._dispatch.exhausted(self._number)
        return following


class Candidates(Generic[P]):
    """The providers that a turn may call for one modality.

    Args:
        providers: in the order in which the kernel counts them.
        begin: makes a new invocation.
    """

    def __init__(self, providers: tuple[P, ...], begin: Callable[[], Call]) -> None:
        self.providers = providers
        self.begin = begin
