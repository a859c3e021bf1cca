"""One text as every reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp.contracts.ports import ResponseDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rspp.contracts.ports import Message


class FixedResponder:
    """Says one text, whatever was said before: greetings, notices, a sentence in place of a model.

    Args:
        text: what to say.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        """Give the whole text at once."""
        yield ResponseDelta(text=self._text)

    async def close(self) -> None:
        """Nothing to free."""
