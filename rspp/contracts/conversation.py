"""A conversation as its history: what a placement leaves and the next one goes on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rspp.contracts.ports import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_HISTORY = 200
"""Messages kept; older ones are left out of the history given to the responder."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """Durable state of a session, as a later placement finds it.

    Attributes:
        turns: number of the latest turn.
        messages: what was said, for the agent only what was heard; empty when the words were not kept.
    """

    turns: int = 0
    messages: tuple[Message, ...] = ()


def joined(history: Sequence[Message], role: str, text: str) -> tuple[Message, ...]:
    """Return ``history`` with a message; words of the caller that follow each other become one."""
    kept = list(history)
    if not text:
        return tuple(kept)
    if role == "user" and kept and kept[-1].role == "user":
        text = f"{kept.pop().text} {text}"
    kept.append(Message(role="user" if role == "user" else "assistant", text=text))
    return tuple(kept[-MAX_HISTORY:])
