"""The sound of a recorded call is the sound that was heard, sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from rspp.contracts.errors import EvidenceError
from rspp.contracts.ports import Hypothesis
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.reader import Recording, open_recording
from rspp.evidence.writer import EvidenceWriter
from rspp.pipeline.normalise import recording_level
from rspp.replay.audio import Piece, assemble, read_audio, write_wav
from tests.session.fakes import FakeCaller, FakeWorld

if TYPE_CHECKING:
    from pathlib import Path

FULL = {"level": "L2", "approval": "tests", "allow": ["text_raw", "audio_raw"]}
ANSWER = "one two three four five six seven eight nine ten eleven twelve"
QUESTION, OBJECTION, MURMUR = 6_000, 7_000, 8_000


def hold(root: Path, recording: dict[str, Any], **settings: Any) -> tuple[FakeCaller, Recording]:
    """A call with an interruption and a backchannel, recorded below ``root``."""
    caller = FakeCaller(
        bursts=[(1_000, 2_000, QUESTION), (3_500, 4_800, OBJECTION), (6_800, 7_100, MURMUR)],
        hang_up_ms=12_000,
    )
    heard = {
        QUESTION: Hypothesis(text="tell me all", complete=True),
        OBJECTION: Hypothesis(text="no stop that", complete=True),
        MURMUR: Hypothesis(text="mhm", backchannel=True, complete=True),
    }
    world = FakeWorld(caller, heard, lambda _: ANSWER, settings={"recording": recording, **settings})
    with EvidenceWriter(root, "acme", payloads=PayloadStore(root, "acme")) as writer:
        recorder = writer.open("fake", epoch=1, level=recording_level(world.spec))
        world.timeline = recorder  # type: ignore[assignment]
        world.hold()
        assert recorder.close()
    return caller, open_recording(root / "acme" / "fake")


def test_what_was_heard_is_rendered_sample_by_sample(tmp_path: Path) -> None:
    caller, recording = hold(tmp_path, FULL)
    audio = read_audio(recording.path, recording.stints)
    # The fake voice has no zero of its own: every other sample is silence between answers.
    assert np.array_equal(audio.agent[audio.agent != 0], caller.voice[caller.voice != 0])
    onset = int(np.flatnonzero(audio.agent)[0]) - int(np.flatnonzero(caller.voice)[0])
    assert abs(onset) <= 24_000 * 40 // 1000
    said = audio.caller[audio.caller != 0]
    assert {int(value) for value in said} == {QUESTION, OBJECTION, MURMUR}
    assert len(said) == 16 * (1_000 + 1_300 + 300)
    seconds = write_wav(audio, tmp_path / "call.wav")
    written, rate = soundfile.read(str(tmp_path / "call.wav"), dtype="int16")
    assert (rate, written.shape[1]) == (24_000, 2)
    assert len(written) == round(seconds * rate)
    assert np.array_equal(written[: len(audio.agent), 1], audio.agent)


@pytest.mark.parametrize("recording", [{"level": "L0"}, {"level": "L2", "approval": "tests"}])
def test_sound_that_was_not_kept_is_not_rendered(tmp_path: Path, recording: dict[str, Any]) -> None:
    _, kept = hold(tmp_path, recording)
    with pytest.raises(EvidenceError, match="no sound was kept"):
        read_audio(kept.path, kept.stints)


def test_pieces_follow_each_other_without_a_gap_and_are_taken_back_exactly() -> None:
    ones, twos = (np.full(480, value, dtype=np.int16) for value in (1, 2))
    laid = assemble([Piece(0, ones), Piece(30_000, twos), Piece(500_000, ones, cleared=500)], 24_000)
    assert laid[:460].tolist() == [1] * 460
    assert not laid[460:12_000].any()
    assert laid[12_000:].tolist() == [1] * 480
    assert len(assemble([], 24_000)) == 0
    assert assemble([Piece(0, ones), Piece(0, twos, cleared=9_999)], 24_000).tolist() == [2] * 480


def test_what_was_taken_back_at_the_very_end_is_not_rendered(tmp_path: Path) -> None:
    world = FakeWorld(
        FakeCaller(bursts=[(1_000, 2_000, QUESTION)], hang_up_ms=3_330),
        {QUESTION: Hypothesis(text="tell me all", complete=True)},
        lambda _: ANSWER,
        settings={"recording": FULL},
    )
    with EvidenceWriter(tmp_path, "acme", payloads=PayloadStore(tmp_path, "acme")) as writer:
        recorder = writer.open("fake", epoch=1, level="L2")
        world.timeline = recorder  # type: ignore[assignment]
        world.hold()
        assert recorder.close()
    recording = open_recording(tmp_path / "acme" / "fake")
    agent, voice = read_audio(recording.path, recording.stints).agent, world.caller.voice
    assert np.count_nonzero(voice) > 24_000
    assert np.array_equal(agent[agent != 0], voice[voice != 0])
