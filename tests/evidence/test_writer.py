"""Stage B on disk: it never makes a call wait, keeps whole blocks, and says what it could not keep."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence import segment_file, writer
from rspp.evidence.reader import open_recording
from rspp.evidence.writer import EvidenceWriter
from tests.evidence.recordings import HEADER, begin, folder_of, marks, opened, record, values
from tests.waits import no_wait

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
LIMIT_S = 20


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


class FakeDisk:
    """Stands for a disk that refuses, or answers no write until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.reached = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.writes = 0
        self._write = os.write
        monkeypatch.setattr("rspp.evidence.segment_file.os.write", self)

    def __call__(self, file: int, content: bytes) -> int:
        self.writes += 1
        self.reached.set()
        assert self.go.wait(LIMIT_S)
        if self.room is None:
            return self._write(file, content)
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = self._write(file, content[: self.room])
        self.room -= taken
        return taken


def test_records_arrive_in_order_and_close_waits_for_them(tmp_path: Path) -> None:
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        for number in range(0, 1000, 10):
            recorder.write(b"", marks(number, 10))
        recorder.write(b"", [])
        assert recorder.close()
        assert recorder.close()
    recording = opened(tmp_path)
    assert values(recording) == list(range(1000))
    assert (recording.damage, recording.complete) == ([], True)
    path = folder_of(tmp_path) / "000001-e000001.segment"
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder_of(tmp_path).stat().st_mode & 0o777 == 0o700


def test_the_header_keeps_what_the_kernel_was_made_from(tmp_path: Path) -> None:
    record(tmp_path, marks(0, 1))
    header = opened(tmp_path).stints[0].header
    assert {name: header[name] for name in HEADER} == HEADER
    told = {name: header[name] for name in ("format", "tenant", "session_id", "segment", "epoch", "level")}
    assert told == {
        "format": 1,
        "tenant": "default",
        "session_id": "call",
        "segment": 1,
        "epoch": 1,
        "level": "L0",
    }
    assert (header["previous"], header["resumed"], header["fsync"]) == (None, False, "never")


def test_records_reach_the_file_without_a_close(tmp_path: Path) -> None:
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 3))
        until(lambda: recorder.waiting == 0)
        recording = opened(tmp_path)
        assert values(recording) == [0, 1, 2]
        assert (recording.damage, recording.complete) == ([], False)


def test_a_takeover_names_the_end_of_the_segment_before(tmp_path: Path) -> None:
    record(tmp_path, marks(0, 2))
    record(tmp_path, marks(2, 2), epoch=2)
    names = sorted(path.name for path in folder_of(tmp_path).iterdir())
    assert names == ["000001-e000001.segment", "000002-e000002.segment"]
    recording = opened(tmp_path)
    first, second = recording.stints
    previous = second.header["previous"]
    assert previous == {"file": names[0], "blocks": 3, "link": first.segments[0].link}
    assert second.header["resumed"] is True
    assert (values(recording), recording.damage, recording.complete) == ([0, 1, 2, 3], [], True)
    assert [one["kind"] for one in recording.records()] == ["header", *["marker"] * 2] * 2


def test_a_long_call_goes_on_in_the_next_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "ROTATE_BYTES", 700)
    record(tmp_path, *[marks(number * 5, 5) for number in range(20)])
    recording = opened(tmp_path)
    segments = recording.stints[0].segments
    assert len(recording.stints) == 1
    assert len(segments) > 2
    assert [segment.sealed for segment in segments] == ["rotated"] * (len(segments) - 1) + ["ended"]
    assert [segment.header["segment"] for segment in segments] == list(range(1, len(segments) + 1))
    assert ["settings" in segment.header for segment in segments] == [True] + [False] * (len(segments) - 1)
    assert (values(recording), recording.damage, recording.complete) == (list(range(100)), [], True)


def test_many_sessions_share_one_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with EvidenceWriter(tmp_path, fsync="never") as written:
        recorders = [written.open(f"call-{number}", epoch=1) for number in range(30)]
        for recorder in recorders:
            recorder.begin(dict(HEADER))
        for flush in range(5):
            for recorder in recorders:
                recorder.write(b"", marks(flush * 2, 2))
        assert threading.active_count() == before + 1
    for number in range(30):
        recording = open_recording(tmp_path / "default" / f"call-{number}")
        assert (values(recording), recording.complete) == (list(range(10)), True)


