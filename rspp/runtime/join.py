"""``rspp-runtime join``: one runtime, one room, one call."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from rspp.authority.clock import BootClock
from rspp.authority.sqlite import SqliteLeaseStore
from rspp.pipeline.candidates import node_budgets
from rspp.pipeline.normalise import profile_of
from rspp.providers.registry import open_providers
from rspp.runtime.call import CallPlan, hold_call, take_lease
from rspp.runtime.environment import open_evidence, state_folder
from rspp.runtime.snapshots import snapshots_received
from rspp.runtime.stopping import Stopping
from rspp.session.offload import ThreadOffloader
from rspp.session.pool import WorkPool
from rspp.telemetry.opening import telemetry_opened

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.runtime.environment import EvidencePlan
    from rspp.telemetry.settings import TelemetrySettings

LEASE_FILE = "leases.sqlite3"

log = structlog.get_logger(__name__)


async def join_room(
    plan: CallPlan,
    *,
    state: Path | None,
    evidence: EvidencePlan,
    wait_for_lease: bool,
    telemetry: TelemetrySettings,
    control_plane: ControlPlaneSettings | None,
) -> int:
    """Join the room and hold the call until it ends.

    Providers are opened before the lease is taken, so that a standby is heard at once when it takes
    over.

    Args:
        plan: which call.
        state: folder of what outlives the process; none takes the user's own.
        evidence: where the call is recorded.
        wait_for_lease: stand by while another runtime holds the call.
        telemetry: where telemetry goes; nobody scrapes a runtime of one call.
        control_plane: where snapshots come from; none holds the call without a control plane.

    Returns:
        Exit status: 0 when the call ended, 128 plus the signal when one ended it.

    Raises:
        RsppError: the call cannot be held; the message says why.
    """
    stopping = Stopping()
    clock = BootClock()
    with (
        stopping.installed(),
        telemetry_opened(telemetry, scraped=False, tenant=plan.tenant) as sink,
        closing(SqliteLeaseStore(state_folder(state) / LEASE_FILE, clock)) as store,
        open_evidence(evidence) as recording,
        closing(ThreadOffloader(plan.session_id)) as offloader,
        closing(WorkPool(profile_of(plan.spec), clock)) as pool,
    ):
        async with snapshots_received(
            control_plane, clock, state=state, tenant=plan.tenant, telemetry=sink
        ) as plane:
            work = pool.session(node_budgets(plan.spec))
            providers = await open_providers(plan.spec, offloader, work.seat)
            handed_over = False
            try:
                taken = await take_lease(
                    plan, store=store, offloader=offloader, stopping=stopping, wait=wait_for_lease
                )
                if taken is None:
                    return stopping.exit_status
                lease, resumed = taken
                handed_over = True
                await hold_call(
                    plan,
                    lease=lease,
                    resumed=resumed,
                    store=store,
                    providers=providers,
                    clock=clock,
                    offloader=offloader,
                    stopping=stopping,
                    evidence=recording,
                    telemetry=sink,
                    work=work,
                    turn_starts=plane,
                )
            finally:
                if not handed_over:
                    await providers.close()
    return stopping.exit_status
