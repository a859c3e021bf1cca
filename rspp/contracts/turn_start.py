"""What a session is told before its turns may open, and who tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

AdmissionOutcome = Literal["admit", "reject", "defer"]
AdmissionScope = Literal["tenant", "session"]
FailureReason = Literal["", "snapshot_invalid_or_missing", "turn_start_bundle_resolution_failed"]
FailureOutcome = Literal["defer", "reject"]


class TurnStart(msgspec.Struct, frozen=True, kw_only=True):
    """The turn-start bundle of a pipeline, section 13.2, or why there is none.

    Attributes:
        version: number of the snapshot; never falls.
        usable_until_us: when turns may no longer open from it, microseconds of the kernel's clock.
        failure: reason code for which no turn may open; empty when one may.
        provenance: the six references, or empty with a failure.
        adaptive_actions: what the control plane allows within a turn; may be empty.
        admission: what CP-05 said of new turns.
        admission_scope: for whom it said so.
        admission_reason: why.
        authority_epoch: epoch that CP-07 states; 0 when it states none.
        authority_valid: whether CP-07 holds the session's epoch for valid.
        authority_authorized: whether CP-07 lets the session speak.
        claim_us: how long a deferred turn waits, microseconds.
    """

    version: int
    usable_until_us: int
    failure: FailureReason = ""
    provenance: dict[str, str] = {}
    adaptive_actions: tuple[str, ...] = ()
    admission: AdmissionOutcome = "reject"
    admission_scope: AdmissionScope = "session"
    admission_reason: str = ""
    authority_epoch: int = 0
    authority_valid: bool = False
    authority_authorized: bool = False
    claim_us: int


class TurnStartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """For what a bundle is resolved.

    Attributes:
        pipeline_version: ``name@version`` that the session runs.
        execution_profile: the profile that it runs under.
        graph_definition_ref: the graph that it runs.
        tenant: whose session it is.
        claim_us: how long a deferred turn of it waits, microseconds.
    """

    pipeline_version: str
    execution_profile: str
    graph_definition_ref: str
    tenant: str
    claim_us: int


class FailureOutcomes(Protocol):
    """What becomes of turns for which the control plane has no answer."""

    @property
    def snapshot_failure(self) -> FailureOutcome:
        """Outcome of a turn whose snapshot is invalid, stale or missing."""
        ...

    @property
    def plan_failure(self) -> FailureOutcome:
        """Outcome of a turn whose bundle cannot be resolved."""
        ...


class TurnStarts(FailureOutcomes, Protocol):
    """Tells sessions what their turns may start from."""

    def follow(self, request: TurnStartRequest, listener: Callable[[TurnStart], None]) -> Callable[[], None]:
        """Tell ``listener`` what holds now, if anything was received yet, and whenever it changes.

        Args:
            request: for what.
            listener: called on the event loop; must not wait.

        Returns:
            What ends it.
        """
        ...
