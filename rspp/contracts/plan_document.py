"""The frozen plan of a turn as a typed document (sections 5 and 7 of the contracts)."""

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003 - msgspec reads the annotations of this module
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from rspp.contracts.envelope import Count, Name, Positive, Version  # noqa: TC001 - msgspec reads them
from rspp.contracts.reading import Fault, join

Strategy = Literal["block", "drop", "merge", "sample", "latest_only"]
FlowMode = Literal["signal", "credit", "hybrid"]
AdaptiveAction = Literal["retry", "provider_switch", "degrade", "fallback"]
ReplayMode = Literal[
    "re_simulate_nodes", "playback_recorded_provider_outputs", "replay_decisions", "recompute_decisions"
]
PlanHash = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}$(?!\n)")]

LANES = {"data": "DataLane", "control": "ControlLane", "telemetry": "TelemetryLane"}


class _Part(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every part of a plan."""


class Budgets(_Part, frozen=True, kw_only=True):
    """Time budgets in ms."""

    turn_budget_ms: Positive
    node_budget_ms_default: Positive
    path_budget_ms_default: Positive
    edge_budget_ms_default: Positive


class Watermark(_Part, frozen=True, kw_only=True):
    """Stop at ``high``, go on at ``low``."""

    high: Positive
    low: Count


class EdgeWatermarks(_Part, frozen=True, kw_only=True):
    """At least one of items and time."""

    queue_items: Watermark | UnsetType = UNSET
    queue_ms: Watermark | UnsetType = UNSET


class LaneHandling(_Part, frozen=True, kw_only=True, rename=LANES):
    """What a full edge does with each lane."""

    data: Strategy
    control: Name
    telemetry: Literal["drop", "sample", "best_effort_drop"]


class SyncDropPolicy(_Part, frozen=True, kw_only=True):
    """How items that belong together are dropped."""

    policy: Literal["atomic_drop", "drop_with_discontinuity", "no_sync"]
    scope: Literal["edge_local", "plan_wide"]
    group_by: Literal["sync_id", "event_id", "custom"] | UnsetType = UNSET
    sync_domain: Name | UnsetType = UNSET

    def check(self, path: str) -> Iterator[Fault]:
        """Yield every broken rule beyond the types."""
        if self.policy != "no_sync" and self.group_by is UNSET:
            yield Fault("plan.group_by", f"{path}.group_by", f"needed by {self.policy}")
        if self.policy == "drop_with_discontinuity" and self.sync_domain is UNSET:
            yield Fault("plan.sync_domain", f"{path}.sync_domain", f"needed by {self.policy}")


class EdgeBufferPolicy(_Part, frozen=True, kw_only=True):
    """Bounds and behaviour of one edge."""

    strategy: Strategy
    max_queue_items: Positive
    max_queue_ms: Positive
    max_queue_bytes: Positive
    max_latency_contribution_ms: Positive
    max_block_time_ms: Positive | UnsetType = UNSET
    watermarks: EdgeWatermarks
    lane_handling: LaneHandling
    fairness_key: Name | UnsetType = UNSET
    defaulting_source: Literal["explicit_edge_config", "execution_profile_default"]
    sync_drop_policy: SyncDropPolicy | UnsetType = UNSET

    def check(self, path: str) -> Iterator[Fault]:
        """Yield every broken rule beyond the types."""
        if self.lane_handling.control != "non_blocking_priority":
            field = f"{path}.lane_handling.ControlLane"
            yield Fault("plan.control_handling", field, "must be non_blocking_priority")
        blocks = "block" in (self.strategy, self.lane_handling.data)
        if blocks and self.max_block_time_ms is UNSET:
            yield Fault(
                "plan.block_time", f"{path}.max_block_time_ms", "an edge that blocks says for how long"
            )
        marks = {"queue_items": self.watermarks.queue_items, "queue_ms": self.watermarks.queue_ms}
        if all(mark is UNSET for mark in marks.values()):
            yield Fault("plan.watermarks", f"{path}.watermarks", "at least one of queue_items and queue_ms")
        yield from _check_marks(marks, f"{path}.watermarks")
        if self.sync_drop_policy is not UNSET:
            yield from self.sync_drop_policy.check(f"{path}.sync_drop_policy")


class FlowModes(_Part, frozen=True, kw_only=True, rename=LANES):
    """Flow-control mode of each lane."""

    data: FlowMode
    control: FlowMode
    telemetry: FlowMode


class LaneWatermarks(_Part, frozen=True, kw_only=True, rename=LANES):
    """Watermarks of each lane."""

    data: Watermark
    control: Watermark
    telemetry: Watermark


class LaneShedding(_Part, frozen=True, kw_only=True, rename=LANES):
    """What each lane sheds first."""

    data: Literal["drop", "merge", "latest_only", "degrade", "fallback"]
    control: Name
    telemetry: Literal["drop", "sample"]


class FlowControl(_Part, frozen=True, kw_only=True):
    """Backpressure (contract section 7.4)."""

    mode_by_lane: FlowModes
    watermarks: LaneWatermarks
    shedding_strategy_by_lane: LaneShedding

    def check(self, path: str) -> Iterator[Fault]:
        """Yield every broken rule beyond the types."""
        marks = self.watermarks
        by_lane = {"DataLane": marks.data, "ControlLane": marks.control, "TelemetryLane": marks.telemetry}
        yield from _check_marks(by_lane, f"{path}.watermarks")
        if self.shedding_strategy_by_lane.control != "none":
            field = f"{path}.shedding_strategy_by_lane.ControlLane"
            yield Fault("plan.control_shedding", field, "must be none")


class SnapshotProvenance(_Part, frozen=True, kw_only=True):
    """Which snapshots the plan was made from."""

    routing_view_snapshot: Name
    admission_policy_snapshot: Name
    abi_compatibility_snapshot: Name
    version_resolution_snapshot: Name
    policy_resolution_snapshot: Name
    provider_health_snapshot: Name


class RecordingPolicy(_Part, frozen=True, kw_only=True):
    """What is recorded and how it may be replayed."""

    recording_level: Literal["L0", "L1", "L2"]
    allowed_replay_modes: Annotated[list[ReplayMode], Meta(min_length=1)]


class NondeterministicInput(_Part, frozen=True, kw_only=True):
    """An input that cannot be computed again."""

    input_key: Name
    source: Literal["external_call", "system_time", "random", "operator_override", "other"]
    evidence_ref: Name


class Determinism(_Part, frozen=True, kw_only=True):
    """What makes a turn repeatable."""

    seed: Count
    ordering_markers: Annotated[list[Name], Meta(min_length=1)]
    ordering_marker: Name | UnsetType = UNSET
    merge_rule_id: Name
    merge_rule_version: Version | UnsetType = UNSET
    nondeterministic_inputs: list[NondeterministicInput]


class ResolvedTurnPlan(_Part, frozen=True, kw_only=True):
    """Everything that is fixed for one turn."""

    turn_id: Name
    pipeline_version: Name
    plan_hash: PlanHash
    graph_definition_ref: Name
    execution_profile: Name
    authority_epoch: Count
    budgets: Budgets
    provider_bindings: Annotated[dict[str, Name], Meta(min_length=1)]
    edge_buffer_policies: Annotated[dict[str, EdgeBufferPolicy], Meta(min_length=1)]
    flow_control: FlowControl
    allowed_adaptive_actions: list[AdaptiveAction]
    snapshot_provenance: SnapshotProvenance
    recording_policy: RecordingPolicy
    determinism: Determinism

    def check(self) -> Iterator[Fault]:
        """Yield every broken rule beyond the types."""
        for field, items in (
            ("allowed_adaptive_actions", self.allowed_adaptive_actions),
            ("recording_policy.allowed_replay_modes", self.recording_policy.allowed_replay_modes),
            ("determinism.ordering_markers", self.determinism.ordering_markers),
        ):
            if len(set(items)) < len(items):
                yield Fault("shape.unique", field, "an item occurs twice")
        for name, edge in self.edge_buffer_policies.items():
            yield from edge.check(join("edge_buffer_policies", name))
        yield from self.flow_control.check("flow_control")


def _check_marks(
    marks: dict[str, Watermark | UnsetType] | dict[str, Watermark], path: str
) -> Iterator[Fault]:
    for name, mark in marks.items():
        if mark is not UNSET and mark.low >= mark.high:
            yield Fault("plan.watermark_order", f"{path}.{name}", "low must lie below high")
