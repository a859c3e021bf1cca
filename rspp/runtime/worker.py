"""The link to a LiveKit server that dispatches calls: LiveKit's worker protocol.

One WebSocket carries ``WorkerMessage`` and ``ServerMessage``: register, a load report every 2.5 s,
availability, assignment, job status and termination. The link is renewed by itself when it breaks, and
calls do not depend on it.
"""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Protocol

import aiohttp
import msgspec
import structlog
from google.protobuf.message import DecodeError
from livekit import api
from livekit.protocol import agent as proto

from rspp.contracts.errors import ConfigurationError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.transports.livekit_access import ServerAccess

REPORT_SECONDS = 2.5
"""How often the server hears of the load."""
ANSWER_SECONDS = 10.0
"""Longest wait for the server to open the link and to register."""
SEND_SECONDS = 2.0
PULSE_SECONDS = 10.0
"""WebSocket heartbeat: a link that answers none for half of this again is renewed."""
BACKOFF_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
TOKEN_LIFETIME = datetime.timedelta(minutes=10)
MESSAGE_BYTES = 1 << 20
PENDING_REPORTS = 64
"""Ends of jobs kept for the server while the link is down."""

log = structlog.get_logger(__name__)


class Offer(msgspec.Struct, frozen=True):
    """Who will come when a job is assigned.

    Attributes:
        identity: participant identity of the agent.
        name: its name in the room.
    """

    identity: str
    name: str


class Jobs(Protocol):
    """What takes the calls."""

    def offer(self, job: proto.Job) -> Offer | None:
        """Return who would come, or none to decline; called on the loop, must not wait."""
        ...

    def assign(self, job: proto.Job, url: str, token: str) -> None:
        """Begin the call; must not wait."""
        ...

    def terminate(self, job_id: str) -> None:
        """End the call now, because the server says so."""
        ...

    @property
    def load(self) -> float:
        """0 when idle, 1 when nothing more can be taken."""
        ...

    @property
    def open(self) -> bool:
        """Whether another call can be taken."""
        ...

    @property
    def count(self) -> int:
        """Calls that run."""
        ...


