"""What a call did, turn by turn: the common ground on which two runs of it are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rspp import _kernel

if TYPE_CHECKING:
    from collections.abc import Iterable

SAME_TURN_US = 3_000_000
"""Two turns of the same intent are the same one when they open at most this far apart: the longest wait
for an unfinished sentence is shorter."""


@dataclass(slots=True)
class TurnTrace:
    """One turn.

    Attributes:
        number: counts from 1 in its stint.
        intent: why it opened.
        opened_us: when it opened.
        plan_hash: of its frozen plan.
        first_output_us: when its first frame passed the gate, -1 when none did.
        closed_us: when it closed, -1 while it is open.
        outcome: ``commit`` or ``abort``, empty while it is open.
        reason: why it was aborted.
        samples: samples that passed the gate, at 24 kHz.
        holds: how often its voice was held.
        counterpart: number of the recorded turn that it answers to in a what-if, 0 when none does.
        assumptions: what had to be assumed to run it another time; empty for what was recorded.
    """

    number: int
    intent: str
    opened_us: int
    plan_hash: str
    first_output_us: int = -1
    closed_us: int = -1
    outcome: str = ""
    reason: str = ""
    samples: int = 0
    holds: int = 0
    counterpart: int = 0
    assumptions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Trace:
    """The turns of a stint, in order, and the intents that were refused one."""

    turns: dict[int, TurnTrace] = field(default_factory=dict)
    refused: list[tuple[int, str, str]] = field(default_factory=list)

    def observe(self, now_us: int, effects: Iterable[_kernel.Effect]) -> None:
        """Take the effects of one kernel step."""
        for effect in effects:
            match effect:
                case _kernel.OpenTurn():
                    self.turns[effect.turn] = TurnTrace(effect.turn, effect.intent, now_us, effect.plan_hash)
                case _kernel.CloseTurn(turn, outcome, reason) if turn in self.turns:
                    closed = self.turns[turn]
                    closed.closed_us, closed.outcome, closed.reason = now_us, outcome, reason
                case _kernel.HoldOutput(turn) if turn in self.turns:
                    self.turns[turn].holds += 1
                case _kernel.RefuseIntent():
                    self.refused.append((now_us, effect.intent, effect.reason))

    def frame(self, now_us: int, turn: int, samples: int) -> None:
        """A frame of ``turn`` passed the gate."""
        spoken = self.turns[turn]
        if spoken.first_output_us < 0:
            spoken.first_output_us = now_us
        spoken.samples += samples

    def shift(self, later_us: int) -> None:
        """Move every time by ``later_us``: two kernels have two clocks."""
        for turn in self.turns.values():
            turn.opened_us += later_us
            if turn.first_output_us >= 0:
                turn.first_output_us += later_us
            if turn.closed_us >= 0:
                turn.closed_us += later_us

    def match(self, recorded: Trace) -> None:
        """Name for each turn its counterpart: the nearest recorded one of the same intent, each used once."""
        left = dict(recorded.turns)
        for turn in self.turns.values():
            alike = [
                other
                for other in left.values()
                if other.intent == turn.intent and abs(other.opened_us - turn.opened_us) <= SAME_TURN_US
            ]
            nearest = min(alike, key=lambda other: abs(other.opened_us - turn.opened_us), default=None)
            if nearest is not None:
                turn.counterpart = nearest.number
                del left[nearest.number]
