"""What replaying a recording gave, in the words that a page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp.contracts.errors import RsppError
from rspp.tooling.call_page.page import IDENTICAL

if TYPE_CHECKING:
    from rspp.evidence.reader import Recording


def replay_words(recording: Recording) -> str:
    """Replay a recording and say whether it came out the same; empty when it holds nothing to replay."""
    from rspp.replay import engine

    if not recording.stints:
        return ""
    try:
        result = engine.recompute(recording)
    except RsppError as error:
        return f"not possible: {error.message}"
    if result.identical:
        return IDENTICAL
    count = len(result.divergences)
    return f"{count} {'divergence' if count == 1 else 'divergences'}" if count else "not judged to the end"
