"""The measurement against recordings whose truth is known because they are made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspp.contracts.errors import ConfigurationError
from rspp.tooling.caller.recording import FRAME_SAMPLES, mix, place, write_wav
from rspp.tooling.caller.sound import RATE_HZ, cough, tone, trim
from rspp.tooling.measure import (
    Recording,
    Stretch,
    answer_delay,
    joined,
    longest_silence,
    read_recording,
    round_trips,
    silence_delay,
    stretches,
    summarise,
)

if TYPE_CHECKING:
    from pathlib import Path


def track(*voices: tuple[int, int], length: int = 6000) -> np.ndarray:
    """A track of ``length`` ms with a tone from and to each given ms."""
    pcm = np.zeros(RATE_HZ * length // 1000, dtype=np.int16)
    for begin, end in voices:
        sound = tone(400, end - begin, 0.3)
        first = RATE_HZ * begin // 1000
        pcm[first : first + sound.size] = sound
    return pcm


def test_an_onset_and_an_offset_are_found_within_one_window() -> None:
    (found,) = stretches(track((1003, 1998)), RATE_HZ)
    assert found.begin == pytest.approx(1003, abs=5)
    assert found.end == pytest.approx(1998, abs=5)


def test_noise_below_the_threshold_is_silence() -> None:
    noise = np.random.default_rng(3).normal(0, 32768 * 0.004, RATE_HZ).astype(np.int16)
    assert stretches(noise, RATE_HZ) == []


def test_a_single_loud_window_is_no_voice() -> None:
    assert stretches(track((1000, 1005)), RATE_HZ) == []


def test_a_closure_inside_a_word_is_bridged_and_a_pause_is_not() -> None:
    found = stretches(track((1000, 1200), (1225, 1400), (1500, 1700)), RATE_HZ)
    assert [(round(s.begin), round(s.end)) for s in found] == [(1000, 1400), (1500, 1700)]


def test_words_become_an_answer_when_their_pauses_are_short() -> None:
    voice = [Stretch(0, 100), Stretch(250, 400), Stretch(900, 1000)]
    assert joined(voice, 300) == [Stretch(0, 400), Stretch(900, 1000)]


def test_the_delay_of_an_answer_counts_from_the_last_audible_sample() -> None:
    sent, heard = track((500, 1500)), track((1830, 2500))
    end = stretches(sent, RATE_HZ)[-1].end
    assert answer_delay(stretches(heard, RATE_HZ), end) == pytest.approx(330, abs=10)


def test_an_agent_that_talks_over_the_end_has_a_negative_delay() -> None:
    assert answer_delay([Stretch(900, 2000)], 1000) == -100
    assert answer_delay([Stretch(100, 200)], 1000) is None


def test_silence_after_an_interruption_counts_to_the_last_audible_sample() -> None:
    heard = stretches(track((0, 2170), (4000, 5000)), RATE_HZ)
    assert silence_delay(heard, 2000, 3500) == pytest.approx(170, abs=5)


def test_a_late_leak_of_the_old_answer_counts() -> None:
    heard = stretches(track((0, 2170), (2900, 3000)), RATE_HZ)
    assert silence_delay(heard, 2000, 3500) == pytest.approx(1000, abs=5)


def test_an_agent_that_speaks_on_never_fell_silent() -> None:
    assert silence_delay([Stretch(0, 9000)], 2000, 3500) is None


def test_an_agent_that_paused_by_itself_fell_silent_at_once() -> None:
    assert silence_delay([Stretch(0, 1900), Stretch(4000, 5000)], 2000, 3500) == 0


def test_the_silence_around_a_backchannel_is_the_longest_that_touches_it() -> None:
    voice = stretches(track((0, 1000), (1200, 2150), (2850, 3400), (4000, 5000)), RATE_HZ)
    assert longest_silence(voice, 2000, 2500) == pytest.approx(700, abs=10)


def test_an_agent_that_never_goes_on_has_no_length_of_silence() -> None:
    assert longest_silence([Stretch(0, 2150)], 2000, 2500) is None


def test_round_trips_pair_each_tone_with_its_own_echo_and_skip_the_lost() -> None:
    sent = [Stretch(0, 60), Stretch(1000, 1060), Stretch(2000, 2060)]
    heard = [Stretch(90, 150), Stretch(2095, 2155)]
    assert round_trips(sent, heard) == [90, 95]


def test_a_summary_names_values_that_occurred() -> None:
    summary = summarise([10, 30, 20, 40])
    assert summary is not None
    assert (summary.count, summary.median, summary.p95, summary.minimum, summary.maximum) == (
        4,
        25,
        40,
        10,
        40,
    )
    assert summarise([]) is None


def test_a_recording_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    sent, heard = track((100, 300), length=1000), track((500, 700), length=1000)
    write_wav(tmp_path / "call.wav", [sent, heard])
    recording = read_recording(tmp_path / "call.wav")
    assert np.array_equal(recording.sent, sent)
    assert np.array_equal(recording.heard, heard)
    assert recording.length_ms == 1000
    assert list(tmp_path.iterdir()) == [tmp_path / "call.wav"]
    spoken = recording.caller(0, sent.size)
    assert spoken is not None
    assert (spoken.begin, spoken.end) == (100, 300)
    assert recording.caller(RATE_HZ // 2, sent.size) is None


@pytest.mark.parametrize("content", [b"", b"RIFF", b"\x00" * 400])
def test_a_file_that_is_no_recording_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"broken\.wav"):
        read_recording(path)


def test_a_mono_file_is_no_call(tmp_path: Path) -> None:
    write_wav(tmp_path / "mono.wav", [track((0, 10), length=100)])
    with pytest.raises(ConfigurationError, match="1 channels"):
        read_recording(tmp_path / "mono.wav")


@settings(max_examples=60, deadline=None)
@given(
    begin=st.integers(20, 2000),
    length=st.integers(60, 1500),
    delay=st.integers(0, 900),
    level=st.floats(0.05, 0.9),
)
def test_the_figures_are_the_truth_for_any_call(begin: int, length: int, delay: int, level: float) -> None:
    sent = np.zeros(RATE_HZ * 6, dtype=np.int16)
    heard = sent.copy()
    voice = tone(300, length, level)
    first = RATE_HZ * begin // 1000
    sent[first : first + voice.size] = voice
    reply = first + voice.size + RATE_HZ * delay // 1000
    heard[reply : reply + voice.size] = voice[: heard.size - reply]
    recording = Recording(RATE_HZ, sent, heard)
    spoken = recording.caller(0, sent.size)
    assert spoken is not None
    measured = answer_delay(stretches(heard, RATE_HZ), spoken.end)
    assert measured == pytest.approx(delay, abs=10)


@settings(max_examples=60, deadline=None)
@given(pcm=st.lists(st.integers(-32768, 32767), max_size=3000))
def test_stretches_are_ordered_apart_and_inside_the_recording(pcm: list[int]) -> None:
    found = stretches(np.asarray(pcm, dtype=np.int16), RATE_HZ)
    edges = [edge for stretch in found for edge in (stretch.begin, stretch.end)]
    assert edges == sorted(edges)
    assert all(stretch.length > 0 for stretch in found)
    assert all(edge <= len(pcm) * 1000 / RATE_HZ for edge in edges)


# ------------------------------------------------------------------- placing what was heard
def numbered(count: int) -> list[np.ndarray]:
    return [np.full(FRAME_SAMPLES, index + 1, dtype=np.int16) for index in range(count)]


def steady(count: int, start: int) -> list[int]:
    return [start + index * FRAME_SAMPLES for index in range(count)]


def test_steady_frames_stand_where_they_arrived() -> None:
    placed = place(steady(200, 1000), numbered(200), 60_000)
    assert placed[999] == 0
    assert placed[1000] == 1
    assert placed[1000 + 199 * FRAME_SAMPLES] == 200


def test_a_busy_listener_leaves_no_hole() -> None:
    """For 100 ms nothing was noted, then ten frames at once: that was this process, not the room."""
    arrivals = steady(300, 1000)
    arrivals[150:160] = [arrivals[160]] * 10
    assert np.array_equal(
        place(arrivals, numbered(300), 80_000), place(steady(300, 1000), numbered(300), 80_000)
    )


def test_a_gap_of_the_stream_is_a_hole_of_its_length() -> None:
    arrivals = steady(100, 0) + steady(100, 100 * FRAME_SAMPLES + 4800)
    placed = place(arrivals, numbered(200), 60_000)
    hole = placed[100 * FRAME_SAMPLES : 100 * FRAME_SAMPLES + 4800]
    assert not hole.any()
    assert placed[100 * FRAME_SAMPLES - 1] == 100
    assert placed[100 * FRAME_SAMPLES + 4800] == 101


def test_a_stream_that_catches_up_is_moved_forward_at_that_frame() -> None:
    arrivals = steady(100, 4800) + steady(100, 100 * FRAME_SAMPLES)
    placed = place(arrivals, numbered(200), 60_000)
    assert placed[4800] == 1
    assert placed[100 * FRAME_SAMPLES] == 101


def test_nothing_is_placed_outside_the_timeline() -> None:
    placed = place(steady(50, -3 * FRAME_SAMPLES), numbered(50), 20 * FRAME_SAMPLES)
    assert placed.size == 20 * FRAME_SAMPLES
    assert placed[0] == 4
    assert place([], [], 10).tolist() == [0] * 10


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=120, max_size=120))
def test_jitter_of_the_listener_never_moves_a_frame_before_its_arrival(jitter: list[int]) -> None:
    """Every second frame and the last are noted on time, so the truth is known whatever the others do."""
    jitter[::2] = [0] * 60
    jitter[-1] = 0
    arrivals = [due + late for due, late in zip(steady(120, 500), jitter, strict=True)]
    assert np.array_equal(
        place(arrivals, numbered(120), 40_000), place(steady(120, 500), numbered(120), 40_000)
    )


def test_voices_add_up_and_clip() -> None:
    loud = np.full(4, 30_000, dtype=np.int16)
    assert mix([loud, loud], 4).tolist() == [32767] * 4
    assert mix([], 2).tolist() == [0, 0]


def test_speech_is_trimmed_and_a_cough_is_repeatable() -> None:
    padded = np.concatenate((np.zeros(500, np.int16), cough(200, 0.3), np.zeros(500, np.int16)))
    assert trim(padded).size < 200 * RATE_HZ // 1000 + 1
    assert np.array_equal(cough(200, 0.3), cough(200, 0.3))
    assert trim(np.zeros(100, np.int16)).size == 0
