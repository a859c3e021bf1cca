"""Keeps a lease alive, and tells at once when it is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rspp.authority.store import RENEW_MS, Lease, LeaseLostError, LeaseStore
from rspp.contracts.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.ports import Clock, Offloader

log = structlog.get_logger(__name__)

RETRY_MS = 200
"""Pause after a failed renewal."""
LOOK_MS = 250
"""Longest sleep: timers of the loop stand still while a machine is suspended, the lease does not."""

EXPIRED = "lease_expired"


class LeaseWatcher:
    """Renews one lease until it is released or lost.

    Renewals run off the event loop, one at a time; one that hangs is given up at the deadline. The
    callbacks run on the loop, ``on_lost`` at most once and ``on_renewed`` never after it.

    Args:
        store: where the lease came from.
        lease: as acquired.
        clock: boot-time clock, the store's own.
        offloader: runs the store's calls.
        renew_ms: time between renewals.
        on_renewed: takes the lease with its new deadline, and with a higher epoch when the store rotated it:
            whatever still carries the old one is then as stale as another's.
        on_lost: takes the reason: ``lease_expired`` when the deadline passed without a renewal,
            ``lease_deauthorized`` when the lease is another's or was revoked.
    """

    def __init__(
        self,
        store: LeaseStore,
        lease: Lease,
        clock: Clock,
        offloader: Offloader,
        renew_ms: int = RENEW_MS,
        *,
        on_renewed: Callable[[Lease], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._offloader = offloader
        self._renew_us = renew_ms * 1000
        self._on_renewed = on_renewed
        self._on_lost = on_lost
        self._renewal: asyncio.Task[Lease] | None = None
        self._over = asyncio.Event()
        self._lost = False
        self._successor_epoch = 0

    @property
    def successor_epoch(self) -> int:
        """Epoch of the holder that the lease was lost to, 0 when there is none or it is not known."""
        return self._successor_epoch

    @property
    def lease(self) -> Lease:
        """The lease as last renewed."""
        return self._lease

    @property
    def lost(self) -> bool:
        """Whether the lease is gone for good."""
        return self._lost

    async def run(self) -> None:
        """Renew until the lease is lost or released."""
        next_us = self._clock.now_us() + self._renew_us
        try:
            while not self._over.is_set():
                now_us = self._clock.now_us()
                if now_us >= self._lease.deadline_us:
                    self._lose(EXPIRED)
                    return
                if now_us < next_us:
                    await self._sleep(min(next_us, self._lease.deadline_us) - now_us)
                    continue
                next_us = await self._renew()
        finally:
            if self._renewal is not None and self._lost:
                self._renewal.cancel()

    async def release(self) -> bool:
        """Stop renewing and give the lease back.

        Returns:
            Whether the store took it back. It stays with the store when the lease was lost before: the
            session is then an orphan or another's. When the store cannot be used it runs out by itself.
        """
        if self._lost:
            return False
        self._over.set()
        lease = await self._latest()
        giving_back = asyncio.ensure_future(self._offloader.run(lambda: self._store.release(lease)))
        done, _ = await asyncio.wait([giving_back], timeout=self._left_s())
        if not done:
            giving_back.cancel()
            log.warning("the lease was not given back in time", session=lease.session_id)
            return False
        try:
            giving_back.result()
        except AuthorityError as error:
            log.warning("the lease was not given back", session=lease.session_id, error=error.message)
            return False
        return True

    async def _latest(self) -> Lease:
        """Return the lease as the store knows it: a renewal under way may still rotate it."""
        renewal = self._renewal
        if renewal is not None:
            await asyncio.wait([renewal], timeout=self._left_s())
            if not renewal.done():
                renewal.cancel()
            elif not renewal.cancelled() and renewal.exception() is None:
                return renewal.result()
        return self._lease

    async def _renew(self) -> int:
        """Try one renewal; returns when the next is due."""
        started_us = self._clock.now_us()
        lease = self._lease
        if self._renewal is None:
            self._renewal = asyncio.ensure_future(self._offloader.run(lambda: self._store.renew(lease)))
        await asyncio.wait([self._renewal], timeout=min(self._left_s(), LOOK_MS / 1000))
        if not self._renewal.done():
            return started_us
        renewal, self._renewal = self._renewal, None
        try:
            renewed = renewal.result()
        except LeaseLostError as error:
            log.warning("the lease is lost", session=lease.session_id, error=error.message)
            self._successor_epoch = error.epoch
            self._lose(error.reason)
            return started_us
        except AuthorityError as error:
            log.warning("the lease could not be renewed", session=lease.session_id, error=error.message)
            return self._clock.now_us() + RETRY_MS * 1000
        if self._clock.now_us() >= lease.deadline_us:
            # Too late: the gate has closed already, and what is closed does not open again.
            return started_us
        self._lease = renewed
        if renewed.epoch != lease.epoch:
            log.warning(
                "the lease was rotated", session=lease.session_id, epoch=renewed.epoch, before=lease.epoch
            )
        if not self._over.is_set():
            self._on_renewed(renewed)
        return started_us + self._renew_us

    def _lose(self, reason: str) -> None:
        if not self._lost and not self._over.is_set():
            self._lost = True
            self._over.set()
            self._on_lost(reason)

    def _left_s(self) -> float:
        return max(0, self._lease.deadline_us - self._clock.now_us()) / 1e6

    async def _sleep(self, length_us: int) -> None:
        try:
            async with asyncio.timeout(min(length_us / 1e6, LOOK_MS / 1000)):
                await self._over.wait()
        except TimeoutError:
            return
