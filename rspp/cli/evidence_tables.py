"""Tables of recorded sessions for the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

from rspp.terminal import result_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.evidence.index import SessionRow, TurnRow


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
    for name in ("session", "turn", "epoch", "ended", "why", "lasted") if with_turns else _COLUMNS:
        table.add_column(name, overflow="fold")
    for session, turns in found:
        if with_turns:
            for turn in turns:
                lasted = f"{(turn.closed_us - turn.opened_us) / 1e6:.2f} s" if turn.closed_us else "open"
                table.add_row(
                    session.session, str(turn.turn), str(turn.epoch), turn.outcome, turn.reason, lasted
                )
            continue
        begun = datetime.fromtimestamp(session.begun_wall_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lasted = f"{(session.last_wall_ms - session.begun_wall_ms) / 1000:.0f} s"
        state = "damaged" if session.damaged else "ended" if session.ended else "not ended"
        table.add_row(
            session.session,
            begun,
            lasted,
            session.pipeline,
            str(session.stints),
            str(session.turns),
            f"{session.bytes / 1000:.1f} kB",
            state,
        )
    console.print(table)


_COLUMNS = ("session", "begun (UTC)", "lasted", "pipeline", "stints", "turns", "size", "state")
