"""A call's timeline as a story: turns with their holds, words and latencies.

``Story.feed`` takes one record at a time, so that the live view follows a call while it runs and the
report reads the same records afterwards. Times are wall-clock ms; they only place the runtime's
records beside the caller's recording on a page and in no figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_TURNS = 5_000
MAX_HOLDS = 200


@dataclass(slots=True)
class Span:
    """From one time to another; ``end`` is none while it lasts."""

    begin: float
    end: float | None = None


@dataclass(slots=True)
class Turn:
    """One turn of the call.

    Attributes:
        number: counts from 1.
        opened: when it became Active.
        first_output: when its first frame passed the gate.
        closed: when it ended.
        outcome: ``commit``, ``abort`` or empty while it runs.
        reason: why it was aborted.
        holds: when its voice was held.
        caller_text: the words it answers.
        agent_text: its words as heard.
        latencies: the runtime's own latencies by name, ms.
    """

    number: int
    opened: float = 0.0
    first_output: float | None = None
    closed: float | None = None
    outcome: str = ""
    reason: str = ""
    holds: list[Span] = field(default_factory=list)
    caller_text: str = ""
    agent_text: str = ""
    latencies: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Story:
    """What the records of one call tell so far."""

    session_id: str = ""
    pipeline: str = ""
    turns: dict[int, Turn] = field(default_factory=dict)
    hearing: list[Span] = field(default_factory=list)
    agent_state: str = "initializing"
    epoch: int = 0
    held: bool = False
    pressure_ms: dict[str, int] = field(default_factory=dict)
    shed: dict[str, int] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    plan_hashes: dict[int, str] = field(default_factory=dict)
    gate_closed: list[str] = field(default_factory=list)
    gaps: int = 0
    records: int = 0
    ended_reason: str = ""

    def feed(self, record: dict[str, Any]) -> None:
        """Take one record of the timeline, in order; unknown ones are counted and left alone."""
        self.records += 1
        kind = record.get("kind")
        if kind == "header":
            self.session_id = str(record.get("session_id", ""))
            self.pipeline = str(record.get("pipeline", ""))
        elif kind == "transition":
            self._transition(record)
        elif kind == "marker":
            self._marker(record)
        elif kind == "signal":
            self._signal(record)
        elif kind == "transcript" and record.get("final", True):
            self._transcript(record)
        elif kind == "latency":
            self._latency(record)
        elif kind == "pressure":
            edge = str(record.get("edge", ""))
            self.pressure_ms[edge] = int(record.get("queued_ms", 0))
            self.shed[edge] = int(record.get("shed", 0))
        elif kind == "gap":
            self.gaps += int(record.get("records", 1))

    def _turn(self, number: int) -> Turn:
        if number not in self.turns and len(self.turns) >= MAX_TURNS:
            del self.turns[min(self.turns)]
        return self.turns.setdefault(number, Turn(number))

    def _transition(self, record: dict[str, Any]) -> None:
        turn = self._turn(int(record["turn"]))
        at = float(record.get("wall_ms", 0))
        if record["to"] == "Active":
            turn.opened = at
        elif record["to"] == "Terminal":
            turn.outcome = str(record["trigger"])
            turn.closed = at
        elif record["to"] == "Closed":
            turn.closed = at
            if turn.holds and turn.holds[-1].end is None:
                turn.holds[-1].end = at
            self.held = False

    def _marker(self, record: dict[str, Any]) -> None:
        name = record.get("name")
        at = float(record.get("wall_ms", 0))
        number = int(record.get("turn", 0))
        if name == "output_held":
            self.held = True
            holds = self._turn(number).holds
            if len(holds) < MAX_HOLDS:
                holds.append(Span(at))
        elif name == "output_released":
            self.held = False
            holds = self._turn(number).holds
            if holds and holds[-1].end is None:
                holds[-1].end = at
        elif name == "first_output":
            self._turn(number).first_output = at
        elif name == "plan_frozen":
            self.plan_hashes[number] = str(record.get("plan_hash", ""))
        elif name == "agent_state":
            self.agent_state = str(record.get("state", ""))
        elif name in {"lease_granted", "lease_renewed"}:
            self.epoch = int(record.get("value", 0)) or self.epoch
        elif name == "gate_closed":
            self.gate_closed.append(str(record.get("reason", "")))
        elif name == "utterance_started":
            self.hearing.append(Span(at))
        elif name in {"utterance_ended", "utterance_discarded"} and self.hearing:
            self.hearing[-1].end = at

    def _signal(self, record: dict[str, Any]) -> None:
        event = record.get("event") or {}
        if event.get("signal") == "abort":
            number = _turn_number(record, event)
            if number:
                self._turn(number).reason = str(event.get("reason", ""))
        elif event.get("signal") in {"ended", "disconnected"}:
            self.ended_reason = str(event.get("reason", ""))

    def _transcript(self, record: dict[str, Any]) -> None:
        turn = self._turn(int(record.get("turn", 0)))
        text = str(record.get("text", ""))
        if record.get("party") == "caller":
            turn.caller_text = text
        else:
            turn.agent_text = text

    def _latency(self, record: dict[str, Any]) -> None:
        name = str(record.get("name", ""))
        value = float(record.get("value_us", 0)) / 1000
        self.latencies.setdefault(name, []).append(value)
        number = int(record.get("turn", 0))
        if number:
            # A reply of several segments makes several calls; the first is what the caller waits for.
            self._turn(number).latencies.setdefault(name, value)

    @property
    def ordered(self) -> list[Turn]:
        """Turns that were opened, in order."""
        return [self.turns[number] for number in sorted(self.turns) if number and self.turns[number].opened]


def _turn_number(record: dict[str, Any], event: dict[str, Any]) -> int:
    if record.get("turn"):
        return int(record["turn"])
    # Turn ids read ``turn-<epoch>-<number>``.
    tail = str(event.get("turn_id") or "").rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def read_story(records: Iterable[dict[str, Any]]) -> Story:
    """Read a whole timeline."""
    story = Story()
    for record in records:
        story.feed(record)
    return story
