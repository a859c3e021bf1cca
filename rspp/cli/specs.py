"""The commands of ``rspp-cli`` that check and show pipelines."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it parses
from typing import TYPE_CHECKING, Any, Literal

from rspp.terminal import coloured, print_json, show_error

if TYPE_CHECKING:
    from rspp.contracts.errors import ConfigurationError


def validate_spec(file: Path, *, json: bool = False) -> int:
    """Check a pipeline file, or a NAME.profile.yaml, and list everything that is wrong with it.

    Args:
        file: pipeline file or execution profile.
        json: print one JSON object instead of lines.

    Returns:
        0 when the file is valid, 2 when it is not.
    """
    from rspp.contracts.errors import ConfigurationError
    from rspp.pipeline.loader import PROFILE_SUFFIX, load_profile, load_with_lines
    from rspp.pipeline.normalise import pipeline_version, provider_bindings

    profile = file.name.endswith(PROFILE_SUFFIX)
    try:
        if profile:
            said = f"execution profile {load_profile(file).name}"
            details: dict[str, Any] = {}
        else:
            loaded = load_with_lines(file)
            served = ", ".join(f"{part} by {name}" for part, name in provider_bindings(loaded.spec).items())
            said = f"{pipeline_version(loaded.spec)}: {served}"
            details = _normalised(loaded) if json else {}
    except ConfigurationError as error:
        if json:
            print_json({"valid": False, "file": str(file), "faults": _faults(error)})
        else:
            _show_faults(error)
        return 2
    if json:
        print_json({"valid": True, "file": str(file), **details})
    else:
        print(f"{file}: valid: {said}")
    return 0


def show_plan(file: Path, *, json: bool = False) -> int:
    """Print a pipeline with every default and its source, and draw the graph that its sessions run.

    Args:
        file: pipeline file.
        json: print one JSON object: pipeline, execution profile, graph, plan and the source of each value.
    """
    from rspp.pipeline.drawing import ASCII, LINES, draw
    from rspp.pipeline.explain import annotated, lesser_told
    from rspp.pipeline.loader import load_with_lines
    from rspp.pipeline.normalise import compile_pipeline

    loaded = load_with_lines(file)
    document = _normalised(loaded)
    if json:
        print_json(document)
        return 0
    print(f"# {document['pipeline_version']}, sha256 {document['digest']}")
    print(f"# {document['mode']} mode, execution profile {document['execution_profile']['name']}")
    if told := lesser_told(loaded.spec):
        print(f"# {told}")
    print("\n".join(annotated(document)))
    print(f"\n# {document['graph_definition_ref']}")
    try:
        "┌▶·".encode(sys.stdout.encoding or "ascii")
        pen = LINES
    except UnicodeEncodeError:
        pen = ASCII
    graph = compile_pipeline(loaded.spec).known()
    print("\n".join(draw(graph, colours=coloured(sys.stdout), pen=pen)))
    return 0


def show_pipeline(file: Path) -> int:
    """Print a pipeline with every default made explicit, as a pipeline file.

    Args:
        file: pipeline file.
    """
    import yaml

    from rspp.pipeline.candidates import file_form
    from rspp.pipeline.loader import load_pipeline
    from rspp.pipeline.normalise import pipeline_version, spec_digest, with_defaults

    spec = with_defaults(load_pipeline(file))
    print(f"# {pipeline_version(spec)}, sha256 {spec_digest(spec)}")
    plain = file_form(spec)
    print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100), end="")
    return 0


def schema(kind: Literal["pipeline", "profile", "graph", "rollout", "release"] = "pipeline") -> int:
    """Print a JSON Schema.

    Args:
        kind: of the pipeline file, of an execution profile, of a compiled graph, of a rollout configuration,
            or of a release manifest.
    """
    from rspp.pipeline.schema import schema_text

    print(schema_text(kind), end="")
    return 0


def _normalised(loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - the type is loaded late
    from rspp.pipeline.explain import normalised

    return normalised(loaded)


def _faults(error: ConfigurationError) -> list[dict[str, Any]]:
    import msgspec

    from rspp.pipeline.loader import PipelineError

    if isinstance(error, PipelineError):
        return [msgspec.to_builtins(fault) for fault in error.faults]
    return [{"line": 0, "path": "", "problem": error.message, "hint": error.hint}]


def _show_faults(error: ConfigurationError) -> None:
    from rspp.pipeline.loader import PipelineError, describe

    if not isinstance(error, PipelineError):
        show_error(error.message, error.hint)
        return
    for fault in error.faults:
        show_error(describe(error.source, fault), fault.hint)
