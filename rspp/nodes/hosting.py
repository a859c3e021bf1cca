"""Hosting nodes: gives the provider of a node its context, and has it told what the kernel says of its fate.

The kernel knows what every node of the graph declared and says in its effects which hook of which node is
called, and whose work is stopped at once; nothing here decides that.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from rspp.contracts.execution import BudgetHandle, CancelToken, ExecutionContext
from rspp.pipeline.node_types import PROVIDER_NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rspp._kernel import Attempt, SessionKernel, TellNode
    from rspp.contracts.execution import Outcome, StateHandle
    from rspp.contracts.ports import Clock
    from rspp.pipeline.graph import GraphNode
    from rspp.pipeline.graph_section import NodeType

log = structlog.get_logger(__name__)

MAX_MEASURES = 8
"""Measurements of one attempt: a provider that measured every piece would fill the recording."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Keeper(Protocol):
    """Gives a node the state that it may use."""

    def __call__(self, node: str, scope: str) -> StateHandle:
        """Return the state of the node of that id and scope."""
        ...


class Measure(Protocol):
    """Records what a node measured."""

    def __call__(self, name: str, turn: int, value_us: int) -> None:
        """Record a duration of ``turn`` in microseconds."""
        ...


class NodeHost:
    """The nodes of one session and what serves each of them now.

    Args:
        kernel: says what nodes are told.
        nodes: of the compiled graph.
        clock: the kernel's time.
        keeper: of state.
        measure: takes measurements.
        preempt: called with the turn whose work must be stopped at once.
    """

    def __init__(
        self,
        kernel: SessionKernel,
        nodes: Sequence[GraphNode],
        clock: Clock,
        keeper: Keeper,
        measure: Measure,
        preempt: Callable[[int], None],
    ) -> None:
        kernel.host(
            [
                (
                    node.id,
                    node.scope,
                    node.cancel,
                    list(node.hooks),
                    node.type if node.type in PROVIDER_NODES else None,
                )
                for node in nodes
            ]
        )
        self._kernel = kernel
        self._nodes = tuple(nodes)
        self._by_type = {node.type: node for node in nodes}
        self._clock = clock
        self._keeper = keeper
        self._measure = measure
        self._preempt = preempt
        self._serving: dict[str, object] = {}

    def serve(self, node: NodeType, part: object) -> None:
        """Let ``part`` be told what the node is told, as long as the session lasts."""
        self._serving[node] = part

    @contextmanager
    def serving(self, node: NodeType, part: object) -> Iterator[None]:
        """Let ``part`` be told what the node is told meanwhile."""
        self._serving[node] = part
        try:
            yield
        finally:
            if self._serving.get(node) is part:
                del self._serving[node]

    def tell(self, told: TellNode) -> None:
        """Do what the kernel says: call the hook, then stop the work where it must be stopped at once."""
        node = self._nodes[told.node]
        part = self._serving.get(node.type)
        if part is not None and told.hook:
            call_hook(node.id, part, told.hook, told.outcome)
        if told.preempt:
            self._preempt(told.turn)

    def exhausted(self, dispatch: Dispatch, invocation: int) -> None:
        """Tell a provider whose budget the kernel found used up only as its attempt was reported to end."""
        outcome = self._kernel.exhausted(invocation)
        if outcome:
            call_hook(dispatch.node, dispatch, "on_budget_exhausted", outcome)

    def dispatch(self, node: NodeType, providers: Sequence[object], turn: int) -> Dispatch:
        """Return what runs the providers of a node for ``turn``, or for the session with turn 0."""
        return Dispatch(self, self._by_type[node], providers, turn)

    def context(self, node: GraphNode, turn: int, attempt: Attempt | None) -> ExecutionContext:
        """Return what an attempt runs with; without an attempt, one that the kernel does not manage."""
        turn_id, seed = self._kernel.execution_context(turn)
        return ExecutionContext(
            node=node.id,
            scope="turn" if turn else "session",
            turn_id=turn_id,
            seed=seed,
            invocation=attempt.invocation if attempt else 0,
            attempt=attempt.attempt if attempt else 1,
            cancel=CancelToken(),
            budget=BudgetHandle(self._clock, self._clock.now_us(), attempt.limit_us if attempt else None),
            clock=self._clock,
            state=self._keeper(node.id, "turn" if turn else "session"),
            telemetry=_Telemetry(self._measure, node.id, turn),
        )


class Dispatch:
    """The runs of one node for a turn or for the session.

    Args:
        host: of the node.
        graph_node: what the node declared.
        providers: those that may serve it, as the kernel counts them.
        turn: the turn, 0 for the session.
    """

    def __init__(self, host: NodeHost, graph_node: GraphNode, providers: Sequence[object], turn: int) -> None:
        self.node = graph_node.id
        self._host = host
        self._graph_node = graph_node
        self._providers = tuple(providers)
        self._turn = turn
        self._provider: object = None
        self._cancel = CancelToken()

    def give(self, candidate: int, attempt: Attempt | None) -> ExecutionContext:
        """Let the provider of that index be the one that is told, and return what its attempt runs with."""
        context = self._host.context(self._graph_node, self._turn, attempt)
        self._provider, self._cancel = self._providers[candidate], context.cancel
        return context

    @contextmanager
    def running(self, attempt: Attempt) -> Iterator[ExecutionContext]:
        """Let the provider of ``attempt`` be told what its node is told meanwhile."""
        context = self.give(attempt.candidate, attempt)
        with self._host.serving(self._graph_node.type, self):
            yield context

    def stopped(self) -> None:
        """Nobody waits for the attempt any more."""
        self._cancel.cancel()

    def exhausted(self, invocation: int) -> None:
        """An attempt was reported to end; tell its provider if the kernel found its budget used up then."""
        self._host.exhausted(self, invocation)

    def on_cancel(self) -> None:
        """The work in hand is cancelled."""
        self._cancel.cancel()
        self._forward("on_cancel", "terminate")

    def on_barge_in(self) -> None:
        """The caller interrupted: work of the turn is over, a node of the session goes on."""
        if self._turn:
            self._cancel.cancel()
        self._forward("on_barge_in", "terminate")

    def on_budget_exhausted(self, outcome: Outcome) -> None:
        """The budget is used up."""
        if outcome == "terminate":
            self._cancel.cancel()
        self._forward("on_budget_exhausted", outcome)

    def _forward(self, hook: str, outcome: str) -> None:
        call_hook(self.node, self._provider, hook, outcome)


def call_hook(node: str, part: object, hook: str, outcome: str) -> None:
    """Call a hook of ``part`` if it has one; what it raises changes nothing of what was decided."""
    method = getattr(part, hook, None)
    if method is None:
        return
    try:
        if hook == "on_budget_exhausted":
            method(outcome)
        else:
            method()
    except Exception:
        log.exception("a node's hook raised", node=node, hook=hook)


class _Telemetry:
    def __init__(self, measure: Measure, node: str, turn: int) -> None:
        self._measure = measure
        self._node = node
        self._turn = turn
        self._left = MAX_MEASURES

    def measure(self, name: str, value_us: int) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"name is {name!r}: choose up to 32 lower-case letters, digits and underscores")
        if self._left:
            self._left -= 1
            self._measure(f"{self._node}.{name}", self._turn, value_us)
