"""The four ways to replay a recording, and the cursor that stands at a place in it.

``recompute_decisions`` runs the same kernel over the recorded inputs and compares every record;
``replay_decisions`` takes what was decided for true and checks that it keeps the contracts;
``playback_recorded_provider_outputs`` runs a changed kernel against the recorded world
(``rspp.replay.what_if``); ``re_simulate_nodes`` hears the recorded audio again (``rspp.replay.nodes``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from rspp import _kernel
from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.contracts.validation import check_stream
from rspp.replay.divergence import Divergence
from rspp.replay.inputs import kernel_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rspp.contracts.validation import StreamFault
    from rspp.evidence.reader import KernelBlock, Recording, Stint

Mode = Literal[
    "re_simulate_nodes",
    "playback_recorded_provider_outputs",
    "replay_decisions",
    "recompute_decisions",
]
BLOCKS_AT_ONCE = 128
MODES: tuple[Mode, ...] = (
    "re_simulate_nodes",
    "playback_recorded_provider_outputs",
    "replay_decisions",
    "recompute_decisions",
)


class StintResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the replay of one stint gave.

    Attributes:
        stint: its id.
        epoch: of its lease.
        records: records of the kernel in the recording.
        compared: of these, how many were compared with the replay's.
        inputs: how many of them were inputs.
        recorded_ms: from the first to the last of them, on the session's clock.
        took_ms: how long the replay took.
        gap_at_us: from where on inputs are missing and nothing was judged; absent when none are.
        gap_reason: why they are missing, where the files say so.
        divergences: what differs, in order; at most 1,000.
        unlisted: how many more there are.
        faults: where the recorded decisions break the contracts, for ``replay_decisions``.
    """

    stint: str
    epoch: int
    records: int
    compared: int
    inputs: int
    recorded_ms: float
    took_ms: float
    gap_at_us: int | None = None
    gap_reason: str = ""
    divergences: tuple[Divergence, ...] = ()
    unlisted: int = 0
    faults: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether everything was compared and nothing differs."""
        return not self.divergences and not self.faults and self.gap_at_us is None


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the replay of a recording gave.

    Attributes:
        session_id: the session.
        mode: how it was replayed.
        stints: one result for each runtime that held the call, in order.
        damage: what is wrong with the files, as texts; what they hold is judged all the same.
    """

    session_id: str
    mode: Mode
    stints: tuple[StintResult, ...]
    damage: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every stint was replayed whole to the same trace."""
        return bool(self.stints) and not self.damage and all(stint.identical for stint in self.stints)

    @property
    def divergences(self) -> tuple[Divergence, ...]:
        """Of all stints, in order."""
        return tuple(divergence for stint in self.stints for divergence in stint.divergences)

    @property
    def speed(self) -> float:
        """How many times faster than the call it was; 0 when nothing took measurable time."""
        took = sum(stint.took_ms for stint in self.stints)
        return sum(stint.recorded_ms for stint in self.stints) / took if took else 0.0

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain | {"identical": self.identical, "times_real_time": round(self.speed)}


class ReplayCursor:
    """A place in a stint, reached by running its kernel up to there.

    Args:
        stint: the stint.
        changes: settings to change; see ``recompute``.

    Raises:
        EvidenceError: the stint has no settings, or its records cannot be read.
    """

    def __init__(
        self, stint: Stint, changes: Mapping[str, Any] | None = None, behaviours: Sequence[int] | None = None
    ) -> None:
        arguments = kernel_arguments(stint.header, **(changes or {}))
        if behaviours is not None:
            arguments["behaviours"] = list(behaviours)
        self._replay = _kernel.Replay(**arguments)
        self._stint = stint
        self._blocks = stint.kernel_blocks()
        self._waiting: KernelBlock | None = None
        self._created_us = int(stint.header["created_us"])
        self.gap_reason = ""
        """Why inputs are missing from some place on, where the files say so."""

    @property
    def replay(self) -> _kernel.Replay:
        """The engine, at this place."""
        return self._replay

    def step(self, records: int = 1) -> int:
        """Go on by that many records; returns how many there were."""
        done = self._replay.advance(records)
        while done < records and self._feed():
            done += self._replay.advance(records - done)
        return done

    def to_ms(self, ms: int) -> int:
        """Go on to ``ms`` after the stint began; returns how many records that took."""
        target_us = self._created_us + ms * 1000
        done = self._replay.advance_to_us(target_us)
        while self._replay.at_us <= target_us and self._feed():
            done += self._replay.advance_to_us(target_us)
        return done

    def to_turn(self, turn: int) -> bool:
        """Go on until that turn has opened; false when it never does."""
        while not self._replay.advance_to_turn(turn):
            if not self._feed():
                return False
        return True

    def to_end(self) -> int:
        """Go on to the end; returns how many records there were on the way."""
        done = self.step(2**62)
        if self._stint.ended:
            self._replay.finish()
        return done

    def _feed(self) -> bool:
        """Hand the next blocks over: a minute or so, so that long calls need little memory."""
        fed = 0
        try:
            while fed < BLOCKS_AT_ONCE:
                block = self._waiting or next(self._blocks, None)
                self._waiting = None
                if block is None:
                    break
                if block.missing and fed:
                    # A gap is where the kernel stands, so all that comes before it goes first.
                    self._waiting = block
                    break
                if block.missing:
                    self.gap_reason = self.gap_reason or block.missing
                    self._replay.feed_gap(self._replay.at_us, 0)
                self._replay.feed(block.data)
                fed += 1
        except ValueError as error:
            raise EvidenceError(
                f"stint {self._stint.header.get('stint', '')}: records cannot be read: {error}",
                hint="rspp-cli verify-evidence says what is damaged",
            ) from error
        return fed > 0

    def state(self) -> dict[str, Any]:
        """Where it stands and what the kernel's state is there."""
        replay = self._replay
        return {
            "position": replay.position,
            "at_ms": max(0, replay.at_us - self._created_us) / 1000,
            "turn": replay.turn,
            "turn_state": replay.turn_state,
            "epoch": replay.epoch,
            "held": replay.held,
            "divergences": len(replay.divergences),
        }


