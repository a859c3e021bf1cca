"""``rspp-runtime serve`` as a process, on a real server."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from livekit import api

from rspp.controlplane.template import artifact_template
from rspp.pipeline.loader import load_pipeline
from rspp.tooling.processes import ChildProcess
from rspp.transports.livekit_access import server_api
from tests.integration.rooms import Peer, access_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rspp.tooling.livekit_server import LiveKitServer

pytestmark = [pytest.mark.room, pytest.mark.timeout(120)]

PIPELINE = """
name: long-winded
llm: {provider: rules, rules: [{hear: hello, say: good morning}]}
greeting: one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
takeover_notice: sorry, I lost you for a moment, please go on
"""
START_SECONDS = 20.0
HEALTH = re.compile(r"http://127\.0\.0\.1:\d+/healthz")


def pipeline_file(folder: Path) -> Path:
    """A pipeline whose greeting takes some seconds."""
    path = folder / "pipeline.yaml"
    path.write_text(PIPELINE, "utf-8")
    return path


class Served:
    """A serving process, and its health endpoint."""

    def __init__(self, process: ChildProcess) -> None:
        self.process = process
        self.url = ""

    async def health(self) -> tuple[int, dict[str, object]]:
        """Ask the health endpoint."""
        async with aiohttp.ClientSession() as session, session.get(self.url) as answer:
            return answer.status, await answer.json()

    async def until(self, **wanted: object) -> None:
        """Poll the health endpoint until it shows the wanted values."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                shown = (await self.health())[1]
                if all(shown[name] == value for name, value in wanted.items()):
                    return
                await asyncio.sleep(0.05)

    async def until_version(self, number: int) -> None:
        """Poll the health endpoint until it shows a snapshot of the control plane."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                shown = (await self.health())[1]["control_plane"]
                assert isinstance(shown, dict)
                if shown["snapshot_version"] == number:
                    return
                await asyncio.sleep(0.05)

    async def until_logged(self, text: str) -> None:
        """Read the log until it holds ``text``."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                if text in self.process.log_path.read_text("utf-8"):
                    return
                await asyncio.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Signal the runtime alone, not what it started."""
        os.kill(self.process.pid, number)


@asynccontextmanager
async def serving(
    server: LiveKitServer, folder: Path, name: str = "serve", more: Sequence[str] = ()
) -> AsyncIterator[Served]:
    """A runtime that serves, registered."""
    arguments = ["serve", "--pipeline", str(pipeline_file(folder)), "--port", "0"]
    arguments += ["--state", str(folder / "state"), "--evidence", str(folder / "evidence"), *more]
    process = ChildProcess(
        [sys.executable, "-m", "rspp.runtime.main", *arguments],
        environment={**server.environment, "XDG_CACHE_HOME": str(Path.home() / ".cache")},
        log_path=folder / f"{name}.log",
    )
    async with process:
        served = Served(process)
        async with asyncio.timeout(START_SECONDS):
            while not served.url:
                found = HEALTH.search(process.log_path.read_text("utf-8"))
                if found:
                    served.url = found[0]
                assert process.returncode is None, process.log_path.read_text("utf-8")
                await asyncio.sleep(0.05)
        await served.until(healthy=True)
        yield served


async def agent_in(peer: Peer) -> str:
    """Wait for an agent in the peer's room and return its identity."""
    await peer.until(lambda: bool(peer.loud))
    return next(iter(peer.loud))


