"""Execution profiles: named defaults that a pipeline runs under (contract sections 6.1 and 6.4).

The defaults of the types are the built-in profile ``simple``, so that a profile of one's own says only
what it does differently.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

from msgspec import Meta, field

from rspp.pipeline.base import LANES, AdaptiveAction, FlowMode, Identifier, Milliseconds, Strict
from rspp.pipeline.buffers import EdgeDefaults, WatermarkSection
from rspp.pipeline.quotas import AdmissionDefaults

SIMPLE_NAME = "simple"
RecordingLevel: TypeAlias = Literal["L0", "L1", "L2"]
ReplayMode: TypeAlias = Literal[
    "re_simulate_nodes", "playback_recorded_provider_outputs", "replay_decisions", "recompute_decisions"
]
REPLAY_MODES: tuple[ReplayMode, ...] = get_args(ReplayMode)
Knob: TypeAlias = Literal[
    "strategy",
    "max_queue_items",
    "max_queue_ms",
    "max_queue_bytes",
    "max_latency_contribution_ms",
    "max_block_time_ms",
    "watermarks",
    "lane_handling",
    "fairness_key",
    "sync_drop_policy",
    "flow_control",
]
KNOBS: tuple[Knob, ...] = (
    "strategy",
    "max_queue_items",
    "max_queue_ms",
    "max_queue_bytes",
    "max_latency_contribution_ms",
    "max_block_time_ms",
    "watermarks",
    "lane_handling",
    "fairness_key",
    "sync_drop_policy",
    "flow_control",
)


class BudgetDefaults(Strict, frozen=True, kw_only=True):
    """Time budgets in milliseconds.

    Attributes:
        turn_ms: from ``turn_open`` to the first frame of speech.
        path_ms: without a frame in the middle of an unfinished answer.
        node_ms: a node has exhausted its budget.
        node_warn_ms: a node is warned; at most ``node_ms``.
        edge_ms: an item on one edge.
    """

    turn_ms: Milliseconds = 5000
    path_ms: Milliseconds = 3000
    node_ms: Milliseconds = 1500
    node_warn_ms: Milliseconds = 1200
    edge_ms: Milliseconds = 500


class FlowModes(Strict, frozen=True, kw_only=True, rename=LANES):
    """How each lane makes its producers wait.

    Attributes:
        data: audio and text.
        control: signals only, since control never waits for credits.
        telemetry: figures and logs; whoever makes them never waits.
    """

    data: FlowMode = "signal"
    control: Literal["signal"] = "signal"
    telemetry: Literal["signal"] = "signal"


def _marks(high: int, low: int) -> WatermarkSection:
    return field(default_factory=lambda: WatermarkSection(high=high, low=low))


LANE_ITEMS = {"control": 64, "data": 128, "telemetry": 256}
"""Most items that wait on each lane where a profile's marks leave that open."""


class LaneMarks(Strict, frozen=True, kw_only=True, rename=LANES):
    """Watermarks of each lane, in items.

    Attributes:
        data: audio and text.
        control: decisions and their signals.
        telemetry: figures and logs.
    """

    data: WatermarkSection = _marks(100, 50)
    control: WatermarkSection = _marks(20, 10)
    telemetry: WatermarkSection = _marks(200, 100)


class LaneShedding(Strict, frozen=True, kw_only=True, rename=LANES):
    """What each lane sheds under pressure.

    Attributes:
        data: audio and text.
        control: nothing, ever; it cannot be overridden.
        telemetry: figures and logs.
    """

    data: Literal["drop", "latest_only"] = "drop"
    control: Literal["none"] = "none"
    telemetry: Literal["drop", "sample"] = "sample"


class FlowControlDefaults(Strict, frozen=True, kw_only=True):
    """Backpressure between lanes.

    Attributes:
        mode_by_lane: how each lane makes its producers wait.
        watermarks: when it does.
        shedding_strategy_by_lane: what it sheds.
    """

    mode_by_lane: FlowModes = field(default_factory=FlowModes)
    watermarks: LaneMarks = field(default_factory=LaneMarks)
    shedding_strategy_by_lane: LaneShedding = field(default_factory=LaneShedding)

    def lane_bounds(self, lane: Literal["control", "data", "telemetry"]) -> tuple[int, int, int]:
        """Return most items of a lane, where its producers stop and where they go on."""
        marks: WatermarkSection = getattr(self.watermarks, lane)
        return max(LANE_ITEMS[lane], marks.high), marks.high, marks.low


