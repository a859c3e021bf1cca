"""Whole calls with one fault: real detector, recogniser, rules, voice, kernel, lease store and loopback.

Each ``Fault…`` wraps the real thing and breaks it in one way from a named moment on. Calls run in virtual
time, so a fault hits the same sample every time.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from rspp.authority.sqlite import SqliteLeaseStore
from rspp.authority.store import TTL_MS, Lease, LeaseStoreError
from rspp.contracts.validation import check_stream
from rspp.evidence.memory import MemoryRecorder
from rspp.pipeline.spec import PipelineSpec
from rspp.providers.registry import Providers, open_providers
from rspp.session.offload import InlineOffloader
from rspp.session.session import Session
from rspp.session.virtual_time import VirtualClock, run_virtual
from rspp.tooling.caller.script import Script, parse_script
from rspp.tooling.caller.sound import Samples, prepare
from rspp.tooling.loopback_caller import ScriptedLoopbackCaller
from rspp.transports.loopback import TICK_MS, LoopbackTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rspp._kernel import Admission
    from rspp.contracts.errors import ProviderError
    from rspp.contracts.media import Pcm, SpeechChunk
    from rspp.contracts.ports import Message, Responder, ResponseDelta, Synthesizer, TransportSink

SPEECH_PROGRAM = (sys.executable, "-m", "rspp.providers.espeak_process")
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
Record = dict[str, Any]
Step = dict[str, Any]

ASK: tuple[Step, ...] = ({"do": "pause", "ms": 300}, {"do": "say", "text": QUESTION, "name": "question"})
SPEAKING: Step = {"do": "wait_agent_speaking", "ms": 800}


def fault_after(ms: int) -> tuple[Step, ...]:
    """Ask, let the agent speak, and let the fault happen; the call goes on for ``ms``."""
    return (*ASK, SPEAKING, {"do": "pause", "name": "fault", "ms": ms}, {"do": "hang_up"})


@functools.cache
def _sounds(script: str) -> tuple[Script, tuple[Samples, ...]]:
    parsed = parse_script(json.loads(script))
    return parsed, tuple(asyncio.run(prepare(parsed, SPEECH_PROGRAM, Path())))


class FaultCaller(ScriptedLoopbackCaller):
    """The scripted caller, who also sets faults off as named steps begin."""

    def __init__(self, steps: Sequence[Step]) -> None:
        document = {"name": "fault", "limit_ms": 60_000, "timeout_ms": 20_000, "steps": list(steps)}
        script, sounds = _sounds(json.dumps(document))
        super().__init__(script, sounds)
        self._on_step: dict[str, Callable[[], None]] = {}
        self.begun_ms: dict[str, int] = {}
        """When each named step began, from the start of the call."""
        self.heard: Pcm = np.zeros(0, dtype=np.int16)

    def on_step(self, name: str, happens: Callable[[], None]) -> None:
        """Let something happen as the step of that name begins."""
        self._on_step[name] = happens

    def on_fault(self, happens: Callable[[], None]) -> None:
        """Let something happen as the step named ``fault`` begins."""
        self.on_step("fault", happens)

    def _begin(self, index: int) -> None:
        super()._begin(index)
        name = self._script.steps[index].name
        if name:
            self.begun_ms[name] = self._tick * TICK_MS
        if name in self._on_step:
            self._on_step.pop(name)()

    def close(self) -> None:
        self.heard = self.recording.heard
        super().close()

    def heard_after(self, ms: int) -> Pcm:
        """What was heard from ``ms`` after the start on, once the call is over."""
        return self.heard[ms * 24 :]


class FaultResponder:
    """A responder that fails or hangs: each entry of ``faults`` takes one call."""

    def __init__(self, real: Responder, faults: Sequence[ProviderError | str] = (), words: int = 0) -> None:
        self._real = real
        self._faults = list(faults)
        self._words = words
        self.calls = 0

    async def respond(self, history: Sequence[Message]) -> AsyncIterator[ResponseDelta]:
        self.calls += 1
        fault = self._faults.pop(0) if self._faults else None
        given = 0
        async for delta in self._real.respond(history):
            if fault is not None and given == self._words:
                if isinstance(fault, str):
                    await asyncio.sleep(1_000)
                else:
                    raise fault
            given += 1
            yield delta

    async def close(self) -> None:
        await self._real.close()


class FaultSynthesizer:
    """A voice that, once ``broken``, hangs or raises instead of speaking."""

    def __init__(self, real: Synthesizer) -> None:
        self._real = real
        self.broken: Exception | str | None = None
        self.calls = 0

    async def synthesize(self, text: str) -> AsyncIterator[SpeechChunk]:
        self.calls += 1
        async for chunk in self._real.synthesize(text):
            if isinstance(self.broken, str):
                await asyncio.sleep(1_000)
            elif self.broken is not None:
                raise self.broken
            yield chunk

    async def close(self) -> None:
        await self._real.close()


class FaultTransport(LoopbackTransport):
    """A room whose connection and front end can fail."""

    def __init__(self, caller: FaultCaller) -> None:
        super().__init__(caller)
        self.sink: TransportSink | None = None
        self.front_end_hangs = False
        self.left = 0

    async def connect(self, sink: TransportSink) -> None:
        self.sink = sink
        await super().connect(sink)

    async def publish_transcript(self, segment_id: str, text: str, *, caller: bool, final: bool) -> None:
        if self.front_end_hangs:
            await asyncio.sleep(1_000)
        await super().publish_transcript(segment_id, text, caller=caller, final=final)

    def leave_now(self) -> None:
        self.left += 1
        super().leave_now()


class FaultStore(SqliteLeaseStore):
    """A lease store that cannot be reached while ``partitioned``, or that has given a lease away."""

    partitioned = False

    def renew(self, lease: Lease) -> Lease:
        if self.partitioned:
            raise LeaseStoreError("lease store: disk I/O error")
        return super().renew(lease)

    def revoke(self, lease: Lease) -> None:
        """Give the lease back behind its holder's back."""
        super().release(lease)


