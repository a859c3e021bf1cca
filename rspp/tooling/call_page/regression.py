"""The page of a regression run: which recordings diverged, and each divergence side by side."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from rspp.tooling.call_page.page import whole_page, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_SHOWN = 200
"""Most divergences of one recording that the page draws; the JSON beside it has what the run kept."""
MAX_DEPTH = 40


def write_regression_page(document: Mapping[str, Any], path: Path) -> None:
    """Write the page of a regression run beside its JSON.

    Args:
        document: the regression report; its fixtures carry their divergences.
        path: the page.
    """
    write_whole(path, regression_page(document))


def regression_page(document: Mapping[str, Any]) -> str:
    """Return the page of a regression run."""
    fixtures = list(document.get("fixtures", []))
    failing = _number(document.get("failing_count"))
    good = "bad" if failing else "good"
    head = (
        f'<header><h1>Replay regression</h1><span class="verdict {good}">'
        f"{'failed' if failing else 'passed'}</span></header>"
    )
    gate = escape(str(document.get("gate", "")))
    lead = (
        f'<p class="lead">{len(fixtures)} recordings of the {gate} gate were replayed by this build and '
        "compared record by record. A divergence that was declared is expected; every other one is "
        "unexplained.</p>"
    )
    facts = {
        "made at": document.get("generated_at_utc", ""),
        "recordings": len(fixtures),
        "divergences": _number(document.get("total_divergences")),
        "failing": failing,
        "unexplained": _number(document.get("unexplained_count")),
        "declared in": document.get("metadata_path", ""),
    }
    rows = "".join(f"<div><dt>{key}</dt><dd>{escape(str(value))}</dd></div>" for key, value in facts.items())
    tools = (
        '<p class="tools"><label>show <select id="filter"><option value="">all recordings</option>'
        '<option value="FAIL">failed</option><option value="diverged">diverged</option>'
        '<option value="PASS">passed</option></select></label>'
        '<button type="button" id="open">open or close all</button></p>'
    )
    parts = [
        lead,
        f'<dl class="facts card">{rows}</dl>',
        _wrong(document),
        _classes(document.get("by_class", {})),
        "<h2>Recordings <small>open one for what diverged, recorded beside replayed</small></h2>",
        tools if fixtures else "<p>No recording was replayed.</p>",
        *(_fixture(fixture) for fixture in fixtures),
    ]
    return whole_page(
        title="Replay regression",
        header=head,
        body="\n".join(part for part in parts if part),
        scripts=("regression.js",),
        styles=("report.css", "call.css"),
        data=dict(document),
    )


def _wrong(document: Mapping[str, Any]) -> str:
    told = [str(problem) for problem in document.get("problems", [])]
    told += [f"expected and not seen: {missing}" for missing in document.get("missing_expected", [])]
    items = "".join(f"<li>{escape(one)}</li>" for one in told)
    return f'<h2 class="bad">What is wrong</h2><ul class="card damage">{items}</ul>' if told else ""


def _classes(by_class: Mapping[str, Any]) -> str:
    chips = "".join(
        f'<span class="chip {"held" if count else "soft"}">{escape(str(name))} {_number(count)}</span>'
        for name, count in by_class.items()
    )
    return f'<h2>By class</h2><div class="chips">{chips}</div>' if chips else ""


def _fixture(fixture: Mapping[str, Any]) -> str:
    status = str(fixture.get("status", ""))
    good = "good" if status == "PASS" else "bad"
    divergences = list(fixture.get("divergences", []))
    missing = list(fixture.get("missing_expected", []))
    problem = str(fixture.get("problem", ""))
    counted = _number(fixture.get("total_divergences"))
    expected = _number(fixture.get("expected_configured"))
    declared = f", {expected} declared" if expected else ""
    about = escape(str(fixture.get("about", "")))
    shows = escape(", ".join(map(str, fixture.get("shows", []))))
    told = "".join(
        f'<p class="bad">{escape(one)}</p>'
        for one in ([problem] if problem else []) + [f"expected and not seen: {one}" for one in missing]
    )
    failing = _number(fixture.get("failing_count")) - len(missing) - bool(problem)
    drawn = "".join(
        _divergence(one, failing=number < failing) for number, one in enumerate(divergences[:MAX_SHOWN])
    )
    left = counted - min(len(divergences), MAX_SHOWN)
    more = f'<p class="soft">{left} more are not drawn here.</p>' if left > 0 else ""
    same = '<p class="soft">Every record came out as it was recorded.</p>' if not divergences else ""
    if problem:
        same = ""
    return (
        f'<details class="fixture card" data-status="{escape(status)}" data-diverged="{counted}"'
        f"{' open' if status != 'PASS' else ''}><summary>"
        f'<b class="{good}">{escape(status)}</b><span><b>{escape(str(fixture.get("fixture_id", "")))}</b> '
        f'{about}</span><span class="soft">{_number(fixture.get("records"))} records, '
        f"{_number(fixture.get('recorded_ms')) / 1000:.1f} s, {counted} diverged{declared}</span></summary>"
        f'<p class="soft">{"Shows " + shows + ". " if shows else ""}Timing tolerance '
        f"{_number(fixture.get('timing_tolerance_ms'))} ms.</p>{told}{same}{drawn}{more}</details>"
    )


def _divergence(divergence: Mapping[str, Any], *, failing: bool) -> str:
    expected = divergence.get("expected") is True
    if failing:
        verdict, style = ("expected, yet fails" if expected else "unexplained"), "bad"
    else:
        verdict, style = ("expected" if expected else "allowed"), "good"
    where = []
    if isinstance(divergence.get("at_us"), int):
        where.append(f"at {divergence['at_us'] / 1e6:.3f} s of the session's clock")
    if isinstance(divergence.get("index"), int):
        where.append(f"record {divergence['index']}")
    if isinstance(divergence.get("diff_ms"), (int, float)):
        where.append(f"{divergence['diff_ms']:.1f} ms apart")
    recorded, replayed = _sides(str(divergence.get("recorded", "")), str(divergence.get("replayed", "")))
    return (
        f'<section class="divergence"><h3><span>{escape(str(divergence.get("class", "")))}</span>'
        f"<span>{escape(str(divergence.get('scope', '')))}</span>"
        f'<span class="{style}">{verdict}</span><span class="soft">{escape(", ".join(where))}</span></h3>'
        f"<p>{escape(str(divergence.get('message', '')))}</p>"
        f'<div class="pair"><div><h4>recorded</h4><pre tabindex="0">{recorded}</pre></div>'
        f'<div><h4>replayed</h4><pre tabindex="0">{replayed}</pre></div></div></section>'
    )


def _sides(recorded: str, replayed: str) -> tuple[str, str]:
    """Return both records as HTML, with what differs marked."""
    old, new = _lines(recorded), _lines(replayed)
    return _side(recorded, old, new), _side(replayed, new, old)


def _side(text: str, own: list[tuple[str, str]] | None, other: list[tuple[str, str]] | None) -> str:
    if own is None:
        return escape(text) or "no such record"
    return _marked(own, dict(other or []))


def _lines(text: str) -> list[tuple[str, str]] | None:
    """Return a JSON record as lines of path and value; none when it is no JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return list(_leaves("", value, 0)) if isinstance(value, dict) else None


def _leaves(path: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and depth < MAX_DEPTH:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), inner, depth + 1)
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _marked(lines: list[tuple[str, str]], other: Mapping[str, str]) -> str:
    shown = []
    for path, value in lines:
        line = escape(f"{path}: {value}")
        shown.append(line if other.get(path) == value else f"<mark>{line}</mark>")
    return "\n".join(shown)


def _number(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
