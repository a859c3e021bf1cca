"""What the provider of a node is given when it runs, and what it may be told (contract section 6.5).

A provider asks for its context with ``execution_context()`` from within any of its methods, and defines
those methods of ``NodeHooks`` that it has a use for. Neither is needed to take part in a call.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.contracts.ports import Clock

Hook = Literal["on_cancel", "on_barge_in", "on_budget_exhausted"]
Outcome = Literal["continue", "degrade", "fallback", "terminate"]
NodeStateClass = Literal["turn_ephemeral", "session_hot"]


class NodeHooks(Protocol):
    """What a provider may be told; each method is optional, and the kernel says when it is called.

    A hook is called on the event loop while the call goes on, so it must return at once. What it raises is
    logged and changes nothing: the output of what was cancelled is behind a closed fence already.
    """

    def on_cancel(self) -> None:
        """The work in hand was cancelled, failed elsewhere, or ends with its call."""
        ...

    def on_barge_in(self) -> None:
        """The caller interrupted: drop what is buffered. A recogniser goes on listening."""
        ...

    def on_budget_exhausted(self, outcome: Outcome) -> None:
        """The time for the first result is used up.

        Args:
            outcome: what follows: ``degrade`` to a lesser form, ``fallback`` to another provider,
                ``terminate`` when the work ends, ``continue`` when it may still give something.
        """
        ...


class CancelToken:
    """Whether one attempt was cancelled. A cooperative provider looks at it between two pieces of work."""

    scope: Literal["provider_invocation"] = "provider_invocation"

    def __init__(self) -> None:
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether nothing that is still given will be heard."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel it, for good."""
        self._cancelled = True


@dataclass(frozen=True, slots=True)
class BudgetHandle:
    """The time that an attempt has for its first result.

    Attributes:
        clock: the kernel's time.
        started_us: when the attempt began, microseconds.
        limit_us: how long it has; none leaves that to the budget of the turn.
    """

    clock: Clock
    started_us: int
    limit_us: int | None

    def left_us(self) -> int | None:
        """Return the microseconds that are left, not below 0; none without a limit."""
        if self.limit_us is None:
            return None
        return max(0, self.started_us + self.limit_us - self.clock.now_us())


class StateHandle(Protocol):
    """State that a node keeps between two runs; it ends by its class and is bounded."""

    def get(self, state_class: NodeStateClass, key: str) -> object:
        """Return what is kept, none when there is nothing or a node of this scope may not read the class."""
        ...

    def put(self, state_class: NodeStateClass, key: str, value: object) -> None:
        """Keep ``value``: ``turn_ephemeral`` until the turn closes, ``session_hot`` until the call ends.

        Raises:
            ValueError: another class, one that a node of this scope may not write, or no room.
        """
        ...


class TelemetryHandle(Protocol):
    """Takes what a provider measures; never waits."""

    def measure(self, name: str, value_us: int) -> None:
        """Record a duration of this attempt in microseconds; those beyond the eighth are left out.

        Args:
            name: lower-case letters, digits and underscores, 32 characters at most.
            value_us: how long it was.

        Raises:
            ValueError: the name has another form.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """What one attempt of a provider runs with.

    Attributes:
        node: id of the node in the graph.
        scope: how long the node lives.
        turn_id: the turn; none for a node of the session.
        seed: number from which the turn may be repeated; none for a node of the session, which promises no
            repetition. A recorded call and its replay have the same one.
        invocation: number of the provider invocation in the session, 0 when the kernel does not manage it.
        attempt: number of the attempt at this provider, from 1.
        cancel: whether it was cancelled.
        budget: how long it has.
        clock: the time base that everything in the call is measured by.
        state: state of the node; that of a turn is closed to a node of the session.
        telemetry: takes measurements.
    """

    node: str
    scope: Literal["session", "turn"]
    turn_id: str | None
    seed: int | None
    invocation: int
    attempt: int
    cancel: CancelToken
    budget: BudgetHandle
    clock: Clock
    state: StateHandle
    telemetry: TelemetryHandle


_CURRENT: ContextVar[ExecutionContext | None] = ContextVar("rspp_execution_context", default=None)


def execution_context() -> ExecutionContext | None:
    """Return what the provider that calls this runs with; none outside of a node, as for a notice."""
    return _CURRENT.get()


@contextmanager
def running_with(context: ExecutionContext | None) -> Iterator[None]:
    """Let what is called and what is started meanwhile run with ``context``."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)
