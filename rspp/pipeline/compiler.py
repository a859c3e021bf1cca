"""Compiles a pipeline into its canonical graph (CP-03): the real one that the session runs.

Without a ``graph:`` section the graph is the built-in one. A section without nodes overrides single
edges of it; one with nodes writes the whole graph out.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.base import DATA
from rspp.pipeline.edge_policy import effective_policy
from rspp.pipeline.graph import GraphDefinition, GraphEdge, GraphNode, MergeRule, NodeBudget
from rspp.pipeline.graph_section import EdgeSection, GraphSection, NodeSection, NodeType
from rspp.pipeline.node_types import (
    FALLBACK_PATH,
    LANE_OF,
    NODE_TYPES,
    PROVIDER_NODES,
    STOCK_EDGES,
    StockEdge,
    carried,
)
from rspp.pipeline.profile import ExecutionProfile  # noqa: TC001 - msgspec reads the annotations
from rspp.pipeline.structure import GraphFault, Link, Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUILT_IN_NAME = "default"


class Compilation(msgspec.Struct, frozen=True, kw_only=True):
    """What a compilation gives.

    Attributes:
        graph: the graph; absent when something is wrong.
        faults: everything that is wrong.
        sources: where each value of each edge came from, by edge id.
    """

    graph: GraphDefinition | None = None
    faults: tuple[GraphFault, ...] = ()
    sources: dict[str, dict[str, str]] = {}

    def known(self) -> GraphDefinition:
        """Return the graph.

        Raises:
            ConfigurationError: the graph cannot run; names the first fault.
        """
        if self.graph is None:
            fault = self.faults[0]
            raise ConfigurationError(f"{fault.path}: {fault.problem}", hint=fault.hint)
        return self.graph


def compile_graph(
    name: str,
    section: GraphSection | None,
    profile: ExecutionProfile,
    *,
    block_ms: int,
    notices: bool,
    settings: Mapping[NodeType, Mapping[str, int | str | bool]],
) -> Compilation:
    """Compile the graph of a pipeline.

    Args:
        name: name of the pipeline.
        section: what the author says of the graph; none for the built-in one.
        profile: defaults.
        block_ms: longest wait of a producer on a built-in edge that blocks.
        notices: whether a failed provider is followed by a notice.
        settings: what each type of node runs with.
    """
    whole = section is not None and bool(section.nodes)
    nodes = _built_in_nodes() if section is None or not whole else section.nodes
    faults: list[GraphFault] = []
    if section is None or not whole:
        edges, places = _overridden(section, faults)
    else:
        edges = section.edges
        places = [f"graph.edges[{index}]" for index in range(len(edges))]
    links = [Link(edge_id(edge), edge.from_, edge.to) for edge in edges]
    shape = shape_of([node.id for node in nodes], links)
    if isinstance(shape, tuple):
        return Compilation(faults=(*faults, *shape))
    types = {node.id: node.type for node in nodes}
    faults += _typing_faults(types, edges, places)
    if faults:
        return Compilation(faults=tuple(faults))
    faults += _voice_faults(types, edges, places, nodes)
    compiled, sources = _edges(types, edges, places, profile, block_ms, faults)
    by_id = {node.id: node for node in nodes}
    faults += _budget_faults(nodes, profile)
    if faults:
        return Compilation(faults=tuple(faults))
    order = {node: index for index, node in enumerate(shape.order)}
    graph = GraphDefinition(
        name=name if whole else BUILT_IN_NAME,
        nodes=tuple(_node(by_id[node], shape, profile, settings) for node in shape.order),
        edges=tuple(sorted(compiled, key=lambda edge: (order[edge.from_], order[edge.to]))),
        entries=shape.entries,
        terminals=shape.terminals,
        legal_paths=shape.paths,
        fallback=_fallback(types) if notices else {},
    )
    return Compilation(graph=graph, sources=sources)


def _budget_faults(nodes: Sequence[NodeSection], profile: ExecutionProfile) -> list[GraphFault]:
    faults = []
    for index, node in enumerate(nodes):
        if node.budget_ms is UNSET:
            continue
        if node.type not in PROVIDER_NODES:
            problem = f"a {node.type} node calls no provider, so no budget holds it"
            hint = f"of a node's own only budgets of these hold: {', '.join(PROVIDER_NODES)}"
        elif node.budget_ms > profile.budgets.turn_ms:
            problem = f"{node.budget_ms} is more than a whole turn may take ({profile.budgets.turn_ms})"
            hint = f"at most {profile.budgets.turn_ms}"
        else:
            continue
        faults.append(GraphFault("graph.node_budget", f"graph.nodes[{index}].budget_ms", problem, hint))
    return faults


def edge_id(edge: EdgeSection) -> str:
    """Return the name of an edge: its own, or the one that its two nodes give it."""
    return edge.id if edge.id is not UNSET else f"{edge.from_}->{edge.to}"


def _built_in_nodes() -> tuple[NodeSection, ...]:
    return tuple(NodeSection(id=kind, type=kind) for kind in NODE_TYPES)


def _overridden(
    section: GraphSection | None, faults: list[GraphFault]
) -> tuple[tuple[EdgeSection, ...], list[str]]:
    """Return the built-in edges with the author's overrides, and where each was said."""
    edges = {f"{source}->{target}": EdgeSection(from_=source, to=target) for source, target in STOCK_EDGES}
    places = dict.fromkeys(edges, "graph")
    for index, edge in enumerate(() if section is None else section.edges):
        name, place = f"{edge.from_}->{edge.to}", f"graph.edges[{index}]"
        if name not in edges:
            close = difflib.get_close_matches(name, edges, n=1)
            faults.append(
                GraphFault(
                    "graph.unknown_edge",
                    place,
                    f"the built-in graph has no edge {name}",
                    (f"did you mean {close[0]}? " if close else "")
                    + "write all nodes out under graph.nodes for a graph of your own",
                )
            )
        elif places[name] != "graph":
            faults.append(
                GraphFault(
                    "graph.edge_twice",
                    place,
                    f"{places[name]} overrides the same edge",
                    "keep one of the two",
                )
            )
        else:
            edges[name], places[name] = edge, place
    return tuple(edges.values()), list(places.values())


