"""``rspp-cli verify-evidence``."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it parses
from typing import TYPE_CHECKING

from rspp.terminal import style_of

if TYPE_CHECKING:
    from rspp.evidence.verify import Verification

SHOWN_DAMAGE = 50
"""Most places that people are shown; ``--json`` gives all."""


def verify_evidence(path: Path, *, content: bool = False, json: bool = False) -> int:
    """Check recordings for cuts, edits and exchanged files, and say what of them can still be read.

    Args:
        path: folder of a session, of a tenant or of all evidence, or one segment.
        content: decode every record too, and not only check its block.
        json: print one JSON object instead of lines.

    Returns:
        0 when nothing is damaged, 1 when something is.
    """
    from rspp.evidence.verify import verify

    found = verify(path, content=content)
    if json:
        from msgspec import json as encoder

        print(encoder.format(encoder.encode(found.document())).decode())
    else:
        _show(found)
    return 1 if found.damage else 0


def _show(found: Verification) -> None:
    style = style_of(sys.stdout)
    for place in found.damage[:SHOWN_DAMAGE]:
        at = f"{place.path}: byte {place.offset}, block {place.block}"
        print(f"{style.bad(at)}: {place.code}: {place.message}")
    if len(found.damage) > SHOWN_DAMAGE:
        print(f"and {len(found.damage) - SHOWN_DAMAGE} more places")
    for session in found.sessions:
        if session.damaged or not session.ended:
            last = f", the last {session.last_ms / 1000:.1f} s after its begin" if session.records else ""
            ending = "" if session.ended else "; it was not ended in order, or goes on"
            print(f"{session.path}: {session.records} records can be read{last}{ending}")
    amount = f"{found.bytes / 1e6:.1f} MB" if found.bytes >= 1e6 else f"{found.bytes / 1e3:.1f} kB"
    size = f"{amount} in {_counted(len(found.sessions), 'session')}, {_counted(found.segments, 'segment')}"
    if found.damage:
        print(f"{style.bad('damaged')}: {len(found.damage)} places in {size}")
    else:
        print(f"{style.good('whole')}: {size}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
