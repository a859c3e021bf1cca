"""The metrics of a real call in a real room, scraped from the process that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.integration.rooms import Peer
from tests.integration.test_worker_serve import agent_in, serving
from tests.telemetry.scraping import samples_of

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.tooling.livekit_server import LiveKitServer
    from tests.telemetry.scraping import Samples

pytestmark = [pytest.mark.room, pytest.mark.timeout(120)]
TENANT = ("tenant", "default")


async def scraped(health: str) -> Samples:
    async with (
        aiohttp.ClientSession() as session,
        session.get(health.replace("/healthz", "/metrics")) as answer,
    ):
        assert answer.status == 200
        return samples_of(await answer.read())


async def test_or_01_a_served_call_shows_in_the_metrics(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    async with serving(livekit_server, tmp_path) as served:
        idle = await scraped(served.url)
        assert idle["rspp_active_sessions", frozenset({TENANT})] == 0
        assert idle["rspp_takeovers_total", frozenset({TENANT})] == 0
        peer = await Peer(livekit_server, "one").join()
        await peer.hear(await agent_in(peer), 60)
        running = await scraped(served.url)
        await peer.leave()
        await served.until(sessions=0, healthy=True)
    assert running["rspp_active_sessions", frozenset({TENANT})] == 1
    granted = frozenset({TENANT, ("event", "granted"), ("reason", "none")})
    assert running["rspp_lease_events_total", granted] == 1
    assert running["rspp_first_output_latency_ms_count", frozenset({TENANT})] == 1
    assert running["rspp_telemetry_unreadable_total", frozenset()] == 0
    assert ("rspp_queue_depth", frozenset({("queue", "evidence_writer"), ("unit", "bytes")})) in running