def _typing_faults(
    types: Mapping[str, NodeType], edges: Sequence[EdgeSection], places: Sequence[str]
) -> list[GraphFault]:
    faults = []
    for edge, place in zip(edges, places, strict=True):
        producer, consumer = types[edge.from_], types[edge.to]
        if carried(producer, consumer):
            continue
        makes = ", ".join(NODE_TYPES[producer].outputs) or "nothing"
        takes = ", ".join(NODE_TYPES[consumer].inputs) or "nothing"
        faults.append(
            GraphFault(
                "graph.edge_type",
                place,
                f"{producer} makes {makes}, but {consumer} takes {takes}",
                "join nodes where one takes what the other makes",
            )
        )
    return faults


def _voice_faults(
    types: Mapping[str, NodeType],
    edges: Sequence[EdgeSection],
    places: Sequence[str],
    nodes: Sequence[NodeSection],
) -> list[GraphFault]:
    """Say where the graph is not one that a session of this runtime can hold."""
    first: dict[NodeType, str] = {}
    faults = []
    for index, node in enumerate(nodes):
        if node.type in first:
            faults.append(
                GraphFault(
                    "graph.one_of_each",
                    f"graph.nodes[{index}].type",
                    f'"{first[node.type]}" is of the type {node.type} already',
                    "a session has one node of each type",
                )
            )
        first.setdefault(node.type, node.id)
    joined = [(types[edge.from_], types[edge.to]) for edge in edges]
    missing = [f"{source}->{target}" for source, target in STOCK_EDGES if (source, target) not in joined]
    if missing:
        faults.append(
            GraphFault(
                "graph.voice_path",
                "graph.edges",
                f"a session needs more edges than these: {', '.join(missing)}",
                "add them, or leave graph.nodes out to override the built-in graph",
            )
        )
    for place, (source, target) in zip(places, joined, strict=True):
        if (source, target) not in STOCK_EDGES:
            past = " past the gate" if NODE_TYPES[target].inputs == ("speech",) else ""
            faults.append(
                GraphFault(
                    "graph.unknown_edge",
                    place,
                    f"this runtime leads nothing from {source} to {target}{past}",
                    f"edges of a session: {', '.join(f'{one}->{other}' for one, other in STOCK_EDGES)}",
                )
            )
    return faults


def _edges(
    types: Mapping[str, NodeType],
    edges: Sequence[EdgeSection],
    places: Sequence[str],
    profile: ExecutionProfile,
    block_ms: int,
    faults: list[GraphFault],
) -> tuple[list[GraphEdge], dict[str, dict[str, str]]]:
    compiled, sources = [], {}
    for edge, place in zip(edges, places, strict=True):
        producer, consumer = types[edge.from_], types[edge.to]
        carries = carried(producer, consumer)
        lanes = {LANE_OF[kind] for kind in carries}
        lane = lanes.pop() if len(lanes) == 1 else DATA
        stock = STOCK_EDGES.get((producer, consumer), StockEdge())
        policy, wrong = effective_policy(profile, stock, lane, edge, block_ms=block_ms, path=place)
        faults += wrong
        sources[edge_id(edge)] = policy.sources
        compiled.append(
            GraphEdge(
                id=edge_id(edge),
                from_=edge.from_,
                to=edge.to,
                carries=carries,
                lane=lane,  # type: ignore[arg-type]  # one of the three of LANE_OF
                buffered=stock.buffered,
                flow_control=policy.flow_control,
                buffer=policy.buffer,
            )
        )
    return compiled, sources


def _node(
    node: NodeSection,
    shape: Shape,
    profile: ExecutionProfile,
    settings: Mapping[NodeType, Mapping[str, int | str | bool]],
) -> GraphNode:
    contract = NODE_TYPES[node.type]
    exhaust = profile.budgets.node_ms if node.budget_ms is UNSET else node.budget_ms
    fan_in, fan_out = shape.fan_in[node.id], shape.fan_out[node.id]
    return GraphNode(
        id=node.id,
        type=node.type,
        inputs=contract.inputs,
        outputs=contract.outputs,
        streaming=contract.streaming,
        cancel=contract.cancel,
        resources=contract.resources,
        state=contract.state,
        scope=contract.scope,
        hooks=contract.hooks,
        budget=NodeBudget(warn_ms=min(profile.budgets.node_warn_ms, exhaust), exhaust_ms=exhaust),
        fan_in=fan_in,
        fan_out=fan_out,
        merge=MergeRule() if len(fan_in) > 1 else UNSET,
        settings=dict(settings.get(node.type, {})),
    )


def _fallback(types: Mapping[str, NodeType]) -> dict[str, tuple[str, ...]]:
    """Return the way of the notice that follows a failed provider; its speech was made ahead."""
    ids = {kind: node for node, kind in types.items()}
    if not all(kind in ids for kind in FALLBACK_PATH):
        return {}
    way = tuple(ids[kind] for kind in FALLBACK_PATH)
    return {ids[kind]: way for kind in PROVIDER_NODES if kind in ids}
