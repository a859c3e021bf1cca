"""Generates the runtime baseline: the evidence that the service gates are computed from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rspp.evidence.baseline import (
    SCHEMA_VERSION,
    BaselineArtifact,
    BaselineEntry,
    completeness,
    write_artifact,
)
from rspp.evidence.baseline_reading import entries_of
from rspp.tooling.baseline_calls import REAL_CALLS, hold_real, hold_virtual
from rspp.tooling.slo_gates import GATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rspp.evidence.baseline import Completeness
    from rspp.tooling.baseline_calls import HeldScenario

OUTPUT = Path("artifacts/replay/runtime-baseline.json")


class GeneratedBaseline(NamedTuple):
    """A baseline and what came of its scenarios.

    Attributes:
        artifact: the baseline.
        problems: scenarios that did not close, with the reason.
    """

    artifact: BaselineArtifact
    problems: dict[str, str]

    @property
    def completeness(self) -> Completeness:
        """Which turns have complete evidence."""
        return completeness(self.artifact.entries)


def generate(real_calls: int = REAL_CALLS) -> GeneratedBaseline:
    """Hold every scenario and take the baseline evidence out of what was recorded.

    Args:
        real_calls: calls held at once in real time.
    """
    return baseline_of([*hold_virtual(), *hold_real(real_calls)])


def baseline_of(scenarios: Iterable[HeldScenario]) -> GeneratedBaseline:
    """Make the baseline of scenarios that were held."""
    entries: list[BaselineEntry] = []
    told: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    exercised: set[str] = set()
    for scenario in scenarios:
        turns = entries_of(scenario.records, scenario.headers, clock=scenario.clock)
        entries += turns
        exercised |= set(scenario.exercises)
        told.append(
            {
                "id": scenario.id,
                "clock": scenario.clock,
                "exercises": list(scenario.exercises),
                "accepted_turns": len(turns),
                "problem": scenario.problem,
            }
        )
        if scenario.problem:
            problems[scenario.id] = scenario.problem
    artifact = BaselineArtifact(
        schema_version=SCHEMA_VERSION,
        generated_at_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        exercises=tuple(gate for gate in GATES if gate in exercised),
        scenarios=tuple(told),
        entries=tuple(entries),
    )
    return GeneratedBaseline(artifact, problems)


def write(generated: GeneratedBaseline, path: Path) -> None:
    """Write the artifact, also when a scenario failed: it says which.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    write_artifact(generated.artifact, path)
