"""Evidence that lacks nothing, for tests that take something away."""

from __future__ import annotations

from typing import Any

from rspp.evidence.baseline import PROVENANCE_REFS, BaselineEntry, InvocationOutcome, RedactionDecision


def decision(turn_id: str) -> dict[str, Any]:
    return {
        "outcome_kind": "admit",
        "phase": "pre_turn",
        "scope": "turn",
        "session_id": "s",
        "turn_id": turn_id,
        "event_id": "evt/s/1/1/000003",
        "runtime_timestamp_ms": 100,
        "wall_clock_timestamp_ms": 100,
        "emitted_by": "RK-25",
        "reason": "admission_capacity_allow",
    }


def whole_entry(number: int = 1) -> BaselineEntry:
    """A committed turn with complete evidence."""
    turn_id = f"turn-1-{number}"
    return BaselineEntry(
        session_id="s",
        turn_id=turn_id,
        clock="real",
        pipeline_version="p@v1",
        event_id=f"evt/s/1/{number}/000005",
        envelope_snapshot='{"schema_version":"v1.0"}',
        payload_tags=("metadata", "audio_raw"),
        redaction_decisions=(
            RedactionDecision(payload_class="metadata", action="allow"),
            RedactionDecision(payload_class="audio_raw", action="drop"),
        ),
        plan_hash="a" * 64,
        plan_matches=True,
        snapshot_provenance={name: f"{name}/v1" for name in PROVENANCE_REFS},
        decision_outcomes=(decision(turn_id),),
        invocation_outcomes=(
            InvocationOutcome(
                provider_invocation_id=f"pvi/s/1/{number}/000001",
                modality="llm",
                provider_id="rules",
                outcome_class="success",
                retryable=False,
                retry_decision="none",
                attempt_count=2,
                final_attempt_latency_us=10,
                total_invocation_latency_us=20,
            ),
        ),
        determinism_seed=0,
        ordering_markers=("runtime_sequence/000004", "runtime_sequence/000005"),
        merge_rule_id="default-merge-rule",
        merge_rule_version="v1.0.0",
        authority_epoch=1,
        terminal_outcome="commit",
        terminal_events=("commit", "close"),
        close_emitted=True,
        turn_open_proposed_at_us=100_000,
        turn_open_at_us=103_000,
        first_output_at_us=143_000,
        accepted_stale_epoch_output=False,
    )
