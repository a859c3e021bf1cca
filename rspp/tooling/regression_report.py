"""The files that replay reports leave: JSON and Markdown, whole and for each fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.tooling.call_page.regression import write_regression_page
from rspp.tooling.report_files import markdown_table, text_table, write_report_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEADER = ("fixture", "records", "diverged", "expected", "failing", "result")
FIXTURES = "fixtures"
"""Folder of the reports on single fixtures, beside the report."""
_MAX_CELL = 160


def write_smoke_report(document: Mapping[str, Any], output: Path) -> None:
    """Write the smoke report and its Markdown twin.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    write_report_files(output, document, replay_markdown("Replay smoke", document))


def write_regression_report(document: Mapping[str, Any], output: Path) -> None:
    """Write the regression report as JSON, Markdown and a page, and JSON and Markdown for each fixture.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    for fixture in document["fixtures"]:
        single = {
            "generated_at_utc": document["generated_at_utc"],
            "metadata_path": document["metadata_path"],
            **fixture,
        }
        path = output.parent / FIXTURES / f"{fixture['fixture_id']}.json"
        write_report_files(path, single, fixture_markdown(single))
    write_report_files(output, document, replay_markdown("Replay regression", document))
    write_regression_page(document, output.with_suffix(".html"))


def replay_table(document: Mapping[str, Any]) -> list[str]:
    """Return a report as lines for the terminal."""
    lines = text_table(HEADER, _rows(document))
    lines += [f"failed: {problem}" for problem in document["problems"]]
    lines += [f"failed: expected and not seen: {missing}" for missing in document["missing_expected"]]
    for fixture in document["fixtures"]:
        if fixture["status"] == "FAIL":
            lines += [f"failed: {fixture['fixture_id']}: {_said(one)}" for one in _failing(fixture)[:5]]
    return [*lines, _verdict(document)]


def replay_markdown(title: str, document: Mapping[str, Any]) -> str:
    """Return a report for people as Markdown."""
    lines = [f"# {title}", "", f"**{_verdict(document)}**", "", f"Made at {document['generated_at_utc']}."]
    lines += ["", *markdown_table(HEADER, _rows(document))]
    lines += ["", *markdown_table(("class", "divergences"), document["by_class"].items())]
    told = [*document["problems"], *(f"expected and not seen: {one}" for one in document["missing_expected"])]
    if told:
        lines += ["", "## What is wrong", "", *(f"- {one}" for one in told)]
    for fixture in document["fixtures"]:
        if fixture["divergences"]:
            lines += ["", f"## {fixture['fixture_id']}", "", *_divergences(fixture)]
    return "\n".join(lines) + "\n"


def fixture_markdown(fixture: Mapping[str, Any]) -> str:
    """Return the report on one fixture as Markdown."""
    lines = [
        f"# {fixture['fixture_id']}: {fixture['status']}",
        "",
        f"{fixture['about'].capitalize()}. Shows {', '.join(fixture['shows']) or 'nothing by id'}.",
        "",
        f"{fixture['records']} records compared, {fixture['recorded_ms'] / 1000:.1f} s of a call.",
    ]
    if fixture["problem"]:
        lines += ["", f"**{fixture['problem']}**"]
    if fixture["missing_expected"]:
        lines += ["", *(f"- expected and not seen: {one}" for one in fixture["missing_expected"])]
    if fixture["divergences"]:
        lines += ["", *_divergences(fixture)]
    return "\n".join(lines) + "\n"


def _verdict(document: Mapping[str, Any]) -> str:
    word = "failed" if document["failing_count"] else "passed"
    records = sum(fixture["records"] for fixture in document["fixtures"])
    return (
        f"{word}: {len(document['fixtures'])} recordings, {records} records compared, "
        f"{document['total_divergences']} divergences, {document['failing_count']} failing, "
        f"{document['unexplained_count']} unexplained"
    )


def _rows(document: Mapping[str, Any]) -> list[list[object]]:
    return [
        [
            fixture["fixture_id"],
            fixture["records"],
            fixture["total_divergences"],
            fixture["expected_configured"],
            fixture["failing_count"],
            "pass" if fixture["status"] == "PASS" else "FAIL",
        ]
        for fixture in document["fixtures"]
    ]


def _failing(fixture: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Failing divergences come first in a report."""
    number = fixture["failing_count"] - len(fixture["missing_expected"]) - bool(fixture["problem"])
    return list(fixture["divergences"][:number])


def _said(divergence: Mapping[str, Any]) -> str:
    return f"{divergence['class']} {divergence['scope']}: {divergence['message'][:_MAX_CELL]}"


def _divergences(fixture: Mapping[str, Any]) -> list[str]:
    failing = _failing(fixture)
    rows = [
        [
            f"{divergence['class']} `{divergence['scope']}`",
            divergence["message"][:_MAX_CELL],
            "failing" if divergence in failing else "expected" if divergence["expected"] else "allowed",
        ]
        for divergence in fixture["divergences"]
    ]
    return markdown_table(("what", "how", "verdict"), rows)
