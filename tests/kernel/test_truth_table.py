"""Every row of the truth table and every assertion of the contracts, by its id, through the binding."""

from __future__ import annotations

from typing import Any

import pytest

from rspp import _kernel
from rspp._kernel import (
    Attempt,
    CancelInvocation,
    OpenTurn,
    ProviderPolicy,
    RefuseIntent,
    SessionKernel,
    TurnPolicy,
)
from tests.kernel.fake_shell import FakeShell, make_plan

START_US = 10_000_000
LEASE_US = 4_000_000
LIFECYCLE = {"turn_open", "commit", "abort", "close"}
OPENING = ["turn_open_proposed", "admit", "turn_open"]


class FakeCall:
    """A kernel told one input a millisecond."""

    def __init__(
        self, *, lease: bool = True, graph: str = "graph/voice", capacity: int = 4096, **policy: Any
    ) -> None:
        self.now_us = START_US
        self.kernel = SessionKernel(
            session_id="a/b",
            policy=TurnPolicy(failure_notice=False, **policy),
            plan=make_plan(graph=graph),
            now_us=START_US,
            wall_clock_ms=1_700_000_000_000,
            evidence_capacity=capacity,
            providers=ProviderPolicy(candidates=[("llm", "one"), ("llm", "two"), ("tts", "voice")]),
        )
        if lease:
            self.kernel.lease(self.now_us, 3, START_US + LEASE_US)
        self.records()

    def tell(self, name: str, *arguments: object, **named: object) -> Any:
        self.now_us += 1_000
        return getattr(self.kernel, name)(self.now_us, *arguments, **named)

    def open(self) -> FakeCall:
        assert isinstance(self.tell("text_message", 1)[0], OpenTurn)
        self.records()
        return self

    def records(self) -> list[dict[str, Any]]:
        shell = FakeShell.__new__(FakeShell)
        shell.kernel = self.kernel
        return shell.evidence()


def signals(records: list[dict[str, Any]]) -> list[str]:
    return [record["event"]["signal"] for record in records if record["kind"] == "signal"]


def reason(records: list[dict[str, Any]], signal: str) -> str:
    events = [record["event"] for record in records if record["kind"] == "signal"]
    return str(next(event["reason"] for event in events if event["signal"] == signal))


def decision(records: list[dict[str, Any]]) -> tuple[str, str, str]:
    made = next(record["decision"] for record in records if record["kind"] == "decision")
    assert made["scope"] != "turn" or made["turn_id"], "A7"
    return made["outcome_kind"], made["phase"], made["scope"]


def moves(records: list[dict[str, Any]]) -> list[str]:
    return [record["trigger"] for record in records if record["kind"] == "transition"]


def test_t1_an_intent_makes_a_candidate() -> None:
    call = FakeCall()
    call.tell("text_message", 1)
    records = call.records()
    assert (signals(records)[0], moves(records)[0]) == ("turn_open_proposed", "turn_open_proposed")


def test_t2_a_busy_session_that_may_not_be_preempted_defers() -> None:
    call = FakeCall(overlap="defer").open()
    (refused,) = call.tell("text_message", 2)
    assert isinstance(refused, RefuseIntent)
    assert (refused.outcome, refused.reason) == ("defer", "admission_capacity_defer")
    assert call.kernel.turn == 1
    assert not LIFECYCLE & set(signals(call.records()))


@pytest.mark.parametrize(
    ("prepare", "outcome", "why"),
    [
        pytest.param("stale", "stale_epoch_reject", "authority_epoch_mismatch", id="T3-A8-AE-001"),
        pytest.param("revoked", "deauthorized_drain", "authority_revoked_before_open", id="T4-AE-005"),
        pytest.param("plan", "reject", "plan_materialization_failed", id="T5a-A11"),
        pytest.param("full", "reject", "recording_evidence_unavailable", id="T2-full"),
    ],
)
def test_a3_what_fails_before_the_turn_never_ends_one(prepare: str, outcome: str, why: str) -> None:
    call = FakeCall(
        lease=prepare != "revoked", graph="" if prepare == "plan" else "graph/voice", capacity=256
    )
    if prepare == "stale":
        call.tell("routing_view", 4)
    if prepare == "full":
        for _ in range(110):
            call.tell("cancel", "stop")
    else:
        call.records()
    call.tell("text_message", 1)
    records = call.records()
    assert decision(records) == (outcome, "pre_turn", "turn")
    assert reason(records, outcome) == why
    assert moves(records) == ["turn_open_proposed", outcome]
    assert not LIFECYCLE & set(signals(records))
    assert call.kernel.turn == 0


def test_t5_a4_a_turn_opens_under_a_lease_and_a_frozen_plan() -> None:
    call = FakeCall()
    (opened, _) = call.tell("text_message", 1)
    records = call.records()
    assert signals(records) == OPENING
    frozen = next(record for record in records if record.get("name") == "plan_frozen")
    assert (opened.epoch, opened.plan_hash) == (3, frozen["plan_hash"])


