"""Judges whether the reports of the gates allow a release (section 12.5 of the contracts).

It reads what the commands of ``rspp-cli`` write and only asks for what it judges, so that a report may say
more. Whatever it cannot read, date or understand forbids the release.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from rspp.pipeline.checker import on_one_line, shown
from rspp.pipeline.release import CheckReason, Readiness, ReadinessCheck, SourceArtifact, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CONTRACTS = "contracts_report"
REPLAY = "replay_regression_report"
SLO = "slo_gates_report"
MAX_AGE = timedelta(hours=24)
MAX_AHEAD = timedelta(minutes=5)
"""How far a report's clock may be ahead of ours."""
FULL_GATE = "full"
MAX_BYTES = 64 * 1024 * 1024
"""Largest report that is read; one of the full gate has some 40 kB."""

_MILLISECOND = timedelta(milliseconds=1)
_Moment = Annotated[datetime, Meta(tz=True)]
_Count = Annotated[int, Meta(ge=0)]


class _Summary(msgspec.Struct):
    total: _Count = msgspec.field(name="Total")
    failed: _Count = msgspec.field(name="Failed")


class _ContractsReport(msgspec.Struct):
    generated_at_utc: str
    passed: bool
    summary: _Summary

    def problem(self) -> str:
        """Return why it forbids the release; nothing when it does not."""
        if self.summary.failed or not self.passed:
            told = f"{self.summary.failed} of {self.summary.total} fixtures failed"
            return f"passed is {shown(self.passed)}, {told}"
        return "" if self.summary.total else "summary.Total is 0: no fixture was checked"


class _ReplayReport(msgspec.Struct):
    generated_at_utc: str
    gate: str
    fixture_count: _Count
    failing_count: _Count
    unexplained_count: _Count

    def problem(self) -> str:
        """Return why it forbids the release; nothing when it does not."""
        if self.gate != FULL_GATE:
            return f"gate is {shown(self.gate)}, a release needs {shown(FULL_GATE)}"
        if self.failing_count or self.unexplained_count:
            return f"failing_count is {self.failing_count}, unexplained_count {self.unexplained_count}"
        return "" if self.fixture_count else "fixture_count is 0: nothing was replayed"


class _SloResult(msgspec.Struct):
    accepted_turns: _Count
    passed: bool
    violations: tuple[str, ...] = ()


class _SloReport(msgspec.Struct):
    generated_at_utc: str
    baseline_generated_at_utc: str
    report: _SloResult

    def problem(self) -> str:
        """Return why it forbids the release; nothing when it does not."""
        if self.report.violations or not self.report.passed:
            told = "; ".join(self.report.violations) or "no violation is named"
            return f"report.passed is {shown(self.report.passed)}: {on_one_line(told)}"
        return "" if self.report.accepted_turns else "report.accepted_turns is 0: nothing was measured"


class _Kind(NamedTuple):
    """How one kind of report is read.

    Attributes:
        decode: makes it of bytes.
        moments: fields that say when it, and what it was computed from, was made.
        command: what makes it.
    """

    decode: Callable[[bytes], Any]
    moments: tuple[str, ...]
    command: str


_GENERATED = "generated_at_utc"
_KINDS = {
    CONTRACTS: _Kind(
        msgspec.json.Decoder(_ContractsReport).decode, (_GENERATED,), "rspp-cli validate-contracts-report"
    ),
    REPLAY: _Kind(
        msgspec.json.Decoder(_ReplayReport).decode, (_GENERATED,), "rspp-cli replay-regression-report"
    ),
    # A fresh report on an old baseline says nothing of what is released today.
    SLO: _Kind(
        msgspec.json.Decoder(_SloReport).decode,
        (_GENERATED, "baseline_generated_at_utc"),
        "rspp-cli generate-runtime-baseline and slo-gates-report",
    ),
}
REPORTS = tuple(_KINDS)
"""The reports that a release needs."""


class Judged(NamedTuple):
    """What came of one report.

    Attributes:
        check: the verdict.
        artifact: the report, by content; nothing when it could not be read.
    """

    check: ReadinessCheck
    artifact: SourceArtifact | None


def judge_report(name: str, path: Path, now: datetime) -> Judged:
    """Judge one report.

    Args:
        name: one of ``REPORTS``.
        path: its file.
        now: the time, with a time zone.
    """
    kind = _KINDS[name]

    def refused(reason: CheckReason, detail: str, **found: Any) -> ReadinessCheck:  # noqa: ANN401
        told = f"{detail}; make it again with {kind.command}"
        return ReadinessCheck(name=name, path=str(path), passed=False, reason=reason, detail=told, **found)

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Judged(refused("missing", f"no file at {str(path)!r}"), None)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        return Judged(refused("unreadable", f"{str(path)!r} cannot be read: {said}"), None)
    if len(content) > MAX_BYTES:
        return Judged(refused("unreadable", f"{str(path)!r} is larger than {MAX_BYTES} bytes"), None)
    digest = sha256_of(content)
    try:
        report = kind.decode(content)
        moments = {field: _moment(report, field) for field in kind.moments}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        artifact = SourceArtifact(path=str(path), sha256=digest)
        return Judged(refused("invalid", f"{str(path)!r} is no such report: {error}"), artifact)
    artifact = SourceArtifact(path=str(path), sha256=digest, generated_at_utc=report.generated_at_utc)
    found = {_GENERATED: report.generated_at_utc, "age_ms": (now - moments[_GENERATED]) // _MILLISECOND}
    for field, moment in moments.items():
        age = now - moment
        if age > MAX_AGE:
            detail = f"{field} {getattr(report, field)} is {_hours(age)} ago, more than {_hours(MAX_AGE)}"
            return Judged(refused("stale", detail, **found), artifact)
        if -age > MAX_AHEAD:
            detail = f"{field} {getattr(report, field)} lies {_hours(-age)} ahead of this machine's clock"
            return Judged(refused("from_the_future", detail, **found), artifact)
    problem = report.problem()
    if problem:
        return Judged(refused("failing", problem, **found), artifact)
    passed = ReadinessCheck(name=name, path=str(path), passed=True, reason="passed", **found)
    return Judged(passed, artifact)


def judge_reports(paths: Mapping[str, Path], now: datetime) -> tuple[Readiness, dict[str, SourceArtifact]]:
    """Judge every report that a release needs.

    Args:
        paths: file of each of ``REPORTS``.
        now: the time, with a time zone.

    Returns:
        The verdict, and the reports that could be read, by content.
    """
    judged = {name: judge_report(name, paths[name], now) for name in REPORTS}
    checks = tuple(one.check for one in judged.values())
    readiness = Readiness(
        passed=all(check.passed for check in checks),
        max_artifact_age_ms=MAX_AGE // _MILLISECOND,
        checks=checks,
        violations=tuple(f"{check.name}: {check.detail}" for check in checks if not check.passed),
    )
    return readiness, {name: one.artifact for name, one in judged.items() if one.artifact is not None}


def _moment(report: object, field: str) -> datetime:
    text = getattr(report, field)
    try:
        return msgspec.convert(text, _Moment)
    except msgspec.ValidationError:
        raise ValueError(f"{field} is {shown(text)}, no RFC 3339 time with a zone") from None


def _hours(span: timedelta) -> str:
    minutes = round(span / timedelta(minutes=1))
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
