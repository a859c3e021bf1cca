"""The task that receives snapshots and tells sessions, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp.controlplane.artifact import SnapshotError
from rspp.controlplane.refreshing import ControlPlane, control_plane_running
from rspp.session.offload import InlineOffloader
from rspp.session.virtual_time import run_virtual
from tests.controlplane.snapshots import (
    REQUEST,
    FakeSleep,
    FakeSource,
    encoded,
    put,
    settings_of,
    unreachable,
    virtual_clock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rspp.contracts.turn_start import TurnStart

TTL_US, WINDOW_US = 2_000_000, 12_000_000


class Told:
    """What a session would have been told, and when."""

    def __init__(self) -> None:
        self.all: list[TurnStart] = []
        self.at_us: list[int] = []

    def __call__(self, told: TurnStart) -> None:
        self.all.append(told)
        self.at_us.append(virtual_clock().now_us())


def running(source: FakeSource, body: Callable[[ControlPlane, Told], Coroutine[Any, Any, None]]) -> Told:
    told = Told()

    async def main() -> None:
        opened = control_plane_running(settings_of(source), virtual_clock(), InlineOffloader(), FakeSleep())
        async with opened as plane:
            assert plane is not None
            plane.follow(REQUEST, told)
            await body(plane, told)

    run_virtual(main())
    return told


async def refreshes(number: int) -> None:
    await asyncio.sleep(2.0 * number + 0.001)


def test_a_session_is_told_at_once_and_then_only_as_half_of_the_time_is_gone() -> None:
    async def body(plane: ControlPlane, told: Told) -> None:
        await refreshes(30)

    told = running(FakeSource(encoded()), body)
    start = told.at_us[0]
    assert told.all[0].usable_until_us == start + WINDOW_US
    assert len(told.all) == 8
    assert all(
        later - earlier >= WINDOW_US // 2 for earlier, later in zip(told.at_us, told.at_us[1:], strict=False)
    )
    assert all(at < before.usable_until_us for at, before in zip(told.at_us[1:], told.all, strict=False)), (
        "a session was told too late"
    )
    assert len({tuple(one.provenance.items()) for one in told.all}) == 1


def test_what_changed_is_told_at_the_next_refresh() -> None:
    source = FakeSource(encoded())

    async def body(plane: ControlPlane, told: Told) -> None:
        source.answer = encoded(put("lease/default/authority_authorized", False), version=2)
        await refreshes(1)
        assert plane.version == 2

    told = running(source, body)
    assert [(one.version, one.authority_authorized) for one in told.all] == [(1, True), (2, False)]
    assert told.at_us[1] - told.at_us[0] == TTL_US


def test_a_source_that_is_gone_needs_no_telling() -> None:
    source = FakeSource(encoded())

    async def body(plane: ControlPlane, told: Told) -> None:
        source.answer = unreachable()
        await refreshes(10)
        assert plane.age_ms > 20_000
        source.answer = encoded()
        await refreshes(1)

    told = running(source, body)
    assert len(told.all) == 2
    assert told.all[0].usable_until_us < told.at_us[1] < told.all[1].usable_until_us


def test_going_back_is_refused_and_what_is_in_force_stays_for_its_time() -> None:
    source = FakeSource(encoded(version=2))

    async def body(plane: ControlPlane, told: Told) -> None:
        source.answer = encoded(version=1)
        await refreshes(10)
        assert plane.version == 2

    assert [one.version for one in running(source, body).all] == [2]


def test_a_stale_snapshot_is_told_as_a_failure_for_good() -> None:
    source = FakeSource(encoded())

    async def body(plane: ControlPlane, told: Told) -> None:
        source.answer = encoded(put("routing_view/stale", True))
        await refreshes(10)

    told = running(source, body)
    assert [one.failure for one in told.all] == ["", "snapshot_invalid_or_missing"]


def test_a_snapshot_is_usable_until_it_expires_at_the_latest() -> None:
    async def body(plane: ControlPlane, told: Told) -> None:
        await refreshes(1)

    told = running(FakeSource(encoded(valid_s=6.0)), body)
    assert [one.usable_until_us - told.at_us[0] for one in told.all] == [5_000_000]


def test_a_session_that_left_is_told_no_more_and_one_that_fails_hinders_nobody() -> None:
    source = FakeSource(encoded())
    failing: list[int] = []

    def fail(told: TurnStart) -> None:
        failing.append(told.version)
        raise ValueError("a defect")

    async def body(plane: ControlPlane, told: Told) -> None:
        plane._followers.clear()
        plane.follow(REQUEST, fail)
        leave = plane.follow(REQUEST, told)
        source.answer = encoded(version=2)
        await refreshes(1)
        leave()
        leave()
        source.answer = encoded(version=3)
        await refreshes(1)

    assert [one.version for one in running(source, body).all] == [1, 1, 2]
    assert failing == [1, 2, 3]


def test_each_session_gets_what_its_own_pipeline_resolves_to() -> None:
    other = Told()

    async def body(plane: ControlPlane, told: Told) -> None:
        plane.follow(msgspec.structs.replace(REQUEST, pipeline_version="other@v1"), other)

    assert running(FakeSource(encoded()), body).all[0].failure == ""
    assert other.all[0].failure == "turn_start_bundle_resolution_failed"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (unreachable(), "artifact_read_failed"),
        (b"{", "artifact_decode_failed"),
        (b"{}", "artifact_invalid"),
        (encoded(put("stale", True)), "snapshot_stale"),
        (encoded(valid_s=1.0), "snapshot_stale"),
    ],
)
def test_without_a_usable_snapshot_there_is_no_start(answer: bytes | SnapshotError, code: str) -> None:
    async def main() -> None:
        async with control_plane_running(
            settings_of(FakeSource(answer)), virtual_clock(), InlineOffloader(), FakeSleep()
        ):
            pass

    with pytest.raises(SnapshotError) as caught:
        run_virtual(main())
    assert caught.value.code == code


def test_no_settings_no_control_plane() -> None:
    async def main() -> None:
        async with control_plane_running(None, virtual_clock(), InlineOffloader()) as plane:
            assert plane is None

    run_virtual(main())


def test_a_turn_that_waits_for_nothing_is_not_kept_by_an_endpoint_that_hangs() -> None:
    """Reading is awaited by nobody but the task itself."""

    class HangingOffloader(InlineOffloader):
        hang = False

        async def run(self, work: Callable[[], Any]) -> Any:
            if self.hang:
                await asyncio.get_running_loop().create_future()
            return work()

    async def main() -> list[TurnStart]:
        offloader, told = HangingOffloader(), Told()
        plane = ControlPlane(settings_of(FakeSource(encoded())), virtual_clock(), offloader)
        await plane.start()
        offloader.hang = True
        task = asyncio.create_task(plane.run())
        await refreshes(3)
        plane.follow(REQUEST, told)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return told.all

    assert [one.version for one in run_virtual(main())] == [1]
