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
    document = json.loads(schema.PATH.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def test_the_file_is_up_to_date() -> None:
    assert schema.PATH.read_text(encoding="utf-8") == schema.schema_text(), (
        "run python -m rspp.pipeline.schema --write"
    )


def test_every_key_has_help_and_no_type_leaks_its_docstring() -> None:
    document = schema.pipeline_schema()
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
    assert (EXAMPLE.parent / pointer).resolve() == schema.PATH
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
        ({"recording": {"transcripts": "yes"}}, False),
        ({"surprise": 1}, False),
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
    monkeypatch.setattr(schema, "PATH", tmp_path / "schema.json")
    assert schema.main(["--write"]) == 0
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == schema.schema_text()
    assert schema.main(["--wrote"]) == 2
