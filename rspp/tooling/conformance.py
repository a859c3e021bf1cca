"""``python -m rspp.tooling.conformance``: the table of conformance ids, made from the results of a run.

The results are what ``pytest --conformance=FILE`` wrote and what ``cargo test`` printed, both left in one
folder by the ordinary test targets, so no test runs a second time for the table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from rspp.contracts.errors import ConfigurationError
from rspp.terminal import run_command
from rspp.tooling.conformance_ids import REQUIREMENTS, Requirement, ids_in_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FOLDER = Path("artifacts/conformance")
Status = Literal["passed", "failed", "open", "missing"]
_CARGO_LINE = re.compile(r"^test (?P<name>\S+)(?: - should panic)? \.\.\. (?P<outcome>ok|FAILED|ignored)")
_CARGO_CRATE = re.compile(r"^\s+Running (?:unittests )?(?P<source>\S+) \(")
_OUTCOMES = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
_COLOURS: dict[Status, str] = {"passed": "green", "failed": "red", "open": "yellow", "missing": "red"}


@dataclass(frozen=True, slots=True)
class Carrier:
    """One test that carries ids.

    Attributes:
        test: its name.
        ids: what it carries.
        outcome: ``passed``, ``failed`` or ``skipped``.
    """

    test: str
    ids: tuple[str, ...]
    outcome: str


@dataclass(frozen=True, slots=True)
class Row:
    """One id with its tests."""

    requirement: Requirement
    carriers: tuple[Carrier, ...] = field(default=())

    @property
    def status(self) -> Status:
        """A failing or skipped test fails its id; an open id stays open whatever its tests show."""
        if any(carrier.outcome != "passed" for carrier in self.carriers):
            return "failed"
        if self.requirement.open:
            return "open"
        return "passed" if self.carriers else "missing"


def carriers_of_cargo(output: str) -> Iterator[Carrier]:
    """Yield the tests with ids in what ``cargo test`` printed; one that was cut off counts as failed."""
    source = ""
    for line in output.splitlines():
        if crate := _CARGO_CRATE.match(line):
            source = crate["source"]
        elif found := _CARGO_LINE.match(line):
            ids = ids_in_name(found["name"].rpartition("::")[2])
            if ids:
                yield Carrier(f"{source}::{found['name']}", ids, _OUTCOMES[found["outcome"]])


def carriers_of_pytest(document: dict[str, Any]) -> Iterator[Carrier]:
    """Yield the tests with ids in what ``pytest --conformance`` wrote."""
    for entry in document["tests"]:
        yield Carrier(entry["test"], tuple(entry["ids"]), entry["outcome"])


def read_results(folder: Path) -> list[Carrier]:
    """Read every result in ``folder``.

    Raises:
        ConfigurationError: there is none, or one cannot be read.
    """
    carriers: list[Carrier] = []
    sources = [*sorted(folder.glob("results-*.json")), *sorted(folder.glob("results-*.txt"))]
    for path in sources:
        try:
            text = path.read_text("utf-8")
            found = carriers_of_cargo(text) if path.suffix == ".txt" else carriers_of_pytest(json.loads(text))
            carriers.extend(found)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"results {path}: cannot be read ({error})", hint="run make conformance again"
            ) from error
    if not sources:
        raise ConfigurationError(f"no results in {folder}", hint="run make conformance, which makes them")
    return carriers


def rows_of(carriers: Iterable[Carrier]) -> list[Row]:
    """Sort carriers under their ids.

    Raises:
        ConfigurationError: a test carries an id that is none.
    """
    known: dict[str, list[Carrier]] = {requirement.id: [] for requirement in REQUIREMENTS}
    for carrier in carriers:
        for name in carrier.ids:
            if name not in known:
                raise ConfigurationError(
                    f"{carrier.test} carries {name}, which is no id of the contracts",
                    hint="see rspp/tooling/conformance_ids.py",
                )
            known[name].append(carrier)
    return [Row(requirement, tuple(known[requirement.id])) for requirement in REQUIREMENTS]


def document_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the table for machines."""
    counts: dict[str, int] = dict.fromkeys(_COLOURS, 0)
    for row in rows:
        counts[row.status] += 1
    return {
        "schema_version": "v1",
        "generated_at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "summary": counts,
        "ids": [
            {
                "id": row.requirement.id,
                "text": row.requirement.text,
                "status": row.status,
                "open": row.requirement.open,
                "tests": [{"test": found.test, "outcome": found.outcome} for found in row.carriers],
            }
            for row in rows
        ],
    }


_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem;border-top:1px solid #8884}
td:first-child{font-weight:600;white-space:nowrap}
code{font-size:.82em;overflow-wrap:anywhere}
.passed{color:#197a3d}.failed,.missing{color:#c02626;font-weight:700}.open{color:#a86400}
summary{cursor:pointer}
@media (prefers-color-scheme:dark){.passed{color:#5fd38d}.failed,.missing{color:#ff8080}.open{color:#f0b860}}
"""


def page_of(rows: Sequence[Row]) -> str:
    """Return the table as one page that loads nothing."""
    counts = document_of(rows)["summary"]
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    body = "".join(_html_row(row) for row in rows)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Conformance</title><style>{_STYLE}</style>"
        f"<h1>Conformance</h1><p>{len(rows)} ids: {told}.</p>"
        "<div class=wide><table><thead><tr><th>Id<th>Must show<th>Result<th>Tests</thead><tbody>"
        f"{body}</tbody></table></div></html>\n"
    )


def _html_row(row: Row) -> str:
    tests = "".join(
        f"<div class={found.outcome}><code>{escape(found.test)}</code></div>" for found in row.carriers
    )
    shown = f"<details><summary>{len(row.carriers)}</summary>{tests}</details>" if tests else "none"
    reason = f"<br><small>{escape(row.requirement.open)}</small>" if row.requirement.open else ""
    return (
        f"<tr><td>{row.requirement.id}<td>{escape(row.requirement.text)}{reason}"
        f"<td class={row.status}>{row.status}<td>{shown}"
    )


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Print the table for people, and which tests fail."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "result", "tests", "must show"):
        table.add_column(name, no_wrap=name != "must show", justify="right" if name == "tests" else "left")
    for row in rows:
        text = row.requirement.text + (f" [{row.requirement.open}]" if row.requirement.open else "")
        colour = _COLOURS[row.status]
        status = f"[{colour}]{row.status}[/]"
        table.add_row(row.requirement.id, status, str(len(row.carriers)), text.replace("[", r"\["))
    console.print(table)
    for row in rows:
        for carrier in row.carriers:
            if carrier.outcome != "passed":
                console.print(f"{row.requirement.id}: {carrier.outcome}: {carrier.test}", markup=False)
    summary = document_of(rows)["summary"]
    console.print(", ".join(f"{count} {status}" for status, count in summary.items()), style="bold")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write ``table.json`` and ``table.html`` and print the table; 1 when an id fails or has no test."""
    parser = argparse.ArgumentParser(prog="python -m rspp.tooling.conformance", description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results (%(default)s)")
    options = parser.parse_args(arguments)
    rows = rows_of(read_results(options.results))
    (options.results / "table.json").write_text(json.dumps(document_of(rows), indent=1) + "\n", "utf-8")
    (options.results / "table.html").write_text(page_of(rows), "utf-8")
    print_table(rows, Console())
    return int(any(row.status in ("failed", "missing") for row in rows))


if __name__ == "__main__":
    sys.exit(run_command(main))
