"""The command line of ``rspp-runtime``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators

from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.registry import published
from rspp.runtime import environment
from rspp.runtime.logs import set_up_logs
from rspp.terminal import version

app = App(
    name="rspp-runtime",
    help="Hold voice calls in LiveKit rooms. The server comes from LIVEKIT_URL, LIVEKIT_API_KEY and "
    "LIVEKIT_API_SECRET, in the environment or in .env.",
    version=version,
)


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
        state: folder of the lease store; $XDG_STATE_HOME/rspp by default.
        evidence: folder for the call's timeline, EVIDENCE/SESSION/timeline.jsonl.
        wait_for_lease: stand by while another runtime holds the call, and take over when it is gone.
    """
    session_id = session or environment.session_of_room(room)
    environment.checked_name(session_id, "--session")
    environment.checked_name(identity_prefix, "--identity-prefix")
    spec = published(load_pipeline(pipeline)).resolve(pipeline_version)
    environment.load_env_file(Path.cwd())
    access = environment.server_access()
    set_up_logs()

    # Imported last: they load the media library, and bad input should be answered before that.
    from rspp.runtime.call import CallPlan
    from rspp.runtime.join import join_room

    plan = CallPlan(
        session_id=session_id,
        room=room,
        spec=spec,
        access=access,
        evidence=evidence,
        identity_prefix=identity_prefix,
    )
    return asyncio.run(join_room(plan, state=state, wait_for_lease=wait_for_lease))


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
    max_sessions: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1000))] = 20,
) -> int:
    """Register as a worker and take the server's dispatches, many rooms in one process.

    The first SIGTERM or SIGINT takes no further calls and waits for those that run; the second ends them.

    Args:
        pipeline: pipeline file.
        pipeline_version: NAME@VERSION that the file must hold; anything else is refused.
        agent_name: take only dispatches by this name; without it, every new room.
        host: address of the health endpoint.
        port: port of the health endpoint, GET /healthz; 0 takes a free one.
        state: folder of the lease store; $XDG_STATE_HOME/rspp by default.
        evidence: folder for the calls' timelines.
        max_sessions: most calls at once.
    """
    spec = published(load_pipeline(pipeline)).resolve(pipeline_version)
    environment.load_env_file(Path.cwd())
    access = environment.server_access()
    set_up_logs()

    from rspp.runtime.serve import ServePlan, serve_dispatches

    plan = ServePlan(
        spec=spec,
        access=access,
        agent_name=agent_name,
        host=host,
        port=port,
        state=state,
        evidence=evidence,
        max_sessions=max_sessions,
    )
    return asyncio.run(serve_dispatches(plan))
