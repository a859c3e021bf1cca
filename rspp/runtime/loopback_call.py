"""A whole call over the loopback transport: providers, lease, session."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from rspp.authority.sqlite import SqliteLeaseStore
from rspp.authority.store import Lease
from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import AuthorityError
from rspp.pipeline.candidates import node_budgets
from rspp.pipeline.normalise import profile_of
from rspp.providers.registry import open_providers
from rspp.session.offload import InlineOffloader, ThreadOffloader
from rspp.session.pool import WorkPool
from rspp.session.session import Session
from rspp.session.virtual_time import VirtualClock, VirtualTimeLoop
from rspp.transports.loopback import LoopbackCaller, LoopbackTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp._kernel import Admission
    from rspp.contracts.ports import Clock
    from rspp.contracts.turn_start import TurnStarts
    from rspp.pipeline.spec import PipelineSpec
    from rspp.providers.registry import Providers
    from rspp.session.recording import Recorder

LEASE_MS = 4_000


async def loopback_call(
    caller: LoopbackCaller,
    spec: PipelineSpec,
    *,
    session_id: str,
    recorder: Recorder | None = None,
    providers: Providers | None = None,
    on_session: Callable[[Session], None] | None = None,
    pool: WorkPool | None = None,
    admission: Admission | None = None,
    turn_starts: TurnStarts | None = None,
    tenant: str = DEFAULT_TENANT,
) -> Session:
    """Hold a call with a caller of this process and return the ended session.

    Args:
        caller: the other party.
        spec: the pipeline.
        session_id: id of the conversation.
        recorder: takes the evidence.
        providers: open providers to use instead of the pipeline's own.
        on_session: called with the session before the call begins.
        pool: shared with other calls, as those of a runtime share one; none gives the call its own.
        admission: quotas shared likewise; none gives the call its own.
        turn_starts: tells what turns may start from; none holds the call without a control plane.
        tenant: whose call it is.

    In a virtual-time loop providers run inline and the call takes no real waiting; in any other loop
    it takes as long as it lasts.
    """
    virtual = isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    if virtual:
        clock: Clock = VirtualClock()
        offloader: InlineOffloader | ThreadOffloader = InlineOffloader()
    else:
        from rspp.authority.clock import BootClock

        clock, offloader = BootClock(), ThreadOffloader(session_id)
    async with AsyncExitStack() as open_now:
        open_now.callback(offloader.close)
        if pool is None:
            pool = WorkPool(profile_of(spec), clock, inline=virtual)
            open_now.callback(pool.close)
        work = pool.session(node_budgets(spec))
        # Loading models may take longer than a lease lasts, so it comes before the lease.
        opened = providers or await open_providers(spec, offloader, work.seat)
        # The session closes them too, but not when the call fails before it begins.
        open_now.push_async_callback(opened.close)
        store = SqliteLeaseStore(":memory:", clock)
        open_now.callback(store.close)
        lease = store.acquire(session_id, "loopback", LEASE_MS, {})
        if not isinstance(lease, Lease):
            raise AuthorityError(f"session {session_id} is held already")
        session = Session(
            session_id=session_id,
            spec=spec,
            transport=LoopbackTransport(caller),
            providers=opened,
            store=store,
            lease=lease,
            clock=clock,
            offloader=offloader,
            recorder=recorder,
            admission=admission,
            work=work,
            turn_starts=turn_starts,
            tenant=tenant,
        )
        if on_session is not None:
            on_session(session)
        await session.run()
        return session
