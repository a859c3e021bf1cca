"""The live view of a call: who speaks, turn states, pressure and latency, while it happens.

On a terminal it is a panel that is drawn again four times a second; elsewhere, or with ``NO_COLOR``, it
is one plain line for each thing that happens.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rspp.evidence.following import Follower
from rspp.tooling.story import Story

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from rich.console import Console

LINES = 12
POLL_SECONDS = 0.1
EDGE_LIMIT_MS = 2000
SHOWN_LATENCIES = {
    "end_of_speech_to_turn_open": "end of speech → turn open",
    "turn_open_to_first_output": "turn open → first frame",
    "stt_final": "recogniser",
}


class LiveView:
    """Shows a call from the caller's events and the runtime's records.

    Args:
        console: where to.
        title: heading.
        words: gives the call's records with the words that may be shown; none shows how many they are.
    """

    def __init__(
        self, console: Console, title: str, words: Callable[[], list[dict[str, Any]]] | None = None
    ) -> None:
        self._console = console
        self._title = title
        self._words = words
        self._transcripts = 0
        self._plain = not console.is_terminal or bool(os.environ.get("NO_COLOR"))
        self._lines: deque[str] = deque(maxlen=LINES)
        self._started = time.monotonic()
        self._caller = "listens"
        self._audible = False
        self._live: Live | None = None
        self.story = Story()

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if not self._plain:
            self._live = Live(self._draw(), console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(self._draw())
            self._live.stop()

    # -------------------------------------------------------------------------------- taking in
    def on_event(self, event: dict[str, Any]) -> None:
        """Take an event of the caller's process."""
        kind = event.get("event")
        if kind == "step_begin" and event["do"] in {"say", "cough", "click", "tone"}:
            self._caller = "speaks"
            self._note("caller", event["text"] or f"({event['do']})")
        elif kind == "step_begin":
            self._caller = "hangs up" if event["do"] == "hang_up" else "listens"
            if event["do"] == "hang_up":
                self._note("caller", "(hangs up)")
        elif kind == "agent_audible":
            self._audible = True
        elif kind == "agent_silent":
            self._audible = False
        elif kind == "timed_out":
            self._note("caller", f"(waited too long: {event['do']})")
        self._refresh()

    def on_record(self, record: dict[str, Any]) -> None:
        """Take a record of the runtime's timeline."""
        self.story.feed(record)
        kind, name = record.get("kind"), record.get("name")
        turn = record.get("turn", 0)
        if kind == "marker" and name == "output_held":
            self._note("turn", f"{turn} voice held")
        elif kind == "marker" and name == "output_released":
            self._note("turn", f"{turn} goes on")
        elif kind == "transition" and record["to"] == "Active":
            self._note("turn", f"{turn} open")
        elif kind == "transition" and record["to"] == "Terminal":
            ended = "said in full" if record["trigger"] == "commit" else "interrupted"
            self._note("turn", f"{turn} {ended}")
        elif kind == "transcript" and record.get("final", True):
            self._note("heard" if record["party"] == "caller" else "agent", self._said(record))
            self._transcripts += 1
        elif kind == "latency" and name == "end_of_speech_to_turn_open":
            self._note("turn", f"{turn} opened {record['value_us'] / 1000:.0f} ms after the end of speech")
        self._refresh()

    def _said(self, record: dict[str, Any]) -> str:
        """The words of a transcript, which are not in the record itself."""
        text = str(record.get("text", ""))
        if not text and record.get("words") and self._words is not None:
            spoken = [found for found in self._words() if found["kind"] == "transcript"]
            if self._transcripts < len(spoken):
                text = str(spoken[self._transcripts]["text"])
        return text or f"({record.get('words', 0)} words)"

    # ---------------------------------------------------------------------------------- showing
    def _note(self, who: str, text: str) -> None:
        line = f"{time.monotonic() - self._started:6.1f} s  {who:<6}  {text}"
        if self._plain:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            self._lines.append(line)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._draw())

    def _draw(self) -> Panel:
        story = self.story
        top = Table.grid(padding=(0, 3))
        caller = f"[cyan]caller {self._caller}[/]" if self._caller == "speaks" else f"caller {self._caller}"
        state = "holds its voice" if story.held else story.agent_state
        voice = " [yellow]♪ heard[/]" if self._audible else ""
        turns = story.ordered
        number = turns[-1].number if turns else 0
        top.add_row(caller, f"agent: [bold]{escape(state)}[/]{voice}", f"turn {number}, epoch {story.epoch}")
        pressure = Table.grid(padding=(0, 3))
        for edge, queued in sorted(story.pressure_ms.items()):
            filled = min(20, round(20 * queued / EDGE_LIMIT_MS))
            bar = "█" * filled + "░" * (20 - filled)
            pressure.add_row(f"pressure {escape(edge)}", bar, f"{queued} ms, {story.shed.get(edge, 0)} shed")
        for name, title in SHOWN_LATENCIES.items():
            values = story.latencies.get(name)
            if values:
                pressure.add_row(f"latency {title}", f"last {values[-1]:.0f} ms", f"{len(values)} times")
        lines = Text("\n".join(self._lines))
        elapsed = f"{time.monotonic() - self._started:.0f} s"
        return Panel(Group(top, pressure, Text(), lines), title=self._title, subtitle=elapsed)

    # ------------------------------------------------------------------------------ following
    async def follow(self, folder: Path) -> None:
        """Read the recording of a session as it grows, until cancelled."""
        follower = Follower(folder)
        while True:
            self.catch_up(follower)
            await asyncio.sleep(POLL_SECONDS)

    def catch_up(self, follower: Follower) -> None:
        """Show what came since the last time."""
        for record in follower.read():
            self.on_record(record)
