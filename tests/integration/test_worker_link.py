"""The worker protocol: against a real server, and against one that misbehaves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import WSMsgType, web
from livekit import api
from livekit.protocol import agent as proto

from rspp.contracts.errors import ConfigurationError, TransportError
from rspp.runtime import worker
from rspp.runtime.worker import Offer, WorkerLink
from rspp.transports.livekit_access import ServerAccess, server_api
from tests.integration.rooms import Watched, access_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rspp.tooling.livekit_server import LiveKitServer

SECRET = "secret" * 8


class FakeJobs(Watched):
    """Takes jobs and does nothing with them."""

    def __init__(self) -> None:
        super().__init__()
        self.willing = True
        self.offered: list[str] = []
        self.assigned: list[tuple[proto.Job, str, str]] = []
        self.terminated: list[str] = []
        self.registrations = 0

    def offer(self, job: proto.Job) -> Offer | None:
        """Offer to take a job."""
        self.offered.append(job.id)
        self.changed()
        return Offer(identity=f"agent-{job.id}-e1", name="test") if self.willing else None

    def assign(self, job: proto.Job, url: str, token: str) -> None:
        """Take a job."""
        self.assigned.append((job, url, token))
        self.changed()

    def terminate(self, job_id: str) -> None:
        """End a job."""
        self.terminated.append(job_id)
        self.changed()

    def registered(self) -> None:
        """The server knows the worker."""
        self.registrations += 1
        self.changed()

    load = 0.25
    open = True
    count = 0


class FakeLiveKit(Watched):
    """A server of the worker protocol that does what a test tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[proto.WorkerMessage] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.answers = True
        self.status = 101
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ServerAccess]:
        """Serve on a free port."""
        application = web.Application()
        application.router.add_get("/agent", self._link)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield ServerAccess(f"ws://127.0.0.1:{runner.addresses[0][1]}", "key", SECRET)
        finally:
            for socket in self.sockets:
                await socket.close()
            await runner.cleanup()

    def kinds(self) -> list[str | None]:
        """What was received so far."""
        return [message.WhichOneof("message") for message in self.received]

    async def send(self, message: proto.ServerMessage) -> None:
        """Send to the newest link."""
        await self.sockets[-1].send_bytes(message.SerializeToString())

    async def _link(self, request: web.Request) -> web.StreamResponse:
        if self.status != 101:
            return web.Response(status=self.status)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            assert message.type == WSMsgType.BINARY
            received = proto.WorkerMessage.FromString(message.data)
            self.received.append(received)
            self.changed()
            if received.HasField("register") and self.answers:
                answer = proto.RegisterWorkerResponse(worker_id=f"AW_{len(self.sockets)}")
                await self.send(proto.ServerMessage(register=answer))
        return socket


@asynccontextmanager
async def linked(access: ServerAccess, jobs: FakeJobs, name: str = "") -> AsyncIterator[WorkerLink]:
    """A link that is registered."""
    link = WorkerLink(access, agent_name=name, jobs=jobs, version="1")
    running = asyncio.create_task(link.run(jobs.registered))
    try:
        await jobs.until(lambda: running.done() or jobs.registrations > 0)
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.room
async def test_a_real_server_dispatches_and_ends_a_job(livekit_server: LiveKitServer) -> None:
    access, jobs = access_to(livekit_server), FakeJobs()
    client = server_api(access)
    try:
        async with linked(access, jobs, "front-desk") as link:
            assert link.registered
            request = api.CreateAgentDispatchRequest(agent_name="front-desk", room="room", metadata="{}")
            dispatch = await client.agent_dispatch.create_dispatch(request)
            await jobs.until(lambda: len(jobs.assigned) == 1)
            job, _, token = jobs.assigned[0]
            claims = api.TokenVerifier(access.api_key, access.api_secret).verify(token)
            assert (job.room.name, claims.identity) == ("room", f"agent-{job.id}-e1")
            assert claims.video is not None
            assert claims.video.room == "room"
            await client.agent_dispatch.delete_dispatch(dispatch.id, "room")
            await jobs.until(lambda: jobs.terminated == [job.id])
        assert not link.registered
    finally:
        await client.aclose()


