"""The JSON Schemas of pipelines, profiles, graphs, rollouts and releases; editors take help from them.

``python -m rspp.pipeline.schema --write`` brings ``contracts/KIND.schema.json`` of each kind up to date;
without the flag it prints the schema of the pipeline file.
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

from rspp.pipeline.candidates import listed_schema
from rspp.pipeline.graph import GraphDefinition
from rspp.pipeline.profile import ExecutionProfile
from rspp.pipeline.release import ReleaseManifest
from rspp.pipeline.rollout import RolloutConfig
from rspp.pipeline.spec import PipelineSpec

FOLDER = Path(__file__).parents[2] / "contracts"
KINDS: dict[str, tuple[type, str]] = {
    "pipeline": (PipelineSpec, "RSPP pipeline"),
    "profile": (ExecutionProfile, "RSPP execution profile"),
    "graph": (GraphDefinition, "RSPP graph definition"),
    "rollout": (RolloutConfig, "RSPP rollout configuration"),
    "release": (ReleaseManifest, "RSPP release manifest"),
}
"""Root type and title of each schema."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ATTRIBUTE = re.compile(r"^    (\w+): (.*)$")


def schema_of(kind: str) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of one kind of document: a key of ``KINDS``."""
    root, title = KINDS[kind]
    generated = msgspec.json.schema(root)
    types = _types(root)
    definitions: dict[str, Any] = {
        name: _described(types[name], definition) for name, definition in sorted(generated["$defs"].items())
    }
    whole = definitions.pop(root.__name__)
    schema: dict[str, Any] = {"$schema": DIALECT, **whole, "$defs": definitions}
    schema["title"] = title
    return listed_schema(schema) if root is PipelineSpec else schema


def schema_path(kind: str) -> Path:
    """Return where the schema of one kind of document is kept."""
    return FOLDER / f"{kind}.schema.json"


def schema_text(kind: str = "pipeline") -> str:
    """Return the text of the schema of one kind of document."""
    return json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"


def _types(root: type) -> dict[str, type[msgspec.Struct]]:
    """Return every type that ``root`` is made of, by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting = [info.type_info(root)]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, info.StructType) and kind.cls.__name__ not in found:
            found[kind.cls.__name__] = kind.cls
            waiting.extend(field.type for field in kind.fields)
        elif isinstance(kind, info.UnionType):
            waiting.extend(kind.types)
        elif isinstance(kind, info.Metadata):
            waiting.append(kind.type)
        elif isinstance(kind, info.VarTupleType | info.ListType):
            waiting.append(kind.item_type)
        elif isinstance(kind, info.DictType):
            waiting.append(kind.value_type)
    return found


def _described(kind: type[msgspec.Struct], definition: dict[str, Any]) -> dict[str, Any]:
    """Put the docstring's words where editors look for them."""
    text = inspect.getdoc(kind) or ""
    summary, _, _ = text.partition("\nAttributes:")
    described = dict(definition) | {"title": kind.__name__, "description": _prose(summary)}
    helps = _helps(kind)
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    properties = dict(definition.get("properties", {}))
    for name, value in properties.items():
        properties[name] = _property(str(names.get(name, name)), value, helps)
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
    if "enum" in value.get("items", {}):
        value["uniqueItems"] = True
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
    kinds = [cast("info.StructType", info.type_info(kind)) for kind in _types(PipelineSpec).values()]
    fields = [field for kind in kinds for field in kind.fields]
    unions = [field.type for field in fields if isinstance(field.type, info.UnionType)]
    return {item.cls for union in unions for item in union.types if isinstance(item, info.StructType)}


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def main(arguments: list[str]) -> int:
    """Print the schema of the pipeline file, or write all with ``--write``."""
    if arguments == ["--write"]:
        for kind in KINDS:
            schema_path(kind).write_text(schema_text(kind), encoding="utf-8")
            print(f"wrote {schema_path(kind)}")
        return 0
    if arguments:
        print("error: unknown argument\nhint: --write, or none", file=sys.stderr)
        return 2
    print(schema_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
