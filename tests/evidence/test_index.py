"""The index finds sessions and turns, is made again from the segments, and misses what was cut off."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rspp._kernel import scan_segment
from rspp.cli.main import run
from rspp.contracts.errors import EvidenceError
from rspp.evidence.audit_http import audit_sink
from rspp.evidence.deletion import DeletionRequest, delete_evidence
from rspp.evidence.index import INDEX_FILE, EvidenceIndex, forget_deleted, refreshed
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
    assert run([*where, "--outcome", "none"]) == 0
    assert "nothing recorded" in capsys.readouterr().out
    request = DeletionRequest(
        tenant_id="acme", mode="hard_delete", requested_by="ada", requested_at_ms=1, session_id="fake"
    )
    delete_evidence(tmp_path, request, audit_sink(tmp_path))
    with closing(EvidenceIndex(tmp_path)) as index:
        assert index.sessions("acme") == []
