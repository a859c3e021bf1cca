"""Two runs of a call beside each other, turn by turn: which turns would have gone differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rspp.contracts.media import MAX_QUEUED_MS, OUTPUT_RATE_HZ

if TYPE_CHECKING:
    from rspp.replay.trace import Trace, TurnTrace

TOLERANCE_MS = 15
"""Times that differ by no more are the same: the tolerance of section 11.4 of the contracts."""

NODE_TOLERANCE_MS = 250
"""The same when the nodes run again: virtual time knows no provider latency, and the embedded providers
take up to 200 ms of the real one."""


class TurnSide(msgspec.Struct, frozen=True, kw_only=True):
    """One turn in one of the two runs; times in milliseconds.

    Attributes:
        number: of the turn in that run.
        intent: why it opened.
        opened_ms: from the beginning of the stint.
        first_output_ms: from its opening to its first frame, none when it never spoke.
        outcome: ``commit``, ``abort`` or empty when it never ended.
        reason: why it was aborted.
        heard_ms: speech that passed the gate.
        holds: how often its voice was held.
    """

    number: int
    intent: str
    opened_ms: int
    first_output_ms: int | None
    outcome: str
    reason: str
    heard_ms: int
    holds: int


class TurnChange(msgspec.Struct, frozen=True, kw_only=True):
    """One turn in both runs.

    Attributes:
        recorded: as it was; none for a turn that only the other run has.
        replayed: as it would have been; none for a turn that did not come about.
        changes: what differs, in words; empty when nothing does.
        assumptions: what the recording does not know about it.
    """

    recorded: TurnSide | None
    replayed: TurnSide | None
    changes: tuple[str, ...]
    assumptions: tuple[str, ...] = ()


def compare_turns(
    recorded: Trace, replayed: Trace, created_us: int, tolerance_ms: float = TOLERANCE_MS
) -> tuple[TurnChange, ...]:
    """Set the turns of a replay beside the recorded ones, in the order in which they opened.

    Args:
        recorded: the call as it was.
        replayed: the other run; its turns name their counterparts.
        created_us: when the stint began.
        tolerance_ms: times that differ by no more are the same; what was heard may differ by what lies
            behind the gate.
    """
    met = {turn.counterpart: turn for turn in replayed.turns.values() if turn.counterpart}
    pairs: list[tuple[int, TurnTrace | None, TurnTrace | None]] = [
        (turn.opened_us, turn, met.get(turn.number)) for turn in recorded.turns.values()
    ]
    pairs += [(turn.opened_us, None, turn) for turn in replayed.turns.values() if not turn.counterpart]
    pairs.sort(key=lambda pair: pair[0])
    return tuple(
        TurnChange(
            recorded=_side(before, created_us),
            replayed=_side(after, created_us),
            changes=_changes(before, after, tolerance_ms),
            assumptions=tuple(after.assumptions) if after is not None else (),
        )
        for _, before, after in pairs
    )


def _side(turn: TurnTrace | None, created_us: int) -> TurnSide | None:
    if turn is None:
        return None
    return TurnSide(
        number=turn.number,
        intent=turn.intent,
        opened_ms=(turn.opened_us - created_us) // 1000,
        first_output_ms=(turn.first_output_us - turn.opened_us) // 1000
        if turn.first_output_us >= 0
        else None,
        outcome=turn.outcome,
        reason=turn.reason,
        heard_ms=turn.samples * 1000 // OUTPUT_RATE_HZ,
        holds=turn.holds,
    )


def _changes(before: TurnTrace | None, after: TurnTrace | None, tolerance_ms: float) -> tuple[str, ...]:
    if before is None:
        return ("a turn that the call did not have",)
    if after is None:
        return ("it would not have opened",)
    found = []
    if not before.outcome:
        # The recording ends before the turn does: only its beginning can be compared.
        return tuple(_moved("opens", before.opened_us, after.opened_us, tolerance_ms))
    if _ending(before) != _ending(after):
        found.append(f"{_ending(before)} → {_ending(after)}")
    found += _moved("opens", before.opened_us, after.opened_us, tolerance_ms)
    if (before.first_output_us < 0) != (after.first_output_us < 0):
        found.append("is not heard" if after.first_output_us < 0 else "is heard")
    elif before.first_output_us >= 0:
        found += _moved(
            "speaks",
            before.first_output_us - before.opened_us,
            after.first_output_us - after.opened_us,
            tolerance_ms,
        )
    heard = [turn.samples * 1_000_000 // OUTPUT_RATE_HZ for turn in (before, after)]
    if abs(heard[1] - heard[0]) > MAX_QUEUED_MS * 1000:
        found.append(f"heard {heard[0] / 1e6:.2f} s → {heard[1] / 1e6:.2f} s")
    if before.outcome == after.outcome == "commit":
        lasted = [turn.closed_us - turn.opened_us for turn in (before, after)]
        found += _moved("ends", lasted[0], lasted[1], max(tolerance_ms, MAX_QUEUED_MS))
    if before.holds != after.holds:
        found.append(f"held {before.holds} → {after.holds} times")
    return tuple(found)


def _ending(turn: TurnTrace) -> str:
    return f"{turn.outcome}({turn.reason})" if turn.reason else turn.outcome or "open"


def _moved(what: str, before_us: int, after_us: int, tolerance_ms: float) -> list[str]:
    late_ms = (after_us - before_us) / 1000
    if abs(late_ms) <= tolerance_ms:
        return []
    return [f"{what} {abs(late_ms):.0f} ms {'later' if late_ms > 0 else 'earlier'}"]


def changed(changes: tuple[TurnChange, ...]) -> list[TurnChange]:
    """Return those that differ."""
    return [change for change in changes if change.changes]


def as_documents(changes: tuple[TurnChange, ...]) -> list[dict[str, Any]]:
    """As JSON has them."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(changes)
    return plain
