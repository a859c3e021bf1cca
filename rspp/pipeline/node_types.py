"""The stock nodes of a pipeline and the edges between them: what each declares (contract section 6.5)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from rspp.contracts.media import FRAME_MS, MAX_QUEUED_MS, OUTPUT_RATE_HZ
from rspp.pipeline.base import CONTROL, DATA, FlowMode, Strategy
from rspp.pipeline.buffers import BufferOverride, WatermarkSection, WatermarksSection
from rspp.pipeline.graph_section import NodeType  # noqa: TC001 - other modules read these annotations

CALLER_AUDIO, VOICE_ACTIVITY, TRANSCRIPT = "caller_audio", "voice_activity", "transcript"
CONVERSATION, OUTPUT_CONTROL, UPDATE = "conversation", "output_control", "update"
REPLY_TEXT, SEGMENT, SPEECH = "reply_text", "segment", "speech"

LANE_OF = {
    CALLER_AUDIO: DATA,
    VOICE_ACTIVITY: CONTROL,
    TRANSCRIPT: DATA,
    CONVERSATION: DATA,
    OUTPUT_CONTROL: CONTROL,
    UPDATE: DATA,
    REPLY_TEXT: DATA,
    SEGMENT: DATA,
    SPEECH: DATA,
}
"""Lane of each kind of event. It follows from the kind, so that nobody can give control a lower lane."""


class NodeContract(Struct, frozen=True, kw_only=True):
    """What a node declares.

    Attributes:
        inputs: kinds of events it takes.
        outputs: kinds of events it makes.
        streaming: whether results come bit by bit.
        cancel: whether its work is stopped from outside or looks for itself.
        resources: what it needs most.
        state: class of the state it keeps.
        scope: whether it lives as long as the session or as long as a turn.
        hooks: what it is told, because it buffers or makes long streams.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    streaming: Literal["incremental", "final"] = "incremental"
    cancel: Literal["preemptible", "cooperative"] = "cooperative"
    resources: Literal["cpu", "network"] = "cpu"
    state: Literal["turn_ephemeral", "session_hot", "session_durable"] = "session_hot"
    scope: Literal["session", "turn"] = "session"
    hooks: tuple[Literal["on_cancel", "on_barge_in", "on_budget_exhausted"], ...] = ()


_HOOKS: tuple[Literal["on_cancel", "on_barge_in", "on_budget_exhausted"], ...] = (
    "on_cancel",
    "on_barge_in",
    "on_budget_exhausted",
)

NODE_TYPES: dict[NodeType, NodeContract] = {
    "room-in": NodeContract(outputs=(CALLER_AUDIO,), resources="network"),
    "vad": NodeContract(inputs=(CALLER_AUDIO,), outputs=(CALLER_AUDIO, VOICE_ACTIVITY)),
    "stt": NodeContract(inputs=(CALLER_AUDIO,), outputs=(TRANSCRIPT,), hooks=_HOOKS),
    "turn": NodeContract(
        inputs=(VOICE_ACTIVITY, TRANSCRIPT),
        outputs=(CONVERSATION, OUTPUT_CONTROL, UPDATE),
        state="session_durable",
    ),
    "llm": NodeContract(
        inputs=(CONVERSATION,),
        outputs=(REPLY_TEXT,),
        cancel="preemptible",
        resources="network",
        state="turn_ephemeral",
        scope="turn",
        hooks=_HOOKS,
    ),
    "notice": NodeContract(
        inputs=(CONVERSATION,), outputs=(REPLY_TEXT,), streaming="final", state="turn_ephemeral", scope="turn"
    ),
    "segmenter": NodeContract(
        inputs=(REPLY_TEXT,), outputs=(SEGMENT,), state="turn_ephemeral", scope="turn", hooks=_HOOKS
    ),
    "tts": NodeContract(
        inputs=(SEGMENT,),
        outputs=(SPEECH,),
        cancel="preemptible",
        state="turn_ephemeral",
        scope="turn",
        hooks=_HOOKS,
    ),
    "playout": NodeContract(
        inputs=(SPEECH, OUTPUT_CONTROL), outputs=(SPEECH,), state="turn_ephemeral", scope="turn", hooks=_HOOKS
    ),
    "room-out": NodeContract(inputs=(SPEECH,), resources="network"),
    "presenter": NodeContract(inputs=(UPDATE,), resources="network"),
}


PROVIDER_NODES: tuple[NodeType, ...] = ("stt", "llm", "tts")
"""Nodes that call providers, whose attempts run under a budget."""


