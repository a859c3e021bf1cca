"""How much of a call is recorded, and until when: a level only ever goes down while a call runs.

L0 keeps decisions and their evidence. L1 is a window for debugging with an end. L2 is for forensics, with
an approval. What each level does with each payload class stands in ``rspp.evidence.redaction``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec import UNSET

from rspp.contracts.errors import ConfigurationError
from rspp.evidence.redaction import PAYLOAD_CLASSES, Decision, decisions, level_action
from rspp.pipeline.normalise import recording_level
from rspp.pipeline.profile import RecordingLevel as Level  # noqa: TC001 - msgspec reads the annotations
from rspp.pipeline.spec import PipelineSpec, RecordingSection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.redaction import Action

DowngradeReason: TypeAlias = Literal[
    "level_time_over", "payload_store_unavailable", "stage_a_detail_overflow", "operator_request"
]
"""Why a level went down; the only reasons there are."""
MINUTE_MS = 60_000
MOST_MINUTES = 10_080
"""An L1 window ends within a week."""
LEVELS: tuple[Level, ...] = ("L0", "L1", "L2")

_APPROVAL = re.compile(r"\S")


class Downgrade(msgspec.Struct, frozen=True, kw_only=True):
    """One step down, for the recording and for the marker ``recording_level_downgraded``.

    Attributes:
        from_level: level before.
        to_level: level from now on.
        reason: why.
        wall_ms: when, milliseconds since 1970.
    """

    from_level: Level
    to_level: Level
    reason: DowngradeReason
    wall_ms: int


class RecordingOverride(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks for instead of the pipeline file's level.

    Attributes:
        level: level to record at.
        minutes: length of an L1 window, counted from when the operator asked; 0 at other levels.
        until_wall_ms: end of that window, milliseconds since 1970; 0 at other levels.
        approval: who approved L2, and why; empty at other levels.
    """

    level: Level
    minutes: int = 0
    until_wall_ms: int = 0
    approval: str = ""

    @classmethod
    def asked(cls, level: str, *, minutes: int, approval: str, wall_ms: int) -> RecordingOverride | None:
        """Return what the flags of a command ask for; none when they ask for nothing.

        Args:
            level: L0, L1, L2, or empty for what the pipeline file says.
            minutes: length of an L1 window; 0 when not given.
            approval: approval of L2; empty when not given.
            wall_ms: now, milliseconds since 1970.

        Raises:
            ConfigurationError: a flag is missing, wrong, or does not belong to the level.
        """
        wanted: dict[str, Level] = {name: name for name in LEVELS}
        if level and level not in wanted:
            raise ConfigurationError(f"--record {level!r} is no recording level", hint="use L0, L1 or L2")
        if level == "L1" and not 1 <= minutes <= MOST_MINUTES:
            raise ConfigurationError(
                f"--record-minutes {minutes}: level L1 needs an end",
                hint=f"give --record-minutes, 1 to {MOST_MINUTES}",
            )
        if level != "L1" and minutes:
            raise ConfigurationError(
                f"--record-minutes {minutes}: only level L1 ends by itself", hint="use it with --record L1"
            )
        if level == "L2" and not _APPROVAL.search(approval):
            raise ConfigurationError(
                "--record L2 has no approval",
                hint="say who approved it, and why, with --record-approval TEXT",
            )
        if level != "L2" and approval:
            raise ConfigurationError(
                "--record-approval belongs to level L2", hint="use it with --record L2, or leave it out"
            )
        if not level:
            return None
        until = wall_ms + minutes * MINUTE_MS if minutes else 0
        return cls(level=wanted[level], minutes=minutes, until_wall_ms=until, approval=approval)

    def applied(self, spec: PipelineSpec, wall_ms: int) -> PipelineSpec:
        """Return ``spec`` as it is recorded for this operator; an L1 window that is over records at L0.

        An operator cannot widen what is kept in full: only the pipeline file, by which the tenant chose,
        names classes for that.

        Args:
            spec: the pipeline.
            wall_ms: now, milliseconds since 1970.
        """
        section = RecordingSection(level=self.level)
        if self.level == "L1":
            over = wall_ms >= self.until_wall_ms
            section = RecordingSection(
                level="L0" if over else "L1", until_minutes=UNSET if over else self.minutes
            )
        elif self.level == "L2":
            section = RecordingSection(level="L2", approval=self.approval, allow=spec.recording.allow)
        return msgspec.structs.replace(spec, recording=section)


