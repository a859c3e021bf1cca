"""The turns of a call as cards: words as heard, the ending, and the waterfall of the wait."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rspp.tooling.call_page.room import MAX_TURNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rspp.tooling.call_page.model import Attempt, CallModel, TurnView, Words

STAGES = (
    ("s1", "end of speech to turn open"),
    ("s2", "first word of the reply"),
    ("s3", "first audio of the voice"),
    ("s4", "until it passed the gate"),
    ("s5", "the room, both ways"),
)
LEFT, WIDTH, ROW, TOTAL = 236, 280, 19, 580
LEAST_SCALE_MS = 100.0
MAX_ATTEMPTS = 12
"""Most provider attempts drawn for one turn; its evidence has all of them."""


def stages(turn: TurnView, heard_ms: float | None = None) -> list[float]:
    """Divide the wait for an answer, milliseconds, in the order of ``STAGES``.

    Args:
        turn: the turn.
        heard_ms: the wait that the caller measured; what the runtime cannot see is the last stage.
    """
    wait, output, word, audio = (
        turn.latencies.get(name, 0) / 1000
        for name in (
            "end_of_speech_to_turn_open",
            "turn_open_to_first_output",
            "llm_first_word",
            "tts_first_audio",
        )
    )
    word = min(word, output)
    audio = min(audio, output - word)
    room = 0.0 if heard_ms is None else max(0.0, heard_ms - wait - output)
    return [wait, word, audio, output - word - audio, room]


def turns_section(model: CallModel, heard_ms: Mapping[str, float | None] | None = None) -> str:
    """Return the section of all turns; empty when there was none.

    Args:
        model: the call.
        heard_ms: for turn ids, the wait that the caller measured, where it was measured.
    """
    ordered = model.ordered
    turns = ordered[:MAX_TURNS]
    if not turns:
        return "<h2>Turn by turn</h2>\n<p>No turn was proposed.</p>"
    heard = heard_ms or {}
    totals = [sum(stages(turn, heard.get(turn.key))) for turn in turns]
    scale = max([*totals, LEAST_SCALE_MS])
    room = any(value is not None for value in heard.values())
    shown = STAGES if room else STAGES[:-1]
    keys = "".join(f'<li><i class="{style}"></i>{title}</li>' for style, title in shown)
    several = len(model.stints) > 1
    cards = "\n".join(
        _card(turn, model.unsaid, heard.get(turn.key), scale, several=several, room=room) for turn in turns
    )
    more = ""
    if len(ordered) > len(turns):
        more = (
            f'<p class="soft">The first {len(turns)} of {len(ordered)} turns; rspp-cli timeline show --turn '
            "NUMBER shows any.</p>\n"
        )
    return (
        '<h2 id="turns">Turn by turn <small>words as heard; the wait from the caller\'s last sound to the '
        'answer</small></h2>\n<p class="tools"><label>show <select id="filter"><option value="">all '
        f'{len(turns)} turns</option></select></label></p>\n<ul class="legend">{keys}</ul>\n{more}{cards}'
    )


def _card(
    turn: TurnView, unsaid: str, heard_ms: float | None, scale: float, *, several: bool, room: bool
) -> str:
    ending = turn.ending
    held = ""
    if turn.holds:
        times = "time" if len(turn.holds) == 1 else "times"
        held = f'<span class="tag held">held {len(turn.holds)} {times}</span>'
    total = "" if heard_ms is None else f"<span>answered after {heard_ms:.0f} ms</span>"
    epoch = f" <small>epoch {turn.epoch}</small>" if several else ""
    style = escape(turn.outcome if turn.outcome in {"commit", "abort"} else "")
    answered = (
        _words(turn.caller, unsaid)
        if turn.caller is not None
        else '<span class="soft">nothing; the agent speaks by itself</span>'
    )
    said = (
        _words(turn.agent, unsaid)
        if turn.agent is not None
        else '<span class="soft">nothing was heard</span>'
    )
    plan = f'<span class="soft">plan {escape(turn.plan_hash[:12])}</span>' if turn.plan_hash else ""
    return (
        f'<article class="card turn" id="{escape(turn.key)}" data-ending="{escape(ending)}">'
        f"<h3><span>Turn {turn.number}{epoch}</span><span>{turn.begin_us / 1e6:.1f} s</span>"
        f'<span class="tag {style}">{escape(ending)}</span>{held}{total}{plan}'
        f'<button type="button" data-show="{escape(turn.key)}">evidence '
        f"({len(turn.records)})</button></h3>"
        f'<div><p class="said"><b>caller</b>{answered}</p><p class="said agent"><b>agent</b>{said}</p></div>'
        f"<div>{_waterfall(turn, heard_ms, scale, room=room)}</div></article>"
    )


def _words(words: Words, unsaid: str) -> str:
    if words.text is not None:
        return escape(words.text)
    if not words.count:
        return '<span class="soft">nothing was heard</span>'
    many = "word" if words.count == 1 else "words"
    return f'<span class="soft">{words.count} {many}; {escape(unsaid)}</span>'


def _waterfall(turn: TurnView, heard_ms: float | None, scale: float, *, room: bool) -> str:
    parts: list[str] = []
    y, at = 0, 0.0
    told: list[str] = []
    if turn.latencies:
        shown = STAGES if room else STAGES[:-1]
        for (style, title), value in zip(shown, stages(turn, heard_ms), strict=False):
            parts.append(
                _bar(y, title, style, at, value, scale, f"{value:.0f} ms", f"{title}: {value:.1f} ms")
            )
            told.append(f"{title} {value:.0f} ms")
            at += value
            y += ROW
    origin = turn.speech_end_us if turn.speech_end_us is not None else turn.opened_us
    if origin is not None:
        for attempt in turn.attempts[:MAX_ATTEMPTS]:
            parts.append(_attempt_bar(y, attempt, origin, scale))
            told.append(f"{attempt.modality} {attempt.provider} {attempt.outcome}")
            y += ROW
    if not parts:
        return ""
    return (
        f'<svg class="fall" viewBox="0 0 {TOTAL} {y + 4}" role="img" aria-label="{escape("; ".join(told))}">'
        f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="0" y2="{y + 4}"/>' + "".join(parts) + "</svg>"
    )


def _bar(
    y: int, title: str, style: str, begin: float, length: float, scale: float, label: str, detail: str
) -> str:
    x = LEFT + min(max(begin, 0.0), scale) / scale * WIDTH
    width = max(0.8, min(max(0.0, length) / scale * WIDTH, LEFT + WIDTH - x))
    shown = title if len(title) <= 36 else title[:35] + "…"
    return (
        f'<g><title>{escape(detail)}</title><text class="sub" x="0" y="{y + 13}">{escape(shown)}</text>'
        f'<rect class="{style}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="13" rx="2"/>'
        f'<text class="num" x="{x + width + 5:.1f}" y="{y + 13}">{escape(label)}</text></g>'
    )


def _attempt_bar(y: int, attempt: Attempt, origin: int, scale: float) -> str:
    begin, took = (attempt.begin_us - origin) / 1000, (attempt.end_us - attempt.begin_us) / 1000
    # A voice or a reply streams long after its first part was heard; the bar ends with the scale.
    beyond = " →" if begin + took > scale * 1.001 else ""
    failed = "" if attempt.outcome in {"success", "cancelled"} else " failed"
    label = f"{took:.0f} ms{beyond}" if not failed else attempt.outcome.replace("_", " ")
    if begin > scale:
        label = f"at {begin / 1000:.1f} s"
    title = f"{attempt.modality} {attempt.provider}" + (f" #{attempt.number}" if attempt.number > 1 else "")
    follows = "" if attempt.decision in {"", "none"} else f", then {attempt.decision}"
    why = f" ({attempt.reason})" if attempt.reason else ""
    detail = (
        f"{attempt.invocation}: {attempt.modality} {attempt.provider}, attempt {attempt.number}: "
        f"{attempt.outcome}{why}{follows}; {begin:.0f} to {begin + took:.0f} ms after the end of speech"
    )
    return _bar(y, title, f"bar{failed}", begin, took, scale, label, detail)
