"""The six service-level gates, computed from baseline evidence (sections 12.1 and 12.2 of the contracts).

Latencies count in turns whose clock ran by itself; a virtual clock does not move while work is done, so its
turns would only water a percentile down. Safety, completeness and terminal events count in all turns.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from rspp.evidence.baseline import completeness

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from rspp.evidence.baseline import BaselineArtifact, BaselineEntry

TURN_OPEN_DECISION = "turn_open_decision"
FIRST_OUTPUT = "first_output"
OUTPUT_CLASSES = frozenset(("audio_raw", "PII", "PHI"))
"""What the agent's voice is tagged with: as sensitive as what the caller said."""
CANCEL_FENCE = "cancel_fence"
AUTHORITY_SAFETY = "authority_safety"
BASELINE_COMPLETENESS = "baseline_completeness"
TERMINAL_CORRECTNESS = "terminal_correctness"
GATES = (
    TURN_OPEN_DECISION,
    FIRST_OUTPUT,
    CANCEL_FENCE,
    AUTHORITY_SAFETY,
    BASELINE_COMPLETENESS,
    TERMINAL_CORRECTNESS,
)
MAX_TOLD = 20
"""Most turns that one violation names; the count is always exact."""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of section 12.1; latencies in milliseconds."""

    turn_open_decision_p95_ms: float = 120.0
    first_output_p95_ms: float = 1500.0
    cancel_fence_p95_ms: float = 150.0
    required_completeness: float = 1.0
    required_terminal_correctness: float = 1.0
    max_stale_accepted_outputs: int = 0


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Nearest-rank percentiles of one latency, milliseconds."""

    samples: int
    p50: float
    p95: float
    p99: float
    max: float


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One gate.

    Attributes:
        gate: one of ``GATES``.
        formula: what is computed, for people.
        threshold: its limit, for people.
        value: what came out; absent without a sample.
        population: turns that the gate is about.
        distribution: of a latency; absent for the others and without a sample.
        exercised: whether the set of scenarios is meant to give the gate samples.
        passed: whether it holds.
        violations: why it does not.
    """

    gate: str
    formula: str
    threshold: str
    value: float | UnsetType = UNSET
    population: int = 0
    distribution: Distribution | UnsetType = UNSET
    exercised: bool = True
    passed: bool = True
    violations: tuple[str, ...] = ()


class SloReport(msgspec.Struct, frozen=True, kw_only=True):
    """``report`` of section 12.2, and each gate by itself under ``gates``."""

    samples: int
    accepted_turns: int
    happy_path_turns: int
    cancel_observed_turns: int
    measured_turns: int
    stale_epoch_refused_outputs: int
    turn_open_decision_p95_ms: float | UnsetType = UNSET
    first_output_p95_ms: float | UnsetType = UNSET
    cancel_fence_p95_ms: float | UnsetType = UNSET
    baseline_completeness_ratio: float
    stale_epoch_accepted_outputs: int
    terminal_correctness_ratio: float
    gates: tuple[GateResult, ...]
    violations: tuple[str, ...] = ()
    passed: bool = False


def nearest_rank(values: Sequence[float], percent: float) -> float:
    """Return the percentile at position ceil(percent/100 · n) of the sorted values, counted from 1.

    Raises:
        ValueError: there is no value, or the percentage is not above 0 and at most 100.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"{percent} % of {len(values)} values is no percentile")
    # Whole hundredths of a percent, because 0.95 · 20 is above 19 in floating point.
    position = -(-round(percent * 100) * len(values) // 10_000)
    return sorted(values)[position - 1]


def distribution_of(values: Sequence[float]) -> Distribution:
    """Return the percentiles of at least one value."""
    return Distribution(
        samples=len(values),
        p50=nearest_rank(values, 50),
        p95=nearest_rank(values, 95),
        p99=nearest_rank(values, 99),
        max=max(values),
    )


def evaluate(
    entries: Sequence[BaselineEntry],
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
    exercises: Collection[str] = GATES,
) -> SloReport:
    """Compute the six gates.

    Args:
        entries: baseline evidence of accepted turns.
        thresholds: their limits.
        exercises: gates that must have samples; one of them without a sample fails.
    """
    measured = [entry for entry in entries if entry.clock == "real"]
    happy = [entry for entry in entries if _is_happy(entry)]
    cancelled = [entry for entry in entries if entry.cancel_accepted_at_us is not UNSET]
    whole = completeness(entries)
    stale = [entry for entry in entries if entry.accepted_stale_epoch_output is True]
    untold = [entry for entry in entries if entry.accepted_stale_epoch_output is UNSET]
    wrong = [entry for entry in entries if not _ends_rightly(entry)]
    right = (len(entries) - len(wrong)) / len(entries) if entries else 0.0

    gates = [
        _latency(
            TURN_OPEN_DECISION,
            "p95 of turn_open_at - turn_open_proposed_at",
            thresholds.turn_open_decision_p95_ms,
            measured,
            lambda entry: (entry.turn_open_proposed_at_us, entry.turn_open_at_us),
            entries,
        ),
        _latency(
            FIRST_OUTPUT,
            "p95 of first_output_at - turn_open_at, committed turns with output",
            thresholds.first_output_p95_ms,
            [entry for entry in happy if entry.clock == "real"],
            lambda entry: (entry.turn_open_at_us, entry.first_output_at_us),
            happy,
        ),
        _latency(
            CANCEL_FENCE,
            "p95 of cancel_fence_applied_at - cancel_accepted_at",
            thresholds.cancel_fence_p95_ms,
            [entry for entry in cancelled if entry.clock == "real"],
            lambda entry: (entry.cancel_accepted_at_us, entry.cancel_fence_applied_at_us),
            cancelled,
        ),
        _counted(
            AUTHORITY_SAFETY,
            "accepted outputs of a stale epoch",
            f"<= {thresholds.max_stale_accepted_outputs}",
            len(stale),
            len(entries),
            [f"{len(stale)} turns let output of a stale epoch pass: {_names(stale)}"]
            if len(stale) > thresholds.max_stale_accepted_outputs
            else [],
            [f"{len(untold)} turns do not tell of which epoch their output was: {_names(untold)}"]
            if untold
            else [],
        ),
        _counted(
            BASELINE_COMPLETENESS,
            "complete / accepted",
            f">= {thresholds.required_completeness:g}",
            whole.ratio,
            len(entries),
            [
                f"{len(whole.missing)} turns lack evidence: "
                + _shortened([f"{turn} ({', '.join(fields)})" for turn, fields in whole.missing.items()])
            ]
            if whole.ratio < thresholds.required_completeness and whole.missing
            else [],
        ),
        _counted(
            TERMINAL_CORRECTNESS,
            "turns that end in exactly one commit or abort, then close / accepted",
            f">= {thresholds.required_terminal_correctness:g}",
            right,
            len(entries),
            [f"{len(wrong)} turns end otherwise: {_names(wrong)}"]
            if right < thresholds.required_terminal_correctness and wrong
            else [],
        ),
    ]
    refused = sum(entry.refused_stale_epoch_outputs for entry in entries)
    sampled = {gate.gate for gate in gates if gate.value is not UNSET}
    if not refused and not stale:
        # Nothing tried to speak for another epoch, so nothing shows that it could not.
        sampled.discard(AUTHORITY_SAFETY)
    gates = [_told_of_samples(gate, gate.gate in sampled, gate.gate in exercises) for gate in gates]
    violations = [f"{gate.gate}: {violation}" for gate in gates for violation in gate.violations]
    if not entries:
        violations.insert(0, "no turn was accepted")
    p95 = {gate.gate: gate.distribution.p95 for gate in gates if not isinstance(gate.distribution, UnsetType)}
    return SloReport(
        samples=len(entries),
        accepted_turns=len(entries),
        happy_path_turns=len(happy),
        cancel_observed_turns=len(cancelled),
        measured_turns=len(measured),
        stale_epoch_refused_outputs=refused,
        turn_open_decision_p95_ms=p95.get(TURN_OPEN_DECISION, UNSET),
        first_output_p95_ms=p95.get(FIRST_OUTPUT, UNSET),
        cancel_fence_p95_ms=p95.get(CANCEL_FENCE, UNSET),
        baseline_completeness_ratio=whole.ratio,
        stale_epoch_accepted_outputs=len(stale),
        terminal_correctness_ratio=right,
        gates=tuple(gates),
        violations=tuple(violations),
        passed=not violations,
    )


def report_document(
    artifact: BaselineArtifact,
    baseline_path: str,
    thresholds: Thresholds = Thresholds(),  # noqa: B008
) -> dict[str, Any]:
    """Return the report of section 12.2 on a baseline artifact, as plain values."""
    exercises: Collection[str] = GATES if isinstance(artifact.exercises, UnsetType) else artifact.exercises
    document: dict[str, Any] = msgspec.to_builtins(
        {
            "generated_at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "baseline_artifact_path": baseline_path,
            "baseline_generated_at_utc": artifact.generated_at_utc,
            "thresholds": thresholds,
            "report": evaluate(artifact.entries, thresholds, exercises),
        }
    )
    return document


def _is_happy(entry: BaselineEntry) -> bool:
    """Committed with output: an aborted turn says nothing of how fast an answer comes."""
    return entry.terminal_outcome == "commit" and not OUTPUT_CLASSES.isdisjoint(entry.payload_tags)


def _ends_rightly(entry: BaselineEntry) -> bool:
    return entry.terminal_events in (("commit", "close"), ("abort", "close"))


def _latency(
    gate: str,
    formula: str,
    limit_ms: float,
    measured: Iterable[BaselineEntry],
    moments: Callable[[BaselineEntry], tuple[int | UnsetType, int | UnsetType]],
    population: Sequence[BaselineEntry],
) -> GateResult:
    violations: list[str] = []
    lacking: list[BaselineEntry] = []
    backward: list[BaselineEntry] = []
    for entry in population:
        begin, end = moments(entry)
        if begin is UNSET or end is UNSET:
            lacking.append(entry)
        elif end < begin:
            backward.append(entry)
    samples: list[float] = []
    for entry in measured:
        begin, end = moments(entry)
        if begin is not UNSET and end is not UNSET and end >= begin:
            samples.append((end - begin) / 1000)
    if lacking:
        violations.append(f"{len(lacking)} turns lack a marker: {_names(lacking)}")
    if backward:
        violations.append(f"{len(backward)} turns have a negative latency: {_names(backward)}")
    distribution = distribution_of(samples) if samples else UNSET
    if not isinstance(distribution, UnsetType) and distribution.p95 > limit_ms:
        violations.append(f"p95 is {distribution.p95:g} ms, above {limit_ms:g} ms")
    return GateResult(
        gate=gate,
        formula=formula,
        threshold=f"<= {limit_ms:g} ms",
        value=UNSET if isinstance(distribution, UnsetType) else distribution.p95,
        population=len(population),
        distribution=distribution,
        passed=not violations,
        violations=tuple(violations),
    )


def _counted(
    gate: str, formula: str, threshold: str, value: float, population: int, *violations: list[str]
) -> GateResult:
    told = tuple(violation for group in violations for violation in group)
    return GateResult(
        gate=gate,
        formula=formula,
        threshold=threshold,
        value=value if population else UNSET,
        population=population,
        passed=not told,
        violations=told,
    )


def _told_of_samples(gate: GateResult, sampled: bool, exercised: bool) -> GateResult:  # noqa: FBT001
    if sampled or not exercised:
        return msgspec.structs.replace(gate, exercised=exercised)
    told = (*gate.violations, "no sample, though the scenarios are to give some")
    return msgspec.structs.replace(gate, passed=False, violations=told)


def _names(entries: Sequence[BaselineEntry]) -> str:
    return _shortened(sorted(f"{entry.session_id}/{entry.turn_id}" for entry in entries))


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_TOLD} more" if len(names) > MAX_TOLD else ""
    return ", ".join(names[:MAX_TOLD]) + more
