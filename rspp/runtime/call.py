"""One call in a LiveKit room, from the lease to the last word."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec
import structlog

from rspp.authority.store import TTL_MS, Lease, LeaseHeld
from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import AuthorityError, TransportError
from rspp.evidence.conversation import earlier_conversation
from rspp.evidence.levels import RecordingLevel
from rspp.pipeline.normalise import recording_level
from rspp.session.session import Session
from rspp.telemetry.recorder import TelemetryRecorder
from rspp.transports.livekit import LiveKitTransport
from rspp.transports.livekit_access import agent_identity, mint_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp._kernel import Admission
    from rspp.authority.store import LeaseStore
    from rspp.contracts.conversation import Conversation
    from rspp.contracts.ports import Clock, Offloader
    from rspp.contracts.turn_start import TurnStarts
    from rspp.evidence.levels import RecordingOverride
    from rspp.evidence.writer import EvidenceWriter, SessionRecorder
    from rspp.pipeline.spec import PipelineSpec
    from rspp.providers.registry import Providers
    from rspp.runtime.stopping import Stopping
    from rspp.session.pool import SessionWork
    from rspp.session.recording import Recorder
    from rspp.telemetry.sink import TelemetrySink
    from rspp.transports.livekit_access import ServerAccess

DRAIN_SECONDS = 10.0
"""Longest wait for the running turn once the runtime was asked to stop."""
POLL_SECONDS = 0.25
"""How often a standby looks whether the lease has run out."""
ROOM_ENDS = {
    "room_deleted": "the room was deleted",
    "room_closed": "the room was closed",
    "removed_from_room": "the server removed the agent from the room",
    "duplicate_identity": "another participant took the agent's identity",
    "server_shutdown": "the LiveKit server shut down",
    "transport_disconnect_or_stall": "the connection to the room was lost and did not come back",
    "superseded": "another runtime has taken over the call",
}
AUTHORITY_ENDS = (
    "lease_expired",
    "lease_deauthorized",
    "lease_stale_epoch",
    "authority_epoch_mismatch",
    "authority_loss",
    "authority_revoked_in_turn",
    "authority_revoked_before_open",
)

log = structlog.get_logger(__name__)


class CallPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which call to hold, and how.

    Attributes:
        session_id: the logical conversation.
        room: name of the room.
        spec: the pipeline.
        access: the server and its key.
        tenant: whose call it is.
        recording: recording level that the operator asked for; none takes the pipeline's.
        identity_prefix: first part of the agent's identity.
        token: access token of a dispatch; made from the key when empty or not for the identity.
        token_identity: identity in ``token``.
        url: address given by a dispatch; the key's own when empty.
        caller_wait_seconds: longest wait for the caller; none waits without limit.
    """

    session_id: str
    room: str
    spec: PipelineSpec
    access: ServerAccess
    tenant: str = DEFAULT_TENANT
    recording: RecordingOverride | None = None
    identity_prefix: str = "agent"
    token: str = ""
    token_identity: str = ""
    url: str = ""
    caller_wait_seconds: float | None = None


