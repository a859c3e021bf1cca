"""The recognisers of a session: one hears, the next takes over when it fails, as the kernel decides.

Where more than one can hear, or where the plan allows to make do with what was heard in part, the
recognition of an utterance is a provider invocation of the session: it runs from the first audio to the
answer, and the time in which the recogniser waits for the caller is not its latency. A single recogniser
without such a way out is called as it is, and its outcome told.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from rspp.contracts.errors import ProviderError
from rspp.contracts.execution import running_with

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from rspp._kernel import Attempt, SessionKernel
    from rspp.contracts.execution import ExecutionContext
    from rspp.contracts.ports import Clock, RecognitionStream
    from rspp.nodes.hosting import Dispatch

T = TypeVar("T")

TIME_LIMIT_S = 5.0
"""Longest wait for one answer of a recogniser before the utterance counts as not understood."""


def _forget(task: asyncio.Task[Any]) -> None:
    """Take the result that nobody waits for any more, so that it is not told as one that was lost."""
    if not task.cancelled():
        task.exception()


class Recognisers:
    """The recognisers that a session may call, in order, and the invocation that runs.

    Args:
        streams: the preferred one first; all hear audio of the same form.
        kernel: decides which is called; none where nothing can take over.
        clock: the kernel's time.
        dispatch: runs them as one node; none where nobody tells them anything.
    """

    def __init__(
        self,
        streams: Sequence[RecognitionStream],
        kernel: SessionKernel | None,
        clock: Clock,
        dispatch: Dispatch | None = None,
    ) -> None:
        self._streams = tuple(streams)
        self._kernel = kernel
        self._clock = clock
        self._attempt: Attempt | None = None
        self._attempt_us = self._busy_us = 0
        self._candidate = self._last = 0
        self._asked_us = -1
        self._stopped: asyncio.Future[None] | None = None
        self._hung: dict[int, asyncio.Task[Any]] = {}
        self._dispatch = dispatch
        self._context = self._given(None)

    @property
    def managed(self) -> bool:
        """Whether the kernel decides and records the attempts."""
        return self._kernel is not None

    @property
    def running(self) -> bool:
        """Whether an invocation of the kernel has not ended."""
        return self._attempt is not None

    def expect(self) -> None:
        """The answer is waited for from now on."""
        self._asked_us = self._clock.now_us()

    def listen(self) -> None:
        """The answer is not waited for any more: the caller goes on, or is done."""
        self._asked_us = -1

    def begin(self) -> None:
        """Begin an invocation, if the kernel decides on them and none runs.

        Raises:
            ProviderError: none may be called.
        """
        if self._kernel is None or self._attempt is not None:
            return
        self._last = 0
        answer = self._kernel.invoke(self._clock.now_us(), 0, "stt")
        if isinstance(answer, str):
            raise ProviderError("no stt provider may be called", outcome="blocked", reason=answer)
        self._take(answer)

    def _given(self, attempt: Attempt | None) -> ExecutionContext | None:
        return self._dispatch.give(self._candidate, attempt) if self._dispatch is not None else None

    def _take(self, attempt: Attempt) -> None:
        self._attempt, self._candidate = attempt, attempt.candidate
        self._context = self._given(attempt)
        self._attempt_us, self._busy_us = self._clock.now_us(), 0

    async def call(self, method: Callable[[RecognitionStream], Coroutine[Any, Any, T]]) -> T:
        """Await one call of the recogniser; one that hangs is never joined by a second.

        Raises:
            ProviderError: it failed, did not return from an earlier call, or the kernel cancelled it.
            TimeoutError: it gave nothing in time.
        """
        hung = self._hung.get(self._candidate)
        if hung is not None and not hung.done():
            raise ProviderError(
                "the recogniser has not returned from an earlier call",
                outcome="timeout",
                reason="provider_timeout",
            )
        started = self._clock.now_us()
        with running_with(self._context):
            task = asyncio.ensure_future(method(self._streams[self._candidate]))
        try:
            await self._wait({task}, self._limit_s(started))
        finally:
            self._busy_us += self._clock.now_us() - started
            if not task.done():
                # A thread cannot be stopped, so what still runs there is waited for before the next call.
                self._hung[self._candidate] = task
                task.add_done_callback(_forget)
        return task.result()

    def _limit_s(self, now_us: int) -> float:
        limit_us = self._attempt.limit_us if self._attempt is not None else None
        if limit_us is None:
            return TIME_LIMIT_S
        # Once the answer is waited for, the limit is that of the answer and not of each call.
        since_us = max(self._asked_us, self._attempt_us) if self._asked_us >= 0 else now_us
        return max(0, since_us + limit_us - now_us) / 1e6

    async def _wait(self, tasks: set[asyncio.Task[Any]], limit_s: float) -> None:
        self._stopped = stopped = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({*tasks, stopped}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        self._stopped = None
        if stopped in done:
            raise ProviderError("recognition was cancelled", outcome="cancelled", reason="provider_cancelled")
        if tasks and not done:
            raise TimeoutError

    async def try_again(self, failure: ProviderError) -> bool:
        """Report a failure; true once another attempt may start over with all the audio."""
        attempt = self._finish(failure.outcome, reason=failure.reason, retryable=failure.retryable)
        if attempt is None:
            return False
        self._take(attempt)
        if attempt.wait_us:
            try:
                await self._wait(set(), attempt.wait_us / 1e6)
            except ProviderError as cancelled:
                self._finish(cancelled.outcome)
                return False
            finally:
                self._attempt_us = self._clock.now_us()
        return True

    def succeed(self) -> None:
        """The answer has come."""
        self._finish("success")

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._finish("cancelled")

    def _finish(self, outcome: str, *, reason: str = "", retryable: bool = False) -> Attempt | None:
        attempt, self._attempt = self._attempt, None
        if self._kernel is None or attempt is None:
            return None
        now = self._clock.now_us()
        self._last = attempt.invocation
        following = self._kernel.attempt_finished(
            now,
            attempt.invocation,
            outcome,
            reason=reason,
            retryable=retryable,
            idle_us=max(0, now - self._attempt_us - self._busy_us),
        )
        if self._dispatch is not None:
            if outcome != "success":
                # A call that hangs goes on by itself; it can see that nobody waits for it.
                self._dispatch.stopped()
            self._dispatch.exhausted(attempt.invocation)
        return following

    @property
    def degraded(self) -> bool:
        """Whether the latest invocation ended so that what was heard in part is the answer."""
        return self._kernel is not None and self._kernel.degraded(self._last)

    def cancel(self, invocation: int) -> bool:
        """Stop waiting for the invocation of that number; false when it is not one of recognition."""
        if self._attempt is None or self._attempt.invocation != invocation:
            return False
        if self._stopped is None:
            self.abandon()
        elif not self._stopped.done():
            self._stopped.set_result(None)
        return True
