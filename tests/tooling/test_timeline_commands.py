"""``rspp-cli timeline`` and ``report``: what is printed, written and refused."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from rspp.cli.main import run
from rspp.tooling.call_page import room
from rspp.tooling.call_page.builder import build_call
from rspp.tooling.call_page.document import call_document
from rspp.tooling.timeline_view import NARROW, show_call, shown_document
from tests.tooling.pages import Page, at, check_alone, header, takeover_call, turn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "timeline.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in takeover_call()), "utf-8")
    return path


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_the_view_fits_its_terminal_and_is_plain_without_colours(width: int) -> None:
    out = io.StringIO()
    show_call(
        Console(file=out, width=width, no_color=True, highlight=False, markup=False),
        build_call(takeover_call()),
    )
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in out.getvalue()
    text = " ".join(out.getvalue().split())
    assert "turn-2-1" in text
    assert "not kept at this level" in text
    assert "barge-in" in text
    if width < NARROW:
        said = [line for line in lines if line.lstrip().startswith(("agent: ", "caller: "))]
        assert said
        assert all(line.startswith("  ") for line in said)


def test_no_escape_sequence_of_a_caller_reaches_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e[red]x[/]"
    records = [header(session=evil), *turn(1, 1_000, 2_000, "abort", evil)]
    words = {"kind": "transcript", "party": "caller", "turn": 1, "text": evil, "words": 1, "final": True}
    edge = {"kind": "signal", "event": {"signal": evil, "edge_id": evil, "turn_id": evil}} | at(1_500)
    for width in (60, 100):
        out = io.StringIO()
        console = Console(file=out, width=width, no_color=True, markup=False)
        show_call(console, build_call([*records, words, edge]))
        assert not {"\x1b", "\x07", "\u202e"} & set(out.getvalue())
        assert "[red]x[/]" in out.getvalue()


def test_show_narrows_down_to_a_turn_and_a_stretch_of_time(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["timeline", "show", str(recording), "--turn", "2"]) == 0
    shown = capsys.readouterr().out
    assert "turn-1-2" in shown
    assert "turn-1-1" not in shown
    assert run(["timeline", "show", str(recording), "--from", "900", "--to", "1100", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["records"]
    assert all(900_000 <= entry["at_us"] <= 1_100_000 for entry in document["records"])


def test_the_commands_data_has_every_turn_and_the_pages_no_more_records_than_it_has_room_for(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = room.MAX_TURNS + 1
    lines = [header(), *(record for number in range(1, count + 1) for record in turn(number, number, 0))]
    model = build_call(lines)
    assert len(shown_document(model, [])["turns"]) == count
    assert len(call_document(model)["turns"]) == count - 1
    monkeypatch.setattr(room, "MAX_RECORDS", 10)
    assert run(["report", str(recording), "--json", "--no-check-replay"]) == 0
    assert len(json.loads(capsys.readouterr().out)["records"]) == 10


@pytest.mark.parametrize(
    "arguments",
    [["--turn", "9"], ["--from", "-1"], ["--from", "5", "--to", "4"], ["--turn", "x"]],
)
def test_show_refuses_what_is_not_there(
    recording: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["timeline", "show", str(recording), *arguments]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert "hint: " in told.err
    assert not told.out


def test_export_writes_each_format(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["timeline", "export", str(recording)]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == takeover_call()
    for name, key in (("otlp", "resourceSpans"), ("perfetto", "traceEvents")):
        out = tmp_path / "new" / f"{name}.json"
        assert run(["timeline", "export", str(recording), "--format", name, "--out", str(out)]) == 0
        assert key in json.loads(out.read_text("utf-8"))
        assert capsys.readouterr().out == ""


def test_report_writes_the_page_or_its_data(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert run(["report", str(recording), "--out", str(out)]) == 0
    check_alone(Page(out.read_text("utf-8")))
    capsys.readouterr()
    assert run(["report", str(recording), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Page(out.read_text("utf-8")).data


def test_what_cannot_be_read_or_written_is_said(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(tmp_path / "nowhere")]) == 2
    assert run(["report", str(recording), "--out", str(recording / "page.html")]) == 2
    assert run(["report", str(recording), "--purpose", "debug"]) == 2
    assert run(["timeline", "export", str(recording), "--out", str(recording / "x")]) == 2
    assert run(["timeline", "show", str(recording), "--from", "-4"]) == 2
    (tmp_path / "empty").write_bytes(b"")
    assert run(["timeline", "show", str(tmp_path / "empty")]) == 2
    said = capsys.readouterr().err
    assert said.count("hint: ") == 6
    assert "the file is empty" in said
    assert "None" not in said


def test_an_export_that_breaks_off_leaves_the_file_that_was_there(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "calls" / "call.jsonl"
    assert run(["timeline", "export", str(recording), "--out", str(out)]) == 0
    before = out.read_bytes()
    recording.write_text("no record\n" + recording.read_text("utf-8"), "utf-8")
    assert run(["timeline", "export", str(recording), "--out", str(out)]) == 2
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_words_are_counted_as_people_count() -> None:
    out = io.StringIO()
    said = {"kind": "transcript", "turn": 1, "party": "agent", "text": "", "final": True}
    for number, words in enumerate((0, 1), 1):
        records = [header(), *turn(1, 1_000, 2_000, "commit", ""), said | {"words": words} | at(1_500)]
        show_call(Console(file=out, width=100 * number, no_color=True), build_call(records))
    shown = " ".join(out.getvalue().split())
    assert "agent: nothing was heard" in shown
    assert "agent: 1 word, not kept" in shown
