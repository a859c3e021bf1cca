"""Two recorded runs, compared event by event, and what became of each event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rspp.replay.compare import compare_traces, trace_of
from rspp.replay.divergence import AUTHORITY, ORDERING, OUTCOME, PLAN, TIMING
from rspp.replay.lineage import LineageEntry, compare_lineage, lineage_of

Record = dict[str, Any]


def header(provenance: str = "routing-view/v1") -> Record:
    policy = {"snapshot_provenance": {"routing_view_snapshot": provenance}}
    return {"kind": "header", "settings": {"plan": {"policy_json": json.dumps(policy)}}}


def frozen(plan_hash: str = "a" * 64) -> Record:
    return {
        "kind": "marker",
        "name": "plan_frozen",
        "at_us": 0,
        "turn": 1,
        "value": 1,
        "plan_hash": plan_hash,
    }


def signal(number: int, name: str, at_us: int, *, turn: bool = True, epoch: int = 1, **fields: Any) -> Record:
    event = {
        "session_id": "call",
        "event_id": f"evt/call/{number}",
        "runtime_sequence": number,
        "authority_epoch": epoch,
        "runtime_timestamp_ms": at_us // 1000,
        "wall_clock_timestamp_ms": at_us // 1000,
        "signal": name,
        **fields,
    }
    if turn:
        event["turn_id"] = "turn-1-1"
    return {"kind": "signal", "at_us": at_us, "event": event}


def run(*records: Record) -> list[Record]:
    return [header(), frozen(), *records]


BASE = run(signal(0, "turn_open", 0), signal(1, "output_accepted", 50_000), signal(2, "close", 90_000))


def compared(other: list[Record], tolerance_ms: float = 15) -> list[tuple[str, str]]:
    found = compare_traces(trace_of(BASE), trace_of(other), tolerance_ms)
    return [(one.class_, one.scope) for one in found]


def test_rd_001_equal_runs_do_not_diverge() -> None:
    assert compared(BASE) == []
    assert len(trace_of(BASE)) == 3


@pytest.mark.parametrize(("late_us", "diverges"), [(15_000, False), (15_001, True), (-15_001, True)])
def test_rd_002_timing_within_the_tolerance_passes_and_above_it_is_timing(
    late_us: int, *, diverges: bool
) -> None:
    other = run(
        signal(0, "turn_open", 0),
        signal(1, "output_accepted", 50_000 + late_us),
        signal(2, "close", 90_000),
    )
    found = compare_traces(trace_of(BASE), trace_of(other), 15)
    assert [one.class_ for one in found] == ([TIMING] if diverges else [])
    assert [one.diff_ms for one in found] == ([abs(late_us) / 1000] if diverges else [])


def test_rd_004_another_provenance_or_hash_is_a_plan_divergence_of_each_event_in_the_turn() -> None:
    changed = [header("routing-view/v2"), *BASE[1:]]
    assert compared(changed) == [(PLAN, "turn:turn-1-1")] * 3
    assert compared([BASE[0], frozen("b" * 64), *BASE[2:]]) == [(PLAN, "turn:turn-1-1")] * 3


def test_another_outcome_a_missing_end_and_another_epoch_are_told_apart() -> None:
    aborted = run(BASE[2], signal(1, "abort", 50_000), BASE[4])
    assert compared(aborted) == [(OUTCOME, "turn:turn-1-1")]
    assert compared(BASE[:-1]) == [(OUTCOME, "trace")]
    assert compared(run(*BASE[2:4], signal(2, "close", 90_000, epoch=2))) == [(AUTHORITY, "turn:turn-1-1")]


def test_two_events_in_the_other_order_are_one_ordering_divergence() -> None:
    first, second = signal(1, "stall", 10_000, turn=False), signal(2, "silence", 10_000, turn=False)
    swapped = signal(1, "silence", 10_000, turn=False), signal(2, "stall", 10_000, turn=False)
    one, other = run(BASE[2], first, second), run(BASE[2], *swapped)
    found = compare_traces(trace_of(one), trace_of(other), 0)
    assert [(each.class_, each.scope) for each in found] == [(ORDERING, "session:call")]
    assert json.loads(found[0].recorded)["event"]["signal"] == "stall"
    assert json.loads(found[0].replayed)["event"]["signal"] == "silence"


def test_another_place_in_the_order_is_ordering() -> None:
    moved = run(BASE[2], BASE[3], signal(7, "close", 90_000))
    assert compared(moved) == [(ORDERING, "turn:turn-1-1")]


def test_migration_that_goes_otherwise_is_authority() -> None:
    one = run(BASE[2], signal(1, "migration_start", 1_000, turn=False))
    other = run(BASE[2], signal(1, "migration_finish", 1_000, turn=False))
    found = compare_traces(trace_of(one), trace_of(other), 15)
    assert [each.class_ for each in found] == [AUTHORITY]


def lost(number: int, start: int, end: int, **fields: Any) -> Record:
    span = {"start": start, "end": end}
    return signal(number, "drop_notice", 1_000, edge_id="turn->presenter", seq_range=span, **fields)


def test_ml_003_a_drop_that_a_notice_names_is_told_apart_from_an_absence() -> None:
    lineage = lineage_of(run(lost(1, 3, 5), signal(2, "close", 2_000)))
    assert lineage["turn->presenter/4"] == LineageEntry(dropped=True)
    assert list(lineage) == [f"turn->presenter/{number}" for number in (3, 4, 5)]
    assert compare_lineage(lineage, lineage) == []
    without = {name: entry for name, entry in lineage.items() if name != "turn->presenter/4"}
    assert [(one.class_, one.scope) for one in compare_lineage(lineage, without)] == [
        (OUTCOME, "event:turn->presenter/4")
    ]
    handed_on = lineage | {"turn->presenter/4": LineageEntry()}
    assert [one.scope for one in compare_lineage(lineage, handed_on)] == ["event:turn->presenter/4"]


@pytest.mark.conformance("ML-002")
def test_ml_003_another_merge_group_and_events_of_the_replay_alone_are_outcome_divergences() -> None:
    recorded = {"a": LineageEntry(merge_group="g1"), "b": LineageEntry()}
    replayed = {"a": LineageEntry(merge_group="g2"), "b": LineageEntry(), "c": LineageEntry(dropped=True)}
    found = compare_lineage(recorded, replayed)
    assert [one.scope for one in found] == ["event:a", "event:c"]
    assert "merged into g1" in found[0].message
    assert "not in the recording" in found[1].message
