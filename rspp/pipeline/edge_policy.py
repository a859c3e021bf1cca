"""The effective buffer of one edge: profile, then the built-in graph, then the author's overrides.

Every value remembers where it came from. An override outside the envelope of contract section 6.3 is
refused with the rule that it breaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import UNSET

from rspp.contracts.plan_document import EdgeBufferPolicy
from rspp.pipeline.base import CONTROL, DATA, TELEMETRY, FlowMode
from rspp.pipeline.buffers import BufferOverride, SyncDropSection
from rspp.pipeline.structure import GraphFault

if TYPE_CHECKING:
    from rspp.pipeline.node_types import StockEdge
    from rspp.pipeline.profile import ExecutionProfile

FROM_FILE, FROM_GRAPH, DERIVED = "pipeline_file", "built_in_graph", "derived"
_BOUNDS = (
    "max_queue_items",
    "max_queue_ms",
    "max_queue_bytes",
    "max_latency_contribution_ms",
)
_CONTROL_KNOBS = frozenset({*_BOUNDS, "watermarks", "fairness_key"})
"""What may be tuned of an edge of the control lane without giving up that it goes first."""


def profile_source(profile: ExecutionProfile) -> str:
    """Return how sources name a profile."""
    return f"execution_profile:{profile.name}"


class EdgePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one edge.

    Attributes:
        buffer: the effective policy.
        flow_control: the effective flow-control mode.
        sources: where each value came from.
    """

    buffer: EdgeBufferPolicy
    flow_control: FlowMode
    sources: dict[str, str]


def effective_policy(
    profile: ExecutionProfile,
    stock: StockEdge,
    lane: str,
    override: BufferOverride,
    *,
    block_ms: int,
    path: str,
) -> tuple[EdgePolicy, tuple[GraphFault, ...]]:
    """Return the buffer of an edge and what is wrong with its overrides.

    Args:
        profile: what holds where nothing else is said.
        stock: what the session needs of the edge.
        lane: the edge's lane.
        override: what the author says.
        block_ms: longest wait of a producer on a built-in edge that blocks.
        path: where the author says it, for faults.
    """
    written = {name: value for name, value in _written(override).items() if value is not UNSET}
    envelope = _Envelope(profile, stock, lane, path)
    envelope.check(written)
    values, sources = _layers(profile, stock, lane, written, block_ms)
    if lane == CONTROL:
        # A control edge is never full for its own lane; the strategy is that of lanes it does not carry.
        values["strategy"] = profile.edge.strategy
    _derive_marks(values, sources)
    envelope.check_effective(values, sources, written)
    mode = values.pop("flow_control")
    handling = values.pop("lane_handling")
    plain = {name: msgspec.to_builtins(value) for name, value in values.items()}
    plain["lane_handling"] = handling
    plain["defaulting_source"] = "explicit_edge_config" if _explicit(sources) else "execution_profile_default"
    buffer = msgspec.convert(plain, EdgeBufferPolicy)
    return EdgePolicy(buffer=buffer, flow_control=mode, sources=sources), tuple(envelope.faults)


def _written(section: BufferOverride) -> dict[str, Any]:
    return {name: getattr(section, name) for name in BufferOverride.__struct_fields__}


def _explicit(sources: dict[str, str]) -> bool:
    return any(source in (FROM_FILE, FROM_GRAPH) for source in sources.values())


def _layers(
    profile: ExecutionProfile, stock: StockEdge, lane: str, written: dict[str, Any], block_ms: int
) -> tuple[dict[str, Any], dict[str, str]]:
    edge, flow = profile.edge, profile.flow_control
    values: dict[str, Any] = {
        "strategy": edge.strategy,
        **{name: getattr(edge, name) for name in _BOUNDS},
        "flow_control": flow.mode_by_lane.control if lane == CONTROL else flow.mode_by_lane.data,
    }
    marks = {"queue_items": edge.watermarks}
    sources = dict.fromkeys((*values, "watermarks.queue_items"), profile_source(profile))
    telemetry, telemetry_source = edge.telemetry, profile_source(profile)
    data = UNSET
    for layer, source in ((_written(stock.defaults), FROM_GRAPH), (written, FROM_FILE)):
        for name, value in layer.items():
            if value is UNSET:
                continue
            if name == "lane_handling":
                data = value.data
                if value.telemetry is not UNSET:
                    telemetry, telemetry_source = value.telemetry, source
                continue
            if name == "watermarks":
                domains = {domain: getattr(value, domain) for domain in value.__struct_fields__}
                given = {domain: mark for domain, mark in domains.items() if mark is not UNSET}
                marks |= given
                sources |= {f"watermarks.{domain}": source for domain in given}
                continue
            values[name] = value
            sources[name] = source
        if layer.get("strategy", UNSET) == "block" and source == FROM_GRAPH:
            values["max_block_time_ms"] = block_ms
            sources["max_block_time_ms"] = FROM_GRAPH
    sources["lane_handling.DataLane"] = sources["strategy"] if data is UNSET else FROM_FILE
    sources["lane_handling.TelemetryLane"] = telemetry_source
    values["watermarks"] = msgspec.to_builtins(marks)
    values["lane_handling"] = {
        DATA: values["strategy"] if data is UNSET else data,
        CONTROL: "non_blocking_priority",
        TELEMETRY: telemetry,
    }
    return values, sources


