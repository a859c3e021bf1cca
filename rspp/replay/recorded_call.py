"""A recorded stint, run through its own kernel once more to learn what each turn was given.

The inputs of a stint fall into three kinds: what the world did whatever the kernel decided (the caller's
voice, the lease, the connection), what the recogniser answered, and what the agent's side did for a turn
(provider calls, frames, the end of generation). A what-if needs them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rspp import _kernel
from rspp.replay.inputs import ENVIRONMENT, Record, inputs_of, kernel_of
from rspp.replay.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(slots=True)
class GivenTurn:
    """What the agent's side did for one turn.

    Attributes:
        number: of the turn.
        intent: why it opened.
        opened_us: when it opened.
        steps: its inputs but for frames, in order: provider calls, the end or failure of generation. The end
            of an attempt says its ``provider`` too, how long it took (``took_us``), when its first result was
            there at the latest (``first_us``), and how long that was waited for at most (``limit_us``).
        frames: for each frame that passed, when it did after the opening without the time that the voice
            was held, microseconds, and its samples.
        generated: samples of speech that were made, whether they were heard or not; 0 when unknown.
        whole: whether that was the whole answer.
    """

    number: int
    intent: str
    opened_us: int
    steps: list[Record] = field(default_factory=list)
    frames: list[tuple[int, int]] = field(default_factory=list)
    generated: int = 0
    whole: bool = False


@dataclass(slots=True)
class RecordedCall:
    """One stint as it was.

    Attributes:
        header: of its first segment.
        trace: its turns.
        environment: inputs that came from the world, in order.
        hypotheses: what the recogniser said, in order.
        probe_answer_us: how long each probe waited for its answer, microseconds.
        turns: what each turn was given, by number.
        ended: reason of the end of the connection, empty when the recording stops before it.
        last_us: when the last input came.
    """

    header: Mapping[str, Any]
    trace: Trace
    environment: list[Record] = field(default_factory=list)
    hypotheses: list[Record] = field(default_factory=list)
    probe_answer_us: list[int] = field(default_factory=list)
    turns: dict[int, GivenTurn] = field(default_factory=dict)
    ended: str = ""
    last_us: int = 0


def read_call(header: Mapping[str, Any], records: Sequence[Record]) -> RecordedCall:
    """Run the recorded inputs through the kernel that the header describes.

    Raises:
        EvidenceError: the header's settings do not make a kernel.
    """
    return _Reading(header).read(records)


class _Reading:
    def __init__(self, header: Mapping[str, Any]) -> None:
        self._kernel = kernel_of(header)
        self._call = RecordedCall(header, Trace())
        self._probed_us = 0
        self._invocations: dict[int, int] = {}
        self._attempts: dict[int, tuple[str, _kernel.Attempt, int]] = {}
        self._handed_us: dict[int, int] = {}
        self._held_since = 0
        self._held_us = 0

    def read(self, records: Sequence[Record]) -> RecordedCall:
        for record in inputs_of(records):
            self._take(record)
        for record in records:
            given = self._call.turns.get(record.get("turn", 0))
            if record["kind"] == "transcript" and record["party"] == "agent" and given is not None:
                given.generated, given.whole = record.get("generated", 0), record.get("whole", False)
        return self._call

    def _take(self, record: Record) -> None:
        kernel, call, name, now = self._kernel, self._call, record["name"], record["at_us"]
        call.last_us = max(call.last_us, now)
        effects: Sequence[_kernel.Effect] = ()
        if name in ENVIRONMENT:
            if name == "connection" and record["state"] == "ended":
                call.ended = record["reason"]
            call.environment.append(record)
            effects = ENVIRONMENT[name](kernel, record)
        elif name == "transcript":
            call.hypotheses.append(record)
            if record["probe"] and self._probed_us:
                call.probe_answer_us.append(now - self._probed_us)
                self._probed_us = 0
            effects = kernel.transcript(
                now,
                record["utterance"],
                record["revision"],
                record["words"],
                record["backchannel"],
                record["complete"],
                record["probe"],
            )
        elif name == "frame":
            self._frame(record)
        else:
            effects = self._agent(record)
        self._observe(now, effects)

    def _frame(self, record: Record) -> None:
        turn, now = record["turn"], record["at_us"]
        verdict = self._kernel.frame(now, turn, record["epoch"], record["sequence"], record["samples"])
        given = self._call.turns.get(turn)
        if verdict == _kernel.PASS and given is not None:
            given.frames.append((now - given.opened_us - self._held_us, record["samples"]))
            self._call.trace.frame(now, turn, record["samples"])

    def _agent(self, record: Record) -> Sequence[_kernel.Effect]:
        kernel, name, now = self._kernel, record["name"], record["at_us"]
        turn: int = record.get("turn", 0)
        effects: Sequence[_kernel.Effect] = ()
        match name:
            case "tick":
                effects = kernel.tick(now)
            case "playback":
                effects = kernel.playback(now, turn, record["event"], record["samples"])
            case "generation_finished":
                effects = kernel.generation_finished(now, turn)
            case "generation_failed":
                effects = kernel.generation_failed(now, turn, record["reason"])
            case "invoke":
                answer = kernel.invoke(now, turn, record["modality"])
                if not isinstance(answer, str):
                    self._invocations[answer.invocation] = turn
                    self._attempts[answer.invocation] = record["modality"], answer, now + answer.wait_us
            case "output_handed_on":
                kernel.output_handed_on(now, record["invocation"])
                self._handed_us.setdefault(record["invocation"], now)
            case "attempt_finished":
                record = self._attempted(now, record)
        if name not in ("tick", "playback"):
            owner = self._invocations.get(record.get("invocation", 0), turn)
            given = self._call.turns.get(owner)
            if given is not None:
                given.steps.append(record)
        return effects

    def _attempted(self, now: int, record: Record) -> Record:
        """Report the end of an attempt; returns it with its provider and how long it took."""
        invocation = record["invocation"]
        following = finish_attempt(self._kernel, now, invocation, record)
        if invocation not in self._attempts:
            return {**record, "provider": "", "took_us": 0, "first_us": 0, "limit_us": None}
        modality, attempt, begun_us = self._attempts.pop(invocation)
        if following is not None:
            self._attempts[invocation] = modality, following, now + following.wait_us
        provider = provider_of(self._call.header["settings"]["providers"], modality, attempt)
        took_us = max(0, now - begun_us)
        # The time that the shell let results wait is not the provider's.
        first_us = max(0, took_us - record["idle_us"])
        handed_us = self._handed_us.get(invocation, now)
        if handed_us >= begun_us:
            first_us = min(first_us, handed_us - begun_us)
        facts = {"took_us": took_us, "first_us": first_us, "limit_us": attempt.limit_us}
        return {**record, "provider": provider, **facts}

    def _observe(self, now: int, effects: Sequence[_kernel.Effect]) -> None:
        self._call.trace.observe(now, effects)
        for effect in effects:
            match effect:
                case _kernel.OpenTurn():
                    self._held_us = self._held_since = 0
                    self._call.turns[effect.turn] = GivenTurn(effect.turn, effect.intent, now)
                case _kernel.HoldOutput():
                    self._held_since = now
                case _kernel.ResumeOutput() if self._held_since:
                    self._held_us += now - self._held_since
                    self._held_since = 0
                case _kernel.ProbeUtterance():
                    self._probed_us = now


def finish_attempt(
    kernel: _kernel.SessionKernel, now_us: int, invocation: int, record: Record
) -> _kernel.Attempt | None:
    """Report the end of a provider attempt as it was recorded; returns the next attempt, if any."""
    return kernel.attempt_finished(
        now_us,
        invocation,
        record["outcome"],
        reason=record.get("reason", ""),
        retryable=record.get("retryable", False),
        backoff_ms=record.get("backoff_ms"),
        idle_us=record["idle_us"],
    )


def provider_of(providers: Mapping[str, Any], modality: str, attempt: _kernel.Attempt) -> str:
    """Return the id of an attempt's provider; empty where the settings name none.

    Args:
        providers: keyword arguments of ``ProviderPolicy``.
        modality: of the invocation.
        attempt: as the kernel asked for it.
    """
    names = [name for of, name in providers.get("candidates", ()) if of == modality]
    return str(names[attempt.candidate]) if attempt.candidate < len(names) else ""
