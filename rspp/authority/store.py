"""What a lease is, and what a lease store must offer.

A session is spoken for by the holder of its lease and by nobody else. Each grant of a session's lease has
a higher epoch than every earlier one, so that whatever an old holder still sends can be told apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from rspp.contracts.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Mapping

TTL_MS = 4_000
"""How long a grant lasts without renewal."""
RENEW_MS = 1_000
"""How often it is renewed: three attempts may fail before it runs out."""
MARGIN_MS = 250
"""How much earlier than the store the holder counts its lease as over: the gate checks each frame of
20 ms, and 40 ms already queued behind it are still heard, so the rest is reserve for a slow host."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to speak for a session, as its holder knows it.

    Attributes:
        session_id: the logical conversation.
        epoch: rises with every grant of this session, for ever.
        token: secret of this grant; whoever lacks it can neither renew nor release.
        holder: who holds it.
        ttl_ms: how long each grant or renewal lasts in the store.
        deadline_us: local deadline on the boot-time clock, the margin already taken off.
        metadata: what a successor needs to take over, such as the room.
        resumed: the holder before this one vanished without giving the lease back, so its call is taken
            over; stays through renewals.
    """

    session_id: str
    epoch: int
    token: str
    holder: str
    ttl_ms: int
    deadline_us: int
    metadata: dict[str, str] = {}
    resumed: bool = False

    def __repr__(self) -> str:
        """Name the lease without its token."""
        return f"Lease({self.session_id!r}, epoch={self.epoch}, holder={self.holder!r})"


class LeaseHeld(msgspec.Struct, frozen=True, kw_only=True):
    """The lease is somebody else's.

    Attributes:
        session_id: the logical conversation.
        epoch: epoch that is in force.
        holder: who holds it.
        remaining_ms: how long it lasts unless it is renewed.
    """

    session_id: str
    epoch: int
    holder: str
    remaining_ms: int


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """A session whose holder vanished: its lease ran out and was not released.

    Attributes:
        session_id: the logical conversation.
        epoch: epoch that was in force.
        holder: who held it.
        metadata: what the holder left for a successor.
        expired_ms: how long ago the lease ran out; none when the host has restarted since.
    """

    session_id: str
    epoch: int
    holder: str
    metadata: dict[str, str]
    expired_ms: int | None


class LeaseLostError(AuthorityError):
    """The lease is not this holder's any more; no retry will help.

    ``epoch`` is that of the holder who has it now, 0 when nobody has or it is not known.
    """

    reason = "lease_deauthorized"
    epoch = 0


class LeaseExpiredError(LeaseLostError):
    """The lease ran out before it was renewed."""

    reason = "lease_expired"


class LeaseStoreError(AuthorityError):
    """The store cannot be used now; the lease may still be good."""

    reason = "lease_store_unavailable"


class LeaseStore(Protocol):
    """Grants leases. Its calls block, so they are made through an offloader."""

    def acquire(
        self, session_id: str, holder: str, ttl_ms: int, metadata: Mapping[str, str]
    ) -> Lease | LeaseHeld:
        """Take the lease of a session, unless somebody holds it.

        Raises:
            LeaseStoreError: the store cannot be used.
        """
        ...

    def renew(self, lease: Lease) -> Lease:
        """Prolong a lease by its time to live, from now on; one that is to rotate gets a higher epoch.

        Raises:
            LeaseLostError: it was released, ran out or is another's.
            LeaseStoreError: the store cannot be used.
        """
        ...

    def rotate(self, session_id: str, epoch: int | None = None) -> LeaseHeld | None:
        """Ask that a session goes on under a higher epoch from its holder's next renewal on.

        Nobody but the holder gets the new epoch, so that at no moment two of them may speak; asking twice
        before the renewal rotates once.

        Args:
            session_id: the logical conversation.
            epoch: rotate only if this one is in force; none rotates whichever is.

        Returns:
            What is in force now; none when nobody holds the session.

        Raises:
            LeaseStoreError: the store cannot be used.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give a lease back, so that the session is neither held nor an orphan.

        Raises:
            LeaseLostError: it is another's by now.
            LeaseStoreError: the store cannot be used.
        """
        ...

    def orphans(self, limit: int = 100) -> list[Orphan]:
        """Return sessions whose lease ran out unreleased, the latest first.

        Raises:
            LeaseStoreError: the store cannot be used.
        """
        ...

    def close(self) -> None:
        """Free the store; safe to call twice."""
        ...
