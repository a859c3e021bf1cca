"""Baseline evidence: what of it is complete, and that nothing in it is invented."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from rspp.evidence.baseline import (
    PROVENANCE_REFS,
    BaselineEntry,
    InvocationOutcome,
    RedactionDecision,
    completeness,
)
from rspp.evidence.baseline_reading import entries_of
from tests.replay.evidence import decision, whole_entry

WHOLE = whole_entry()


def changed(**changes: Any) -> BaselineEntry:
    return msgspec.structs.replace(WHOLE, **changes)


def outcome(**changes: Any) -> tuple[InvocationOutcome, ...]:
    return (msgspec.structs.replace(WHOLE.invocation_outcomes[0], **changes),)


def redaction(*decisions: tuple[str, str]) -> tuple[RedactionDecision, ...]:
    return tuple(RedactionDecision(payload_class=name, action=action) for name, action in decisions)


def test_rd_003_whole_evidence_is_complete() -> None:
    assert WHOLE.missing() == []


@pytest.mark.conformance("RD-003", "G-04", "G-09")
@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"session_id": ""}, "session_id"),
        ({"turn_id": ""}, "turn_id"),
        ({"pipeline_version": ""}, "pipeline_version"),
        ({"event_id": ""}, "event_id"),
        ({"envelope_snapshot": ""}, "envelope_snapshot"),
        ({"payload_tags": ()}, "payload_tags"),
        ({"redaction_decisions": ()}, "redaction_decisions"),
        ({"redaction_decisions": redaction(("metadata", "allow"))}, "redaction_decisions"),
        (
            {
                "redaction_decisions": redaction(
                    ("metadata", "allow"), ("audio_raw", "drop"), ("metadata", "drop")
                )
            },
            "redaction_decisions",
        ),
        (
            {"redaction_decisions": redaction(("metadata", "allow"), ("audio_raw", "burn"))},
            "redaction_decisions",
        ),
        ({"plan_hash": "plan/turn-1-1"}, "plan_hash"),
        ({"plan_hash": "A" * 64}, "plan_hash"),
        ({"plan_matches": False}, "plan_hash"),
        ({"plan_matches": UNSET}, "plan_hash"),
        ({"snapshot_provenance": dict.fromkeys(PROVENANCE_REFS[1:], "x/v1")}, "snapshot_provenance"),
        ({"decision_outcomes": ()}, "decision_outcomes"),
        ({"decision_outcomes": ({**decision("turn-1-1"), "scope": "node_dispatch"},)}, "decision_outcomes"),
        ({"invocation_outcomes": outcome(total_invocation_latency_us=9)}, "invocation_outcomes"),
        ({"invocation_outcomes": outcome(total_invocation_latency_us=UNSET)}, "invocation_outcomes"),
        ({"invocation_outcomes": outcome(attempt_count=0)}, "invocation_outcomes"),
        ({"invocation_outcomes": outcome(modality="vad")}, "invocation_outcomes"),
        ({"determinism_seed": UNSET}, "determinism_seed"),
        ({"ordering_markers": ()}, "ordering_markers"),
        ({"ordering_markers": ("a", "a")}, "ordering_markers"),
        ({"merge_rule_id": ""}, "merge_rule"),
        ({"merge_rule_version": ""}, "merge_rule"),
        ({"authority_epoch": UNSET}, "authority_epoch"),
        ({"terminal_outcome": ""}, "terminal_outcome"),
        ({"terminal_outcome": "abort"}, "terminal_reason"),
        ({"close_emitted": False}, "close_emitted"),
        ({"turn_open_proposed_at_us": UNSET}, "turn_open_proposed_at_us"),
        ({"turn_open_at_us": UNSET}, "turn_open_at_us"),
        ({"accepted_stale_epoch_output": UNSET}, "accepted_stale_epoch_output"),
        ({"cancel_accepted_at_us": 1, "cancel_sent_at_us": 1}, "cancel_fence_applied_at_us"),
        (
            {"cancel_accepted_at_us": 1, "cancel_fence_applied_at_us": 1, "invocations_in_flight": 1},
            "cancel_sent_at_us",
        ),
    ],
)
def test_rd_003_each_field_that_is_missing_or_wrong_is_named(changes: dict[str, Any], missing: str) -> None:
    assert changed(**changes).missing() == [missing]


def test_a_class_that_the_contract_does_not_know_is_complete_in_nothing() -> None:
    assert changed(payload_tags=("metadata", "SECRET")).missing() == ["payload_tags", "redaction_decisions"]


@pytest.mark.parametrize(
    "changes",
    [
        {"invocation_outcomes": ()},
        {"first_output_at_us": UNSET},
        {"cancel_accepted_at_us": 1, "cancel_fence_applied_at_us": 1, "cancel_sent_at_us": 2},
        {"cancel_accepted_at_us": 1, "cancel_fence_applied_at_us": 1, "invocations_in_flight": 0},
    ],
)
def test_what_need_not_be_there_is_not_missed(changes: dict[str, Any]) -> None:
    assert changed(**changes).missing() == []


def test_the_report_names_incomplete_turns_in_order() -> None:
    lacking = [changed(turn_id=f"turn-1-{number}", event_id="") for number in (9, 3)]
    report = completeness([WHOLE, *lacking])
    assert (report.total_accepted, report.complete) == (3, 1)
    assert report.ratio == pytest.approx(1 / 3)
    assert report.incomplete_turn_ids == ("s/turn-1-3", "s/turn-1-9")
    assert report.missing["s/turn-1-3"] == ["event_id"]
    assert completeness([]).ratio == 0.0


def test_g_04_records_that_tell_nothing_give_nothing() -> None:
    opened = {
        "session_id": "s",
        "turn_id": "turn-1-1",
        "pipeline_version": "p@v1",
        "event_id": "evt/s/1/1/000001",
        "runtime_sequence": 1,
        "authority_epoch": 1,
        "payload_class": "metadata",
        "signal": "turn_open",
    }
    (entry,) = entries_of([{"kind": "header"}, {"kind": "signal", "at_us": 7, "event": opened}])
    unset = ("turn_open_proposed_at_us", "turn_open_at_us", "first_output_at_us", "cancel_accepted_at_us")
    assert all(getattr(entry, name) is UNSET for name in unset)
    assert entry.determinism_seed is UNSET
    assert entry.accepted_stale_epoch_output is UNSET
    assert (entry.plan_hash, entry.snapshot_provenance, entry.decision_outcomes) == ("", {}, ())
    assert not entry.close_emitted