class WorkerLink:
    """Registers as a worker, and stays registered.

    Args:
        access: the server and its key.
        agent_name: dispatches by this name come here; empty takes every new room.
        jobs: takes the calls.
        version: shown by the server.
    """

    def __init__(self, access: ServerAccess, *, agent_name: str, jobs: Jobs, version: str) -> None:
        self.worker_id = ""
        self._access = access
        self._agent_name = agent_name
        self._jobs = jobs
        self._version = version
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._ever = False
        self._unsent: dict[str, proto.WorkerMessage] = {}
        self._changed = asyncio.Event()

    @property
    def registered(self) -> bool:
        """Whether the server knows this worker now."""
        return bool(self.worker_id)

    async def run(self, on_registered: Callable[[], None]) -> None:
        """Keep the link until cancelled.

        Args:
            on_registered: called each time the server has registered this worker.

        Raises:
            ConfigurationError: the server refuses the key.
            TransportError: the server cannot be reached at the very first attempt.
        """
        failures = 0
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._serve_link(session, on_registered)
                    failures = 0
                except (aiohttp.ClientError, TimeoutError, OSError, DecodeError) as error:
                    if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in {401, 403}:
                        raise ConfigurationError(
                            f"LiveKit server {self._access.url} does not accept LIVEKIT_API_KEY and "
                            "LIVEKIT_API_SECRET",
                            hint="copy key and secret from the same line of the server's `keys` section",
                        ) from error
                    if not self._ever:
                        raise self._unreachable(error) from error
                    log.warning("link to the server broke", error=str(error) or type(error).__name__)
                finally:
                    if self.worker_id:
                        failures = 0
                    self.worker_id = ""
                    self._socket = None
                wait = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
                failures += 1
                log.info("registering again", wait_seconds=wait, calls=self._jobs.count)
                await asyncio.sleep(wait)

    def report_now(self) -> None:
        """Tell the server the load at once, as when a call began or the runtime drains."""
        self._changed.set()

    async def report_job(self, job_id: str, status: proto.JobStatus, error: str = "") -> None:
        """Tell the server how a job stands; kept for later while the link is down."""
        update = proto.UpdateJobStatus(job_id=job_id, status=status, error=error)
        message = proto.WorkerMessage(update_job=update)
        if self.registered:
            try:
                await self._send(message)
            except (aiohttp.ClientError, TimeoutError, OSError):
                log.info("a job status waits for the link", job=job_id)
            else:
                return
        self._unsent.pop(job_id, None)
        while len(self._unsent) >= PENDING_REPORTS:
            self._unsent.pop(next(iter(self._unsent)))
        self._unsent[job_id] = message

    async def _serve_link(self, session: aiohttp.ClientSession, on_registered: Callable[[], None]) -> None:
        token = api.AccessToken(self._access.api_key, self._access.api_secret)
        token = token.with_grants(api.VideoGrants(agent=True)).with_ttl(TOKEN_LIFETIME)
        async with asyncio.timeout(ANSWER_SECONDS):
            socket = await session.ws_connect(
                f"{self._access.websocket_url}/agent",
                headers={"Authorization": f"Bearer {token.to_jwt()}"},
                heartbeat=PULSE_SECONDS,
                max_msg_size=MESSAGE_BYTES,
            )
        async with socket:
            self._socket = socket
            register = proto.RegisterWorkerRequest(
                type=proto.JobType.JT_ROOM, agent_name=self._agent_name, version=self._version
            )
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._send(proto.WorkerMessage(register=register))
                first = await self._receive(socket)
            if first is None or not first.HasField("register"):
                raise aiohttp.ClientError("the server did not register this worker")
            self.worker_id = first.register.worker_id
            self._ever = True
            log.info("registered", worker=self.worker_id, server=self._access.url, agent=self._agent_name)
            on_registered()
            reports = asyncio.create_task(self._report(), name="worker-load")
            try:
                for message in tuple(self._unsent.values()):
                    await self._send(message)
                self._unsent.clear()
                while (incoming := await self._receive(socket)) is not None:
                    await self._take(incoming)
            finally:
                reports.cancel()
                await asyncio.gather(reports, return_exceptions=True)

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> proto.ServerMessage | None:
        while True:
            message = await socket.receive()
            if message.type == aiohttp.WSMsgType.BINARY:
                return proto.ServerMessage.FromString(message.data)
            if message.type in {
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            }:
                return None

    async def _take(self, message: proto.ServerMessage) -> None:
        match message.WhichOneof("message"):
            case "availability":
                await self._answer(message.availability.job)
            case "assignment":
                assignment = message.assignment
                self._jobs.assign(assignment.job, assignment.url, assignment.token)
                self.report_now()
            case "termination":
                log.info("the server ends a job", job=message.termination.job_id)
                self._jobs.terminate(message.termination.job_id)
            case "go_away":
                log.info("the server asks this worker to register elsewhere")
                if self._socket is not None:
                    await self._socket.close()
            case other:
                log.debug("message of the server not used", kind=other)

    async def _answer(self, job: proto.Job) -> None:
        offer = self._jobs.offer(job)
        answer = proto.AvailabilityResponse(job_id=job.id, available=offer is not None)
        if offer is not None:
            answer.participant_identity = offer.identity
            answer.participant_name = offer.name
        log.info("a job is offered", job=job.id, room=job.room.name, taken=offer is not None)
        await self._send(proto.WorkerMessage(availability=answer))

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            status = proto.WorkerStatus.WS_AVAILABLE if self._jobs.open else proto.WorkerStatus.WS_FULL
            update = proto.UpdateWorkerStatus(status=status, load=self._jobs.load, job_count=self._jobs.count)
            await self._send(proto.WorkerMessage(update_worker=update))
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _send(self, message: proto.WorkerMessage) -> None:
        if self._socket is None:
            raise aiohttp.ClientConnectionError("the link is down")
        async with asyncio.timeout(SEND_SECONDS):
            await self._socket.send_bytes(message.SerializeToString())

    def _unreachable(self, error: BaseException) -> TransportError:
        detail = str(error) or type(error).__name__
        return TransportError(
            f"LiveKit server {self._access.url} does not take this worker: {detail}",
            hint="start the server, or check LIVEKIT_URL and the network",
        )
