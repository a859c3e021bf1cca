"""The control plane's bundle through the binding: it decides at turn start, and a replay decides the same."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from rspp import _kernel
from rspp._kernel import OpenTurn, RefuseIntent, Replay, SessionKernel, TurnPolicy
from rspp.replay.inputs import ENVIRONMENT
from tests.kernel.fake_shell import make_plan
from tests.kernel.test_truth_table import START_US, FakeCall

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCES = (
    "abi_compatibility_snapshot",
    "admission_policy_snapshot",
    "policy_resolution_snapshot",
    "provider_health_snapshot",
    "routing_view_snapshot",
    "version_resolution_snapshot",
)


def bundle(**changes: Any) -> dict[str, Any]:
    return {
        "version": 3,
        "usable_until_us": START_US + 3_000_000,
        "provenance": {name: f"{name}/v3" for name in REFERENCES},
        "adaptive_actions": ["retry", "fallback"],
        "admission": "admit",
        "admission_scope": "session",
        "admission_reason": "",
        "authority_epoch": 3,
        "authority_valid": True,
        "authority_authorized": True,
        "claim_us": 2_000_000,
        **changes,
    }


def managed(**policy: Any) -> FakeCall:
    return FakeCall(needs_bundle=True, **policy)


@pytest.mark.parametrize(
    ("told", "refusal"),
    [
        (None, ("defer", "turn_start_bundle_resolution_failed")),
        ({}, None),
        (
            {"failure": "snapshot_invalid_or_missing", "provenance": {}},
            ("defer", "snapshot_invalid_or_missing"),
        ),
        ({"usable_until_us": START_US}, ("defer", "snapshot_invalid_or_missing")),
        ({"admission": "reject", "admission_reason": "quota"}, ("reject", "cp_admission_reject_policy")),
        ({"admission": "defer"}, ("defer", "cp_admission_defer_capacity")),
        ({"authority_authorized": False}, ("deauthorized_drain", "authority_revoked_before_open")),
        ({"authority_epoch": 4}, ("stale_epoch_reject", "authority_epoch_mismatch")),
    ],
)
def test_ct_006_what_the_control_plane_says_decides_at_turn_start(
    told: dict[str, Any] | None, refusal: tuple[str, str] | None
) -> None:
    call = managed()
    if told is not None:
        call.tell("turn_start", **bundle(**told))
    effect = call.tell("text_message", 1)[0]
    if refusal is None:
        assert isinstance(effect, OpenTurn)
    else:
        assert isinstance(effect, RefuseIntent)
        assert (effect.outcome, effect.reason) == refusal


def test_ct_006_the_control_planes_own_decision_names_no_turn() -> None:
    call = managed()
    call.tell(
        "turn_start", **bundle(admission="reject", admission_scope="tenant", admission_reason="over quota")
    )
    call.tell("text_message", 1)
    records = call.records()
    (made,) = [record["decision"] for record in records if record["kind"] == "decision"]
    assert (made["emitted_by"], made["scope"], made.get("turn_id")) == ("CP-05", "tenant", None)
    (told,) = [record for record in records if record.get("name") == "turn_start"]
    assert told["admission_reason"] == "over quota"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", -1),
        ("usable_until_us", -1),
        ("failure", "no_idea"),
        ("provenance", {}),
        ("provenance", {"routing_view_snapshot": "only one"}),
        ("provenance", {**dict.fromkeys(REFERENCES, "x"), "another": "x"}),
        ("provenance", {**dict.fromkeys(REFERENCES, "x"), "routing_view_snapshot": ""}),
        ("provenance", {**dict.fromkeys(REFERENCES, "x"), "routing_view_snapshot": "x" * 257}),
        ("adaptive_actions", ["retry", "improvise"]),
        ("admission", "shed"),
        ("admission_scope", "turn"),
        ("authority_epoch", -1),
        ("claim_us", -1),
    ],
)
def test_a_wrong_argument_is_named_and_changes_nothing(field: str, value: Any) -> None:
    call = managed()
    with pytest.raises(ValueError, match=field):
        call.tell("turn_start", **bundle(**{field: value}))
    assert call.records() == []


@pytest.mark.parametrize("field", ["snapshot_failure", "plan_failure"])
def test_a_wrong_policy_is_named(field: str) -> None:
    wrong: dict[str, Any] = {field: "perhaps"}
    with pytest.raises(ValueError, match=f'{field} is "perhaps": choose one of defer, reject'):
        TurnPolicy(**wrong)


def test_any_mapping_is_a_provenance() -> None:
    call = managed()
    call.tell("turn_start", **bundle(provenance=MappingProxyType(dict(bundle()["provenance"]))))
    assert isinstance(call.tell("text_message", 1)[0], OpenTurn)


def test_ct_006_a_deferred_turn_is_due_as_soon_as_the_source_is_back() -> None:
    call = managed()
    call.tell("text_message", 1)
    call.tell("turn_start", **bundle())
    assert call.kernel.next_deadline_us == call.now_us
    assert isinstance(call.tell("tick")[0], OpenTurn)


def _recorded(kernel: SessionKernel) -> bytes:
    told_us = START_US + 1_000
    kernel.lease(told_us, 3, START_US + 9_000_000)
    kernel.text_message(told_us, 1)
    kernel.turn_start(told_us + 50_000, **bundle())
    kernel.tick(told_us + 50_000)
    kernel.generation_finished(told_us + 90_000, kernel.turn)
    kernel.turn_start(told_us + 95_000, **bundle(usable_until_us=START_US + 6_000_000, admission="defer"))
    kernel.turn_start(told_us + 96_000, **bundle(version=2))
    kernel.text_message(told_us + 99_000, 2)
    kernel.turn_start(told_us + 120_000, **bundle(version=4, provenance=dict.fromkeys(REFERENCES, "new")))
    kernel.tick(told_us + 200_000)
    assert kernel.turn != 0
    return kernel.drain_records(10_000)


def _arguments() -> dict[str, Any]:
    return {
        "session_id": "a/b",
        "policy": TurnPolicy(needs_bundle=True, failure_notice=False),
        "plan": make_plan(),
        "now_us": START_US,
        "wall_clock_ms": 1_700_000_000_000,
    }


def test_ct_006_a_replay_decides_the_same_from_the_record() -> None:
    block = _recorded(SessionKernel(**_arguments()))
    replay = Replay(**_arguments())
    replay.feed(block)
    replay.finish()
    assert (replay.divergences, replay.gap) == ([], None)
    assert replay.turn != 0
    other = Replay(**{**_arguments(), "policy": TurnPolicy(needs_bundle=True, plan_failure="reject")})
    other.feed(block)
    other.finish()
    assert any("defer" in found.message and "reject" in found.message for found in other.divergences)


def test_ct_006_the_recorded_input_can_be_given_again_from_python() -> None:
    live, again = SessionKernel(**_arguments()), SessionKernel(**_arguments())
    decoder = _kernel.RecordDecoder(
        session_id="a/b",
        pipeline_version="shop@v1",
        created_us=START_US,
        created_wall_ms=1_700_000_000_000,
    )
    recorded = [json.loads(line) for line in decoder.decode(_recorded(live))]
    given: dict[str, Callable[[SessionKernel, dict[str, Any]], object]] = {
        **ENVIRONMENT,
        "tick": lambda kernel, record: kernel.tick(record["at_us"]),
        "generation_finished": lambda kernel, record: kernel.generation_finished(
            record["at_us"], record["turn"]
        ),
    }
    for record in recorded:
        if record["kind"] == "input":
            given[record["name"]](again, record)
    assert [json.loads(line) for line in again.drain_evidence(10_000)] == recorded
    told = [record for record in recorded if record.get("name") == "turn_start"]
    assert [record["provenance"] is None for record in told] == [False, True, True, False]
    assert "turn_start_bundle_refused" in {record.get("name") for record in recorded}
