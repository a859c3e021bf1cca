"""``rspp-cli validate-contracts``, ``validate-contracts-report`` and ``validate-stream``."""

from __future__ import annotations

import io
import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from rspp.cli import contracts as commands
from rspp.cli import main as cli
from rspp.contracts import fixtures
from rspp.contracts.fixtures_stream import Recording, opened
from rspp.contracts.samples import event

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.contracts.samples import Document


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small fixture root without an index."""
    put(tmp_path, "event_record/valid/text.json", event())
    put(tmp_path, "event_record/invalid/color.json", event(color="red"))
    return tmp_path


def put(root: Path, path: str, document: Document) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(document), encoding="utf-8")


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def test_the_projects_own_contracts_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate-contracts") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "\x1b" not in said.out
    assert "three validators, no disagreement" in said.out
    assert len(said.out.splitlines()) == 9


def test_machines_get_one_object(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    assert run("validate-contracts", root, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert report["summary"] == {"Total": 2, "Failed": 0, "Failures": []}
    assert report["kinds"] == {"event_record": {"valid": 1, "invalid": 1, "problems": 0}}
    assert report["fixture_root"] == str(root)


@pytest.mark.parametrize(
    ("path", "document", "says"),
    [
        ("event_record/valid/x.json", event(color=1), "must pass, but breaks shape.unknown_field at 'color'"),
        ("event_record/invalid/x.json", event(), "must be refused, but passes"),
    ],
)
def test_a_fixture_with_the_wrong_verdict_fails(
    capsys: pytest.CaptureFixture[str], root: Path, path: str, document: Document, says: str
) -> None:
    put(root, path, document)
    assert run("validate-contracts", root) == 1
    said = capsys.readouterr().out
    assert f"{path}: {says}" in said
    assert said.endswith("failed: 1 of 3 fixtures\n")


def test_a_fixture_that_breaks_another_rule_than_it_says_fails(
    capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    index = {
        "event_record/valid/text.json": {"shows": []},
        "event_record/invalid/color.json": {"rule": "event.lane", "field": "lane"},
        "event_record/invalid/gone.json": {"rule": "event.lane", "field": "lane"},
    }
    (root / "index.json").write_text(json.dumps({"fixtures": index}), encoding="utf-8")
    put(root, "event_record/valid/new.json", event())
    assert run("validate-contracts", root) == 1
    said = capsys.readouterr().out
    assert "must break event.lane at 'lane', but breaks shape.unknown_field at 'color'" in said
    assert "gone.json: in the index, but missing" in said
    assert "new.json: not in the index" in said
    assert "stream.epoch: lacks a fixture that keeps it or one that breaks it" in said


def test_a_rule_without_fixtures_fails_where_there_is_an_index(
    capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    index = {
        "event_record/valid/text.json": {"shows": ["shape.unknown_field"]},
        "event_record/invalid/color.json": {"rule": "shape.unknown_field", "field": "color"},
    }
    (root / "index.json").write_text(json.dumps({"fixtures": index}), encoding="utf-8")
    assert run("validate-contracts", root) == 1
    said = capsys.readouterr().out
    assert "event.lane: lacks a fixture that keeps it or one that breaks it" in said
    assert "shape.unknown_field: lacks" not in said
    assert re.search(r"failed: 0 of 2 fixtures, [1-9][0-9] rules without fixtures\n$", said)


def test_a_recording_that_breaks_a_second_rule_fails(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    (root / "stream" / "invalid").mkdir(parents=True)
    (root / "stream" / "invalid" / "two.jsonl").write_bytes(opened().signal("flow_xon").text())
    assert run("validate-contracts", root) == 1
    assert "two.jsonl: breaks stream.close at 'turn_id' too, in line 0" in capsys.readouterr().out


def test_a_disagreement_between_validators_fails(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rspp.contracts import agreement
    from rspp.contracts.reading import Fault

    monkeypatch.setattr(agreement, "validate", lambda kind, document: Fault("event.lane", "lane", kind))
    assert run("validate-contracts", root) == 1
    said = capsys.readouterr().out
    assert "text.json: kernel: valid; Python types: event.lane at 'lane'" in said
    assert "color.json: kernel: shape.unknown_field at 'color'; Python types: event.lane at 'lane'" in said
    monkeypatch.undo()
    monkeypatch.setattr(agreement, "_by_schema", lambda *_: frozenset())
    assert run("validate-contracts", root) == 1
    assert "JSON Schema accepts what breaks shape.unknown_field at 'color'" in capsys.readouterr().out
    monkeypatch.setattr(agreement, "_by_schema", lambda *_: frozenset(["lane"]))
    assert run("validate-contracts", root) == 1
    said = capsys.readouterr().out
    assert "text.json: JSON Schema refuses 'lane'" in said
    assert "color.json: kernel: 'color'; JSON Schema: 'lane'" in said


def test_a_drift_of_the_projects_files_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "fixtures"
    shutil.copytree(fixtures.ROOT / "turn_transition", copied / "turn_transition")
    monkeypatch.setattr(fixtures, "ROOT", copied)
    monkeypatch.setattr(fixtures.stale, "__defaults__", (copied,))
    assert run("validate-contracts") == 1
    assert "contracts/fixtures/event_record/valid/text.json: differs" in capsys.readouterr().out


def test_a_root_that_cannot_be_read_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in ("validate-contracts", "validate-contracts-report"):
        assert run(command, tmp_path / "none") == 2
        assert "is no folder\nhint: " in capsys.readouterr().err
        assert run(command, tmp_path) == 2
        assert "holds no fixture\nhint: " in capsys.readouterr().err
        (tmp_path.parent / "file").write_text("", encoding="utf-8")
        assert run(command, tmp_path.parent / "file") == 2
        assert "is no folder\nhint: name a folder" in capsys.readouterr().err
    put(tmp_path, "event_record/valid/text.json", event())
    (tmp_path / "index.json").write_text("[]", encoding="utf-8")
    assert run("validate-contracts", tmp_path) == 2
    assert "index.json cannot be read: it is no index" in capsys.readouterr().err


def test_no_command_and_an_unknown_one_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    assert "validate-stream" in capsys.readouterr().out
    assert run("validate-everything") == 2
    assert capsys.readouterr().err.startswith('error: Unknown command "validate-everything"')


def test_the_report_is_one_file_for_machines_and_one_page_for_people(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    put(root, "event_record/invalid/<b>.json", event())
    output = tmp_path / "new" / "report"
    assert run("validate-contracts-report", root, output) == 1
    assert str(output / "contracts-report.html") in capsys.readouterr().out
    assert sorted(path.name for path in output.iterdir()) == [
        "contracts-report.html",
        "contracts-report.json",
    ]
    report = json.loads((output / "contracts-report.json").read_bytes())
    assert report["passed"] is False
    assert report["summary"]["Failed"] == 1
    page = (output / "contracts-report.html").read_text("utf-8")
    assert "event_record/invalid/&lt;b&gt;.json" in page
    assert "<b>.json" not in page
    assert "failed</span>" in page
    for rule in ("envelope.media_time_one", "stream.cancel_fence"):
        assert rule in page
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_a_report_that_cannot_be_written_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run("validate-contracts-report", root, tmp_path / "file") == 2
    assert "the report cannot be written to" in capsys.readouterr().err


def test_a_sound_recording_passes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(opened().in_turn("commit", "close").text())
    assert run("validate-stream", path) == 0
    assert capsys.readouterr().out == "passed: 9 lines (1 decision, 1 header, 7 signal)\n"
    assert run("validate-stream", path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["passed"], report["lines"], report["faults"]) == (True, 9, [])


def test_the_faults_of_a_recording_are_named_by_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(opened().signal("flow_xon").text())
    assert run("validate-stream", path) == 1
    first, last, summary = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}:8: stream.flow_pairing at event.signal: ")
    assert last == f"{path}: at the end: stream.close at turn_id: turn-3-1 is never closed"
    assert summary.startswith("failed: 2 faults in 8 lines")
    assert run("validate-stream", path, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert [(fault["line"], fault["rule"]) for fault in report["faults"]] == [
        (8, "stream.flow_pairing"),
        (0, "stream.close"),
    ]


def test_a_recording_says_what_its_writer_lost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(Recording().signal("connected").text() + b'{"kind":"gap","records":7}\n')
    assert run("validate-stream", path) == 0
    assert "incomplete: 7 or more records were lost" in capsys.readouterr().out


def test_only_the_first_faults_are_shown_to_people(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_text("[]\n" * 60, encoding="utf-8")
    assert run("validate-stream", path) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == commands.SHOWN_FAULTS + 2
    assert said[-2] == "and 10 more faults"


def test_a_line_without_end_is_refused_and_not_kept_in_memory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(Recording().signal("connected").text() + b'{"kind":"' + b"x" * 5_000_000)
    assert run("validate-stream", path) == 1
    assert ":3: json.size: 2097152 bytes where at most 1048576 are allowed" in capsys.readouterr().out


def test_a_recording_that_cannot_be_read_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    for path, says in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path, "holds no segment"),
        (tmp_path / "empty", "is empty"),
    ):
        assert run("validate-stream", path) == 2
        assert says in capsys.readouterr().err
    assert run("validate-stream") == 2


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_people_at_a_terminal_see_progress_and_colours(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = FakeTerminal(), FakeTerminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert run("validate-contracts", root) == 0
    assert err.getvalue() == "\r1/2 fixtures\r\x1b[K"
    assert "\x1b[32mpassed\x1b[0m" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = FakeTerminal()
    monkeypatch.setattr("sys.stdout", plain)
    assert run("validate-contracts", root) == 0
    assert "\x1b" not in plain.getvalue()
