"""The call drawn like a score: ten seconds to a system, a lane for each party, the states between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from rspp.tooling.measure import stretches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rspp.tooling.measure import Recording, Samples
    from rspp.tooling.story import Span, Story, Turn

SYSTEM_MS = 10_000
WIDTH = 1120
LEFT = 66
CALLER_MIDDLE, AGENT_MIDDLE, HALF = 58, 124, 22
HEARING_TOP, STATE_TOP, STRIP = 86, 152, 9
WORDS_TOP, HEIGHT = 178, 188
LETTER_WIDTH = 6.4
"""Average width of a letter at 12 px, for cutting words that would run into the next ones."""
WORDS_TOGETHER = 5
COLUMNS = 500


@dataclass(frozen=True, slots=True)
class Said:
    """Words placed on the caller's timeline, ms."""

    begin: float
    end: float
    text: str


def agent_words(turn: Turn, shift: float) -> list[Said]:
    """Spread a turn's heard words over the time that its voice was not held.

    The runtime knows the exact place of each word; here a few words at a time stand about where they
    were heard, which is what a page of this scale can show.
    """
    if turn.first_output is None or turn.closed is None or not turn.agent_text:
        return []
    speaking: list[tuple[float, float]] = []
    at = turn.first_output
    for hold in turn.holds:
        if hold.begin > at:
            speaking.append((at, hold.begin))
        at = max(at, hold.end if hold.end is not None else turn.closed)
    if turn.closed > at:
        speaking.append((at, turn.closed))
    total = sum(end - begin for begin, end in speaking)
    words = turn.agent_text.split()
    groups = [words[i : i + WORDS_TOGETHER] for i in range(0, len(words), WORDS_TOGETHER)]
    letters = sum(len(" ".join(group)) for group in groups) or 1
    placed: list[Said] = []
    passed = 0
    for group in groups:
        text = " ".join(group)
        begin = _after(speaking, total * passed / letters)
        passed += len(text)
        placed.append(Said(begin - shift, _after(speaking, total * passed / letters) - shift, text))
    return placed


def _after(speaking: list[tuple[float, float]], spent: float) -> float:
    for begin, end in speaking:
        if spent <= end - begin:
            return begin + spent
        spent -= end - begin
    return speaking[-1][1] if speaking else 0.0


def score(recording: Recording, story: Story | None, shift: float, said: list[Said]) -> str:
    """Return the whole call as figures of SVG.

    Args:
        recording: both voices.
        story: the runtime's records; none leaves its lanes empty.
        shift: wall-clock ms at sample 0 of the recording.
        said: the caller's words.
    """
    voices = [stretches(pcm, recording.rate_hz) for pcm in (recording.sent, recording.heard)]
    last = max((voice[-1].end for voice in voices if voice), default=0.0)
    count = max(1, math.ceil(min(recording.length_ms, last + 200) / SYSTEM_MS))
    heard = [words for turn in (story.ordered if story else []) for words in agent_words(turn, shift)]
    return "\n".join(_system(index, recording, story, shift, said, heard) for index in range(count))


def _system(
    index: int, recording: Recording, story: Story | None, shift: float, said: list[Said], heard: list[Said]
) -> str:
    begin = index * SYSTEM_MS
    parts = [_ruler(begin)]
    parts.append(_wave(recording.sent, recording.rate_hz, begin, CALLER_MIDDLE, "callerwave"))
    parts.append(_wave(recording.heard, recording.rate_hz, begin, AGENT_MIDDLE, "agentwave"))
    parts.append(_words(said, begin, 28))
    parts.append(_words(heard, begin, WORDS_TOP))
    if story is not None:
        parts.append(_strip(story.hearing, shift, begin, HEARING_TOP, "hear", "recognising the caller"))
        for turn in story.ordered:
            parts.append(_turn(turn, shift, begin))
    inside = [words.text for words in said if begin <= words.begin < begin + SYSTEM_MS]
    label = f"Seconds {begin // 1000} to {(begin + SYSTEM_MS) // 1000}." + (
        f" The caller says: {'; '.join(inside)}." if inside else ""
    )
    return (
        f'<figure class="card system"><svg class="score" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}" data-begin="{begin}" data-length="{SYSTEM_MS}" '
        f'data-left="{LEFT}" data-width="{WIDTH - LEFT}">'
        + "".join(parts)
        + f'<line class="head" y1="14" y2="{HEIGHT}"/></svg></figure>'
    )


def _x(at: float, begin: float) -> float:
    return LEFT + (at - begin) / SYSTEM_MS * (WIDTH - LEFT)


