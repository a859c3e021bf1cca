"""Pieces of the report page: waterfalls, dot plots, tables and the recording to listen to."""

from __future__ import annotations

import base64
import struct
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import soxr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rspp.tooling.figures import Check, Figure, Rival
    from rspp.tooling.measure import Recording, Samples
    from rspp.tooling.story import Turn

AUDIO_RATE_HZ = 12_000
AUDIO_LIMIT_MS = 240_000
"""Longest call that is carried in the page to listen to: 24 kB a second, a third more as text."""

STAGES = (
    ("s1", "waiting for the end of the sentence", "end_of_speech_to_turn_open"),
    ("s2", "first word of the reply", "llm_first_word"),
    ("s3", "first audio of the voice", "tts_first_audio"),
    ("s4", "until it passed the gate", ""),
    ("s5", "the room, both ways", ""),
)


def stages(turn: Turn, heard_ms: float | None) -> list[tuple[str, str, float]]:
    """Divide the wait for an answer into its stages as ``(style, title, ms)``.

    The last stage is what the runtime cannot see: both ways through the room and the notice of the
    speech's end, the rest of what the caller measured.
    """
    wait = turn.latencies.get("end_of_speech_to_turn_open", 0.0)
    output = turn.latencies.get("turn_open_to_first_output", 0.0)
    word = min(turn.latencies.get("llm_first_word", 0.0), output)
    audio = min(turn.latencies.get("tts_first_audio", 0.0), output - word)
    values = [wait, word, audio, output - word - audio]
    values.append(max(0.0, heard_ms - wait - output) if heard_ms is not None else 0.0)
    return [(style, title, value) for (style, title, _), value in zip(STAGES, values, strict=True)]


def waterfall(turn: Turn, heard_ms: float | None, scale_ms: float) -> str:
    """Draw one turn's wait, a row for each stage, all turns on one scale."""
    parts, at = [], 0.0
    rows = stages(turn, heard_ms)
    left, width, row = 236, 280, 19
    for index, (style, title, value) in enumerate(rows):
        x, length = left + at / scale_ms * width, max(0.8, value / scale_ms * width)
        at += value
        y = index * row
        parts.append(
            f"<g><title>{escape(title)}: {value:.1f} ms, until {at:.0f} ms after the end of speech</title>"
            f'<text x="0" y="{y + 13}">{escape(title)}</text>'
            f'<rect class="{style}" x="{x:.1f}" y="{y + 3}" width="{length:.1f}" height="13" rx="2"/>'
            f'<text class="num" x="{x + length + 5:.1f}" y="{y + 13}">{value:.0f} ms</text></g>'
        )
    height = len(rows) * row + 4
    label = "; ".join(f"{title} {value:.0f} ms" for _, title, value in rows)
    return (
        f'<svg class="fall" viewBox="0 0 580 {height}" role="img" aria-label="{escape(label)}">'
        f'<line class="axis" x1="{left}" x2="{left}" y1="0" y2="{height}"/>' + "".join(parts) + "</svg>"
    )