def holder_name() -> str:
    """Return a name for this process as the holder of leases."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


async def hold_call(
    plan: CallPlan,
    *,
    lease: Lease,
    resumed: bool,
    store: LeaseStore,
    providers: Providers,
    clock: Clock,
    offloader: Offloader,
    stopping: Stopping,
    evidence: EvidenceWriter | None = None,
    telemetry: TelemetrySink | None = None,
    admission: Admission | None = None,
    work: SessionWork | None = None,
    turn_starts: TurnStarts | None = None,
) -> str:
    """Hold one call under a lease until it ends; the providers are closed and the lease given back.

    Args:
        plan: which call, and how.
        lease: the lease held for it.
        resumed: whether it is taken over.
        store: lease store that ``lease`` came from.
        providers: opened providers.
        clock: the kernel's time.
        offloader: for blocking work.
        stopping: asks the call to end.
        evidence: records the call; none keeps nothing.
        telemetry: sees the evidence as well.
        admission: quotas that it shares with other calls of the process; none gives it its own.
        work: its share of the process's pool, which its providers were opened with.
        turn_starts: tells what turns may start from; none holds the call without a control plane.

    Returns:
        Why it ended, such as ``caller_left``, ``hang_up`` or ``drained``.

    Raises:
        TransportError: the room cannot be joined or was lost.
        AuthorityError: another runtime speaks for the session now.
    """
    identity = agent_identity(plan.session_id, lease.epoch, plan.identity_prefix)
    token = plan.token
    if not token or plan.token_identity != identity:
        token = mint_token(plan.access, room=plan.room, identity=identity)
    transport = LiveKitTransport(
        url=plan.url or plan.access.websocket_url,
        token=token,
        identity=identity,
        room_name=plan.room,
        access=plan.access,
        caller_wait_seconds=plan.caller_wait_seconds,
    )
    spec = plan.spec
    if plan.recording is not None:
        spec = plan.recording.applied(spec, clock.wall_clock_ms())
    kept: SessionRecorder | None = None
    if evidence is not None:
        kept = evidence.open(plan.session_id, epoch=lease.epoch, resumed=resumed, level=recording_level(spec))
    async with AsyncExitStack() as closing:
        recorder: Recorder | None = kept
        if kept is not None:
            # The disk may be slow, and other calls go on meanwhile.
            closing.push_async_callback(offloader.run, kept.close)
        if telemetry is not None:
            heard = TelemetryRecorder(
                kept, telemetry, tenant=plan.tenant, epoch=lease.epoch, lost=_losses_of(kept)
            )
            recorder = closing.enter_context(heard)
        session = Session(
            session_id=plan.session_id,
            spec=spec,
            transport=transport,
            providers=providers,
            store=store,
            lease=lease,
            clock=clock,
            offloader=offloader,
            recorder=recorder,
            recording_level=RecordingLevel.of(spec, wall_ms=clock.wall_clock_ms(), override=plan.recording),
            resumed=resumed,
            earlier=_earlier(evidence, plan, lease) if resumed else None,
            admission=admission,
            tenant=plan.tenant,
            work=work,
            turn_starts=turn_starts,
        )
        log.info("call begins", session=plan.session_id, room=plan.room, identity=identity, resumed=resumed)
        stop = asyncio.create_task(_stop_when_asked(session, stopping), name="stop-call")
        try:
            reason = await session.run()
        finally:
            stop.cancel()
    log.info("call ended", session=plan.session_id, reason=reason)
    if reason in AUTHORITY_ENDS:
        raise AuthorityError(
            f"session {plan.session_id}: this runtime lost its lease ({reason}) and left the room",
            hint="another runtime may speak for the session; look why this one was too slow to renew",
            reason=reason,
        )
    if reason in ROOM_ENDS:
        raise TransportError(
            f"room {plan.room!r}: {ROOM_ENDS[reason]}",
            hint="join again when the room is open",
            reason=reason,
        )
    return reason


def _earlier(
    evidence: EvidenceWriter | None, plan: CallPlan, lease: Lease
) -> Callable[[], Conversation] | None:
    """How to read what was said before the lease; without recordings there is nothing."""
    if evidence is None:
        return None
    root, tenant = evidence.root, evidence.tenant
    return lambda: earlier_conversation(root, tenant, plan.session_id, lease.epoch)


def _losses_of(kept: SessionRecorder | None) -> Callable[[], int] | None:
    return None if kept is None else lambda: kept.dropped


async def _stop_when_asked(session: Session, stopping: Stopping) -> None:
    await stopping.asked.wait()
    log.info("stopping: the running turn may finish", session=session.session_id)
    session.drain()
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await stopping.forced.wait()
        session.end("forced")
    except TimeoutError:
        session.end("drained")


async def take_lease(
    plan: CallPlan,
    *,
    store: LeaseStore,
    offloader: Offloader,
    stopping: Stopping,
    wait: bool,
) -> tuple[Lease, bool] | None:
    """Take the lease of a session, or stand by until it has run out.

    Returns:
        The lease, and whether the session is taken over from a holder that was there before; none when
        the runtime was asked to stop meanwhile.

    Raises:
        AuthorityError: another runtime holds the lease and ``wait`` is false, or the store fails.
    """
    holder = holder_name()
    metadata = {
        "room": plan.room,
        "url": plan.access.url,
        "pipeline": f"{plan.spec.name}@{plan.spec.version}",
        "prefix": plan.identity_prefix,
        "tenant": plan.tenant,
    }
    orphans = await offloader.run(store.orphans)
    resumed = any(orphan.session_id == plan.session_id for orphan in orphans)
    while not stopping.asked.is_set():
        answer = await offloader.run(lambda: store.acquire(plan.session_id, holder, TTL_MS, metadata))
        if isinstance(answer, Lease):
            return answer, resumed
        if not wait:
            raise _held(answer)
        if not resumed:
            log.info("standing by", session=plan.session_id, holder=answer.holder, epoch=answer.epoch)
        resumed = True
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await stopping.asked.wait()
        except TimeoutError:
            continue
    return None


def _held(answer: LeaseHeld) -> AuthorityError:
    return AuthorityError(
        f"session {answer.session_id} is held by {answer.holder} (epoch {answer.epoch})",
        hint="use --wait-for-lease to stand by and take over, or another --session",
    )
