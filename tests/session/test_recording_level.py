"""A call records at its level, goes down by itself, says so, and replays all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.contracts.ports import Hypothesis
from rspp.evidence.memory import MemoryRecorder
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.reader import Recording, open_recording
from rspp.evidence.writer import EvidenceWriter
from rspp.pipeline.normalise import recording_level
from rspp.replay.engine import recompute
from rspp.session.virtual_time import VirtualClock
from tests.session.fakes import FakeCaller, FakeWorld

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

FIRST, SECOND = 6_000, 7_000


class FakeFailingRecorder(MemoryRecorder):
    """A recorder whose store takes no more payload once it has words."""

    @property
    def payload_failure(self) -> str:
        kept = any(kind == "text_raw" for kind, _, _, _ in self.payloads)
        return "no space left on device" if kept else ""


def world_of(recording: dict[str, Any]) -> FakeWorld:
    caller = FakeCaller(bursts=[(1_000, 2_000, FIRST), (70_000, 71_000, SECOND)], hang_up_ms=75_000)
    heard = {FIRST: Hypothesis(text="before it", complete=True), SECOND: Hypothesis(text="after it")}
    return FakeWorld(caller, heard, lambda _: "one two three", settings={"recording": recording})


def hold(root: Path, recording: dict[str, Any]) -> Recording:
    world = world_of(recording)
    with EvidenceWriter(root, "acme", payloads=PayloadStore(root, "acme")) as writer:
        recorder = writer.open("fake", epoch=1, level=recording_level(world.spec))
        world.timeline = recorder  # type: ignore[assignment]
        world.hold()
        assert recorder.close()
    return open_recording(root / "acme" / "fake")


def downgrades(records: Iterable[dict[str, Any]]) -> list[str]:
    events = [record["event"] for record in records if record["kind"] == "signal"]
    return [event["reason"] for event in events if event["signal"] == "recording_level_downgraded"]


def texts(root: Path) -> list[bytes]:
    reading = PayloadStore(root, "acme").read("fake")
    return [entry.data for entry in reading.entries if entry.payload_class == "text_raw"]


def test_an_l1_window_ends_by_itself(tmp_path: Path) -> None:
    recording = hold(tmp_path, {"level": "L1", "until_minutes": 1})
    assert downgrades(recording.records()) == ["level_time_over"]
    levels = [record for record in recording.records() if record["kind"] == "recording_level"]
    assert [(one["before"], one["after"]) for one in levels] == [("L1", "L0")]
    assert "•••••• ••".encode() in texts(tmp_path)
    assert "••••• ••".encode() not in texts(tmp_path)
    assert recompute(recording).identical


def test_a_clock_that_is_set_back_does_not_lengthen_an_l1_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = VirtualClock.wall_clock_ms
    begun_ms = 1_700_000_000_000

    def set_back(clock: VirtualClock) -> int:
        now_ms = right(clock)
        return now_ms if now_ms < begun_ms + 30_000 else now_ms - 3_600_000

    monkeypatch.setattr(VirtualClock, "wall_clock_ms", set_back)
    recording = hold(tmp_path, {"level": "L1", "until_minutes": 1})
    assert downgrades(recording.records()) == ["level_time_over"]
    assert "••••• ••".encode() not in texts(tmp_path)


def test_the_default_level_keeps_no_words_and_never_goes_down(tmp_path: Path) -> None:
    recording = hold(tmp_path, {"level": "L0"})
    assert downgrades(recording.records()) == []
    assert texts(tmp_path) == []
    words = [record["words"] for record in recording.records() if record["kind"] == "transcript"]
    assert words.count(2) == 2


def test_a_store_that_takes_nothing_lowers_the_level_once() -> None:
    world = world_of({"level": "L2", "approval": "tests", "allow": ["text_raw"]})
    recorder = FakeFailingRecorder("L2")
    world.timeline = recorder  # type: ignore[assignment]
    world.hold()
    assert downgrades(recorder.records) == ["payload_store_unavailable"]
    kept = [data for kind, _, _, data in recorder.payloads if kind == "text_raw"]
    assert b"before it" in kept
    assert b"after it" not in kept


class FakeTimedRecorder(MemoryRecorder):
    """Notes when a closed turn was handed over, virtual microseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.closed_us: list[int] = []

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        super().write(block, records, durable=durable)
        if durable:
            self.closed_us.append(VirtualClock().now_us())


def test_a_closed_turn_is_handed_over_at_once() -> None:
    world = world_of({"level": "L0"})
    recorder = FakeTimedRecorder()
    world.timeline = recorder  # type: ignore[assignment]
    world.hold()
    closes = [
        one["at_us"] for one in recorder.records if one["kind"] == "transition" and one["to"] == "Closed"
    ]
    assert closes
    for at_us, handed_us in zip(closes, recorder.closed_us, strict=False):
        assert 0 <= handed_us - at_us <= 20_000