def recompute(
    recording: Recording,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    behaviours: Sequence[int] | None = None,
) -> ReplayResult:
    """Run the kernel over the recorded inputs and compare every record.

    Args:
        recording: what was kept.
        changes: settings to replace, under ``policy``, ``plan`` and ``providers``; none for an exact replay.
        behaviours: numbers of the kernel's behaviours instead of the recorded ones.

    Raises:
        EvidenceError: nothing in it can be run again.
    """
    return ReplayResult(
        session_id=recording.session_id,
        mode="recompute_decisions",
        stints=tuple(_recompute(stint, changes, behaviours) for stint in _stints(recording)),
        damage=tuple(str(damage) for damage in recording.damage),
    )


def _recompute(
    stint: Stint, changes: Mapping[str, Any] | None, behaviours: Sequence[int] | None
) -> StintResult:
    started = time.perf_counter()
    cursor = ReplayCursor(stint, changes, behaviours)
    records = cursor.to_end()
    replay = cursor.replay
    return StintResult(
        stint=str(stint.header.get("stint", "")),
        epoch=int(stint.header.get("epoch", 0)),
        records=records,
        compared=replay.compared,
        inputs=replay.inputs,
        recorded_ms=max(0, replay.at_us - int(stint.header["created_us"])) / 1000,
        took_ms=(time.perf_counter() - started) * 1000,
        gap_at_us=replay.gap[0] if replay.gap is not None else None,
        gap_reason=cursor.gap_reason,
        divergences=tuple(_told(divergence) for divergence in replay.divergences),
        unlisted=replay.unlisted,
    )


def _told(found: _kernel.Divergence) -> Divergence:
    return Divergence(
        class_=found.class_,
        scope=found.scope,
        message=f"{found.message} ({found.repeats} more alike)" if found.repeats else found.message,
        diff_ms=UNSET if found.diff_us is None else found.diff_us / 1000,
        index=found.index,
        at_us=found.at_us,
        recorded=found.recorded,
        replayed=found.replayed,
    )


def take_decisions(recording: Recording) -> ReplayResult:
    """Take the recorded decisions for true and check that, in order, they keep the contracts.

    Raises:
        EvidenceError: there is nothing in it.
    """
    results = []
    for stint in _stints(recording):
        started = time.perf_counter()
        records = list(stint.records())
        report = check_stream(msgspec.json.encode(record) for record in records)
        times = [record["at_us"] for record in records if "at_us" in record]
        results.append(
            StintResult(
                stint=str(stint.header.get("stint", "")),
                epoch=int(stint.header.get("epoch", 0)),
                records=len(records),
                compared=len(records),
                inputs=sum(record["kind"] == "input" for record in records),
                recorded_ms=(max(times) - min(times)) / 1000 if times else 0.0,
                took_ms=(time.perf_counter() - started) * 1000,
                faults=tuple(_said(fault) for fault in report.faults),
            )
        )
    return ReplayResult(
        session_id=recording.session_id,
        mode="replay_decisions",
        stints=tuple(results),
        damage=tuple(str(damage) for damage in recording.damage),
    )


def _said(fault: StreamFault) -> str:
    """Put the breach of a rule as people read it."""
    place = f"record {fault.line}" if fault.line else "at the end"
    at = f" at {fault.field}" if fault.field else ""
    return f"{place}: {fault.rule}{at}: {fault.message}"


def _stints(recording: Recording) -> Sequence[Stint]:
    if not recording.stints:
        raise EvidenceError(
            f"{recording.path}: holds no stint that can be run again",
            hint="name a session's folder under the evidence folder, or one of its segments",
        )
    for stint in recording.stints:
        if not stint.header:
            raise EvidenceError(
                f"{stint.segments[0].path}: its header, which has the kernel's settings, cannot be read",
                hint="rspp-cli verify-evidence says what is damaged, timeline show what can still be read",
            )
    return recording.stints


def allowed_modes(stint: Stint) -> tuple[str, ...]:
    """Return the modes that the plan of a stint allows.

    Raises:
        EvidenceError: its header does not say.
    """
    try:
        policy = msgspec.json.decode(stint.header["settings"]["plan"]["policy_json"])
        return tuple(str(mode) for mode in policy["recording_policy"]["allowed_replay_modes"])
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise EvidenceError(
            f"{stint.segments[0].path}: its header does not say how the call may be replayed",
            hint="read the whole recording; a header without the kernel's settings was not written by RSPP",
        ) from error


def require_mode(recording: Recording, mode: Mode) -> None:
    """Refuse a mode that the plan of a stint does not allow.

    Raises:
        ConfigurationError: it does not.
        EvidenceError: there is nothing in the recording.
    """
    for stint in _stints(recording):
        allowed = allowed_modes(stint)
        if mode not in allowed:
            raise ConfigurationError(
                f"mode {mode}: the plan of session {recording.session_id} allows {', '.join(allowed)}",
                hint="recording.replay_modes of the execution profile says how calls may be replayed",
            )
