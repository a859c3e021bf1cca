"""The canonical graph of a normalised pipeline: the GraphDefinition of contract section 6.1."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from rspp._kernel import MERGE_RULE_ID, MERGE_RULE_VERSION
from rspp.contracts.plan_document import EdgeBufferPolicy  # noqa: TC001 - msgspec reads the annotations
from rspp.pipeline.base import FlowMode, Strict
from rspp.pipeline.graph_section import NodeType  # noqa: TC001 - msgspec reads the annotations

GRAPH_SCHEMA: Literal["graph/v1"] = "graph/v1"


class MergeRule(Strict, frozen=True, kw_only=True):
    """How events of several edges come into one order.

    Attributes:
        rule_id: identity of the rule: by lane priority, then by ``runtime_sequence``.
        version: version of the rule.
    """

    rule_id: str = MERGE_RULE_ID
    version: str = MERGE_RULE_VERSION


class NodeBudget(Strict, frozen=True, kw_only=True):
    """Time that a node has for one event.

    Attributes:
        warn_ms: it is warned.
        exhaust_ms: its budget is exhausted.
    """

    warn_ms: int
    exhaust_ms: int


class GraphNode(Strict, frozen=True, kw_only=True):
    """One node with everything that it declares.

    Attributes:
        id: name, unique in the graph.
        type: what it is.
        inputs: kinds of events it takes.
        outputs: kinds of events it makes.
        streaming: whether results come bit by bit.
        cancel: whether its work is stopped from outside or looks for itself.
        resources: what it needs most.
        state: class of the state it keeps.
        scope: how long it lives.
        hooks: what it is told.
        budget: time that it has.
        fan_in: edges that lead to it.
        fan_out: edges that lead away.
        merge: how the events of several edges are brought into one order; absent with at most one.
        settings: what it runs with, as integers, words and booleans.
    """

    id: str
    type: NodeType
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    streaming: Literal["incremental", "final"]
    cancel: Literal["preemptible", "cooperative"]
    resources: Literal["cpu", "network"]
    state: Literal["turn_ephemeral", "session_hot", "session_durable"]
    scope: Literal["session", "turn"]
    hooks: tuple[str, ...]
    budget: NodeBudget
    fan_in: tuple[str, ...]
    fan_out: tuple[str, ...]
    merge: MergeRule | UnsetType = UNSET
    settings: dict[str, int | str | bool] = msgspec.field(default_factory=dict)


class GraphEdge(Strict, frozen=True, kw_only=True):
    """One edge with its effective buffer.

    Attributes:
        id: name, unique in the graph; the same in the plan and in the evidence.
        from_: id of the node that produces.
        to: id of the node that consumes.
        carries: kinds of events.
        lane: priority class, which follows from what the edge carries.
        buffered: whether it is a queue; otherwise events are handed over within the step that made them.
        flow_control: how the consumer makes its producer wait.
        buffer: bounds and behaviour, as every turn plan has them.
    """

    id: str
    from_: str = msgspec.field(name="from")
    to: str
    carries: tuple[str, ...]
    lane: Literal["DataLane", "ControlLane", "TelemetryLane"]
    buffered: bool
    flow_control: FlowMode
    buffer: EdgeBufferPolicy


class GraphDefinition(Strict, frozen=True, kw_only=True):
    """A directed graph without cycles, whole and in one order.

    Attributes:
        schema_version: version of this document.
        name: ``default`` for the built-in graph, else the pipeline's name.
        nodes: in topological order; nodes that are ready at once in the order of their declaration.
        edges: by the order of the node that produces, then of the node that consumes.
        entries: nodes that nothing leads to.
        terminals: nodes that nothing leads away from.
        legal_paths: every way from an entry to a terminal, as node ids.
        fallback: the way to the caller's ear that is left when a node fails, by node id; a node without
            one ends its turn.
    """

    schema_version: Literal["graph/v1"] = GRAPH_SCHEMA
    name: str
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    entries: tuple[str, ...]
    terminals: tuple[str, ...]
    legal_paths: tuple[tuple[str, ...], ...]
    fallback: dict[str, tuple[str, ...]]

    def digest(self) -> str:
        """Return SHA-256 in hex over the canonical form of the whole graph."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def ref(self) -> str:
        """Return what plans call this graph; two graphs that differ have different names."""
        return f"graph/{self.name}/sha256:{self.digest()}"

    def edge(self, producer: NodeType, consumer: NodeType) -> GraphEdge:
        """Return the edge between two types of nodes.

        Raises:
            KeyError: the graph has no such edge.
        """
        types = {node.id: node.type for node in self.nodes}
        for edge in self.edges:
            if (types[edge.from_], types[edge.to]) == (producer, consumer):
                return edge
        raise KeyError(f"{producer}->{consumer}")
