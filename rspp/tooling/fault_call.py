"""Whole calls with one fault, held in virtual time, and what came of them.

The detector, recogniser, rules, voice, kernel, lease store and loopback are the real ones; see
``rspp.tooling.faults`` for what may break.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from rspp.authority.store import TTL_MS, Lease
from rspp.contracts.errors import AuthorityError, EvidenceError
from rspp.contracts.validation import check_stream
from rspp.controlplane.refreshing import control_plane_running
from rspp.evidence.memory import MemoryRecorder
from rspp.pipeline.candidates import node_budgets
from rspp.pipeline.normalise import profile_of
from rspp.pipeline.spec import PipelineSpec
from rspp.providers.registry import Providers, open_providers
from rspp.session.offload import InlineOffloader
from rspp.session.pool import WorkPool
from rspp.session.session import Session
from rspp.session.virtual_time import VirtualClock, run_virtual
from rspp.tooling.faults import (
    FaultCaller,
    FaultRecognition,
    FaultResponder,
    FaultStore,
    FaultSynthesizer,
    FaultTransport,
    Record,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rspp._kernel import Admission
    from rspp.contracts.conversation import Conversation
    from rspp.contracts.envelope import PayloadClass
    from rspp.contracts.ports import RecognitionStream, Responder
    from rspp.contracts.turn_start import TurnStarts
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.evidence.redaction import Action
    from rspp.pipeline.profile import RecordingLevel as Level
    from rspp.session.recording import Recorder

QUESTION = "tell me about the house"
ANSWER = (
    "The house was built by a captain who was tired of the sea. For forty years it was a store for ropes. "
    "Then his daughter put a stove into the great hall and began to cook for the fishermen."
)
PIPELINE: dict[str, Any] = {
    "name": "faults",
    "llm": {"provider": "rules", "rules": [{"hear": QUESTION, "say": ANSWER}]},
    "failure_notice": "Sorry, please ask me again.",
    "takeover_notice": "Sorry, I lost you.",
}

ASK: tuple[Step, ...] = ({"do": "pause", "ms": 300}, {"do": "say", "text": QUESTION, "name": "question"})
SPEAKING: Step = {"do": "wait_agent_speaking", "ms": 800}


def fault_after(ms: int) -> tuple[Step, ...]:
    """Ask, let the agent speak, and let the fault happen; the call goes on for ``ms``."""
    return (*ASK, SPEAKING, {"do": "pause", "name": "fault", "ms": ms}, {"do": "hang_up"})


class BothRecorders:
    """Gives everything to two recorders; the level is that of the second."""

    def __init__(self, first: Recorder, second: Recorder) -> None:
        self._first, self._second = first, second

    @property
    def level(self) -> Level:
        """Recording level."""
        return self._second.level

    @property
    def payload_failure(self) -> str:
        """Why the second could not keep a payload."""
        return self._second.payload_failure

    def begin(self, header: dict[str, object]) -> None:
        """Begin both."""
        self._first.begin(dict(header))
        self._second.begin(dict(header))

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        """Write to both."""
        self._first.write(block, records, durable=durable)
        self._second.write(block, records, durable=durable)

    def payload(
        self,
        payload_class: PayloadClass,
        turn: int,
        at_us: int,
        data: bytes,
        *,
        action: Action = "drop",
        **details: object,
    ) -> None:
        """Give content to both."""
        for recorder in (self._first, self._second):
            recorder.payload(payload_class, turn, at_us, data, action=action, **details)


@dataclass
class FaultCall:
    """One call with one fault.

    Attributes:
        steps: what the caller does.
        settings: what differs from ``PIPELINE``.
        responder: wraps the responder.
        spare: more responders that take over, wrapped around the same rules.
        recognisers: wrap the recognisers that the pipeline names, in order; those without one stay whole.
        earlier_epochs: how often the lease was held before.
        session_id: id of the conversation.
        admission: quotas that the call shares with others; none gives it its own.
        control_plane: where its snapshots come from; none holds the call without a control plane.
    """

    steps: Sequence[Step] = field(default_factory=lambda: fault_after(2_000))
    settings: dict[str, Any] = field(default_factory=dict)
    responder: Callable[[Responder], FaultResponder] = FaultResponder
    spare: int = 0
    recognisers: Sequence[Callable[[RecognitionStream], FaultRecognition]] = ()
    earlier_epochs: int = 0
    session_id: str = "call"
    admission: Admission | None = None
    control_plane: ControlPlaneSettings | None = None

    def __post_init__(self) -> None:
        self.timeline = MemoryRecorder()
        self.caller = FaultCaller(self.steps)
        self.transport = FaultTransport(self.caller)
        self.clock: VirtualClock
        self.store: FaultStore
        self.lease: Lease
        self.session: Session
        self.voice: FaultSynthesizer
        self.responders: list[FaultResponder] = []
        self.hearers: list[FaultRecognition] = []
        self.recorders: Callable[[Lease, bool], Recorder] | None = None
        """Opens a second recorder for the lease and whether the call is resumed; the first is in memory."""
        self.earlier: Callable[[Lease], Callable[[], Conversation]] | None = None
        """Reads, for the lease, what an earlier placement left of the conversation."""
        self.lease_is_free = False
        """Whether a successor could have the lease once the call was over."""

    def hold(self) -> FaultCall:
        """Hold the call in virtual time."""
        run_virtual(self._hold())
        return self

    async def _hold(self) -> None:
        self.clock = VirtualClock()
        self.store = FaultStore(":memory:", self.clock, boot_id="here")
        try:
            for _ in range(self.earlier_epochs):
                earlier = self.store.acquire(self.session_id, "earlier", TTL_MS, {})
                if isinstance(earlier, Lease):
                    self.store.revoke(earlier)
            planes = control_plane_running(self.control_plane, self.clock, InlineOffloader(), _no_wait)
            async with planes as plane:
                await self.run("loopback", turn_starts=plane)
            self.lease_is_free = isinstance(self.store.acquire(self.session_id, "next", TTL_MS, {}), Lease)
        finally:
            self.store.close()

    async def run(self, holder: str, *, resumed: bool = False, turn_starts: TurnStarts | None = None) -> None:
        """Hold the call as ``holder``; the store must be there and the lease free."""
        lease = self.store.acquire(self.session_id, holder, TTL_MS, {})
        if not isinstance(lease, Lease):
            raise AuthorityError(f"session {self.session_id} is held already")
        self.lease = lease
        spec = msgspec.convert({**PIPELINE, **self.settings}, PipelineSpec)
        offloader = InlineOffloader()
        work = WorkPool(profile_of(spec), self.clock, inline=True).session(node_budgets(spec))
        real = await open_providers(spec, offloader, work.seat)
        self.voice = FaultSynthesizer(real.synthesizer)
        self.responders = [self.responder(real.responder)]
        self.responders += [FaultResponder(real.responder) for _ in range(self.spare)]
        wraps = zip_longest(self.recognisers, real.recognisers)
        self.hearers = [(wrap or FaultRecognition)(hearer) for wrap, hearer in wraps if hearer is not None]
        recorder: Recorder = self.timeline
        if self.recorders is not None:
            recorder = BothRecorders(self.timeline, self.recorders(lease, resumed))
        self.session = Session(
            session_id=self.session_id,
            spec=spec,
            transport=self.transport,
            providers=Providers(
                vad=real.vad,
                recognition=self.hearers[0],
                responder=self.responders[0],
                synthesizer=self.voice,
                other_responders=self.responders[1:],
                other_recognisers=self.hearers[1:],
                lesser_voice=real.lesser_voice,
                lesser_responder=real.lesser_responder,
            ),
            store=self.store,
            lease=lease,
            clock=self.clock,
            offloader=offloader,
            recorder=recorder,
            admission=self.admission,
            resumed=resumed,
            work=work,
            earlier=self.earlier(lease) if self.earlier is not None else None,
            turn_starts=turn_starts,
        )
        try:
            await self.session.run()
        finally:
            offloader.close()
            self.caller.close()

    # ------------------------------------------------------------------ what came of it

    @property
    def records(self) -> list[Record]:
        """Its evidence."""
        return self.timeline.records

    def signals(self, *names: str) -> list[tuple[str, str]]:
        """Signals of those names with their reasons, in order; all of them without names."""
        events = [record["event"] for record in self.records if record["kind"] == "signal"]
        return [
            (event["signal"], event.get("reason", ""))
            for event in events
            if not names or event["signal"] in names
        ]

    def decisions(self, outcome: str) -> list[Record]:
        """Decisions of that outcome, in order."""
        found = [record["decision"] for record in self.records if record["kind"] == "decision"]
        return [decision for decision in found if decision["outcome_kind"] == outcome]

    def markers(self, turn: int) -> list[str]:
        """Names of the markers of a turn, in order."""
        return [
            record["name"] for record in self.records if record["kind"] == "marker" and record["turn"] == turn
        ]

    def life(self, turn: int) -> list[str]:
        """Signals of one turn with turn scope, in order."""
        return [
            record["event"]["signal"]
            for record in self.records
            if record["kind"] == "signal" and record["event"].get("turn_id", "").endswith(f"-{turn}")
        ]

    def ending(self, turn: int) -> list[str]:
        """How a turn ended; what is heard of it is reported when the transport knows."""
        return [name for name in self.life(turn) if name in ("commit", "abort", "close")]

    @property
    def ended_us(self) -> int:
        """A moment after the last record."""
        return max(int(record["at_us"]) for record in self.records if "at_us" in record) + 1

    def problems(self) -> list[str]:
        """Say what breaks the rules that hold in every call, whatever failed in it (sections 14.2, 4.6)."""
        found = [f"{fault.rule}: {fault.message}" for fault in check_stream(iter(self.timeline.lines)).faults]
        opened = sorted(
            {
                int(record["event"]["turn_id"].rpartition("-")[2])
                for record in self.records
                if record["kind"] == "signal" and record["event"]["signal"] == "turn_open"
            }
        )
        for turn in opened:
            life = self.life(turn)
            ends = [name for name in life if name in ("commit", "abort", "close")]
            if ends not in (["commit", "close"], ["abort", "close"]) or life.index("turn_open") > life.index(
                ends[0]
            ):
                found.append(f"turn {turn} went {', '.join(life)}")
            frozen = [
                record["plan_hash"]
                for record in self.records
                if "plan_hash" in record and record["turn"] == turn
            ]
            if [len(plan_hash) for plan_hash in frozen] != [64]:
                found.append(f"turn {turn} has {len(frozen)} plans")
            if "barge_in" in life or "cancel" in life:
                marks = [mark for mark in self.markers(turn) if mark in ("cancel_accepted", "fence_applied")]
                if marks[:2] != ["cancel_accepted", "fence_applied"]:
                    found.append(f"turn {turn} was cancelled with the markers {', '.join(marks) or 'none'}")
        return found

    def check(self) -> FaultCall:
        """Return the call when at least one turn opened and ``problems`` finds nothing.

        Raises:
            EvidenceError: it does.
        """
        problems = self.problems()
        if not self.signals("turn_open"):
            problems.append("no turn opened")
        if problems:
            raise EvidenceError("; ".join(problems), hint="the call broke a rule of the contracts")
        return self

    def silent_after(self, ms: int, *, within_ms: int = 20) -> bool:
        """Whether nothing was heard from ``within_ms`` after ``ms`` on."""
        return not np.any(self.caller.heard_after(ms + within_ms))


def _no_wait(_: float) -> None:
    """In virtual time reading takes none."""


def refused_before_open(records: Sequence[Record]) -> bool:
    """Whether no turn opened, ended or closed."""
    names = {record["event"]["signal"] for record in records if record["kind"] == "signal"}
    return not names & {"turn_open", "commit", "abort", "close"}


class TakeoverCall:
    """Two runtimes of one call: the first loses its lease store as it speaks, the second takes over.

    Args:
        first: the call of the runtime that is lost; its caller has a step named ``fault``.
        second: the call of the runtime that takes over.
    """

    def __init__(self, first: FaultCall, second: FaultCall) -> None:
        self.first, self.second = first, second
        self.taken_ms = 0
        """When the second took the lease, milliseconds after the beginning."""

    def hold(self) -> TakeoverCall:
        """Hold both in virtual time."""
        run_virtual(self._hold())
        return self

    async def _hold(self) -> None:
        clock = VirtualClock()
        store = FaultStore(":memory:", clock, boot_id="here")
        beyond = FaultStore(":memory:", clock, boot_id="here")
        # Both see one store, and only the first's way to it can be cut.
        beyond._connection, own = store._connection, beyond._connection
        self.first.clock = self.second.clock = clock
        self.first.store, self.second.store = store, beyond
        self.first.caller.on_fault(lambda: setattr(store, "partitioned", True))
        try:
            await asyncio.gather(self.first.run("first"), self._take_over(clock))
        finally:
            beyond._connection = own
            beyond.close()
            store.close()

    async def _take_over(self, clock: VirtualClock) -> None:
        started_ms = clock.now_us() // 1000
        await asyncio.sleep(0.1)
        while not self.second.store.orphans():  # noqa: ASYNC110 - a standby looks, nobody tells it
            await asyncio.sleep(0.1)
        self.taken_ms = clock.now_us() // 1000 - started_ms
        await self.second.run("second", resumed=True)
