"""What is said in a call reaches the recorder under the class that its pipeline declares."""

from __future__ import annotations

from typing import Any

import pytest

from rspp.contracts.ports import Hypothesis
from rspp.evidence.baseline_reading import entries_of
from rspp.evidence.memory import MemoryRecorder
from tests.session.fakes import FakeCaller, FakeWorld

IN_FULL = {"level": "L2", "approval": "a test", "allow": ["text_raw", "audio_raw"]}


class FakeL2Recorder(MemoryRecorder):
    """Keeps, beside the payloads, what was decided of them."""

    def __init__(self) -> None:
        super().__init__("L2")
        self.decided: set[tuple[str, str]] = set()

    def payload(self, payload_class: Any, turn: int, at_us: int, data: bytes, **details: Any) -> None:
        super().payload(payload_class, turn, at_us, data, **details)
        self.decided.add((payload_class, details["action"]))


def call(**settings: Any) -> FakeL2Recorder:
    caller = FakeCaller(bursts=[(1000, 1600, 6000)], hang_up_ms=6000)
    heard = {6000: Hypothesis(text="my blood pressure is high", complete=True)}
    world = FakeWorld(caller, heard, lambda _: "I note that.", {"recording": IN_FULL, **settings})
    recorder = FakeL2Recorder()
    world.timeline = recorder  # type: ignore[assignment]
    world.hold()
    return recorder


def test_sensitive_calls_are_not_kept_in_full_whatever_may_be_kept_of_others() -> None:
    assert call().decided == {("text_raw", "allow"), ("audio_raw", "allow")}
    assert call(data={"caller": "PHI"}).decided == {("PHI", "hash")}


def test_the_header_and_the_baseline_tell_the_classes() -> None:
    recorder = call(data={"caller": "PII"})
    data: Any = recorder.headers[0]["data"]
    assert {data[name] for name in ("caller_sound", "caller_text", "agent_text", "agent_sound")} == {"PII"}
    entries = entries_of(recorder.records, recorder.headers, clock="virtual")
    answered = [entry for entry in entries if entry.terminal_outcome == "commit"]
    assert answered
    for entry in answered:
        assert set(entry.payload_tags) == {"metadata", "PII"}
        assert {(made.payload_class, made.action) for made in entry.redaction_decisions} >= {("PII", "hash")}


@pytest.mark.parametrize("phase_us", [1, 1_200, 4_999])
def test_the_evidence_is_whole_whatever_the_phase_of_the_clock(
    phase_us: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rspp.session.virtual_time.START_S", 1_000 + phase_us / 1e6)
    recorder = call()
    entries = entries_of(recorder.records, recorder.headers, clock="virtual")
    assert entries
    assert {entry.turn_id: entry.missing() for entry in entries if entry.missing()} == {}


@pytest.mark.parametrize("level", ["L0", "L1"])
def test_what_is_dropped_is_not_even_gathered(level: str) -> None:
    minutes = {"until_minutes": 1} if level == "L1" else {}
    recorder = call(data={"caller": "PHI"}, recording={"level": level, **minutes})
    assert recorder.decided == (set() if level == "L0" else {("PHI", "hash")})
