"""The commands of ``rspp-cli`` that release gates run: baseline, service gates, replay, release."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rspp.terminal import print_json, style_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BASELINE = Path("artifacts/replay/runtime-baseline.json")
SLO_REPORT = Path("artifacts/ops/slo-gates-report.json")
SMOKE_REPORT = Path("artifacts/replay/smoke-report.json")
REGRESSION_REPORT = Path("artifacts/replay/regression-report.json")
CONTRACTS_REPORT = Path("artifacts/contracts/contracts-report.json")
MANIFEST = Path("artifacts/release/release-manifest.json")
EXIT_GATE = 1
"""A gate fails, or what it judges is missing."""


def generate_runtime_baseline(output: Path = BASELINE, *, json: bool = False) -> int:
    """Hold real sessions with embedded providers and write the evidence of their turns.

    Answers, barge-ins, provider failures, lost authority and a takeover; some of the calls run in real time,
    about 20 seconds.

    Args:
        output: file to write.
        json: print one JSON object instead of lines.

    Returns:
        0 when every scenario closed, 1 when one did not.
    """
    from rspp.tooling.baseline import generate, write
    from rspp.tooling.report_files import require_place

    require_place(output)
    _quiet_logs()
    generated = generate()
    write(generated, output)
    whole = generated.completeness
    if json:
        print_json(
            {
                "output": str(output),
                "scenarios": list(generated.artifact.scenarios),
                "accepted_turns": whole.total_accepted,
                "complete": whole.complete,
                "incomplete_turn_ids": list(whole.incomplete_turn_ids),
                "completeness_ratio": whole.ratio,
                "problems": generated.problems,
            }
        )
    else:
        held = len(generated.artifact.scenarios)
        _print_lines(f"failed: {name}: {problem}" for name, problem in generated.problems.items())
        print(f"{held} calls, {whole.total_accepted} accepted turns, {whole.complete} of them complete")
        for turn, fields in list(whole.missing.items())[:5]:
            print(f"incomplete: {turn} lacks {', '.join(fields)}")
        print(f"baseline: {output}")
    return EXIT_GATE if generated.problems or not whole.total_accepted else 0


def slo_gates_report(output: Path = SLO_REPORT, baseline: Path = BASELINE, *, json: bool = False) -> int:
    """Compute the six service gates from a runtime baseline; write JSON and Markdown.

    Args:
        output: JSON file to write; the Markdown goes beside it.
        baseline: what generate-runtime-baseline wrote.
        json: print the report as JSON instead of a table.

    Returns:
        0 when every gate holds, 1 when one is violated or the baseline is missing or unreadable.
    """
    from rspp.contracts.errors import ConfigurationError
    from rspp.terminal import show_error
    from rspp.tooling.slo_report import slo_table, write_slo_report

    try:
        document = write_slo_report(output, baseline)
    except ConfigurationError as error:
        show_error(error.message, error.hint)
        return EXIT_GATE
    if json:
        print_json(document)
    else:
        _print_lines(slo_table(document))
        print(f"report: {output}")
    return 0 if document["report"]["passed"] else EXIT_GATE


def replay_smoke_report(
    output: Path = SMOKE_REPORT, metadata: Path | None = None, *, json: bool = False
) -> int:
    """Replay the golden recordings of the quick gate; write JSON and Markdown.

    Args:
        output: JSON file to write; the Markdown goes beside it.
        metadata: what is declared of the recordings, which lie beside it; the project's own when absent.
        json: print the report as JSON instead of a table.

    Returns:
        0 when nothing fails, 1 when a divergence does or a recording is missing.
    """
    from rspp.tooling.regression import run_smoke
    from rspp.tooling.regression_report import write_smoke_report

    return _replay_report(lambda: run_smoke(_metadata(metadata)), write_smoke_report, output, json=json)


def replay_regression_report(
    output: Path = REGRESSION_REPORT, metadata: Path | None = None, gate: str = "full", *, json: bool = False
) -> int:
    """Replay the golden recordings of a gate; write JSON, Markdown and a page, and the first two for each.

    Args:
        output: JSON file to write; the others go beside it.
        metadata: what is declared of the recordings, which lie beside it; the project's own when absent.
        gate: quick or full.
        json: print the report as JSON instead of a table.

    Returns:
        0 when nothing fails; 1 when a divergence does, a recording is missing, the gate is unknown or empty.
    """
    from rspp.tooling.regression import run_gate
    from rspp.tooling.regression_report import write_regression_report

    return _replay_report(
        lambda: run_gate(_metadata(metadata), gate), write_regression_report, output, json=json
    )


def publish_release(
    spec_ref: Path,
    rollout_cfg: Path,
    output: Path = MANIFEST,
    contracts: Path = CONTRACTS_REPORT,
    replay: Path = REGRESSION_REPORT,
    slo: Path = SLO_REPORT,
    *,
    json: bool = False,
) -> int:
    """Release a pipeline version: bind it to its content, its rollout and the reports that allow it.

    Refused when a report is missing, unreadable, older than 24 hours, from the future, or failing. Exit
    status 1 when it is refused, or the pipeline or the rollout is invalid; 2 when one of these two cannot be
    read or is no YAML or JSON document.

    Args:
        spec_ref: pipeline file.
        rollout_cfg: how it is released: version, strategy and rollback, in YAML or JSON.
        output: JSON manifest to write; the Markdown goes beside it. A refused release is written too.
        contracts: what validate-contracts-report wrote.
        replay: what replay-regression-report wrote for the full gate.
        slo: what slo-gates-report wrote.
        json: print the manifest as JSON instead of a table.

    Returns:
        0 when it is published; 1 when the pipeline or the rollout is invalid, or a report does not allow it;
        2 when one of the first two cannot be read or is no document.
    """
    from datetime import UTC, datetime

    import msgspec

    from rspp.tooling.release import ReleaseInputs, publish, release_table

    inputs = ReleaseInputs(spec_ref, rollout_cfg, contracts, replay, slo)
    manifest = publish(inputs, output, datetime.now(UTC))
    if json:
        print_json(msgspec.to_builtins(manifest))
    else:
        _print_lines(release_table(manifest))
        print(f"manifest: {output}")
    return 0 if manifest.readiness.passed else EXIT_GATE


def _replay_report(
    run: Callable[[], dict[str, Any]],
    write: Callable[[dict[str, Any], Path], None],
    output: Path,
    *,
    json: bool,
) -> int:
    from rspp.contracts.errors import ConfigurationError
    from rspp.terminal import show_error
    from rspp.tooling.regression_report import replay_table

    try:
        document = run()
        write(document, output)
    except ConfigurationError as error:
        show_error(error.message, error.hint)
        return EXIT_GATE
    if json:
        print_json(document)
    else:
        _print_lines(replay_table(document))
        print(f"report: {output}")
    return EXIT_GATE if document["failing_count"] else 0


def _metadata(path: Path | None) -> Path:
    from rspp.replay.metadata import METADATA

    return METADATA if path is None else path


def _quiet_logs() -> None:
    """Keep the log lines of calls in this process out of what people read."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _print_lines(lines: Iterable[str]) -> None:
    style = style_of(sys.stdout)
    for line in lines:
        bad = line.startswith(("failed", "violation", "FAIL")) or line.endswith("FAIL")
        print(style.bad(line) if bad else style.good(line) if line.startswith("passed") else line)
