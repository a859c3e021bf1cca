"""The six service gates, computed from baseline evidence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import UNSET

from rspp.cli.main import run
from rspp.evidence.baseline import SCHEMA_VERSION, BaselineArtifact, BaselineEntry, write_artifact
from rspp.tooling.slo_gates import (
    AUTHORITY_SAFETY,
    BASELINE_COMPLETENESS,
    CANCEL_FENCE,
    FIRST_OUTPUT,
    GATES,
    TERMINAL_CORRECTNESS,
    TURN_OPEN_DECISION,
    GateResult,
    evaluate,
    nearest_rank,
)
from tests.replay.evidence import whole_entry

if TYPE_CHECKING:
    from pathlib import Path


def turn(number: int = 1, **changes: Any) -> BaselineEntry:
    return msgspec.structs.replace(whole_entry(number), **changes)


def cancelled(number: int, fence_us: int = 2_000) -> BaselineEntry:
    return turn(
        number,
        terminal_outcome="abort",
        terminal_reason="cancelled",
        terminal_events=("abort", "close"),
        cancel_accepted_at_us=500_000,
        cancel_fence_applied_at_us=500_000 + fence_us,
        cancel_sent_at_us=500_000,
    )


def stale(number: int) -> BaselineEntry:
    return turn(number, refused_stale_epoch_outputs=1)


WHOLE = [*(turn(number) for number in range(1, 20)), cancelled(20), stale(21)]


def gate(name: str, entries: list[BaselineEntry], exercises: tuple[str, ...] = GATES) -> GateResult:
    return next(one for one in evaluate(entries, exercises=exercises).gates if one.gate == name)


@pytest.mark.parametrize(
    ("count", "percent", "position"),
    [(1, 95, 1), (20, 95, 19), (21, 95, 20), (100, 95, 95), (100, 99, 99), (2, 50, 1)],
)
def test_percentiles_are_nearest_rank(count: int, percent: int, position: int) -> None:
    assert nearest_rank([float(value) for value in range(count, 0, -1)], percent) == position


@pytest.mark.parametrize(("values", "percent"), [([], 95), ([1.0], 0), ([1.0], 101)])
def test_no_values_have_no_percentile(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        nearest_rank(values, percent)


def test_whole_evidence_passes_every_gate_and_tells_its_figures() -> None:
    report = evaluate(WHOLE)
    assert report.passed, report.violations
    assert (report.accepted_turns, report.happy_path_turns, report.cancel_observed_turns) == (21, 20, 1)
    assert (report.baseline_completeness_ratio, report.terminal_correctness_ratio) == (1.0, 1.0)
    assert report.turn_open_decision_p95_ms == 3.0
    assert report.first_output_p95_ms == 40.0
    assert report.cancel_fence_p95_ms == 2.0


def test_g_12_latencies_follow_the_evidence_and_break_their_gates() -> None:
    slow_open = [*WHOLE, *(turn(30 + n, turn_open_at_us=100_000 + 120_001) for n in range(3))]
    assert "p95 is 120.001 ms" in gate(TURN_OPEN_DECISION, slow_open).violations[0]
    slow_output = [*WHOLE, *(turn(30 + n, first_output_at_us=103_000 + 1_500_001) for n in range(3))]
    assert "1500" in gate(FIRST_OUTPUT, slow_output).violations[0]
    slow_fence = [*WHOLE, cancelled(30, 150_001)]
    assert "above 150 ms" in gate(CANCEL_FENCE, slow_fence).violations[0]
    just = [turn(turn_open_at_us=220_000, first_output_at_us=1_720_000), cancelled(2, 150_000), stale(3)]
    assert evaluate(just).passed


def test_aborted_turns_are_no_happy_path() -> None:
    aborted = turn(
        30,
        first_output_at_us=9_000_000,
        terminal_outcome="abort",
        terminal_reason="provider_failure",
        terminal_events=("abort", "close"),
    )
    assert gate(FIRST_OUTPUT, [*WHOLE, aborted]) == gate(FIRST_OUTPUT, WHOLE)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (TURN_OPEN_DECISION, {"turn_open_proposed_at_us": UNSET}),
        (TURN_OPEN_DECISION, {"turn_open_at_us": UNSET}),
        (FIRST_OUTPUT, {"first_output_at_us": UNSET}),
        (CANCEL_FENCE, {"cancel_accepted_at_us": 1}),
    ],
)
def test_a_missing_marker_is_a_violation(name: str, changes: dict[str, Any]) -> None:
    found = gate(name, [*WHOLE, turn(30, **changes)])
    assert not found.passed
    assert "1 turns lack a marker: s/turn-1-30" in found.violations[0]


def test_a_negative_latency_is_a_violation_and_no_sample() -> None:
    found = gate(TURN_OPEN_DECISION, [*WHOLE, turn(30, turn_open_at_us=1)])
    assert "negative" in found.violations[0]
    assert found.distribution.samples == len(WHOLE)  # type: ignore[union-attr] # there are samples


def test_turns_under_a_virtual_clock_give_no_latency_sample() -> None:
    virtual = [turn(30 + n, clock="virtual", turn_open_at_us=100_000) for n in range(100)]
    assert gate(TURN_OPEN_DECISION, [*WHOLE, *virtual]).value == 3.0
    none = gate(TURN_OPEN_DECISION, virtual)
    assert not none.passed
    assert "no sample" in none.violations[0]


@pytest.mark.parametrize("name", [TURN_OPEN_DECISION, FIRST_OUTPUT, CANCEL_FENCE, AUTHORITY_SAFETY])
def test_a_gate_that_is_to_have_samples_fails_without_and_another_does_not(name: str) -> None:
    silent = {
        TURN_OPEN_DECISION: [turn(clock="virtual"), cancelled(2), stale(3)],
        FIRST_OUTPUT: [cancelled(2)],
        CANCEL_FENCE: [turn(1)],
        AUTHORITY_SAFETY: [turn(1)],
    }[name]
    if name == TURN_OPEN_DECISION:
        silent = [msgspec.structs.replace(one, clock="virtual") for one in silent]
    assert "no sample" in gate(name, silent).violations[-1]
    others = tuple(one for one in GATES if one != name)
    assert gate(name, silent, others).passed
    assert not gate(name, silent, others).exercised


def test_g_11_output_of_a_stale_epoch_breaks_authority_and_so_does_not_knowing() -> None:
    found = gate(AUTHORITY_SAFETY, [*WHOLE, turn(30, accepted_stale_epoch_output=True)])
    assert found.value == 1
    assert "s/turn-1-30" in found.violations[0]
    untold = gate(AUTHORITY_SAFETY, [*WHOLE, turn(30, accepted_stale_epoch_output=UNSET)])
    assert "do not tell" in untold.violations[0]


@pytest.mark.conformance("RD-003", "G-04")
def test_one_turn_without_whole_evidence_breaks_completeness() -> None:
    found = gate(BASELINE_COMPLETENESS, [*WHOLE, turn(30, plan_hash="plan/turn-1-30")])
    assert "s/turn-1-30 (plan_hash)" in found.violations[0]


@pytest.mark.parametrize(
    "events",
    [
        (),
        ("commit",),
        ("close",),
        ("commit", "abort", "close"),
        ("close", "commit"),
        ("abort", "close", "close"),
    ],
)
def test_every_turn_ends_in_one_terminal_and_close(events: tuple[str, ...]) -> None:
    found = gate(TERMINAL_CORRECTNESS, [*WHOLE, turn(30, terminal_events=events)])
    assert found.value == pytest.approx(21 / 22)
    assert not found.passed


def test_without_an_accepted_turn_every_gate_fails() -> None:
    report = evaluate([])
    assert report.violations[0] == "no turn was accepted"
    assert not any(one.passed for one in report.gates)
    assert (report.baseline_completeness_ratio, report.terminal_correctness_ratio) == (0.0, 0.0)
    assert not evaluate([], exercises=()).passed


def artifact(folder: Path, entries: list[BaselineEntry], version: str = SCHEMA_VERSION) -> Path:
    path = folder / "runtime-baseline.json"
    write_artifact(
        BaselineArtifact(
            schema_version=version, generated_at_utc="2026-01-01T00:00:00+00:00", entries=tuple(entries)
        ),
        path,
    )
    return path


def test_the_command_writes_both_reports_and_tells_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "ops" / "slo.json"
    assert run(["slo-gates-report", str(output), str(artifact(tmp_path, WHOLE))]) == 0
    assert "passed: 21 accepted turns" in capsys.readouterr().out
    document = json.loads(output.read_text("utf-8"))
    assert document["report"]["passed"] is True
    assert document["thresholds"]["cancel_fence_p95_ms"] == 150
    assert document["report"]["gates"][0]["distribution"]["samples"] == 21
    markdown = output.with_suffix(".md").read_text("utf-8")
    assert "| turn_open_decision | 3 |" in markdown
    for gate in GATES:
        assert f"- `{gate}`: " in markdown
    bad = artifact(tmp_path, [*WHOLE, turn(30, terminal_events=())])
    assert run(["slo-gates-report", str(output), str(bad), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["report"]["passed"] is False
    assert "terminal_correctness: 1 turns end otherwise" in output.with_suffix(".md").read_text("utf-8")


@pytest.mark.parametrize("wrong", ["missing", "version", "empty", "text"])
def test_a_baseline_that_is_none_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    path = tmp_path / "nowhere.json"
    if wrong == "version":
        path = artifact(tmp_path, WHOLE, "v1")
    elif wrong == "empty":
        path = artifact(tmp_path, [])
    elif wrong == "text":
        path.write_text("not json", "utf-8")
    assert run(["slo-gates-report", str(tmp_path / "slo.json"), str(path)]) == 1
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "slo.json").exists()