async def test_two_rooms_are_served_by_one_process(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with serving(livekit_server, tmp_path) as served:
        first = await Peer(livekit_server, "one").join()
        second = await Peer(livekit_server, "two").join()
        try:
            identities = {await agent_in(first), await agent_in(second)}
            assert len(identities) == 2
            await served.until(sessions=2)
            # One call ends; the other goes on.
            await first.leave()
            await served.until(sessions=1)
            await second.hear(next(iter(second.loud)))
        finally:
            await first.leave()
            await second.leave()
        await served.until(sessions=0, healthy=True)
    timelines = list((tmp_path / "evidence" / "default").glob("*/000001-e000001.segment"))
    assert len(timelines) == 2


async def test_drain_waits_for_the_call_and_takes_no_other(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    async with serving(livekit_server, tmp_path) as served:
        peer = await Peer(livekit_server, "one").join()
        agent = await agent_in(peer)
        served.signal(signal.SIGTERM)
        await served.until(draining=True)
        late = await Peer(livekit_server, "two").join()
        # Time enough for a dispatch, which takes a tenth of a second.
        await peer.hear(agent, 40)
        assert (await served.health())[1]["sessions"] == 1
        assert late.room.remote_participants == {}
        await late.leave()
        await peer.leave()
        assert await served.process.wait(10) == 128 + signal.SIGTERM


async def test_a_second_signal_forces(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with serving(livekit_server, tmp_path) as served:
        peer = await Peer(livekit_server, "one").join()
        agent = await agent_in(peer)
        served.signal(signal.SIGINT)
        await served.until(draining=True)
        served.signal(signal.SIGINT)
        assert await served.process.wait(6) == 128 + signal.SIGINT
        assert "did not end in time" not in served.process.log_path.read_text("utf-8")
        await peer.until(lambda: agent in peer.left)
        await peer.leave()


async def test_a_deleted_room_ends_its_call_only(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    client = server_api(access_to(livekit_server))
    try:
        async with serving(livekit_server, tmp_path) as served:
            peer = await Peer(livekit_server, "one").join()
            await agent_in(peer)
            await client.room.delete_room(api.DeleteRoomRequest(room="one"))
            await served.until(sessions=0, healthy=True)
            await peer.leave()
    finally:
        await client.aclose()


@pytest.mark.conformance("F8", "M-02")
async def test_the_call_of_a_killed_process_is_taken_over(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    async with serving(livekit_server, tmp_path, "first") as first:
        peer = await Peer(livekit_server, "one").join()
        old = await agent_in(peer)
        assert old.endswith("-e1")
        async with serving(livekit_server, tmp_path, "second") as second:
            first.signal(signal.SIGKILL)
            new = old.removesuffix("-e1") + "-e2"
            await peer.hear(new, 1)
            assert old in peer.left
            await peer.leave()
            await second.until(sessions=0)


async def test_a_taken_port_is_told(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with serving(livekit_server, tmp_path) as served:
        port = served.url.split(":")[2].split("/")[0]
        arguments = ["serve", "--pipeline", str(pipeline_file(tmp_path)), "--port", port]
        arguments += ["--state", str(tmp_path / "state")]
        process = ChildProcess(
            [sys.executable, "-m", "rspp.runtime.main", *arguments],
            environment=livekit_server.environment,
            log_path=tmp_path / "second.log",
        )
        async with process:
            assert await process.wait(START_SECONDS) == 2
        text = process.log_path.read_text("utf-8")
        assert f"error: --port {port} on 127.0.0.1 cannot be used: it is in use" in text
        assert "Traceback" not in text


@pytest.mark.conformance("M-16")
async def test_turns_open_under_a_control_plane_as_long_as_it_lets_them(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    def publish(version: int, outcome: str) -> None:
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)
        spec = load_pipeline(pipeline_file(tmp_path))
        made = artifact_template(spec, issued=now, valid=datetime.timedelta(hours=1), version=version)
        made["admission"]["default"]["outcome_kind"] = outcome
        (tmp_path / "next.json").write_text(json.dumps(made), "utf-8")
        (tmp_path / "next.json").rename(tmp_path / "snapshot.json")

    publish(1, "admit")
    more = ("--control-plane", str(tmp_path / "snapshot.json"))
    async with serving(livekit_server, tmp_path, more=more) as served:
        peer = await Peer(livekit_server, "one").join()
        await agent_in(peer)
        await peer.leave()
        await served.until(sessions=0)
        await served.until_version(1)
        publish(2, "reject")
        await served.until_version(2)
        refused = await Peer(livekit_server, "two").join()
        await served.until(sessions=1)
        # The agent is in the room, and the greeting's turn is refused before anything is heard.
        await refused.until(lambda: bool(refused.room.remote_participants))
        await served.until_logged("cp_admission_reject_policy")
        assert not refused.loud
        await refused.leave()