# ------------------------------------------------------------------------------------- a bad disk
def test_a_hung_disk_neither_delays_the_caller_nor_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_SESSION_BLOCKS", 16)
    disk = FakeDisk(monkeypatch)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        disk.go.clear()
        recorder.write(b"", marks(0, 1))
        assert disk.reached.wait(LIMIT_S)
        with no_wait():
            for number in range(20):
                recorder.write(b"", marks(1 + number * 10, 10))
        assert (recorder.waiting, recorder.dropped) == (16, 50)
        assert not recorder.close(timeout=0.01)
        disk.go.set()
        assert not recorder.close(timeout=LIMIT_S)
    found = list(opened(tmp_path).records())
    assert len([one for one in found if one["kind"] == "marker"]) == 151
    assert [(one["kind"], one["records"]) for one in found[-1:]] == [("gap", 50)]
    assert found[-1]["wall_ms"] >= HEADER["created_wall_ms"]


def test_a_session_is_bounded_by_its_bytes_and_so_are_all_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FakeDisk(monkeypatch)
    megabyte = [b'{"kind":"x","text":"' + b"x" * (1024 * 1024 - 1000) + b'"}']
    with EvidenceWriter(tmp_path) as written:
        first, second = begin(written), written.open("other", epoch=1)
        disk.go.clear()
        first.write(b"", marks(0, 1))
        assert disk.reached.wait(LIMIT_S)
        for _ in range(6):
            first.write(b"", megabyte)
        assert (first.waiting, first.dropped) == (5, 2)
        monkeypatch.setattr(writer, "MAX_WAITING_BYTES", 6 * 1024 * 1024)
        for _ in range(6):
            second.write(b"", megabyte)
        assert second.dropped == 4
        disk.go.set()


def test_a_full_disk_is_told_once_and_what_waits_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    disk = FakeDisk(monkeypatch)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 3))
        until(lambda: recorder.waiting == 0)
        disk.room = 40
        recorder.write(b"", marks(3, 3))
        until(lambda: bool(recorder.failure))
        tries = disk.writes
        recorder.write(b"", marks(6, 3))
        until(lambda: disk.writes > tries + 3)
        assert (recorder.dropped, recorder.failure) == (0, "No space left on device")
        assert opened(tmp_path).damage == []
        assert values(opened(tmp_path)) == [0, 1, 2]
        disk.room = None
        until(lambda: recorder.waiting == 0)
        assert recorder.failure == ""
        assert recorder.close()
    recording = opened(tmp_path)
    assert (values(recording), recording.complete) == (list(range(9)), True)
    assert capsys.readouterr().out.count("evidence cannot be written") == 1


def test_where_the_disk_stays_full_the_gap_stands_where_records_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    monkeypatch.setattr(writer, "MAX_SESSION_BLOCKS", 2)
    disk = FakeDisk(monkeypatch)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        disk.room = 0
        for number in range(4):
            recorder.write(b"", marks(number * 2, 2))
        until(lambda: bool(recorder.failure))
        assert recorder.dropped == 4
        disk.room = None
        until(lambda: recorder.waiting == 0)
        recorder.write(b"", marks(8, 1))
        assert not recorder.close()
    recording = opened(tmp_path)
    shown = [one.get("value", one.get("records")) for one in recording.records() if one["kind"] != "header"]
    assert shown == [0, 1, 2, 3, 4, 8]
    assert (recording.damage, recording.complete) == ([], False)
    assert recording.stints[0].ended


def test_a_disk_that_is_full_to_the_end_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk(monkeypatch)
    disk.room = 0
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 5))
        assert not recorder.close()
        assert recorder.dropped == 5
        recorder.write(b"", marks(5, 2))
        assert recorder.dropped == 7
    assert list(folder_of(tmp_path).iterdir()) == []


