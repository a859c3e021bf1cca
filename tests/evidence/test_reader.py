"""Recordings that went wrong: nothing false is read, and each damage is named with its place."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp._kernel import DAMAGE_CODES, SegmentChain, scan_segment
from rspp.cli.main import run
from rspp.contracts.errors import EvidenceError
from rspp.evidence import segment_file
from rspp.evidence.damage import MEANING
from rspp.evidence.following import Follower
from rspp.evidence.index import refreshed
from rspp.evidence.order import INDEX_FILE
from rspp.evidence.reader import Recording, open_recording
from rspp.evidence.segment import HEADER, RECORDS, header_body, read_header, records_body
from rspp.evidence.verify import verify
from rspp.evidence.writer import EvidenceWriter
from rspp.tooling.call_page.page import call_page
from rspp.tooling.call_page.source import model_of
from tests.evidence import recordings
from tests.evidence.recordings import folder_of, marks, opened, record, values

if TYPE_CHECKING:
    from pathlib import Path


def codes(recording: Recording) -> list[str]:
    return [damage.code for damage in recording.damage]


def two_stints(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three segments of a first stint and one of a second."""
    monkeypatch.setattr(segment_file, "ROTATE_BYTES", 500)
    record(root, *[marks(number * 20, 20) for number in range(6)])
    record(root, marks(120, 5), epoch=2)
    return folder_of(root)


def test_every_damage_has_a_meaning() -> None:
    assert sorted(MEANING) == sorted(DAMAGE_CODES)


def test_a_cut_at_any_byte_keeps_what_is_before_it(tmp_path: Path) -> None:
    folder = record(tmp_path, marks(0, 3), marks(3, 2), marks(5, 4))
    path = folder / "000001-e000001.segment"
    whole = path.read_bytes()
    ends = [end for _, kind, _, end, _ in scan_segment(whole).blocks if kind == RECORDS]
    kept_at = {0: 0, 1: 3, 2: 5, 3: 9}
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        recording = opened(tmp_path)
        assert values(recording) == list(range(kept_at[sum(place <= end for place in ends)])), end
        assert set(codes(recording)) <= {"torn", "malformed_records"}
        assert not recording.complete


def test_an_edit_of_any_byte_is_found_and_nothing_false_is_read(tmp_path: Path) -> None:
    folder = record(tmp_path, marks(0, 3), marks(3, 2))
    path = folder / "000001-e000001.segment"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        recording = opened(tmp_path)
        assert recording.damage, place
        assert set(values(recording)) <= set(range(5)), place
        assert not recording.complete


def test_damage_is_a_gap_where_it_lies_and_a_replay_stops_before_it(tmp_path: Path) -> None:
    folder = record(tmp_path, marks(0, 2), marks(2, 2), marks(4, 2))
    path = folder / "000001-e000001.segment"
    data = bytearray(path.read_bytes())
    block = scan_segment(bytes(data)).blocks[2]
    data[block[2] + 3] ^= 1
    path.write_bytes(data)
    recording = opened(tmp_path)
    damage = recording.damage[0]
    assert (damage.code, damage.file, damage.offset, damage.block) == (
        "checksum_mismatch",
        path.name,
        block[0],
        2,
    )
    assert f"byte {block[0]}, block 2" in str(damage)
    shown = [one.get("value", one.get("damage")) for one in recording.records() if one["kind"] != "header"]
    assert shown == [0, 1, "checksum_mismatch", 4, 5]


def test_a_segment_that_is_taken_away_or_exchanged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = two_stints(tmp_path / "a", monkeypatch)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) >= 4
    assert opened(tmp_path / "a").damage == []
    copy = tmp_path / "b" / "default" / "call"
    for taken in range(len(names)):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        shutil.copytree(folder, copy)
        (copy / names[taken]).unlink()
        last = taken == len(names) - 1
        # A whole stint at the end leaves no trace in the files before it.
        assert codes(opened(tmp_path / "b")) == ([] if last else codes_of_missing(taken, names)), taken
    other = two_stints(tmp_path / "c", monkeypatch)
    shutil.rmtree(tmp_path / "b")
    shutil.copytree(folder, copy)
    shutil.copyfile(other / names[1], copy / names[1])
    assert "segment_replaced" in codes(opened(tmp_path / "b"))


def recorded_as(root: Path, session: str, first: int, tenant: str = "default") -> Path:
    """Record a session of three marks; returns its only segment."""
    with EvidenceWriter(root, tenant, fsync="never") as writer:
        recorder = writer.open(session, epoch=1)
        recorder.begin(dict(recordings.HEADER))
        recorder.write(b"", marks(first, 3))
        assert recorder.close()
    return root / tenant / session / "000001-e000001.segment"


@pytest.mark.parametrize("tenant", ["default", "other"])
def test_a_segment_of_another_session_is_named_and_nothing_of_it_is_read(tenant: str, tmp_path: Path) -> None:
    own, other = recorded_as(tmp_path, "call", 0), recorded_as(tmp_path, "stranger", 50, tenant)
    shutil.copyfile(other, own.with_name("000002-e000002.segment"))
    recording = opened(tmp_path)
    assert [(one.code, one.file, one.offset) for one in recording.damage] == [
        ("segment_replaced", "000002-e000002.segment", 0)
    ]
    assert f"stranger of tenant {tenant}" in recording.damage[0].message
    assert (values(recording), recording.session_id, recording.complete) == ([0, 1, 2], "call", False)


