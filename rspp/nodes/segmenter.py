"""Cuts a streamed reply into segments that can be spoken one after another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rspp.contracts.execution import Outcome

MIN_FIRST_CHARACTERS = 2
MAX_CHARACTERS = 240
"""A segment without any sentence end is cut at a blank after this many characters, so that speech
starts and memory stays bounded whatever a model writes (about 15 s of speech)."""

_SENTENCE_END = re.compile(r"(?<=[.!?;:])[\"')\]]*\s+")
_NOT_AN_END = re.compile(r"(?:\b(?:mr|mrs|ms|dr|st|prof|no|vs|e\.g|i\.e)\.|\b[a-z]\.)$", re.IGNORECASE)


class Segmenter:
    """Collects text and gives it back sentence by sentence."""

    def __init__(self) -> None:
        self._pending = ""

    def push(self, text: str) -> list[str]:
        """Take a piece of text; returns the segments that are now whole."""
        self._pending += text
        segments: list[str] = []
        start = 0
        for match in _SENTENCE_END.finditer(self._pending):
            candidate = self._pending[start : match.start()]
            if len(candidate.strip()) < MIN_FIRST_CHARACTERS or _NOT_AN_END.search(candidate):
                continue
            segments.append(self._pending[start : match.end()].strip())
            start = match.end()
        self._pending = self._pending[start:]
        while len(self._pending) > MAX_CHARACTERS:
            cut = self._pending.rfind(" ", 1, MAX_CHARACTERS)
            cut = cut if cut > 0 else MAX_CHARACTERS
            segments.append(self._pending[:cut].strip())
            self._pending = self._pending[cut:]
        return [segment for segment in segments if segment]

    def drop(self) -> None:
        """What was not given back yet is void."""
        self._pending = ""

    def on_cancel(self) -> None:
        """The turn is over."""
        self.drop()

    def on_barge_in(self) -> None:
        """The caller interrupted."""
        self.drop()

    def on_budget_exhausted(self, outcome: Outcome) -> None:
        """The turn ends because its time is used up."""
        self.drop()

    def flush(self) -> list[str]:
        """The reply is over: returns what is left, if anything."""
        rest, self._pending = self._pending.strip(), ""
        return [rest] if rest else []
