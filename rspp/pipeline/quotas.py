"""Places that the sessions of one runtime share, at turn start and at the three scheduling points."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from rspp._kernel import Admission
from rspp.pipeline.base import Milliseconds, Strict

if TYPE_CHECKING:
    from rspp.pipeline.profile import ExecutionProfile

Places: TypeAlias = Annotated[int, Meta(ge=1, le=10_000_000)]
FairnessKey: TypeAlias = Literal["session", "tenant"]
FOREVER_US = 1 << 62
"""A policy that stands in a file does not run out."""


class QuotaSection(Strict, frozen=True, kw_only=True):
    """Places at one point.

    Attributes:
        places: of all sessions of the runtime together.
        per_key: of one fairness key; as many as there are places when left out.
        pressure: places taken from which telemetry is shed and no key gets more than its share; as many as
            there are places when left out.
    """

    places: Places
    per_key: Places | UnsetType = UNSET
    pressure: Places | UnsetType = UNSET


def _places(places: int) -> QuotaSection:
    return field(default_factory=lambda: QuotaSection(places=places))


class AdmissionDefaults(Strict, frozen=True, kw_only=True):
    """Local admission: when a turn may start, and what is shed when too much waits.

    Attributes:
        fairness_key: whose share is counted: each session's or each tenant's.
        turn_start: turns that are open.
        edge_enqueue: items that wait on edges.
        edge_dequeue: items that were taken off an edge and are being handed over.
        node_dispatch: provider calls that run.
        max_deferred: keys that may wait for a turn; the next one is rejected.
        claim_ms: how long a deferred turn waits for a place before it is rejected.
    """

    fairness_key: FairnessKey = "session"
    turn_start: QuotaSection = _places(10_000)
    edge_enqueue: QuotaSection = _places(1_000_000)
    edge_dequeue: QuotaSection = _places(1_000_000)
    node_dispatch: QuotaSection = _places(10_000)
    max_deferred: Annotated[int, Meta(ge=0, le=10_000)] = 64
    claim_ms: Milliseconds = 3000

    def snapshot_ref(self) -> str:
        """Return the name of this policy in plans and evidence; it covers every number."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()
        return f"admission-policy/sha256:{digest}"


def admission_of(profile: ExecutionProfile) -> Admission:
    """Return an enforcer of the quotas of ``profile``; the sessions of one runtime share one.

    Raises:
        ValueError: more places for one key, or pressure later, than there are places; the loader lets
            neither pass.
    """
    policy = profile.admission
    admission = Admission()
    quotas: dict[str, Any] = {name: _numbers(getattr(policy, name)) for name in POINTS}
    admission.adopt(
        snapshot_ref=policy.snapshot_ref(),
        valid_until_us=FOREVER_US,
        max_deferred=policy.max_deferred,
        claim_us=policy.claim_ms * 1000,
        **quotas,
    )
    return admission


POINTS = ("turn_start", "edge_enqueue", "edge_dequeue", "node_dispatch")


def _numbers(quota: QuotaSection) -> tuple[int, int, int]:
    per_key = quota.places if quota.per_key is UNSET else quota.per_key
    return quota.places, per_key, quota.places if quota.pressure is UNSET else quota.pressure
