"""``rspp-runtime serve``: takes a LiveKit server's dispatches, many calls in one process."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

import msgspec
import structlog
from livekit.protocol import agent as proto

from rspp.authority.clock import BootClock
from rspp.authority.sqlite import SqliteLeaseStore
from rspp.providers.registry import open_providers
from rspp.runtime.calls import Calls
from rspp.runtime.environment import EvidencePlan, open_evidence, state_folder
from rspp.runtime.health import TOKEN_VARIABLE, health_endpoint
from rspp.runtime.join import LEASE_FILE
from rspp.runtime.orphans import OrphanKeeper
from rspp.runtime.snapshots import snapshots_received
from rspp.runtime.stopping import Stopping
from rspp.runtime.worker import WorkerLink
from rspp.session.offload import ThreadOffloader
from rspp.telemetry.opening import telemetry_opened
from rspp.terminal import version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.evidence.levels import RecordingOverride
    from rspp.pipeline.spec import PipelineSpec
    from rspp.telemetry.settings import TelemetrySettings
    from rspp.transports.livekit_access import ServerAccess

FORCED_SECONDS = 4.0
"""After the second signal calls have this long to leave their rooms."""

log = structlog.get_logger(__name__)


class ServePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve.

    Attributes:
        spec: the pipeline.
        access: the server and its key.
        agent_name: dispatches by this name come here; empty takes every new room.
        host: address of the health endpoint.
        port: port of the health endpoint; 0 takes a free one.
        state: folder of what outlives the process; none takes the user's own.
        evidence: where calls are recorded.
        recording: recording level that the operator asked for; none takes the pipeline's.
        max_sessions: most calls at once.
        telemetry: where telemetry goes besides ``/metrics``.
        control_plane: where snapshots come from; none serves without a control plane.
    """

    spec: PipelineSpec
    access: ServerAccess
    agent_name: str
    host: str
    port: int
    state: Path | None
    evidence: EvidencePlan
    recording: RecordingOverride | None
    max_sessions: int
    telemetry: TelemetrySettings
    control_plane: ControlPlaneSettings | None = None

    @property
    def tenant(self) -> str:
        """Whose calls they are."""
        return self.evidence.tenant


async def serve_dispatches(plan: ServePlan) -> int:
    """Serve until a signal asks to stop and the last call has ended.

    Returns:
        Exit status: 128 plus the signal that ended it.

    Raises:
        RsppError: it cannot serve; the message says why.
    """
    stopping = Stopping()
    clock = BootClock()
    async with AsyncExitStack() as stack:
        stack.enter_context(stopping.installed())
        telemetry = stack.enter_context(telemetry_opened(plan.telemetry, scraped=True, tenant=plan.tenant))
        store = stack.enter_context(closing(SqliteLeaseStore(state_folder(plan.state) / LEASE_FILE, clock)))
        offloader = stack.enter_context(closing(ThreadOffloader("serve", threads=1)))
        await _try_providers(plan.spec)
        plane = await stack.enter_async_context(
            snapshots_received(
                plan.control_plane, clock, state=plan.state, tenant=plan.tenant, telemetry=telemetry
            )
        )
        evidence = stack.enter_context(open_evidence(plan.evidence))
        if telemetry is not None and evidence is not None:
            telemetry.watch("evidence_writer", "bytes", lambda: evidence.waiting_bytes)
        calls = Calls(
            spec=plan.spec,
            access=plan.access,
            store=store,
            clock=clock,
            evidence=evidence,
            tenant=plan.tenant,
            recording=plan.recording,
            max_calls=plan.max_sessions,
            telemetry=telemetry,
            turn_starts=plane,
        )
        if telemetry is not None:
            telemetry.watch("work_pool", "tasks", lambda: calls.waiting_work)
        link = WorkerLink(plan.access, agent_name=plan.agent_name, jobs=calls, version=version())
        calls.on_done = _reporting(link)

        def health() -> dict[str, object]:
            return {
                "healthy": link.registered,
                "worker_id": link.worker_id,
                "draining": calls.draining,
                "sessions": calls.count,
                "max_sessions": plan.max_sessions,
                "load": round(calls.load, 3),
                "control_plane": None
                if plane is None
                else {"snapshot_version": plane.version, "age_ms": round(plane.age_ms)},
            }

        metrics = telemetry.scrape if telemetry is not None else None
        token = os.environ.get(TOKEN_VARIABLE, "")
        port = await stack.enter_async_context(health_endpoint(plan.host, plan.port, health, metrics, token))
        keeper = OrphanKeeper(
            calls=calls,
            store=store,
            offloader=offloader,
            spec=plan.spec,
            access=plan.access,
            tenant=plan.tenant,
            recording=plan.recording,
        )
        log.info("serving", health=f"http://{plan.host}:{port}/healthz", max_sessions=plan.max_sessions)
        await _until_stopped(link, keeper, calls, stopping)
    return stopping.exit_status


async def _until_stopped(link: WorkerLink, keeper: OrphanKeeper, calls: Calls, stopping: Stopping) -> None:
    loop = asyncio.get_running_loop()
    linked = loop.create_task(link.run(lambda: None), name="worker-link")
    adopting = loop.create_task(keeper.run(), name="orphans")
    asked = loop.create_task(stopping.asked.wait(), name="stop-asked")
    try:
        await asyncio.wait({linked, adopting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            # Only a failure ends the other two.
            await (linked if linked.done() else adopting)
        log.info("draining: no further calls are taken", calls=calls.count)
        calls.draining = True
        link.report_now()
        await _drain(calls, stopping)
    finally:
        calls.end_all()
        try:
            async with asyncio.timeout(FORCED_SECONDS):
                await calls.until_idle()
        except TimeoutError:
            log.warning("calls did not end in time", calls=calls.count)
        for task in (linked, adopting, asked):
            task.cancel()
        await asyncio.gather(linked, adopting, asked, return_exceptions=True)


async def _drain(calls: Calls, stopping: Stopping) -> None:
    """Wait for the calls to end, or for the second signal."""
    loop = asyncio.get_running_loop()
    waits = [loop.create_task(calls.until_idle()), loop.create_task(stopping.forced.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _reporting(link: WorkerLink) -> Callable[[str, str], Awaitable[None]]:
    """Return what tells the server how each job ended."""

    async def report(job_id: str, error: str) -> None:
        status = proto.JobStatus.JS_FAILED if error else proto.JobStatus.JS_SUCCESS
        await link.report_job(job_id, status, error)
        link.report_now()

    return report


async def _try_providers(spec: PipelineSpec) -> None:
    """Open the providers once, so that a fault shows when the runtime starts and not in the first call."""
    offloader = ThreadOffloader("start")
    try:
        providers = await open_providers(spec, offloader)
        await providers.close()
    finally:
        offloader.close()