class RecordingLevel:
    """The level of one running call; goes down by itself or when told, and never up.

    Args:
        level: level to start at.
        allow: payload classes that L2 keeps in full.
        until_wall_ms: when L1 ends, milliseconds since 1970; 0 at other levels.

    Raises:
        ConfigurationError: L1 without an end.
    """

    def __init__(self, level: Level, *, allow: Iterable[PayloadClass] = (), until_wall_ms: int = 0) -> None:
        if level == "L1" and until_wall_ms <= 0:
            raise ConfigurationError("recording level L1 has no end", hint="give until_minutes")
        self.downgrades: list[Downgrade] = []
        """Every step down so far; two at most."""
        self._level: Level = level
        self._allow = frozenset(allow)
        self._until_wall_ms = until_wall_ms

    @classmethod
    def of(
        cls, spec: PipelineSpec, *, wall_ms: int, override: RecordingOverride | None = None
    ) -> RecordingLevel:
        """Return the level that a call begins with.

        Args:
            spec: the pipeline, to which ``override`` was applied already.
            wall_ms: when the call begins, milliseconds since 1970.
            override: what the operator asked for; its window ends for all calls at once, while the window
                of the pipeline file begins with each call.
        """
        section, level = spec.recording, recording_level(spec)
        until = 0
        if level == "L1" and override is not None and override.until_wall_ms:
            until = override.until_wall_ms
        elif level == "L1" and section.until_minutes is not UNSET:
            until = wall_ms + section.until_minutes * MINUTE_MS
        return cls(level, allow=section.allow, until_wall_ms=until)

    @property
    def level(self) -> Level:
        """The level now."""
        return self._level

    def action(self, payload_class: PayloadClass) -> Action:
        """Return what is done with a payload of that class now."""
        return level_action(payload_class, self._level, self._allow)

    def wants(self, payload_class: PayloadClass) -> bool:
        """Return whether a payload of that class leaves anything behind; if not, it need not be gathered."""
        return self.action(payload_class) != "drop"

    def decided(self) -> list[Decision]:
        """Return the decision for each payload class, for the header of the recording."""
        return decisions(PAYLOAD_CLASSES, self._level, allow=self._allow)

    def tick(self, wall_ms: int) -> Downgrade | None:
        """Take L1 down to L0 once its time is over; returns the step, if there was one."""
        if self._level == "L1" and wall_ms >= self._until_wall_ms:
            return self.lower("L0", "level_time_over", wall_ms)
        return None

    def lower(self, to_level: Level, reason: DowngradeReason, wall_ms: int) -> Downgrade | None:
        """Go down; returns the step, or none when the level was there already.

        A call at L2 that goes down to L1 has no window of its own, so it goes down to L0.

        Raises:
            ConfigurationError: ``to_level`` is above the level now: only a new call may be recorded more.
        """
        if LEVELS.index(to_level) > LEVELS.index(self._level):
            raise ConfigurationError(
                f"recording level {to_level} is above {self._level}, at which the call is recorded",
                hint="a level goes only down while a call runs; begin another call for more",
            )
        if to_level == "L1" and self._until_wall_ms <= wall_ms:
            to_level = "L0"
        if to_level == self._level:
            return None
        step = Downgrade(from_level=self._level, to_level=to_level, reason=reason, wall_ms=wall_ms)
        self._level = to_level
        self.downgrades.append(step)
        return step
