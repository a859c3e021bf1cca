"""``rspp-cli``: checks and shows pipeline files, contracts and recordings."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it parses
from typing import TYPE_CHECKING, Any

from rspp.cli.present import answer_version, run_app, show_error, version

if TYPE_CHECKING:
    from cyclopts import App

    from rspp.contracts.errors import ConfigurationError
    from rspp.pipeline.spec import PipelineSpec


def validate_pipeline(file: Path, *, json: bool = False) -> int:
    """Check a pipeline file and list everything that is wrong with it.

    Args:
        file: pipeline file.
        json: print one JSON object instead of lines.

    Returns:
        0 when the file is valid, 2 when it is not.
    """
    from rspp.contracts.errors import ConfigurationError
    from rspp.pipeline.loader import load_pipeline
    from rspp.pipeline.normalise import pipeline_version, provider_bindings

    try:
        spec = load_pipeline(file)
    except ConfigurationError as error:
        if json:
            _print_json({"valid": False, "file": str(file), "faults": _faults(error)})
        else:
            _show_faults(error)
        return 2
    if json:
        _print_json({"valid": True, "file": str(file), **_normalised(spec)})
    else:
        served = ", ".join(f"{part} by {name}" for part, name in provider_bindings(spec).items())
        print(f"{file}: valid: {pipeline_version(spec)}: {served}")
    return 0


def show_pipeline(file: Path) -> int:
    """Print a pipeline with every default made explicit, as a pipeline file.

    Args:
        file: pipeline file.
    """
    import msgspec
    import yaml

    from rspp.pipeline.loader import load_pipeline
    from rspp.pipeline.normalise import pipeline_version, spec_digest

    spec = load_pipeline(file)
    print(f"# {pipeline_version(spec)}, sha256 {spec_digest(spec)}")
    plain = msgspec.to_builtins(spec)
    print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100), end="")
    return 0


def schema() -> int:
    """Print the JSON Schema of the pipeline file."""
    from rspp.pipeline.schema import schema_text

    print(schema_text(), end="")
    return 0


def build_app() -> App:
    """Return the command line of ``rspp-cli``."""
    from cyclopts import App

    from rspp.cli.contracts import validate_contracts, validate_contracts_report, validate_stream

    app = App(
        name="rspp-cli", help="Check and show pipeline files, contracts and recordings.", version=version
    )
    commands = (
        validate_pipeline,
        show_pipeline,
        schema,
        validate_contracts,
        validate_contracts_report,
        validate_stream,
    )
    for command in commands:
        app.command(command)
    return app


def run(arguments: list[str]) -> int:
    """Run ``rspp-cli`` with ``arguments`` and return its exit status."""
    return 0 if answer_version("rspp-cli", arguments) else run_app(build_app(), arguments)


def main() -> None:
    """Entry point of ``rspp-cli``."""
    sys.exit(run(sys.argv[1:]))


def _normalised(spec: PipelineSpec) -> dict[str, Any]:
    import msgspec

    from rspp.pipeline.normalise import pipeline_version, plan_policy, spec_digest

    return {
        "pipeline_version": pipeline_version(spec),
        "digest": spec_digest(spec),
        "pipeline": msgspec.to_builtins(spec),
        "plan_policy": plan_policy(spec),
    }


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


def _print_json(document: dict[str, Any]) -> None:
    import json

    print(json.dumps(document, indent=2, ensure_ascii=False))
