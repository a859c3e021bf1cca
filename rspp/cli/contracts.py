"""``rspp-cli validate-contracts``, ``validate-contracts-report`` and ``validate-stream``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rspp.terminal import print_json, style_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rspp.contracts.validation import Result, StreamReport
    from rspp.tooling.contracts_report import Findings

OUTPUT = Path("artifacts/contracts")
SHOWN_FAULTS = 50
"""Most faults of a recording that people are shown; ``--json`` gives up to 1,000."""

_LINE_BYTES = 2 * 1024 * 1024


def validate_contracts(fixture_root: Path | None = None, *, json: bool = False) -> int:
    """Run every contract fixture through the kernel, the Python types and the JSON Schemas.

    Args:
        fixture_root: folder with <kind>/valid and <kind>/invalid; the project's own when absent.
        json: print one JSON object instead of a table.

    Returns:
        0 when all three agree with each other and with every fixture, 1 when not.
    """
    from rspp.tooling.contracts_report import inspect_contracts

    findings = inspect_contracts(_root(fixture_root), None if json else _progress())
    if json:
        print_json(findings.document())
    else:
        _show_findings(findings)
    return 0 if findings.passed else 1


def validate_contracts_report(
    fixture_root: Path | None = None, output: Path = OUTPUT, *, json: bool = False
) -> int:
    """Do what validate-contracts does, and leave a JSON report and a page.

    Args:
        fixture_root: folder with <kind>/valid and <kind>/invalid; the project's own when absent.
        output: folder for contracts-report.json and contracts-report.html.
        json: print the JSON report too, instead of a table.

    Returns:
        0 when all three agree with each other and with every fixture, 1 when not.
    """
    from rspp.tooling.contracts_report import inspect_contracts, write_report

    findings = inspect_contracts(_root(fixture_root), None if json else _progress())
    data, page = write_report(findings, output)
    if json:
        print_json(findings.document())
    else:
        _show_findings(findings)
        print(f"report: {data}\npage:   {page}")
    return 0 if findings.passed else 1


def validate_stream(
    file: Path, *, principal: str = "", role: str = "", purpose: str = "", json: bool = False
) -> int:
    """Check a recorded session: every document in it, and the order across them.

    Args:
        file: a recording as rspp-runtime keeps it with --evidence (EVIDENCE/TENANT/SESSION), a timeline of
            JSON lines, or contract documents, one a line.
        principal: who asks; the name of this user by default.
        role: in which role you ask; needed where the tenant's evidence has access rules.
        purpose: what for; needed where the tenant's evidence has access rules.
        json: print one JSON object instead of lines.

    Returns:
        0 when no rule is broken, 1 when one is.
    """
    from msgspec import json as json_text

    from rspp.cli.recorded import Asking, asker_of
    from rspp.contracts.errors import ConfigurationError
    from rspp.contracts.validation import check_stream
    from rspp.evidence.permission import open_permitted, permit

    asker = asker_of(Asking(principal=principal, role=role, purpose=purpose))
    try:
        if file.is_dir() or file.suffix == ".segment":
            recording = open_permitted(file, asker)
            report = check_stream(json_text.encode(record) for record in recording.records())
        else:
            permit(file, asker)
            with file.open("rb") as stream:
                report = check_stream(_lines(stream.readline))
    except OSError as error:
        raise ConfigurationError(
            f"recording {str(file)!r} cannot be read: {error.strerror}",
            hint="name the folder of a session, EVIDENCE/TENANT/SESSION, or a timeline",
        ) from error
    if not report.records:
        raise ConfigurationError(
            f"recording {str(file)!r} is empty",
            hint="name the folder of a session, EVIDENCE/TENANT/SESSION, or a timeline",
        )
    if set(report.records) <= {"header", "gap"} and report.missing:
        raise ConfigurationError(
            f"recording {str(file)!r}: nothing of it can be read",
            hint="rspp-cli verify-evidence says what is damaged",
        )
    if json:
        print_json(_stream_document(file, report))
    else:
        _show_stream(file, report)
    return 1 if report.total_faults else 0


def _root(fixture_root: Path | None) -> Path:
    from rspp.contracts.fixtures import ROOT

    return ROOT if fixture_root is None else fixture_root


def _lines(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    # A line that is longer than any document may be comes in pieces, which are refused as such.
    while line := readline(_LINE_BYTES):
        yield line


def _progress() -> Callable[[Result, int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(_: Result, number: int, total: int) -> None:
        if number == total:
            sys.stderr.write("\r\x1b[K")
        elif number % 20 == 1:
            sys.stderr.write(f"\r{number}/{total} fixtures")
        sys.stderr.flush()

    return show


def _show_findings(findings: Findings) -> None:
    from rspp import _kernel

    style = style_of(sys.stdout)
    print(style.strong(f"{'kind':<20}{'valid':>7}{'invalid':>9}{'problems':>10}"))
    for kind, valid, invalid, problems in findings.rows():
        told = f"{problems:>10}"
        print(f"{kind:<20}{valid:>7}{invalid:>9}{style.bad(told) if problems else told}")
    for result in findings.results:
        if result.problem:
            print(f"{style.bad(result.path)}: {result.problem}")
    for path in findings.drifted:
        print(f"{style.bad(path)}: differs from what the kernel's tables say")
    for rule in findings.uncovered:
        print(f"{style.bad(rule)}: lacks a fixture that keeps it or one that breaks it")
    total = len(findings.results)
    if findings.passed:
        rules = len(_kernel.contract_rules())
        print(f"{style.good('passed')}: {total} fixtures, {rules} rules, three validators, no disagreement")
    else:
        wrong = sum(bool(result.problem) for result in findings.results)
        bare = f", {len(findings.uncovered)} rules without fixtures" if findings.uncovered else ""
        stale = f", {len(findings.drifted)} files out of step" if findings.drifted else ""
        print(f"{style.bad('failed')}: {wrong} of {total} fixtures{bare}{stale}")


def _show_stream(file: Path, report: StreamReport) -> None:
    style = style_of(sys.stdout)
    for fault in report.faults[:SHOWN_FAULTS]:
        place = f"{file}:{fault.line}" if fault.line else f"{file}: at the end"
        at = f" at {fault.field}" if fault.field else ""
        print(f"{style.bad(place)}: {fault.rule}{at}: {fault.message}")
    if report.total_faults > SHOWN_FAULTS:
        print(f"and {report.total_faults - SHOWN_FAULTS} more faults")
    records = ", ".join(f"{count} {kind}" for kind, count in report.records.items())
    if report.missing:
        print(f"incomplete: {report.missing} or more records were lost or are damaged; gaps say where")
    if report.total_faults:
        print(f"{style.bad('failed')}: {report.total_faults} faults in {report.lines} lines ({records})")
    else:
        print(f"{style.good('passed')}: {report.lines} lines ({records})")


def _stream_document(file: Path, report: StreamReport) -> dict[str, Any]:
    return {
        "file": str(file),
        "passed": report.total_faults == 0,
        "lines": report.lines,
        "records": report.records,
        "missing": report.missing,
        "total_faults": report.total_faults,
        "faults": [fault._asdict() for fault in report.faults],
    }
