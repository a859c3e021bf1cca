"""The calls of one process: each in a task of its own, none of which can end another."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import RsppError
from rspp.pipeline.candidates import node_budgets
from rspp.pipeline.normalise import profile_of
from rspp.pipeline.quotas import admission_of
from rspp.providers.registry import open_providers
from rspp.runtime.call import CallPlan, hold_call, take_lease
from rspp.runtime.stopping import Stopping
from rspp.runtime.worker import Offer
from rspp.session.offload import ThreadOffloader
from rspp.session.pool import WorkPool
from rspp.transports.livekit_access import agent_identity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from livekit.protocol import agent as proto

    from rspp.authority.store import Lease, LeaseStore
    from rspp.contracts.ports import Clock
    from rspp.contracts.turn_start import TurnStarts
    from rspp.evidence.levels import RecordingOverride
    from rspp.evidence.writer import EvidenceWriter
    from rspp.pipeline.spec import PipelineSpec
    from rspp.telemetry.sink import TelemetrySink
    from rspp.transports.livekit_access import ServerAccess

BUSY = 0.85
"""Share of a core above which no further call is taken: one event loop carries all calls."""
CALLER_WAIT_SECONDS = 300.0
"""A dispatched room whose caller never speaks is given up after this."""

log = structlog.get_logger(__name__)


class Calls:
    """Begins, counts and ends the calls of this process.

    Args:
        spec: the pipeline of all of them.
        access: the server and its key.
        store: lease store.
        clock: boot-time clock.
        evidence: records the calls; none keeps nothing.
        tenant: whose calls they are.
        recording: recording level that the operator asked for; none takes the pipeline's.
        max_calls: most calls at once.
        telemetry: sees the evidence of all of them.
        turn_starts: tells what turns may start from; none holds calls without a control plane.
    """

    def __init__(
        self,
        *,
        spec: PipelineSpec,
        access: ServerAccess,
        store: LeaseStore,
        clock: Clock,
        evidence: EvidenceWriter | None,
        max_calls: int,
        tenant: str = DEFAULT_TENANT,
        recording: RecordingOverride | None = None,
        telemetry: TelemetrySink | None = None,
        turn_starts: TurnStarts | None = None,
    ) -> None:
        self.draining = False
        self.on_done: Callable[[str, str], Awaitable[None]] | None = None
        self._spec = spec
        self._access = access
        self._store = store
        self._clock = clock
        self._evidence = evidence
        self._tenant = tenant
        self._admission = admission_of(profile_of(spec))
        self._pool = WorkPool(profile_of(spec), clock)
        self._recording = recording
        self._max_calls = max_calls
        self._telemetry = telemetry
        self._turn_starts = turn_starts
        self._running: dict[str, tuple[asyncio.Task[None], Stopping]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._measured = (time.monotonic(), time.process_time())
        self._busy = 0.0

    @property
    def count(self) -> int:
        """Calls that run."""
        return len(self._running)

    @property
    def load(self) -> float:
        """The larger of the share of places taken and the share of a core used lately."""
        now, used = time.monotonic(), time.process_time()
        if now - self._measured[0] >= 1.0:
            share = (used - self._measured[1]) / (now - self._measured[0])
            self._busy = min(1.0, share)
            self._measured = (now, used)
        return max(self._busy, self.count / self._max_calls)

    @property
    def open(self) -> bool:
        """Whether another call can be taken."""
        return not self.draining and self.count < self._max_calls and self._busy < BUSY

    def runs(self, session_id: str) -> bool:
        """Whether a call of this session runs here."""
        return session_id in self._running

    def offer(self, job: proto.Job) -> Offer | None:
        """Offer to take a job: its id becomes the session's, the first epoch is the likely one."""
        if not self.open or not job.id or not job.room.name or self.runs(job.id):
            return None
        return Offer(identity=agent_identity(job.id, 1), name=self._spec.name)

    def assign(self, job: proto.Job, url: str, token: str) -> None:
        """Begin the call of a job."""
        plan = CallPlan(
            session_id=job.id,
            room=job.room.name,
            spec=self._spec,
            access=self._access,
            tenant=self._tenant,
            recording=self._recording,
            token=token,
            token_identity=agent_identity(job.id, 1),
            url=url,
            caller_wait_seconds=CALLER_WAIT_SECONDS,
        )
        self.begin(plan)

    def begin(self, plan: CallPlan) -> None:
        """Begin a call unless it runs here already."""
        if self.runs(plan.session_id):
            return
        stopping = Stopping()
        task = asyncio.get_running_loop().create_task(
            self._hold(plan, stopping), name=f"call-{plan.session_id}"
        )
        self._running[plan.session_id] = (task, stopping)
        self._idle.clear()
        task.add_done_callback(lambda done: self._forget(plan.session_id, done))

    def terminate(self, job_id: str) -> None:
        """End a call now."""
        running = self._running.get(job_id)
        if running is not None:
            running[1].asked.set()
            running[1].forced.set()

    def end_all(self) -> None:
        """End every call now."""
        for session_id in tuple(self._running):
            self.terminate(session_id)

    @property
    def waiting_work(self) -> int:
        """Pieces of blocking work that wait for a worker."""
        return self._pool.waiting

    async def until_idle(self) -> None:
        """Wait until no call runs."""
        await self._idle.wait()

    def _forget(self, session_id: str, task: asyncio.Task[None]) -> None:
        self._running.pop(session_id, None)
        if not self._running:
            self._idle.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("a call ended by a defect", session=session_id, error=repr(task.exception()))

    async def _hold(self, plan: CallPlan, stopping: Stopping) -> None:
        error = ""
        try:
            await self._hold_once(plan, stopping)
        except RsppError as failure:
            error = failure.message
            log.warning("call failed", session=plan.session_id, error=failure.message, hint=failure.hint)
        except Exception as failure:  # one call must never end the others
            error = f"internal error: {type(failure).__name__}"
            log.exception("call failed by a defect", session=plan.session_id)
        finally:
            if self.on_done is not None:
                await self.on_done(plan.session_id, error)

    async def _hold_once(self, plan: CallPlan, stopping: Stopping) -> None:
        work = self._pool.session(node_budgets(plan.spec))
        offloader = ThreadOffloader(plan.session_id)
        try:
            providers = await open_providers(plan.spec, offloader, work.seat)
            lease: Lease | None = None
            try:
                taken = await take_lease(
                    plan, store=self._store, offloader=offloader, stopping=stopping, wait=False
                )
                if taken is None:
                    return
                lease, resumed = taken
            finally:
                if lease is None:
                    await providers.close()
            await hold_call(
                plan,
                lease=lease,
                resumed=resumed,
                store=self._store,
                providers=providers,
                clock=self._clock,
                offloader=offloader,
                stopping=stopping,
                evidence=self._evidence,
                telemetry=self._telemetry,
                admission=self._admission,
                work=work,
                turn_starts=self._turn_starts,
            )
        finally:
            offloader.close()
