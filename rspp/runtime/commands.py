"""The command line of ``rspp-runtime``."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import App, Parameter, validators

from rspp.runtime import environment
from rspp.runtime.leases import rotate_lease
from rspp.runtime.logs import set_up_logs
from rspp.runtime.options import RuntimeOptions, runtime_settings
from rspp.runtime.retention import retention_sweep
from rspp.terminal import version

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
    session: str = "",
    identity_prefix: str = "agent",
    wait_for_lease: Annotated[bool, Parameter(negative="")] = False,
    options: RuntimeOptions,
) -> int:
    """Join one room and hold one call.

    Args:
        room: name of the room.
        session: id of the conversation, the same for every runtime that may take it over; the room's
            name by default.
        identity_prefix: first part of the agent's identity, PREFIX-SESSION-eEPOCH.
        wait_for_lease: stand by while another runtime holds the call, and take over when it is gone.
        options: what every runtime is started with.
    """
    of_room = environment.session_of_room(room)
    session_id = session or of_room
    environment.checked_name(session_id, "--session")
    environment.checked_name(identity_prefix, "--identity-prefix")
    settings = runtime_settings(options)
    set_up_logs()

    # Imported last: they load the media library, and bad input should be answered before that.
    from rspp.runtime.call import CallPlan
    from rspp.runtime.join import join_room

    plan = CallPlan(
        session_id=session_id,
        room=room,
        spec=settings.spec,
        access=settings.access,
        tenant=settings.evidence.tenant,
        recording=settings.recording,
        identity_prefix=identity_prefix,
    )
    return asyncio.run(
        join_room(
            plan,
            state=options.state,
            evidence=settings.evidence,
            wait_for_lease=wait_for_lease,
            telemetry=settings.telemetry,
            control_plane=settings.control_plane,
        )
    )


@app.command
def serve(
    *,
    agent_name: str = "",
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))] = 8081,
    max_sessions: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1000))] = 20,
    options: RuntimeOptions,
) -> int:
    """Register as a worker and take the server's dispatches, many rooms in one process.

    The first SIGTERM or SIGINT takes no further calls and waits for those that run; the second ends them.

    Args:
        agent_name: take only dispatches by this name; without it, every new room.
        host: address of the health endpoint; metrics beyond this machine need RSPP_METRICS_TOKEN.
        port: port of the health endpoint, GET /healthz and GET /metrics; 0 takes a free one.
        max_sessions: most calls at once.
        options: what every runtime is started with.
    """
    settings = runtime_settings(options)
    set_up_logs()

    from rspp.runtime.serve import ServePlan, serve_dispatches

    plan = ServePlan(
        spec=settings.spec,
        access=settings.access,
        agent_name=agent_name,
        host=host,
        port=port,
        state=options.state,
        evidence=settings.evidence,
        recording=settings.recording,
        max_sessions=max_sessions,
        telemetry=settings.telemetry,
        control_plane=settings.control_plane,
    )
    return asyncio.run(serve_dispatches(plan))