def test_an_own_segment_that_was_copied_behind_the_last_is_named_and_read_once(tmp_path: Path) -> None:
    own = recorded_as(tmp_path, "call", 0)
    shutil.copyfile(own, own.with_name("000002-e000001.segment"))
    recording = opened(tmp_path)
    assert [(one.code, one.file) for one in recording.damage] == [
        ("segment_replaced", "000002-e000001.segment")
    ]
    assert values(recording) == [0, 1, 2]


def test_a_stint_that_follows_nothing_cannot_stand_behind_another(tmp_path: Path) -> None:
    kept = recorded_as(tmp_path / "a", "call", 0)
    shutil.copyfile(recorded_as(tmp_path / "b", "call", 50), kept.with_name("000002-e000002.segment"))
    assert codes(opened(tmp_path / "a")) == ["segment_replaced"]


def test_a_segment_that_was_moved_to_another_number_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = two_stints(tmp_path, monkeypatch)
    (folder / "000001-e000001.segment").unlink()
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"{int(path.name[:6]) - 1:06d}{path.name[6:]}")
    assert set(codes(opened(tmp_path))) == {"segment_replaced"}


def test_two_sessions_that_were_exchanged_are_named_without_an_index(tmp_path: Path) -> None:
    own, other = recorded_as(tmp_path, "call", 0), recorded_as(tmp_path, "stranger", 50)
    passing = tmp_path / "passing"
    own.rename(passing)
    other.rename(own)
    passing.rename(other)
    for path in tmp_path.glob(f"{INDEX_FILE}*"):
        path.unlink()
    found = verify(tmp_path)
    assert [(one.code, one.path) for one in found.damage] == [
        ("segment_replaced", str(own)),
        ("segment_replaced", str(other)),
    ]
    assert all(session.damaged for session in found.sessions)
    # A copy may have any name.
    shutil.copytree(own.parent, tmp_path / "copies" / "of a call")
    assert verify(tmp_path / "copies").damage == []


FORGED: list[dict[str, Any]] = [
    {"session_id": 1},
    {"tenant": ["default"]},
    {"stint": {"a": 1}},
    {"stint": 1 << 70},
    {"epoch": "one"},
    {"epoch": 1 << 70},
    {"epoch": True},
    {"created_us": None},
    {"created_wall_ms": -1},
    {"segment": 1.5},
    {"previous": [1]},
    {"previous": {"link": "00" * 16}},
    {"previous": {"link": "00" * 16, "file": "000001-e000001.segment"}},
    {"previous": {"link": 5, "file": "000001-e000001.segment", "blocks": 1}},
]


@pytest.mark.parametrize("forged", FORGED, ids=str)
def test_a_forged_header_is_no_header(forged: dict[str, Any], tmp_path: Path) -> None:
    path = record(tmp_path, marks(0, 2)) / "000001-e000001.segment"
    data = path.read_bytes()
    body = scan_segment(data).blocks[0]
    header = read_header(data[body[2] : body[3]]) | forged
    chain = SegmentChain(bytes(16))
    path.write_bytes(
        data[:8]
        + chain.frame(HEADER, header_body(header))
        + chain.frame(RECORDS, records_body(b"", marks(0, 2)))
    )
    assert "malformed_records" in [one.code for one in verify(tmp_path, content=True).damage]
    with refreshed(tmp_path) as index:
        assert index.sessions("default")[0].damaged


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "transition"},
        {"kind": "signal", "event": 3, "turn": 1},
        {"kind": "signal", "event": {"turn_id": "turn-1-" + "9" * 5000}},
        {"kind": "signal", "event": {"turn_id": "turn-1-\u0663"}},
        {"kind": "marker", "turn": {}, "plan_hash": 5, "value": 7},
        {"kind": "gap", "records": "many"},
    ],
    ids=str,
)
def test_records_that_say_something_odd_break_nothing_that_reads_them(
    content: dict[str, Any], tmp_path: Path
) -> None:
    opening = b'{"kind":"transition","to":"Active","turn":1,"at_us":1000}'
    record(tmp_path, [opening, *marks(0, 1), msgspec.json.encode(content), *marks(1, 1)])
    recording = opened(tmp_path)
    assert [value for value in values(recording) if value != 7] == [0, 1]
    assert verify(tmp_path, content=True).damage == []
    assert "</html>" in call_page(model_of(recording))
    with refreshed(tmp_path) as index:
        assert [row.turns for row in index.sessions("default")] == [1]


def codes_of_missing(taken: int, names: list[str]) -> list[str]:
    stint_ends = taken == len(names) - 2
    # The last one of a stint is missed twice: by its number and by the seal of the one before it.
    return ["segment_missing"] * (2 if stint_ends else 1)


