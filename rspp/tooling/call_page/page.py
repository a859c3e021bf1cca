"""The page of a call: everything in one file that loads nothing and runs anywhere.

The page may be opened from disk and may hold what strangers said: every text is escaped, and its content
security policy lets nothing run but the one script whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from rspp.tooling.call_page.document import call_document, embedded
from rspp.tooling.call_page.turns import turns_section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rspp.tooling.call_page.model import CallModel

IDENTICAL = "identical"
"""What ``replay`` says when replaying the recording gave the very same decisions."""


def whole_page(
    *, title: str, header: str, body: str, scripts: Sequence[str], styles: Sequence[str], data: dict[str, Any]
) -> str:
    """Put a page together.

    Args:
        title: of the window; escaped here.
        header: HTML of the header, escaped by whoever made it.
        body: HTML of the rest.
        scripts: names of assets; they become one script.
        styles: names of assets.
        data: embedded as JSON in ``#data``.
    """
    assets = resources.files("rspp.tooling.assets")
    style = "".join(assets.joinpath(name).read_text("utf-8") for name in styles)
    script = "".join(assets.joinpath(name).read_text("utf-8") for name in scripts)
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{header}
{body}
</main>
<script type="application/json" id="data">{embedded(data)}</script>
<script>
{script}</script>
</body>
</html>
"""


