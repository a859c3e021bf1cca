"""Chat texts of the caller until a turn takes them."""

from __future__ import annotations

from typing import NamedTuple

MAX_EARLY_TEXTS = 8
"""Chat texts kept from before the conversation began; of more, the earliest are lost."""


class ChatText(NamedTuple):
    """One text and the id that its transport gave it."""

    text: str
    event_id: str


class ChatTexts:
    """Texts by the number that the kernel knows each by."""

    def __init__(self) -> None:
        self._texts: dict[int, ChatText] = {}
        self._latest = 0

    def add(self, text: str, event_id: str) -> int:
        """Keep a text and return its number; without an id from the transport the number makes one."""
        self._latest += 1
        self._texts[self._latest] = ChatText(text, event_id or f"text/{self._latest}")
        return self._latest

    def bound(self) -> None:
        """Lose the earliest of too many, while nobody takes them."""
        while len(self._texts) > MAX_EARLY_TEXTS:
            del self._texts[min(self._texts)]

    def waiting(self) -> list[int]:
        """Return the numbers of the texts, the earliest first."""
        return sorted(self._texts)

    def get(self, number: int) -> ChatText:
        """Return one text and keep it.

        Raises:
            KeyError: it was taken.
        """
        return self._texts[number]

    def take(self, number: int) -> str:
        """Return one text and keep it no longer; empty when it was taken."""
        taken = self._texts.pop(number, None)
        return "" if taken is None else taken.text
