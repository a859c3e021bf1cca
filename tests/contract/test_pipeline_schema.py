"""The published schema is the one of the types, and says the same as the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline import schema
from rspp.pipeline.loader import parse_pipeline

EXAMPLE = Path(__file__).parents[2] / "rspp" / "pipeline" / "examples" / "front-desk.yaml"
RULES = {"provider": "rules", "rules": [{"hear": "hello", "say": "Hi."}]}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    document = json.loads(schema.schema_path("pipeline").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("kind", schema.KINDS)
def test_m_12_the_schemas_of_specs_profiles_and_graphs_are_those_of_the_types(kind: str) -> None:
    text = schema.schema_path(kind).read_text(encoding="utf-8")
    assert text == schema.schema_text(kind), "run python -m rspp.pipeline.schema --write"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("kind", ["pipeline", "profile", "rollout", "release"])
def test_every_key_has_help_and_no_type_leaks_its_docstring(kind: str) -> None:
    document = schema.schema_of(kind)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for name, part in [("pipeline", document), *document["$defs"].items()]:
        assert part["description"], name
        assert "Attributes" not in part["description"]
        for key, value in part["properties"].items():
            assert value.get("description"), f"{name}.{key}"
            assert "``" not in value["description"]


def test_the_example_points_to_it_and_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    pointer = text.splitlines()[0].partition("$schema=")[2]
    assert (EXAMPLE.parent / pointer).resolve() == schema.schema_path("pipeline")
    validator.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"vad": {"speech": 0.6}}, True),
        ({"vad": {"provider": "silero"}}, True),
        ({"tts": {"provider": "espeak", "words_per_minute": 120}}, True),
        ({"tts": {"words_per_minute": 120}}, False),
        ({"tts": {"provider": "espeak", "model": "x"}}, False),
        ({"tts": {"provider": "openai"}}, False),
        ({"vad": {"provider": "other"}}, False),
        ({"turn": {"probe_ms": 0}}, False),
        ({"turn": {"probe_ms": 1.5}}, False),
        ({"recording": {"level": "L1", "until_minutes": 60}}, True),
        ({"recording": {"level": "L1", "until_minutes": 0}}, False),
        ({"recording": {"level": "L2", "approval": "head of care", "allow": ["text_raw"]}}, True),
        ({"recording": {"level": "L2", "approval": "head of care", "allow": ["PHI"]}}, False),
        ({"recording": {"level": "L3"}}, False),
        ({"recording": {"transcripts": True}}, False),
        ({"surprise": 1}, False),
        ({"profile": "simple", "adaptive_actions": []}, True),
        ({"adaptive_actions": ["retry", "retry"]}, False),
        ({"adaptive_actions": ["hope"]}, False),
        ({"profiles": {"own": {"name": "own", "edge": {"max_queue_items": 9}}}}, True),
        ({"profiles": {"own": {"edge": {}}}}, False),
        ({"profiles": {"own": {"name": "own", "determinism": {}}}}, False),
        ({"profiles": {"own": {"name": "own", "audio": {"frame_ms": 10}}}}, False),
        ({"profiles": {"own": {"name": "own", "audio": {"frame_ms": "20"}}}}, False),
        ({"graph": {"edges": [{"from": "tts", "to": "playout", "max_queue_ms": 1000}]}}, True),
        ({"graph": {"edges": [{"from": "tts", "max_queue_ms": 1000}]}}, False),
        ({"graph": {"edges": [{"from": "tts", "to": "playout", "max_queue_ms": 0}]}}, False),
        ({"graph": {"edges": [{"from": "tts", "to": "playout", "lane": "ControlLane"}]}}, False),
        ({"graph": {"edges": [{"from": "a", "to": "b", "lane_handling": {"ControlLane": "drop"}}]}}, False),
        ({"graph": {"nodes": [{"id": "x", "type": "teapot"}]}}, False),
        ({"name": ""}, False),
        ({"llm": {"provider": "rules", "rules": []}}, False),
        ({"llm": {"provider": "rules", "rules": [{"hear": "a", "say": "b", "action": "hang_up"}]}}, True),
        ({"llm": {"provider": "rules", "rules": [{"hear": "a", "say": "b", "action": "jump"}]}}, False),
    ],
)
def test_schema_and_loader_agree(
    validator: jsonschema.Draft202012Validator, change: dict[str, Any], *, valid: bool
) -> None:
    document = {"name": "x", "llm": RULES, **change}
    assert validator.is_valid(document) is valid
    if valid:
        parse_pipeline(yaml.safe_dump(document), "f.yaml")
    else:
        with pytest.raises(ConfigurationError):
            parse_pipeline(yaml.safe_dump(document), "f.yaml")


def test_the_command_prints_writes_and_refuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert schema.main([]) == 0
    assert capsys.readouterr().out == schema.schema_text()
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    assert schema.main(["--write"]) == 0
    for kind in schema.KINDS:
        assert (tmp_path / f"{kind}.schema.json").read_text(encoding="utf-8") == schema.schema_text(kind)
    assert schema.main(["--wrote"]) == 2
