"""What an author or a profile may say of an edge's buffer (contract sections 5.2 and 7)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType, field

from rspp.pipeline.base import LANES, FlowMode, Milliseconds, Name, Strategy, Strict

Items: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
Bytes: TypeAlias = Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)]
Mark: TypeAlias = Annotated[int, Meta(ge=0, le=600_000)]
TelemetryHandling: TypeAlias = Literal["drop", "sample", "best_effort_drop"]


class WatermarkSection(Strict, frozen=True, kw_only=True):
    """When a producer must stop and when it may go on.

    Attributes:
        high: the producer stops when this much waits.
        low: it goes on when no more than this waits; below ``high``.
    """

    high: Items
    low: Mark


class WatermarksSection(Strict, frozen=True, kw_only=True):
    """The two domains that are watched.

    Attributes:
        queue_items: marks in items.
        queue_ms: marks in milliseconds of what waits.
    """

    queue_items: WatermarkSection | UnsetType = UNSET
    queue_ms: WatermarkSection | UnsetType = UNSET


class LaneHandlingSection(Strict, frozen=True, kw_only=True, rename=LANES):
    """What a full edge does with each lane.

    Attributes:
        data: audio and text.
        control: always passes the others; it cannot be overridden.
        telemetry: figures and logs, which never make the others wait.
    """

    data: Strategy | UnsetType = UNSET
    control: Literal["non_blocking_priority"] = "non_blocking_priority"
    telemetry: TelemetryHandling | UnsetType = UNSET


class SyncDropSection(Strict, frozen=True, kw_only=True):
    """How items that belong together are dropped.

    Attributes:
        policy: ``atomic_drop`` drops the whole group, ``drop_with_discontinuity`` marks the loss,
            ``no_sync`` couples nothing.
        scope: whether the edge alone or the whole plan follows.
        group_by: what makes a group.
        sync_domain: where a discontinuity applies; ``drop_with_discontinuity`` needs it.
    """

    policy: Literal["atomic_drop", "drop_with_discontinuity", "no_sync"]
    scope: Literal["edge_local", "plan_wide"] = "edge_local"
    group_by: Literal["sync_id", "event_id", "custom"] = "sync_id"
    sync_domain: Name | UnsetType = UNSET


class BufferOverride(Strict, frozen=True, kw_only=True):
    """What one edge does differently; whatever is left out comes from the profile.

    Attributes:
        strategy: what happens when a bound would be passed.
        max_queue_items: most items.
        max_queue_ms: most milliseconds of items together.
        max_queue_bytes: most bytes of items together.
        max_latency_contribution_ms: most that the edge may add to the latency of what passes.
        max_block_time_ms: longest that a producer waits under ``block``, which needs it.
        watermarks: where flow stops and goes on.
        lane_handling: what a full edge does with each lane.
        fairness_key: unit of shares in pools that sessions share, such as ``session``.
        sync_drop_policy: how items that belong together are dropped.
        flow_control: how the consumer makes its producer wait.
    """

    strategy: Strategy | UnsetType = UNSET
    max_queue_items: Items | UnsetType = UNSET
    max_queue_ms: Milliseconds | UnsetType = UNSET
    max_queue_bytes: Bytes | UnsetType = UNSET
    max_latency_contribution_ms: Milliseconds | UnsetType = UNSET
    max_block_time_ms: Milliseconds | UnsetType = UNSET
    watermarks: WatermarksSection | UnsetType = UNSET
    lane_handling: LaneHandlingSection | UnsetType = UNSET
    fairness_key: Name | UnsetType = UNSET
    sync_drop_policy: SyncDropSection | UnsetType = UNSET
    flow_control: FlowMode | UnsetType = UNSET


class EdgeDefaults(Strict, frozen=True, kw_only=True):
    """The buffer of an edge that says nothing of its own.

    Attributes:
        strategy: what happens when a bound would be passed; ``block`` is for single edges only.
        max_queue_items: most items.
        max_queue_ms: most milliseconds of items together.
        max_queue_bytes: most bytes of items together.
        max_latency_contribution_ms: most that an edge may add to the latency of what passes.
        watermarks: where flow stops and goes on, in items.
        telemetry: what a full edge does with the telemetry lane.
    """

    strategy: Literal["drop", "merge", "sample", "latest_only"] = "drop"
    max_queue_items: Items = 64
    max_queue_ms: Milliseconds = 300
    max_queue_bytes: Bytes = 262_144
    max_latency_contribution_ms: Milliseconds = 120
    watermarks: WatermarkSection = field(default_factory=lambda: WatermarkSection(high=48, low=24))
    telemetry: TelemetryHandling = "best_effort_drop"
