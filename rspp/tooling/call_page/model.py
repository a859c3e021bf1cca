"""A recorded call as what people ask about it: turns, voices, provider calls, edges, authority, gaps.

All times are microseconds from the first record of the call. The page, the terminal view and the exports
read this, so that they cannot tell different stories.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["plain", "good", "bad", "hold", "caller", "agent", "think", "edge", "soft"]
ROWS = ("caller", "agent", "turns", "holds", "control", "data", "telemetry", "authority", "missing")
"""The lanes of a call from top to bottom; each edge has a row of its own, named ``edge:<id>``."""
ROW_TITLES = {
    "caller": "Caller",
    "agent": "Agent",
    "turns": "Turns",
    "holds": "Holds, barge-ins",
    "control": "Control lane",
    "data": "Data lane",
    "telemetry": "Telemetry lane",
    "authority": "Lease, epoch",
    "missing": "Missing",
}
VOICE_STEP_US = 100_000
"""Width of one column of the caller's voice."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One evidence record of the call.

    Attributes:
        index: its place in the recording, from 0.
        at_us: when.
        turn: the turn's id, empty when it belongs to none.
        record: the record itself.
    """

    index: int
    at_us: int
    turn: str
    record: dict[str, Any]


SHED = Kept(-1, 0, "", {})
"""Stands where a record was that a page gave up for others."""


@dataclass(slots=True)
class Span:
    """Something that lasted; ``end_us`` is none while it did so to the end of the recording."""

    row: str
    begin_us: int
    end_us: int | None
    name: str
    style: Style = "plain"
    turn: str = ""
    records: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Mark:
    """Something that happened at one moment; ``records`` are places in ``CallModel.records``."""

    row: str
    at_us: int
    name: str
    style: Style = "plain"
    turn: str = ""
    records: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Words:
    """What a party said in a turn; ``text`` is none when the recording's level keeps no text."""

    count: int
    text: str | None
    record: int


@dataclass(slots=True)
class Attempt:
    """One attempt of a provider invocation."""

    invocation: str
    modality: str
    provider: str
    number: int
    outcome: str
    reason: str
    decision: str
    begin_us: int
    end_us: int
    turn: str
    record: int


@dataclass(slots=True)
class TurnView:
    """One turn of the call.

    Attributes:
        key: its id, ``turn-<epoch>-<number>``: numbers start again with each epoch.
        states: each state with the moment that it was entered.
        speech_end_us: end of the caller's speech that it answers, as the runtime measured it.
        spoken_us: when its voice ended at the transport.
        latencies: the runtime's own latencies by name, microseconds; the first of each.
    """

    key: str
    epoch: int
    number: int
    states: list[tuple[str, int]] = field(default_factory=list)
    proposed_us: int | None = None
    opened_us: int | None = None
    first_output_us: int | None = None
    spoken_us: int | None = None
    ended_us: int | None = None
    closed_us: int | None = None
    speech_end_us: int | None = None
    outcome: str = ""
    reason: str = ""
    barge_in: bool = False
    plan_hash: str = ""
    caller: Words | None = None
    agent: Words | None = None
    latencies: dict[str, int] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    holds: list[Span] = field(default_factory=list)
    records: list[int] = field(default_factory=list)

    @property
    def begin_us(self) -> int:
        """The first moment of the turn."""
        return next((at for at in (self.proposed_us, self.opened_us, self.ended_us) if at is not None), 0)

    @property
    def ending(self) -> str:
        """How it ended, in a word or two for people."""
        if self.outcome == "commit":
            return "said in full"
        if self.outcome == "abort":
            return "interrupted" if self.barge_in else f"aborted: {self.reason or 'no reason recorded'}"
        return "refused" if self.opened_us is None and self.closed_us is not None else "not ended"


@dataclass(slots=True)
class Stint:
    """One runtime's part of the call; a takeover begins the next."""

    begin_us: int
    epoch: int
    pipeline: str
    resumed: bool
    header: int
    end_us: int = 0


@dataclass(slots=True)
class EdgeView:
    """An edge: what waited on it and what it decided."""

    name: str
    depth: list[tuple[int, int, int]] = field(default_factory=list)
    """Microseconds, queued milliseconds, place in ``CallModel.records``."""
    shed: int = 0
    stops: int = 0
    drops: int = 0


@dataclass(slots=True)
class Frames:
    """A run of frames that the gate judged alike."""

    begin_us: int
    end_us: int
    turn: str
    verdict: str
    frames: int
    samples: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where the recording itself is not what was written."""

    code: str
    where: str
    message: str


@dataclass(slots=True)
class CallModel:
    """One recorded call.

    Attributes:
        records: every record but those that are summed up: frames, voice activity, ticks.
        counts: how many records of each kind the recording holds.
        voice: the loudest probability of voice in each ``VOICE_STEP_US``, per mille.
        incomplete: records that were lost before they reached the disk, as the recording says.
        left_out: what a model made for a page left out, by sort; see ``room``.
        words_kept: whether texts lie beside the records, for those who may ask for them.
    """

    session_id: str = ""
    tenant: str = ""
    pipeline: str = ""
    level: str = ""
    kernel: str = ""
    started_wall_ms: int = 0
    ended_reason: str = ""
    duration_us: int = 0
    stints: list[Stint] = field(default_factory=list)
    turns: dict[str, TurnView] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    edges: dict[str, EdgeView] = field(default_factory=dict)
    frames: list[Frames] = field(default_factory=list)
    voice: list[int] = field(default_factory=list)
    records: list[Kept] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    incomplete: int = 0
    sealed: bool | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    words_kept: bool = False

    @property
    def ordered(self) -> list[TurnView]:
        """Turns by the time that they began."""
        return sorted(self.turns.values(), key=lambda turn: (turn.begin_us, turn.epoch, turn.number))

    def end_of(self, turn: TurnView) -> int:
        """Return when a turn ended; one that never did ends with its runtime."""
        if turn.closed_us is not None:
            return turn.closed_us
        # A lease that rotates gives its stint no new name.
        ends = [stint.end_us for stint in self.stints if stint.epoch <= turn.epoch]
        return max(turn.begin_us, ends[-1] if ends else self.duration_us)

    @property
    def unsaid(self) -> str:
        """Why words are counted and not shown."""
        return "shown to who gives a purpose" if self.words_kept else "not kept at this level"

    @property
    def integrity(self) -> str:
        """Whether the recording is whole, in words for people."""
        if self.damage:
            return f"damaged in {len(self.damage)} {'place' if len(self.damage) == 1 else 'places'}"
        if self.incomplete:
            return f"{self.incomplete} records missing"
        return "complete" if self.sealed else "no damage found" if self.sealed is None else "not closed"
