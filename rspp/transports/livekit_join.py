"""Entering a LiveKit room: one bounded attempt, which leaves nothing behind when it fails."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from livekit import rtc

from rspp.contracts.errors import TransportError
from rspp.transports.livekit_access import explain_connect_error, redact

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_SECONDS = 10.0
ATTEMPT_SECONDS = 4.0
"""One attempt to connect; the SDK makes up to four."""
STREAM_BYTES = 65_536
"""Longest data stream that a participant may send."""


class _TokenFilter(logging.Filter):
    """Takes access tokens out of the SDK's log lines, which repeat them when a connect fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        return True


logging.getLogger("livekit").addFilter(_TokenFilter())


async def enter_room(url: str, token: str, prepare: Callable[[rtc.Room], None]) -> rtc.Room:
    """Connect to a room.

    Args:
        url: address of the server.
        token: access token for the room.
        prepare: attaches handlers before any event can arrive.

    Raises:
        ConfigurationError: the server refuses the key.
        TransportError: it cannot be reached, refuses, or does not let the participant in.
    """
    room = rtc.Room()
    prepare(room)
    options = rtc.RoomOptions(
        auto_subscribe=False,
        connect_timeout=ATTEMPT_SECONDS,
        data_stream=rtc.DataStreamOptions(max_payload_byte_length=STREAM_BYTES),
    )
    joining = asyncio.get_running_loop().create_task(room.connect(url, token, options), name="join-room")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.shield(joining)
    except rtc.ConnectError as error:
        raise explain_connect_error(url, error.message) from None
    except TimeoutError:
        _abandon(joining, room)
        raise TransportError(
            f"LiveKit server {url} did not let the agent in within {CONNECT_SECONDS:.0f} s",
            hint="check the network, and that UDP or TCP media ports of the server are open",
        ) from None
    except asyncio.CancelledError:
        _abandon(joining, room)
        raise
    return room


def _abandon(joining: asyncio.Task[None], room: rtc.Room) -> None:
    """Leave a room that may still let the agent in after nobody waits for it any more."""

    def leave(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            leaving = task.get_loop().create_task(room.disconnect())
            leaving.add_done_callback(lambda done: done.cancelled() or done.exception())

    joining.add_done_callback(leave)
