"""Fixtures shared by every room of the tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import structlog

from rspp.tooling.livekit_server import LiveKitServer, ensure_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytest_plugins = ["tests.conformance_results"]


@pytest.fixture(autouse=True)
def logs_as_at_the_start() -> Iterator[None]:
    """Let every test see what it logs: commands silence the logs of their whole process."""
    yield
    structlog.reset_defaults()


@pytest_asyncio.fixture
async def livekit_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveKitServer]:
    """A real LiveKit server on loopback with keys of its own; it is built when none is found."""
    program = await asyncio.to_thread(ensure_server, print)
    async with LiveKitServer(program, log_path=tmp_path_factory.mktemp("livekit") / "server.log") as server:
        yield server
