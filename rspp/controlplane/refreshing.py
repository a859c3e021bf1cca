"""The one task of a process that receives snapshots and tells its sessions what their turns start from.

It runs beside the calls and never on the way of a turn: a session's kernel holds what it was told last, with
the time until which it may be used, and decides from that. Nothing has to be told for turns to stop opening
when the control plane is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import structlog

from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.artifact import SnapshotError
from rspp.controlplane.reading import ArtifactReader
from rspp.controlplane.resolution import Bundle, resolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rspp.contracts.ports import Clock, Offloader
    from rspp.contracts.turn_start import TurnStart, TurnStartRequest
    from rspp.controlplane.artifact import Artifact
    from rspp.controlplane.reading import Received
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.controlplane.used import Earlier, UsedSnapshots

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Follower:
    request: TurnStartRequest
    listener: Callable[[TurnStart], None]
    told: TurnStart | None = None


class ControlPlane:
    """Receives snapshots and tells sessions; see ``TurnStarts``.

    Args:
        settings: from where, and how long they hold.
        clock: the kernels' time.
        offloader: for reading.
        sleep: waits that many seconds, on the offloader's thread.
        remembered: which snapshot was used before; none remembers nothing beyond this process.
    """

    def __init__(
        self,
        settings: ControlPlaneSettings,
        clock: Clock,
        offloader: Offloader,
        sleep: Callable[[float], None] = time.sleep,
        remembered: UsedSnapshots | None = None,
    ) -> None:
        self.snapshot_failure = settings.snapshot_failure
        self.plan_failure = settings.plan_failure
        self._settings = settings
        self._clock = clock
        self._offloader = offloader
        self._reader = ArtifactReader(settings, sleep)
        self._window_us = (settings.cache_ttl_ms + settings.max_staleness_ms) * 1000
        self._received: Received | None = None
        self._used: Artifact | None = None
        self._remembered = remembered
        self._earlier: Earlier | None = None
        self._asked_us = 0
        self._problem = self._forgetting = ""
        self._followers: list[_Follower] = []

    @property
    def version(self) -> int:
        """Number of the snapshot in force; 0 before the first."""
        return 0 if self._received is None else self._received.artifact.snapshot_version

    @property
    def age_ms(self) -> float:
        """How long ago the snapshot in force was asked for; 0 before the first."""
        return 0.0 if self._received is None else (self._clock.now_us() - self._asked_us) / 1000

    async def start(self) -> None:
        """Receive the first snapshot.

        Raises:
            SnapshotError: no endpoint gives a usable one (section 13.4).
            ConfigurationError: nobody can tell which was used before.
        """
        if self._remembered is not None:
            self._earlier = await self._offloader.run(self._remembered.latest)
        received = await self._read()
        stale = received.artifact.staleness(self._clock.wall_clock_ms())
        if stale:
            raise SnapshotError(
                "snapshot_stale",
                f"{received.source}: {stale}",
                hint="publish a current snapshot; turns open from nothing else",
            )

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(self._settings.cache_ttl_ms / 1000)
            try:
                await self.refresh()
            except Exception:
                # A defect met in one artifact must not end the receiving of all further ones.
                log.exception("a snapshot could not be taken")

    async def refresh(self) -> None:
        """Ask once; what fails is logged when it begins and when it is over."""
        try:
            await self._read()
        except SnapshotError as error:
            if self._problem != error.message:
                log.warning("no new snapshot", code=error.code, problem=error.message)
            self._problem = error.message
        else:
            if self._problem:
                log.info("snapshots are received again", version=self.version)
            self._problem = ""

    def follow(self, request: TurnStartRequest, listener: Callable[[TurnStart], None]) -> Callable[[], None]:
        """Tell ``listener`` what holds now, if anything was received yet, and whenever it changes.

        Args:
            request: for what.
            listener: called on the event loop; must not wait.

        Returns:
            What ends it.
        """
        follower = _Follower(request, listener)
        self._followers.append(follower)
        self._tell(follower)

        def leave() -> None:
            with contextlib.suppress(ValueError):
                self._followers.remove(follower)

        return leave

    async def _read(self) -> Received:
        # The answer may be as old as the question, and counts as that.
        asked_us, wall_ms, used = self._clock.now_us(), self._clock.wall_clock_ms(), self._used
        received = await self._offloader.run(lambda: self._take(wall_ms, used))
        if used is None or received.artifact.snapshot_version != used.snapshot_version:
            log.info("snapshot received", version=received.artifact.snapshot_version, source=received.source)
        self._received, self._used, self._asked_us = received, received.artifact, asked_us
        for follower in tuple(self._followers):
            self._tell(follower)
        return received

    def _take(self, wall_ms: int, used: Artifact | None) -> Received:
        """Read, and remember what was read before a session hears of it; blocks."""
        received = self._reader.read(wall_ms, used, self._earlier)
        artifact = received.artifact
        if self._remembered is not None and not artifact.staleness(wall_ms) and artifact.fits():
            try:
                self._remembered.note(artifact)
                self._forgetting = ""
            except ConfigurationError as error:
                # Calls go on: what is lost is what the next start would have compared with.
                if self._forgetting != error.message:
                    log.warning("the snapshot in force cannot be remembered", problem=error.message)
                self._forgetting = error.message
        return received

    def _tell(self, follower: _Follower) -> None:
        """Tell what changed, or that less than half of the time is left: each telling is a record."""
        if self._received is None:
            return
        artifact, wall_ms = self._received.artifact, self._clock.wall_clock_ms()
        now_us = self._clock.now_us()
        left_us = (artifact.expires_ms - wall_ms) * 1000
        usable_until_us = max(0, min(self._asked_us + self._window_us, now_us + left_us))
        resolved = resolve(artifact, follower.request, wall_clock_ms=wall_ms)
        new = resolved.told(usable_until_us=usable_until_us, claim_us=follower.request.claim_us)
        told = follower.told
        if told is not None and msgspec.structs.replace(new, usable_until_us=told.usable_until_us) == told:
            enough = told.usable_until_us - now_us >= self._window_us // 2
            if enough or new.usable_until_us <= told.usable_until_us:
                return
        follower.told = new
        if not isinstance(resolved, Bundle):
            log.warning("no turn may open", code=resolved.code, problem=resolved.message)
        try:
            follower.listener(new)
        except Exception:
            # One session's defect must not leave the others without snapshots.
            log.exception("a session could not be told of a snapshot")


@contextlib.asynccontextmanager
async def control_plane_running(
    settings: ControlPlaneSettings | None,
    clock: Clock,
    offloader: Offloader,
    sleep: Callable[[float], None] = time.sleep,
    remembered: UsedSnapshots | None = None,
) -> AsyncIterator[ControlPlane | None]:
    """Receive snapshots for the length of an ``async with`` block.

    Args:
        settings: from where; none yields none.
        clock: the kernels' time.
        offloader: for reading; a thread of its own, which an endpoint that hangs may keep.
        sleep: waits that many seconds, on that thread.
        remembered: which snapshot was used before; none remembers nothing beyond this block.

    Raises:
        SnapshotError: there is no usable snapshot at the start.
        ConfigurationError: nobody can tell which was used before.
    """
    if settings is None:
        yield None
        return
    plane = ControlPlane(settings, clock, offloader, sleep, remembered)
    await plane.start()
    task = asyncio.create_task(plane.run(), name="control-plane")
    try:
        yield plane
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
