"""What Stage A holds: documents of the contracts, in order, complete, and bounded."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jsonschema
import pytest

from rspp import _kernel
from rspp._kernel import OpenTurn, RefuseIntent
from tests.kernel.fake_shell import FakeRecogniser, FakeShell, make_plan, make_policy, names

COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string", "minLength": 1}
SIGNAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema_version",
        "event_scope",
        "session_id",
        "pipeline_version",
        "event_id",
        "lane",
        "transport_sequence",
        "runtime_sequence",
        "authority_epoch",
        "runtime_timestamp_ms",
        "wall_clock_timestamp_ms",
        "payload_class",
        "signal",
        "emitted_by",
    ],
    "properties": {
        "schema_version": {"pattern": r"^v\d+\.\d+(\.\d+)?$"},
        "event_scope": {"enum": ["session", "turn"]},
        "session_id": TEXT,
        "turn_id": TEXT,
        "pipeline_version": TEXT,
        "event_id": TEXT,
        "lane": {"const": "ControlLane"},
        "transport_sequence": {"type": ["integer", "null"]},
        "runtime_sequence": COUNT,
        "authority_epoch": COUNT,
        "runtime_timestamp_ms": COUNT,
        "wall_clock_timestamp_ms": COUNT,
        "payload_class": {"const": "metadata"},
        "signal": {"enum": [row[0] for row in _kernel.signal_registry()]},
        "emitted_by": TEXT,
        "reason": TEXT,
        "scope": {"enum": ["session", "turn", "node", "provider_invocation"]},
    },
    "if": {"properties": {"event_scope": {"const": "turn"}}},
    "then": {"required": ["turn_id"]},
}
DECISION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "outcome_kind",
        "phase",
        "scope",
        "session_id",
        "event_id",
        "runtime_timestamp_ms",
        "wall_clock_timestamp_ms",
        "emitted_by",
        "reason",
    ],
    "properties": {
        "outcome_kind": {
            "enum": ["admit", "reject", "defer", "shed", "stale_epoch_reject", "deauthorized_drain"]
        },
        "phase": {"enum": ["pre_turn", "scheduling_point", "active_turn"]},
        "scope": {"enum": ["tenant", "session", "turn", "edge_enqueue", "edge_dequeue", "node_dispatch"]},
        "session_id": TEXT,
        "turn_id": TEXT,
        "event_id": TEXT,
        "runtime_timestamp_ms": COUNT,
        "wall_clock_timestamp_ms": COUNT,
        "emitted_by": {"enum": ["RK-24", "RK-25", "CP-05"]},
        "authority_epoch": COUNT,
        "reason": TEXT,
    },
}
INPUTS = {
    "frame",
    "lease",
    "lease_lost",
    "start",
    "tick",
    "voice_activity",
    "transcript",
    "text_message",
    "cancel",
    "generation_finished",
    "generation_failed",
    "playback",
    "connection",
}


def whole_call() -> FakeShell:
    """A call in which nearly everything happens once."""
    recogniser = FakeRecogniser()
    recogniser.hears(3, complete=True)
    shell = FakeShell(make_policy(greeting=True), recogniser=recogniser)
    shell.do(shell.kernel.start(shell.now_us, resumed=False))
    shell.play(600)
    shell.run(1_000)
    shell.speak(700)
    shell.run(600)
    shell.play(4_000)
    shell.run(500)
    recogniser.hears(1, backchannel=True)
    shell.speak(400)
    shell.run(1_000)
    shell.kernel.provider_outcome(shell.now_us, 2, "llm", "success", 1_234)
    shell.do(shell.kernel.playback(shell.now_us, 2, "started", 480))
    shell.do(shell.kernel.cancel(shell.now_us, "cancel"))
    shell.open_text()
    shell.do(shell.kernel.generation_failed(shell.now_us, shell.kernel.turn, "provider_timeout"))
    shell.renew(epoch=2)
    shell.kernel.frame(shell.now_us, 9, 1, 0, 480)
    shell.kernel.lease(shell.now_us, 1, shell.now_us + 9)
    shell.do(shell.kernel.connection(shell.now_us, "stall", "no packets"))
    shell.do(shell.kernel.lease_lost(shell.now_us, 'taken "over"\n'))
    shell.do(shell.kernel.generation_finished(shell.now_us, 3))
    return shell


def test_every_document_satisfies_its_contract() -> None:
    records = whole_call().evidence()
    registry = {row[0]: row for row in _kernel.signal_registry()}
    transitions = set(_kernel.transition_table())
    sequence = -1
    for record in records:
        assert record["wall_ms"] == 1_700_000_000_000 + (record["at_us"] - 10_000_000) // 1000
        match record["kind"]:
            case "signal":
                event = record["event"]
                jsonschema.validate(event, SIGNAL_SCHEMA)
                _, emitters, scope, required = registry[event["signal"]]
                assert event["emitted_by"] in emitters
                assert scope in ("either", event["event_scope"])
                assert all(field in event for field in required)
                assert event["runtime_sequence"] > sequence
                sequence = event["runtime_sequence"]
            case "decision":
                jsonschema.validate(record["decision"], DECISION_SCHEMA)
            case "transition":
                assert (record["from"], record["trigger"], record["to"]) in transitions
            case "marker":
                assert set(record) >= {"turn", "name", "value"}
            case "input":
                assert record["name"] in INPUTS
            case kind:
                assert kind == "provider"
    signals = {record["event"]["signal"] for record in records if record["kind"] == "signal"}
    assert signals >= {"cancel", "lease_rotated", "stale_epoch_reject", "deauthorized_drain", "stall"}
    assert {record["name"] for record in records if record["kind"] == "input"} == INPUTS


def test_event_ids_are_unique_over_a_takeover() -> None:
    first, second = FakeShell(lease=False), FakeShell(lease=False)
    first.renew(epoch=1)
    second.renew(epoch=2)
    identities = []
    for shell in (first, second):
        shell.open_text()
        identities += [event["event_id"] for _, event in shell.signals()]
    assert len(identities) == len(set(identities))
    assert identities[-1].startswith("evt/call%2F1/2/")


@pytest.mark.conformance("RD-001", "CT-004")
def test_the_same_inputs_give_the_same_bytes() -> None:
    one, two = whole_call(), whole_call()
    assert one.kernel.drain_evidence(100_000) == two.kernel.drain_evidence(100_000)
    assert [repr(entry) for entry in one.log] == [repr(entry) for entry in two.log]


def test_a_foreign_reason_is_kept_word_for_word() -> None:
    records = whole_call().evidence()
    lost = next(record for record in records if record.get("name") == "lease_lost")
    assert lost["reason"] == 'taken "over"\n'


@pytest.mark.conformance("CT-004", "RD-004", "G-04")
def test_the_plan_hash_can_be_recomputed_from_the_plan() -> None:
    policy = '{"budgets":{"turn_budget_ms":5000},"recording_policy":{"recording_level":"L0"}}'
    shell = FakeShell(plan=make_plan(policy), lease=False)
    shell.renew(epoch=3)
    shell.open_text()
    plan = json.loads(policy) | {
        "authority_epoch": 3,
        "execution_profile": "simple",
        "graph_definition_ref": "graph/voice",
        "pipeline_version": "shop@v1",
        "turn_id": "turn-3-1",
    }
    canonical = json.dumps(plan, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    assert shell.effects(OpenTurn)[0].plan_hash == digest
    frozen = next(record for record in shell.evidence() if record.get("name") == "plan_frozen")
    assert frozen["plan_hash"] == digest
    seed = int.from_bytes(hashlib.sha256(f"{digest}|turn-3-1".encode()).digest()[:8], "big") & (2**63 - 1)
    assert frozen["value"] == seed


def test_draining_takes_the_oldest_first_and_only_so_many() -> None:
    shell = whole_call()
    everything = [json.loads(line) for line in shell.kernel.drain_evidence(5)]
    assert len(everything) == 5
    everything += shell.evidence()
    assert [record["at_us"] for record in everything] == sorted(record["at_us"] for record in everything)
    assert shell.kernel.drain_evidence(5) == []


@pytest.mark.conformance("M-13")
def test_details_are_shed_first_and_that_is_said_once() -> None:
    shell = FakeShell(capacity=256)
    shell.run(20_000)
    assert shell.kernel.evidence_dropped > 300
    recorded = shell.evidence()
    assert names(recorded).count("recording_level_downgraded") == 1
    shell.open_text(playing=500)
    shell.run(1_000)
    assert shell.endings() == [(1, "commit", "")]
    assert "commit" in names(shell.evidence())


@pytest.mark.conformance("G-23", "M-13")
def test_without_room_for_evidence_a_turn_ends_and_none_opens() -> None:
    shell = FakeShell(capacity=256)
    shell.renewing = False
    shell.open_text()
    for number in range(400):
        shell.do(shell.kernel.connection(shell.now_us, "silence", f"{number}"))
    assert shell.endings() == [(1, "abort", "recording_evidence_unavailable")]
    shell.open_text()
    assert shell.effects(RefuseIntent)[0].reason == "recording_evidence_unavailable"
    ending = names(shell.evidence(), turn=1)[-3:]
    assert ending == ["frames_passed", "abort", "close"]
    shell.open_text()
    assert shell.kernel.turn == 3


def test_the_first_frame_does_not_leave_without_its_evidence() -> None:
    shell = FakeShell(capacity=256)
    shell.renewing = False
    shell.open_text()
    shell.kernel.drain_evidence(1_000)
    for _ in range((256 - 16) // 2):
        # One input and one signal each, until nothing but the reserve is left.
        shell.do(shell.kernel.playback(shell.now_us, 1, "completed", 0))
    assert shell.kernel.turn == 1
    assert shell.kernel.frame(shell.now_us, 1, 1, 0, 480) == _kernel.FENCED
    shell.do(shell.kernel.tick(shell.now_us))
    assert shell.endings() == [(1, "abort", "recording_evidence_unavailable")]


@pytest.mark.parametrize("outcome", ["success", "timeout", "overload", "blocked", "infrastructure_failure"])
def test_provider_outcomes_are_recorded(outcome: str) -> None:
    shell = FakeShell()
    shell.evidence()
    shell.kernel.provider_outcome(shell.now_us, 4, "tts", outcome, 55)
    (record,) = shell.evidence()
    assert record["kind"] == "provider"
    assert (record["turn"], record["modality"], record["outcome"]) == (4, "tts", outcome)
    assert record["latency_us"] == 55


def test_idle_ticks_are_not_recorded() -> None:
    shell = FakeShell()
    shell.evidence()
    shell.kernel.tick(shell.now_us + 10)
    assert shell.evidence() == []
