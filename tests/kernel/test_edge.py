"""The bounded edge between two nodes."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rspp._kernel import EdgeBuffer, merge_lineage


def make_edge(
    strategy: str = "block",
    *,
    items: int = 4,
    ms: int = 100,
    size: int = 1000,
    high: int = 3,
    low: int = 1,
    block: int | None = 50,
    **more: Any,
) -> EdgeBuffer[int]:
    return EdgeBuffer(
        edge_id="vad-stt",
        strategy=strategy,
        max_items=items,
        max_ms=ms,
        max_bytes=size,
        high_items=high,
        low_items=low,
        max_block_ms=block,
        merge=sum if strategy == "merge" else None,
        **more,
    )


def names(edge: EdgeBuffer[int]) -> list[str]:
    return [fields["signal"] for fields in edge.poll_signals()]


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
        ({"max_latency_ms": 0}, "max_latency_ms"),
        ({"block": 0}, "max_block_ms"),
        ({"sample_every": 1}, "sample_every"),
    ],
)
def test_wrong_bounds_name_field_and_value(change: dict[str, int], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field} is {next(iter(change.values()))}: choose"):
        make_edge("block", **change)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match='strategy is "newest": choose one of block, drop, merge, sample'):
        make_edge("newest")


def test_w01_w07_what_no_edge_may_be_told() -> None:
    for change, message in [
        ({"block": None}, "max_block_ms is missing"),
        ({"high_ms": 50, "low_ms": 50}, "low_ms is 50: choose a value from 0 to 49"),
        ({"lane": "ControlLane"}, "choose one of non_blocking_priority on the ControlLane"),
        ({"lane": "TelemetryLane"}, "choose one of drop, sample, best_effort_drop"),
        ({"flow": "push"}, 'flow is "push": choose one of signal, credit, hybrid'),
        ({"sync_policy": "drop_with_discontinuity"}, "sync_domain is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_edge(**change)  # type: ignore[arg-type] # a table of wrong values
    with pytest.raises(ValueError, match="merge goes with strategy"):
        EdgeBuffer(
            edge_id="e", strategy="merge", max_items=1, max_ms=1, max_bytes=1, high_items=1, low_items=0
        )


def test_a_blocked_producer_is_shed_after_its_time() -> None:
    edge = make_edge(high=4)
    for item in range(4):
        assert edge.put(item, 1, 1_000, 1, 0)
    assert not edge.put(4, 1, 1_000, 1, 1_000)
    assert edge.blocked_until_us == 51_000
    assert not edge.put(4, 1, 1_000, 1, 51_000)
    assert (edge.shed, edge.blocked_until_us) == (1, 51_000)
    *others, drop = edge.poll_signals()
    assert [fields["signal"] for fields in others] == ["watermark", "flow_xoff"]
    assert drop == {
        "signal": "drop_notice",
        "emitted_by": "RK-12",
        "at_us": 51_000,
        "turn": 1,
        "reason": "queue_pressure_drop",
        "edge_id": "vad-stt",
        "target_lane": "DataLane",
        "seq_range": {"start": 4, "end": 4},
    }
    while edge.get() is not None:
        pass
    assert names(edge) == ["flow_xon"]


def test_ml002_a_merging_edge_makes_one_item_and_names_its_parts() -> None:
    edge = make_edge("merge")
    for item in [1, 2, 3, 4, 5, 6]:
        assert edge.put(item, 1, 1_000, 1, sequence=10 * item)
    assert ([edge.get() for _ in range(3)], edge.merged_from) == ([1, 2, 3], [])
    assert (edge.get(), edge.merged_from) == (15, [40, 50, 60])
    with pytest.raises(ValueError, match="sequence is 60: sequences on an edge rise strictly"):
        edge.put(7, 1, 1_000, 1, sequence=60)


def test_g16_a_merge_of_a_hundred_sources_is_split() -> None:
    sources = [(number, f"evt/{number}") for number in range(100)]
    groups = merge_lineage("tts->playout", [*reversed(sources), *sources])
    assert [len(ids) for _, ids, _, _ in groups] == [50, 50]
    assert [event_id for _, ids, _, _ in groups for event_id in ids] == [event_id for _, event_id in sources]
    with pytest.raises(ValueError, match="a merge needs two"):
        merge_lineage("tts->playout", [(1, "a"), (2, "a")])


def test_g14_the_three_flow_modes_tell_their_producer_in_their_own_way() -> None:
    told = {}
    for flow in ["signal", "credit", "hybrid"]:
        edge = make_edge(flow=flow)
        for item in range(5):
            edge.put(item, 1, 1_000, 1)
        while edge.get() is not None:
            pass
        told[flow] = names(edge)
    assert told == {
        "signal": ["watermark", "flow_xoff", "flow_xon"],
        "credit": ["credit_grant", "watermark", "credit_grant", "credit_grant"],
        "hybrid": ["credit_grant", "watermark", "flow_xoff", "flow_xon", "credit_grant"],
    }


def test_ml004_a_loss_reaches_every_edge_of_its_domain() -> None:
    kind: dict[str, Any] = {
        "sync_policy": "drop_with_discontinuity",
        "sync_scope": "plan_wide",
        "sync_domain": "av",
    }
    one, two = make_edge("drop", **kind), make_edge("drop", **kind)
    for item in range(6):
        one.put(item, 1, 1_000, 1)
    for loss in one.take_losses():
        two.apply_loss(*loss)
    assert [fields["discontinuity_id"] for fields in two.poll_signals()] == ["av/4"]
    assert names(one) == ["watermark", "flow_xoff", "drop_notice", "discontinuity", "drop_notice"]


def test_an_atomic_drop_leaves_nothing_of_its_group() -> None:
    edge = make_edge("drop", sync_policy="atomic_drop")
    for item, group in enumerate([1, 2, 1, 2, 1, 1, 2]):
        edge.put(item, 1, 1_000, 1, group=group)
    assert [edge.get() for _ in range(3)] == [1, 3, 6]


def test_a_consumer_that_stalls_for_an_hour_costs_no_memory() -> None:
    frame = 0
    for strategy in ["block", "drop", "merge", "sample", "latest_only"]:
        edge = make_edge(strategy)
        for now_us in range(0, 3_600_000_000, 20_000):
            edge.put(frame, 1, 20_000, 100, now_us)
        assert edge.queued_us <= 100_000
        assert edge.depth_peak <= 4
        assert len(edge.poll_signals()) <= 256
        if strategy == "merge":
            assert edge.shed > 0
    growth = []
    edge = make_edge("drop")
    tracemalloc.start()
    try:
        for minute in range(3):
            for now_us in range(minute * 60_000_000, (minute + 1) * 60_000_000, 20_000):
                edge.put(frame, 1, 20_000, 100, now_us)
            growth.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert growth[2] - growth[1] < 1_000


def test_cf001_a_cancel_leaves_nothing_stale_on_eight_hops() -> None:
    hops = [make_edge("drop", items=500, ms=100_000, size=1 << 20, high=400) for _ in range(8)]
    for hop in hops:
        for item in range(500):
            assert hop.put(item, 1, 20_000, 640)
        assert hop.fence(1) == 500
    assert [hop.get() for hop in hops] == [None] * 8


@given(
    strategy=st.sampled_from(["block", "drop", "merge", "sample", "latest_only"]),
    flow=st.sampled_from(["signal", "credit", "hybrid"]),
    operations=st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(0, 60_000), st.integers(0, 600)),
        max_size=80,
    ),
)
def test_ml001_ml003_what_is_absent_is_named(
    strategy: str, flow: str, operations: list[tuple[int, int, int, int]]
) -> None:
    def run() -> tuple[list[dict[str, Any]], int]:
        edge = make_edge(strategy, flow=flow)
        now_us, signals = 0, list[dict[str, Any]]()
        for operation, turn, duration_us, size in operations:
            now_us += duration_us
            if operation == 0:
                edge.get(now_us)
            elif operation == 1:
                edge.fence(turn)
            else:
                edge.put(0, turn, duration_us, size, now_us)
            signals += edge.poll_signals()
        return signals, edge.shed

    signals, shed = run()
    ranges = [fields["seq_range"] for fields in signals if fields["signal"] == "drop_notice"]
    assert all(found["start"] <= found["end"] for found in ranges)
    assert sum(found["end"] - found["start"] + 1 for found in ranges) == shed
    assert run() == (signals, shed)


class Holder:
    """Something that can be part of a cycle with an edge."""

    edge: EdgeBuffer[Holder] | None = None


def test_a_cycle_through_an_edge_is_collected() -> None:
    edge: EdgeBuffer[Holder] = EdgeBuffer[Holder](
        edge_id="e",
        strategy="block",
        max_items=4,
        max_ms=100,
        max_bytes=100,
        high_items=3,
        low_items=1,
        max_block_ms=9,
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
