"""The index finds sessions and turns, is made again from the segments, and misses what was cut off."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rspp._kernel import scan_segment
from rspp.cli.main import run
from rspp.contracts.errors import EvidenceError
from rspp.evidence.audit_http import audit_sink
from rspp.evidence.deletion import DeletionRequest, delete_evidence
from rspp.evidence.index import EvidenceIndex, forget_deleted, refreshed
from rspp.evidence.order import INDEX_FILE
from rspp.evidence.verify import verify
from rspp.evidence.writer import EvidenceWriter
from tests.evidence.recordings import HEADER, folder_of, marks, record
from tests.replay.test_audio import FULL, hold
from tests.session.fakes import FakeCaller, FakeWorld

if TYPE_CHECKING:
    from pathlib import Path


def test_sessions_and_turns_of_a_call_are_found(tmp_path: Path) -> None:
    world = FakeWorld(
        FakeCaller(bursts=(), hang_up_ms=6_000), {}, lambda _: "one two", {"greeting": "hello there"}
    )
    with EvidenceWriter(tmp_path, "acme", fsync="never") as writer:
        recorder = writer.open("call", epoch=1)
        world.timeline = recorder  # type: ignore[assignment]
        world.hold()
        assert recorder.close()
    with closing(EvidenceIndex(tmp_path)) as index:
        assert [one.turns for one in index.sessions("acme")] == [-1]
    with refreshed(tmp_path) as index:
        assert index.refresh() == 0
        (session,) = index.sessions("acme")
        (turn,) = index.turns("acme", "call")
        assert index.sessions("other") == []
        assert index.sessions("acme", since_ms=session.begun_wall_ms + 1) == []
    assert (session.session, session.pipeline, session.stints, session.turns) == ("call", "fake@v1", 1, 1)
    assert (session.ended, session.damaged) == (True, False)
    assert session.last_wall_ms - session.begun_wall_ms >= 5_000
    assert (turn.epoch, turn.turn, turn.outcome, len(turn.plan_hash)) == (1, 1, "commit", 64)
    assert 0 < turn.opened_us < turn.closed_us


def test_it_is_made_again_where_it_is_missing_or_behind_and_forgets_what_is_gone(tmp_path: Path) -> None:
    record(tmp_path, marks(0, 2))
    for path in tmp_path.glob(f"{INDEX_FILE}*"):
        path.unlink()
    with refreshed(tmp_path) as index:
        assert [one.stints for one in index.sessions("default")] == [1]
        record(tmp_path, marks(2, 2), epoch=2)
        assert [one.stints for one in index.sessions("default")] == [2]
        for path in folder_of(tmp_path).iterdir():
            path.unlink()
        assert index.refresh() == 1
        assert index.sessions("default") == []


def test_an_end_that_was_cut_off_the_last_segment_is_missed(tmp_path: Path) -> None:
    folder = record(tmp_path, marks(0, 2), marks(2, 2))
    path = folder / "000001-e000001.segment"
    data = path.read_bytes()
    path.write_bytes(data[: scan_segment(data).blocks[-2][0]])
    (found,) = verify(tmp_path).damage
    assert (found.code, found.path) == ("segment_replaced", str(path))
    record(tmp_path, marks(5, 1), epoch=2)


def test_a_last_segment_that_was_taken_away_is_missed(tmp_path: Path) -> None:
    record(tmp_path, marks(0, 2))
    folder = record(tmp_path, marks(2, 2), epoch=2)
    assert verify(tmp_path).damage == []
    (folder / "000002-e000002.segment").unlink()
    assert [one.code for one in verify(tmp_path).damage] == ["segment_missing"]


def test_taking_in_what_was_cut_does_not_make_the_cut_forgotten(tmp_path: Path) -> None:
    folder = record(tmp_path, marks(0, 2), marks(2, 2))
    record(tmp_path, marks(4, 2), epoch=2)
    first, last = sorted(folder.iterdir())
    data = last.read_bytes()
    last.write_bytes(data[: scan_segment(data).blocks[-2][0]])
    with refreshed(tmp_path) as index:
        assert index.sessions("default")[0].damaged
    assert [(one.code, one.path) for one in verify(tmp_path).damage] == [("segment_replaced", str(last))]
    last.unlink()
    with refreshed(tmp_path) as index:
        assert index.sessions("default")[0].damaged
    assert [(one.code, one.path) for one in verify(tmp_path).damage] == [("segment_missing", str(last))]
    assert first.is_file()


@pytest.mark.parametrize("damage", ["pages", "beginning", "end"])
def test_a_damaged_index_is_made_again_and_hinders_nothing(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil() -> None:
        data = path.read_bytes()
        wrong = {
            "pages": data[:4096] + bytes(byte ^ 0x5A for byte in data[4096:]),
            "beginning": b"no database" + data[11:],
            "end": data[:6000],
        }
        path.write_bytes(wrong[damage])

    record(tmp_path, marks(0, 2))
    path = tmp_path / INDEX_FILE
    for action in ("list", "verify", "delete"):
        with refreshed(tmp_path):
            pass
        spoil()
        capsys.readouterr()
        if action == "list":
            assert run(["evidence", "list", "--evidence", str(tmp_path)]) == 0
            shown = capsys.readouterr()
            assert "call" in shown.out
            assert "damaged and made again" in shown.out + shown.err
        elif action == "verify":
            assert run(["verify-evidence", str(tmp_path)]) == 0
            shown = capsys.readouterr()
            assert "ends that were cut off cannot be found" in shown.out + shown.err
        else:
            request = DeletionRequest(
                tenant_id="default",
                mode="hard_delete",
                requested_by="ines",
                requested_at_ms=1,
                session_id="call",
            )
            assert delete_evidence(tmp_path, request, audit_sink(tmp_path, {})).kept == []
            assert not path.exists()


def test_a_deletion_that_finds_the_index_in_use_is_done_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rspp.evidence.index.BUSY_MS", 1)
    record(tmp_path, marks(0, 2))
    request = DeletionRequest(
        tenant_id="default", mode="hard_delete", requested_by="ines", requested_at_ms=1, session_id="call"
    )
    with closing(sqlite3.connect(tmp_path / INDEX_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert delete_evidence(tmp_path, request, audit_sink(tmp_path, {})).kept == [INDEX_FILE]
    assert not folder_of(tmp_path).exists()
    with refreshed(tmp_path) as index:
        assert index.sessions("default") == []


def test_what_was_forgotten_is_in_no_byte_of_the_index(tmp_path: Path) -> None:
    with EvidenceWriter(tmp_path, fsync="never") as writer:
        for name in [f"call-{number}" for number in range(30)]:
            with writer.open(name, epoch=1) as recorder:
                recorder.begin(HEADER | {"session_id": name})
                recorder.write(b"", marks(1, 3))
    with refreshed(tmp_path) as index:
        shutil.rmtree(tmp_path / "default" / "call-17")
        forget_deleted(tmp_path)
        left = b"".join(path.read_bytes() for path in tmp_path.glob(f"{INDEX_FILE}*"))
        assert len(index.sessions("default")) == 29
    assert b"call-17" not in left
    assert b"call-18" in left


def test_a_file_that_is_no_index_costs_nothing_but_the_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / INDEX_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(EvidenceError, match="cannot be used"):
        EvidenceIndex(tmp_path)
    with EvidenceWriter(tmp_path) as writer:
        recorder = writer.open("call", epoch=1)
        recorder.begin(dict(HEADER))
        recorder.write(b"", marks(0, 2))
        assert recorder.close()
    assert "the index was not kept" in capsys.readouterr().out


def test_the_index_forgets_what_was_deleted_and_what_expired(tmp_path: Path) -> None:
    with EvidenceWriter(tmp_path, "acme", fsync="never") as writer:
        for name in ("one", "two", "three"):
            with writer.open(name, epoch=1) as recorder:
                recorder.begin(HEADER | {"session_id": name})
                recorder.write(b"", marks(1, 3))
    with refreshed(tmp_path) as index:
        assert {row.session for row in index.sessions("acme")} == {"one", "two", "three"}
    shutil.rmtree(tmp_path / "acme" / "two")
    forget_deleted(tmp_path)
    with closing(EvidenceIndex(tmp_path)) as index:
        assert {row.session for row in index.sessions("acme")} == {"one", "three"}
        assert index.turns("acme", "two") == []
    forget_deleted(tmp_path / "acme")  # A folder without an index is none of its business.


@pytest.mark.parametrize("width", [50, 60, 79, 80, 120])
def test_the_list_fits_its_terminal_and_cuts_no_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    record(tmp_path, marks(0, 1))
    assert run(["evidence", "list", "--evidence", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    shown = "\n".join(lines)
    assert "call" in shown
    assert re.search(r"│ \d{4}-\d\d-\d\d +│", shown)
    assert "ended" in shown


def test_sessions_and_turns_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold(tmp_path, FULL)
    capsys.readouterr()
    where = ["evidence", "list", "--evidence", str(tmp_path), "--tenant", "acme"]
    assert run([*where, "--json"]) == 0
    (session,) = json.loads(capsys.readouterr().out)["sessions"]
    assert (session["session"], session["turns"], session["ended"]) == ("fake", 2, True)
    assert run([*where, "--reason", "cancelled", "--json"]) == 0
    (session,) = json.loads(capsys.readouterr().out)["sessions"]
    assert [(turn["turn"], turn["outcome"]) for turn in session["listed"]] == [(1, "abort")]
    assert run(where) == 0
    assert "fake@v1" in capsys.readouterr().out
    assert run([*where, "--session", "fake"]) == 0
    assert "cancelled" in capsys.readouterr().out
    assert run([*where, "--reason", "none"]) == 0
    assert "nothing recorded" in capsys.readouterr().out
    request = DeletionRequest(
        tenant_id="acme", mode="hard_delete", requested_by="ada", requested_at_ms=1, session_id="fake"
    )
    delete_evidence(tmp_path, request, audit_sink(tmp_path))
    with closing(EvidenceIndex(tmp_path)) as index:
        assert index.sessions("acme") == []
