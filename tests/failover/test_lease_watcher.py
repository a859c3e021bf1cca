"""The watcher keeps a lease alive in the loop's own time and tells exactly once when it is gone."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from rspp.authority.sqlite import SqliteLeaseStore
from rspp.authority.store import TTL_MS, Lease, LeaseStoreError
from rspp.authority.watcher import LeaseWatcher
from rspp.session.offload import InlineOffloader, ThreadOffloader
from rspp.session.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class FakeOffloader:
    """Inline until it is told to hang."""

    def __init__(self) -> None:
        self.hangs = False
        self.calls = 0

    async def run(self, work: Callable[[], T]) -> T:
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        return work()


class FakeFailingStore(SqliteLeaseStore):
    """A store that fails while ``failing``."""

    failing = False
    attempts = 0

    def renew(self, lease: Lease) -> Lease:
        self.attempts += 1
        if self.failing:
            raise LeaseStoreError("lease store x: disk I/O error")
        return super().renew(lease)

    def release(self, lease: Lease) -> None:
        if self.failing:
            raise LeaseStoreError("lease store x: disk I/O error")
        super().release(lease)


class Scene:
    """One watcher over a store in memory, and what it reported with its time in ms since the grant."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = FakeFailingStore(":memory:", self.clock, boot_id="b")
        lease = self.store.acquire("s", "one", TTL_MS, {})
        assert isinstance(lease, Lease)
        self.lease = lease
        self.start_us = self.clock.now_us()
        self.offloader = FakeOffloader()
        self.renewed: list[int] = []
        self.lost: list[tuple[int, str]] = []
        self.watcher = LeaseWatcher(
            self.store,
            self.lease,
            self.clock,
            self.offloader,
            on_renewed=lambda lease: self.renewed.append(self.ms()),
            on_lost=lambda reason: self.lost.append((self.ms(), reason)),
        )

    def ms(self) -> int:
        return (self.clock.now_us() - self.start_us) // 1000


def play(script: Callable[[Scene], Coroutine[Any, Any, None]]) -> Scene:
    async def main() -> Scene:
        scene = Scene()
        task = asyncio.create_task(scene.watcher.run())
        await script(scene)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() or task.exception() is None
        scene.store.close()
        return scene

    return run_virtual(main())


def test_it_renews_every_second_and_the_deadline_moves_along() -> None:
    async def script(scene: Scene) -> None:
        await asyncio.sleep(20.5)
        assert scene.watcher.lease.deadline_us == scene.start_us + 20_000_000 + 3_750_000

    scene = play(script)
    assert scene.renewed == [1000 * second for second in range(1, 21)]
    assert scene.lost == []


def test_a_failing_store_is_tried_again_until_it_recovers() -> None:
    async def script(scene: Scene) -> None:
        scene.store.failing = True
        await asyncio.sleep(3.1)
        scene.store.failing = False
        await asyncio.sleep(2)

    scene = play(script)
    assert scene.lost == []
    assert scene.renewed[0] in range(3100, 3400)
    assert scene.store.attempts >= 10


def test_a_store_that_keeps_failing_costs_the_lease_at_the_local_deadline() -> None:
    async def script(scene: Scene) -> None:
        scene.store.failing = True
        await asyncio.sleep(30)
        assert scene.watcher.lost
        scene.store.failing = False
        assert not await scene.watcher.release()
        # Given back it would be forgotten; as an orphan it is found by whoever takes over.
        assert [orphan.session_id for orphan in scene.store.orphans()] == ["s"]

    scene = play(script)
    assert scene.lost == [(3750, "lease_expired")]
    assert scene.store.attempts <= 20


@pytest.mark.conformance("G-01", "G-26")
def test_a_store_that_hangs_costs_the_lease_at_the_local_deadline_with_one_call_under_way() -> None:
    async def script(scene: Scene) -> None:
        scene.offloader.hangs = True
        await asyncio.sleep(30)

    scene = play(script)
    assert scene.lost == [(3750, "lease_expired")]
    assert scene.offloader.calls == 1


def test_a_stolen_lease_is_told_at_the_next_renewal() -> None:
    async def script(scene: Scene) -> None:
        scene.store.release(scene.lease)
        assert isinstance(scene.store.acquire("s", "thief", TTL_MS, {}), Lease)
        await asyncio.sleep(5)

    scene = play(script)
    assert scene.lost == [(1000, "lease_deauthorized")]
    assert scene.renewed == []


