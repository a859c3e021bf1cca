"""From a pipeline file to the graph that its sessions run: defaults, overrides, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from rspp.nodes.edge import edge_buffer
from rspp.pipeline.loader import PipelineError, parse_pipeline
from rspp.pipeline.node_types import (
    FALLBACK_PATH,
    LANE_OF,
    NODE_TYPES,
    STOCK_EDGES,
    carried,
)
from rspp.pipeline.normalise import compile_pipeline, plan_policy
from rspp.pipeline.spec import PipelineSpec

if TYPE_CHECKING:
    import random

    from rspp.pipeline.compiler import Compilation
    from rspp.pipeline.graph import GraphDefinition

BASE: dict[str, Any] = {
    "name": "desk",
    "llm": {"provider": "rules", "rules": [{"hear": "hello", "say": "Hi."}]},
}
VOICE_PATH = ("room-in", "vad", "stt", "turn", "llm", "segmenter", "tts", "playout", "room-out")
SPEECH = {"from": "tts", "to": "playout"}
WHOLE: dict[str, Any] = {
    "nodes": [{"id": f"my-{kind}", "type": kind} for kind in NODE_TYPES],
    "edges": [{"from": f"my-{source}", "to": f"my-{target}"} for source, target in STOCK_EDGES],
}


def spec_of(**keys: Any) -> PipelineSpec:
    return parse_pipeline(yaml.safe_dump({**BASE, **keys}, sort_keys=False), "f.yaml")


def graph_of(**keys: Any) -> GraphDefinition:
    return compile_pipeline(spec_of(**keys)).known()


def overriding(**override: Any) -> dict[str, Any]:
    return {"edges": [{**SPEECH, **override}]}


def refused(graph: dict[str, Any], **keys: Any) -> list[tuple[str, str]]:
    """Return rule and path of each fault, once from the compiler and once as the author reads it."""
    spec = msgspec.convert({**BASE, **keys, "graph": graph}, PipelineSpec)
    faults = compile_pipeline(spec).faults
    with pytest.raises(PipelineError) as caught:
        spec_of(graph=graph, **keys)
    told = caught.value.faults
    assert sorted(fault.path for fault in told) == sorted(fault.path for fault in faults)
    assert all(fault.line > 0 and fault.problem and fault.hint for fault in told)
    return [(fault.rule, fault.path) for fault in faults]


# ------------------------------------------------------------------------------------ the built-in graph


def test_m_12_a_handful_of_lines_compiles_to_the_graph_that_the_session_runs() -> None:
    graph = graph_of()
    assert [node.id for node in graph.nodes] == [
        "room-in",
        "vad",
        "stt",
        "turn",
        "llm",
        "notice",
        "segmenter",
        "tts",
        "playout",
        "room-out",
        "presenter",
    ]
    assert VOICE_PATH in graph.legal_paths
    assert (graph.name, graph.entries) == ("default", ("room-in",))
    assert graph.terminals == ("room-out", "presenter")
    assert {edge.id for edge in graph.edges} == {f"{one}->{other}" for one, other in STOCK_EDGES}
    assert [edge.id for edge in graph.edges if edge.buffered] == [
        "turn->presenter",
        "tts->playout",
        "playout->room-out",
    ]


def test_the_real_edges_of_a_session_have_the_bounds_that_the_plan_tells() -> None:
    graph = graph_of()
    speech = graph.edge("tts", "playout")
    assert (speech.buffer.strategy, speech.buffer.max_queue_items, speech.buffer.max_queue_ms) == (
        "block",
        200,
        4000,
    )
    assert speech.buffer.max_queue_bytes == 192_000
    assert speech.buffer.max_block_time_ms == 3000
    updates = graph.edge("turn", "presenter").buffer
    assert (updates.strategy, updates.max_queue_items, updates.max_queue_bytes) == ("drop", 64, 1 << 20)
    plan = plan_policy(spec_of())["edge_buffer_policies"]
    assert plan["tts->playout"] == msgspec.to_builtins(speech.buffer)


def test_an_override_reaches_the_buffer_that_the_session_makes() -> None:
    marks = {"queue_items": {"high": 3, "low": 1}}
    edge = graph_of(graph=overriding(max_queue_items=5, watermarks=marks)).edge("tts", "playout")
    buffer = edge_buffer(edge)
    flowing = []
    for item in range(6):
        flowing.append(buffer.flowing)
        buffer.put(item, 1, 1000, 10)
    assert flowing == [True, True, True, False, False, False]
    assert (len(buffer), buffer.edge_id) == (5, "tts->playout")


def test_control_edges_carry_control_only_and_every_pair_of_nodes_one_lane() -> None:
    lanes = {edge.id: edge.lane for edge in graph_of().edges}
    assert lanes["vad->turn"] == lanes["turn->playout"] == "ControlLane"
    assert lanes["tts->playout"] == lanes["stt->turn"] == "DataLane"
    for producer, consumer in [(one, other) for one in NODE_TYPES for other in NODE_TYPES]:
        assert len({LANE_OF[kind] for kind in carried(producer, consumer)}) <= 1, (producer, consumer)
    for source, target in STOCK_EDGES:
        assert carried(source, target), (source, target)


def test_fan_in_has_the_merge_rule_and_the_way_of_a_notice_is_the_fallback() -> None:
    graph = graph_of()
    merged = {node.id for node in graph.nodes if node.merge is not UNSET}
    assert merged == {"turn", "segmenter", "playout"}
    assert graph.fallback == dict.fromkeys(("stt", "llm", "tts"), FALLBACK_PATH)
    assert graph_of(failure_notice="").fallback == {}


def test_the_thresholds_of_turns_are_settings_of_the_turn_node() -> None:
    settings_of = {node.id: node.settings for node in graph_of(turn={"probe_ms": 91}).nodes}
    assert settings_of["turn"]["probe_ms"] == 91
    assert settings_of["stt"] == {"provider": "pocketsphinx"}
    assert graph_of(turn={"probe_ms": 91}).ref() != graph_of().ref()


# ------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("rule", "field", "wrong", "right"),
    [
        (
            "edge.watermark_order",
            "watermarks.queue_items.low",
            {"watermarks": {"queue_items": {"high": 5, "low": 5}}},
            {"watermarks": {"queue_items": {"high": 5, "low": 4}}},
        ),
        (
            "edge.watermark_bound",
            "watermarks.queue_items.high",
            {"max_queue_items": 10, "watermarks": {"queue_items": {"high": 11, "low": 4}}},
            {"max_queue_items": 10, "watermarks": {"queue_items": {"high": 10, "low": 4}}},
        ),
        (
            "edge.watermark_bound",
            "watermarks.queue_ms.high",
            {"watermarks": {"queue_ms": {"high": 4001, "low": 4}}},
            {"watermarks": {"queue_ms": {"high": 4000, "low": 4}}},
        ),
        (
            "edge.watermarks",
            "watermarks",
            {"watermarks": {}},
            {"watermarks": {"queue_ms": {"high": 9, "low": 4}}},
        ),
        ("edge.strategy", "strategy", {"strategy": "latest_only"}, {"strategy": "block"}),
        ("edge.least", "max_queue_items", {"max_queue_items": 1}, {"max_queue_items": 2}),
        ("edge.least", "max_queue_bytes", {"max_queue_bytes": 1919}, {"max_queue_bytes": 1920}),
        (
            "edge.lane_handling",
            "lane_handling.DataLane",
            {"lane_handling": {"DataLane": "drop"}},
            {"lane_handling": {"DataLane": "block", "TelemetryLane": "sample"}},
        ),
        (
            "edge.sync_domain",
            "sync_drop_policy.sync_domain",
            {"sync_drop_policy": {"policy": "drop_with_discontinuity"}},
            {"sync_drop_policy": {"policy": "drop_with_discontinuity", "sync_domain": "audio"}},
        ),
        ("edge.idle", "sync_drop_policy.policy", {"sync_drop_policy": {"policy": "atomic_drop"}}, {}),
        (
            "edge.idle",
            "sync_drop_policy.scope",
            {
                "sync_drop_policy": {
                    "policy": "drop_with_discontinuity",
                    "scope": "plan_wide",
                    "sync_domain": "audio",
                }
            },
            {"sync_drop_policy": {"policy": "no_sync", "scope": "plan_wide"}},
        ),
        ("edge.idle", "max_block_time_ms", {"max_block_time_ms": 70}, {}),
        ("edge.idle", "max_latency_contribution_ms", {"max_latency_contribution_ms": 70}, {}),
        ("edge.idle", "fairness_key", {"fairness_key": "session"}, {}),
    ],
)
def test_each_rule_of_an_edge_refuses_its_fault_and_passes_the_cured_edge(
    rule: str, field: str, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    assert refused(overriding(**wrong)) == [(rule, f"graph.edges[0].{field}")]
    assert graph_of(graph=overriding(**right)).edge("tts", "playout")


@pytest.mark.parametrize("mode", ["credit", "hybrid"])
def test_speech_flows_in_every_mode_and_updates_by_signals_alone(mode: str) -> None:
    graph = graph_of(graph=overriding(flow_control=mode))
    assert graph.edge("tts", "playout").flow_control == mode
    updates = {"edges": [{"from": "turn", "to": "presenter", "flow_control": mode}]}
    assert refused(updates) == [("edge.flow_control", "graph.edges[0].flow_control")]


@pytest.mark.parametrize(
    "blocking", [{"strategy": "block"}, {"strategy": "block", "lane_handling": {"DataLane": "block"}}]
)
def test_w_07_an_edge_that_blocks_says_for_how_long(blocking: dict[str, Any]) -> None:
    edge = {"from": "stt", "to": "turn", **blocking}
    assert refused({"edges": [edge]}) == [("edge.block_time", "graph.edges[0].max_block_time_ms")]
    policy = graph_of(graph={"edges": [{**edge, "max_block_time_ms": 70}]}).edge("stt", "turn").buffer
    assert (policy.max_block_time_ms, policy.lane_handling.data) == (70, "block")
    idle = {"from": "stt", "to": "turn", "max_block_time_ms": 70}
    assert refused({"edges": [idle]}) == [("edge.block_time", "graph.edges[0].max_block_time_ms")]


@pytest.mark.parametrize(
    "override",
    [{"strategy": "drop"}, {"lane_handling": {"DataLane": "drop"}}, {"flow_control": "credit"}],
)
def test_control_keeps_its_priority_whatever_a_file_says(override: dict[str, Any]) -> None:
    edge = {"from": "vad", "to": "turn", **override}
    found = refused({"edges": [edge]})
    assert ("edge.lane_priority", f"graph.edges[0].{next(iter(override))}") in found
    tuned = graph_of(graph={"edges": [{"from": "vad", "to": "turn", "max_queue_items": 8}]})
    policy = tuned.edge("vad", "turn").buffer
    assert (policy.max_queue_items, policy.lane_handling.control) == (8, "non_blocking_priority")


def test_the_edge_behind_the_gate_is_fixed() -> None:
    edge = {"from": "playout", "to": "room-out", "max_queue_ms": 400}
    assert refused({"edges": [edge]}) == [("edge.fixed", "graph.edges[0].max_queue_ms")]
    assert graph_of(graph={"edges": [{"from": "playout", "to": "room-out"}]})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lane_handling: {ControlLane: drop}", "cannot be overridden: it is non_blocking_priority"),
        ("lane: TelemetryLane", "it follows from what the edge carries"),
        ("determinism: {seed: 1}", "determinism cannot be overridden"),
        ("defaulting_source: explicit_edge_config", "it is recorded, not written"),
        ("strategy: wait", "one of: block, drop, latest_only, merge, sample"),
        ("strategy: blok", "did you mean `block`?"),
        ("max_queue_items: many", "a whole number from 1 to 100000"),
    ],
)
def test_words_and_keys_that_an_edge_does_not_take_are_explained(line: str, words: str) -> None:
    text = yaml.safe_dump(BASE) + f"graph:\n  edges:\n    - from: tts\n      to: playout\n      {line}\n"
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text, "f.yaml")
    (fault,) = caught.value.faults
    assert fault.line == text.count("\n")
    assert words in f"{fault.problem} {fault.hint}"


def test_a_lowered_bound_brings_marks_down_that_nobody_wrote() -> None:
    compilation: Compilation = compile_pipeline(spec_of(graph=overriding(max_queue_items=8)))
    edge = compilation.known().edge("tts", "playout")
    assert edge.buffer.watermarks.queue_items is not UNSET
    assert (edge.buffer.watermarks.queue_items.high, edge.buffer.watermarks.queue_items.low) == (6, 3)
    sources = compilation.sources["tts->playout"]
    assert sources["max_queue_items"] == "pipeline_file"
    assert sources["max_queue_ms"] == "built_in_graph"
    assert sources["watermarks.queue_items"] == "derived"


def test_marks_in_milliseconds_leave_those_in_items_as_they_were() -> None:
    marks = {"queue_ms": {"high": 900, "low": 300}}
    compilation: Compilation = compile_pipeline(spec_of(graph=overriding(watermarks=marks)))
    edge = compilation.known().edge("tts", "playout")
    assert msgspec.to_builtins(edge.buffer.watermarks) == {**marks, "queue_items": {"high": 100, "low": 50}}
    sources = compilation.sources["tts->playout"]
    assert sources["watermarks.queue_ms"] == "pipeline_file"
    assert sources["watermarks.queue_items"] == "built_in_graph"
    assert edge_buffer(edge).flowing


def test_two_nodes_that_do_not_fit_are_told_by_what_they_make_and_take() -> None:
    graph = {**WHOLE, "edges": [*WHOLE["edges"], {"from": "my-room-out", "to": "my-room-in"}]}
    spec = msgspec.convert({**BASE, "graph": {**graph, "edges": graph["edges"][-1:]}}, PipelineSpec)
    (fault,) = compile_pipeline(spec).faults
    assert fault.problem == "room-out makes nothing, but room-in takes nothing"
    edges = [{"from": "my-stt", "to": "my-tts"}]
    spec = msgspec.convert({**BASE, "graph": {**graph, "edges": edges}}, PipelineSpec)
    (fault,) = compile_pipeline(spec).faults
    assert fault.problem == "stt makes transcript, but tts takes segment"


def test_each_edge_records_whether_its_policy_is_its_own_or_the_profiles() -> None:
    graph = graph_of(graph={"edges": [{"from": "stt", "to": "turn", "max_queue_ms": 200}]})
    source = {edge.id: edge.buffer.defaulting_source for edge in graph.edges}
    assert source["stt->turn"] == source["tts->playout"] == "explicit_edge_config"
    assert source["vad->stt"] == source["turn->llm"] == "execution_profile_default"
    default = graph.edge("vad", "stt").buffer
    assert (default.max_queue_items, default.max_queue_ms, default.max_queue_bytes) == (64, 300, 262_144)
    assert default.max_latency_contribution_ms == 120


def test_an_override_of_an_edge_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(PipelineError, match=r"no edge tts->playuot") as caught:
        spec_of(graph={"edges": [{"from": "tts", "to": "playuot"}]})
    assert "did you mean tts->playout?" in caught.value.hint
    assert refused({"edges": [SPEECH, SPEECH]}) == [("graph.edge_twice", "graph.edges[1]")]


# -------------------------------------------------------------------------------------- whole graphs


def test_a_graph_that_is_written_out_has_its_own_names_and_the_same_policies() -> None:
    graph = graph_of(graph=WHOLE)
    assert (graph.name, graph.nodes[0].id) == ("desk", "my-room-in")
    assert graph.edge("tts", "playout").id == "my-tts->my-playout"
    assert graph.edge("tts", "playout").buffer == graph_of().edge("tts", "playout").buffer


def without(*edges: str) -> dict[str, Any]:
    return {
        **WHOLE,
        "edges": [edge for edge in WHOLE["edges"] if f"{edge['from']}->{edge['to']}" not in edges],
    }


@pytest.mark.parametrize(
    ("rules", "graph"),
    [
        (["graph.voice_path"], without("my-tts->my-playout")),
        (["graph.voice_path"], {"nodes": [{"id": "a", "type": "vad"}]}),
        (["graph.one_of_each"], {**WHOLE, "nodes": [*WHOLE["nodes"], {"id": "vad2", "type": "vad"}]}),
        (
            ["graph.unknown_edge"],
            {**WHOLE, "edges": [*WHOLE["edges"], {"from": "my-tts", "to": "my-room-out"}]},
        ),
        (["graph.edge_type"], {**WHOLE, "edges": [*WHOLE["edges"], {"from": "my-stt", "to": "my-tts"}]}),
        (["graph.cycle"], {**WHOLE, "edges": [*WHOLE["edges"], {"from": "my-tts", "to": "my-turn"}]}),
        (
            ["graph.node_budget"],
            {
                **WHOLE,
                "nodes": [
                    *WHOLE["nodes"][:4],
                    {"id": "my-llm", "type": "llm", "budget_ms": 5001},
                    *WHOLE["nodes"][5:],
                ],
            },
        ),
        (
            ["graph.node_budget"],
            {**WHOLE, "nodes": [{**WHOLE["nodes"][0], "budget_ms": 500}, *WHOLE["nodes"][1:]]},
        ),
    ],
)
def test_a_graph_that_no_session_can_hold_is_refused(rules: list[str], graph: dict[str, Any]) -> None:
    assert [rule for rule, _ in refused(graph)] == rules


def test_no_edge_leads_speech_past_the_gate() -> None:
    with pytest.raises(PipelineError, match="past the gate"):
        spec_of(graph={**WHOLE, "edges": [*WHOLE["edges"], {"from": "my-tts", "to": "my-room-out"}]})


def test_a_node_may_have_a_budget_of_its_own() -> None:
    nodes = [{**node, "budget_ms": 700} if node["type"] == "llm" else node for node in WHOLE["nodes"]]
    budgets = {node.type: node.budget for node in graph_of(graph={**WHOLE, "nodes": nodes}).nodes}
    assert (budgets["llm"].warn_ms, budgets["llm"].exhaust_ms) == (700, 700)
    assert (budgets["tts"].warn_ms, budgets["tts"].exhaust_ms) == (1200, 1500)


def shuffled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        dice.shuffle(keys)
        return {key: shuffled(value[key], dice) for key in keys}
    if isinstance(value, list):
        return [shuffled(item, dice) for item in value]
    return value


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_m_12_ids_order_and_name_of_a_graph_do_not_depend_on_the_order_of_keys(dice: random.Random) -> None:
    document = {
        "profile": "simple",
        "graph": {**WHOLE, "edges": list(WHOLE["edges"])},
        "adaptive_actions": [],
    }
    mixed = shuffled({**BASE, **document}, dice)
    dice.shuffle(mixed["graph"]["edges"])
    spec = parse_pipeline(yaml.safe_dump(mixed, sort_keys=False), "f.yaml")
    assert compile_pipeline(spec).known() == graph_of(**document)
    assert compile_pipeline(spec).known().ref() == graph_of(**document).ref()


@given(
    st.lists(
        st.fixed_dictionaries(
            {"from": st.sampled_from([*NODE_TYPES, "x"]), "to": st.sampled_from([*NODE_TYPES, "x"])},
            optional={
                "strategy": st.sampled_from(["block", "drop", "merge", "sample", "latest_only"]),
                "max_queue_items": st.integers(1, 300),
                "max_queue_ms": st.integers(1, 5000),
                "max_block_time_ms": st.integers(1, 5000),
                "flow_control": st.sampled_from(["signal", "credit", "hybrid"]),
                "watermarks": st.fixed_dictionaries(
                    {},
                    optional={
                        "queue_items": st.just({"high": 9, "low": 3}),
                        "queue_ms": st.just({"high": 1, "low": 2}),
                    },
                ),
            },
        ),
        max_size=6,
    ),
    st.lists(
        st.fixed_dictionaries(
            {"id": st.sampled_from(["a", "b", "tts"]), "type": st.sampled_from([*NODE_TYPES])}
        ),
        max_size=4,
    ),
)
@settings(deadline=None)
def test_m_12_whatever_a_graph_section_says_it_compiles_or_is_refused_and_a_session_can_use_it(
    edges: list[dict[str, Any]], nodes: list[dict[str, Any]]
) -> None:
    spec = msgspec.convert({**BASE, "graph": {"nodes": nodes, "edges": edges}}, PipelineSpec)
    compilation = compile_pipeline(spec)
    if compilation.graph is None:
        assert compilation.faults
        return
    order = {node.id: index for index, node in enumerate(compilation.graph.nodes)}
    for edge in compilation.graph.edges:
        assert order[edge.from_] < order[edge.to]
        assert edge.buffer.lane_handling.control == "non_blocking_priority"
        assert not list(edge.buffer.check(edge.id))
        if edge.buffered:
            assert edge_buffer(edge).flowing
