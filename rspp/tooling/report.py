"""The report: one self-contained page of a call or of a bench.

Nothing is loaded from anywhere: style, drawing, data and the call itself are in the page. Every text
that came from outside is escaped. The figures are also there as JSON, in ``#data``.
"""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from rspp.tooling.measure import answer_delay, joined, stretches
from rspp.tooling.report_parts import (
    STAGES,
    checks_list,
    facts,
    figure_card,
    figures_table,
    player,
    stages,
    waterfall,
)
from rspp.tooling.report_score import Said, score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rspp.tooling.figures import Check, Figure
    from rspp.tooling.room_call import CallResult
    from rspp.tooling.story import Story, Turn

ANSWER_LIMIT_MS = 5_000
"""An answer later than this belongs to something else."""


def call_section(call: CallResult, story: Story | None, *, turns: bool = True) -> str:
    """The call as a score with its recording, and its turns with their waterfalls.

    Args:
        call: the caller's side.
        story: the runtime's records.
        turns: whether the turns follow; a page that shows them itself goes without.
    """
    shift = float(call.started_wall_ms)
    said = _said(call)
    legend = (
        '<ul class="legend">'
        '<li><i style="background:var(--caller)"></i>caller\'s voice, as sent</li>'
        '<li><i style="background:var(--agent)"></i>agent\'s voice, as it arrived</li>'
        '<li><i style="background:var(--caller);opacity:.3"></i>recognising</li>'
        '<li><i style="background:var(--think)"></i>thinking</li>'
        '<li><i style="background:var(--agent);opacity:.75"></i>speaking</li>'
        '<li><i style="background:var(--hold)"></i>voice held</li></ul>'
    )
    parts = [
        "<h2>The call <small>point at a part for its times; click to listen from there</small></h2>",
        player(call.recording),
        legend,
        score(call.recording, story, shift, said),
    ]
    if turns and story is not None and story.ordered:
        parts.append(_turns(call, story, shift))
    return "\n".join(parts)


def _said(call: CallResult) -> list[Said]:
    spoken = {"cough": "(coughs)", "click": "(click)", "tone": "(tone)"}
    return [
        Said(call.recording.ms(step.begin), call.recording.ms(step.end), step.text or spoken[step.do])
        for step in call.steps
        if step.do == "say" or step.do in spoken
    ]


def _turns(call: CallResult, story: Story, shift: float) -> str:
    waits = heard_waits(call, story)
    totals = [sum(value for _, _, value in stages(turn, waits[turn.number])) for turn in story.ordered]
    scale = max([*totals, 1.0])
    keys = "".join(f'<li><i class="{style}"></i>{escape(title)}</li>' for style, title, _ in STAGES)
    cards = "".join(_turn_card(turn, waits[turn.number], scale, shift) for turn in story.ordered)
    return (
        "<h2>Turn by turn <small>words as heard; the wait from the caller's last sound to the answer"
        f'</small></h2><ul class="legend">{keys}</ul>{cards}'
    )


def heard_waits(call: CallResult, story: Story) -> dict[int, float | None]:
    """Return the caller's wait for the first sound of each turn, milliseconds, as the caller measured it."""
    recording = call.recording
    agent = stretches(recording.heard, recording.rate_hz)
    ends = [one.end for one in joined(stretches(recording.sent, recording.rate_hz), 300)]
    shift = float(call.started_wall_ms)
    return {turn.number: _heard_wait(turn, shift, ends, agent) for turn in story.ordered}


def _heard_wait(turn: Turn, shift: float, ends: list[float], agent: list[Any]) -> float | None:
    """The caller's wait for this turn's first sound; none for a turn that answers nobody."""
    if not turn.caller_text or turn.first_output is None:
        return None
    before = [end for end in ends if end <= turn.opened - shift]
    if not before:
        return None
    delay = answer_delay(agent, before[-1])
    return delay if delay is not None and 0 <= delay <= ANSWER_LIMIT_MS else None


def _turn_card(turn: Turn, heard_ms: float | None, scale: float, shift: float) -> str:
    outcome = {"commit": "said in full", "abort": turn.reason or "aborted"}.get(turn.outcome, "open")
    if turn.outcome == "abort" and turn.reason == "cancelled":
        outcome = "interrupted"
    held = (
        f'<span class="tag held">held {len(turn.holds)} {"time" if len(turn.holds) == 1 else "times"}</span>'
        if turn.holds
        else ""
    )
    total = "" if heard_ms is None else f"<span>answered after {heard_ms:.0f} ms</span>"
    caller = (
        f'<p class="said"><b>caller</b>{escape(turn.caller_text)}</p>'
        if turn.caller_text
        else '<p class="said"><b>caller</b><span class="soft">nothing; the agent speaks by itself</span></p>'
    )
    words = escape(turn.agent_text) or '<span class="soft">nothing was heard</span>'
    fall = waterfall(turn, heard_ms, scale) if turn.caller_text and turn.latencies else ""
    return (
        f'<article class="card turn"><h3><span>Turn {turn.number}</span>'
        f"<span>{(turn.opened - shift) / 1000:.1f} s</span>"
        f'<span class="tag {escape(turn.outcome)}">{escape(outcome)}</span>{held}{total}</h3>'
        f'<div>{caller}<p class="said agent"><b>agent</b>{words}</p></div><div>{fall}</div></article>'
    )


def figures_section(figures: Sequence[Figure], checks: Sequence[Check], *, plots: bool) -> str:
    """What was measured against what is asked."""
    parts = ["<h2>Figures <small>from the caller's recording: energy onsets and offsets alone</small></h2>"]
    if plots:
        parts.append(f'<div class="cards">{"".join(figure_card(figure) for figure in figures)}</div>')
        parts.append("<h2>The same as a table</h2>")
    parts.append(figures_table(figures))
    if checks:
        parts.append("<h2>What had to happen</h2>")
        parts.append(checks_list(checks))
    return "\n".join(parts)


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    passed: bool,
    sections: Sequence[str],
    machine: dict[str, Any],
    data: dict[str, Any],
) -> None:
    """Write the page, all or nothing.

    Args:
        path: file to write.
        title: heading.
        lead: a sentence or two on what this is.
        passed: the verdict.
        sections: HTML, made by the functions of this module.
        machine: what it was made on.
        data: embedded as JSON.
    """
    assets = resources.files("rspp.tooling.assets")
    style = assets.joinpath("report.css").read_text("utf-8")
    script = assets.joinpath("report.js").read_text("utf-8")
    embedded = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    verdict = ("good", "passed") if passed else ("bad", "failed")
    body = "\n".join(sections)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header><h1>{escape(title)}</h1><span class="verdict {verdict[0]}">{verdict[1]}</span></header>
<p class="lead">{escape(lead)}</p>
{body}
<h2>Made on</h2>
{facts(machine)}
</main>
<script type="application/json" id="data">{embedded}</script>
<script>
{script}</script>
</body>
</html>
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(page, "utf-8")
    temporary.replace(path)