@pytest.mark.parametrize(
    ("cause", "ends"),
    [
        pytest.param(("generation_finished", 1), ["commit", "close"], id="T6"),
        pytest.param(("cancel", "cancel"), ["cancel", "abort", "close"], id="T7-CF-001"),
        pytest.param(
            ("lease_lost", "lease_deauthorized"), ["deauthorized_drain", "abort", "close"], id="T8-A6-AE-002"
        ),
        pytest.param(("generation_failed", 1, "provider_timeout"), ["abort", "close"], id="T10"),
        pytest.param(("connection", "disconnected", ""), ["disconnected", "abort", "close"], id="T10-F6"),
    ],
)
def test_a1_a2_a_running_turn_ends_once_and_closes(cause: tuple[Any, ...], ends: list[str]) -> None:
    call = FakeCall().open()
    call.tell(*cause)
    for late in (cause, ("generation_finished", 1), ("generation_failed", 1, "x"), ("cancel", "stop")):
        call.tell(*late)
    found = [signal for signal in signals(call.records()) if signal in {*ends, *LIFECYCLE}]
    assert found[: len(ends)] == ends
    assert found.count("close") == 1
    assert found.count("abort") + found.count("commit") == 1
    assert call.tell("frame", 1, 3, 0, 480) != _kernel.PASS


def test_t9_a_full_recorder_ends_the_turn() -> None:
    call = FakeCall(capacity=256).open()
    while call.kernel.turn:
        call.tell("connection", "silence", "")
    records = call.records()
    assert reason(records, "abort") == "recording_evidence_unavailable"
    assert "close" in signals(records)


def test_a10_a_revoke_wins_over_a_cancel_at_the_same_point() -> None:
    call = FakeCall().open()
    call.now_us = START_US + LEASE_US - 1_000
    call.tell("cancel", "stop")
    assert reason(call.records(), "abort") == "authority_loss"


@pytest.mark.parametrize("action", ["drop", "diagnostics", "remap"])
def test_t11_a9_a_late_event_opens_nothing_again(action: str) -> None:
    call = FakeCall(late_event=action, late_grace_ms=500).open()
    call.tell("generation_finished", 1)
    call.records()
    call.tell("generation_finished", 1)
    names = [record["name"] for record in call.records() if record["kind"] == "marker"]
    assert names == (["late_event", "late_by_us"] if action == "diagnostics" else ["late_event"])
    assert call.kernel.turn == 0


def test_t12_a5_a6_a8_ae_003_stale_output_and_events_are_refused_and_move_nothing() -> None:
    call = FakeCall().open()
    assert call.tell("frame", 1, 2, 0, 480) == _kernel.STALE_EPOCH
    assert call.tell("ingress", 2) == ("stale", 3)
    records = call.records()
    made = [record["decision"] for record in records if record["kind"] == "decision"]
    assert [(each["phase"], each["scope"]) for each in made] == [
        ("scheduling_point", "node_dispatch"),
        ("scheduling_point", "edge_enqueue"),
    ]
    assert moves(records) == []
    assert (call.kernel.stale_frames, call.kernel.stale_events) == (1, 1)
    assert call.tell("frame", 1, 3, 1, 480) == _kernel.PASS


def test_ae_004_enrichment_is_not_validation() -> None:
    call = FakeCall()
    verdicts = [call.tell("ingress", epoch) for epoch in (None, 3, 4, -1)]
    assert verdicts == [("enriched", 3), ("accepted", 3), ("refresh", 3), ("invalid", 3)]
    call.tell("routing_view", 4)
    assert [call.tell("ingress", epoch) for epoch in (None, 4, 3)] == [("stale", 4)] * 3


def test_f8_a_migration_tells_its_steps_in_order_and_refuses_others() -> None:
    call = FakeCall().open()
    for step in ("started", "rotated", "finished", "started"):
        call.tell("migration", step, 4)
    assert [signal for signal in signals(call.records()) if signal != "turn_open_proposed"] == [
        "lease_rotated",
        "migration_start",
        "deauthorized_drain",
        "abort",
        "close",
    ]
    with pytest.raises(ValueError, match="nowhere"):
        call.tell("migration", "nowhere", 4)


def test_an_invocation_through_the_binding() -> None:
    call = FakeCall().open()
    attempt = call.tell("invoke", 1, "llm")
    assert isinstance(attempt, Attempt)
    assert (attempt.candidate, attempt.attempt, attempt.limit_us) == (0, 1, 1_500_000)
    again = call.tell("attempt_finished", attempt.invocation, "infrastructure_failure", retryable=True)
    assert (again.candidate, again.attempt, again.wait_us) == (0, 2, 100_000)
    (stopped,) = call.tell("cancel_within", "node", 1)
    assert isinstance(stopped, CancelInvocation)
    assert stopped.invocation == 1
    assert call.tell("output_handed_on", 1) is False
    assert call.tell("attempt_finished", 1, "success") is None
    markers = {record["name"]: record["value"] for record in call.records() if record["kind"] == "marker"}
    assert markers["late_provider_output_dropped_count"] == 1
    assert {"cancel_sent_at", "cancel_ack_at"} <= markers.keys()
    assert call.tell("invoke", 9, "llm") == "cancel_requested_before_invoke"
    assert call.tell("invoke", 0, "stt") == "provider_endpoint_missing"


def test_the_http_table_and_wrong_arguments_through_the_binding() -> None:
    assert _kernel.http_outcome(429, 3) == ("overload", "provider_overload", True, True, 3000)
    assert _kernel.http_outcome(503) == ("infrastructure_failure", "provider_server_error", True, True, 100)
    assert _kernel.http_outcome(403)[:3] == ("blocked", "provider_auth_or_policy_block", False)
    assert _kernel.http_outcome(204)[0] == "success"
    for wrong in (
        {"max_attempts": 3},
        {"max_candidates": 6},
        {"attempt_ms": 0},
        {"adaptive_actions": ["guess"]},
    ):
        with pytest.raises(ValueError, match="choose"):
            ProviderPolicy(candidates=[("llm", "one")], **wrong)
    for field in ("overlap", "late_event"):
        with pytest.raises(ValueError, match=field):
            TurnPolicy(**{field: "perhaps"})  # type: ignore[arg-type]
