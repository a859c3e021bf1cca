"""The snapshots of a runtime: received as long as it runs, remembered beyond that, shown in its metrics."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

from rspp.controlplane.refreshing import control_plane_running
from rspp.controlplane.used import used_snapshots
from rspp.runtime.environment import state_folder
from rspp.session.offload import ThreadOffloader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from rspp.contracts.ports import Clock
    from rspp.controlplane.refreshing import ControlPlane
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.telemetry.sink import TelemetrySink


@asynccontextmanager
async def snapshots_received(
    settings: ControlPlaneSettings | None,
    clock: Clock,
    *,
    state: Path | None,
    tenant: str,
    telemetry: TelemetrySink | None,
) -> AsyncIterator[ControlPlane | None]:
    """Receive snapshots for the length of an ``async with`` block.

    Args:
        settings: from where; none yields none.
        clock: the kernels' time.
        state: folder of what outlives the process; none takes the user's own.
        tenant: whose turns start from them.
        telemetry: shows the one in force.

    Raises:
        SnapshotError: there is no usable snapshot at the start.
        ConfigurationError: nobody can tell which was used before.
    """
    used = used_snapshots(state_folder(state), settings, tenant)
    with closing(ThreadOffloader("control-plane", threads=1)) as reading:
        async with control_plane_running(settings, clock, reading, remembered=used) as plane:
            if telemetry is not None and plane is not None:
                telemetry.watch_snapshot(lambda: (plane.version, plane.age_ms))
            yield plane
