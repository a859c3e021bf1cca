"""What a session keeps, by class: the kernel's rules say how long each lives.

| class | what | lives |
|---|---|---|
| turn-ephemeral | the reply that is being spoken, what nodes keep for it | until its turn closes |
| session-hot | the latest hypothesis, the notice spoken ahead, what nodes keep | until the stint ends |
| session-durable | the conversation, the number of turns | over takeovers |
| configuration | pipeline, profile, quotas: fixed for the stint by the plan | from the control plane |
| provider health | circuits, in the kernel's own invocations | begins anew with each stint |

Windows of audio are session-hot too and stay with the nodes that fill them: nothing is asked per frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rspp._kernel import SessionState
from rspp.contracts.conversation import MAX_HISTORY, Conversation, joined
from rspp.contracts.ports import Hypothesis, Message
from rspp.session.spoken import SpokenTurn

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from rspp.contracts.execution import NodeStateClass
    from rspp.contracts.media import SpeechChunk

EPHEMERAL, HOT, DURABLE = "turn_ephemeral", "session_hot", "session_durable"
NOTHING_HEARD = Hypothesis(text="")


@dataclass(kw_only=True, eq=False)
class Reply:
    """What the shell keeps of the open turn.

    Attributes:
        number: of the turn.
        intent: why it opened.
        opened_us: when.
        spoken: what was made of the answer.
        task: makes it.
        action: what follows once it was heard.
        generated_whole: whether all of it was made.
        stopped: whether the task was told to stop.
    """

    number: int
    intent: str
    opened_us: int
    spoken: SpokenTurn = field(default_factory=SpokenTurn)
    task: asyncio.Task[None] | None = None
    action: str = ""
    generated_whole: bool = False
    stopped: bool = False


class HeldState:
    """The state of one node, apart from that of every other.

    Args:
        store: where the nodes of the session keep theirs.
        node: id of the node.
        scope: how long it lives.
    """

    def __init__(self, store: SessionState[Any], node: str, scope: str) -> None:
        self._store = store
        self._node = node
        self._scope = scope

    def get(self, state_class: NodeStateClass, key: str) -> object:
        """Return what is kept; see ``StateHandle``."""
        return self._store.get(self._scope, self._known(state_class), f"{self._node}/{key}")

    def put(self, state_class: NodeStateClass, key: str, value: object) -> None:
        """Keep ``value``; see ``StateHandle``.

        Raises:
            ValueError: another class, one that the node may not write, or no room.
        """
        self._store.put(self._scope, self._known(state_class), f"{self._node}/{key}", value)

    @staticmethod
    def _known(state_class: NodeStateClass) -> NodeStateClass:
        if state_class not in (EPHEMERAL, HOT):
            raise ValueError(f"state_class is {state_class!r}: choose {EPHEMERAL} or {HOT}")
        return state_class


class Kept:
    """The state of one session."""

    def __init__(self) -> None:
        self._state: SessionState[Any] = SessionState()
        # A store of their own, so that nodes that keep much leave room for the conversation.
        self._nodes: SessionState[Any] = SessionState()

    def of_node(self, node: str, scope: str) -> HeldState:
        """Return the state of a node."""
        return HeldState(self._nodes, node, scope)

    def open_turn(self, reply: Reply) -> None:
        """A turn opens."""
        self._state.begin_turn(reply.number)
        self._nodes.begin_turn(reply.number)
        self._state.put("turn", EPHEMERAL, "reply", reply)
        self._state.put("turn", DURABLE, "turns", reply.number)

    def close_turn(self) -> None:
        """The turn is closed."""
        self._state.end_turn()
        self._nodes.end_turn()

    def end(self) -> None:
        """The stint is over: what was hot is gone."""
        self._state.end_stint()
        self._nodes.end_stint()

    @property
    def reply(self) -> Reply | None:
        """What is being answered; none while no turn is open."""
        reply: Reply | None = self._state.get("turn", EPHEMERAL, "reply")
        return reply

    @property
    def hypothesis(self) -> Hypothesis:
        """What the caller is believed to have said last."""
        return self._state.get("session", HOT, "hypothesis") or NOTHING_HEARD

    @hypothesis.setter
    def hypothesis(self, heard: Hypothesis) -> None:
        self._state.put("session", HOT, "hypothesis", heard)

    @property
    def prepared(self) -> Sequence[SpeechChunk]:
        """The failure notice, spoken ahead."""
        return self._state.get("session", HOT, "prepared") or ()

    @prepared.setter
    def prepared(self, speech: Sequence[SpeechChunk]) -> None:
        self._state.put("session", HOT, "prepared", speech)

    @property
    def history(self) -> tuple[Message, ...]:
        """What was said: the caller's words, and of the agent's those that were heard."""
        return self._state.get("session", DURABLE, "history") or ()

    def remember(self, role: str, text: str) -> None:
        """Append to the history."""
        self._state.put("session", DURABLE, "history", joined(self.history, role, text))

    @property
    def turns(self) -> int:
        """Number of the latest turn, those of earlier placements counted."""
        return self._state.get("session", DURABLE, "turns") or 0

    def reattach(self, earlier: Conversation) -> None:
        """Go on from what an earlier placement left."""
        self._state.attach(DURABLE, "turns", earlier.turns)
        self._state.attach(DURABLE, "history", earlier.messages[-MAX_HISTORY:])
