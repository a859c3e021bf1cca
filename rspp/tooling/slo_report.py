"""The report on the service gates: JSON for machines, Markdown and a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.evidence.baseline import read_artifact
from rspp.tooling.report_files import markdown_table, text_table, write_report_files
from rspp.tooling.slo_gates import report_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEADER = ("gate", "value", "limit", "turns", "samples", "p50", "p95", "p99", "max", "result")


def write_slo_report(output: Path, baseline: Path) -> dict[str, Any]:
    """Compute the gates from a baseline artifact and write the report and its Markdown twin.

    Args:
        output: the JSON file.
        baseline: the artifact that ``rspp-cli generate-runtime-baseline`` wrote.

    Returns:
        The report.

    Raises:
        ConfigurationError: the baseline is missing or wrong, or the report cannot be written.
    """
    document = report_document(read_artifact(baseline), str(baseline))
    write_report_files(output, document, slo_markdown(document))
    return document


def slo_markdown(document: Mapping[str, Any]) -> str:
    """Return the report for people as Markdown."""
    report = document["report"]
    lines = [
        "# Service gates",
        "",
        f"**{'passed' if report['passed'] else 'FAILED'}**, {_population(report)}.",
        "",
        f"Made at {document['generated_at_utc']} from `{document['baseline_artifact_path']}` "
        f"of {document['baseline_generated_at_utc']}. Latencies in milliseconds, nearest rank.",
        "",
        *markdown_table(HEADER, _rows(report)),
        "",
        *(f"- `{gate['gate']}`: {gate['formula']}" for gate in report["gates"]),
    ]
    if report.get("violations"):
        lines += ["", "## Violations", "", *(f"- {violation}" for violation in report["violations"])]
    return "\n".join(lines) + "\n"


def slo_table(document: Mapping[str, Any]) -> list[str]:
    """Return the report as lines for the terminal."""
    report = document["report"]
    lines = text_table(HEADER, _rows(report))
    lines += [f"violation: {violation}" for violation in report.get("violations", ())]
    return [*lines, f"{'passed' if report['passed'] else 'failed'}: {_population(report)}"]


def _population(report: Mapping[str, Any]) -> str:
    return (
        f"{report['accepted_turns']} accepted turns, {report['measured_turns']} of them in real time, "
        f"{report['happy_path_turns']} on the happy path, {report['cancel_observed_turns']} cancelled, "
        f"{report['stale_epoch_refused_outputs']} stale outputs refused"
    )


def _rows(report: Mapping[str, Any]) -> list[list[object]]:
    return [_row(gate) for gate in report["gates"]]


def _row(gate: Mapping[str, Any]) -> list[object]:
    spread = gate.get("distribution")
    figures: list[object] = ["", "", "", "", ""]
    if spread is not None:
        figures = [spread["samples"], *(f"{spread[name]:.3f}" for name in ("p50", "p95", "p99", "max"))]
    value = f"{gate['value']:g}" if "value" in gate else "none"
    result = "pass" if gate["passed"] else "FAIL"
    return [gate["gate"], value, gate["threshold"], gate["population"], *figures, result]
