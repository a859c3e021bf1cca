"""What a crossing from Python into the kernel costs; a debug build is refused."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from rspp import _kernel
from rspp._kernel import EdgeBuffer, LaneRouter, SessionKernel
from tests.bench.edge_hop import ITEM, QUEUED, STAGES, make_edge
from tests.kernel.fake_shell import make_plan, make_policy

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

WINDOW_US = 32_000
FAR_US = 1 << 60


@pytest.fixture
def kernel() -> SessionKernel:
    if _kernel.BUILD_PROFILE != "release":
        pytest.fail("figures of a debug build mean nothing: build with `maturin develop --release`")
    kernel = SessionKernel(
        session_id="bench", policy=make_policy(), plan=make_plan(), now_us=0, wall_clock_ms=0
    )
    kernel.lease(0, 1, FAR_US)
    return kernel


def test_a_window_of_silence(benchmark: BenchmarkFixture, kernel: SessionKernel) -> None:
    clock = itertools.count(WINDOW_US, WINDOW_US)
    benchmark(lambda: kernel.voice_activity(next(clock), 0, 20))


def test_a_frame_that_passes(benchmark: BenchmarkFixture, kernel: SessionKernel) -> None:
    kernel.text_message(0, 1)
    numbers = itertools.count()

    def frame() -> int:
        return kernel.frame(0, 1, 1, next(numbers), 480)

    assert benchmark(frame) == _kernel.PASS


def test_the_next_deadline(benchmark: BenchmarkFixture, kernel: SessionKernel) -> None:
    assert benchmark(lambda: kernel.next_deadline_us) == FAR_US


def test_a_turn_opened_and_cancelled(benchmark: BenchmarkFixture, kernel: SessionKernel) -> None:
    def turn() -> None:
        kernel.text_message(0, 1)
        kernel.cancel(0, "stop")
        kernel.drain_evidence(100)

    benchmark(turn)


def test_draining_a_hundred_records(benchmark: BenchmarkFixture, kernel: SessionKernel) -> None:
    clock = itertools.count(WINDOW_US, WINDOW_US)

    def fill() -> None:
        for _ in range(100):
            kernel.voice_activity(next(clock), 0, 20)

    lines = benchmark.pedantic(  # type: ignore[no-untyped-call] # the plugin leaves it untyped
        lambda: kernel.drain_evidence(100), setup=fill, rounds=200
    )
    assert len(lines) == 100


def test_one_hop_over_an_edge(benchmark: BenchmarkFixture) -> None:
    edge: EdgeBuffer[bytes] = EdgeBuffer(
        edge_id="bench",
        strategy="block",
        max_items=64,
        max_ms=2_000,
        max_bytes=1 << 20,
        high_items=48,
        low_items=24,
        max_block_ms=1_000,
    )
    item = bytes(960)

    def hop() -> bytes | None:
        edge.put(item, 1, 20_000, 960)
        return edge.get()

    assert benchmark(hop) is item


def test_a_cancel_of_eight_full_edges(benchmark: BenchmarkFixture) -> None:
    hops = [make_edge(number) for number in range(STAGES)]

    def fill() -> None:
        for hop in hops:
            for _ in range(QUEUED):
                assert hop.put(ITEM, 1, 20_000, 960)

    fenced = benchmark.pedantic(  # type: ignore[no-untyped-call] # the plugin leaves it untyped
        lambda: sum(hop.fence(1) for hop in hops), setup=fill, rounds=50
    )
    assert fenced == STAGES * QUEUED
    assert [hop.get() for hop in hops] == [None] * STAGES


def test_a_control_item_through_saturated_lanes(benchmark: BenchmarkFixture) -> None:
    router: LaneRouter[bytes] = LaneRouter(router_id="bench")
    for _ in range(1_000):
        router.put("DataLane", ITEM, 1, 20_000, 960)
        router.put("TelemetryLane", ITEM, 1, 0, 100)

    def overtake() -> tuple[str, bytes] | None:
        router.put("ControlLane", ITEM, 1, 0, 100)
        return router.get()

    assert benchmark(overtake) == ("ControlLane", ITEM)