def dot_plot(figure: Figure) -> str:
    """Draw every value of a figure, its gates, and where the rivals lie."""
    marks = [*figure.values, *(gate.limit for gate in figure.gates)]
    marks += [value for rival in figure.rivals for value in (rival.low, rival.high, rival.median) if value]
    if not marks:
        return ""
    top = max(marks) * 1.06 or 1.0
    left, width, row = 4, 520, 17
    height = 44 + row * len(figure.rivals)

    def x(value: float) -> float:
        return left + max(value, 0) / top * width

    parts = [f'<line class="axis" x1="{left}" x2="{left + width}" y1="26" y2="26"/>']
    for index, value in enumerate(figure.values):
        # A fixed scatter keeps equal values apart without inventing an order.
        y = 26 + ((index * 7) % 11 - 5) * 1.3
        parts.append(
            f"<g><title>{value:.0f} {figure.unit}, attempt {index + 1}</title>"
            f'<circle class="dot" cx="{x(value):.1f}" cy="{y:.1f}" r="4"/></g>'
        )
    median = figure.statistic("median")
    if median is not None:
        parts.append(f'<line class="median" x1="{x(median):.1f}" x2="{x(median):.1f}" y1="15" y2="37"/>')
    for index, gate in enumerate(figure.gates):
        reached = figure.statistic(gate.statistic)
        held = " held" if reached is not None and reached <= gate.limit else ""
        at = x(gate.limit)
        anchor = "end" if at > left + width * 0.6 else "start"
        nudge = -4 if anchor == "end" else 4
        parts.append(
            f"<g><title>{gate.statistic} at most {gate.limit:.0f} ({escape(gate.source)})</title>"
            f'<line class="gate{held}" x1="{at:.1f}" x2="{at:.1f}" y1="9" y2="40"/>'
            f'<text x="{at + nudge:.1f}" y="{9 + 33 * (index % 2)}" text-anchor="{anchor}">'
            f"{gate.statistic} ≤ {gate.limit:.0f}</text></g>"
        )
    for index, rival in enumerate(figure.rivals):
        parts.append(_rival(rival, 54 + index * row, x, left + width))
    frame = f'viewBox="0 0 {left + width + 6} {height}" role="img" aria-label="{escape(figure.title)}"'
    return f'<svg class="plot" {frame}>{"".join(parts)}</svg>'


def _rival(rival: Rival, y: int, x: Callable[[float], float], right: float) -> str:
    detail = (
        rival.note or f"{rival.low:.0f} to {rival.high:.0f}" if rival.note or rival.low is not None else ""
    )
    title = f"{rival.name}: " + (f"median {rival.median:.0f}; " if rival.median else "") + detail
    parts = [f"<g><title>{escape(title)}</title>"]
    beyond = 0.0
    if rival.low is not None and rival.high is not None:
        beyond = x(rival.high)
        parts.append(f'<line class="rival" x1="{x(rival.low):.1f}" x2="{beyond:.1f}" y1="{y}" y2="{y}"/>')
    if rival.median is not None:
        beyond = max(beyond, x(rival.median))
        parts.append(f'<circle class="rivalmedian" cx="{x(rival.median):.1f}" cy="{y}" r="3"/>')
    first = x(rival.low) if rival.low is not None else x(rival.median or 0)
    if beyond and right - beyond < len(rival.name) * LETTER:
        parts.append(
            f'<text x="{first - 8:.1f}" y="{y + 4}" text-anchor="end">{escape(rival.name)}</text></g>'
        )
    else:
        parts.append(f'<text x="{beyond + 8:.1f}" y="{y + 4}">{escape(rival.name)}</text></g>')
    return "".join(parts)


LETTER = 5.8
"""Average width of a letter at 11 px."""


def _verdict(figure: Figure) -> str:
    if not figure.passed:
        return '<b class="bad">fails</b>'
    return '<b class="good">pass</b>' if figure.gates else '<span class="soft">measured</span>'


def figure_card(figure: Figure) -> str:
    """One figure with its verdict and its plot."""
    median, maximum = figure.statistic("median"), figure.statistic("maximum")
    big = "&ndash;" if median is None else f"{median:.0f}"
    count = len(figure.values)
    spread = "" if maximum is None or count < 2 else f" median of {count}, at most {maximum:.0f}"
    verdict = _verdict(figure)
    gates = " and ".join(f"{gate.statistic} ≤ {gate.limit:.0f} ({gate.source})" for gate in figure.gates)
    missed = "".join(f'<p class="bad">{escape(reason)}</p>' for reason in figure.missed)
    return (
        f'<section class="card figure"><h3>{escape(figure.title)}</h3>'
        f'<div class="big">{big} <span>{escape(figure.unit)}{escape(spread)}</span></div>'
        f"<p>{verdict}{' · ' if gates else ''}{escape(gates)}</p>{missed}{dot_plot(figure)}</section>"
    )


