"""The command line of ``rspp-runtime``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter, validators

from rspp.controlplane.settings import control_plane_settings
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import key_variables
from rspp.pipeline.registry import published
from rspp.runtime import environment
from rspp.runtime.leases import rotate_lease
from rspp.runtime.logs import set_up_logs
from rspp.runtime.retention import retention_sweep
from rspp.telemetry.settings import telemetry_settings
from rspp.terminal import version

if TYPE_CHECKING:
    from rspp.evidence.levels import RecordingOverride

Fsync = Literal["never", "interval", "turn", "always"]

app = App(
    name="rspp-runtime",
    help="Hold voice calls in LiveKit rooms. The server comes from LIVEKIT_URL, LIVEKIT_API_KEY and "
    "LIVEKIT_API_SECRET, in the environment or in .env.",
    version=version,
)

app.command(retention_sweep)
app.command(rotate_lease)


@app.command
def join(
    *,
    room: str,
    pipeline: Path,
    pipeline_version: str = "",
    session: str = "",
    identity_prefix: str = "agent",
    state: Path | None = None,
    evidence: Path | None = None,
    tenant: str = "",
    fsync: Fsync = "interval",
    record: str = "",
    record_minutes: int = 0,
    record_approval: str = "",
    control_plane: str = "",
    wait_for_lease: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Join one room and hold one call.

    Args:
        room: name of the room.
        pipeline: pipeline file.
        pipeline_version: NAME@VERSION that the file must hold; anything else is refused.
        session: id of the conversation, the same for every runtime that may take it over; the room's
            name by default.
        identity_prefix: first part of the agent's identity, PREFIX-SESSION-eEPOCH.
        state: folder of the lease store and of the snapshot used last; $XDG_STATE_HOME/rspp by default.
        evidence: folder for the call's recording, EVIDENCE/TENANT/SESSION.
        tenant: whose call it is, and who may read what is recorded; RSPP_TENANT, else default.
        fsync: when the disk is waited for: never, each second (interval), when a turn closes, or always.
        record: recording level instead of the pipeline file's: L0, L1 or L2.
        record_minutes: how long L1 lasts from now on.
        record_approval: who approved L2, and why; kept with the recording.
        control_plane: FILE, env:NAME or URL[,URL...] of the snapshot that turns start from; the
            RSPP_CP_DISTRIBUTION_ variables otherwise, and without any there is no control plane.
        wait_for_lease: stand by while another runtime holds the call, and take over when it is gone.
    """
    session_id = session or environment.session_of_room(room)
    environment.checked_name(session_id, "--session")
    environment.checked_name(identity_prefix, "--identity-prefix")
    spec = published(load_pipeline(pipeline)).resolve(pipeline_version)
    environment.load_env_file(Path.cwd())
    owner = environment.tenant_name(tenant)
    recorded = environment.EvidencePlan(
        folder=evidence, tenant=owner, fsync=fsync, secret_names=key_variables(spec)
    )
    recording = _asked(record, record_minutes, record_approval)
    access = environment.server_access()
    telemetry = telemetry_settings()
    snapshots = control_plane_settings(control_plane)
    set_up_logs()

    # Imported last: they load the media library, and bad input should be answered before that.
    from rspp.runtime.call import CallPlan
    from rspp.runtime.join import join_room

    plan = CallPlan(
        session_id=session_id,
        room=room,
        spec=spec,
        access=access,
        tenant=owner,
        recording=recording,
        identity_prefix=identity_prefix,
    )
    return asyncio.run(
        join_room(
            plan,
            state=state,
            evidence=recorded,
            wait_for_lease=wait_for_lease,
            telemetry=telemetry,
            control_plane=snapshots,
        )
    )


@app.command
def serve(
    *,
    pipeline: Path,
    pipeline_version: str = "",
    agent_name: str = "",
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))] = 8081,
    state: Path | None = None,
    evidence: Path | None = None,
    tenant: str = "",
    fsync: Fsync = "interval",
    record: str = "",
    record_minutes: int = 0,
    record_approval: str = "",
    control_plane: str = "",
    max_sessions: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1000))] = 20,
) -> int:
    """Register as a worker and take the server's dispatches, many rooms in one process.

    The first SIGTERM or SIGINT takes no further calls and waits for those that run; the second ends them.

    Args:
        pipeline: pipeline file.
        pipeline_version: NAME@VERSION that the file must hold; anything else is refused.
        agent_name: take only dispatches by this name; without it, every new room.
        host: address of the health endpoint; metrics beyond this machine need RSPP_METRICS_TOKEN.
        port: port of the health endpoint, GET /healthz and GET /metrics; 0 takes a free one.
        state: folder of the lease store and of the snapshot used last; $XDG_STATE_HOME/rspp by default.
        evidence: folder for the calls' recordings.
        tenant: whose calls they are, and who may read what is recorded; RSPP_TENANT, else default.
        fsync: when the disk is waited for: never, each second (interval), when a turn closes, or always.
        record: recording level instead of the pipeline file's: L0, L1 or L2.
        record_minutes: how long L1 lasts, for all calls, from now on.
        record_approval: who approved L2, and why; kept with the recordings.
        control_plane: FILE, env:NAME or URL[,URL...] of the snapshot that turns start from; the
            RSPP_CP_DISTRIBUTION_ variables otherwise, and without any there is no control plane.
        max_sessions: most calls at once.
    """
    spec = published(load_pipeline(pipeline)).resolve(pipeline_version)
    environment.load_env_file(Path.cwd())
    owner = environment.tenant_name(tenant)
    recorded = environment.EvidencePlan(
        folder=evidence, tenant=owner, fsync=fsync, secret_names=key_variables(spec)
    )
    recording = _asked(record, record_minutes, record_approval)
    access = environment.server_access()
    telemetry = telemetry_settings()
    snapshots = control_plane_settings(control_plane)
    set_up_logs()

    from rspp.runtime.serve import ServePlan, serve_dispatches

    plan = ServePlan(
        spec=spec,
        access=access,
        agent_name=agent_name,
        host=host,
        port=port,
        state=state,
        evidence=recorded,
        recording=recording,
        max_sessions=max_sessions,
        telemetry=telemetry,
        control_plane=snapshots,
    )
    return asyncio.run(serve_dispatches(plan))


def _asked(level: str, minutes: int, approval: str) -> RecordingOverride | None:
    from rspp.evidence.levels import RecordingOverride

    now = time.time_ns() // 1_000_000
    return RecordingOverride.asked(level, minutes=minutes, approval=approval, wall_ms=now)
