"""Which graphs can run, in which order, and along which ways: for any graph."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspp.pipeline.structure import MAX_PATHS, Link, Shape, shape_of

NAMES = st.sampled_from("abcdefgh")
LINKS = st.builds(lambda source, target: Link(f"{source}->{target}", source, target), NAMES, NAMES)


def links(*pairs: str) -> list[Link]:
    return [Link(f"{pair[0]}->{pair[1]}", pair[0], pair[1]) for pair in pairs]


def sound(nodes: str, *pairs: str) -> Shape:
    shape = shape_of(list(nodes), links(*pairs))
    assert isinstance(shape, Shape), shape
    return shape


def broken(nodes: str, edges: list[Link]) -> list[tuple[str, str]]:
    faults = shape_of(list(nodes), edges)
    assert isinstance(faults, tuple)
    assert all(fault.problem and fault.hint for fault in faults)
    return [(fault.rule, fault.path) for fault in faults]


@st.composite
def acyclic(draw: st.DrawFn) -> tuple[list[str], list[Link]]:
    """A graph whose edges go from lower to higher letters, declared in any order."""
    nodes = draw(st.permutations("abcdefg"))
    pairs = draw(st.sets(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("abcdefg")), max_size=14))
    edges = [Link(f"{low}->{high}", low, high) for low, high in sorted(pairs) if low < high]
    return list(nodes), draw(st.permutations(edges))


@given(st.lists(NAMES, max_size=9), st.lists(LINKS, max_size=12))
@settings(deadline=None)
def test_m_12_any_graph_is_shaped_or_refused_with_a_reason_and_never_crashes(
    nodes: list[str], edges: list[Link]
) -> None:
    shape = shape_of(nodes, edges)
    if isinstance(shape, Shape):
        assert sorted(shape.order) == sorted(nodes)
        assert all(shape.order.index(edge.source) < shape.order.index(edge.target) for edge in edges)
    else:
        assert shape
        assert all(fault.rule and fault.path and fault.problem and fault.hint for fault in shape)


@given(acyclic())
@settings(deadline=None)
def test_m_12_the_order_is_topological_and_of_those_ready_at_once_the_first_declared_goes_first(
    graph: tuple[list[str], list[Link]],
) -> None:
    nodes, edges = graph
    shape = shape_of(nodes, edges)
    if not isinstance(shape, Shape):
        assert [fault.rule for fault in shape] == ["graph.paths"]
        return
    done: list[str] = []
    for node in shape.order:
        ready = [
            candidate
            for candidate in nodes
            if candidate not in done
            and all(edge.source in done for edge in edges if edge.target == candidate)
        ]
        assert node == ready[0]
        done.append(node)


@given(acyclic(), st.integers())
@settings(deadline=None)
def test_the_order_of_the_edges_changes_nothing(graph: tuple[list[str], list[Link]], seed: int) -> None:
    nodes, edges = graph
    mixed = list(edges)
    random.Random(seed).shuffle(mixed)
    assert shape_of(nodes, edges) == shape_of(nodes, mixed)


@given(acyclic())
@settings(deadline=None)
def test_every_way_goes_along_edges_from_an_entry_to_a_terminal(
    graph: tuple[list[str], list[Link]],
) -> None:
    nodes, edges = graph
    shape = shape_of(nodes, edges)
    if isinstance(shape, Shape):
        joined = {(edge.source, edge.target) for edge in edges}
        for path in shape.paths:
            assert path[0] in shape.entries
            assert path[-1] in shape.terminals
            assert set(itertools.pairwise(path)) <= joined
        assert len(set(shape.paths)) == len(shape.paths)
        assert {node for path in shape.paths for node in path} == set(nodes)


def test_fan_in_fan_out_entries_and_terminals() -> None:
    shape = sound("abcd", "ab", "ac", "bd", "cd")
    assert shape.fan_out == {"a": ("a->b", "a->c"), "b": ("b->d",), "c": ("c->d",), "d": ()}
    assert shape.fan_in["d"] == ("b->d", "c->d")
    assert (shape.entries, shape.terminals) == (("a",), ("d",))
    assert shape.paths == (("a", "b", "d"), ("a", "c", "d"))


@pytest.mark.parametrize(
    ("rule", "path", "nodes", "edges", "cured"),
    [
        ("graph.empty", "graph.nodes", "", [], ("a", [])),
        ("graph.node_id", "graph.nodes[2].id", "aba", links("ab"), ("ab", links("ab"))),
        ("graph.unknown_node", "graph.edges[0].to", "ab", links("ax"), ("ab", links("ab"))),
        ("graph.unknown_node", "graph.edges[0].from", "ab", links("xa"), ("ab", links("ba"))),
        ("graph.self_edge", "graph.edges[1]", "ab", links("ab", "bb"), ("ab", links("ab"))),
        ("graph.edge_twice", "graph.edges[1]", "ab", links("ab", "ab"), ("ab", links("ab"))),
        (
            "graph.edge_id",
            "graph.edges[1].id",
            "abc",
            [Link("x", "a", "b"), Link("x", "b", "c")],
            ("abc", [Link("x", "a", "b"), Link("y", "b", "c")]),
        ),
        ("graph.cycle", "graph.edges", "abc", links("ab", "bc", "ca"), ("abc", links("ab", "bc"))),
    ],
)
def test_each_rule_refuses_its_own_fault_and_passes_the_cured_graph(
    rule: str, path: str, nodes: str, edges: list[Link], cured: tuple[str, list[Link]]
) -> None:
    assert broken(nodes, edges) == [(rule, path)]
    assert isinstance(shape_of(list(cured[0]), cured[1]), Shape)


def test_a_circle_is_told_whole_even_behind_other_nodes() -> None:
    faults = shape_of(list("eabcd"), links("ab", "bc", "cb", "cd", "de"))
    assert isinstance(faults, tuple)
    assert faults[0].problem in {
        "the edges go round in a circle (c -> b -> c)",
        "the edges go round in a circle (b -> c -> b)",
    }


def test_too_many_ways_are_refused_before_they_fill_the_memory() -> None:
    layers = 30
    nodes = ["start"]
    edges = []
    before = ["start"]
    for layer in range(layers):
        pair = [f"{side}{layer}" for side in "lr"]
        edges += [Link(f"{one}->{other}", one, other) for one in before for other in pair]
        nodes += pair
        before = pair
    faults = shape_of(nodes, edges)
    assert isinstance(faults, tuple)
    assert [fault.rule for fault in faults] == ["graph.paths"]
    assert str(MAX_PATHS) in faults[0].problem
    # Eight layers of two are 256 ways, which is still allowed.
    kept = {"start", *(f"{side}{layer}" for side in "lr" for layer in range(8))}
    shape = shape_of(
        [node for node in nodes if node in kept],
        [edge for edge in edges if {edge.source, edge.target} <= kept],
    )
    assert isinstance(shape, Shape)
    assert len(shape.paths) == MAX_PATHS
