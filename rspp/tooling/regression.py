"""Replays golden recordings and judges what differs (sections 11.2, 11.3 and 12.4 of the contracts)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence.baseline_reading import entries_of
from rspp.evidence.reader import open_recording
from rspp.replay.compare import compare_traces, trace_of
from rspp.replay.divergence import Divergence, Judgement, is_latency_scope, judge, sum_by_class
from rspp.replay.engine import recompute
from rspp.replay.latency import latency_divergences
from rspp.replay.lineage import compare_lineage, lineage_of
from rspp.replay.metadata import Fixture, read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rspp.evidence.reader import Recording

RECORDINGS = "recordings"
"""Folder of the recordings, beside the metadata."""
SMOKE_GATE = "quick"
MAX_DIVERGENCES = 200
"""Most divergences of one fixture that a report holds whole; the counts are always exact."""


class FixtureResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fixture; the fields of section 12.4 and, beside them, what people ask next.

    Attributes:
        problem: why it could not be judged whole; empty when it could. It fails the gate.
        records: records of the kernel that were compared, or control events of a second recording.
        recorded_ms: how long the recorded call lasted.
        took_ms: how long its replay took.
        divergences: the first of them in order; failing ones come first.
    """

    fixture_id: str
    gate: str
    status: Literal["PASS", "FAIL"]
    about: str
    shows: tuple[str, ...]
    timing_tolerance_ms: int
    final_attempt_latency_threshold_ms: int | UnsetType = UNSET
    total_invocation_latency_threshold_ms: int | UnsetType = UNSET
    invocation_latency_breaches: int
    total_divergences: int
    failing_count: int
    unexplained_count: int
    missing_expected: tuple[str, ...]
    expected_configured: int
    by_class: dict[str, int]
    failing_classes: list[str]
    problem: str = ""
    records: int = 0
    recorded_ms: float = 0.0
    took_ms: float = 0.0
    divergences: tuple[Divergence, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing of it fails."""
        return self.status == "PASS"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay gave, before it is judged."""

    divergences: tuple[Divergence, ...]
    records: int
    recorded_ms: float
    took_ms: float
    problem: str = ""


def replay_fixture(fixture_id: str, fixture: Fixture, recordings: Path) -> FixtureResult:
    """Replay one golden recording and judge it.

    Args:
        fixture_id: its id, which is the name of its folder.
        fixture: what is declared of it.
        recordings: folder of all recordings.
    """
    try:
        compared = _compare(fixture, recordings / fixture_id)
        recording = open_recording(recordings / fixture_id)
        entries = entries_of(recording.records(), _headers(recording), clock="virtual")
        late = latency_divergences(fixture_id, fixture, entries)
    except (ConfigurationError, EvidenceError) as error:
        late = latency_divergences(fixture_id, fixture, None)
        compared = Comparison(divergences=(), records=0, recorded_ms=0, took_ms=0, problem=error.message)
    judged = judge((*compared.divergences, *late), fixture.expected_divergences, fixture.timing_tolerance_ms)
    return _result(fixture_id, fixture, compared, judged)


def run_gate(metadata: Path, gate: str) -> dict[str, Any]:
    """Replay every fixture of a gate and return the regression report.

    Args:
        metadata: the metadata file; the recordings lie beside it.
        gate: ``quick`` or ``full``.

    Raises:
        ConfigurationError: the metadata is missing or wrong, the gate is unknown, or no fixture is in it.
    """
    declared = read_metadata(metadata)
    fixtures = declared.of_gate(gate)
    if not fixtures:
        raise ConfigurationError(
            f"metadata {str(metadata)!r} has no fixture for gate {gate!r}",
            hint="declare at least one, or name another gate",
        )
    folder = metadata.parent / RECORDINGS
    results = [replay_fixture(name, fixture, folder) for name, fixture in fixtures.items()]
    undeclared = _undeclared(folder, declared.fixtures)
    return _report(gate, metadata, results, undeclared)


def run_smoke(metadata: Path) -> dict[str, Any]:
    """Replay the fixtures of the quick gate and return the smoke report.

    Raises:
        ConfigurationError: see ``run_gate``.
    """
    report = run_gate(metadata, SMOKE_GATE)
    fixtures = report["fixtures"]
    return {
        "generated_at_utc": report["generated_at_utc"],
        "fixture_id": ", ".join(fixture["fixture_id"] for fixture in fixtures),
        "metadata_path": report["metadata_path"],
        "timing_tolerance_ms": max(fixture["timing_tolerance_ms"] for fixture in fixtures),
        "total_divergences": report["total_divergences"],
        "by_class": report["by_class"],
        "divergences": [divergence for fixture in fixtures for divergence in fixture["divergences"]],
        "failing_count": report["failing_count"],
        "unexplained_count": report["unexplained_count"],
        "missing_expected": report["missing_expected"],
        "expected_configured": sum(fixture["expected_configured"] for fixture in fixtures),
        "failing_divergences": report["failing_divergences"],
        "problems": report["problems"],
        "fixtures": fixtures,
    }


def changes_of(fixture: Fixture, header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the replay changes in the recorded settings of a stint.

    A plan's name with a dot in it reaches into the plan's policy, which is rendered canonically again.

    Raises:
        ConfigurationError: a dotted name leads to nothing in the recorded policy.
    """
    changed = fixture.replay_with
    plan = {name: value for name, value in changed.plan.items() if "." not in name}
    inner = {name: value for name, value in changed.plan.items() if "." in name}
    if inner:
        policy = json.loads(header["settings"]["plan"]["policy_json"])
        for path, value in inner.items():
            *way, last = path.split(".")
            place = policy
            for step in way:
                place = place.get(step) if isinstance(place, dict) else None
            if not isinstance(place, dict) or last not in place:
                raise ConfigurationError(
                    f"replay_with.plan names {path!r}, which the recorded plan does not have",
                    hint="name a part of the plan that rspp-cli show-plan prints",
                )
            place[last] = value
        plan["policy_json"] = json.dumps(policy, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    parts = {"policy": dict(changed.policy), "plan": plan, "providers": dict(changed.providers)}
    return {name: values for name, values in parts.items() if values}


def _compare(fixture: Fixture, folder: Path) -> Comparison:
    if not folder.is_dir():
        raise ConfigurationError(
            f"no recording at {str(folder)!r}", hint="make it with python -m rspp.tooling.golden record ID"
        )
    recording = _whole(folder)
    if fixture.replay_with.recording:
        return _compare_recordings(fixture, recording, _whole(folder / fixture.replay_with.recording))
    behaviours = fixture.replay_with.behaviours
    stints = recording.stints
    changes = changes_of(fixture, stints[0].header) if stints else {}
    result = recompute(recording, changes, None if isinstance(behaviours, UnsetType) else behaviours)
    problems = [
        f"stint {stint.stint}: inputs are missing, nothing beyond {stint.gap_at_us} us was judged"
        for stint in result.stints
        if stint.gap_at_us is not None
    ]
    if not any(stint.compared for stint in result.stints):
        problems.append("nothing was compared")
    return Comparison(
        divergences=result.divergences,
        records=sum(stint.compared for stint in result.stints),
        recorded_ms=sum(stint.recorded_ms for stint in result.stints),
        took_ms=sum(stint.took_ms for stint in result.stints),
        problem="; ".join(problems),
    )


def _whole(folder: Path) -> Recording:
    """Open a recording in which nothing is damaged: a golden one has no excuse."""
    recording = open_recording(folder)
    if recording.damage:
        raise EvidenceError(
            "; ".join(map(str, recording.damage)), hint="take the recording from the repository again"
        )
    return recording


def _compare_recordings(fixture: Fixture, recorded: Recording, replayed: Recording) -> Comparison:
    started = datetime.now(UTC)
    old, new = list(recorded.records()), list(replayed.records())
    trace, other = trace_of(old, _headers(recorded)), trace_of(new, _headers(replayed))
    found: list[Divergence] = []
    if "trace" in fixture.replay_with.compare:
        found += compare_traces(trace, other, fixture.timing_tolerance_ms)
    if "lineage" in fixture.replay_with.compare:
        found += compare_lineage(lineage_of(old), lineage_of(new))
    return Comparison(
        divergences=tuple(found),
        records=len(trace),
        recorded_ms=trace[-1].at_us / 1000 if trace else 0.0,
        took_ms=(datetime.now(UTC) - started).total_seconds() * 1000,
        problem="" if trace and other else "nothing was compared",
    )


def _headers(recording: Recording) -> list[dict[str, Any]]:
    return [stint.header for stint in recording.stints]


def _result(fixture_id: str, fixture: Fixture, compared: Comparison, judged: Judgement) -> FixtureResult:
    failing_count = judged.failing_count + bool(compared.problem)
    failing = list(judged.failing)
    others = [divergence for divergence in judged.divergences if divergence not in failing]
    return FixtureResult(
        fixture_id=fixture_id,
        gate=fixture.gate,
        status="FAIL" if failing_count else "PASS",
        about=fixture.about,
        shows=fixture.shows,
        timing_tolerance_ms=fixture.timing_tolerance_ms,
        final_attempt_latency_threshold_ms=fixture.final_attempt_latency_threshold_ms,
        total_invocation_latency_threshold_ms=fixture.total_invocation_latency_threshold_ms,
        invocation_latency_breaches=sum(is_latency_scope(one.scope) for one in judged.divergences),
        total_divergences=len(judged.divergences),
        failing_count=failing_count,
        unexplained_count=judged.unexplained,
        missing_expected=judged.missing_expected,
        expected_configured=len(fixture.expected_divergences),
        by_class=judged.by_class,
        failing_classes=judged.failing_classes,
        problem=compared.problem,
        records=compared.records,
        recorded_ms=compared.recorded_ms,
        took_ms=compared.took_ms,
        divergences=tuple([*failing, *others][:MAX_DIVERGENCES]),
    )


def _undeclared(folder: Path, declared: Mapping[str, Fixture]) -> list[str]:
    """Recordings that no fixture declares, and that would therefore never be replayed."""
    found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [f"recording {name} is declared by no fixture" for name in found if name not in declared]


def _report(
    gate: str, metadata: Path, results: Sequence[FixtureResult], undeclared: Sequence[str]
) -> dict[str, Any]:
    problems = [f"{result.fixture_id}: {result.problem}" for result in results if result.problem]
    document: dict[str, Any] = msgspec.to_builtins(
        {
            "generated_at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "gate": gate,
            "metadata_path": str(metadata),
            "fixture_count": len(results),
            "total_divergences": sum(result.total_divergences for result in results),
            "failing_count": sum(result.failing_count for result in results) + len(undeclared),
            "unexplained_count": sum(result.unexplained_count for result in results),
            "missing_expected": sorted(
                f"{result.fixture_id}: {missing}" for result in results for missing in result.missing_expected
            ),
            "by_class": sum_by_class(result.by_class for result in results),
            "failing_divergences": sorted({name for result in results for name in result.failing_classes}),
            "problems": [*problems, *undeclared],
            "fixtures": list(results),
        }
    )
    return document