def test_a_block_that_cannot_be_taken_back_ends_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    disk = FakeDisk(monkeypatch)

    def refuse(file: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("rspp.evidence.segment_file.os.ftruncate", refuse)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 2))
        until(lambda: recorder.waiting == 0)
        disk.room = 30
        recorder.write(b"", marks(2, 2))
        until(lambda: bool(recorder.failure))
        disk.room = None
        assert recorder.close()
    recording = opened(tmp_path)
    assert [damage.code for damage in recording.damage] == ["torn"]
    assert values(recording) == [0, 1, 2, 3]
    assert len(recording.stints[0].segments) == 2


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    """A limit of the system itself, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000)),
    )
    assert done.returncode == 0, done.stderr
    kept = values(opened(tmp_path))
    assert 0 < len(kept) < 2_000
    assert kept == list(range(len(kept)))
    assert done.stdout.split()[-2:] == ["dropped", str(2_000 - len(kept))]
    assert [damage.code for damage in opened(tmp_path).damage] == []


LIMITED = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from rspp.evidence.writer import EvidenceWriter
from tests.evidence.recordings import begin, marks
with EvidenceWriter(Path(sys.argv[1])) as writer:
    recorder = begin(writer)
    for number in range(200):
        recorder.write(b"", marks(number * 10, 10))
    recorder.close()
print("dropped", recorder.dropped)
"""


def test_a_folder_that_may_not_be_written_costs_the_records_and_not_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return real(path, flags, *rest, **named)

    monkeypatch.setattr("rspp.evidence.segment_file.os.open", refuse)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 4))
        until(lambda: bool(recorder.failure))
        assert recorder.failure == "Read-only file system"
        assert not recorder.close()
        assert recorder.dropped == 4


class FakeDefectiveStore:
    """A payload store with a defect."""

    def append(self, *_: object, **__: object) -> bool:
        raise RuntimeError("a defect")

    def flush(self, *, sync: bool = False) -> None: ...

    def end(self, session: str) -> None: ...


def test_a_defect_of_one_session_does_not_end_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EvidenceWriter(tmp_path, payloads=FakeDefectiveStore()) as written:
        recorder, other = begin(written), written.open("other", epoch=1)
        other.begin(dict(HEADER))
        other.payload("text_raw", 1, 5, b"secret words")
        until(lambda: other.waiting == 0)
        recorder.write(b"", marks(0, 2))
        assert recorder.close()
        assert not other.close()
        assert other.dropped == 1
    assert values(opened(tmp_path)) == [0, 1]
    said = capsys.readouterr().out
    assert "lost by a defect" in said
    assert "secret" not in said


def test_a_defect_at_the_end_of_one_session_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("rspp.evidence.index.EvidenceIndex.update", defect)
    with EvidenceWriter(tmp_path) as written:
        other = written.open("other", epoch=1)
        other.begin(dict(HEADER))
        other.write(b"", marks(0, 1))
        assert other.close(timeout=5)
        assert other.failure == "RuntimeError"
        recorder = begin(written)
        recorder.write(b"", marks(0, 2))
        assert recorder.close(timeout=5)
    assert opened(tmp_path).complete
    said = capsys.readouterr().out
    assert "not ended in order" in said
    assert "secret" not in said


