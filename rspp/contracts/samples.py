"""Valid documents of every kind, from which fixtures and tests are made by changing one thing."""

from __future__ import annotations

import copy
from typing import Any

from rspp.contracts.envelope import registry

Document = dict[str, Any]

ABSENT = object()
"""As the new value of a field: take the field away."""

_FIELD_VALUES: dict[str, object] = {
    "turn_id": "turn-3-1",
    "edge_id": "stt-to-llm",
    "target_lane": "DataLane",
    "amount": 4,
    "scope": "turn",
    "seq_range": {"start": 40, "end": 47},
    "sync_domain": "caller-audio",
    "discontinuity_id": "gap-1",
    "causal_parent_id": "evt/s-1/3/session/000040",
}


def changed(document: Document, **changes: object) -> Document:
    """Return a copy of ``document`` with fields set, or taken away with ``ABSENT``.

    A double underscore in a name goes one level down: ``budgets__turn_budget_ms=0``.
    """
    copied = copy.deepcopy(document)
    for path, value in changes.items():
        *outer, name = path.split("__")
        place = copied
        for step in outer:
            place = place[step]
        if value is ABSENT:
            place.pop(name, None)
        else:
            place[name] = copy.deepcopy(value)
    return copied


def event(**changes: object) -> Document:
    """Return a text event of a turn."""
    document: Document = {
        "schema_version": "v1.0",
        "event_scope": "turn",
        "session_id": "s-1",
        "turn_id": "turn-3-1",
        "pipeline_version": "front-desk@v1",
        "event_id": "evt/s-1/3/1/000041",
        "lane": "DataLane",
        "transport_sequence": None,
        "runtime_sequence": 41,
        "authority_epoch": 3,
        "runtime_timestamp_ms": 120_000,
        "wall_clock_timestamp_ms": 1_790_000_120_000,
        "payload_class": "text_raw",
    }
    return changed(document, **changes)


def full_event() -> Document:
    """Return an event that has every field at once."""
    return event(
        schema_version="v1.1",
        node_id="stt",
        edge_id="stt-to-llm",
        causal_parent_id="evt/s-1/3/1/000040",
        idempotency_key="5f1d",
        provider_invocation_id="pvi/s-1/turn-3-1/stt",
        transport_sequence=7,
        sync_id="sync-9",
        sync_domain="caller-audio",
        discontinuity_id="gap-1",
        merge_group_id="merge-1",
        merged_from_event_ids=["evt/s-1/3/1/000038", "evt/s-1/3/1/000039"],
        late_after_cancel=True,
        lease_token="lease-3",
        timestamp_ms=120_000,
        payload_class="audio_raw",
        media_time={"sample_index": 16_000},
        emitted_by="RK-22",
        reason="queue_pressure_drop",
        seq_range={"start": 38, "end": 39},
        scope="anything",
        target_lane="TelemetryLane",
        amount=1,
        tenant_id="tenant-1",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        payload_ref="blob/77",
    )


def control(signal: str, /, *, emitter: str = "", within: str = "", **changes: object) -> Document:
    """Return a control signal with everything that its row of the registry asks for.

    Args:
        signal: name of the signal.
        emitter: emitting module; the first of the row when empty.
        within: event scope; session when empty and allowed, else turn.
        changes: as for ``changed``.
    """
    row = registry()[signal]
    within = within or ("turn" if row.scope == "turn" else "session")
    document = event(
        event_scope=within,
        lane="ControlLane",
        payload_class="metadata",
        signal=signal,
        emitted_by=emitter or row.emitters[0],
        turn_id=ABSENT if within == "session" else "turn-3-1",
    )
    for field in row.required:
        if field not in document:
            document[field] = row.reasons[0] if field == "reason" else copy.deepcopy(_FIELD_VALUES[field])
    return changed(document, **changes)


def transition(start: str = "Opening", trigger: str = "turn_open", to: str = "Active") -> Document:
    """Return the record of one move of a turn."""
    return {"from_state": start, "trigger": trigger, "to_state": to, "deterministic": True}


def decision(
    outcome: str = "admit",
    emitter: str = "RK-25",
    phase: str = "pre_turn",
    scope: str = "turn",
    **changes: object,
) -> Document:
    """Return a decision with every field that its kind may need."""
    document: Document = {
        "outcome_kind": outcome,
        "phase": phase,
        "scope": scope,
        "session_id": "s-1",
        "turn_id": "turn-3-1",
        "event_id": "evt/s-1/3/1/000003",
        "runtime_timestamp_ms": 120_000,
        "wall_clock_timestamp_ms": 1_790_000_120_000,
        "emitted_by": emitter,
        "authority_epoch": 3,
        "reason": registry()[outcome].reasons[0],
    }
    return changed(document, **changes)


