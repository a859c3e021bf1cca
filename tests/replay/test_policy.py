"""The fail policy: which differences between a recording and its replay fail a gate."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from rspp.replay.divergence import (
    AUTHORITY,
    CLASSES,
    ORDERING,
    OUTCOME,
    PLAN,
    TIMING,
    Divergence,
    Expectation,
    is_scope,
    judge,
)

SCOPE = "turn:turn-1-1"


def divergence(class_: str, scope: str = SCOPE, diff_ms: float | None = None) -> Divergence:
    return Divergence(
        class_=class_, scope=scope, message="differs", diff_ms=UNSET if diff_ms is None else diff_ms
    )


def expectation(class_: Any, scope: str = SCOPE, *, approved: bool = False) -> Expectation:
    return Expectation(class_=class_, scope=scope, approved=approved)


@pytest.mark.parametrize(
    ("found", "expected", "fails", "unexplained"),
    [
        (divergence(PLAN), None, True, 1),
        (divergence(PLAN), expectation(PLAN), False, 0),
        (divergence(OUTCOME), None, True, 1),
        (divergence(OUTCOME), expectation(OUTCOME), False, 0),
        (divergence(AUTHORITY), None, True, 0),
        (divergence(AUTHORITY), expectation(AUTHORITY, approved=True), True, 0),
        (divergence(ORDERING), None, True, 1),
        (divergence(ORDERING), expectation(ORDERING), True, 0),
        (divergence(ORDERING), expectation(ORDERING, approved=True), False, 0),
        (divergence(TIMING), None, True, 0),
        (divergence(TIMING, diff_ms=15.0), None, False, 0),
        (divergence(TIMING, diff_ms=15.1), None, True, 0),
        (divergence(TIMING, diff_ms=15.1), expectation(TIMING), True, 0),
        (divergence(TIMING, f"invocation_latency_final:{SCOPE}", 1.0), None, True, 0),
        (divergence(TIMING, f"invocation_latency_total:{SCOPE}", 0.0), None, True, 0),
        (divergence("NEW_DIVERGENCE"), None, True, 0),
    ],
)
@pytest.mark.conformance("RD-001", "RD-002", "RD-004")
def test_the_policy_row_by_row(
    found: Divergence, expected: Expectation | None, *, fails: bool, unexplained: int
) -> None:
    judged = judge([found], [expected] if expected else [], 15)
    assert bool(judged.failing) is fails
    assert judged.failing_count == fails
    assert judged.unexplained == unexplained
    assert judged.missing_expected == ()
    assert judged.divergences[0].expected is (expected is not None)


def test_g_22_what_was_expected_and_not_seen_fails_in_a_fixed_order() -> None:
    expected = [
        expectation(PLAN, "turn:b"),
        expectation(OUTCOME, "event:z"),
        expectation(PLAN, "turn:a"),
        expectation(OUTCOME, "event:a"),
    ]
    judged = judge([], expected, 15)
    assert judged.missing_expected == (
        "OUTCOME_DIVERGENCE event:a",
        "OUTCOME_DIVERGENCE event:z",
        "PLAN_DIVERGENCE turn:a",
        "PLAN_DIVERGENCE turn:b",
    )
    assert judged.failing_count == 4
    assert judged.failing_classes == ["MISSING_EXPECTED"]
    assert judge([], expected[::-1], 15).missing_expected == judged.missing_expected


def test_one_expectation_is_used_up_by_one_divergence() -> None:
    judged = judge([divergence(PLAN), divergence(PLAN)], [expectation(PLAN)], 15)
    assert [one.expected for one in judged.divergences] == [True, False]
    assert judged.failing_count == 1
    assert judge([divergence(PLAN)] * 2, [expectation(PLAN)] * 2, 15).failing_count == 0


@pytest.mark.parametrize(
    ("found", "declared"),
    [
        (divergence(PLAN, "turn:turn-1-2"), expectation(PLAN)),
        (divergence(PLAN, "session:turn-1-1"), expectation(PLAN)),
        (divergence(OUTCOME), expectation(PLAN)),
    ],
)
def test_class_and_scope_must_both_be_the_declared_ones(found: Divergence, declared: Expectation) -> None:
    judged = judge([found], [declared], 15)
    assert judged.unexplained == 1
    assert len(judged.missing_expected) == 1
    assert judged.failing_count == 2


def test_a_negative_tolerance_is_none() -> None:
    assert judge([divergence(TIMING, diff_ms=0.0)], [], -5).failing_count == 0
    assert judge([divergence(TIMING, diff_ms=0.5)], [], -5).failing_count == 1


def test_every_class_is_counted_by_name_even_where_there_is_none() -> None:
    judged = judge([divergence(PLAN), divergence("NEW_DIVERGENCE")], [], 15)
    assert judged.by_class == dict.fromkeys(CLASSES, 0) | {PLAN: 1, "NEW_DIVERGENCE": 1}
    assert judge([], [], 15).by_class == dict.fromkeys(CLASSES, 0)


@pytest.mark.parametrize(
    ("scope", "valid"),
    [
        ("trace", True),
        ("turn:turn-1-1", True),
        ("session:call", True),
        ("event:evt/call/1/1/000001", True),
        ("invocation_latency_final:turn:turn-1-1", True),
        ("invocation_latency_total:fixture:rd-x", True),
        ("turn:", False),
        ("turn", False),
        ("invocation_latency_final:trace", False),
        ("node:stt", False),
    ],
)
def test_scopes_have_the_forms_of_the_contract(scope: str, *, valid: bool) -> None:
    assert is_scope(scope) is valid
    if not valid:
        with pytest.raises(ValueError, match="scope"):
            expectation(PLAN, scope)


def test_an_expectation_of_no_class_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="class"):
        msgspec.convert({"class": "PLAN", "scope": "trace"}, Expectation)