# ------------------------------------------------------------------------------------ waiting for it
@pytest.mark.parametrize(("policy", "synced"), [("never", 0), ("turn", 1), ("always", 3)])
def test_the_disk_is_waited_for_as_the_policy_says(
    policy: str, synced: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("rspp.evidence.segment_file.os.fdatasync", calls.append)
    with EvidenceWriter(tmp_path, fsync=policy) as written:
        recorder = begin(written)
        for number, closed in enumerate((False, True, False)):
            recorder.write(b"", marks(number, 1), durable=closed)
        until(lambda: recorder.waiting == 0)
        assert len(calls) == synced
        recorder.close()
        assert len(calls) == synced + (policy != "never")


class FakeMedium:
    """A disk that takes what is written and refuses the first times it is waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusals: int, call: str = "fdatasync") -> None:
        self.refusals = refusals
        self.waits = 0
        monkeypatch.setattr(f"rspp.evidence.segment_file.os.{call}", self)

    def __call__(self, _file: int) -> None:
        self.waits += 1
        if self.waits <= self.refusals:
            raise OSError(5, "Input/output error")


@pytest.mark.parametrize("policy", ["turn", "always"])
def test_what_was_written_is_not_written_again_when_the_disk_cannot_be_waited_for(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    medium = FakeMedium(monkeypatch, 3)
    with EvidenceWriter(tmp_path, fsync=policy) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 2), durable=True)
        until(lambda: recorder.failure == "Input/output error")
        assert recorder.waiting == 0
        until(lambda: medium.waits > 3)
        until(lambda: not recorder.failure)
        recorder.write(b"", marks(2, 2), durable=True)
        assert recorder.close()
    recording = opened(tmp_path)
    assert (values(recording), recording.complete) == ([0, 1, 2, 3], True)


def test_a_segment_is_sealed_once_though_the_disk_cannot_be_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    monkeypatch.setattr(segment_file, "ROTATE_BYTES", 500)
    FakeMedium(monkeypatch, 2)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        for number in range(4):
            recorder.write(b"", marks(number * 20, 20))
        until(lambda: recorder.waiting == 0)
        assert recorder.close()
    recording = opened(tmp_path)
    assert (values(recording), recording.damage, recording.complete) == (list(range(80)), [], True)


def test_a_segment_that_could_not_be_begun_leaves_the_chain_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    monkeypatch.setattr(segment_file, "ROTATE_BYTES", 100)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 40))
        until(lambda: recorder.waiting == 0)
        FakeMedium(monkeypatch, 2, "fsync")
        recorder.write(b"", marks(40, 40))
        until(lambda: recorder.waiting == 0)
        assert recorder.close()
    recording = opened(tmp_path)
    assert (values(recording), recording.damage) == (list(range(80)), [])
    assert len(list(folder_of(tmp_path).iterdir())) == 2


def test_each_second_what_was_written_is_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FSYNC_INTERVAL_S", 0.02)
    calls: list[int] = []
    monkeypatch.setattr("rspp.evidence.segment_file.os.fdatasync", calls.append)
    with EvidenceWriter(tmp_path) as written:
        recorder = begin(written)
        recorder.write(b"", marks(0, 1))
        until(lambda: len(calls) == 1)
        threading.Event().wait(0.1)
        assert len(calls) == 1
        recorder.write(b"", marks(1, 1))
        until(lambda: len(calls) == 2)


def test_an_unknown_policy_and_a_place_that_cannot_be_are_told_before_the_call(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'often' is unknown"):
        EvidenceWriter(tmp_path, fsync="often")
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "nul\0"):
        with pytest.raises(ConfigurationError, match="cannot be made") as caught:
            EvidenceWriter(folder)
        assert caught.value.hint
    written = EvidenceWriter(tmp_path)
    assert written.close()
    with pytest.raises(EvidenceError, match="closed"):
        written.open("late", epoch=1)


# --------------------------------------------------------------------------------------- killed
KILLED = """
import select
import sys
from pathlib import Path
from rspp.evidence.writer import EvidenceWriter
from tests.evidence.recordings import begin, marks
recorder = begin(EvidenceWriter(Path(sys.argv[1])))
number = 0
while True:
    recorder.write(b"", marks(number, 50))
    number += 50
    if number == 1000:
        print("running", flush=True)
    select.select([], [], [], 0.0005)
"""


@pytest.mark.conformance("G-03")
def test_a_killed_process_leaves_whole_blocks_and_a_successor_goes_on_behind_them(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    path = folder_of(tmp_path) / "000001-e000001.segment"
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        until(lambda: path.exists() and path.stat().st_size > 10_000)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    recording = opened(tmp_path)
    kept = values(recording)
    assert len(kept) >= 300
    assert kept == list(range(len(kept)))
    assert [damage.code for damage in recording.damage] in ([], ["torn"])
    assert not recording.complete
    record(tmp_path, marks(len(kept), 1), epoch=2)
    recording = opened(tmp_path)
    assert values(recording) == [*kept, len(kept)]
    assert [damage.code for damage in recording.damage] in ([], ["torn"])
    assert [stint.ended for stint in recording.stints] == [False, True]