def write_whole(path: Path, text: str) -> None:
    """Write a file, all or nothing; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, "utf-8", errors="replace")
    temporary.replace(path)


def call_page(
    model: CallModel,
    *,
    title: str = "",
    lead: str = "",
    verdict: tuple[bool, str] | None = None,
    replay: str = "",
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    heard_ms: Mapping[str, float | None] | None = None,
    extra: dict[str, Any] | None = None,
) -> str:
    """Return the page of a call.

    Args:
        model: the call.
        title: heading; the session's name when empty.
        lead: a sentence or two on what this is.
        verdict: whether the call went as it should, and the word for it; none when nobody judged it.
        replay: ``identical``, or what replaying the recording gave; empty when it was not replayed.
        before: sections of HTML above the axis, escaped by whoever made them.
        after: sections below the turns.
        heard_ms: for turn ids, the wait that the caller measured.
        extra: embedded with the call's document as ``report``.
    """
    heading = title or f"Call {model.session_id}"
    data = call_document(model, replay=replay)
    if extra is not None:
        data["report"] = extra
    said = "" if verdict is None else _verdict(*verdict)
    parts = [
        f'<p class="lead">{escape(lead)}</p>' if lead else "",
        _chips(model, replay),
        _facts(model, replay),
        _damage(model),
        *before,
        _timeline(model, data["left_out"]),
        turns_section(model, heard_ms),
        _search(),
        *after,
    ]
    return whole_page(
        title=heading,
        header=f"<header><h1>{escape(heading)}</h1>{said}</header>",
        body="\n".join(part for part in parts if part),
        scripts=("call_axis.js", "call_draw.js", "call_panel.js", "report.js"),
        styles=("report.css", "call.css"),
        data=data,
    )


def _verdict(good: bool, word: str) -> str:  # noqa: FBT001 - a pair of the caller's, unpacked
    return f'<span class="verdict {"good" if good else "bad"}">{escape(word)}</span>'


def _chips(model: CallModel, replay: str) -> str:
    whole = "bad" if model.damage or model.incomplete else "good" if model.sealed is not False else "open"
    chips = [(whole, f"recording: {model.integrity}")]
    if replay:
        # Why it is not possible stands below, among the facts.
        told = replay.partition(":")[0]
        chips.append(("good" if replay == IDENTICAL else "bad", f"replay: {told}"))
    takeovers = sum(1 for stint in model.stints[1:])
    if takeovers:
        chips.append(("bad", f"{takeovers} {'takeover' if takeovers == 1 else 'takeovers'}"))
    interrupted = sum(turn.barge_in for turn in model.turns.values())
    if interrupted:
        chips.append(("held", f"{interrupted} {'barge-in' if interrupted == 1 else 'barge-ins'}"))
    aborted = sum(turn.outcome == "abort" and not turn.barge_in for turn in model.turns.values())
    if aborted:
        chips.append(("bad", f"{aborted} aborted"))
    items = "".join(f'<span class="chip {style} tag">{escape(text)}</span>' for style, text in chips)
    return f'<div class="chips">{items}</div>'


def _facts(model: CallModel, replay: str) -> str:
    began = "unknown"
    if 0 < model.started_wall_ms < 253_402_300_800_000:
        moment = datetime.fromtimestamp(model.started_wall_ms / 1000, UTC)
        began = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    epochs = ", ".join(str(stint.epoch) for stint in model.stints) or "none"
    facts = {
        "session": model.session_id or "unknown",
        "tenant": model.tenant or "not recorded",
        "pipeline": model.pipeline or "unknown",
        "recording level": model.level or "not recorded",
        "integrity": model.integrity,
        "replay": replay or "not replayed",
        "began": began,
        "length": f"{model.duration_us / 1e6:.1f} s",
        "turns": len(model.turns),
        "epochs": epochs,
        "records": sum(model.counts.values()),
        "ended": model.ended_reason or "not recorded",
    }
    rows = "".join(f"<div><dt>{key}</dt><dd>{escape(str(value))}</dd></div>" for key, value in facts.items())
    return f'<dl class="facts card">{rows}</dl>'


def _damage(model: CallModel) -> str:
    if not model.damage:
        return ""
    items = "".join(
        f"<li><b>{escape(item.code)}</b> {escape(item.where)}: {escape(item.message)}</li>"
        for item in model.damage
    )
    return (
        '<h2 class="bad">Damage <small>what is shown is what could still be read</small></h2>'
        f'<ul class="card damage">{items}</ul>'
    )


def _timeline(model: CallModel, left_out: dict[str, int]) -> str:
    legend = (
        '<ul class="legend"><li><i class="k-caller"></i>caller</li>'
        '<li><i class="k-agent"></i>agent speaks</li>'
        '<li><i class="k-think"></i>thinking, provider</li><li><i class="k-hold"></i>voice held</li>'
        '<li><i class="k-good"></i>admitted, in order</li>'
        '<li><i class="k-bad"></i>refused, cut, lost</li></ul>'
    )
    shed = ""
    if left_out:
        items = ", ".join(f"{count} of {escape(name)}" for name, count in left_out.items())
        shed = f'<p class="soft">This page leaves out records that the recording has: {items}.</p>'
    label = "The call on one time axis. Arrow keys move, Enter opens, + and - zoom."
    return (
        "<h2>The call on one axis <small>point at a part for its times; click for the evidence behind it"
        f'</small></h2>\n{legend}{shed}\n<div class="card timeline"><div class="tools">'
        '<button type="button" data-zoom="0.5" aria-label="Zoom in">+</button>'
        '<button type="button" data-zoom="2" aria-label="Zoom out">&minus;</button>'
        '<button type="button" data-zoom="move-0.5" aria-label="Earlier">&larr;</button>'
        '<button type="button" data-zoom="move0.5" aria-label="Later">&rarr;</button>'
        '<button type="button" data-zoom="all">whole call</button>'
        '<span class="keys">drag to move, Ctrl and wheel to zoom; keys: arrows, Enter, + &minus; 0</span>'
        "</div>"
        '<div><svg class="overview" height="28" aria-hidden="true"></svg></div>'
        f'<div><svg class="lanes" tabindex="0" role="group" aria-label="{escape(label)}"></svg></div>'
        "<noscript>The axis needs the script of this page; the turns below do not.</noscript></div>"
        '<aside id="panel" role="dialog" aria-label="Evidence" hidden><div class="top"><h2></h2>'
        '<button type="button" class="close" aria-label="Close">close</button></div>'
        '<div class="body"></div></aside>'
    )


def _search() -> str:
    return (
        "<h2>Evidence <small>every record that this page carries, as recorded</small></h2>\n"
        '<p><input type="search" id="search" placeholder="find: a signal, a reason, a sequence, an event id" '
        'aria-label="Find evidence records"></p><div id="found"></div>'
    )
