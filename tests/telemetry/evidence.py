"""Evidence of a small call, written by hand so that every expected number can be seen here."""

from __future__ import annotations

from typing import Any

import msgspec

from rspp.telemetry.context import SessionContext

Record = dict[str, Any]
START_US = 5_000_000
WALL_MS = 1_700_000_000_000


def context(**changes: Any) -> SessionContext:
    """The session that the evidence belongs to."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "session_id": "call-1",
        "pipeline_version": "desk@v3",
        "epoch": 2,
        "resumed": False,
        "created_us": START_US,
        "created_wall_ms": WALL_MS,
    }
    return SessionContext(**(fields | changes))


def lines(*records: Record) -> list[bytes]:
    return [msgspec.json.encode(record) for record in records]


def at(ms: float) -> dict[str, int]:
    return {"at_us": START_US + round(ms * 1000), "wall_ms": WALL_MS + int(ms)}


def signal(ms: float, name: str, turn: int = 0, **fields: Any) -> Record:
    event: Record = {"signal": name, "event_id": f"evt/call-1/2/{turn}/{ms:06.0f}", "authority_epoch": 2}
    event |= {"lane": "ControlLane", "emitted_by": "RK-03", "session_id": "call-1"}
    if turn:
        event["turn_id"] = f"turn-2-{turn}"
    return {"kind": "signal", **at(ms), "event": event | fields}


def decision(ms: float, outcome: str, phase: str, reason: str, turn: int = 0) -> Record:
    told: Record = {"outcome_kind": outcome, "phase": phase, "scope": "turn", "reason": reason}
    told |= {"event_id": f"evt/call-1/2/{turn}/d{ms:06.0f}", "emitted_by": "RK-25"}
    if turn:
        told["turn_id"] = f"turn-2-{turn}"
    return {"kind": "decision", **at(ms), "decision": told}


def transition(ms: float, turn: int, trigger: str, before: str, after: str) -> Record:
    return {"kind": "transition", **at(ms), "turn": turn, "from": before, "trigger": trigger, "to": after}


def marker(ms: float, name: str, turn: int = 0, value: int = 0, **fields: Any) -> Record:
    return {"kind": "marker", **at(ms), "turn": turn, "name": name, "value": value, **fields}


def latency(ms: float, name: str, turn: int, value_us: int) -> Record:
    return {"kind": "latency", **at(ms), "turn": turn, "name": name, "value_us": value_us}


def attempt(ms: float, turn: int, number: int, **fields: Any) -> Record:
    told: Record = {"modality": "llm", "provider_id": "openai/gpt", "attempt": 1, "outcome": "success"}
    told |= {"retryable": False, "retry_decision": "none", "attempt_latency_us": 40_000, "authority_epoch": 2}
    told["provider_invocation_id"] = f"pvi/call-1/2/{turn}/{number:06d}"
    return {"kind": "provider_attempt", **at(ms), "turn": turn, **(told | fields)}


def provider(ms: float, turn: int, modality: str, latency_us: int, outcome: str = "success") -> Record:
    told = {"modality": modality, "outcome": outcome, "latency_us": latency_us}
    return {"kind": "provider", **at(ms), "turn": turn, **told}


def taken(ms: float, name: str, **fields: Any) -> Record:
    """An input of the kernel."""
    return {"kind": "input", **at(ms), "name": name, **fields}


ANSWERED = (
    marker(100, "utterance_started", value=1),
    provider(900, 0, "stt", 30_000),
    latency(900, "stt_final", 0, 30_000),
    marker(1000, "utterance_ended", value=1),
    signal(1000, "turn_open_proposed", reason="session_turn_intent"),
    transition(1000, 1, "turn_open_proposed", "Idle", "Opening"),
    decision(1000, "admit", "pre_turn", "admission_capacity_allow", 1),
    marker(1000, "plan_frozen", 1, 77, plan_hash="ab" * 32),
    signal(1001, "turn_open", 1),
    transition(1001, 1, "turn_open", "Opening", "Active"),
    latency(1001, "turn_open_proposed_to_turn_open", 1, 1_000),
    latency(1001, "end_of_speech_to_turn_open", 1, 190_000),
    attempt(
        1050, 1, 1, outcome="overload", retryable=True, retry_decision="retry", reason="provider_overload"
    ),
    attempt(1200, 1, 1, attempt=2, attempt_latency_us=100_000),
    provider(1200, 1, "llm", 140_000),
    taken(1400, "attempt_finished", invocation=2, idle_us=150_000),
    attempt(1400, 1, 2, modality="tts", provider_id="espeak/en-us", attempt_latency_us=20_000),
    provider(1400, 1, "tts", 20_000),
    marker(1300, "first_output", 1),
    latency(1300, "turn_open_to_first_output", 1, 299_000),
    marker(2000, "frames_passed", 1, 16_800),
    signal(2000, "commit", 1),
    transition(2000, 1, "commit", "Active", "Terminal"),
    signal(2000, "close", 1),
    transition(2000, 1, "close", "Terminal", "Closed"),
    signal(2040, "playback_completed", 1, emitted_by="RK-22"),
)
"""A caller asks and is answered; the reply needs a second attempt."""

INTERRUPTED = (
    transition(4000, 2, "turn_open_proposed", "Idle", "Opening"),
    decision(4000, "admit", "pre_turn", "admission_capacity_allow", 2),
    signal(4000, "turn_open", 2),
    marker(4100, "first_output", 2),
    marker(5000, "output_held", 2),
    signal(5400, "barge_in", 2, emitted_by="RK-06"),
    marker(5400, "cancel_accepted", 2),
    marker(5402, "fence_applied", 2),
    marker(5402, "cancel_sent_at", 2, 9),
    signal(5402, "abort", 2, reason="cancelled"),
    signal(5402, "close", 2),
    transition(5402, 2, "close", "Terminal", "Closed"),
    latency(5402, "cancel_to_gate_closed", 2, 2_100),
    latency(5403, "cancel_to_queue_cleared", 2, 3_000),
    attempt(5450, 2, 9, outcome="cancelled", reason="provider_cancelled", attempt_latency_us=800_000),
    marker(5450, "cancel_ack_at", 2, 9),
)
"""The next answer is interrupted."""
