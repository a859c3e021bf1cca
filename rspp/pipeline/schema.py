"""The JSON Schema of the pipeline file, which gives editors completion, help and checks.

``python -m rspp.pipeline.schema --write`` brings ``contracts/pipeline.schema.json`` up to date; without
the flag it prints the schema.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import inspect as info

from rspp.pipeline import spec
from rspp.pipeline.spec import PipelineSpec

PATH = Path(__file__).parents[2] / "contracts" / "pipeline.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ATTRIBUTE = re.compile(r"^    (\w+): (.*)$")


def pipeline_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a pipeline file."""
    generated = msgspec.json.schema(PipelineSpec)
    definitions: dict[str, Any] = {}
    for name, definition in sorted(generated["$defs"].items()):
        definitions[name] = _described(getattr(spec, name), definition)
    root = definitions.pop("PipelineSpec")
    schema: dict[str, Any] = {"$schema": DIALECT, **root, "$defs": definitions}
    schema["title"] = "RSPP pipeline"
    return schema


def schema_text() -> str:
    """Return the text of ``contracts/pipeline.schema.json``."""
    return json.dumps(pipeline_schema(), indent=2, ensure_ascii=False) + "\n"


def _described(kind: type, definition: dict[str, Any]) -> dict[str, Any]:
    """Put the docstring's words where editors look for them."""
    text = inspect.getdoc(kind) or ""
    summary, _, _ = text.partition("\nAttributes:")
    described = dict(definition) | {"title": kind.__name__, "description": _prose(summary)}
    helps = _helps(kind)
    properties = dict(definition.get("properties", {}))
    for name, value in properties.items():
        properties[name] = _property(name, value, helps)
    described["properties"] = properties
    # The types do not ask for the provider where there is only one.
    optional = {"provider"} if kind not in _chosen_by_provider() else set()
    described["required"] = [name for name in definition.get("required", []) if name not in optional]
    if not described["required"]:
        del described["required"]
    return described


def _property(name: str, value: dict[str, Any], helps: dict[str, str]) -> dict[str, Any]:
    """Add help to one property and drop what draft 2020-12 does not know."""
    value = {key: item for key, item in value.items() if key != "discriminator"}
    if name == "provider":
        value["description"] = "which provider serves this part"
    if name in helps:
        value["description"] = helps[name]
    options = re.fullmatch(r"\^\(([a-z_|]+)\)\?\$", str(value.get("pattern", "")))
    if options:
        # An editor can offer words, but not what a pattern would accept.
        del value["pattern"]
        value["enum"] = ["", *options[1].split("|")]
    return value


def _helps(kind: type) -> dict[str, str]:
    """Return what the docstrings of ``kind`` and its bases say of each attribute."""
    helps: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, attributes = (inspect.cleandoc(base.__doc__ or "")).partition("\nAttributes:\n")
        name = ""
        for line in attributes.splitlines():
            start = _ATTRIBUTE.match(line)
            if start:
                name = start[1]
                helps[name] = start[2]
            elif name and line.strip():
                helps[name] += " " + line.strip()
    return {name: _prose(text) for name, text in helps.items()}


def _chosen_by_provider() -> set[type]:
    """Return the types among which ``provider`` chooses."""
    fields = cast("info.StructType", info.type_info(PipelineSpec)).fields
    unions = [field.type for field in fields if isinstance(field.type, info.UnionType)]
    return {item.cls for union in unions for item in union.types if isinstance(item, info.StructType)}


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def main(arguments: list[str]) -> int:
    """Print the schema, or write it with ``--write``."""
    if arguments == ["--write"]:
        PATH.write_text(schema_text(), encoding="utf-8")
        print(f"wrote {PATH}")
        return 0
    if arguments:
        print("error: unknown argument\nhint: --write, or none", file=sys.stderr)
        return 2
    print(schema_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