def _ruler(begin: float) -> str:
    parts = []
    for second in range(SYSTEM_MS // 1000 + 1):
        x = _x(begin + second * 1000, begin)
        parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{STATE_TOP + STRIP}"/>')
        if second < SYSTEM_MS // 1000:
            parts.append(f'<text x="{x + 3:.1f}" y="12">{begin / 1000 + second:.0f} s</text>')
    for middle, name in ((CALLER_MIDDLE, "Caller"), (AGENT_MIDDLE, "Agent")):
        parts.append(f'<text class="lane" x="0" y="{middle + 4}">{name}</text>')
        parts.append(f'<line class="base" x1="{LEFT}" x2="{WIDTH}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<text x="0" y="{STATE_TOP + 9}">turn</text><text x="0" y="{HEARING_TOP + 9}">hears</text>')
    return "".join(parts)


def _wave(pcm: Samples, rate_hz: int, begin: float, middle: int, style: str) -> str:
    first = int(begin * rate_hz / 1000)
    part = pcm[first : first + SYSTEM_MS * rate_hz // 1000]
    size = SYSTEM_MS * rate_hz // 1000 // COLUMNS
    count = part.size // size
    if not count:
        return ""
    peaks = np.abs(part[: count * size].astype(np.int32)).reshape(count, size).max(axis=1) / 32768
    # The square root lets quiet speech be seen beside loud speech.
    heights = np.sqrt(peaks) * HALF
    step = (WIDTH - LEFT) / COLUMNS
    bars = [
        f"M{LEFT + i * step:.1f} {middle - h:.1f}h{step:.2f}v{2 * h:.1f}h{-step:.2f}z"
        for i, h in enumerate(heights)
        if h > 0.6
    ]
    return f'<path class="{style}" d="{"".join(bars)}"/>' if bars else ""


def _words(words: list[Said], begin: float, y: int) -> str:
    parts = []
    free = float(LEFT)
    for item in words:
        if not begin <= item.begin < begin + SYSTEM_MS:
            continue
        # Words that would run over the edge or into the ones before them move aside; few are cut.
        width = len(item.text) * LETTER_WIDTH
        x = max(free, min(_x(item.begin, begin), WIDTH - width))
        text = _cut(item.text, WIDTH - x)
        free = x + len(text) * LETTER_WIDTH + 5
        parts.append(
            f"<g><title>{escape(item.text)}</title>"
            f'<text class="words" x="{x:.1f}" y="{y}">{escape(text)}</text></g>'
        )
    return "".join(parts)


def _cut(text: str, width: float) -> str:
    room = int(width / LETTER_WIDTH)
    if room < 3:
        return ""
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def _strip(spans: Iterable[Span], shift: float, begin: float, top: int, style: str, title: str) -> str:
    return "".join(
        _bar(
            span.begin - shift,
            (span.end if span.end is not None else span.begin) - shift,
            begin,
            top,
            style,
            title,
        )
        for span in spans
    )


def _bar(first: float, last: float, begin: float, top: int, style: str, title: str) -> str:
    left, right = max(first, begin), min(last, begin + SYSTEM_MS)
    if right <= left:
        return ""
    x, width = _x(left, begin), max(1.0, (right - left) / SYSTEM_MS * (WIDTH - LEFT))
    detail = f"{title}: {first / 1000:.2f} s to {last / 1000:.2f} s, {last - first:.0f} ms"
    return (
        f"<g><title>{escape(detail)}</title>"
        f'<rect class="{style}" x="{x:.1f}" y="{top}" width="{width:.1f}" height="{STRIP}" rx="2"/></g>'
    )


def _turn(turn: Turn, shift: float, begin: float) -> str:
    opened = turn.opened - shift
    closed = (turn.closed if turn.closed is not None else turn.opened) - shift
    spoke = turn.first_output - shift if turn.first_output is not None else closed
    name = f"turn {turn.number}"
    parts = [
        _bar(opened, min(spoke, closed), begin, STATE_TOP, "think", f"{name}, thinking"),
        _bar(spoke, closed, begin, STATE_TOP, "speak", f"{name}, speaking"),
    ]
    for hold in turn.holds:
        end = (hold.end if hold.end is not None else closed + shift) - shift
        parts.append(_bar(hold.begin - shift, end, begin, STATE_TOP, "hold", f"{name}, voice held"))
    if turn.outcome == "abort" and begin <= closed < begin + SYSTEM_MS:
        x, top = _x(closed, begin), AGENT_MIDDLE - HALF
        parts.append(
            f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{STATE_TOP + STRIP}"/>'
            f'<text class="cutlabel" x="{x + 4:.1f}" y="{top - 2}">'
            f"{escape('interrupted' if turn.reason == 'cancelled' else turn.reason or 'aborted')}</text>"
        )
    return "".join(parts)