def plan(**changes: object) -> Document:
    """Return a plan with two edges, one of which uses everything an edge may have."""
    lanes = {"DataLane": "drop", "ControlLane": "non_blocking_priority", "TelemetryLane": "best_effort_drop"}
    edge: Document = {
        "strategy": "drop",
        "max_queue_items": 64,
        "max_queue_ms": 300,
        "max_queue_bytes": 262_144,
        "max_latency_contribution_ms": 120,
        "watermarks": {"queue_items": {"high": 48, "low": 24}},
        "lane_handling": lanes,
        "defaulting_source": "execution_profile_default",
    }
    rich = edge | {
        "strategy": "block",
        "lane_handling": dict(lanes),
        "max_block_time_ms": 500,
        "watermarks": {"queue_items": {"high": 2, "low": 1}, "queue_ms": {"high": 40, "low": 20}},
        "fairness_key": "session",
        "defaulting_source": "explicit_edge_config",
        "sync_drop_policy": {
            "policy": "drop_with_discontinuity",
            "scope": "plan_wide",
            "group_by": "sync_id",
            "sync_domain": "caller-audio",
        },
    }
    document: Document = {
        "turn_id": "turn-3-1",
        "pipeline_version": "front-desk@v1",
        "plan_hash": "63a18d537cda23b1f2cdbd080187947cae8cf4df86a63ed06b905abe29e30244",
        "graph_definition_ref": "graph/default",
        "execution_profile": "simple",
        "authority_epoch": 3,
        "budgets": {
            "turn_budget_ms": 5000,
            "node_budget_ms_default": 1500,
            "path_budget_ms_default": 3000,
            "edge_budget_ms_default": 500,
        },
        "provider_bindings": {"stt": "pocketsphinx", "llm": "rules", "tts": "espeak/en"},
        "edge_buffer_policies": {"default": edge, "egress": rich},
        "flow_control": {
            "mode_by_lane": {"DataLane": "signal", "ControlLane": "credit", "TelemetryLane": "hybrid"},
            "watermarks": {
                "DataLane": {"high": 100, "low": 50},
                "ControlLane": {"high": 20, "low": 10},
                "TelemetryLane": {"high": 200, "low": 100},
            },
            "shedding_strategy_by_lane": {
                "DataLane": "drop",
                "ControlLane": "none",
                "TelemetryLane": "sample",
            },
        },
        "allowed_adaptive_actions": ["retry", "provider_switch", "fallback"],
        "snapshot_provenance": {
            "routing_view_snapshot": "routing-view/v1",
            "admission_policy_snapshot": "admission-policy/v1",
            "abi_compatibility_snapshot": "abi-compat/v1",
            "version_resolution_snapshot": "version-resolution/v1",
            "policy_resolution_snapshot": "policy-resolution/v1",
            "provider_health_snapshot": "provider-health/v1",
        },
        "recording_policy": {"recording_level": "L0", "allowed_replay_modes": ["replay_decisions"]},
        "determinism": {
            "seed": 9_047_801_165_739_145_294,
            "ordering_markers": ["runtime_sequence", "event_id"],
            "ordering_marker": "runtime_sequence",
            "merge_rule_id": "default-merge-rule",
            "merge_rule_version": "v1.0.0",
            "nondeterministic_inputs": [
                {"input_key": "llm", "source": "external_call", "evidence_ref": "provider/llm"}
            ],
        },
    }
    return changed(document, **changes)


def bundle(**changes: object) -> Document:
    """Return one document of every kind."""
    document: Document = {
        "event": event(),
        "control_signal": control("commit"),
        "turn_transition": transition(),
        "resolved_turn_plan": plan(),
        "decision_outcome": decision(),
    }
    return changed(document, **changes)


SAMPLES: dict[str, Document] = {
    "event_record": full_event(),
    "control_signal": control("drop_notice", within="turn"),
    "turn_transition": transition(),
    "resolved_turn_plan": plan(),
    "decision_outcome": decision(timestamp_ms=120_000),
    "artifact_bundle": bundle(),
}
"""One rich valid document of every kind."""