def figures_table(figures: Sequence[Figure]) -> str:
    """All figures with their gates, the runtime's own figures and the rivals'."""
    head = (
        '<tr><th scope="col">figure, ms</th><th scope="col">n</th><th scope="col">median</th>'
        '<th scope="col">p95</th><th scope="col">max</th><th scope="col" class="left">gate</th>'
        '<th scope="col" class="left">the runtime\'s own</th><th scope="col">verdict</th></tr>'
    )
    rows: list[str] = []
    for figure in figures:
        own = figure.document()["runtime"]
        cells = [figure.statistic(name) for name in ("median", "p95", "maximum")]
        numbers = "".join(f"<td>{'&ndash;' if value is None else f'{value:.0f}'}</td>" for value in cells)
        gates = "<br>".join(
            f"{gate.statistic} ≤ {gate.limit:.0f} <span class=soft>{escape(gate.source)}</span>"
            for gate in figure.gates
        )
        beside = "" if own is None else f"{own['median']:.1f} <span class=soft>{escape(own['title'])}</span>"
        verdict = _verdict(figure)
        rows.append(
            f"<tr><td>{escape(figure.title)}</td><td>{len(figure.values)}</td>{numbers}"
            f'<td class="left">{gates}</td><td class="left">{beside}</td><td>{verdict}</td></tr>'
        )
        for rival in figure.rivals:
            spread = rival.note or ("" if rival.low is None else f"{rival.low:.0f} to {rival.high:.0f}")
            middle = "" if rival.median is None else f"{rival.median:.0f}"
            rows.append(
                f'<tr class="rival"><td>{escape(rival.name)}</td><td></td><td>{middle}</td>'
                f'<td colspan="5" class="left">{escape(spread)}</td></tr>'
            )
    return (
        f'<div class="card scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def checks_list(checks: Sequence[Check]) -> str:
    """What had to happen."""
    items = "".join(
        f'<li class="{"yes" if check.passed else "no"}">{escape(check.title)}'
        + (f' <span class="soft">{escape(check.detail)}</span>' if check.detail else "")
        + ("" if check.passed else ' <b class="bad">did not happen</b>')
        + "</li>"
        for check in checks
    )
    return f'<ul class="checks card">{items}</ul>'


def facts(items: dict[str, Any]) -> str:
    """Names and values in columns."""
    rows = "".join(
        f"<div><dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd></div>"
        for key, value in items.items()
    )
    return f'<dl class="facts card">{rows}</dl>'


def player(recording: Recording) -> str:
    """Return the call to listen to, or nothing when it is too long to be carried in a page."""
    if recording.length_ms > AUDIO_LIMIT_MS:
        return ""
    left, right = (
        _mu_law(np.asarray(soxr.resample(channel, recording.rate_hz, AUDIO_RATE_HZ), dtype=np.int16))
        for channel in (recording.sent, recording.heard)
    )
    size = min(left.size, right.size)
    body = np.stack((left[:size], right[:size]), axis=1).tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHHH4sI", b"RIFF", 38 + len(body), b"WAVE", b"fmt ", 18, 7, 2, AUDIO_RATE_HZ,
        AUDIO_RATE_HZ * 2, 2, 8, 0, b"data", len(body),
    )  # fmt: skip
    encoded = base64.b64encode(header + body).decode("ascii")
    return (
        '<audio controls preload="metadata" aria-label="The call: caller left, agent right" '
        f'src="data:audio/wav;base64,{encoded}"></audio>'
    )


def _mu_law(pcm: Samples) -> npt.NDArray[np.uint8]:
    """Encode as G.711 mu-law."""
    value = pcm.astype(np.int32)
    sign = np.where(value < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(value), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return np.asarray(~(sign | (exponent << 4) | mantissa) & 0xFF, dtype=np.uint8)
