"""Compares two recorded runs of a call, entry by entry (section 11.2 of the contracts).

Re-simulation compares within the kernel; this is for two runs that were both recorded, such as the same
call held again with something changed around it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from rspp.evidence.bound_plan import INPUT, BoundPlan
from rspp.replay.divergence import AUTHORITY, ORDERING, OUTCOME, PLAN, TIMING, Divergence, DivergenceClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MIGRATION = ("lease_rotated", "migration_start", "migration_finish", "session_handoff")
_TIMES = ("runtime_timestamp_ms", "wall_clock_timestamp_ms")
_PLACES = ("event_id",)
"""Fields of a decision that repeat its place in the order, which is compared by itself."""


class TraceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One control event of a run: everything about it that a replay must give again.

    Attributes:
        scope: ``turn:<id>`` or ``session:<id>``.
        what: name of the signal or outcome.
        outcome: what was decided, without times and places, as canonical JSON.
        plan_hash: hash of the turn's frozen plan; empty outside a turn.
        provenance: the snapshots that the plan came from, as canonical JSON.
        ordering: runtime sequence and event id.
        epoch: authority epoch; -1 where the entry has none.
        at_us: when, microseconds after the run's first entry.
        record: the record as JSON.
    """

    scope: str
    what: str
    outcome: str
    plan_hash: str = ""
    provenance: str = ""
    ordering: str = ""
    epoch: int = -1
    at_us: int = 0
    record: str = ""


def trace_of(
    records: Iterable[Mapping[str, Any]], headers: Sequence[Mapping[str, Any]] = ()
) -> list[TraceEntry]:
    """Return the control events of a run in order: signals and decisions.

    Args:
        records: the record dicts of a recording in order.
        headers: the whole headers of its stints in order, where the records have short ones.
    """
    whole = iter(headers)
    trace: list[TraceEntry] = []
    plans: dict[int, tuple[str, str]] = {}
    bound, provenance = BoundPlan({}), ""
    start_us = -1
    for record in records:
        kind = record.get("kind")
        if kind == "header":
            plans, bound = {}, BoundPlan(next(whole, record))
            provenance = _provenance(bound)
        if kind == "input" and record["name"] == INPUT:
            bound.take(record)
            provenance = _provenance(bound)
        if kind == "marker" and "plan_hash" in record:
            plans[record["turn"]] = (record["plan_hash"], provenance)
        if kind not in ("signal", "decision"):
            continue
        body: Mapping[str, Any] = record["event" if kind == "signal" else "decision"]
        start_us = record["at_us"] if start_us < 0 else start_us
        turn_id = body.get("turn_id", "")
        number = int(turn_id.rpartition("-")[2]) if turn_id else 0
        own = {
            name: value
            for name, value in body.items()
            if name not in (*_TIMES, *_PLACES, "runtime_sequence", "authority_epoch")
        }
        plan_hash, frozen = plans.get(number, ("", provenance))
        place = f"{body['runtime_sequence']:06} {body['event_id']}" if kind == "signal" else body["event_id"]
        trace.append(
            TraceEntry(
                scope=f"turn:{turn_id}" if turn_id else f"session:{body['session_id']}",
                what=body["signal"] if kind == "signal" else body["outcome_kind"],
                outcome=_canonical(own),
                plan_hash=plan_hash,
                provenance=frozen if number else "",
                ordering=place,
                epoch=body.get("authority_epoch", -1),
                at_us=record["at_us"] - start_us,
                record=_canonical(record),
            )
        )
    return trace


def compare_traces(
    recorded: Sequence[TraceEntry], replayed: Sequence[TraceEntry], tolerance_ms: float
) -> list[Divergence]:
    """Compare two runs position by position.

    Args:
        recorded: entries of the recording.
        replayed: entries of the replay.
        tolerance_ms: timing difference that is no divergence; a negative one counts as 0.
    """
    found: list[Divergence] = []
    for index, (old, new) in enumerate(zip(recorded, replayed, strict=False)):
        found += _compare(index, old, new, max(0.0, tolerance_ms))
    if len(recorded) != len(replayed):
        message = f"{len(recorded)} control events in the recording, {len(replayed)} in the replay"
        found.append(Divergence(class_=OUTCOME, scope="trace", message=message))
    return _ordered(found, recorded, replayed)


def _compare(index: int, old: TraceEntry, new: TraceEntry, tolerance_ms: float) -> list[Divergence]:
    found: list[Divergence] = []

    def differs(class_: DivergenceClass, what: str, before: object, after: object) -> None:
        message = f"{old.what}: {what} was {before}, is {after}"
        found.append(_divergence(class_, index, old, new, message))

    if old.plan_hash != new.plan_hash:
        differs(PLAN, "plan hash", old.plan_hash, new.plan_hash)
    if old.provenance != new.provenance:
        differs(PLAN, "provenance of the plan", old.provenance, new.provenance)
    if old.outcome != new.outcome:
        class_ = AUTHORITY if {old.what, new.what} & set(MIGRATION) else OUTCOME
        differs(class_, "outcome", old.outcome, new.outcome)
    elif old.ordering != new.ordering:
        differs(ORDERING, "place in the order", old.ordering, new.ordering)
    if old.epoch != new.epoch:
        differs(AUTHORITY, "epoch", old.epoch, new.epoch)
    late_ms = abs(new.at_us - old.at_us) / 1000
    if late_ms > tolerance_ms:
        message = f"{old.what}: {late_ms:g} ms apart, {tolerance_ms:g} ms are allowed"
        late = _divergence(TIMING, index, old, new, message)
        found.append(msgspec.structs.replace(late, diff_ms=late_ms))
    return found


def _divergence(
    class_: DivergenceClass, index: int, old: TraceEntry, new: TraceEntry, message: str
) -> Divergence:
    return Divergence(
        class_=class_,
        scope=old.scope,
        message=message,
        index=index,
        at_us=old.at_us,
        recorded=old.record,
        replayed=new.record,
    )


def _ordered(
    found: list[Divergence], recorded: Sequence[TraceEntry], replayed: Sequence[TraceEntry]
) -> list[Divergence]:
    """Call it ORDERING where both runs hold the same outcomes of a scope in another order."""
    result: list[Divergence] = []
    swapped: set[str] = set()
    for divergence in found:
        same = divergence.class_ == OUTCOME and _same_outcomes(divergence.scope, recorded, replayed)
        if not same:
            result.append(divergence)
        elif divergence.scope not in swapped:
            # One swap moves two entries; it is one divergence of the scope.
            swapped.add(divergence.scope)
            message = f"the same outcomes in another order, from position {divergence.index} on"
            result.append(msgspec.structs.replace(divergence, class_=ORDERING, message=message))
    return result


def _same_outcomes(scope: str, recorded: Sequence[TraceEntry], replayed: Sequence[TraceEntry]) -> bool:
    if scope == "trace":
        return False
    old, new = (
        sorted(entry.outcome for entry in run if entry.scope == scope) for run in (recorded, replayed)
    )
    return old == new


def _provenance(bound: BoundPlan) -> str:
    return _canonical(bound.provenance) if bound.template else ""


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
