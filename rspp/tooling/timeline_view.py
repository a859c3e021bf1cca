"""A recorded call for the terminal: what happened, in order, on lines that fit."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from rspp.tooling.call_page.model import CallModel, Kept, Span, Style, TurnView

COLOURS: dict[Style, str] = {
    "plain": "",
    "good": "green",
    "bad": "red",
    "hold": "magenta",
    "caller": "blue",
    "agent": "yellow",
    "think": "yellow",
    "edge": "cyan",
    "soft": "dim",
}
NARROW = 76
STRIP_ROWS = (("caller", "caller"), ("agent", "agent"), ("holds", "held"))
LANE_WORDS = {"control": "ctl", "data": "data", "telemetry": "tel", "authority": "lease", "missing": "lost"}


def printable(text: str) -> Text:
    """Return text of a stranger as it may be shown: no escape sequence of it reaches the terminal."""
    return Text("".join(letter if letter.isprintable() else "�" for letter in text))


def show_call(
    console: Console,
    model: CallModel,
    *,
    turn: int | None = None,
    begin_us: int = 0,
    end_us: int | None = None,
) -> None:
    """Print a call: what it is, the strip of voices, the turns, and the events.

    Args:
        console: where to; its width decides what is shown in one line.
        model: the call.
        turn: only turns of this number.
        begin_us: only what happened from here on, microseconds from the beginning.
        end_us: and before here; none for the end.
    """
    last = model.duration_us if end_us is None else end_us
    _head(console, model)
    turns = [one for one in model.ordered if _chosen(model, one, turn, begin_us, last)]
    if turn is not None and turns:
        begin_us = max(begin_us, min(one.speech_end_us or one.begin_us for one in turns))
        last = min(last, max(model.end_of(one) for one in turns))
    _strip(console, model, begin_us, last)
    _turns(console, model, turns)
    _events(console, model, {one.key for one in turns} if turn is not None else None, begin_us, last)


def records_between(
    model: CallModel, *, turn: int | None, begin_us: int, end_us: int | None
) -> Iterator[Kept]:
    """Yield the kept records of a turn and a stretch of time, in order."""
    last = model.duration_us if end_us is None else end_us
    for kept in model.records:
        if not begin_us <= kept.at_us <= last:
            continue
        if turn is None or kept.turn.rpartition("-")[2] == str(turn):
            yield kept


def _chosen(model: CallModel, one: TurnView, turn: int | None, begin_us: int, end_us: int) -> bool:
    if turn is not None and one.number != turn:
        return False
    return one.begin_us <= end_us and model.end_of(one) >= begin_us


def _head(console: Console, model: CallModel) -> None:
    line = Text().append("session ", "dim").append_text(printable(model.session_id or "unknown"))
    for name, value in (("tenant", model.tenant), ("pipeline", model.pipeline), ("level", model.level)):
        if value:
            line.append(f"  {name} ", "dim").append_text(printable(value))
    console.print(line)
    style = "red" if model.damage or model.incomplete else "green"
    told = Text(
        f"{model.duration_us / 1e6:.1f} s, {len(model.turns)} turns, {sum(model.counts.values())} records, "
    )
    console.print(told.append(model.integrity, style))
    for damage in model.damage:
        console.print(
            Text()
            .append("damage ", "bold red")
            .append_text(printable(f"{damage.code}: {damage.where}: {damage.message}"))
        )


def _strip(console: Console, model: CallModel, begin_us: int, end_us: int) -> None:
    """Both voices on one line each, as wide as the terminal."""
    width = max(20, console.width - 9)
    length = max(1, end_us - begin_us)
    for row, title in STRIP_ROWS:
        cells = [" "] * width
        styles = [""] * width
        for span in model.spans:
            if span.row == row and span.begin_us <= end_us and _end(model, span) >= begin_us:
                first = max(0, (span.begin_us - begin_us) * width // length)
                last = min(width - 1, (_end(model, span) - begin_us) * width // length)
                for place in range(first, last + 1):
                    cells[place] = "·" if span.name == "thinking" else "━"
                    styles[place] = COLOURS[span.style]
        line = Text().append(f"{title:<8} ", "dim")
        for style, run in groupby(zip(cells, styles, strict=True), key=itemgetter(1)):
            line.append("".join(cell for cell, _ in run), style)
        line.rstrip()
        console.print(line, soft_wrap=True)
    console.print(Text(f"{'':<9}{_time(begin_us)} to {_time(end_us)}", "dim"))


def _end(model: CallModel, span: Span) -> int:
    return model.duration_us if span.end_us is None else span.end_us


def _turns(console: Console, model: CallModel, turns: list[TurnView]) -> None:
    if not turns:
        return
    console.print()
    if console.width < NARROW:
        for turn in turns:
            console.print(printable(f"{turn.key} {_time(turn.begin_us)} ").append_text(_ending(turn)))
            console.print(Padding(_said(turn, model.unsaid), (0, 0, 0, 2)))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("turn", "at", "ended"):
        table.add_column(name, no_wrap=name != "ended")
    table.add_column("answer, ms", justify="right")
    table.add_column("said", overflow="fold", ratio=1)
    for turn in turns:
        wait = sum(
            turn.latencies.get(name, 0)
            for name in ("end_of_speech_to_turn_open", "turn_open_to_first_output")
        )
        table.add_row(
            printable(turn.key),
            _time(turn.begin_us),
            _ending(turn),
            f"{wait / 1000:.0f}" if turn.latencies else "",
            _said(turn, model.unsaid),
        )
    console.print(table)


def _ending(turn: TurnView) -> Text:
    shown = printable(turn.ending)
    shown.stylize({"commit": "green", "abort": "red"}.get(turn.outcome, "dim"))
    return shown


def _said(turn: TurnView, unsaid: str) -> Text:
    line = Text()
    for name, words, colour in (("caller", turn.caller, "blue"), ("agent", turn.agent, "yellow")):
        if words is None:
            continue
        if line:
            line.append("\n")
        line.append(f"{name}: ", colour)
        if words.text is not None:
            line.append_text(printable(words.text))
        elif words.count:
            many = "word" if words.count == 1 else "words"
            line.append(f"{words.count} {many}, {unsaid}", "dim")
        else:
            line.append("nothing was heard", "dim")
    return line


def _events(console: Console, model: CallModel, turns: set[str] | None, begin_us: int, end_us: int) -> None:
    lines: list[tuple[int, Text]] = []
    for mark in model.marks:
        if mark.row == "telemetry" or not begin_us <= mark.at_us <= end_us:
            continue
        if turns is None or mark.turn in turns:
            lines.append((mark.at_us, _line(console, mark.at_us, mark.row, mark.name, mark.style, mark.turn)))
    for span in model.spans:
        if span.row in {"data", "holds"} and begin_us <= span.begin_us <= end_us:
            if turns is not None and span.turn not in turns:
                continue
            name = f"{span.name}, {(_end(model, span) - span.begin_us) / 1000:.0f} ms"
            lines.append(
                (span.begin_us, _line(console, span.begin_us, span.row, name, span.style, span.turn))
            )
    lines.sort(key=lambda line: line[0])
    if lines:
        console.print()
    for _, line in lines:
        console.print(line, soft_wrap=True)


def _line(console: Console, at: int, row: str, name: str, style: Style, turn: str) -> Text:
    where = row.removeprefix("edge:")
    line = Text().append(f"{_time(at)} ", "dim")
    if console.width >= NARROW:
        lane = printable(f"{LANE_WORDS.get(where, where)[:12]:<13}")
        lane.stylize("cyan" if row.startswith("edge:") else "dim")
        line.append_text(lane).append_text(printable(f"{turn[:12]:<9} "))
    room = max(8, console.width - cell_len(line.plain))
    shown = printable(name)
    shown.truncate(room, overflow="ellipsis")
    shown.stylize(COLOURS[style])
    return line.append_text(shown)


def _time(us: int) -> str:
    minutes, rest = divmod(max(0, us), 60_000_000)
    return f"{minutes}:{rest / 1e6:06.3f}"


def shown_document(model: CallModel, records: list[Kept]) -> dict[str, Any]:
    """Return what ``timeline show --json`` prints: the call and the chosen records."""
    from rspp.tooling.call_page.document import call_document

    document = call_document(model, most_turns=None)
    document["records"] = [
        {"index": kept.index, "at_us": kept.at_us, "turn": kept.turn, "record": kept.record}
        for kept in records
    ]
    # Positions would mean another list of records than the one that is printed here.
    for part in ("turns", "spans", "marks"):
        for element in document[part]:
            element.pop("records")
    for edge in document["edges"]:
        edge["depth"] = [[at, queued] for at, queued, _ in edge["depth"]]
    return document
