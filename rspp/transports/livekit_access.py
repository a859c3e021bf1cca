"""Access to a LiveKit server: tokens, identities, the takeover of a room, and errors in plain words."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from rspp.contracts.errors import ConfigurationError, RsppError, TransportError

if TYPE_CHECKING:
    from livekit import api

TOKEN_LIFETIME = datetime.timedelta(hours=6)
"""LiveKit's own default; the server refreshes the token of a connected participant."""
SERVER_CALL_SECONDS = 2.0
"""Longest wait for one call of the server API; a removal takes 3 ms on loopback."""

_JWT = re.compile(r"ey[\w-]{8,}\.[\w-]+\.[\w-]*")
_IDENTITY = re.compile(r"^(?P<stem>.+)-e(?P<epoch>\d+)$")


class ServerAccess(msgspec.Struct, frozen=True):
    """Where a LiveKit server is and the key that signs tokens for it.

    Attributes:
        url: ``ws://``, ``wss://``, ``http://`` or ``https://`` address.
        api_key: name of the key.
        api_secret: its secret; never shown.
    """

    url: str
    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return f"ServerAccess(url={self.url!r}, api_key={self.api_key!r}, api_secret=…)"

    @property
    def http_url(self) -> str:
        """Address of the server API."""
        return re.sub(r"^ws", "http", self.url).rstrip("/")

    @property
    def websocket_url(self) -> str:
        """Address for signalling."""
        return re.sub(r"^http", "ws", self.url).rstrip("/")


def agent_identity(session_id: str, epoch: int, prefix: str = "agent") -> str:
    """Return the participant identity of one epoch of a session."""
    return f"{prefix}-{session_id}-e{epoch}"


def split_identity(identity: str) -> tuple[str, int] | None:
    """Return stem and epoch of an agent identity, or none for any other identity."""
    found = _IDENTITY.match(identity)
    return (found["stem"], int(found["epoch"])) if found else None


def mint_token(access: ServerAccess, *, room: str, identity: str, name: str = "") -> str:
    """Return an access token for an agent that joins ``room`` and speaks there.

    Raises:
        ConfigurationError: no room is named.
    """
    if not room.strip():
        raise ConfigurationError(f"{room!r} names no room", hint="give the name of the room to join")
    from livekit import api

    grants = api.VideoGrants(
        room_join=True,
        room=room,
        can_publish=True,
        can_subscribe=True,
        can_publish_data=True,
        can_update_own_metadata=True,
    )
    token = api.AccessToken(access.api_key, access.api_secret).with_identity(identity).with_kind("agent")
    return token.with_name(name or identity).with_grants(grants).with_ttl(TOKEN_LIFETIME).to_jwt()


def redact(text: str) -> str:
    """Return ``text`` without access tokens, which the SDK repeats in its messages."""
    return _JWT.sub("<token>", text)


def explain_connect_error(url: str, raw: str) -> RsppError:
    """Turn the SDK's message about a failed connect into an error that says what to do.

    Args:
        url: address that was tried.
        raw: message of the SDK 1.2, such as ``engine: signal failure: client error: 401 …``.
    """
    text = redact(raw)
    lowered = text.lower()
    if "token is expired" in lowered:
        return TransportError(
            f"LiveKit server {url} refused the access token: it has expired",
            hint="Ask for a new token, or give LIVEKIT_API_KEY and LIVEKIT_API_SECRET to have one made. "
            "If it was just made, compare the clocks of both machines.",
        )
    if "invalid api key" in lowered:
        return ConfigurationError(
            f"LIVEKIT_API_KEY is unknown to the LiveKit server {url}",
            hint="use a key from the `keys` section of the server's configuration",
        )
    if "signature is invalid" in lowered or "invalid token" in lowered or "401" in lowered:
        return ConfigurationError(
            f"LiveKit server {url} refused the access token: "
            "LIVEKIT_API_SECRET does not belong to LIVEKIT_API_KEY",
            hint="copy key and secret from the same line of the server's `keys` section",
        )
    if "parse the url" in lowered or "unsupported" in lowered:
        return ConfigurationError(
            f"LIVEKIT_URL {url!r} is not an address", hint="write it as ws://host:7880 or wss://host"
        )
    if "404" in lowered or "room does not exist" in lowered or "not found" in lowered:
        return TransportError(
            f"LiveKit server {url} has no such room", hint="create the room first, or check its name"
        )
    if "403" in lowered:
        return ConfigurationError(
            f"LiveKit server {url} does not allow this token to join the room",
            hint="the token needs the grant roomJoin for this very room",
        )
    detail = text.rsplit(": ", 1)[-1]
    return TransportError(
        f"LiveKit server {url} cannot be reached: {detail}",
        hint="start the server, or check LIVEKIT_URL and the network",
    )


def server_api(access: ServerAccess) -> api.LiveKitAPI:
    """Return a client of the server API; close it with ``aclose``."""
    from livekit import api

    timeout = aiohttp.ClientTimeout(total=SERVER_CALL_SECONDS)
    return api.LiveKitAPI(access.http_url, access.api_key, access.api_secret, timeout=timeout)


async def remove_older_identities(access: ServerAccess, *, room: str, identity: str) -> tuple[str, ...]:
    """Remove the participants of earlier epochs of the same session from ``room``.

    A holder that lost its lease may still be in the room; it must be out before the new one speaks.

    Args:
        access: server and key.
        room: name of the room.
        identity: the caller's own identity; those with the same stem and a lower epoch go.

    Returns:
        The identities that were removed.

    Raises:
        TransportError: the server API does not answer or refuses.
    """
    from livekit import api

    own = split_identity(identity)
    if own is None:
        return ()
    client = server_api(access)
    removed: list[str] = []
    try:
        present = await client.room.list_participants(api.ListParticipantsRequest(room=room))
        for participant in present.participants:
            other = split_identity(participant.identity)
            if other is not None and other[0] == own[0] and other[1] < own[1]:
                await _remove(client, room, participant.identity)
                removed.append(participant.identity)
    except (TimeoutError, aiohttp.ClientError, api.ServerError) as error:
        if isinstance(error, api.ServerError) and error.code == "not_found":
            return tuple(removed)
        raise TransportError(
            f"the server API of {access.url} did not remove the earlier agent from room {room!r}: "
            f"{redact(str(error)) or type(error).__name__}",
            hint="check that the key may administer rooms and that the server answers",
        ) from error
    finally:
        await client.aclose()
    return tuple(removed)


async def _remove(client: api.LiveKitAPI, room: str, identity: str) -> None:
    from livekit import api

    try:
        await client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=identity))
    except api.ServerError as error:
        # It left by itself between the list and the removal.
        if error.code != "not_found":
            raise
