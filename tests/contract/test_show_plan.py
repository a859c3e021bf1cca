"""What `rspp-cli` says of a pipeline: faults with places, defaults with sources, the graph drawn."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rspp.cli import main as cli
from rspp.pipeline import schema
from rspp.pipeline.drawing import ASCII, draw
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import compile_pipeline, plan_policy, with_defaults

EXAMPLE = Path(__file__).parents[2] / "rspp" / "pipeline" / "examples" / "front-desk.yaml"
SIMPLE_FILE = "name: desk\nllm: {provider: rules, rules: [{hear: hello, say: Hi.}]}\nturn: {probe_ms: 91}\n"
ADVANCED = SIMPLE_FILE + (
    "profile: calm\n"
    "profiles: {calm: {name: calm, budgets: {path_ms: 4000}, edge: {max_queue_items: 9}}}\n"
    "graph:\n  edges:\n    - {from: tts, to: playout, max_queue_ms: 1000}\n"
)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "desk.yaml"
    path.write_text(SIMPLE_FILE, encoding="utf-8")
    return path


def shown(file: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.run(["show-plan", str(file), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# ------------------------------------------------------------------------------------------ validate-spec


def test_each_fault_has_its_line_field_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wrong.yaml"
    text = ADVANCED.replace("max_queue_ms: 1000", "max_queue_ms: 20")
    file.write_text(text, encoding="utf-8")
    assert cli.run(["validate-spec", str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {file}:8: graph.edges[0].max_queue_ms: 20 is too little for this edge",
        "hint: at least 40",
    ]
    file.write_text(ADVANCED.replace("calm\n", "clam\n", 1), encoding="utf-8")
    assert cli.run(["validate-spec", str(file), "--json"]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert (fault["line"], fault["path"]) == (4, "profile")
    assert "did you mean `calm`?" in fault["hint"]


def test_the_old_name_of_the_command_does_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for command in ("validate-spec", "validate-pipeline"):
        assert cli.run([command, str(EXAMPLE)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "valid: front-desk@v1" in said[0]


def test_a_profile_can_be_checked_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "calm.profile.yaml"
    file.write_text("name: calm\nbudgets: {turn_ms: 9000}\n", encoding="utf-8")
    assert cli.run(["validate-spec", str(file)]) == 0
    assert "valid: execution profile calm" in capsys.readouterr().out
    file.write_text("name: calm\nedge:\n  watermarks: {high: 3, low: 3}\n", encoding="utf-8")
    assert cli.run(["validate-spec", str(file)]) == 2
    assert f"{file}:3: edge.watermarks.low: must be below edge.watermarks.high" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- show-plan


def test_m_12_every_value_of_the_plan_has_a_source(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = shown(file, capsys)
    source = document["sources"]
    assert (document["mode"], document["execution_profile"]["name"]) == ("simple", "simple")
    assert source["turn.probe_ms"] == source["llm.rules"] == source["llm.provider"] == "pipeline_file"
    assert source["turn.complete_wait_ms"] == source["tts.voice"] == "pipeline_default"
    assert source["budget.stall_ms"] == source["adaptive_actions"] == "execution_profile:simple"
    assert source["graph.edges.stt->turn.max_queue_ms"] == "execution_profile:simple"
    assert source["graph.edges.tts->playout.max_queue_ms"] == "built_in_graph"

    def leaves(value: dict[str, Any], path: str) -> list[str]:
        return [
            place
            for key, item in value.items()
            for place in (leaves(item, f"{path}{key}.") if isinstance(item, dict) and item else [path + key])
        ]

    assert set(leaves(document["pipeline"], "")) == {name for name in source if not name.startswith("graph.")}


def test_an_override_and_a_profile_of_ones_own_show_as_sources(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(ADVANCED, encoding="utf-8")
    document = shown(file, capsys)
    source = document["sources"]
    assert document["mode"] == "advanced"
    assert source["graph.edges.tts->playout.max_queue_ms"] == "pipeline_file"
    assert source["graph.edges.tts->playout.max_queue_items"] == "built_in_graph"
    assert source["graph.edges.stt->turn.max_queue_items"] == "execution_profile:calm"
    assert source["graph.edges.stt->turn.watermarks.queue_items"] == "derived"
    assert source["budget.stall_ms"] == "execution_profile:calm"
    assert document["pipeline"]["budget"]["stall_ms"] == 4000
    assert document["plan_policy"]["edge_buffer_policies"]["tts->playout"]["max_queue_ms"] == 1000


def test_what_machines_get_fits_the_schemas(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(ADVANCED, encoding="utf-8")
    document = shown(file, capsys)
    for kind, part in (("pipeline", "pipeline"), ("profile", "execution_profile"), ("graph", "graph")):
        jsonschema.Draft202012Validator(schema.schema_of(kind)).validate(document[part])
    assert document["graph_definition_ref"].startswith("graph/default/sha256:")


def test_the_text_is_a_pipeline_file_with_the_same_meaning(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in (file, EXAMPLE):
        assert cli.run(["show-plan", str(source)]) == 0
        text = capsys.readouterr().out.partition("\n# graph/")[0]
        again = tmp_path / "again.yaml"
        again.write_text(text, encoding="utf-8")
        assert load_pipeline(again) == with_defaults(load_pipeline(source))
        assert plan_policy(load_pipeline(again)) == plan_policy(load_pipeline(source))
        assert ("probe_ms: 91\n" in text) == ("probe_ms: 90  # pipeline_default\n" not in text)
        assert "stall_ms: 3000  # execution_profile:simple\n" in text
    assert yaml.safe_load(text)["turn"]["probe_ms"] == 90


def test_the_graph_is_drawn_with_boxes_and_arrows(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show-plan", str(file)]) == 0
    drawn = capsys.readouterr().out.partition("\n# graph/")[2]
    boxes = re.findall(r"│ +([a-z-]+) +[│├]", drawn)
    assert boxes == [
        "room-in",
        "vad",
        "stt",
        "turn",
        "llm",
        "segmenter",
        "tts",
        "playout",
        "room-out",
        "notice",
        "presenter",
    ]
    assert "├──▶ presenter  data · drop at 64 items, 600000 ms, 1024 KiB" in drawn
    assert "├──▶ turn  control · handed over at once" in drawn
    assert "│ data · block at 200 items, 4000 ms, 187 KiB" in drawn
    assert drawn.count("▼") == 8
    assert "┌─────┐\n│ vad ├──▶ turn  control · handed over at once\n└──┬──┘\n   │ data · " in drawn
    assert max(len(line) for line in drawn.splitlines()) < 100


def test_every_edge_is_drawn_once_and_any_terminal_can_show_it(file: Path) -> None:
    graph = compile_pipeline(load_pipeline(file)).known()
    lines = draw(graph, colours=False, pen=ASCII)
    assert all(line.isascii() for line in lines)
    onward = sum(line.strip() == "v" for line in lines)
    aside = sum("--> " in line for line in lines)
    assert onward + aside == len(graph.edges)
    assert lines != draw(graph, colours=True)


def test_colours_only_on_a_terminal_and_never_against_the_users_wish(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> str:
        stream = FakeTerminal()
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.run(["show-plan", str(file)]) == 0
        return stream.getvalue()

    assert "\x1b[1m" in drawn()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in drawn()


@pytest.mark.parametrize("kind", ["pipeline", "profile", "graph", "rollout", "release"])
def test_each_schema_is_printed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema", kind]) == 0
    assert capsys.readouterr().out == schema.schema_text(kind)
    assert cli.run(["schema", "poem"]) == 2


def test_a_missing_file_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show-plan", "/nowhere/f.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: /nowhere/f.yaml: no such pipeline file\nhint: ")


def test_what_a_degraded_turn_goes_on_with_is_told_before_the_pipeline(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["show-plan", str(file)])
    assert "# degraded:" not in capsys.readouterr().out
    more = "adaptive_actions: [degrade]\ndegraded: {llm: {provider: fixed, say: Not now.}}\n"
    file.write_text(SIMPLE_FILE + more, encoding="utf-8")
    assert cli.run(["show-plan", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith(
        "# degraded: stt goes on with the words heard in part, llm with fixed, tts with"
    )
    assert shown(file, capsys)["plan_policy"]["provider_bindings"]["llm.lesser"] == "fixed"
    assert cli.run(["validate-spec", str(file)]) == 0
    assert "llm.lesser by fixed" in capsys.readouterr().out
