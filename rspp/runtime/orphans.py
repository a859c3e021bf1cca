"""Calls whose runtime died: found in the lease store, and taken over when somebody still waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import structlog
from livekit import api

from rspp.authority.store import TTL_MS, Lease
from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import AuthorityError
from rspp.runtime.call import CallPlan, holder_name
from rspp.transports.livekit_access import redact, server_api

if TYPE_CHECKING:
    from rspp.authority.store import LeaseStore, Orphan
    from rspp.contracts.ports import Offloader
    from rspp.evidence.levels import RecordingOverride
    from rspp.pipeline.spec import PipelineSpec
    from rspp.runtime.calls import Calls
    from rspp.transports.livekit_access import ServerAccess

LOOK_SECONDS = 0.5
STRANGERS = (
    api.ParticipantInfo.Kind.AGENT,
    api.ParticipantInfo.Kind.EGRESS,
)

log = structlog.get_logger(__name__)


class OrphanKeeper:
    """Looks for orphans of the same server and pipeline, and begins their calls here.

    Args:
        calls: where the calls run.
        store: lease store.
        offloader: runs the store's calls.
        spec: the pipeline.
        access: the server and its key.
        tenant: whose calls they are.
        recording: recording level that the operator asked for; none takes the pipeline's.
    """

    def __init__(
        self,
        *,
        calls: Calls,
        store: LeaseStore,
        offloader: Offloader,
        spec: PipelineSpec,
        access: ServerAccess,
        tenant: str = DEFAULT_TENANT,
        recording: RecordingOverride | None = None,
    ) -> None:
        self._calls = calls
        self._store = store
        self._offloader = offloader
        self._spec = spec
        self._access = access
        self._tenant = tenant
        self._recording = recording

    async def run(self) -> None:
        """Look twice a second until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._calls.open:
                continue
            try:
                for orphan in await self._offloader.run(self._store.orphans):
                    await self._adopt(orphan)
            except AuthorityError as error:
                log.warning("orphans cannot be looked for", error=error.message)

    async def _adopt(self, orphan: Orphan) -> None:
        metadata = orphan.metadata
        room = metadata.get("room", "")
        ours = metadata.get("url") == self._access.url and metadata.get("pipeline", "").startswith(
            f"{self._spec.name}@"
        )
        # Another tenant's call is never taken over: its recording would go on under the wrong name.
        ours = ours and metadata.get("tenant", DEFAULT_TENANT) == self._tenant
        if not room or not ours or not self._calls.open or self._calls.runs(orphan.session_id):
            return
        waiting = await self._somebody_waits(room)
        if waiting is None:
            return
        if not waiting:
            await self._bury(orphan)
            return
        log.warning("taking over a call", session=orphan.session_id, room=room, from_holder=orphan.holder)
        self._calls.begin(
            CallPlan(
                session_id=orphan.session_id,
                room=room,
                spec=self._spec,
                access=self._access,
                tenant=self._tenant,
                recording=self._recording,
                identity_prefix=metadata.get("prefix", "agent"),
                caller_wait_seconds=10.0,
            )
        )

    async def _somebody_waits(self, room: str) -> bool | None:
        """Return whether a caller is in the room; none when the server does not say."""
        client = server_api(self._access)
        try:
            present = await client.room.list_participants(api.ListParticipantsRequest(room=room))
        except api.ServerError as error:
            if error.code == "not_found":
                return False
            log.warning("a room cannot be looked at", room=room, error=redact(str(error)))
            return None
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("a room cannot be looked at", room=room, error=str(error) or type(error).__name__)
            return None
        finally:
            await client.aclose()
        return any(participant.kind not in STRANGERS for participant in present.participants)

    async def _bury(self, orphan: Orphan) -> None:
        """Take and give back the lease of a call that nobody waits for, so that it is an orphan no more."""
        holder = holder_name()

        def bury() -> None:
            taken = self._store.acquire(orphan.session_id, holder, TTL_MS, orphan.metadata)
            if isinstance(taken, Lease):
                self._store.release(taken)

        await self._offloader.run(bury)
        log.info("a lost call is closed: nobody is in its room", session=orphan.session_id)