@dataclass
class FaultCall:
    """One call with one fault.

    Attributes:
        steps: what the caller does.
        settings: what differs from ``PIPELINE``.
        responder: wraps the responder.
        spare: more responders that take over, wrapped around the same rules.
        earlier_epochs: how often the lease was held before.
        admission: quotas that the call shares with others; none gives it its own.
    """

    steps: Sequence[Step] = field(default_factory=lambda: fault_after(2_000))
    settings: dict[str, Any] = field(default_factory=dict)
    responder: Callable[[Responder], FaultResponder] = FaultResponder
    spare: int = 0
    earlier_epochs: int = 0
    admission: Admission | None = None

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
                earlier = self.store.acquire("call", "earlier", TTL_MS, {})
                assert isinstance(earlier, Lease)
                self.store.revoke(earlier)
            await self.run("loopback")
            self.lease_is_free = isinstance(self.store.acquire("call", "next", TTL_MS, {}), Lease)
        finally:
            self.store.close()

    async def run(self, holder: str, *, resumed: bool = False) -> None:
        """Hold the call as ``holder``; the store must be there and the lease free."""
        lease = self.store.acquire("call", holder, TTL_MS, {})
        assert isinstance(lease, Lease)
        self.lease = lease
        spec = msgspec.convert({**PIPELINE, **self.settings}, PipelineSpec)
        offloader = InlineOffloader()
        real = await open_providers(spec, offloader)
        self.voice = FaultSynthesizer(real.synthesizer)
        self.responders = [self.responder(real.responder)]
        self.responders += [FaultResponder(real.responder) for _ in range(self.spare)]
        self.session = Session(
            session_id="call",
            spec=spec,
            transport=self.transport,
            providers=Providers(
                vad=real.vad,
                recognition=real.recognition,
                responder=self.responders[0],
                synthesizer=self.voice,
                other_responders=self.responders[1:],
            ),
            store=self.store,
            lease=lease,
            clock=self.clock,
            offloader=offloader,
            recorder=self.timeline,
            resumed=resumed,
            admission=self.admission,
        )
        try:
            await self.session.run()
        finally:
            offloader.close()
            self.caller.close()

    # ------------------------------------------------------------------ what came of it

    @property
    def records(self) -> list[Record]:
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
        found = [record["decision"] for record in self.records if record["kind"] == "decision"]
        return [decision for decision in found if decision["outcome_kind"] == outcome]

    def markers(self, turn: int) -> list[str]:
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

    def check(self) -> FaultCall:
        """Assert what holds in every call, whatever failed in it (sections 14.2 and 4.6)."""
        report = check_stream(iter(self.timeline.lines))
        assert report.faults == []
        opened = {turn for turn in range(1, 50) if "turn_open" in self.life(turn)}
        assert opened
        for turn in opened:
            life = self.life(turn)
            ends = [name for name in life if name in ("commit", "abort")]
            assert len(ends) == 1, life
            assert life.count("close") == 1
            assert life.index("turn_open") < life.index(ends[0]) < life.index("close")
            frozen = [record for record in self.records if "plan_hash" in record and record["turn"] == turn]
            assert [len(record["plan_hash"]) for record in frozen] == [64]
            if "barge_in" in life or "cancel" in life:
                marks = self.markers(turn)
                assert marks.index("cancel_accepted") < marks.index("fence_applied")
        return self

    def silent_after(self, ms: int, *, within_ms: int = 20) -> bool:
        """Whether nothing was heard from ``within_ms`` after ``ms`` on."""
        return not np.any(self.caller.heard_after(ms + within_ms))


def refused_before_open(records: Sequence[Record]) -> bool:
    """Whether no turn opened, ended or closed."""
    names = {record["event"]["signal"] for record in records if record["kind"] == "signal"}
    return not names & {"turn_open", "commit", "abort", "close"}