@pytest.mark.room
async def test_a_new_room_is_offered_to_a_worker_without_a_name(livekit_server: LiveKitServer) -> None:
    access, jobs = access_to(livekit_server), FakeJobs()
    jobs.willing = False
    client = server_api(access)
    try:
        async with linked(access, jobs):
            await client.room.create_room(api.CreateRoomRequest(name="room"))
            await jobs.until(lambda: len(jobs.offered) == 1)
            assert jobs.assigned == []
    finally:
        await client.aclose()


@pytest.mark.room
async def test_a_wrong_key_is_told_and_not_tried_again(livekit_server: LiveKitServer) -> None:
    access = ServerAccess(livekit_server.url, livekit_server.api_key, "x" * 40)
    link = WorkerLink(access, agent_name="", jobs=FakeJobs(), version="1")
    with pytest.raises(ConfigurationError, match="does not accept LIVEKIT_API_KEY"):
        await link.run(lambda: None)


async def test_an_unreachable_server_is_told_at_the_start(unused_tcp_port: int) -> None:
    access = ServerAccess(f"ws://127.0.0.1:{unused_tcp_port}", "key", SECRET)
    link = WorkerLink(access, agent_name="", jobs=FakeJobs(), version="1")
    with pytest.raises(TransportError, match="does not take this worker"):
        await link.run(lambda: None)


async def test_the_load_is_reported_at_once_and_on_demand() -> None:
    server, jobs = FakeLiveKit(), FakeJobs()
    async with server.running() as access, linked(access, jobs) as link:
        await server.until(lambda: server.kinds() == ["register", "update_worker"])
        assert server.received[1].update_worker.load == 0.25
        assert server.received[1].update_worker.status == proto.WorkerStatus.WS_AVAILABLE
        jobs.open = False
        link.report_now()
        await server.until(lambda: len(server.received) == 3)
        assert server.received[2].update_worker.status == proto.WorkerStatus.WS_FULL


async def test_a_broken_link_is_renewed_and_what_ended_meanwhile_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "BACKOFF_SECONDS", (0.01,))
    server, jobs = FakeLiveKit(), FakeJobs()
    async with server.running() as access, linked(access, jobs) as link:
        server.status = 503
        await server.sockets[0].close()
        await asyncio.wait_for(_until_lost(link), 5)
        await link.report_job("AJ_1", proto.JobStatus.JS_SUCCESS)
        server.status = 101
        await jobs.until(lambda: jobs.registrations == 2)
        await server.until(lambda: "update_job" in server.kinds())
        told = next(message for message in server.received if message.HasField("update_job"))
        assert told.update_job.job_id == "AJ_1"
        assert jobs.terminated == []


async def _until_lost(link: WorkerLink) -> None:
    # The link has no event for its own loss: nobody but the health endpoint looks at it.
    while link.registered:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_link_that_is_asked_to_go_away_registers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BACKOFF_SECONDS", (0.01,))
    server, jobs = FakeLiveKit(), FakeJobs()
    async with server.running() as access, linked(access, jobs):
        message = proto.ServerMessage()
        message.go_away.SetInParent()
        await server.send(message)
        await jobs.until(lambda: jobs.registrations == 2)


async def test_what_is_no_message_renews_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BACKOFF_SECONDS", (0.01,))
    server, jobs = FakeLiveKit(), FakeJobs()
    async with server.running() as access, linked(access, jobs):
        await server.sockets[0].send_bytes(b"\xff\xff\xff")
        await jobs.until(lambda: jobs.registrations == 2)


async def test_a_server_that_never_registers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ANSWER_SECONDS", 0.2)
    server = FakeLiveKit()
    server.answers = False
    async with server.running() as access:
        link = WorkerLink(access, agent_name="", jobs=FakeJobs(), version="1")
        with pytest.raises(TransportError, match="does not take this worker"):
            await link.run(lambda: None)


async def test_only_so_many_ends_wait_for_the_link(unused_tcp_port: int) -> None:
    access = ServerAccess(f"ws://127.0.0.1:{unused_tcp_port}", "key", SECRET)
    link = WorkerLink(access, agent_name="", jobs=FakeJobs(), version="1")
    for number in range(worker.PENDING_REPORTS + 5):
        await link.report_job(f"AJ_{number}", proto.JobStatus.JS_SUCCESS)
    assert len(link._unsent) == worker.PENDING_REPORTS
    assert "AJ_4" not in link._unsent
