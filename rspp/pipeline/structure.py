"""The shape of a graph: whether it is one that can run, in which order, and along which ways.

Nothing here knows what the nodes do, so that the rules hold for any graph (contract section 6.7).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence  # noqa: TC003 - msgspec reads the annotations

from msgspec import Struct

MAX_PATHS = 256
"""Most ways through a graph; each is written out in its definition."""


class GraphFault(Struct, frozen=True):
    """One thing that is wrong with a graph.

    Attributes:
        rule: identity of the broken rule.
        path: field at fault, such as ``graph.edges[2].to``.
        problem: what is wrong.
        hint: what to do about it.
    """

    rule: str
    path: str
    problem: str
    hint: str


class Link(Struct, frozen=True):
    """An edge as far as the shape needs it.

    Attributes:
        id: name of the edge.
        source: id of the node that produces.
        target: id of the node that consumes.
    """

    id: str
    source: str
    target: str


class Shape(Struct, frozen=True, kw_only=True):
    """A graph that can run.

    Attributes:
        order: node ids in topological order, declaration order among those ready at once.
        fan_in: ids of the edges that lead to each node.
        fan_out: ids of the edges that lead away from it.
        entries: nodes that nothing leads to.
        terminals: nodes that nothing leads away from.
        paths: every way from an entry to a terminal.
    """

    order: tuple[str, ...]
    fan_in: dict[str, tuple[str, ...]]
    fan_out: dict[str, tuple[str, ...]]
    entries: tuple[str, ...]
    terminals: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]


def shape_of(nodes: Sequence[str], links: Sequence[Link]) -> Shape | tuple[GraphFault, ...]:
    """Return the shape of a graph, or everything that is wrong with it.

    Args:
        nodes: ids in the order of their declaration.
        links: edges in the order of their declaration.
    """
    faults = [*_node_faults(nodes), *_link_faults(frozenset(nodes), links)]
    if faults:
        return tuple(faults)
    declared = {node: index for index, node in enumerate(nodes)}
    # In one order whatever the author's, so that equal graphs have equal definitions.
    links = sorted(links, key=lambda link: (declared[link.source], declared[link.target]))
    order = _order(nodes, links)
    if len(order) < len(nodes):
        cycle = _cycle([node for node in nodes if node not in set(order)], links)
        return (
            GraphFault(
                "graph.cycle",
                "graph.edges",
                f"the edges go round in a circle ({' -> '.join(cycle)})",
                "remove one edge of the circle",
            ),
        )
    targets = {node: [link.target for link in links if link.source == node] for node in nodes}
    entered = {link.target for link in links}
    entries = tuple(node for node in order if node not in entered)
    paths = _paths(entries, targets)
    if paths is None:
        return (
            GraphFault(
                "graph.paths",
                "graph.edges",
                f"there are more than {MAX_PATHS} ways through the graph",
                "remove edges that go beside others",
            ),
        )
    return Shape(
        order=order,
        fan_in={node: tuple(link.id for link in links if link.target == node) for node in nodes},
        fan_out={node: tuple(link.id for link in links if link.source == node) for node in nodes},
        entries=entries,
        terminals=tuple(node for node in order if not targets[node]),
        paths=paths,
    )


def _node_faults(nodes: Sequence[str]) -> list[GraphFault]:
    if not nodes:
        return [GraphFault("graph.empty", "graph.nodes", "the graph has no node", "add its nodes")]
    first: dict[str, int] = {}
    faults = []
    for index, node in enumerate(nodes):
        if node in first:
            faults.append(
                GraphFault(
                    "graph.node_id",
                    f"graph.nodes[{index}].id",
                    f'the id "{node}" is taken by graph.nodes[{first[node]}]',
                    "give each node an id of its own",
                )
            )
        first.setdefault(node, index)
    return faults


def _link_faults(nodes: frozenset[str], links: Sequence[Link]) -> list[GraphFault]:
    first: dict[str, int] = {}
    ends: dict[tuple[str, str], int] = {}
    faults = []
    for index, link in enumerate(links):
        path = f"graph.edges[{index}]"
        for key, node in (("from", link.source), ("to", link.target)):
            if node not in nodes:
                known = ", ".join(sorted(nodes))
                faults.append(
                    GraphFault(
                        "graph.unknown_node",
                        f"{path}.{key}",
                        f'no node has the id "{node}"',
                        f"known here: {known}",
                    )
                )
        if link.source == link.target:
            faults.append(
                GraphFault(
                    "graph.self_edge",
                    path,
                    f'the edge leads from "{link.source}" to itself',
                    "let it lead to another node",
                )
            )
        elif (link.source, link.target) in ends:
            faults.append(
                GraphFault(
                    "graph.edge_twice",
                    path,
                    f"graph.edges[{ends[link.source, link.target]}] joins the same two nodes",
                    "keep one of the two",
                )
            )
        elif link.id in first:
            faults.append(
                GraphFault(
                    "graph.edge_id",
                    f"{path}.id",
                    f'the id "{link.id}" is taken by graph.edges[{first[link.id]}]',
                    "give each edge an id of its own, or none",
                )
            )
        first.setdefault(link.id, index)
        ends.setdefault((link.source, link.target), index)
    return faults


def _order(nodes: Sequence[str], links: Sequence[Link]) -> tuple[str, ...]:
    """Return as much of the topological order as there is."""
    index = {node: position for position, node in enumerate(nodes)}
    waiting = dict.fromkeys(nodes, 0)
    for link in links:
        waiting[link.target] += 1
    ready = [index[node] for node in nodes if not waiting[node]]
    heapq.heapify(ready)
    order = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        order.append(node)
        for link in links:
            if link.source == node:
                waiting[link.target] -= 1
                if not waiting[link.target]:
                    heapq.heappush(ready, index[link.target])
    return tuple(order)


def _cycle(stuck: Sequence[str], links: Sequence[Link]) -> list[str]:
    """Return one circle among nodes that never get ready, its first node again at its end."""
    # Each of them waits for another of them, so going backwards must come round.
    before = {
        node: next(link.source for link in links if link.target == node and link.source in stuck)
        for node in stuck
    }
    seen: list[str] = []
    node = stuck[0]
    while node not in seen:
        seen.append(node)
        node = before[node]
    circle = seen[seen.index(node) :][::-1]
    return [*circle, circle[0]]


def _paths(entries: Sequence[str], targets: dict[str, list[str]]) -> tuple[tuple[str, ...], ...] | None:
    """Return every way, none when there are too many."""
    found: list[tuple[str, ...]] = []
    waiting: list[tuple[str, ...]] = [(node,) for node in reversed(entries)]
    while waiting:
        path = waiting.pop()
        following = targets[path[-1]]
        if not following:
            found.append(path)
            if len(found) > MAX_PATHS:
                return None
        waiting.extend((*path, node) for node in reversed(following))
    return tuple(found)
