"""Runs fixtures and recordings through the validators and says what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rspp import _kernel
from rspp.contracts.agreement import Verdicts, judge
from rspp.contracts.documents import KINDS
from rspp.contracts.errors import ConfigurationError
from rspp.contracts.fixtures import INDEX, STREAM
from rspp.contracts.reading import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_FAULTS = 1000
"""Most faults of one recording that are kept; the rest is counted."""


class Expectation(NamedTuple):
    """What the index says about one fixture.

    Attributes:
        rule: rule that it breaks; empty for a valid one.
        field: field at fault.
        shows: rules that a valid one shows being kept.
    """

    rule: str
    field: str
    shows: tuple[str, ...]


class Result(NamedTuple):
    """What came of one fixture.

    Attributes:
        path: path below the root.
        kind: kind of document.
        valid: whether it must pass.
        rule: rule that it must break.
        problem: what is wrong with it; empty when all is as it should be.
    """

    path: str
    kind: str
    valid: bool
    rule: str
    problem: str


class StreamFault(NamedTuple):
    """One fault of a recording; ``line`` is 0 for what is missing at its end."""

    line: int
    rule: str
    field: str
    message: str


class StreamReport(NamedTuple):
    """What came of one recording.

    Attributes:
        lines: number of lines.
        faults: at most ``MAX_FAULTS`` of them.
        total_faults: how many there were.
        records: number of records by kind; ``document`` for plain ones.
        missing: records that the writer says it lost, torn ones included.
    """

    lines: int
    faults: list[StreamFault]
    total_faults: int
    records: dict[str, int]
    missing: int


def read_index(root: Path) -> dict[str, Expectation]:
    """Return what the index of a fixture root says; nothing when there is no index.

    Raises:
        ConfigurationError: the index is unreadable.
    """
    try:
        document = json.loads((root / INDEX).read_bytes())
        return {
            path: Expectation(entry.get("rule", ""), entry.get("field", ""), tuple(entry.get("shows", ())))
            for path, entry in document["fixtures"].items()
        }
    except FileNotFoundError:
        return {}
    except NotADirectoryError as error:
        raise ConfigurationError(
            f"fixture root {str(root)!r} is no folder",
            hint="name a folder with <kind>/valid and <kind>/invalid below it",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = error.strerror if isinstance(error, OSError) else f"it is no index ({error})"
        raise ConfigurationError(
            f"the index {root / INDEX} cannot be read: {what}",
            hint="make it again with `python -m rspp.contracts.fixtures --write`",
        ) from error


def fixture_paths(root: Path) -> list[str]:
    """Return the fixture files below ``root``, sorted.

    Raises:
        ConfigurationError: the folder is missing or holds no fixture.
    """
    if not root.is_dir():
        raise ConfigurationError(
            f"fixture root {str(root)!r} is no folder",
            hint="name a folder with <kind>/valid and <kind>/invalid below it",
        )
    paths = [
        path.relative_to(root).as_posix()
        for kind in (*KINDS, STREAM)
        for path in (root / kind).glob("*/*.json*")
        if path.parent.name in ("valid", "invalid") and path.is_file()
    ]
    if not paths:
        raise ConfigurationError(
            f"fixture root {str(root)!r} holds no fixture",
            hint="Fixtures lie in <kind>/valid and <kind>/invalid; kinds are " + ", ".join(KINDS) + ".",
        )
    return sorted(paths)


def check_fixtures(root: Path, on_result: Callable[[Result, int, int], None] | None = None) -> list[Result]:
    """Run every fixture below ``root`` through its validators.

    Args:
        root: folder of the fixtures.
        on_result: takes each result, its number from 1, and how many there will be.

    Raises:
        ConfigurationError: the folder or a file in it cannot be read.
    """
    index = read_index(root)
    paths = fixture_paths(root)
    results = []
    for number, path in enumerate(paths, 1):
        result = _check_fixture(root, path, index)
        results.append(result)
        if on_result is not None:
            on_result(result, number, len(paths))
    for path in sorted(index.keys() - set(paths)):
        kind = path.partition("/")[0]
        results.append(Result(path, kind, "/valid/" in path, index[path].rule, "in the index, but missing"))
    return results


def uncovered_rules(index: dict[str, Expectation]) -> list[str]:
    """Return the rules that lack a fixture which keeps them or one which breaks them."""
    kept = {rule for entry in index.values() for rule in entry.shows}
    broken = {entry.rule for entry in index.values()}
    # Versions are negotiated with a table of dates and a clock, which no document carries.
    rules = [row[0] for row in _kernel.contract_rules() if not row[0].startswith("version.")]
    return [rule for rule in rules if rule not in kept or rule not in broken]


def check_stream(lines: Iterator[bytes]) -> StreamReport:
    """Check a recording line by line; empty lines are passed over.

    A line that a killed runtime left torn is no fault if the next writer has said so behind it.
    """
    validator = _kernel.StreamValidator()
    faults = _Faults()
    records: Counter[str] = Counter()
    number = missing = 0
    unreadable: StreamFault | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record = _peek(line)
        records[record.kind] += 1
        if record.kind == "gap":
            missing += record.records
        if unreadable is not None and not (record.kind == "gap" and record.torn):
            faults.add(unreadable)
        unreadable = None
        found = validator.push(line)
        if found is not None and found[0] == "json.syntax":
            unreadable = StreamFault(number, *found)
        elif found is not None:
            faults.add(StreamFault(number, *found))
    if unreadable is not None:
        faults.add(unreadable)
    for found in validator.finish():
        faults.add(StreamFault(0, *found))
    return StreamReport(number, faults.kept, faults.total, dict(sorted(records.items())), missing)


def results_summary(results: list[Result]) -> dict[str, Any]:
    """Return totals in the words of section 12.4 of the contracts."""
    failures = [result for result in results if result.problem]
    return {
        "Total": len(results),
        "Failed": len(failures),
        "Failures": [{"path": result.path, "problem": result.problem} for result in failures],
    }


class _Faults:
    """The first faults of a recording, and how many there were."""

    def __init__(self) -> None:
        self.kept: list[StreamFault] = []
        self.total = 0

    def add(self, fault: StreamFault) -> None:
        self.total += 1
        if len(self.kept) < MAX_FAULTS:
            self.kept.append(fault)


class _Record(msgspec.Struct):
    kind: str = "document"
    records: int = 0
    torn: bool = False


def _peek(line: bytes) -> _Record:
    try:
        return msgspec.json.decode(line, type=_Record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Record(kind="unreadable")


def _check_fixture(root: Path, path: str, index: dict[str, Expectation]) -> Result:
    kind, folder, _ = path.split("/")
    valid = folder == "valid"
    expected = index.get(path)
    try:
        content = (root / path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"fixture {str(root / path)!r} cannot be read: {error.strerror}",
            hint="look at the file's permissions",
        ) from error
    if kind == STREAM:
        problem = _stream_problem(content, expected, valid=valid)
    else:
        problem = _problem(judge(kind, content), expected, valid=valid)
    if index and expected is None:
        problem = problem or "not in the index"
    return Result(path, kind, valid, expected.rule if expected else "", problem)


def _problem(verdicts: Verdicts, expected: Expectation | None, *, valid: bool) -> str:
    problem = verdicts.disagreement(single=not valid) or _verdict_problem(verdicts.kernel, valid=valid)
    return problem or _expectation_problem(verdicts.kernel, expected)


def _stream_problem(content: bytes, expected: Expectation | None, *, valid: bool) -> str:
    report = check_stream(iter(content.splitlines()))
    first = Fault(*report.faults[0][1:]) if report.faults else None
    problem = _verdict_problem(first, valid=valid) or _expectation_problem(first, expected)
    if not problem and report.total_faults > 1:
        second = report.faults[1]
        return f"breaks {second.rule} at {second.field!r} too, in line {second.line}"
    return problem


def _verdict_problem(fault: Fault | None, *, valid: bool) -> str:
    if valid and fault is not None:
        return f"must pass, but breaks {fault.rule} at {fault.field!r}: {fault.message}"
    return "must be refused, but passes" if not valid and fault is None else ""


def _expectation_problem(fault: Fault | None, expected: Expectation | None) -> str:
    if fault is None or expected is None or fault[:2] == expected[:2]:
        return ""
    return f"must break {expected.rule} at {expected.field!r}, but breaks {fault.rule} at {fault.field!r}"