def test_an_end_that_was_cut_off_is_missed_by_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = two_stints(tmp_path, monkeypatch)
    path = folder / "000001-e000001.segment"
    data = path.read_bytes()
    last = scan_segment(data).blocks[-1]
    path.write_bytes(data[: last[0]])
    found = opened(tmp_path).damage
    assert [(damage.code, damage.file, damage.offset) for damage in found] == [
        ("segment_replaced", path.name, last[0])
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no deflate",
        records_body(b"", [b"[1]"]),
        records_body(b"", [b'{"kind":1}']),
        records_body(b"", [b'{"kind":"x","at_us":"now"}']),
        records_body(b"", [b'{"kind":"x","at_us":null}']),
        records_body(b"", [b'{"kind":"x","at_us":9007199254740993}']),
        records_body(b"", [b'{"kind":"x","at_us":5,"wall_ms":1.5}']),
        records_body(b"", [b"{" * 500]),
        records_body(b"\x01\x02\x03 no records", []),
        records_body(b"", [b'{"kind":"x","text":"' + b"x" * (17 * 1024 * 1024) + b'"}']),
        records_body(b"", marks(0, 1)) + b"more",
        records_body(b"", marks(0, 1))[:-4],
    ],
    ids=[
        "empty",
        "noise",
        "list",
        "kind",
        "word",
        "null",
        "large",
        "wall",
        "nested",
        "kernel",
        "bomb",
        "tail",
        "short",
    ],
)
def test_content_that_cannot_be_read_is_named_and_passed_over(body: bytes, tmp_path: Path) -> None:
    folder = record(tmp_path, marks(0, 2))
    path = folder / "000001-e000001.segment"
    data = path.read_bytes()
    scan = scan_segment(data)
    header, seal = scan.blocks[0], scan.blocks[-1]
    chain = SegmentChain(bytes(16))
    out = data[:8] + chain.frame(HEADER, data[header[2] : header[3]]) + chain.frame(RECORDS, body)
    out += chain.frame(RECORDS, records_body(b"", marks(7, 1)))
    path.write_bytes(out + chain.frame(3, data[seal[2] : seal[3]]))
    recording = opened(tmp_path)
    assert [(one.code, one.block) for one in recording.damage] == [("malformed_records", 1)]
    assert values(recording) == [7]


@pytest.mark.parametrize(
    "header",
    [
        b"x",
        header_body({}),
        header_body({"format": 2}),
        header_body({"format": 1, "previous": {"link": "zz"}}),
    ],
)
def test_a_header_that_says_nothing_is_named(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "000001-e000001.segment"
    chain = SegmentChain(bytes(16))
    path.write_bytes(
        b"RSPPSEG1" + chain.frame(HEADER, header) + chain.frame(RECORDS, records_body(b"", marks(0, 1)))
    )
    recording = open_recording(tmp_path)
    assert codes(recording) == ["malformed_records"]
    assert values(recording) == [0]


def test_records_of_one_turn_are_picked_out(tmp_path: Path) -> None:
    record(tmp_path, [*marks(0, 2), b'{"kind":"latency","turn":2,"name":"n","value_us":1,"at_us":5}'])
    assert [one["kind"] for one in opened(tmp_path).records(turn=2)] == ["latency"]
    assert len(list(opened(tmp_path).records(turn=1))) == 2


def test_old_timelines_are_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(b"\n".join(marks(0, 3)) + b"\n")
    recording = open_recording(path)
    assert (values(recording), recording.stints, recording.damage) == ([0, 1, 2], [], [])
    with pytest.raises(EvidenceError, match="cannot be read"):
        open_recording(tmp_path / "none")


def test_a_follower_sees_each_record_once_over_segments_and_stints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(folder_of(tmp_path))
    assert follower.read() == []
    two_stints(tmp_path, monkeypatch)
    assert follower.read() == list(opened(tmp_path).records())
    assert follower.read() == []
    record(tmp_path, marks(200, 2), epoch=3)
    assert [one["kind"] for one in follower.read()] == ["header", "marker", "marker"]


# ------------------------------------------------------------------------------------ the command
def test_the_command_says_whole_or_names_each_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = record(tmp_path, marks(0, 2), marks(2, 2))
    path = folder / "000001-e000001.segment"
    for place in (tmp_path, tmp_path / "default", folder, path):
        assert run(["verify-evidence", str(place)]) == 0
        assert "whole" in capsys.readouterr().out
    data = bytearray(path.read_bytes())
    block = scan_segment(bytes(data)).blocks[1]
    data[block[2]] ^= 1
    path.write_bytes(data)
    assert run(["verify-evidence", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"{path}: byte {block[0]}, block 1: checksum_mismatch" in said
    assert "2 records can be read" in said
    assert run(["verify-evidence", str(tmp_path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["whole"], document["damage"][0]["offset"]) == (False, block[0])
    assert document["sessions"][0]["records"] == 2


def test_the_command_refuses_what_holds_no_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("no segment", "utf-8")
    for place in (tmp_path, tmp_path / "none", lines):
        assert run(["verify-evidence", str(place)]) == 2
        assert "hint:" in capsys.readouterr().err