def _derive_marks(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Bring marks that the author did not write below a bound that was lowered."""
    for domain, bound in (("queue_items", "max_queue_items"), ("queue_ms", "max_queue_ms")):
        mark, most, name = values["watermarks"].get(domain), values[bound], f"watermarks.{domain}"
        if mark is not None and sources[name] != FROM_FILE and mark["high"] > most:
            high = max(1, most * 3 // 4)
            values["watermarks"][domain] = {"high": high, "low": min(mark["low"], high // 2)}
            sources[name] = DERIVED


class _Envelope:
    """Collects what an author may not say of an edge."""

    def __init__(self, profile: ExecutionProfile, stock: StockEdge, lane: str, path: str) -> None:
        self._profile = profile
        self._stock = stock
        self._lane = lane
        self._path = path
        self.faults: list[GraphFault] = []

    def _fault(self, rule: str, field: str, problem: str, hint: str) -> None:
        self.faults.append(GraphFault(rule, f"{self._path}.{field}" if field else self._path, problem, hint))

    def check(self, written: dict[str, Any]) -> None:
        """Check what was written, key by key."""
        if not written:
            return
        if self._stock.fixed:
            first = next(iter(written))
            self._fault("edge.fixed", first, "this edge cannot be overridden", self._stock.fixed)
            return
        opted = frozenset[str](self._profile.opt_in)
        for name in written:
            if name not in opted:
                self._fault(
                    "edge.opt_in",
                    name,
                    f"the profile {self._profile.name} does not let single edges override this",
                    f"it allows: {', '.join(self._profile.opt_in) or 'nothing'}",
                )
            elif self._lane == CONTROL and name not in _CONTROL_KNOBS:
                self._fault(
                    "edge.lane_priority",
                    name,
                    "this edge carries control, which passes every other lane and is never shed or blocked",
                    f"of a control edge only these may be tuned: {', '.join(sorted(_CONTROL_KNOBS))}",
                )
        self._known("strategy", written, self._stock.strategies)
        self._known("flow_control", written, self._stock.modes)
        for name, reason in self._stock.idle.items():
            if name in written:
                self._fault("edge.idle", name, "this edge does not heed it", reason)
        self._check_sync(written.get("sync_drop_policy"))
        for name, least in self._stock.least.items():
            if written.get(name, least) < least:
                self._fault(
                    "edge.least", name, f"{written[name]} is too little for this edge", f"at least {least}"
                )

    def _check_sync(self, policy: SyncDropSection | None) -> None:
        """Refuse couplings that nothing in a session has."""
        if policy is None or not self._stock.buffered:
            return
        if policy.policy == "atomic_drop":
            self._fault(
                "edge.idle",
                "sync_drop_policy.policy",
                "what passes this edge belongs to no groups",
                "drop_with_discontinuity tells that something was lost",
            )
        elif policy.policy != "no_sync" and policy.scope == "plan_wide":
            self._fault(
                "edge.idle",
                "sync_drop_policy.scope",
                "a loss on this edge concerns no other",
                "choose edge_local",
            )

    def _known(self, name: str, written: dict[str, Any], allowed: tuple[str, ...]) -> None:
        if allowed and name in written and written[name] not in allowed:
            self._fault(
                f"edge.{name}",
                name,
                f"the nodes of this edge cannot work with {written[name]}",
                f"one of: {', '.join(allowed)}",
            )

    def check_effective(
        self, values: dict[str, Any], sources: dict[str, str], written: dict[str, Any]
    ) -> None:
        """Check what comes out of all layers together."""
        handling = written.get("lane_handling")
        if handling is not None and handling.data not in (UNSET, values["strategy"]):
            self._fault(
                "edge.lane_handling",
                "lane_handling.DataLane",
                f"the edge cannot {handling.data} and {values['strategy']} at once",
                f"leave it out, or set strategy to {handling.data} too",
            )
        blocks = "block" in (values["strategy"], values["lane_handling"][DATA])
        if blocks and "max_block_time_ms" not in values:
            self._fault(
                "edge.block_time",
                "max_block_time_ms",
                "an edge that blocks says for how long",
                "add max_block_time_ms; after it the edge sheds",
            )
            values["max_block_time_ms"] = self._profile.budgets.edge_ms
        if not blocks and "max_block_time_ms" in written:
            self._fault(
                "edge.block_time",
                "max_block_time_ms",
                f"an edge with the strategy {values['strategy']} never blocks",
                "set strategy to block, or leave it out",
            )
        if not blocks:
            values.pop("max_block_time_ms", None)
            sources.pop("max_block_time_ms", None)
        self._check_marks(values, written)
        policy = written.get("sync_drop_policy")
        if policy is not None and policy.policy == "drop_with_discontinuity" and policy.sync_domain is UNSET:
            self._fault(
                "edge.sync_domain",
                "sync_drop_policy.sync_domain",
                "a discontinuity applies to a domain",
                "add sync_domain, such as audio",
            )

    def _check_marks(self, values: dict[str, Any], written: dict[str, Any]) -> None:
        own = written.get("watermarks")
        if own is None:
            return
        if own.queue_items is UNSET and own.queue_ms is UNSET:
            self._fault(
                "edge.watermarks", "watermarks", "no domain is watched", "add queue_items or queue_ms"
            )
        for name, bound in (("queue_items", "max_queue_items"), ("queue_ms", "max_queue_ms")):
            mark = cast("dict[str, dict[str, int]]", values["watermarks"]).get(name)
            if mark is None or getattr(own, name) is UNSET:
                continue
            if mark["low"] >= mark["high"]:
                self._fault(
                    "edge.watermark_order",
                    f"watermarks.{name}.low",
                    f"{mark['low']} must be below high ({mark['high']})",
                    "between the two marks flow stays as it was; without a gap it flickers",
                )
            if mark["high"] > values[bound]:
                self._fault(
                    "edge.watermark_bound",
                    f"watermarks.{name}.high",
                    f"{mark['high']} is never reached, since {bound} is {values[bound]}",
                    f"at most {values[bound]}",
                )
