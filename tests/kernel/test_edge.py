"""The bounded edge between two nodes."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rspp._kernel import EdgeBuffer


def make_edge(
    strategy: str = "block", *, items: int = 4, ms: int = 100, size: int = 1000, high: int = 3, low: int = 1
) -> EdgeBuffer[int]:
    return EdgeBuffer(
        edge_id="vad-stt",
        strategy=strategy,
        max_items=items,
        max_ms=ms,
        max_bytes=size,
        high_items=high,
        low_items=low,
    )


def test_items_leave_in_order_and_the_sums_follow() -> None:
    edge = make_edge()
    assert (edge.get(), len(edge), edge.edge_id) == (None, 0, "vad-stt")
    assert edge.put(7, 1, 20_000, 640)
    assert edge.put(8, 1, 10_000, 320)
    assert (len(edge), edge.queued_us, edge.depth_peak) == (2, 30_000, 2)
    assert [edge.get(), edge.get(), edge.get()] == [7, 8, None]
    assert (edge.queued_us, edge.depth_peak, edge.shed) == (0, 2, 0)


def test_a_blocking_edge_refuses_and_flows_again_at_the_low_mark() -> None:
    edge = make_edge()
    assert [edge.put(item, 1, 1_000, 1) for item in range(5)] == [True, True, True, True, False]
    flowing = [edge.flowing]
    for _ in range(4):
        edge.get()
        flowing.append(edge.flowing)
    assert flowing == [False, False, False, True, True]
    assert edge.shed == 0


@pytest.mark.parametrize(("strategy", "kept", "shed"), [("drop", [0, 1, 2, 3], 1), ("latest_only", [4], 4)])
def test_shedding_edges_say_what_they_shed(strategy: str, kept: list[int], shed: int) -> None:
    edge = make_edge(strategy)
    for item in range(5):
        edge.put(item, 1, 1_000, 1)
    assert edge.shed == shed
    assert [edge.get() for _ in range(len(edge))] == kept


def test_a_fence_removes_a_turn_and_the_earlier_ones() -> None:
    edge = make_edge(items=9, high=9)
    for item, turn in enumerate([1, 2, 1, 3]):
        edge.put(item, turn, 10_000, 10)
    assert edge.fence(2) == 3
    assert (edge.queued_us, edge.get(), edge.shed) == (10_000, 3, 0)
    edge.put(1, 4, 1, 1)
    assert (edge.clear(), len(edge)) == (1, 0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"items": 0}, "max_items"),
        ({"ms": -1}, "max_ms"),
        ({"size": 0}, "max_bytes"),
        ({"high": 5}, "high_items"),
        ({"low": 3}, "low_items"),
    ],
)
def test_wrong_bounds_name_field_and_value(change: dict[str, int], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field} is {next(iter(change.values()))}: choose"):
        make_edge("block", **change)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match='strategy is "merge": choose one of block, drop, latest_only'):
        make_edge("merge")


class Holder:
    """Something that can be part of a cycle with an edge."""

    edge: EdgeBuffer[Holder] | None = None


def test_a_cycle_through_an_edge_is_collected() -> None:
    edge: EdgeBuffer[Holder] = EdgeBuffer[Holder](
        edge_id="e", strategy="block", max_items=4, max_ms=100, max_bytes=100, high_items=3, low_items=1
    )
    holder = Holder()
    holder.edge = edge
    edge.put(holder, 1, 1, 1)
    gone = weakref.ref(holder)
    del holder, edge
    gc.collect()
    assert gone() is None


@given(
    strategy=st.sampled_from(["block", "drop", "latest_only"]),
    operations=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(0, 60_000), st.integers(0, 600)),
        max_size=80,
    ),
)
def test_no_bound_is_ever_passed(strategy: str, operations: list[tuple[int, int, int, int]]) -> None:
    edge = make_edge(strategy)
    for number, (operation, turn, duration_us, size) in enumerate(operations):
        if operation == 0:
            edge.get()
        elif operation == 1:
            edge.fence(turn)
        else:
            edge.put(number, turn, duration_us, size)
        assert len(edge) <= 4
        assert edge.queued_us <= 100_000
        assert edge.flowing or len(edge) > 0
