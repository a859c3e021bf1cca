"""Blocking work of a process: the kernel says what runs, and a piece that hangs costs the others little."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from rspp.contracts.errors import ProviderError
from rspp.pipeline.profile import SIMPLE, BudgetDefaults, ExecutionProfile, PoolLimits
from rspp.session.pool import PoolUse, WorkPool
from rspp.session.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

import pytest_asyncio

MS = 1_000


class FakeClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.us = 1_000_000

    def now_us(self) -> int:
        return self.us

    def wall_clock_ms(self) -> int:
        return self.us // 1000


class FakeWork:
    """A piece of work that ends when it is told to."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name, self._order = name, order
        self.begun = threading.Event()
        self._may_end = threading.Event()

    def __call__(self) -> str:
        self._order.append(self.name)
        self.begun.set()
        assert self._may_end.wait(30)
        return self.name

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 30)

    def end(self) -> None:
        self._may_end.set()


def profile(workers: int = 1, queue: int = 4) -> ExecutionProfile:
    return msgspec.structs.replace(
        SIMPLE, pool=PoolLimits(workers=workers, queue=queue), budgets=BudgetDefaults(node_ms=1500)
    )


class Desk:
    """A pool with work that is handed in and ended by hand."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pool = WorkPool(profile(), self.clock)
        self.order: list[str] = []
        self.works: dict[str, FakeWork] = {}

    def ask(self, name: str, run: Callable[[Any], Any]) -> asyncio.Task[str]:
        self.works[name] = work = FakeWork(name, self.order)
        return asyncio.ensure_future(run(work))

    async def pass_ms(self, ms: int) -> None:
        """Let time pass on the pool's clock, and let it look."""
        self.clock.us += ms * MS
        self.pool.look()
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    opened = Desk()
    yield opened
    for work in opened.works.values():
        work.end()
    opened.pool.close()


async def test_sessions_take_turns_whatever_one_of_them_asks_for(desk: Desk) -> None:
    greedy, other = desk.pool.session().seat("stt"), desk.pool.session().seat("stt")
    asked = [desk.ask(f"greedy {number}", greedy.run) for number in range(3)]
    await asyncio.sleep(0)
    asked.append(desk.ask("other", other.run))
    await asyncio.sleep(0)
    for work in desk.works.values():
        work.end()
    await asyncio.gather(*asked)
    assert desk.order == ["greedy 0", "other", "greedy 1", "greedy 2"]


async def test_work_of_a_node_with_a_budget_of_its_own_has_that_as_its_deadline(desk: Desk) -> None:
    work = desk.pool.session({"tts": (1_200, 2_400)})
    own, common = work.seat("tts"), work.seat("stt")
    asked = [desk.ask("own", own.run), desk.ask("common", common.run)]
    await asyncio.sleep(0)
    await desk.pass_ms(1_501)
    assert common.use.refused
    assert not own.use.refused
    await desk.pass_ms(900)
    assert own.use.refused
    for result in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(result, ProviderError)


async def test_a_wait_is_told_apart_from_a_run(desk: Desk) -> None:
    first, second = desk.pool.session(), desk.pool.session()
    one = desk.ask("one", first.seat("stt").run)
    await asyncio.sleep(0)
    two = desk.ask("two", second.seat("tts").run)
    await asyncio.sleep(0)
    desk.clock.us += 40 * MS
    desk.works["one"].end()
    assert await one == "one"
    await desk.works["two"].until_begun()
    desk.clock.us += 5 * MS
    desk.works["two"].end()
    assert await two == "two"
    assert first.taken() == [("stt", PoolUse(tasks=1, run_us=40 * MS, longest_run_us=40 * MS))]
    waited = PoolUse(
        tasks=1, queue_us=40 * MS, longest_queue_us=40 * MS, run_us=5 * MS, longest_run_us=5 * MS
    )
    assert second.taken() == [("tts", waited)]
    assert second.taken() == []


async def test_work_that_hangs_lends_its_slot_and_ends_its_own_call_only(desk: Desk) -> None:
    hung, other = desk.pool.session(), desk.pool.session()
    stt = hung.seat("stt")
    hanging = desk.ask("hanging", stt.run)
    await asyncio.sleep(0)
    waiting = desk.ask("waiting", other.seat("stt").run)
    await asyncio.sleep(0)
    assert desk.pool.waiting == 1
    await desk.pass_ms(100)
    await desk.works["waiting"].until_begun()
    desk.works["waiting"].end()
    assert await waiting == "waiting"
    await desk.pass_ms(1400)
    with pytest.raises(ProviderError, match="did not end in time") as late:
        await hanging
    assert (late.value.outcome, late.value.reason) == ("timeout", "provider_timeout")
    with pytest.raises(ProviderError, match="has not returned"):
        await stt.run(lambda: "more")
    assert await hung.seat("tts").run(lambda: "its voice goes on") == "its voice goes on"
    assert await hung.seat("stt").run(lambda: "the next recogniser") == "the next recogniser"
    desk.works["hanging"].end()
    while stt.use.tasks < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await stt.run(lambda: "again") == "again"
    assert stt.use.refused == {"overdue": 1, "stuck": 1}


async def test_what_finds_no_room_and_what_waits_too_long_fails_as_a_provider_does(desk: Desk) -> None:
    session = desk.pool.session()
    seat = session.seat("stt")
    asked = [desk.ask(str(number), seat.run) for number in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(ProviderError) as full:
        await seat.run(lambda: "no room")
    assert (full.value.outcome, full.value.reason) == ("overload", "provider_overload")
    newcomer = desk.ask("newcomer", desk.pool.session().seat("stt").run)
    with pytest.raises(ProviderError, match="another session") as displaced:
        await asked[4]
    assert displaced.value.outcome == "overload"
    # One clock step over every deadline: what waits is given up before anything is begun.
    await desk.pass_ms(1500)
    for late in (asked[1], asked[3], newcomer):
        with pytest.raises(ProviderError, match="waited too long"):
            await late
    assert desk.order == ["0"]
    assert seat.use.refused == {"rejected": 1, "displaced": 1, "expired": 3, "overdue": 1}


async def test_a_caller_that_goes_leaves_the_queue(desk: Desk) -> None:
    seat = desk.pool.session().seat("stt")
    first, second = desk.ask("first", seat.run), desk.ask("second", seat.run)
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert desk.pool.waiting == 0
    desk.works["first"].end()
    assert await first == "first"
    assert desk.order == ["first"]


async def test_an_exception_of_the_work_is_its_callers(desk: Desk) -> None:
    def fail() -> None:
        raise ValueError("broken")

    seat = desk.pool.session().seat("tts")
    with pytest.raises(ValueError, match="broken"):
        await seat.run(fail)
    assert await seat.run(lambda: 7) == 7


def test_in_virtual_time_work_runs_on_the_spot_and_takes_no_time() -> None:
    async def main() -> list[tuple[str, PoolUse]]:
        work = WorkPool(SIMPLE, VirtualClock(), inline=True).session()
        here = threading.get_ident()
        assert await work.seat("stt").run(threading.get_ident) == here
        return work.taken()

    assert run_virtual(main()) == [("stt", PoolUse(tasks=1))]
