"""Blocking work of a process, under the kernel's pool decisions (RK-26).

The kernel says what runs, what waits, whose turn it is and what has taken too long; this module has the
threads. Only work that occupies this process goes here: decoding speech, reading the speech process. What
waits for a network does so on the event loop, and leases are renewed on threads of their own, so that a
busy pool never costs a session its authority. The voice activity detector runs within the step that it
feeds: a window takes a tenth of a millisecond, less than handing it to a thread.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from rspp._kernel import ExecutionPool
from rspp.contracts.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rspp.contracts.ports import Clock
    from rspp.pipeline.profile import ExecutionProfile

T = TypeVar("T")

Refusal: TypeAlias = Literal["rejected", "displaced", "expired", "overdue", "stuck"]


class PoolUse(msgspec.Struct, omit_defaults=True):
    """What a node asked of the pool in some stretch of time; what is 0 or empty is not written.

    Attributes:
        tasks: pieces of work that ended, or were refused.
        queue_us: how long they waited, microseconds, all together.
        longest_queue_us: longest of these waits.
        run_us: how long they ran, microseconds, all together.
        longest_run_us: longest of these runs.
        refused: how many were given up, by why.
    """

    tasks: int = 0
    queue_us: int = 0
    longest_queue_us: int = 0
    run_us: int = 0
    longest_run_us: int = 0
    refused: dict[Refusal, int] = msgspec.field(default_factory=dict)

    def ran(self, queue_us: int, run_us: int) -> None:
        """Count a piece that ended."""
        self.tasks += 1
        self.waited(queue_us)
        self.run_us += run_us
        self.longest_run_us = max(self.longest_run_us, run_us)

    def given_up(self, why: Refusal) -> None:
        """Count a piece whose caller got nothing."""
        self.refused[why] = self.refused.get(why, 0) + 1

    def waited(self, queue_us: int) -> None:
        """Count a wait."""
        self.queue_us += queue_us
        self.longest_queue_us = max(self.longest_queue_us, queue_us)


class WorkPool:
    """The pool that all calls of a process share.

    Args:
        profile: execution profile, whose ``pool`` gives slots and queue, and whose node budget is the
            deadline of each piece of work whose node has no budget of its own.
        clock: microseconds that the pool decides by.
        inline: run everything on the spot, for virtual time: nothing ever waits, so runs repeat exactly.
    """

    def __init__(self, profile: ExecutionProfile, clock: Clock, *, inline: bool = False) -> None:
        self._pool = ExecutionPool(profile.pool.workers, profile.pool.queue)
        self._budget_us = profile.budgets.node_ms * 1000
        self._clock = clock
        self._inline = inline
        # A thread for every piece that may run; they are made when they are first needed.
        self._threads = None if inline else ThreadPoolExecutor(self._pool.most, thread_name_prefix="work")
        self._pieces: dict[int, _Piece] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = 0

    @property
    def waiting(self) -> int:
        """Pieces of work that wait."""
        return self._pool.waiting

    def session(self, budgets: Mapping[str, tuple[int, int]] | None = None) -> SessionWork:
        """Return the share of one more session.

        Args:
            budgets: of the nodes that have their own, when they warn and when they are used up, ms.
        """
        own = {node: exhaust_ms * 1000 for node, (_, exhaust_ms) in (budgets or {}).items()}
        return SessionWork(self, own)

    def number(self) -> int:
        """Return a number that nothing else here has."""
        self._numbers += 1
        return self._numbers

    async def run(self, seat: Seat, work: Callable[[], T]) -> T:
        """Run ``work`` when it is its turn.

        Raises:
            ProviderError: there was no room, it waited or ran too long, or an earlier piece hangs; an
                exception of ``work`` passes through.
        """
        number, now = self.number(), self._clock.now_us()
        budget_us = self._budget_us if seat.budget_us is None else seat.budget_us
        placement, displaced = self._pool.submit(
            now, number, key=seat.key, seat=seat.number, deadline_us=now + budget_us
        )
        if displaced is not None:
            self._give_up(displaced, "displaced")
        if placement == "rejected" or placement == "stuck":
            seat.use.given_up(placement)
            raise _refused(placement)
        if self._inline:
            try:
                return work()
            finally:
                self._finished(number, seat)
        piece = _Piece(work, seat, asyncio.get_running_loop().create_future())
        self._pieces[number] = piece
        if placement == "slot":
            self._begin(number, piece)
        self._arm()
        try:
            result: T = await piece.answer
        except asyncio.CancelledError:
            if self._pool.withdraw(number):
                del self._pieces[number]
            raise
        return result

    def close(self) -> None:
        """Let the threads end; work that waits is given up."""
        if self._timer is not None:
            self._timer.cancel()
        for number in list(self._pieces):
            if self._pool.withdraw(number):
                self._give_up(number, "rejected")
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, number: int, piece: _Piece) -> None:
        assert self._threads is not None
        loop = asyncio.get_running_loop()

        def ended(done: Future[Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._ended, number, done)

        self._threads.submit(piece.work).add_done_callback(ended)

    def _ended(self, number: int, done: Future[Any]) -> None:
        piece = self._pieces.pop(number)
        self._finished(number, piece.seat)
        if not piece.answer.done():
            error = asyncio.CancelledError() if done.cancelled() else done.exception()
            if error is None:
                piece.answer.set_result(done.result())
            else:
                piece.answer.set_exception(error)
        self.look()

    def _finished(self, number: int, seat: Seat) -> None:
        timing = self._pool.finish(self._clock.now_us(), number)
        assert timing is not None
        queue_us, run_us, _ = timing
        seat.use.ran(queue_us, run_us)

    def look(self) -> None:
        """Begin what may run, give up what took too long."""
        now = self._clock.now_us()
        while (found := self._pool.next(now)) is not None:
            what, number, queue_us = found
            if what == "run":
                self._begin(number, self._pieces[number])
            else:
                self._pieces[number].seat.use.waited(queue_us)
                self._give_up(number, "expired")
        while (late := self._pool.overdue(now)) is not None:
            # Its thread goes on: what came of it is counted when it returns.
            self._fail(self._pieces[late], "overdue")
        self._arm()

    def _give_up(self, number: int, why: Refusal) -> None:
        self._fail(self._pieces.pop(number), why)

    def _fail(self, piece: _Piece, why: Refusal) -> None:
        piece.seat.use.given_up(why)
        if not piece.answer.done():
            piece.answer.set_exception(_refused(why))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._pool.due_us
        if due is not None:
            delay_s = max(0, due - self._clock.now_us()) / 1e6
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)


class _Piece:
    def __init__(self, work: Callable[[], Any], seat: Seat, answer: asyncio.Future[Any]) -> None:
        self.work, self.seat, self.answer = work, seat, answer


_TOLD: dict[Refusal, str] = {
    "rejected": "no room: as much blocking work waits as may",
    "displaced": "another session's turn came first: as much blocking work waits as may",
    "expired": "the work waited too long for a worker",
    "overdue": "the work did not end in time",
    "stuck": "an earlier piece of work has not returned",
}


def _refused(why: Refusal) -> ProviderError:
    message = f"pool: {_TOLD[why]}"
    if why in ("rejected", "displaced"):
        return ProviderError(message, outcome="overload", reason="provider_overload", retryable=True)
    return ProviderError(message, outcome="timeout", reason="provider_timeout", retryable=True)


class Seat:
    """Where one provider of a session asks for blocking work to be run; an ``Offloader``.

    Work that does not return blocks its own seat and no other.

    Args:
        pool: runs it.
        key: number of the session, whose pieces share.
        uses: what each node asked, for all of its seats.
        node: the provider's node.
        budget_us: the node's own budget, microseconds; none for that of the profile.
    """

    def __init__(
        self, pool: WorkPool, key: int, uses: dict[str, PoolUse], node: str, budget_us: int | None = None
    ) -> None:
        self._pool = pool
        self.budget_us = budget_us
        self._uses = uses
        self._node = node
        self.key, self.number = key, pool.number()

    @property
    def use(self) -> PoolUse:
        """What the node asked since it was last taken."""
        return self._uses.setdefault(self._node, PoolUse())

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` when it is its turn; see ``WorkPool.run``."""
        return await self._pool.run(self, work)


class SessionWork:
    """The blocking work of one session.

    Args:
        pool: shared by all sessions of the process.
        budgets_us: budgets of the nodes that have their own, microseconds.
    """

    def __init__(self, pool: WorkPool, budgets_us: Mapping[str, int]) -> None:
        self._pool = pool
        self._budgets_us = budgets_us
        self._key = pool.number()
        self._uses: dict[str, PoolUse] = {}

    def seat(self, node: str) -> Seat:
        """Return a seat for one more provider of a node."""
        return Seat(self._pool, self._key, self._uses, node, self._budgets_us.get(node))

    def taken(self) -> list[tuple[str, PoolUse]]:
        """Return what each node asked since the last time; those that asked nothing are left out."""
        used = [(node, use) for node, use in sorted(self._uses.items()) if use.tasks or use.refused]
        self._uses.clear()
        return used
