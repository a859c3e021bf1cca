"""The golden recordings: each is there, small, whole, and replays as its metadata says."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from rspp import _kernel
from rspp.cli.main import run
from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence.reader import open_recording
from rspp.replay.divergence import OUTCOME, PLAN
from rspp.replay.metadata import METADATA, Fixture, ReplayWith, read_metadata
from rspp.tooling import golden
from rspp.tooling.expected_artifacts import FULL, missing
from rspp.tooling.golden import AGAIN, MAX_BYTES, ROOT, size_of
from rspp.tooling.golden_calls import CALLS
from rspp.tooling.regression import RECORDINGS, replay_fixture, run_gate, run_smoke
from rspp.tooling.regression_report import write_regression_report

if TYPE_CHECKING:
    from pathlib import Path

WANTED = {
    *(f"CT-{number:03}" for number in range(1, 7)),
    *(f"RD-{number:03}" for number in range(1, 6)),
    *(f"CF-{number:03}" for number in range(1, 5)),
    *(f"AE-{number:03}" for number in range(1, 6)),
    *(f"ML-{number:03}" for number in range(1, 5)),
    *(f"F{number}" for number in range(1, 9)),
}
FIXTURES = read_metadata().fixtures
SEGMENTS = sorted(ROOT.rglob("*.segment"))
MAGIC_BYTES = 8
KILLED = {"room-002-takeover", "room-003-killed"}
"""Recordings whose runtime was killed: a segment of theirs has no seal."""


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return run_gate(METADATA, "full")


def of(report: dict[str, Any], fixture_id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in report["fixtures"] if one["fixture_id"] == fixture_id)
    return found


def copied(folder: Path, fixture_id: str, **fields: Any) -> Path:
    """A folder with one recording; the fields of its metadata are changed."""
    declared = json.loads(METADATA.read_text("utf-8"))["fixtures"][fixture_id] | fields
    shutil.copytree(ROOT / fixture_id, folder / RECORDINGS / fixture_id)
    path = folder / "metadata.json"
    path.write_text(json.dumps({"fixtures": {fixture_id: declared}}), "utf-8")
    return path


# ------------------------------------------------------------------ the set


def test_every_id_of_the_contract_has_a_golden_recording_that_is_declared() -> None:
    recorded = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert recorded == set(FIXTURES)
    assert {name for fixture in FIXTURES.values() for name in fixture.shows} >= WANTED
    assert set(CALLS) <= recorded


@pytest.mark.parametrize("fixture_id", sorted(FIXTURES))
def test_golden_recordings_are_small_whole_and_without_content(fixture_id: str) -> None:
    folder = ROOT / fixture_id
    for path in [folder, *(sub for sub in folder.iterdir() if sub.is_dir())]:
        recording = open_recording(path)
        assert recording.complete == (fixture_id not in KILLED)
        assert not recording.damage
        assert size_of(path) <= MAX_BYTES * (2 if (path / AGAIN).is_dir() else 1)
        transcripts = [one for one in recording.records() if one["kind"] == "transcript"]
        assert not any(one.get("text") for one in transcripts)
    if fixture_id in CALLS:
        assert CALLS[fixture_id].shows == FIXTURES[fixture_id].shows


def test_a_recording_of_a_real_room_is_kept_once_it_replays(tmp_path: Path) -> None:
    source = ROOT / "room-001-barge-in"
    assert golden.keep("room-009", source, tmp_path) == size_of(source)
    with pytest.raises(ConfigurationError, match="exists"):
        golden.keep("room-009", source, tmp_path)
    with pytest.raises(ConfigurationError, match="exists"):
        golden.keep("rd-001-smoke", source, tmp_path)
    with pytest.raises(EvidenceError, match="no segment"):
        golden.keep("room-010", tmp_path, tmp_path)
    edited = tmp_path / "edited"
    shutil.copytree(source, edited)
    (segment,) = edited.glob("*.segment")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    with pytest.raises(EvidenceError, match="does not replay"):
        golden.keep("room-011", edited, tmp_path)
    assert not (tmp_path / "room-011").exists()


# ------------------------------------------------------------------ the gate


@pytest.mark.conformance("RD-001", "G-12", "M-10")
def test_rd_001_every_golden_recording_replays_as_it_is_declared(report: dict[str, Any]) -> None:
    assert report["problems"] == []
    assert report["missing_expected"] == []
    assert [one["fixture_id"] for one in report["fixtures"] if one["status"] == "FAIL"] == []
    assert (report["failing_count"], report["unexplained_count"]) == (0, 0)
    assert report["fixture_count"] == len(report["fixtures"]) == len(FIXTURES)
    exact = [one for one in report["fixtures"] if not one["expected_configured"]]
    assert sum(one["total_divergences"] for one in exact) == 0
    assert all(one["records"] > 10 for one in report["fixtures"])


@pytest.mark.conformance("RD-004", "ML-003")
def test_rd_004_recordings_that_must_diverge_do(report: dict[str, Any]) -> None:
    assert of(report, "rd-004-snapshot-provenance-plan")["by_class"][PLAN] >= 1
    assert of(report, "rd-ordering-approved-1")["by_class"]["ORDERING_DIVERGENCE"] >= 1
    lineage = of(report, "ml-003-replay-absence-classification")
    assert lineage["by_class"][OUTCOME] == lineage["total_divergences"] >= 1
    assert all(one["scope"].startswith("event:") for one in lineage["divergences"])
    assert of(report, "rd-what-if-policy-1")["by_class"][OUTCOME] >= 1
    sides = of(report, "rd-004-snapshot-provenance-plan")["divergences"][0]
    assert json.loads(sides["recorded"]) != json.loads(sides["replayed"])


def test_a_divergence_that_nobody_declared_fails_with_both_sides_told(tmp_path: Path) -> None:
    fixture_id = "rd-004-snapshot-provenance-plan"
    metadata = copied(tmp_path, fixture_id, expected_divergences=[])
    found = of(run_gate(metadata, "full"), fixture_id)
    assert (found["status"], found["failing_classes"]) == ("FAIL", [PLAN])
    assert found["unexplained_count"] == found["failing_count"] >= 1
    assert found["divergences"][0]["scope"] == "turn:turn-1-1"


def test_a_divergence_that_is_expected_and_does_not_come_fails(tmp_path: Path) -> None:
    expected = [{"class": PLAN, "scope": "turn:turn-1-1"}]
    metadata = copied(tmp_path, "rd-001-smoke", expected_divergences=expected)
    report = run_gate(metadata, "full")
    assert report["missing_expected"] == [f"rd-001-smoke: {PLAN} turn:turn-1-1"]
    assert report["failing_count"] == 1


def test_a_changed_threshold_is_told_apart_by_the_turn_it_changes() -> None:
    changed = Fixture(replay_with=ReplayWith(policy={"speech_permille": 999}))
    found = replay_fixture("rd-001-smoke", changed, ROOT)
    assert found.status == "FAIL"
    assert found.by_class[OUTCOME] > 0


def test_a_kernel_from_before_a_rotation_was_told_opens_no_notice() -> None:
    older = Fixture(replay_with=ReplayWith(behaviours=(1, 2)))
    found = replay_fixture("f7-rotated-lease", older, ROOT)
    assert found.status == "FAIL"
    recorded = [json.loads(one.recorded or "{}") for one in found.divergences]
    assert [one["event"]["signal"] for one in recorded if "event" in one][:2] == [
        "turn_open_proposed",
        "admit",
    ]


@pytest.mark.conformance("RD-005")
def test_rd_005_a_broken_latency_threshold_fails_in_its_scope(tmp_path: Path) -> None:
    slow = copied(tmp_path, "rd-005-invocation-latency", final_attempt_latency_threshold_ms=20)
    found = of(run_gate(slow, "full"), "rd-005-invocation-latency")
    assert found["status"] == "FAIL"
    assert found["invocation_latency_breaches"] == 1
    assert found["divergences"][0]["scope"] == "invocation_latency_final:turn:turn-1-1"
    assert found["divergences"][0]["diff_ms"] >= 250


@pytest.mark.conformance("RD-002")
def test_rd_002_the_second_run_is_within_the_tolerance_and_not_within_a_smaller_one(tmp_path: Path) -> None:
    fixture_id = "rd-002-recompute-within-tolerance"
    assert of(run_gate(METADATA, "full"), fixture_id)["status"] == "PASS"
    strict = copied(tmp_path, fixture_id, timing_tolerance_ms=5)
    found = of(run_gate(strict, "full"), fixture_id)
    assert found["failing_classes"] == ["TIMING_DIVERGENCE"]


# ------------------------------------------------------------------ what is missing or wrong


def test_a_fixture_without_recording_fails(tmp_path: Path) -> None:
    metadata = copied(tmp_path, "rd-001-smoke")
    shutil.rmtree(tmp_path / RECORDINGS / "rd-001-smoke")
    report = run_gate(metadata, "full")
    assert report["failing_count"] == 1
    assert "no recording" in report["problems"][0]


def test_a_recording_that_no_fixture_declares_fails(tmp_path: Path) -> None:
    metadata = copied(tmp_path, "rd-001-smoke")
    shutil.copytree(ROOT / "rd-001-smoke", tmp_path / RECORDINGS / "forgotten")
    assert run_gate(metadata, "full")["problems"] == ["recording forgotten is declared by no fixture"]


def test_a_gate_without_fixtures_and_an_unknown_one_are_refused(tmp_path: Path) -> None:
    metadata = copied(tmp_path, "rd-001-smoke", gate="full")
    with pytest.raises(ConfigurationError, match="no fixture for gate 'quick'"):
        run_smoke(metadata)
    with pytest.raises(ConfigurationError, match="unknown"):
        run_gate(metadata, "slow")


def test_damage_in_a_recording_fails_it_and_says_where(tmp_path: Path) -> None:
    metadata = copied(tmp_path, "rd-001-smoke")
    (segment,) = (tmp_path / RECORDINGS / "rd-001-smoke").glob("*.segment")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    report = run_gate(metadata, "full")
    assert report["failing_count"] >= 1
    assert segment.name in report["problems"][0]


# ------------------------------------------------------------------ the commands


def test_the_commands_write_what_people_and_machines_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "regression-report.json"
    assert run(["replay-regression-report", str(output)]) == 0
    assert f"passed: {len(FIXTURES)} recordings" in capsys.readouterr().out
    single = json.loads((output.parent / "fixtures" / "rd-001-smoke.json").read_text("utf-8"))
    assert (single["fixture_id"], single["status"]) == ("rd-001-smoke", "PASS")
    assert single["metadata_path"] == str(METADATA)
    assert (output.parent / "fixtures" / "rd-001-smoke.md").is_file()
    assert "| rd-001-smoke |" in output.with_suffix(".md").read_text("utf-8")
    assert "rd-001-smoke" in output.with_suffix(".html").read_text("utf-8")
    smoke = tmp_path / "smoke.json"
    assert run(["replay-smoke-report", str(smoke), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(smoke.read_text("utf-8"))
    assert "rd-001-smoke" in json.loads(smoke.read_text("utf-8"))["fixture_id"]


@pytest.mark.parametrize(
    "arguments", [["nowhere.json"], [str(METADATA), "slow"]], ids=["no metadata", "unknown gate"]
)
def test_the_command_fails_where_it_cannot_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(["replay-regression-report", str(tmp_path / "r.json"), *arguments]) == 1
    assert capsys.readouterr().err.startswith("error:")
    assert not (tmp_path / "r.json").exists()


def test_reports_of_a_failing_run_are_written_before_it_fails(tmp_path: Path) -> None:
    metadata = copied(tmp_path, "rd-004-snapshot-provenance-plan", expected_divergences=[])
    output = tmp_path / "r.json"
    assert run(["replay-regression-report", str(output), str(metadata)]) == 1
    assert json.loads(output.read_text("utf-8"))["failing_count"] >= 1
    assert "FAIL" in output.with_suffix(".md").read_text("utf-8")


def test_a_report_that_a_run_should_have_left_is_missed(tmp_path: Path, report: dict[str, Any]) -> None:
    assert missing("full", tmp_path, ROOT)[: len(FULL)] == list(FULL)
    write_regression_report(report, tmp_path / "replay" / "regression-report.json")
    assert missing("full", tmp_path, ROOT) == [name for name in FULL if "regression" not in name]
    (tmp_path / "replay" / "fixtures" / "rd-001-smoke.md").write_text("", "utf-8")
    assert "replay/fixtures/rd-001-smoke.md" in missing("full", tmp_path, ROOT)


# ------------------------------------------------------------------ recording


def test_a_golden_recording_is_never_made_anew_unasked(tmp_path: Path) -> None:
    golden.record("ct-003-before-the-turn", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.segment")}
    assert before
    with pytest.raises(ConfigurationError, match="kept for ever"):
        golden.record("ct-003-before-the-turn", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.segment")} == before
    golden.record("ct-003-before-the-turn", tmp_path, replace=True)
    with pytest.raises(ConfigurationError, match="is unknown"):
        golden.record("ct-999", tmp_path)


# ------------------------------------------------------------------ torn writes


@pytest.mark.conformance("G-03")
@pytest.mark.parametrize("segment", SEGMENTS, ids=lambda path: path.parent.name)
def test_a_golden_segment_cut_at_any_byte_gives_whole_blocks_and_names_the_damage(segment: Path) -> None:
    content = segment.read_bytes()
    whole = _kernel.scan_segment(content)
    assert whole.sealed or segment.parent.name in KILLED
    assert whole.damage == []
    ends = {block[3] for block in whole.blocks}
    for size in range(len(content)):
        cut = _kernel.scan_segment(content[:size])
        assert not cut.sealed
        assert cut.blocks == whole.blocks[: len(cut.blocks)]
        assert all(block[3] <= size for block in cut.blocks)
        assert len(cut.blocks) == sum(end <= size for end in ends)
        # A cut between two blocks leaves nothing torn; that the seal is missing tells of it.
        between = size in {MAGIC_BYTES, *ends}
        assert [code for code, _, _ in cut.damage] == ([] if between else ["torn"])
