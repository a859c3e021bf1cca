"""Lanes in strict priority, and admission that is computed."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rspp._kernel import Admission, LaneRouter, decision_matrix

CONTROL, DATA, TELEMETRY = LANES = ("ControlLane", "DataLane", "TelemetryLane")
POINTS = ("edge_enqueue", "edge_dequeue", "node_dispatch")


def make_router() -> LaneRouter[int]:
    return LaneRouter(router_id="ingress", control=(4, 3, 1), data=(4, 3, 1), telemetry=(4, 3, 1))


def make_admission(*, max_deferred: int = 1) -> Admission:
    admission = Admission()
    quota = (4, 3, 3)
    admission.adopt(
        snapshot_ref="admission-policy/v7",
        valid_until_us=1_000_000,
        turn_start=quota,
        edge_enqueue=quota,
        edge_dequeue=quota,
        node_dispatch=quota,
        max_deferred=max_deferred,
        claim_us=1_000,
    )
    return admission


def test_control_overtakes_data_and_data_telemetry() -> None:
    router = make_router()
    for number, lane in enumerate([TELEMETRY, DATA, CONTROL, DATA, CONTROL]):
        assert router.put(lane, number, 1, 0, 1)
    assert [router.get() for _ in range(6)] == [
        (CONTROL, 2),
        (CONTROL, 4),
        (DATA, 1),
        (DATA, 3),
        (TELEMETRY, 0),
        None,
    ]


def test_a_fence_leaves_control_and_says_nothing_of_loss() -> None:
    router = make_router()
    for lane in LANES:
        router.put(lane, 1, 1, 0, 1)
    assert (router.fence(1), router.waiting(DATA), len(router)) == (1, 0, 2)
    assert router.poll_signals() == []


def test_control_at_its_bound_is_refused_and_never_shed() -> None:
    router = make_router()
    assert [router.put(CONTROL, number, 1, 0, 1) for number in range(5)] == [True] * 4 + [False]
    assert router.shed(CONTROL) == 0
    for number in range(9):
        router.put(DATA, number, 1, 0, 1)
    assert router.shed(DATA) == 5
    told = [(fields["signal"], fields["target_lane"]) for fields in router.poll_signals()]
    crossing = ["watermark", "flow_xoff"]
    assert told == [(signal, CONTROL) for signal in crossing] + [
        (signal, DATA) for signal in [*crossing, "drop_notice"]
    ]


def test_wrong_lanes_and_strategies_are_named() -> None:
    with pytest.raises(ValueError, match='lane is "FastLane": choose one of ControlLane'):
        make_router().put("FastLane", 1, 1, 0, 1)
    with pytest.raises(ValueError, match='data_strategy is "block": choose one of drop, sample, latest_only'):
        LaneRouter(router_id="r", data_strategy="block")
    with pytest.raises(ValueError, match="choose one of drop, sample, best_effort_drop on the Telemetry"):
        LaneRouter(router_id="r", telemetry_strategy="block")
    with pytest.raises(ValueError, match="low_items is 3: choose a value from 0 to 2"):
        LaneRouter(router_id="r", data=(4, 3, 3))


class Holder:
    """Something that can be part of a cycle with a router."""

    router: LaneRouter[Holder] | None = None


def test_a_cycle_through_a_router_is_collected() -> None:
    router: LaneRouter[Holder] = LaneRouter[Holder](router_id="r")
    holder = Holder()
    holder.router = router
    router.put(DATA, holder, 1, 0, 1)
    gone = weakref.ref(holder)
    del holder, router
    gc.collect()
    assert gone() is None


@given(st.lists(st.tuples(st.sampled_from([*LANES, "get", "fence"]), st.integers(1, 3)), max_size=120))
def test_control_is_never_lost_and_always_first(operations: list[tuple[str, int]]) -> None:
    router = make_router()
    sent, received = [], []
    for number, (operation, turn) in enumerate(operations):
        if operation == "fence":
            router.fence(turn)
        elif operation == "get":
            waits = router.waiting(CONTROL)
            found = router.get()
            if waits:
                assert found is not None
                assert found[0] == CONTROL
                received.append(found[1])
        elif router.put(operation, number, turn, 0, 1) and operation == CONTROL:
            sent.append(number)
    while (found := router.get()) is not None and found[0] == CONTROL:
        received.append(found[1])
    assert received == sent


def test_g24_no_turn_opens_without_a_valid_snapshot() -> None:
    refused = ("reject", "snapshot_invalid_or_missing", "pre_turn", "session")
    for admission, now_us in [(Admission(), 0), (make_admission(), 1_000_000)]:
        verdict = admission.ask(now_us, "turn_start", CONTROL, "s")
        assert (verdict.outcome, verdict.reason, verdict.phase, verdict.scope) == refused
    with pytest.raises(ValueError, match=r"turn_start is \(4, 5, 3\): choose places from 1"):
        make_admission().adopt(
            snapshot_ref="v8",
            valid_until_us=1,
            turn_start=(4, 5, 3),
            edge_enqueue=(4, 4, 3),
            edge_dequeue=(4, 4, 3),
            node_dispatch=(4, 4, 3),
        )


def test_g24_capacity_is_counted_not_told() -> None:
    admission = make_admission()
    outcomes = [admission.ask(0, "turn_start", CONTROL, key, True).outcome for key in "abcdef"]
    assert outcomes == ["admit"] * 4 + ["defer", "reject"]
    assert admission.done("turn_start", CONTROL, "a")
    assert not admission.done("turn_start", CONTROL, "a")
    assert [admission.ask(0, "turn_start", CONTROL, key, True).outcome for key in "fe"] == ["reject", "admit"]
    assert (admission.keys, admission.snapshot_ref) == (4, "admission-policy/v7")


@pytest.mark.parametrize("point", POINTS)
def test_overload_sheds_telemetry_first_then_the_greedy_and_never_control(point: str) -> None:
    admission = make_admission()
    greedy = [admission.ask(0, point, DATA, "greedy").outcome for _ in range(4)]
    assert greedy == ["admit", "admit", "admit", "shed"]
    verdict = admission.ask(0, point, TELEMETRY, "modest")
    assert (verdict.outcome, verdict.reason, verdict.phase, verdict.scope) == (
        "shed",
        "scheduling_point_shed",
        "scheduling_point",
        point,
    )
    assert (verdict.in_use, verdict.places, verdict.key_in_use, verdict.key_share) == (3, 4, 0, 2)
    assert admission.ask(0, point, DATA, "modest").admitted
    assert not admission.ask(0, point, DATA, "third").admitted
    assert all(admission.ask(0, point, CONTROL, "third").admitted for _ in range(100))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["turn_start", *POINTS]),
            st.sampled_from(LANES),
            st.sampled_from("abcd"),
            st.booleans(),
            st.booleans(),
        ),
        max_size=100,
    )
)
def test_ct005_w06_every_decision_is_a_cell_of_the_matrix(
    asks: list[tuple[str, str, str, bool, bool]],
) -> None:
    cells = {row[:4] for row in decision_matrix()}
    admission = make_admission(max_deferred=0)
    held: list[tuple[str, str, str]] = []
    for point, lane, key, turn_known, gives in asks:
        if gives and held:
            assert admission.done(*held.pop())
            continue
        verdict = admission.ask(0, point, lane, key, turn_known)
        assert (verdict.outcome, "RK-25", verdict.phase, verdict.scope) in cells
        assert verdict.phase != "active_turn"
        if verdict.admitted:
            held.append((point, lane, key))
    for place in held:
        assert admission.done(*place)
    assert admission.keys == 0
