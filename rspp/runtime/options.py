"""What ``rspp-runtime join`` and ``serve`` have in common: their options, and what these come to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cyclopts import Parameter

from rspp.controlplane.settings import control_plane_settings
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import key_variables
from rspp.pipeline.registry import published
from rspp.runtime import environment
from rspp.telemetry.settings import telemetry_settings

if TYPE_CHECKING:
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.evidence.levels import RecordingOverride
    from rspp.pipeline.spec import PipelineSpec
    from rspp.telemetry.settings import TelemetrySettings
    from rspp.transports.livekit_access import ServerAccess

Fsync = Literal["never", "interval", "turn", "always"]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """Which pipeline runs, where its state and evidence lie, and whose calls it holds."""

    pipeline: Path
    """pipeline file."""
    pipeline_version: str = ""
    """NAME@VERSION that the file must hold; anything else is refused."""
    state: Path | None = None
    """folder of the lease store and of the snapshot used last; $XDG_STATE_HOME/rspp by default."""
    evidence: Path | None = None
    """folder for recordings, EVIDENCE/TENANT/SESSION."""
    tenant: str = ""
    """whose calls they are, and who may read what is recorded; RSPP_TENANT, else default."""
    fsync: Fsync = "interval"
    """when the disk is waited for: never, each second (interval), when a turn closes, or always."""
    record: str = ""
    """recording level instead of the pipeline file's: L0, L1 or L2."""
    record_minutes: int = 0
    """how long L1 lasts from now on, for all calls."""
    record_approval: str = ""
    """who approved L2, and why; kept with the recordings."""
    control_plane: str = ""
    """FILE, env:NAME or URL[,URL...] of the snapshot that turns start from; the RSPP_CP_DISTRIBUTION_
    variables otherwise, and without any there is no control plane."""


class RuntimeSettings(NamedTuple):
    """What the options and the environment come to.

    Attributes:
        spec: the pipeline.
        evidence: where calls are recorded, and whose they are.
        recording: recording level that the operator asked for; none takes the pipeline's.
        access: the LiveKit server.
        telemetry: where telemetry goes.
        control_plane: where snapshots come from; none starts without a control plane.
    """

    spec: PipelineSpec
    evidence: environment.EvidencePlan
    recording: RecordingOverride | None
    access: ServerAccess
    telemetry: TelemetrySettings
    control_plane: ControlPlaneSettings | None


def runtime_settings(options: RuntimeOptions) -> RuntimeSettings:
    """Read what a runtime is started with, before anything slow is loaded.

    Raises:
        ConfigurationError: an option, a variable or the pipeline file is wrong.
    """
    from rspp.evidence.levels import RecordingOverride

    spec = published(load_pipeline(options.pipeline)).resolve(options.pipeline_version)
    environment.load_env_file(Path.cwd())
    return RuntimeSettings(
        spec=spec,
        evidence=environment.EvidencePlan(
            folder=options.evidence,
            tenant=environment.tenant_name(options.tenant),
            fsync=options.fsync,
            secret_names=key_variables(spec),
        ),
        recording=RecordingOverride.asked(
            options.record,
            minutes=options.record_minutes,
            approval=options.record_approval,
            wall_ms=time.time_ns() // 1_000_000,
        ),
        access=environment.server_access(),
        telemetry=telemetry_settings(),
        control_plane=control_plane_settings(options.control_plane),
    )