class StockEdge(Struct, frozen=True, kw_only=True):
    """An edge that the session has, with what it needs of its buffer.

    Attributes:
        buffered: whether it is a queue; otherwise an event is handed over within the step that made it.
        defaults: what it does differently from the profile.
        strategies: strategies that its two nodes can live with; empty for all.
        modes: flow-control modes that its two nodes can live with; empty for all.
        fixed: why nothing of it may be overridden; empty when it may.
        least: least bounds that its two nodes can live with.
        idle: settings that would change nothing here, each with why; they are refused, so that a plan never
            says what does not hold.
    """

    buffered: bool = False
    defaults: BufferOverride = BufferOverride()
    strategies: tuple[Strategy, ...] = ()
    modes: tuple[FlowMode, ...] = ()
    fixed: str = ""
    least: dict[str, int] = {}
    idle: dict[str, str] = {}


_SHARES = {
    "fairness_key": "shares of what sessions have in common are those of the profile: admission.fairness_key"
}

SPEECH_AHEAD_MS = 2_000
"""Speech made ahead of its playout: 2 s bridge any pause of a local voice and bound a session's memory
at 96 kB; a producer that is further ahead waits."""
_AHEAD_FRAMES = SPEECH_AHEAD_MS // FRAME_MS
_BYTES_PER_MS = OUTPUT_RATE_HZ * 2 // 1000

MAX_UPDATES = 64
"""Updates that may wait; later ones are shed, since a front end that is this far behind is gone."""


def _marks(high: int, low: int) -> WatermarksSection:
    return WatermarksSection(queue_items=WatermarkSection(high=high, low=low))


STOCK_EDGES: dict[tuple[NodeType, NodeType], StockEdge] = {
    ("room-in", "vad"): StockEdge(),
    ("vad", "stt"): StockEdge(),
    ("vad", "turn"): StockEdge(),
    ("stt", "turn"): StockEdge(),
    ("turn", "llm"): StockEdge(),
    ("turn", "notice"): StockEdge(),
    ("turn", "playout"): StockEdge(),
    ("turn", "presenter"): StockEdge(
        buffered=True,
        defaults=BufferOverride(
            strategy="drop",
            flow_control="signal",
            max_queue_items=MAX_UPDATES,
            max_queue_ms=600_000,
            max_queue_bytes=1 << 20,
            max_latency_contribution_ms=600_000,
            watermarks=_marks(MAX_UPDATES, MAX_UPDATES // 2),
        ),
        strategies=("drop", "latest_only"),
        modes=("signal",),
        idle=_SHARES,
    ),
    ("llm", "segmenter"): StockEdge(),
    ("notice", "segmenter"): StockEdge(),
    ("segmenter", "tts"): StockEdge(),
    ("tts", "playout"): StockEdge(
        buffered=True,
        # The time that the producer may be made to wait is the budget of a stalled answer.
        defaults=BufferOverride(
            strategy="block",
            flow_control="signal",
            max_queue_items=2 * _AHEAD_FRAMES,
            max_queue_ms=2 * SPEECH_AHEAD_MS,
            max_queue_bytes=2 * SPEECH_AHEAD_MS * _BYTES_PER_MS,
            max_latency_contribution_ms=2 * SPEECH_AHEAD_MS,
            watermarks=_marks(_AHEAD_FRAMES, _AHEAD_FRAMES // 2),
        ),
        strategies=("block",),
        least={
            "max_queue_items": 2,
            "max_queue_ms": 2 * FRAME_MS,
            "max_queue_bytes": 2 * FRAME_MS * _BYTES_PER_MS,
        },
        idle={
            **_SHARES,
            "max_block_time_ms": "an answer that stands still ends after budget.stall_ms",
            "max_latency_contribution_ms": "speech is never shed for its age; max_queue_ms bounds it",
        },
    ),
    ("playout", "room-out"): StockEdge(
        buffered=True,
        defaults=BufferOverride(
            strategy="block",
            flow_control="signal",
            max_queue_items=MAX_QUEUED_MS // FRAME_MS,
            max_queue_ms=MAX_QUEUED_MS,
            max_queue_bytes=MAX_QUEUED_MS * _BYTES_PER_MS,
            max_latency_contribution_ms=MAX_QUEUED_MS,
            watermarks=_marks(MAX_QUEUED_MS // FRAME_MS, 1),
        ),
        strategies=("block",),
        modes=("signal",),
        fixed=f"at most {MAX_QUEUED_MS} ms may lie behind the gate, so that a cancel is heard at once",
    ),
}
"""The built-in graph: its edges in declaration order; its nodes are those of ``NODE_TYPES``, each once."""

FALLBACK_PATH: tuple[NodeType, ...] = ("notice", "segmenter", "tts", "playout", "room-out")
"""The way of a notice, whose speech was made ahead."""


def carried(producer: NodeType, consumer: NodeType) -> tuple[str, ...]:
    """Return the kinds of events that one node makes and the other takes."""
    takes = NODE_TYPES[consumer].inputs
    return tuple(kind for kind in NODE_TYPES[producer].outputs if kind in takes)
