"""The snapshots of a runtime that ends and starts again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rspp.authority.clock import BootClock
from rspp.controlplane.artifact import SnapshotError
from rspp.runtime.snapshots import snapshots_received
from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from tests.controlplane.snapshots import FakeSource, encoded, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.controlplane.refreshing import ControlPlane

YEARS_S = 1e9


async def started(source: FakeSource, state: Path, telemetry: TelemetrySink | None = None) -> ControlPlane:
    """Start a runtime and end it."""
    settings = settings_of(source)
    async with snapshots_received(
        settings, BootClock(), state=state, tenant="default", telemetry=telemetry
    ) as plane:
        assert plane is not None
        return plane


async def test_what_was_used_is_remembered_in_the_state_folder(tmp_path: Path) -> None:
    source = FakeSource(encoded(version=7, valid_s=YEARS_S))
    assert (await started(source, tmp_path / "state")).version == 7
    source.answer = encoded(version=6, valid_s=YEARS_S)
    with pytest.raises(SnapshotError) as refused:
        await started(source, tmp_path / "state")
    assert refused.value.code == "snapshot_older"
    assert (await started(source, tmp_path / "other")).version == 6


async def test_metrics_show_what_is_in_force(tmp_path: Path) -> None:
    sink = TelemetrySink(TelemetrySettings())
    try:
        assert list(sink.gauges.snapshot_version()) == []
        await started(FakeSource(encoded(version=7, valid_s=YEARS_S)), tmp_path, sink)
        assert list(sink.gauges.snapshot_version()) == [(7, {})]
    finally:
        sink.close()


async def test_without_a_control_plane_there_is_none(tmp_path: Path) -> None:
    async with snapshots_received(
        None, BootClock(), state=tmp_path, tenant="default", telemetry=None
    ) as plane:
        assert plane is None
