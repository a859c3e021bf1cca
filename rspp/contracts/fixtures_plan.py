"""Fixtures of plans: every required field at every level, every condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.contracts.fixtures import Fixture, invalid, valid
from rspp.contracts.samples import ABSENT, changed, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "resolved_turn_plan"
EGRESS = "edge_buffer_policies__egress"
SYNC = f"{EGRESS}__sync_drop_policy"

# A plan may do without these; where a condition asks for one, the condition has a fixture of its own.
OPTIONAL = {
    "fairness_key",
    "sync_drop_policy",
    "group_by",
    "sync_domain",
    "max_block_time_ms",
    "ordering_marker",
    "merge_rule_version",
    "queue_items",
    "queue_ms",
    "default",
    "egress",
    "stt",
    "llm",
    "tts",
}
WORDS = (
    f"{EGRESS}__strategy",
    f"{EGRESS}__lane_handling__DataLane",
    f"{EGRESS}__lane_handling__TelemetryLane",
    f"{EGRESS}__defaulting_source",
    f"{SYNC}__policy",
    f"{SYNC}__scope",
    f"{SYNC}__group_by",
    "flow_control__mode_by_lane__ControlLane",
    "flow_control__shedding_strategy_by_lane__DataLane",
    "flow_control__shedding_strategy_by_lane__TelemetryLane",
    "recording_policy__recording_level",
)


def fixtures() -> Iterator[Fixture]:
    """Yield every fixture of plans."""
    yield from _valid()
    yield from _fields()
    yield from _lists()
    yield from _conditions()


def _dotted(path: str) -> str:
    return path.replace("__", ".")


def _paths(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        here = f"{path}__{name}" if path else name
        yield here, value
        if isinstance(value, dict):
            yield from _paths(value, here)


def _valid() -> Iterator[Fixture]:
    shapes = ("shape.required", "shape.unknown_field", "shape.count", "shape.unique", "shape.format")
    conditions = (
        "plan.block_time",
        "plan.watermarks",
        "plan.watermark_order",
        "plan.control_handling",
        "plan.control_shedding",
        "plan.group_by",
        "plan.sync_domain",
    )
    yield valid(KIND, "every-field", plan(), *shapes, *conditions)
    bare: dict[str, object] = {
        "edge_buffer_policies__egress": ABSENT,
        "allowed_adaptive_actions": [],
        "determinism__ordering_marker": ABSENT,
        "determinism__merge_rule_version": ABSENT,
        "determinism__nondeterministic_inputs": [],
    }
    yield valid(KIND, "least", plan(**bare), "shape.required")
    yield valid(KIND, "hash-in-capitals", plan(plan_hash="AB" * 32), "shape.format")
    yield valid(
        KIND, "watermark-on-time", plan(**{f"{EGRESS}__watermarks__queue_items": ABSENT}), "plan.watermarks"
    )
    no_sync = {"policy": "no_sync", "scope": "edge_local"}
    yield valid(KIND, "no-sync", plan(**{SYNC: no_sync}), "plan.group_by", "plan.sync_domain")
    atomic = {"policy": "atomic_drop", "scope": "edge_local", "group_by": "event_id"}
    yield valid(KIND, "atomic-drop", plan(**{SYNC: atomic}), "plan.group_by", "plan.sync_domain")
    drop = {f"{EGRESS}__strategy": "latest_only", f"{EGRESS}__max_block_time_ms": ABSENT}
    yield valid(KIND, "drops-and-never-blocks", plan(**drop), "plan.block_time")


def _fields() -> Iterator[Fixture]:
    for path, value in _paths(plan()):
        field, name = _dotted(path), path.rpartition("__")[2]
        if "__default" in path and name not in ("default",):
            continue
        if name not in OPTIONAL:
            yield invalid(KIND, "shape.required", field, plan(**{path: ABSENT}))
        wrong: object = 1 if isinstance(value, str) else "1"
        yield invalid(KIND, "shape.type", field, plan(**{path: wrong}))
        if isinstance(value, dict) and name not in ("provider_bindings", "edge_buffer_policies"):
            yield invalid(KIND, "shape.unknown_field", f"{field}.color", plan(**{f"{path}__color": 1}))
        if isinstance(value, int):
            yield invalid(KIND, "shape.range", field, plan(**{path: -1}))
        if path.startswith("snapshot_provenance__") or path in ("turn_id", "graph_definition_ref"):
            yield invalid(KIND, "shape.empty_text", field, plan(**{path: ""}))
    for path in WORDS:
        yield invalid(KIND, "shape.word", _dotted(path), plan(**{path: "other"}))
    for path in ("budgets__turn_budget_ms", f"{EGRESS}__max_queue_items"):
        yield invalid(KIND, "shape.range", _dotted(path), plan(**{path: 0}), f"{_dotted(path)}-zero")
    high = f"{EGRESS}__watermarks__queue_items__high"
    yield invalid(KIND, "shape.range", _dotted(high), plan(**{high: 0}), "watermark-high-zero")
    bytes_mark = f"{EGRESS}__watermarks__queue_bytes"
    field = _dotted(bytes_mark)
    yield invalid(KIND, "shape.unknown_field", field, plan(**{bytes_mark: {"high": 2, "low": 1}}))
    yield invalid(KIND, "shape.unknown_field", "turn_thresholds", plan(turn_thresholds={}))
    binding = "provider_bindings__stt"
    yield invalid(KIND, "shape.empty_text", _dotted(binding), plan(**{binding: ""}))
    for number, digits in enumerate(("ab" * 31, "ab" * 33, "xy" * 32, "ab" * 32 + "\n")):
        yield invalid(KIND, "shape.format", "plan_hash", plan(plan_hash=digits), f"hash-{number}")
    version = "determinism__merge_rule_version"
    yield invalid(KIND, "shape.format", _dotted(version), plan(**{version: "1.0"}))


def _lists() -> Iterator[Fixture]:
    yield invalid(KIND, "shape.count", "provider_bindings", plan(provider_bindings={}))
    yield invalid(KIND, "shape.count", "edge_buffer_policies", plan(edge_buffer_policies={}))
    for path, once in (
        ("allowed_adaptive_actions", "retry"),
        ("recording_policy__allowed_replay_modes", "replay_decisions"),
        ("determinism__ordering_markers", "event_id"),
    ):
        field = _dotted(path)
        yield invalid(KIND, "shape.unique", field, plan(**{path: [once, once]}))
        yield invalid(KIND, "shape.type", f"{field}[0]", plan(**{path: [1]}))
        if path != "allowed_adaptive_actions":
            yield invalid(KIND, "shape.count", field, plan(**{path: []}))
        if path != "determinism__ordering_markers":
            yield invalid(KIND, "shape.word", f"{field}[1]", plan(**{path: [once, "other"]}))
    inputs = "determinism__nondeterministic_inputs"
    good = {"input_key": "llm", "source": "external_call", "evidence_ref": "provider/llm"}
    for name in good:
        field = f"determinism.nondeterministic_inputs[1].{name}"
        lacking = {key: value for key, value in good.items() if key != name}
        yield invalid(KIND, "shape.required", field, plan(**{inputs: [good, lacking]}))
    other = [good | {"source": "dice"}]
    yield invalid(
        KIND, "shape.word", "determinism.nondeterministic_inputs[0].source", plan(**{inputs: other})
    )


def _conditions() -> Iterator[Fixture]:
    field = _dotted(f"{EGRESS}__max_block_time_ms")
    untimed = plan(**{f"{EGRESS}__max_block_time_ms": ABSENT})
    yield invalid(KIND, "plan.block_time", field, untimed, "by-strategy")
    by_lane = changed(
        untimed, **{f"{EGRESS}__strategy": "drop", f"{EGRESS}__lane_handling__DataLane": "block"}
    )
    yield invalid(KIND, "plan.block_time", field, by_lane, "by-data-lane")
    marks = f"{EGRESS}__watermarks"
    yield invalid(KIND, "plan.watermarks", _dotted(marks), plan(**{marks: {}}))
    for path in (f"{marks}__queue_items", f"{marks}__queue_ms", "flow_control__watermarks__TelemetryLane"):
        for detail, mark in (("equal", {"high": 5, "low": 5}), ("reversed", {"high": 5, "low": 9})):
            name = f"{_dotted(path)}-{detail}"
            yield invalid(KIND, "plan.watermark_order", _dotted(path), plan(**{path: mark}), name)
    for path, rule in (
        (f"{EGRESS}__lane_handling__ControlLane", "plan.control_handling"),
        ("flow_control__shedding_strategy_by_lane__ControlLane", "plan.control_shedding"),
    ):
        yield invalid(KIND, rule, _dotted(path), plan(**{path: "drop"}))
    for policy in ("atomic_drop", "drop_with_discontinuity"):
        document = plan(**{f"{SYNC}__policy": policy, f"{SYNC}__group_by": ABSENT})
        yield invalid(KIND, "plan.group_by", _dotted(f"{SYNC}__group_by"), document, policy)
    path = f"{SYNC}__sync_domain"
    yield invalid(KIND, "plan.sync_domain", _dotted(path), plan(**{path: ABSENT}))
