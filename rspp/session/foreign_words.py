"""How many words from outside one session takes: its kernel keeps 64, and its providers need theirs."""

from __future__ import annotations

from rspp._kernel import reason_codes

MOST = 8
"""Most words of a control plane that one kernel is given to keep."""
UNLISTED = "unlisted_reason"
"""The code that stands for any further word, as it does in a kernel whose table is full."""
KNOWN = frozenset(code for code, _, _ in reason_codes())
"""Words that a kernel has without keeping them."""


class ForeignWords:
    """The first few words that a control plane gives as reasons.

    A reason that names a ticket or a time is a new word with every snapshot, and a session may live through
    thousands of them.

    Args:
        most: how many words pass.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._passed: set[str] = set()

    def bounded(self, word: str) -> str:
        """Return ``word`` when it is a reason code, empty, or among the first; else ``UNLISTED``."""
        if not word or word in KNOWN or word in self._passed:
            return word
        if len(self._passed) >= self._most:
            return UNLISTED
        self._passed.add(word)
        return word
