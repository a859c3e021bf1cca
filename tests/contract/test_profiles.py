"""Execution profiles: the numbers of the built-in one, one's own, and what nobody may override."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rspp.contracts.errors import ConfigurationError
from rspp.contracts.media import FRAME_MS, INPUT_RATE_HZ, OUTPUT_RATE_HZ
from rspp.pipeline import schema
from rspp.pipeline.buffers import BufferOverride
from rspp.pipeline.loader import PipelineError, load_pipeline, load_profile, parse_pipeline
from rspp.pipeline.normalise import (
    adaptive_actions,
    compile_pipeline,
    pipeline_version,
    plan_policy,
    plan_template,
    profile_of,
    turn_policy,
    with_defaults,
)
from rspp.pipeline.profile import KNOBS, SIMPLE
from rspp.pipeline.rollout import parse_rollout

EXAMPLES = Path(__file__).parents[2] / "rspp" / "pipeline" / "examples"
BASE: dict[str, Any] = {
    "name": "desk",
    "llm": {"provider": "rules", "rules": [{"hear": "hello", "say": "Hi."}]},
}


def text_of(profile: dict[str, Any], **keys: Any) -> str:
    own = {"profile": "own", "profiles": {"own": {"name": "own", **profile}}}
    return yaml.safe_dump({**BASE, **own, **keys}, sort_keys=False)


def refused(profile: dict[str, Any], **keys: Any) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text_of(profile, **keys), "f.yaml")
    assert all(fault.line and fault.problem and fault.hint for fault in caught.value.faults)
    return [fault.path for fault in caught.value.faults]


def test_m_12_the_built_in_profile_has_the_numbers_of_the_contract() -> None:
    budget, edge, flow = SIMPLE.budgets, SIMPLE.edge, SIMPLE.flow_control
    assert (budget.turn_ms, budget.node_ms, budget.path_ms, budget.edge_ms) == (5000, 1500, 3000, 500)
    assert (budget.node_warn_ms, budget.node_ms) == (1200, 1500)
    assert (edge.max_queue_items, edge.max_queue_ms, edge.max_queue_bytes) == (64, 300, 262_144)
    assert edge.max_latency_contribution_ms == 120
    assert (edge.watermarks.high, edge.watermarks.low, edge.strategy) == (48, 24, "drop")
    marks = flow.watermarks
    assert [(mark.high, mark.low) for mark in (marks.data, marks.control, marks.telemetry)] == [
        (100, 50),
        (20, 10),
        (200, 100),
    ]
    modes, shedding = flow.mode_by_lane, flow.shedding_strategy_by_lane
    assert {modes.data, modes.control, modes.telemetry} == {"signal"}
    assert (shedding.data, shedding.control, shedding.telemetry) == ("drop", "none", "sample")
    assert (SIMPLE.pool.queue, SIMPLE.pool.workers) == (64, 1)
    assert (SIMPLE.attempts.per_provider, SIMPLE.attempts.candidates) == (2, 5)
    assert SIMPLE.recording.level == "L0"
    assert "replay_decisions" in SIMPLE.recording.replay_modes
    assert SIMPLE.adaptive_actions == ("retry", "provider_switch", "fallback")


def test_the_audio_of_the_profile_is_the_audio_of_the_session() -> None:
    audio = SIMPLE.audio
    assert (audio.input_rate_hz, audio.output_rate_hz, audio.frame_ms) == (
        INPUT_RATE_HZ,
        OUTPUT_RATE_HZ,
        FRAME_MS,
    )
    assert (audio.channels, audio.resampling_owner) == (1, "transport")


def test_every_knob_of_an_edge_can_be_opted_in() -> None:
    assert set(KNOBS) == set(BufferOverride.__struct_fields__)


def test_a_profile_of_ones_own_says_only_what_it_does_differently() -> None:
    spec = parse_pipeline(
        text_of({"budgets": {"turn_ms": 8000, "path_ms": 4000}, "edge": {"max_queue_items": 9}}), "f.yaml"
    )
    assert profile_of(spec).budgets.node_ms == 1500
    told = turn_policy(spec)
    assert (told["first_output_budget_ms"], told["stall_budget_ms"]) == (8000, 4000)
    policy = plan_policy(spec)
    assert policy["budgets"]["turn_budget_ms"] == 8000
    stt = policy["edge_buffer_policies"]["stt->turn"]
    assert (stt["max_queue_items"], stt["watermarks"]["queue_items"]) == (9, {"high": 6, "low": 3})
    assert policy["edge_buffer_policies"]["tts->playout"]["max_block_time_ms"] == 4000
    assert plan_template(spec)["execution_profile"] == "own"


def test_the_file_goes_before_the_profile() -> None:
    spec = parse_pipeline(text_of({"budgets": {"turn_ms": 8000}}, budget={"first_output_ms": 700}), "f.yaml")
    assert turn_policy(spec)["first_output_budget_ms"] == 700
    assert with_defaults(spec).budget.stall_ms == 3000
    assert turn_policy(with_defaults(spec)) == turn_policy(spec)


def test_a_profile_in_a_file_beside_the_pipeline(tmp_path: Path) -> None:
    pipeline, profile = tmp_path / "desk.yaml", tmp_path / "calm.profile.yaml"
    pipeline.write_text(yaml.safe_dump({**BASE, "profile": "calm"}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="unknown execution profile") as caught:
        load_pipeline(pipeline)
    assert "calm.profile.yaml" in caught.value.hint
    profile.write_text("name: calm\nbudgets: {turn_ms: 9000}\n", encoding="utf-8")
    assert profile_of(load_pipeline(pipeline)).budgets.turn_ms == 9000
    profile.write_text("name: other\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r'calm\.profile\.yaml: name: must be "calm"'):
        load_pipeline(pipeline)
    profile.write_text("name: calm\nbudgets: {turn: 9000}\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"calm\.profile\.yaml:2: budgets\.turn: unknown key"):
        load_pipeline(pipeline)
    profile.write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="the file is empty") as caught:
        load_profile(profile)
    assert "execution profile" in caught.value.hint
    with pytest.raises(ConfigurationError, match="no such profile file"):
        load_profile(tmp_path / "none.profile.yaml")


def test_an_unknown_profile_is_refused_with_line_and_the_nearest_name() -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(yaml.safe_dump({**BASE, "profile": "simpel"}, sort_keys=False), "f.yaml")
    (fault,) = caught.value.faults
    assert (fault.path, "simple" in fault.hint) == ("profile", True)
    assert fault.line > 1


@pytest.mark.parametrize("name", ["../secret", "A", "a b", ""])
def test_the_name_of_a_profile_is_no_path(name: str) -> None:
    with pytest.raises(PipelineError, match="profile"):
        parse_pipeline(yaml.safe_dump({**BASE, "profile": name}), "f.yaml")


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        ("name", {"name": "other"}, {}),
        ("budgets.node_warn_ms", {"budgets": {"node_warn_ms": 1501}}, {"budgets": {"node_warn_ms": 1500}}),
        (
            "edge.watermarks.low",
            {"edge": {"watermarks": {"high": 5, "low": 5}}},
            {"edge": {"watermarks": {"high": 5, "low": 4}}},
        ),
        (
            "flow_control.watermarks.ControlLane.low",
            {"flow_control": {"watermarks": {"ControlLane": {"high": 2, "low": 3}}}},
            {"flow_control": {"watermarks": {"ControlLane": {"high": 3, "low": 2}}}},
        ),
        ("adaptive_actions", {"adaptive_actions": ["retry", "retry"]}, {"adaptive_actions": ["retry"]}),
        ("opt_in", {"opt_in": ["strategy", "strategy"]}, {"opt_in": []}),
        (
            "recording.replay_modes",
            {"recording": {"replay_modes": ["replay_decisions", "replay_decisions"]}},
            {"recording": {"replay_modes": ["replay_decisions", "recompute_decisions"]}},
        ),
        ("recording.replay_modes", {"recording": {"replay_modes": []}}, {}),
        # Lane priority and determinism belong to nobody.
        (
            "flow_control.mode_by_lane.ControlLane",
            {"flow_control": {"mode_by_lane": {"ControlLane": "credit"}}},
            {"flow_control": {"mode_by_lane": {"DataLane": "credit"}}},
        ),
        (
            "flow_control.shedding_strategy_by_lane.ControlLane",
            {"flow_control": {"shedding_strategy_by_lane": {"ControlLane": "drop"}}},
            {"flow_control": {"shedding_strategy_by_lane": {"ControlLane": "none"}}},
        ),
        ("determinism", {"determinism": {"seed": 7}}, {}),
        ("lane_priority", {"lane_priority": ["DataLane", "ControlLane"]}, {}),
        ("edge.strategy", {"edge": {"strategy": "block"}}, {"edge": {"strategy": "merge"}}),
        ("audio.input_rate_hz", {"audio": {"input_rate_hz": 8000}}, {"audio": {"input_rate_hz": 16000}}),
        ("attempts.per_provider", {"attempts": {"per_provider": 3}}, {"attempts": {"per_provider": 1}}),
    ],
)
def test_each_rule_of_a_profile_refuses_its_fault_and_passes_the_cured_one(
    path: str, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    assert refused(wrong) == [f"profiles.own.{path}"]
    spec = parse_pipeline(text_of(right), "f.yaml")
    assert compile_pipeline(spec).known()


def test_the_built_in_profile_cannot_be_replaced() -> None:
    document = {**BASE, "profiles": {"simple": {"name": "simple", "budgets": {"turn_ms": 1}}}}
    with pytest.raises(PipelineError, match="simple is the built-in profile"):
        parse_pipeline(yaml.safe_dump(document), "f.yaml")


def test_a_profile_may_let_single_edges_override_only_some_things() -> None:
    graph = {"edges": [{"from": "tts", "to": "playout", "max_queue_ms": 1000, "max_queue_bytes": 90_000}]}
    assert refused({"opt_in": ["max_queue_ms"]}, graph=graph) == ["graph.edges[0].max_queue_bytes"]
    assert parse_pipeline(text_of({"opt_in": ["max_queue_ms", "max_queue_bytes"]}, graph=graph), "f.yaml")


def test_g_25_no_adaptive_action_is_not_the_default_actions() -> None:
    def actions(**keys: Any) -> list[str]:
        spec = parse_pipeline(yaml.safe_dump({**BASE, **keys}), "f.yaml")
        assert plan_policy(spec)["allowed_adaptive_actions"] == adaptive_actions(spec)
        return adaptive_actions(spec)

    assert actions() == ["retry", "provider_switch", "fallback"]
    assert actions(adaptive_actions=[]) == []
    assert actions(adaptive_actions=["fallback", "degrade", "retry"]) == ["retry", "degrade", "fallback"]
    none_by_profile = parse_pipeline(text_of({"adaptive_actions": []}), "f.yaml")
    assert adaptive_actions(none_by_profile) == []


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10_000)
    | st.sampled_from(["drop", "signal", "retry", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["high", "low", "DataLane", "ControlLane", "watermarks", "name"]), inner
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["name", "budgets", "edge", "flow_control", "adaptive_actions", "opt_in", "audio", "x"]
        ),
        VALUES,
        max_size=4,
    )
)
@settings(deadline=None)
def test_any_profile_is_taken_or_refused_with_a_remedy_and_the_schema_never_refuses_what_is_taken(
    profile: dict[str, Any],
) -> None:
    document = {"name": "own", **profile}
    text = yaml.safe_dump({**BASE, "profile": "own", "profiles": {"own": document}})
    try:
        parse_pipeline(text, "f.yaml")
    except PipelineError as error:
        remedies = [fault.hint for fault in error.faults]
    else:
        remedies = ["none needed"]
        jsonschema.Draft202012Validator(schema.schema_of("profile")).validate(document)
    assert all(remedies)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir()))
def test_every_example_is_valid_and_points_to_its_schema(name: str) -> None:
    file = EXAMPLES / name
    kind = next((kind for kind in ("profile", "rollout") if name.endswith(f".{kind}.yaml")), "pipeline")
    text = file.read_text(encoding="utf-8")
    assert (EXAMPLES / text.splitlines()[0].partition("$schema=")[2]).resolve() == schema.schema_path(kind)
    jsonschema.Draft202012Validator(schema.schema_of(kind)).validate(yaml.safe_load(text))
    if kind == "profile":
        assert load_profile(file).name == name.removesuffix(".profile.yaml")
    elif kind == "rollout":
        released = load_pipeline(EXAMPLES / name.replace(".rollout", ""))
        assert parse_rollout(text, name).pipeline_version == pipeline_version(released)
    else:
        assert compile_pipeline(load_pipeline(file)).known()


def test_a_profile_sets_the_flow_of_data_edges_and_leaves_control_to_signals() -> None:
    spec = parse_pipeline(text_of({"flow_control": {"mode_by_lane": {"DataLane": "hybrid"}}}), "f.yaml")
    modes = {edge.id: edge.flow_control for edge in compile_pipeline(spec).known().edges}
    assert (modes["stt->turn"], modes["vad->turn"], modes["tts->playout"]) == ("hybrid", "signal", "signal")
