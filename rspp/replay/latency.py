"""The rule on invocation latencies of a golden recording (section 11.4 of the contracts).

The sample of a turn is the slowest of its invocations. A turn above a threshold, and a turn or fixture
about which nothing can be said, is a TIMING divergence that no tolerance excuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from rspp.replay.divergence import LATENCY_FINAL, LATENCY_TOTAL, TIMING, Divergence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.evidence.baseline import BaselineEntry
    from rspp.replay.metadata import Fixture


def latency_divergences(
    fixture_id: str, fixture: Fixture, entries: Sequence[BaselineEntry] | None
) -> list[Divergence]:
    """Return what breaks the fixture's latency thresholds, scope by scope.

    Args:
        fixture_id: id of the fixture.
        fixture: its metadata.
        entries: baseline evidence of its turns; none when it could not be extracted.
    """
    thresholds: list[tuple[str, int]] = []
    for name, threshold in (
        (LATENCY_FINAL, fixture.final_attempt_latency_threshold_ms),
        (LATENCY_TOTAL, fixture.total_invocation_latency_threshold_ms),
    ):
        if not isinstance(threshold, UnsetType):
            thresholds.append((name, threshold))
    if not thresholds:
        return []
    scopes = fixture.latency_scopes(fixture_id)
    if not scopes:
        return [
            _nothing(name, f"fixture:{fixture_id}", "the id names no turn, and no scope is declared")
            for name, _ in thresholds
        ]
    if entries is None:
        return [
            _nothing(name, scope, "the evidence of the recording cannot be read")
            for scope in scopes
            for name, _ in thresholds
        ]
    found: list[Divergence] = []
    for scope in scopes:
        of_scope = [entry for entry in entries if scope == f"turn:{entry.turn_id}"]
        for name, threshold in thresholds:
            found += _judge(name, scope, threshold, of_scope)
    return found


def _judge(name: str, scope: str, threshold: int, entries: Sequence[BaselineEntry]) -> list[Divergence]:
    samples: list[int] = []
    for entry in entries:
        for outcome in entry.invocation_outcomes:
            total = outcome.total_invocation_latency_us
            value = outcome.final_attempt_latency_us if name == LATENCY_FINAL else total
            if value is UNSET:
                return [_nothing(name, scope, f"{outcome.provider_invocation_id} has no end in the evidence")]
            samples.append(value)
    if not samples:
        return [_nothing(name, scope, "the turn has no invocation in the evidence")]
    excess_ms = max(samples) / 1000 - threshold
    if excess_ms <= 0:
        return []
    message = f"slowest invocation took {max(samples) / 1000:g} ms, {excess_ms:g} ms above {threshold} ms"
    return [Divergence(class_=TIMING, scope=f"{name}:{scope}", message=message, diff_ms=excess_ms)]


def _nothing(name: str, scope: str, message: str) -> Divergence:
    return Divergence(class_=TIMING, scope=f"{name}:{scope}", message=message)
