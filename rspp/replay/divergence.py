"""What may differ between a recording and its replay, and which differences fail a gate.

Sections 11.2 and 11.3 of the contracts: five classes, one policy. An expectation names class and scope
exactly and is used up by one divergence; one that nothing used is reported too, so that a fixture which
shall diverge cannot quietly stop doing so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DivergenceClass = Literal[
    "PLAN_DIVERGENCE",
    "OUTCOME_DIVERGENCE",
    "ORDERING_DIVERGENCE",
    "TIMING_DIVERGENCE",
    "AUTHORITY_DIVERGENCE",
]
PLAN: DivergenceClass = "PLAN_DIVERGENCE"
OUTCOME: DivergenceClass = "OUTCOME_DIVERGENCE"
ORDERING: DivergenceClass = "ORDERING_DIVERGENCE"
TIMING: DivergenceClass = "TIMING_DIVERGENCE"
AUTHORITY: DivergenceClass = "AUTHORITY_DIVERGENCE"
CLASSES: tuple[DivergenceClass, ...] = (PLAN, OUTCOME, ORDERING, TIMING, AUTHORITY)

LATENCY_FINAL = "invocation_latency_final"
LATENCY_TOTAL = "invocation_latency_total"
_SCOPE = re.compile(
    rf"trace|(?:turn|session|event|fixture):\S+|(?:{LATENCY_FINAL}|{LATENCY_TOTAL}):(?:turn|fixture):\S+"
)


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between a recording and its replay.

    Attributes:
        class_: one of ``CLASSES``; a text that is none of them is kept, and fails.
        scope: ``trace``, ``turn:<id>``, ``session:<id>``, ``event:<id>``, or
            ``invocation_latency_final:…`` and ``invocation_latency_total:…`` with a turn or fixture in it.
        message: what differs, for people.
        diff_ms: by how much, milliseconds; absent when it cannot be told.
        expected: whether the fixture's metadata declares it.
        index: number of the record in the recording, from 0; absent when it is about no single record.
        at_us: the record's time on the session's clock, microseconds.
        recorded: the record of the recording as JSON; empty when there is none.
        replayed: the record of the replay as JSON; empty when there is none.
    """

    class_: str = msgspec.field(name="class")
    scope: str
    message: str
    diff_ms: float | UnsetType = UNSET
    expected: bool | UnsetType = UNSET
    index: int | UnsetType = UNSET
    at_us: int | UnsetType = UNSET
    recorded: str = ""
    replayed: str = ""


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A divergence that a fixture declares.

    Attributes:
        class_: one of ``CLASSES``.
        scope: scope that it must have, exactly.
        approved: for ORDERING, that somebody looked at it and found it harmless.
    """

    class_: DivergenceClass = msgspec.field(name="class")
    scope: str
    approved: bool = False

    def __post_init__(self) -> None:
        if not is_scope(self.scope):
            raise ValueError(f"scope {self.scope!r} is none: trace, turn:ID, session:ID, event:ID, …")

    @property
    def key(self) -> str:
        """How reports name it: ``CLASS scope``."""
        return f"{self.class_} {self.scope}"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy says of one replay.

    Attributes:
        divergences: all of them in order, each with ``expected`` told.
        failing: those that fail the gate.
        unexplained: how many of the failing ones nobody declared, where declaring would have helped.
        missing_expected: declared and not seen, sorted, as ``CLASS scope``.
    """

    divergences: tuple[Divergence, ...]
    failing: tuple[Divergence, ...]
    unexplained: int
    missing_expected: tuple[str, ...]

    @property
    def failing_count(self) -> int:
        """Failing divergences and expectations that nothing met."""
        return len(self.failing) + len(self.missing_expected)

    @property
    def by_class(self) -> dict[str, int]:
        """Divergences of each class, all five named; others under their own name."""
        return count_by_class(self.divergences)

    @property
    def failing_classes(self) -> list[str]:
        """Failing classes, sorted, each once; ``MISSING_EXPECTED`` stands for what was not seen."""
        classes = {divergence.class_ for divergence in self.failing}
        return sorted(classes | ({"MISSING_EXPECTED"} if self.missing_expected else set()))


def is_scope(text: str) -> bool:
    """Tell whether ``text`` is a scope of section 11.2."""
    return _SCOPE.fullmatch(text) is not None


def is_latency_scope(scope: str) -> bool:
    """Tell whether a scope belongs to the thresholds of invocation latency."""
    return scope.startswith((f"{LATENCY_FINAL}:", f"{LATENCY_TOTAL}:"))


def judge(
    divergences: Iterable[Divergence], expectations: Sequence[Expectation], tolerance_ms: float
) -> Judgement:
    """Apply the fail policy of section 11.3.

    Args:
        divergences: what differs.
        expectations: what the metadata declares; each is used up by one divergence.
        tolerance_ms: timing difference that is allowed; a negative one counts as 0.
    """
    allowed_ms = max(0.0, tolerance_ms)
    left = list(expectations)
    judged: list[Divergence] = []
    failing: list[Divergence] = []
    unexplained = 0
    for divergence in divergences:
        expectation = _take(left, divergence)
        told = msgspec.structs.replace(divergence, expected=expectation is not None)
        judged.append(told)
        if _fails(told, expectation, allowed_ms):
            failing.append(told)
            unexplained += expectation is None and divergence.class_ in (PLAN, OUTCOME, ORDERING)
    return Judgement(
        divergences=tuple(judged),
        failing=tuple(failing),
        unexplained=unexplained,
        missing_expected=tuple(sorted(expectation.key for expectation in left)),
    )


def count_by_class(divergences: Iterable[Divergence]) -> dict[str, int]:
    """Count divergences by class; the five classes come first and are always there."""
    counts: dict[str, int] = dict.fromkeys(CLASSES, 0)
    for divergence in divergences:
        counts[divergence.class_] = counts.get(divergence.class_, 0) + 1
    return counts


def sum_by_class(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add counts by class up."""
    total: dict[str, int] = dict.fromkeys(CLASSES, 0)
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return total


def _take(left: list[Expectation], divergence: Divergence) -> Expectation | None:
    for position, expectation in enumerate(left):
        if (expectation.class_, expectation.scope) == (divergence.class_, divergence.scope):
            return left.pop(position)
    return None


def _fails(divergence: Divergence, expectation: Expectation | None, allowed_ms: float) -> bool:
    match divergence.class_:
        case "PLAN_DIVERGENCE" | "OUTCOME_DIVERGENCE":
            return expectation is None
        case "ORDERING_DIVERGENCE":
            return expectation is None or not expectation.approved
        case "TIMING_DIVERGENCE":
            late = divergence.diff_ms is UNSET or divergence.diff_ms > allowed_ms
            return late or is_latency_scope(divergence.scope)
    # AUTHORITY can be declared but never excused, and a class nobody knows is judged the same way.
    return True
