"""Whose calls a runtime holds, and what its operator may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from rspp.authority.store import Orphan
from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.loader import parse_pipeline
from rspp.runtime.commands import app
from rspp.runtime.environment import tenant_name
from rspp.runtime.health import health_endpoint
from rspp.runtime.orphans import OrphanKeeper
from rspp.terminal import run_app
from rspp.transports.livekit_access import ServerAccess, mint_token

if TYPE_CHECKING:
    from rspp.authority.store import LeaseStore
    from rspp.contracts.ports import Offloader
    from rspp.runtime.calls import Calls

EXAMPLE = Path(__file__).parents[2] / "rspp" / "pipeline" / "examples" / "front-desk.yaml"
SPEC = """
name: x
llm: {provider: rules, rules: [{hear: hello, say: Hi.}]}
"""


def test_the_tenant_is_the_flag_then_the_variable_then_default() -> None:
    assert tenant_name("acme", {"RSPP_TENANT": "other"}) == "acme"
    assert tenant_name("", {"RSPP_TENANT": " other "}) == "other"
    assert tenant_name("", {}) == "default"


@pytest.mark.parametrize("name", ["audit", "index.sqlite", "../up", ".hidden", "a/b", "x" * 101])
def test_a_tenant_that_would_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a tenant"):
        tenant_name(name, {})
    with pytest.raises(ConfigurationError, match="RSPP_TENANT"):
        tenant_name("", {"RSPP_TENANT": name})


@pytest.mark.parametrize("command", ["join", "serve"])
def test_wrong_recording_flags_are_answered_before_anything_is_joined(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    room = ["--room", "r"] if command == "join" else []
    status = run_app(app, [command, *room, "--pipeline", str(EXAMPLE), "--record", "L2"])
    assert status == 2
    assert "--record L2 has no approval" in capsys.readouterr().err


class FakeCalls:
    """Room for calls of which none runs, and a count of how often that was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = True

    def runs(self, session_id: str) -> bool:
        self.asked += bool(session_id)
        return True


@pytest.mark.conformance("M-20")
@pytest.mark.parametrize(("tenant", "looked_at"), [("acme", 1), ("other", 0)])
async def test_a_lost_call_of_another_tenant_is_left_alone(tenant: str, looked_at: int) -> None:
    calls = FakeCalls()
    keeper = OrphanKeeper(
        calls=cast("Calls", calls),
        store=cast("LeaseStore", None),
        offloader=cast("Offloader", None),
        spec=parse_pipeline(SPEC, "f.yaml"),
        access=ServerAccess(url="ws://127.0.0.1:1", api_key="k", api_secret="s"),
        tenant="acme",
    )
    metadata = {"room": "r", "url": "ws://127.0.0.1:1", "pipeline": "x@v1", "tenant": tenant}
    orphan = Orphan(session_id="call-1", holder="h", epoch=1, metadata=metadata, expired_ms=0)
    await keeper._adopt(orphan)
    assert calls.asked == looked_at


@pytest.mark.parametrize("room", ["", "  "])
def test_a_room_without_a_name_is_refused(room: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, ["join", "--room", room, "--pipeline", str(EXAMPLE)]) == 2
    assert f"--room {room!r} names no room" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="names no room"):
        mint_token(ServerAccess("ws://x", "key", "s" * 40), room=room, identity="agent-s-e1")


async def test_a_host_that_is_none_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"nonsense\.\.host cannot be used: it is no name of a host"):
        async with health_endpoint("nonsense..host", 0, dict):
            pytest.fail("somebody listens there")