def test_release_frees_the_session_and_ends_the_watch() -> None:
    async def script(scene: Scene) -> None:
        await asyncio.sleep(2.5)
        assert await scene.watcher.release()
        await asyncio.sleep(10)
        successor = scene.store.acquire("s", "two", TTL_MS, {})
        assert isinstance(successor, Lease)
        assert successor.epoch == 2

    scene = play(script)
    assert scene.renewed == [1000, 2000]
    assert scene.lost == []


def test_release_that_fails_or_hangs_says_so_and_does_not_hang() -> None:
    async def script(scene: Scene) -> None:
        scene.store.failing = True
        assert not await scene.watcher.release()
        scene.offloader.hangs = True
        assert not await scene.watcher.release()
        assert scene.ms() <= 3750

    assert play(script).lost == []


def test_an_answer_after_the_deadline_does_not_bring_the_lease_back() -> None:
    class FakeSlowOffloader(FakeOffloader):
        async def run(self, work: Callable[[], T]) -> T:
            result = work()
            await asyncio.sleep(2.75)
            return result

    async def script(scene: Scene) -> None:
        scene.watcher._offloader = FakeSlowOffloader()
        await asyncio.sleep(20)

    scene = play(script)
    assert scene.lost == [(3750, "lease_expired")]
    assert scene.renewed == []


def test_a_pause_of_the_process_is_noticed_before_any_renewal() -> None:
    class FakeJumpingClock(VirtualClock):
        jump_us = 0

        def now_us(self) -> int:
            return super().now_us() + self.jump_us

    async def main() -> tuple[list[str], int]:
        clock = FakeJumpingClock()
        store = FakeFailingStore(":memory:", clock, boot_id="b")
        lease = store.acquire("s", "one", TTL_MS, {})
        assert isinstance(lease, Lease)
        lost: list[str] = []
        watcher = LeaseWatcher(
            store, lease, clock, InlineOffloader(), on_renewed=lambda _: None, on_lost=lost.append
        )
        task = asyncio.create_task(watcher.run())
        await asyncio.sleep(0.3)
        # The machine slept: the loop's timers stood still, the boot-time clock did not.
        clock.jump_us = 30_000_000
        await asyncio.wait_for(task, 0.3)
        store.close()
        return lost, store.attempts

    assert run_virtual(main()) == (["lease_expired"], 0)


def test_a_defect_of_a_store_is_not_hidden() -> None:
    class FakeBrokenStore(SqliteLeaseStore):
        def renew(self, lease: Lease) -> Lease:
            raise ZeroDivisionError

    async def main() -> None:
        clock = VirtualClock()
        store = FakeBrokenStore(":memory:", clock, boot_id="b")
        lease = store.acquire("s", "one", TTL_MS, {})
        assert isinstance(lease, Lease)
        watcher = LeaseWatcher(
            store, lease, clock, InlineOffloader(), on_renewed=lambda _: None, on_lost=lambda _: None
        )
        try:
            await watcher.run()
        finally:
            store.close()

    with pytest.raises(ZeroDivisionError):
        run_virtual(main())


async def test_the_loop_goes_on_while_the_store_blocks() -> None:
    blocked, proceed = threading.Event(), threading.Event()

    class FakeBlockingStore(SqliteLeaseStore):
        def renew(self, lease: Lease) -> Lease:
            blocked.set()
            assert proceed.wait(20)
            return super().renew(lease)

    class FakeStillClock:
        def now_us(self) -> int:
            return 7_000_000

        def wall_clock_ms(self) -> int:
            return 0

    clock = FakeStillClock()
    store = FakeBlockingStore(":memory:", clock, boot_id="b")
    lease = store.acquire("s", "one", TTL_MS, {})
    assert isinstance(lease, Lease)
    offloader = ThreadOffloader("lease-test")
    renewed = asyncio.Event()
    watcher = LeaseWatcher(
        store, lease, clock, offloader, 0, on_renewed=lambda _: renewed.set(), on_lost=lambda _: None
    )
    task = asyncio.create_task(watcher.run())
    try:
        assert await asyncio.to_thread(blocked.wait, 20)
        await asyncio.sleep(0)
        assert not renewed.is_set()
        proceed.set()
        await asyncio.wait_for(renewed.wait(), 20)
        assert await watcher.release()
        await asyncio.wait_for(task, 20)
    finally:
        proceed.set()
        task.cancel()
        offloader.close()
        store.close()
