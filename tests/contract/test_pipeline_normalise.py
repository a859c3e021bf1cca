"""What the kernel is told of a pipeline: complete, in integers, and the same for the same file."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rspp import _kernel
from rspp.pipeline.loader import parse_pipeline
from rspp.pipeline.normalise import (
    canonical_json,
    permille,
    plan_policy,
    plan_template,
    provider_bindings,
    turn_policy,
)

STUB = Path(__file__).parents[2] / "rspp" / "_kernel.pyi"
TEXT = "name: desk\nllm: {provider: rules, rules: [{hear: hello, say: Hi.}]}\n"


def keywords_of(name: str) -> dict[str, object]:
    """Return the keyword arguments of a kernel class with their defaults, none for those without."""
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            new = node.body[1]
            assert isinstance(new, ast.FunctionDef)
            return {
                argument.arg: None if default is None else ast.literal_eval(default)
                for argument, default in zip(new.args.kwonlyargs, new.args.kw_defaults, strict=True)
            }
    raise AssertionError(f"the kernel has no {name}")


def test_the_defaults_of_a_pipeline_are_those_of_the_kernel() -> None:
    told = turn_policy(parse_pipeline(TEXT, "f"))
    defaults = keywords_of("TurnPolicy") | {"takeover_notice": True}
    assert told == {name: value for name, value in defaults.items() if name in told}


def test_every_threshold_of_the_file_reaches_the_kernel() -> None:
    text = TEXT + (
        "greeting: Hello.\nfailure_notice: ''\ntakeover_notice: ''\n"
        "vad: {speech: 0.61, silence: 0.29}\n"
        "turn: {complete_wait_ms: 201, incomplete_wait_ms: 1601, probe_ms: 101, max_utterance_ms: 20001,"
        " overlap: queue, late_event: remap, late_grace_ms: 301}\n"
        "interruption: {enabled: false, confirm_ms: 701, confirm_words: 3, release_ms: 203,"
        " short_burst_ms: 251, short_release_ms: 103}\n"
        "budget: {first_output_ms: 5001, stall_ms: 3001}\n"
    )
    assert turn_policy(parse_pipeline(text, "f")) == {
        "speech_permille": 610,
        "silence_permille": 290,
        "interruptions": False,
        "confirm_ms": 701,
        "confirm_words": 3,
        "release_ms": 203,
        "short_burst_ms": 251,
        "short_release_ms": 103,
        "probe_ms": 101,
        "complete_wait_ms": 201,
        "incomplete_wait_ms": 1601,
        "max_utterance_ms": 20001,
        "overlap": "queue",
        "late_event": "remap",
        "late_grace_ms": 301,
        "first_output_budget_ms": 5001,
        "stall_budget_ms": 3001,
        "failure_notice": False,
        "greeting": True,
        "takeover_notice": False,
    }


def test_the_plan_template_has_what_the_kernel_asks_for() -> None:
    template = plan_template(parse_pipeline(TEXT, "f"))
    assert list(template) == list(keywords_of("PlanTemplate"))
    assert template["pipeline_version"] == "desk@v1"
    assert re.fullmatch(r"graph/default/sha256:[0-9a-f]{64}", template["graph_definition_ref"])
    assert template["execution_profile"] == "simple"


def test_the_policy_is_canonical() -> None:
    text = plan_template(parse_pipeline(TEXT.replace("desk", "bureau-é"), "f"))["policy_json"]
    document = json.loads(text)
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert "." not in "".join(str(number) for number in _numbers(document))
    assert "é" in text


def _numbers(value: object) -> list[object]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


def test_the_policy_has_every_section_of_the_contract() -> None:
    policy = plan_policy(parse_pipeline(TEXT, "f"))
    assert set(policy) == {
        "allowed_adaptive_actions",
        "budgets",
        "determinism",
        "edge_buffer_policies",
        "flow_control",
        "provider_bindings",
        "recording_policy",
        "snapshot_provenance",
    }
    assert policy["budgets"] == {
        "turn_budget_ms": 5000,
        "node_budget_ms_default": 1500,
        "path_budget_ms_default": 3000,
        "edge_budget_ms_default": 500,
    }
    assert "seed" not in policy["determinism"]
    assert set(policy["snapshot_provenance"]) == {
        "routing_view_snapshot",
        "admission_policy_snapshot",
        "abi_compatibility_snapshot",
        "version_resolution_snapshot",
        "policy_resolution_snapshot",
        "provider_health_snapshot",
    }
    assert all(policy["snapshot_provenance"].values())
    for edge in policy["edge_buffer_policies"].values():
        assert edge["lane_handling"]["ControlLane"] == "non_blocking_priority"
        assert edge["watermarks"]["queue_items"]["low"] < edge["watermarks"]["queue_items"]["high"]
        blocks = "block" in (edge["strategy"], edge["lane_handling"]["DataLane"])
        assert ("max_block_time_ms" in edge) == blocks
    assert policy["edge_buffer_policies"]["playout->room-out"]["max_queue_ms"] == 40
    assert policy["edge_buffer_policies"]["playout->room-out"]["max_queue_bytes"] == 1920
    assert set(policy["flow_control"]["mode_by_lane"]) == {"DataLane", "ControlLane", "TelemetryLane"}


def test_a_provider_outside_is_named_as_an_input_that_cannot_be_computed_again() -> None:
    text = (
        "name: x\nllm: {provider: openai, model: m}\nstt: {provider: openai, model: w}\n"
        "tts: {provider: espeak, voice: en-gb}\n"
    )
    spec = parse_pipeline(text, "f")
    assert provider_bindings(spec) == {
        "vad": "silero",
        "stt": "openai/w",
        "llm": "openai/m",
        "tts": "espeak/en-gb",
    }
    inputs = plan_policy(spec)["determinism"]["nondeterministic_inputs"]
    assert [entry["input_key"] for entry in inputs] == ["stt", "llm"]
    assert plan_policy(parse_pipeline(TEXT, "f"))["determinism"]["nondeterministic_inputs"] == []


def test_the_same_file_gives_the_same_plan_and_any_change_another() -> None:
    template = plan_template(parse_pipeline(TEXT, "f"))
    assert plan_template(parse_pipeline("# a comment\n" + TEXT, "other")) == template
    for change in (
        "turn: {probe_ms: 91}\n",
        "otherwise",
        "greeting: Hi.\n",
        "tts: {provider: espeak, voice: x}\n",
    ):
        text = TEXT.replace("say: Hi.", "say: Hello.") if change == "otherwise" else TEXT + change
        assert plan_template(parse_pipeline(text, "f"))["policy_json"] != template["policy_json"]


def test_a_fraction_never_gets_into_a_plan() -> None:
    with pytest.raises(TypeError, match=r"integers only, not 0\.5"):
        canonical_json({"a": [{"b": 0.5}]})


@given(st.integers(10, 990))
def test_probabilities_survive_as_integers_per_thousand(thousandths: int) -> None:
    assert permille(thousandths / 1000) == thousandths
    assert permille((thousandths - 0.4) / 1000) == thousandths


def test_the_kernel_takes_what_it_is_told() -> None:
    spec = parse_pipeline(TEXT, "f")
    assert isinstance(_kernel.TurnPolicy(**turn_policy(spec)), _kernel.TurnPolicy)
    assert isinstance(_kernel.PlanTemplate(**plan_template(spec)), _kernel.PlanTemplate)
