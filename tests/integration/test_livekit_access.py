"""What a user is told when the server or its key is wrong."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest
from livekit import api

from rspp.contracts.errors import ConfigurationError, RsppError, TransportError
from rspp.transports.livekit import LiveKitTransport
from rspp.transports.livekit_access import (
    ServerAccess,
    agent_identity,
    explain_connect_error,
    mint_token,
    redact,
    remove_older_identities,
    split_identity,
)
from tests.integration.rooms import FakeSink, Peer, access_to

if TYPE_CHECKING:
    from rspp.tooling.livekit_server import LiveKitServer


async def refusal(access: ServerAccess, *, url: str = "", token: str = "") -> RsppError:
    """The error of a transport that tries to join."""
    transport = LiveKitTransport(
        url=url or access.websocket_url,
        token=token or mint_token(access, room="room", identity="agent-s-e1"),
        identity="agent-s-e1",
        room_name="room",
    )
    with pytest.raises(RsppError) as caught:
        await transport.connect(FakeSink())
    await transport.close()
    assert "eyJ" not in caught.value.message + caught.value.hint
    assert access.api_secret not in caught.value.message + caught.value.hint
    assert caught.value.hint
    return caught.value


@pytest.mark.room
async def test_a_wrong_secret_is_named(livekit_server: LiveKitServer) -> None:
    access = ServerAccess(livekit_server.url, livekit_server.api_key, "x" * 40)
    error = await refusal(access)
    assert isinstance(error, ConfigurationError)
    assert "LIVEKIT_API_SECRET" in error.message


@pytest.mark.room
async def test_an_unknown_key_is_named(livekit_server: LiveKitServer) -> None:
    error = await refusal(ServerAccess(livekit_server.url, "nobody", livekit_server.api_secret))
    assert isinstance(error, ConfigurationError)
    assert "LIVEKIT_API_KEY is unknown" in error.message


@pytest.mark.room
async def test_an_expired_token_is_named(livekit_server: LiveKitServer) -> None:
    token = (
        api.AccessToken(livekit_server.api_key, livekit_server.api_secret)
        .with_identity("agent-s-e1")
        .with_ttl(datetime.timedelta(hours=-1))
        .with_grants(api.VideoGrants(room_join=True, room="room"))
    )
    error = await refusal(access_to(livekit_server), token=token.to_jwt())
    assert isinstance(error, TransportError)
    assert "has expired" in error.message


@pytest.mark.room
async def test_a_token_that_is_none_is_refused(livekit_server: LiveKitServer) -> None:
    error = await refusal(access_to(livekit_server), token="abc")
    assert isinstance(error, ConfigurationError)


async def test_an_unreachable_server_is_named(unused_tcp_port: int) -> None:
    access = ServerAccess(f"ws://127.0.0.1:{unused_tcp_port}", "key", "secret" * 8)
    error = await refusal(access)
    assert isinstance(error, TransportError)
    assert f"ws://127.0.0.1:{unused_tcp_port}" in error.message
    assert "refused" in error.message


async def test_a_host_that_does_not_exist_is_named() -> None:
    error = await refusal(ServerAccess("ws://host.invalid:7880", "key", "secret" * 8))
    assert isinstance(error, TransportError)
    assert "host.invalid" in error.message


@pytest.mark.room
async def test_only_earlier_epochs_of_the_same_session_are_removed(livekit_server: LiveKitServer) -> None:
    identities = ["agent-s-e1", "agent-s-e3", "agent-s-e4", "agent-other-e1", "caller", "agent-s"]
    peers = [Peer(livekit_server, "room", identity) for identity in identities]
    try:
        for peer in peers:
            await peer.join(microphone=False)
        removed = await remove_older_identities(access_to(livekit_server), room="room", identity="agent-s-e3")
        assert removed == ("agent-s-e1",)
        await peers[0].until(lambda: peers[0].disconnected)
        await peers[1].until(lambda: peers[1].left == ["agent-s-e1"])
        assert not any(peer.disconnected for peer in peers[1:])
    finally:
        for peer in peers:
            await peer.leave()


@pytest.mark.room
async def test_a_room_that_does_not_exist_holds_nobody(livekit_server: LiveKitServer) -> None:
    access = access_to(livekit_server)
    assert await remove_older_identities(access, room="none", identity="agent-s-e2") == ()


async def test_a_server_that_does_not_answer_cannot_remove(unused_tcp_port: int) -> None:
    access = ServerAccess(f"ws://127.0.0.1:{unused_tcp_port}", "key", "secret" * 8)
    with pytest.raises(TransportError, match="did not remove the earlier agent"):
        await remove_older_identities(access, room="room", identity="agent-s-e2")


def test_identities_carry_their_epoch() -> None:
    assert split_identity(agent_identity("my-e2e-room", 12)) == ("agent-my-e2e-room", 12)
    assert split_identity("caller") is None


def test_a_secret_is_not_shown() -> None:
    assert "hidden" not in repr(ServerAccess("ws://x", "key", "hidden"))


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        ("engine: signal failure: client error: 404 room does not exist", TransportError, "no such room"),
        ("engine: signal failure: client error: 403 Forbidden", ConfigurationError, "does not allow"),
        ("engine: signal failure: failed to parse the url: x", ConfigurationError, "not an address"),
        ("engine: signal failure: timeout: join", TransportError, "cannot be reached: join"),
    ],
)
def test_messages_of_the_sdk_become_plain_words(raw: str, kind: type[RsppError], words: str) -> None:
    error = explain_connect_error("ws://host:7880", raw)
    assert type(error) is kind
    assert words in error.message


def test_tokens_are_taken_out_of_messages() -> None:
    token = mint_token(ServerAccess("ws://x", "key", "s" * 40), room="r", identity="i")
    assert redact(f"invalid token: {token}, error: x") == "invalid token: <token>, error: x"
    assert token not in explain_connect_error("ws://x", f"unheard-of {token}").message
