"""The timeline on disk: it never makes a call wait, keeps whole lines, and says what it could not keep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence import timeline
from rspp.evidence.timeline import TimelineWriter, read_timeline

ROOT = Path(__file__).parents[2]


def records(first: int, count: int) -> list[bytes]:
    return [b'{"kind":"marker","value":%d}' % number for number in range(first, first + count)]


def values(path: Path) -> list[int]:
    return [record["value"] for record in read_timeline(path) if record["kind"] == "marker"]


class FakeHungDisk:
    """Stands for a disk that answers no write until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self._write = os.write
        monkeypatch.setattr("rspp.evidence.timeline.os.write", self)

    def __call__(self, file: int, content: bytes) -> int:
        self.reached.set()
        assert self.go.wait(20)
        return self._write(file, content)


def test_records_arrive_in_order_and_close_waits_for_them(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    writer = TimelineWriter(path)
    for number in range(0, 1000, 10):
        writer.write(records(number, 10))
    writer.write([])
    assert writer.close()
    assert writer.close()
    assert values(path) == list(range(1000))
    assert path.stat().st_mode & 0o777 == 0o600


def test_records_reach_the_file_without_a_close(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    writer = TimelineWriter(path)
    try:
        started = time.monotonic()
        writer.write(records(0, 3))
        while path.stat().st_size < 80 and time.monotonic() < started + 10:
            threading.Event().wait(0.005)
        assert values(path) == [0, 1, 2]
        assert time.monotonic() - started < 5
    finally:
        writer.close()


def test_a_hung_disk_neither_delays_the_caller_nor_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "timeline.jsonl"
    disk = FakeHungDisk(monkeypatch)
    writer = TimelineWriter(path)
    writer.write(records(0, 1))
    assert disk.reached.wait(20)
    batch = records(1, 4096)
    started = time.monotonic()
    for _ in range(20):
        writer.write(batch)
    assert time.monotonic() - started < 5
    assert writer.waiting == 16 * 4096 == timeline.MAX_RECORDS
    assert writer.dropped == 4 * 4096
    assert not writer.close(timeout=0.01)
    disk.go.set()
    assert not writer.close(timeout=20)
    kinds = list(read_timeline(path))
    assert len(kinds) == 1 + 16 * 4096 + 1
    assert {name: kinds[-1][name] for name in ("kind", "records")} == {"kind": "gap", "records": 4 * 4096}
    assert kinds[-1]["wall_ms"] > 0


def test_large_records_are_bounded_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeHungDisk(monkeypatch)
    writer = TimelineWriter(tmp_path / "timeline.jsonl")
    writer.write(records(0, 1))
    assert disk.reached.wait(20)
    megabyte = [b'"' + b"x" * (1024 * 1024 - 3) + b'"']
    for _ in range(20):
        writer.write(megabyte)
    assert (writer.waiting, writer.dropped) == (16, 4)
    disk.go.set()
    writer.close(timeout=20)


def test_the_gap_stands_where_the_records_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rspp.evidence.timeline.MAX_RECORDS", 4)
    path = tmp_path / "timeline.jsonl"
    disk = FakeHungDisk(monkeypatch)
    writer = TimelineWriter(path)
    writer.write(records(0, 2))
    assert disk.reached.wait(20)
    writer.write(records(2, 2))
    writer.write(records(4, 3))
    writer.write(records(7, 2))
    disk.go.set()
    writer.close(timeout=20)
    shown = [record.get("value", record.get("records")) for record in read_timeline(path)]
    assert shown == [0, 1, 2, 3, 3, 7, 8]
    kinds = [record["kind"] for record in read_timeline(path)]
    assert kinds == ["marker"] * 4 + ["gap"] + ["marker"] * 2


def test_a_full_disk_is_counted_and_the_file_keeps_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "timeline.jsonl"
    write = os.write
    room = [40]
    refused = threading.Event()

    def full(file: int, content: bytes) -> int:
        if not room[0]:
            refused.set()
            raise OSError(28, "No space left on device")
        taken = write(file, content[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr("rspp.evidence.timeline.os.write", full)
    writer = TimelineWriter(path)
    writer.write(records(0, 3))
    assert refused.wait(20)
    while not writer.failure:
        threading.Event().wait(0.005)
    assert path.read_bytes() == records(0, 1)[0] + b"\n"
    assert writer.dropped == 2
    room[0] = 10_000
    writer.write(records(3, 1))
    assert not writer.close(timeout=20)
    assert writer.failure == ""
    assert [record.get("value", record.get("records")) for record in read_timeline(path)] == [0, 2, 3]


def test_a_gap_that_is_lost_itself_is_not_forgotten() -> None:
    writer = TimelineWriter(Path("/dev/full"))
    writer.write(records(0, 5))
    while not writer.failure:
        threading.Event().wait(0.005)
    writer.write(records(5, 1))
    assert not writer.close(timeout=20)
    assert writer.dropped == 6
    assert writer._missing == 6


def test_after_close_records_are_counted_as_dropped(tmp_path: Path) -> None:
    writer = TimelineWriter(tmp_path / "timeline.jsonl")
    writer.close()
    writer.write(records(0, 2))
    assert writer.dropped == 2
    assert values(tmp_path / "timeline.jsonl") == []


KILLED = """
import select
import sys
from pathlib import Path
from rspp.evidence.timeline import TimelineWriter
writer = TimelineWriter(Path(sys.argv[1]))
number = 0
while True:
    writer.write([b'{"kind":"marker","value":%d}' % value for value in range(number, number + 50)])
    number += 50
    if number == 1000:
        print("running", flush=True)
    select.select([], [], [], 0.0005)
"""


@pytest.mark.conformance("G-03")
def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        deadline = time.monotonic() + 20
        while path.stat().st_size < 10_000 and time.monotonic() < deadline:
            threading.Event().wait(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    kept = values(path)
    assert len(kept) >= 300
    assert kept == list(range(len(kept)))


@pytest.mark.conformance("G-03")
def test_a_torn_last_line_is_passed_over_and_a_successor_goes_on_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(b'{"kind":"marker","value":1}\n{"kind":"mar')
    assert values(path) == [1]
    writer = TimelineWriter(path)
    writer.write(records(2, 1))
    assert writer.close()
    found = list(read_timeline(path))
    assert [record["kind"] for record in found] == ["marker", "gap", "marker"]
    assert (found[1]["records"], found[1]["torn"]) == (1, True)


@pytest.mark.parametrize(
    "content",
    [
        b'{"kind":"mar\n{"kind":"marker","value":1}\n',
        b"[1]\n",
        b"\n{}\n",
        b"\xff\xfe\n{}\n",
        b"[" * 90_000 + b"\n",
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(b"{}\n" + content)
    with pytest.raises(EvidenceError, match=r"timeline\.jsonl:2: not a timeline record"):
        list(read_timeline(path))


def test_a_missing_file_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="No such file"):
        list(read_timeline(tmp_path / "none.jsonl"))


def test_a_place_that_cannot_be_written_is_told_before_the_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cases = {
        tmp_path / "none" / "timeline.jsonl": "does not exist",
        tmp_path: "Is a directory",
        tmp_path / "file" / "timeline.jsonl": "Not a directory",
        tmp_path / "nul\0": "null byte",
    }
    for path, words in cases.items():
        with pytest.raises(ConfigurationError, match=words) as caught:
            TimelineWriter(path)
        assert caught.value.hint


def test_what_is_written_is_what_was_given(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    given = [json.dumps({"kind": "transcript", "text": "a “quoted” line\nand another"}).encode()]
    writer = TimelineWriter(path)
    writer.write(given)
    writer.close()
    assert path.read_bytes() == given[0] + b"\n"
