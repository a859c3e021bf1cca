"""The runtime baseline: real sessions, and the evidence of their turns."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UNSET

from rspp.cli.main import run
from rspp.evidence.baseline import BaselineEntry, completeness, read_artifact
from rspp.evidence.baseline_reading import entries_of
from rspp.session.virtual_time import run_virtual
from rspp.tooling import baseline, baseline_calls
from rspp.tooling.baseline_calls import (
    REAL_SCRIPT,
    VIRTUAL,
    HeldScenario,
    _hold_virtual,
    hold_scripted,
    open_turns,
)
from rspp.tooling.caller.script import parse_script
from rspp.tooling.caller.sound import prepare
from rspp.tooling.fault_call import FaultCall
from rspp.tooling.faults import SPEECH_PROGRAM
from rspp.tooling.golden_calls import CALLS
from rspp.tooling.slo_gates import GATES, TURN_OPEN_DECISION, evaluate

if TYPE_CHECKING:
    from pathlib import Path


def held(fixture_id: str) -> list[BaselineEntry]:
    call = CALLS[fixture_id].make("call").hold()
    assert isinstance(call, FaultCall)
    return entries_of(call.records, call.timeline.headers, clock="virtual")


def whole(entries: list[BaselineEntry]) -> None:
    assert {entry.turn_id: entry.missing() for entry in entries} == {entry.turn_id: [] for entry in entries}


@pytest.mark.conformance("CF-004", "RD-003")
def test_a_barge_in_leaves_every_marker_of_its_cancel() -> None:
    (entry,) = held("cf-001-cancel-fence")
    whole([entry])
    moments = (
        entry.turn_open_at_us,
        entry.first_output_at_us,
        entry.cancel_accepted_at_us,
        entry.cancel_fence_applied_at_us,
        entry.cancel_sent_at_us,
    )
    assert list(moments) == sorted(moments)  # type: ignore[type-var] # whole: none is unset
    assert (entry.terminal_events, entry.terminal_reason) == (("abort", "close"), "cancelled")
    assert {outcome.outcome_class for outcome in entry.invocation_outcomes} == {"cancelled"}
    assert entry.invocations_in_flight == 2
    assert set(entry.payload_tags) == {"metadata", "audio_raw", "text_raw"}


def test_attempts_of_one_invocation_are_one_outcome_with_its_latency() -> None:
    (entry,) = held("f3-provider-failure")
    whole([entry])
    llm, _ = sorted(entry.invocation_outcomes, key=lambda outcome: outcome.provider_invocation_id)
    assert (llm.modality, llm.attempt_count, llm.outcome_class) == ("llm", 3, "success")
    assert isinstance(llm.total_invocation_latency_us, int)
    assert llm.total_invocation_latency_us >= llm.final_attempt_latency_us


@pytest.mark.conformance("AE-003", "G-11")
def test_refused_output_of_another_epoch_is_counted_and_none_was_accepted() -> None:
    (entry,) = held("ae-003-old-placement")
    whole([entry])
    assert entry.refused_stale_epoch_outputs == 2
    assert entry.accepted_stale_epoch_output is False


def test_g_11_a_passed_frame_of_another_epoch_is_told() -> None:
    call = CALLS["rd-001-smoke"].make("call").hold()
    assert isinstance(call, FaultCall)
    records = [dict(record) for record in call.records]
    frame = next(record for record in records if record.get("name") == "frame")
    frame["epoch"] = 7
    (entry,) = entries_of(records, call.timeline.headers)
    assert entry.accepted_stale_epoch_output is True


def test_g_09_a_plan_that_the_settings_do_not_give_is_not_whole() -> None:
    call = CALLS["rd-001-smoke"].make("call").hold()
    assert isinstance(call, FaultCall)
    header: dict[str, Any] = json.loads(json.dumps(call.timeline.headers[0]))
    header["settings"]["plan"]["execution_profile"] = "another"
    (entry,) = entries_of(call.records, [header])
    assert entry.missing() == ["plan_hash"]


@pytest.mark.conformance("RD-003", "G-12")
def test_rd_003_every_turn_of_every_fault_is_complete() -> None:
    generated = baseline.baseline_of(_hold_virtual(name, gates) for name, gates in VIRTUAL.items())
    assert generated.problems == {}
    whole(list(generated.artifact.entries))
    assert len(generated.artifact.entries) >= len(VIRTUAL)
    report = evaluate(generated.artifact.entries, exercises=generated.artifact.exercises or ())
    assert report.violations == ()
    assert report.stale_epoch_refused_outputs >= 2
    assert report.turn_open_decision_p95_ms is UNSET


def test_refusals_before_a_turn_are_no_turns() -> None:
    assert held("ct-003-before-the-turn") == []
    assert held("ae-001-preturn-stale-epoch") == []
    assert completeness([]).ratio == 0.0


def test_a_call_in_real_time_has_an_answer_a_barge_in_and_another_answer(tmp_path: Path) -> None:
    # The same script as in real time, in virtual time here: what is measured is no matter of this test.
    script = parse_script(REAL_SCRIPT)
    sounds = asyncio.run(prepare(script, SPEECH_PROGRAM, tmp_path))
    (scenario,) = run_virtual(hold_scripted(1, script, sounds))
    assert scenario.problem == ""
    entries = entries_of(scenario.records, scenario.headers)
    whole(entries)
    assert [entry.terminal_outcome for entry in entries] == ["commit", "commit", "abort", "commit"]
    assert set(GATES) - set(scenario.exercises) == {"authority_safety"}
    assert TURN_OPEN_DECISION in scenario.exercises


def test_the_command_writes_an_artifact_and_fails_for_a_turn_that_did_not_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = _hold_virtual("rd-001-smoke", ())
    monkeypatch.setattr(baseline, "hold_virtual", lambda: [scenario])
    monkeypatch.setattr(baseline, "hold_real", lambda _: [])
    output = tmp_path / "deep" / "baseline.json"
    assert run(["generate-runtime-baseline", str(output)]) == 0
    assert "1 calls, 1 accepted turns, 1 of them complete" in capsys.readouterr().out
    assert read_artifact(output).entries[0].session_id == "baseline-rd-001-smoke"
    open_ended = [record for record in scenario.records if not _is_signal(record, "close")]
    broken = HeldScenario(
        "x", "virtual", (), open_ended, scenario.headers, baseline_calls._unfinished(open_ended)
    )
    monkeypatch.setattr(baseline, "hold_virtual", lambda: [broken])
    assert run(["generate-runtime-baseline", str(output), "--json"]) == 1
    assert "did not close" in json.loads(capsys.readouterr().out)["problems"]["x"]
    assert open_turns(open_ended) == ["turn-1-1"]
    assert baseline_calls._unfinished([]) == "no turn opened"


def _is_signal(record: dict[str, Any], name: str) -> bool:
    return bool(record["kind"] == "signal" and record["event"]["signal"] == name)


@pytest.mark.parametrize("output", ["", "file/baseline.json"])
def test_calls_are_not_held_for_a_file_that_cannot_be_written(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setattr(baseline, "generate", lambda: pytest.fail("calls were held"))
    assert run(["generate-runtime-baseline", str(tmp_path / output)]) == 2
    assert "cannot be written" in capsys.readouterr().err
