"""The report page: whole, self-contained, and safe whatever a caller says."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from rspp.tooling.figures import Check, Figure, Gate, Rival
from rspp.tooling.report import call_section, figures_section, write_page
from rspp.tooling.report_parts import _mu_law, stages
from rspp.tooling.report_score import agent_words
from rspp.tooling.story import Span, Turn, read_story
from tests.e2e.fake_call import HOSTILE, START_WALL_MS, make_call, timeline

if TYPE_CHECKING:
    from pathlib import Path


def figures() -> list[Figure]:
    return [
        Figure(
            "interruption",
            "Onset of an interruption to silence",
            values=[150, 160, 171],
            gates=[Gate("median", 175, "floor 90 + 85"), Gate("maximum", 290, "floor 90 + 200")],
            rivals=[
                Rival("livekit-agents 1.8.9, defaults", 684, 644, 784),
                Rival("pipecat", note="never goes on"),
            ],
        ),
        Figure(
            "answer", "End of speech to answer", values=[500], gates=[Gate("median", 420, "floor 90 + 330")]
        ),
    ]


@pytest.fixture
def page(tmp_path: Path) -> str:
    call = make_call(tmp_path / "call")
    write_page(
        tmp_path / "report.html",
        title=f"A call {HOSTILE}",
        lead=HOSTILE,
        passed=False,
        sections=[
            figures_section(
                figures(), [Check("the greeting was heard", passed=True, detail=HOSTILE)], plots=True
            ),
            call_section(call, read_story(timeline())),
        ],
        machine={"processor": HOSTILE},
        data={"said": HOSTILE},
    )
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]
    return (tmp_path / "report.html").read_text("utf-8")


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_tag_is_closed_and_nothing_that_was_said_became_a_tag(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert "img" not in {tag for tag, _ in reader.tags}
    assert sum(tag == "script" for tag, _ in reader.tags) == 2


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in reader.tags}
    sources = [
        value for _, attributes in reader.tags for key, value in attributes.items() if key in {"src", "href"}
    ]
    assert sources
    assert all(source is not None and source.startswith("data:audio/wav") for source in sources)
    assert not re.search(r"url\(|@import|https?:", page)


def test_the_data_is_embedded_and_reads_back(page: str) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert json.loads(found.group(1)) == {"said": HOSTILE}


def test_verdicts_states_and_words_are_shown(page: str) -> None:
    for words in (
        "failed",
        "interrupted",
        "voice held",
        "We are open from five in the",
        "answered after 400 ms",
    ):
        assert words in page


def test_the_stages_of_a_wait_add_up_to_what_the_caller_measured() -> None:
    turn = Turn(1, latencies={"end_of_speech_to_turn_open": 190, "llm_first_word": 1, "tts_first_audio": 14})
    turn.latencies["turn_open_to_first_output"] = 22
    rows = stages(turn, 380)
    assert [value for _, _, value in rows] == [190, 1, 14, 7, 168]
    assert sum(value for _, _, value in rows) == 380


def test_a_stage_is_never_negative_when_a_provider_was_called_ahead() -> None:
    turn = Turn(
        1, latencies={"end_of_speech_to_turn_open": 190, "llm_first_word": 400, "tts_first_audio": 90}
    )
    turn.latencies["turn_open_to_first_output"] = 22
    assert all(value >= 0 for _, _, value in stages(turn, 100))


def test_words_stand_where_the_voice_was_not_held() -> None:
    turn = Turn(1, opened=0, first_output=1000, closed=5000, outcome="commit", agent_text="one two " * 10)
    turn.holds = [Span(2000, 4000)]
    words = agent_words(turn, 0)
    assert words[0].begin == 1000
    assert words[-1].end == 5000
    assert not any(2000 < item.begin < 4000 for item in words)


def test_the_story_of_a_timeline() -> None:
    story = read_story(timeline())
    assert [(turn.number, turn.outcome, turn.reason) for turn in story.ordered] == [
        (1, "commit", ""),
        (2, "abort", "cancelled"),
        (3, "commit", ""),
        (4, "commit", ""),
    ]
    assert story.ordered[1].holds == [Span(START_WALL_MS + 9090, START_WALL_MS + 9400)]
    assert story.ordered[3].holds == [Span(START_WALL_MS + 16_100, START_WALL_MS + 16_400)]
    assert story.latencies["end_of_speech_to_turn_open"] == [190, 190, 190]
    assert story.hearing == [Span(START_WALL_MS + 3080, START_WALL_MS + 4690)]
    assert not story.held


def test_an_unknown_record_is_no_error() -> None:
    records: list[dict[str, Any]] = [{"kind": "of tomorrow"}, {}]
    assert read_story(records).records == 2


def test_a_figure_fails_on_its_gate_on_too_few_values_and_on_a_miss() -> None:
    first, second = figures()
    assert first.failures() == []
    assert second.failures() == ["End of speech to answer: median 500 ms, over 420 ms (floor 90 + 330)"]
    first.needed = 4
    assert len(first.failures()) == 1
    first.needed, first.missed = 1, ["attempt 2: never fell silent"]
    assert len(first.failures()) == 1
    assert not Figure("none", "Nothing was measured").passed


def test_mu_law_is_that_of_the_telephone() -> None:
    import numpy as np

    samples = np.array([0, 1000, -1000, 32767, -32768], dtype=np.int16)
    assert _mu_law(samples).tolist() == [0xFF, 0xCE, 0x4E, 0x80, 0x00]
