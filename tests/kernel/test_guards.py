"""Bounds and silences of the kernel that nothing else would miss: what it must not do, or do only once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rspp._kernel import (
    CloseTurn,
    EdgeBuffer,
    PlanTemplate,
    ProviderPolicy,
    RefuseIntent,
    SessionKernel,
    TurnPolicy,
)

MS = 1_000
LEASE_US = 60_000 * MS
REMEMBERED = 256
"""Ids that the kernel remembers, so that an event which comes again is known."""


class Call:
    """A kernel with a clock."""

    def __init__(self, *, leased: bool = True, capacity: int = 4096, **policy: Any) -> None:
        self.now_us = 1_000_000
        self.kernel = SessionKernel(
            session_id="call",
            policy=TurnPolicy(**{"failure_notice": False, **policy}),
            plan=PlanTemplate(
                pipeline_version="shop@v1",
                graph_definition_ref="graph/voice",
                execution_profile="simple",
                policy_json="{}",
            ),
            now_us=self.now_us,
            wall_clock_ms=0,
            evidence_capacity=capacity,
            providers=ProviderPolicy(candidates=[("stt", "ears"), ("stt", "spare"), ("llm", "writer")]),
        )
        self.media_sample = 0
        if leased:
            self.kernel.lease(self.now_us, 3, self.now_us + LEASE_US)

    def later(self, ms: int = 1) -> int:
        self.now_us += ms * MS
        return self.now_us

    def text(self, reference: int = 1) -> Any:
        return self.kernel.text_message(self.later(), reference)

    def windows(self, permille: int, count: int) -> list[Any]:
        effects: list[Any] = []
        for _ in range(count):
            self.media_sample += 512
            effects += self.kernel.voice_activity(self.later(32), self.media_sample, permille)
        return effects

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.kernel.drain_evidence(100_000)]

    def signals(self) -> list[dict[str, Any]]:
        return [record["event"] for record in self.records() if record["kind"] == "signal"]

    def markers(self) -> list[str]:
        return [record["name"] for record in self.records() if record["kind"] == "marker"]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["signal"] for event in events]


def test_as_many_ids_of_events_are_remembered_as_have_room_and_no_more() -> None:
    call = Call()
    for number in range(REMEMBERED + 1):
        assert call.kernel.arrive(call.later(), f"event {number}", 1) == ""
    assert call.kernel.arrive(call.later(), "event 1", 1) == "abi_duplicate_event"
    assert call.kernel.arrive(call.later(), "event 0", 1) == ""


def test_a_flood_of_stale_events_is_told_once_a_turn_and_counted() -> None:
    call = Call()
    call.text()
    call.records()
    for number in range(5):
        assert call.kernel.arrive(call.later(), f"event {number}", 1, 2) == "authority_epoch_mismatch"
    assert names(call.signals()) == ["stale_epoch_reject"]
    assert call.kernel.stale_events == 5
    call.kernel.generation_finished(call.later(), 1)
    call.text(2)
    call.records()
    call.kernel.arrive(call.later(), "event 9", 1, 2)
    assert names(call.signals()) == ["stale_epoch_reject"]


def say(call: Call, outcome: str) -> None:
    """Let admission say what it says at turn start."""
    call.kernel.admission(
        call.later(),
        point="turn_start",
        outcome=outcome,
        reason="admission_capacity_allow" if outcome == "admit" else f"admission_capacity_{outcome}",
        snapshot="admission/1",
        fairness_key="call",
        in_use=1,
        places=1,
        key_in_use=1,
        key_share=1,
        claim_us=10_000 * MS,
    )


def test_what_was_deferred_waits_until_the_caller_stops_speaking() -> None:
    call = Call()
    say(call, "defer")
    assert isinstance(call.text()[-1], RefuseIntent)
    call.windows(900, 4)
    say(call, "admit")
    call.windows(900, 10)
    assert call.kernel.turn == 0
    call.windows(10, 2)
    # The utterance is still open, but nobody speaks.
    call.kernel.tick(call.later(100))
    assert call.kernel.turn == 2


def test_a_notice_that_is_owed_is_forgotten_when_something_else_was_answered() -> None:
    call = Call(failure_notice=True)
    say(call, "reject")
    call.text()
    say(call, "admit")
    call.text(2)
    opened = call.kernel.turn
    assert opened
    call.kernel.tick(call.later(150))
    assert call.kernel.turn == opened
    call.kernel.generation_finished(call.later(), opened)
    call.kernel.tick(call.later(500))
    assert call.kernel.turn == 0


def drained() -> Call:
    call = Call()
    call.text()
    call.kernel.lease_lost(call.later(), "lease_deauthorized")
    call.records()
    return call


def edge_with_one_place() -> EdgeBuffer[int]:
    return EdgeBuffer(
        edge_id="tts->playout",
        strategy="drop",
        max_items=1,
        max_ms=100,
        max_bytes=100,
        high_items=1,
        low_items=0,
    )


def test_a_drained_session_says_no_more_of_levels_and_edges() -> None:
    call = drained()
    call.kernel.level_lowered(call.later(), "operator_request")
    edge = edge_with_one_place()
    assert [edge.put(number, 1, 1, 1) for number in range(2)] == [True, False]
    call.kernel.edge_decisions(call.later(), edge)
    assert call.signals() == []


def test_a_drained_session_lets_nothing_in() -> None:
    call = drained()
    assert call.kernel.ingress(call.later(), None)[0] == "stale"
    assert call.kernel.ingress(call.later(), 3)[0] == "stale"
    assert call.kernel.arrive(call.later(), "event", 1) == "authority_epoch_mismatch"


def test_an_edge_that_tells_after_its_turn_keeps_the_turns_id_in_session_scope() -> None:
    call = Call()
    call.text()
    edge = edge_with_one_place()
    for number in range(2):
        edge.put(number, 1, 1, 1)
    call.kernel.generation_finished(call.later(), 1)
    call.records()
    call.kernel.edge_decisions(call.later(), edge)
    told = call.signals()
    assert "drop_notice" in names(told)
    assert {event["event_scope"] for event in told} == {"session"}
    assert {event["turn_id"] for event in told} == {"turn-3-1"}


def test_a_move_to_a_lower_epoch_is_refused() -> None:
    call = Call()
    call.records()
    call.kernel.migration(call.later(), "rotated", 2)
    assert call.markers() == ["migration_step_refused"]


@pytest.mark.parametrize("leased", [True, False])
def test_durable_state_comes_back_under_a_lease_only(*, leased: bool) -> None:
    call = Call(leased=leased)
    assert call.kernel.reattach(call.later(), 7, 2) is leased


def late_words(*, backchannel: bool) -> int:
    call = Call(late_event="remap", late_grace_ms=500)
    call.windows(900, 4)
    call.windows(10, 20)
    call.kernel.transcript(call.later(), 1, 0, 0, False, False, True)
    call.windows(10, 10)
    call.kernel.transcript(call.later(), 1, 0, 2, backchannel, not backchannel, True)
    return call.kernel.turn


def test_late_words_of_a_listener_become_no_turn() -> None:
    assert (late_words(backchannel=False), late_words(backchannel=True)) == (1, 0)


@pytest.mark.parametrize(("late_event", "cancelled"), [("drop", True), ("remap", False)])
def test_recognition_is_stopped_only_where_its_late_words_would_not_count(
    *, late_event: str, cancelled: bool
) -> None:
    call = Call(late_event=late_event, late_grace_ms=500)
    call.windows(900, 4)
    assert not isinstance(call.kernel.invoke(call.later(), 0, "stt"), str)
    effects = call.windows(10, 200)
    assert any(type(effect).__name__ == "EndUtterance" for effect in effects)
    assert any(type(effect).__name__ == "CancelInvocation" for effect in effects) is cancelled


def test_what_a_turn_without_room_loses_of_its_own_end_ends_no_second_turn() -> None:
    call = Call(capacity=256)
    call.text()
    while call.kernel.turn:
        effects = call.kernel.connection(call.later(), "silence", "")
    assert [effect.reason for effect in effects if isinstance(effect, CloseTurn)] == [
        "recording_evidence_unavailable"
    ]
    call.records()
    effects = call.text(2)
    assert not any(isinstance(effect, CloseTurn) for effect in effects)
    assert call.kernel.turn
