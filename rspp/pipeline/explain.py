"""Says of a pipeline everything that holds, and of each value where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from msgspec import UNSET

from rspp.pipeline.candidates import file_form
from rspp.pipeline.edge_policy import FROM_FILE, profile_source
from rspp.pipeline.normalise import (
    adaptive_actions,
    compile_pipeline,
    lesser_forms,
    pipeline_version,
    plan_policy,
    profile_of,
    spec_digest,
    with_defaults,
)

if TYPE_CHECKING:
    from rspp.pipeline.loader import LoadedPipeline
    from rspp.pipeline.spec import PipelineSpec

PIPELINE_DEFAULT = "pipeline_default"
"""Source of a value that the file leaves out and that no profile sets."""
_FROM_PROFILE = ("budget.", "adaptive_actions", "recording.level")
_TO_EDGES = "graph.edges."


def normalised(loaded: LoadedPipeline) -> dict[str, Any]:
    """Return the normalised form of a pipeline (CP-02): no default is left to be guessed.

    Returns:
        ``pipeline`` with every default written out, the ``execution_profile`` in full, the compiled
        ``graph`` with its ``graph_definition_ref``, the ``plan_policy`` that turn plans share, and
        ``sources`` with ``defaulting_source`` of each value: ``pipeline_file``, ``pipeline_default``,
        ``execution_profile:NAME``, ``built_in_graph`` or ``derived``.

    Raises:
        ConfigurationError: the pipeline cannot be compiled.
    """
    spec = with_defaults(loaded.spec)
    compilation = compile_pipeline(loaded.spec)
    graph = compilation.known()
    pipeline = file_form(spec)
    return {
        "pipeline_version": pipeline_version(spec),
        "digest": spec_digest(spec),
        "mode": "simple" if loaded.spec.graph is UNSET else "advanced",
        "execution_profile": msgspec.to_builtins(profile_of(spec)),
        "pipeline": pipeline,
        "graph_definition_ref": graph.ref(),
        "graph": msgspec.to_builtins(graph),
        "plan_policy": plan_policy(spec),
        "sources": sources(loaded, pipeline, compilation.sources),
    }


def sources(
    loaded: LoadedPipeline, pipeline: dict[str, Any], edges: dict[str, dict[str, str]]
) -> dict[str, str]:
    """Return where each value came from, by its path.

    Args:
        loaded: the pipeline with what its author wrote.
        pipeline: the same with every default written out, as plain values.
        edges: where the values of each edge came from.
    """
    profile = profile_source(profile_of(loaded.spec))
    found: dict[str, str] = {}
    for path in _leaves(pipeline, ""):
        if path in loaded.lines:
            found[path] = FROM_FILE
        else:
            found[path] = profile if path.startswith(_FROM_PROFILE) else PIPELINE_DEFAULT
    for name, values in edges.items():
        found |= {f"{_TO_EDGES}{name}.{field}": source for field, source in values.items()}
    return found


def lesser_told(spec: PipelineSpec) -> str:
    """Return what each part of a turn that is degraded goes on with; empty where no turn may be."""
    if "degrade" not in adaptive_actions(spec):
        return ""
    forms = lesser_forms(spec)
    writer = forms.get("llm", "nothing (none is declared under degraded.llm)")
    voice = forms.get("tts", "nothing (an embedded voice is a candidate)")
    return f"degraded: stt goes on with the words heard in part, llm with {writer}, tts with {voice}"


def annotated(document: dict[str, Any]) -> list[str]:
    """Return the lines of a pipeline file with every default, and its source beside each.

    Args:
        document: as ``normalised`` gives it.
    """
    return list(_lines(document["pipeline"], "", "", document["sources"]))


def _leaves(value: dict[str, Any], path: str) -> list[str]:
    found = []
    for key, item in value.items():
        place = f"{path}.{key}" if path else key
        found += _leaves(item, place) if isinstance(item, dict) and item else [place]
    return found


def _lines(value: dict[str, Any], path: str, indent: str, origin: dict[str, str]) -> list[str]:
    lines = []
    for key, item in value.items():
        place = f"{path}.{key}" if path else key
        name = _scalar(key)
        if isinstance(item, dict) and item:
            lines += [f"{indent}{name}:", *_lines(item, place, indent + "  ", origin)]
            continue
        source = origin.get(place, "")
        note = "" if source in ("", FROM_FILE) else f"  # {source}"
        if isinstance(item, list | tuple) and any(isinstance(one, dict) for one in item):
            lines.append(f"{indent}{name}:{note}")
            lines += [f"{indent}  - {_scalar(one)}" for one in item]
        else:
            lines.append(f"{indent}{name}: {_scalar(item)}{note}")
    return lines


def _scalar(value: Any) -> str:  # noqa: ANN401 - plain YAML values
    text = yaml.safe_dump(
        list(value) if isinstance(value, tuple) else value,
        default_flow_style=True,
        allow_unicode=True,
        sort_keys=False,
        width=1_000_000,
    )
    return text.removesuffix("\n").removesuffix("\n...")
