"""The report on the contracts: one JSON file for machines, one self-contained page for people."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from rspp import _kernel
from rspp.contracts import fixtures, schema
from rspp.contracts.documents import KINDS
from rspp.contracts.errors import ConfigurationError
from rspp.contracts.fixtures import STREAM
from rspp.contracts.validation import Result, check_fixtures, read_index, results_summary, uncovered_rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "contracts-report"


class Findings(NamedTuple):
    """What a whole run over a fixture root found.

    Attributes:
        root: folder of the fixtures.
        results: what came of each fixture.
        uncovered: rules without a fixture that keeps them or one that breaks them.
        drifted: generated files that differ from the kernel's tables; only looked at for the project's own
            fixtures.
    """

    root: Path
    results: list[Result]
    uncovered: list[str]
    drifted: list[str]

    @property
    def passed(self) -> bool:
        """Whether everything is as it should be."""
        return not self.uncovered and not self.drifted and not any(result.problem for result in self.results)

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Return kind, valid fixtures, invalid fixtures and problems, one row a kind."""
        counts: Counter[tuple[str, str]] = Counter()
        for result in self.results:
            counts[result.kind, "valid" if result.valid else "invalid"] += 1
            counts[result.kind, "problem"] += bool(result.problem)
        return [
            (kind, counts[kind, "valid"], counts[kind, "invalid"], counts[kind, "problem"])
            for kind in (*KINDS, STREAM)
            if counts[kind, "valid"] or counts[kind, "invalid"]
        ]

    def document(self) -> dict[str, Any]:
        """Return everything as the JSON report (contract section 12.4)."""
        return {
            "generated_at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "fixture_root": str(self.root),
            "summary": results_summary(self.results),
            "passed": self.passed,
            "kinds": {
                kind: {"valid": valid, "invalid": invalid, "problems": problems}
                for kind, valid, invalid, problems in self.rows()
            },
            "rules": len(_kernel.contract_rules()),
            "uncovered_rules": self.uncovered,
            "drifted_files": self.drifted,
        }


def inspect_contracts(root: Path, on_result: Callable[[Result, int, int], None] | None = None) -> Findings:
    """Check fixtures, coverage of the rules and, for the project's own root, the generated files.

    Args:
        root: folder of the fixtures.
        on_result: takes each result, its number from 1, and how many there will be.

    Raises:
        ConfigurationError: the folder or a file in it cannot be read.
    """
    results = check_fixtures(root, on_result)
    index = read_index(root)
    drifted = []
    if root.resolve() == fixtures.ROOT.resolve():
        drifted = [f"contracts/{name}" for name in schema.stale()]
        drifted += [f"contracts/fixtures/{name}" for name in fixtures.stale()]
    return Findings(root, results, uncovered_rules(index) if index else [], drifted)


def write_report(findings: Findings, folder: Path) -> tuple[Path, Path]:
    """Write the JSON report and the page; return their paths.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    from rspp.tooling.report import write_page

    document = findings.document()
    data, page = folder / f"{NAME}.json", folder / f"{NAME}.html"
    summary = document["summary"]
    lead = (
        f"{summary['Total']} fixtures, {document['rules']} rules. Every document went through the kernel, "
        "the Python types and the JSON Schema; the three must agree, and where they refuse, name one field."
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = data.with_name(data.name + ".part")
        part.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
        part.replace(data)
        write_page(
            page,
            title="Contracts",
            lead=lead,
            passed=findings.passed,
            sections=_sections(findings),
            machine={
                "fixtures": str(findings.root),
                "made at": document["generated_at_utc"],
                "kernel": f"{_kernel.VERSION}, {_kernel.BUILD_PROFILE} build",
            },
            data=document,
        )
    except OSError as error:
        raise ConfigurationError(
            f"the report cannot be written to {str(folder)!r}: {error.strerror or error}",
            hint="name a folder that can be written as the second argument",
        ) from error
    return data, page


def _sections(findings: Findings) -> list[str]:
    problems = [(result.path, result.problem) for result in findings.results if result.problem]
    problems += [(path, "differs from what the kernel's tables say") for path in findings.drifted]
    problems += [(rule, "lacks a fixture that keeps it or one that breaks it") for rule in findings.uncovered]
    sections = []
    if problems:
        sections += ["<h2>What is wrong</h2>", _table(("where", "what"), problems, texts=2)]
    header = ("kind", "valid", "invalid", "problems")
    sections += ["<h2>Fixtures by kind</h2>", _table(header, findings.rows(), texts=1)]
    broken = Counter(result.rule for result in findings.results if result.rule)
    rules = [
        (rule, text, source, "yes" if in_schema else "no", broken[rule] or "-")
        for rule, source, in_schema, text in _kernel.contract_rules()
    ]
    sections += [
        "<h2>Rules <small>and how many fixtures break each</small></h2>",
        _table(
            ("rule", "what it says", "section of the contracts", "in JSON Schema", "fixtures"), rules, texts=3
        ),
    ]
    return sections


def _table(header: tuple[str, ...], rows: list[Any], *, texts: int) -> str:
    def line(cells: tuple[object, ...], tag: str) -> str:
        made = [
            f"<{tag}{' class=left' if number < texts else ''}>{escape(str(cell))}</{tag}>"
            for number, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(line(tuple(row), "td") for row in rows)
    head = line(header, "th")
    return f'<div class="card scroll"><table><thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
