"""Turns a pipeline into what the kernel is told: its thresholds and the plan that turns share.

Everything here is a pure function of the pipeline file, so that two runtimes with the same file make
plans with the same hash. Fractions become integers per thousand, because the plan hash covers integers
only.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from rspp.contracts.media import MAX_QUEUED_MS, OUTPUT_RATE_HZ
from rspp.pipeline.spec import OpenAiLlm, OpenAiStt, OpenAiTts, PipelineSpec

EXECUTION_PROFILE = "simple"
GRAPH_DEFINITION_REF = "graph/default"
NODE_BUDGET_MS = 1500
"""Node budget of the simple profile (contract section 6.4)."""
EDGE_BUDGET_MS = 500
"""Edge budget of the simple profile (contract section 6.4)."""
EGRESS_EDGE = "egress"
EGRESS_MAX_BYTES = MAX_QUEUED_MS * OUTPUT_RATE_HZ * 2 // 1000
_DATA, _CONTROL, _TELEMETRY = "DataLane", "ControlLane", "TelemetryLane"


def permille(value: float) -> int:
    """Return a fraction from 0 to 1 as an integer from 0 to 1000."""
    return round(value * 1000)


def turn_policy(spec: PipelineSpec) -> dict[str, Any]:
    """Return the keyword arguments of ``rspp._kernel.TurnPolicy`` for ``spec``."""
    cut, turn = spec.interruption, spec.turn
    return {
        "speech_permille": permille(spec.vad.speech),
        "silence_permille": permille(spec.vad.silence),
        "interruptions": cut.enabled,
        "confirm_ms": cut.confirm_ms,
        "confirm_words": cut.confirm_words,
        "release_ms": cut.release_ms,
        "short_burst_ms": cut.short_burst_ms,
        "short_release_ms": cut.short_release_ms,
        "probe_ms": turn.probe_ms,
        "complete_wait_ms": turn.complete_wait_ms,
        "incomplete_wait_ms": turn.incomplete_wait_ms,
        "max_utterance_ms": turn.max_utterance_ms,
        "first_output_budget_ms": spec.budget.first_output_ms,
        "stall_budget_ms": spec.budget.stall_ms,
        "failure_notice": bool(spec.failure_notice),
        "greeting": bool(spec.greeting),
        "takeover_notice": bool(spec.takeover_notice),
    }


def plan_template(spec: PipelineSpec) -> dict[str, str]:
    """Return the keyword arguments of ``rspp._kernel.PlanTemplate`` for ``spec``."""
    return {
        "pipeline_version": pipeline_version(spec),
        "graph_definition_ref": GRAPH_DEFINITION_REF,
        "execution_profile": EXECUTION_PROFILE,
        "policy_json": canonical_json(plan_policy(spec)),
    }


def pipeline_version(spec: PipelineSpec) -> str:
    """Return the version that every event carries: ``name@version``."""
    return f"{spec.name}@{spec.version}"


def spec_digest(spec: PipelineSpec) -> str:
    """Return SHA-256 in hex over the whole pipeline, defaults included."""
    return hashlib.sha256(msgspec.json.encode(spec, order="sorted")).hexdigest()


def canonical_json(document: dict[str, Any]) -> str:
    """Return ``document`` with sorted keys, without blanks.

    Raises:
        TypeError: a fraction, which has no single spelling to be hashed.
    """
    _refuse_fractions(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def plan_policy(spec: PipelineSpec) -> dict[str, Any]:
    """Return the sections of a turn plan that do not depend on the turn (contract section 5.1).

    ``turn_thresholds`` goes beyond the contract's fields, so that a plan shows what its turn was decided
    by; the digest in ``policy_resolution_snapshot`` covers the same values within them.
    """
    return {
        "allowed_adaptive_actions": [],
        "budgets": {
            "turn_budget_ms": spec.budget.first_output_ms,
            "node_budget_ms_default": NODE_BUDGET_MS,
            "path_budget_ms_default": spec.budget.stall_ms,
            "edge_budget_ms_default": EDGE_BUDGET_MS,
        },
        "determinism": {
            "ordering_markers": ["runtime_sequence", "event_id"],
            "merge_rule_id": "default-merge-rule",
            "merge_rule_version": "v1.0.0",
            "nondeterministic_inputs": _external_inputs(spec),
        },
        "edge_buffer_policies": {"default": _default_edge(), EGRESS_EDGE: _egress_edge(spec)},
        "flow_control": {
            "mode_by_lane": dict.fromkeys((_DATA, _CONTROL, _TELEMETRY), "signal"),
            "watermarks": {
                _DATA: {"high": 100, "low": 50},
                _CONTROL: {"high": 20, "low": 10},
                _TELEMETRY: {"high": 200, "low": 100},
            },
            "shedding_strategy_by_lane": {_DATA: "drop", _CONTROL: "none", _TELEMETRY: "sample"},
        },
        "provider_bindings": provider_bindings(spec),
        "recording_policy": {"recording_level": "L0", "allowed_replay_modes": ["replay_decisions"]},
        "snapshot_provenance": {
            "routing_view_snapshot": "routing-view/v1",
            "admission_policy_snapshot": "admission-policy/v1",
            "abi_compatibility_snapshot": "abi-compat/v1",
            "version_resolution_snapshot": f"version-resolution/{pipeline_version(spec)}",
            "policy_resolution_snapshot": f"policy-resolution/sha256:{spec_digest(spec)}",
            "provider_health_snapshot": "provider-health/v1",
        },
        "turn_thresholds": {name: int(value) for name, value in turn_policy(spec).items()},
    }


def provider_bindings(spec: PipelineSpec) -> dict[str, str]:
    """Return which provider serves each modality, such as ``openai/whisper-1``."""
    stt = f"openai/{spec.stt.model}" if isinstance(spec.stt, OpenAiStt) else "pocketsphinx"
    llm = f"openai/{spec.llm.model}" if isinstance(spec.llm, OpenAiLlm) else "rules"
    tts = f"openai/{spec.tts.model}" if isinstance(spec.tts, OpenAiTts) else f"espeak/{spec.tts.voice}"
    return {"vad": "silero", "stt": stt, "llm": llm, "tts": tts}


def _external_inputs(spec: PipelineSpec) -> list[dict[str, str]]:
    external = [
        modality
        for modality, section in (("stt", spec.stt), ("llm", spec.llm), ("tts", spec.tts))
        if isinstance(section, OpenAiStt | OpenAiLlm | OpenAiTts)
    ]
    return [
        {"input_key": name, "source": "external_call", "evidence_ref": f"provider/{name}"}
        for name in external
    ]


def _lanes(data: str) -> dict[str, str]:
    return {_DATA: data, _CONTROL: "non_blocking_priority", _TELEMETRY: "best_effort_drop"}


def _default_edge() -> dict[str, Any]:
    return {
        "strategy": "drop",
        "max_queue_items": 64,
        "max_queue_ms": 300,
        "max_queue_bytes": 262_144,
        "max_latency_contribution_ms": 120,
        "watermarks": {"queue_items": {"high": 48, "low": 24}},
        "lane_handling": _lanes("drop"),
        "defaulting_source": "execution_profile_default",
    }


def _egress_edge(spec: PipelineSpec) -> dict[str, Any]:
    return {
        "strategy": "block",
        "max_queue_items": 2,
        "max_queue_ms": MAX_QUEUED_MS,
        "max_queue_bytes": EGRESS_MAX_BYTES,
        "max_latency_contribution_ms": MAX_QUEUED_MS,
        "max_block_time_ms": spec.budget.stall_ms,
        "watermarks": {"queue_items": {"high": 2, "low": 1}},
        "lane_handling": _lanes("block"),
        "defaulting_source": "explicit_edge_config",
    }


def _refuse_fractions(value: object) -> None:
    if isinstance(value, float):
        raise TypeError(f"a plan holds integers only, not {value}")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_fractions(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_fractions(item)
