"""Tables of recorded sessions for the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

from rspp.terminal import result_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.evidence.index import SessionRow, TurnRow

NARROW = 80
"""Narrower terminals are shown fewer columns."""
_TURN_COLUMNS = ("session", "turn", "epoch", "ended", "why", "lasted")
_NARROW_COLUMNS = ("session", "begun (UTC)", "lasted", "turns", "state")
_COLUMNS = ("session", "begun (UTC)", "lasted", "pipeline", "stints", "turns", "size", "state")


def show_sessions(found: Sequence[tuple[SessionRow, Sequence[TurnRow]]], *, with_turns: bool) -> None:
    """Print sessions, newest first, or the turns of each.

    Args:
        found: sessions with the turns to show.
        with_turns: show the turns instead of their number.
    """
    console = result_console()
    if not found:
        console.print("nothing recorded that fits")
        return
    table = Table()
    columns = _TURN_COLUMNS if with_turns else _COLUMNS if console.width >= NARROW else _NARROW_COLUMNS
    for name in columns:
        # Only names may be cut: pieces of dates and sizes can be read by nobody.
        table.add_column(name, overflow="fold", no_wrap=name not in ("session", "pipeline", "why"))
    for session, turns in found:
        if with_turns:
            for turn in turns:
                lasted = f"{(turn.closed_us - turn.opened_us) / 1e6:.2f} s" if turn.closed_us else "open"
                table.add_row(
                    session.session, str(turn.turn), str(turn.epoch), turn.outcome, turn.reason, lasted
                )
            continue
        begun = datetime.fromtimestamp(session.begun_wall_ms / 1000, UTC).strftime("%Y-%m-%d\n%H:%M:%S")
        lasted = f"{(session.last_wall_ms - session.begun_wall_ms) / 1000:.0f} s"
        state = "damaged" if session.damaged else "ended" if session.ended else "not ended"
        cells = {
            "session": session.session,
            "begun (UTC)": begun,
            "lasted": lasted,
            "pipeline": session.pipeline,
            "stints": str(session.stints),
            "turns": str(session.turns),
            "size": f"{session.bytes / 1000:.1f} kB",
            "state": state,
        }
        table.add_row(*(cells[name] for name in columns))
    console.print(table)