class Posture(Strict, frozen=True, kw_only=True):
    """What recording at one level costs and exposes.

    Attributes:
        cost: relative cost of storing it.
        security: what the stored evidence may hold.
    """

    cost: Literal["low", "medium", "high"]
    security: Literal["metadata_only", "redacted", "full"]


def _posture(
    cost: Literal["low", "medium", "high"], security: Literal["metadata_only", "redacted", "full"]
) -> Posture:
    return field(default_factory=lambda: Posture(cost=cost, security=security))


class Postures(Strict, frozen=True, kw_only=True, rename=str.upper):
    """Cost and exposure of each recording level.

    Attributes:
        l0: decisions and their evidence.
        l1: also what was said, redacted.
        l2: everything.
    """

    l0: Posture = _posture("low", "metadata_only")
    l1: Posture = _posture("medium", "redacted")
    l2: Posture = _posture("high", "full")


class RecordingDefaults(Strict, frozen=True, kw_only=True):
    """What is recorded and how it may be replayed.

    Attributes:
        level: recording level.
        replay_modes: how a recording may be replayed; each also needs what it runs on to be recorded.
        postures: what each level costs and exposes.
    """

    level: RecordingLevel = "L0"
    replay_modes: Annotated[tuple[ReplayMode, ...], Meta(min_length=1)] = REPLAY_MODES
    postures: Postures = field(default_factory=Postures)


class AudioFormat(Strict, frozen=True, kw_only=True):
    """Audio inside a session; this runtime knows one format.

    Attributes:
        input_rate_hz: what recognition and voice activity detection hear.
        output_rate_hz: what synthesis makes.
        channels: mono.
        frame_ms: length of a frame that passes the gate.
        resampling_owner: who resamples: the transport, at the room.
    """

    input_rate_hz: Literal[16000] = 16000
    output_rate_hz: Literal[24000] = 24000
    channels: Literal[1] = 1
    frame_ms: Literal[20] = 20
    resampling_owner: Literal["transport"] = "transport"


class AttemptLimits(Strict, frozen=True, kw_only=True):
    """Most attempts of one provider invocation.

    Attributes:
        per_provider: attempts with the same provider.
        candidates: providers tried.
    """

    per_provider: Annotated[int, Meta(ge=1, le=2)] = 2
    candidates: Annotated[int, Meta(ge=1, le=5)] = 5


class PoolLimits(Strict, frozen=True, kw_only=True):
    """Where the blocking work of a runtime's calls runs: decoding of speech, reading of the speech process.

    Attributes:
        queue: most pieces of work that wait; calls take turns, and one that has no room fails its call.
        workers: pieces at once; one that runs for more than 100 ms goes on beside them.
    """

    queue: Annotated[int, Meta(ge=1, le=10_000)] = 64
    workers: Annotated[int, Meta(ge=1, le=64)] = 1


class ExecutionProfile(Strict, frozen=True, kw_only=True):
    """Named defaults; whatever a profile leaves out is as in the built-in profile ``simple``.

    Attributes:
        name: what pipelines call it.
        budgets: time budgets.
        edge: the buffer of an edge that says nothing of its own.
        flow_control: backpressure between lanes.
        adaptive_actions: what may be tried within a turn when something fails; empty for nothing.
        opt_in: what a pipeline may override on single edges.
        recording: what is recorded and how it may be replayed.
        audio: audio inside a session.
        attempts: most attempts of one provider invocation.
        pool: where blocking work runs.
        admission: places that the sessions of a runtime share.
    """

    name: Identifier
    budgets: BudgetDefaults = field(default_factory=BudgetDefaults)
    edge: EdgeDefaults = field(default_factory=EdgeDefaults)
    flow_control: FlowControlDefaults = field(default_factory=FlowControlDefaults)
    adaptive_actions: tuple[AdaptiveAction, ...] = ("retry", "provider_switch", "fallback")
    opt_in: tuple[Knob, ...] = KNOBS
    recording: RecordingDefaults = field(default_factory=RecordingDefaults)
    audio: AudioFormat = field(default_factory=AudioFormat)
    attempts: AttemptLimits = field(default_factory=AttemptLimits)
    pool: PoolLimits = field(default_factory=PoolLimits)
    admission: AdmissionDefaults = field(default_factory=AdmissionDefaults)


SIMPLE = ExecutionProfile(name=SIMPLE_NAME)
"""The built-in profile; its numbers are those of contract section 6.4."""
