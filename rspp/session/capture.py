"""What was said and heard, handed to the recorder as far as the recording level wants it.

At the default level nothing is wanted and nothing is gathered. What is wanted waits here for the next
flush, because handing over takes a lock, which the way of the sound must not; how much may wait is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rspp.contracts.media import INPUT_RATE_HZ, OUTPUT_RATE_HZ, Pcm

if TYPE_CHECKING:
    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.levels import Downgrade, RecordingLevel
    from rspp.pipeline.data_flow import DataFlow
    from rspp.session.recording import Recorder

PARTIAL_INTERVAL_US = 500_000
"""At most two hypotheses a second are kept: L1 asks for a sample of them."""
PIECE_GAP_US = 60_000
"""Sound that comes later than this after what was gathered begins a piece of its own."""

MAX_WAITING_BYTES = 1 << 20
"""Most that waits for a flush: 13 s of both voices, where a flush comes every second. What comes beyond is
lost, and the level goes down for it."""


class _Waiting(NamedTuple):
    payload_class: PayloadClass
    turn: int
    at_us: int
    data: bytes
    details: dict[str, object]


@dataclass(slots=True)
class _Piece:
    turn: int
    at_us: int
    cleared: int = 0
    samples: int = 0
    frames: list[bytes] = field(default_factory=list)


class PayloadCapture:
    """Gathers the payloads of one session.

    Args:
        level: the session's recording level.
        recorder: takes them; never waits.
        classes: payload classes of what is said and heard.
    """

    def __init__(self, level: RecordingLevel, recorder: Recorder, classes: DataFlow) -> None:
        self._level = level
        self._classes = classes
        self._recorder = recorder
        self._partial_us = 0
        self._caller: _Piece | None = None
        self._agent: _Piece | None = None
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._overflowed = False

    def wants_sound(self, party: str) -> bool:
        """Whether anything of the sound of ``caller`` or ``agent`` is kept."""
        return self._level.wants(self._classes.sound(party))

    def caller_sound(self, turn: int, at_us: int, pcm: Pcm) -> None:
        """The caller was heard: int16 at 16 kHz."""
        if self.wants_sound("caller"):
            self._caller = self._gather("caller", INPUT_RATE_HZ, self._caller, turn, at_us, pcm)

    def agent_sound(self, turn: int, at_us: int, pcm: Pcm) -> None:
        """A frame of the agent's voice passed the gate: int16 at 24 kHz."""
        if self.wants_sound("agent"):
            self._agent = self._gather("agent", OUTPUT_RATE_HZ, self._agent, turn, at_us, pcm)

    def agent_cleared(self, turn: int, at_us: int, samples: int) -> None:
        """The last samples that passed were taken back before they were played."""
        if samples and self.wants_sound("agent"):
            self._end_piece("agent", OUTPUT_RATE_HZ, self._agent)
            self._agent = _Piece(turn, at_us, cleared=samples)

    def text(self, party: str, turn: int, at_us: int, text: str, *, final: bool) -> None:
        """Words of a party; of what is not final a sample is kept."""
        payload_class = self._classes.text(party)
        if not text or not self._level.wants(payload_class):
            return
        if not final:
            if at_us - self._partial_us < PARTIAL_INTERVAL_US:
                return
            self._partial_us = at_us
        self._keep(payload_class, turn, at_us, text.encode(), party=party, final=final)

    def flush(self) -> None:
        """Hand over what waits; off the way of the sound."""
        self._end_piece("caller", INPUT_RATE_HZ, self._caller)
        self._end_piece("agent", OUTPUT_RATE_HZ, self._agent)
        self._caller = self._agent = None
        for waiting in self._waiting:
            action = self._level.action(waiting.payload_class)
            self._recorder.payload(
                waiting.payload_class,
                waiting.turn,
                waiting.at_us,
                waiting.data,
                action=action,
                **waiting.details,
            )
        self._waiting.clear()
        self._waiting_bytes = 0

    def lower(self, wall_ms: int, *, failing: bool) -> Downgrade | None:
        """Go down a level when its time is over or payloads cannot be kept; returns the step, if any."""
        if failing or self._overflowed:
            return self._level.lower("L0", "payload_store_unavailable", wall_ms)
        return self._level.tick(wall_ms)

    def _gather(
        self, party: str, rate_hz: int, piece: _Piece | None, turn: int, at_us: int, pcm: Pcm
    ) -> _Piece:
        if piece is not None:
            expected_us = piece.at_us + piece.samples * 1_000_000 // rate_hz
            if piece.turn != turn or at_us - expected_us > PIECE_GAP_US:
                self._end_piece(party, rate_hz, piece)
                piece = None
        if piece is None:
            piece = _Piece(turn, at_us)
        if self._has_room(pcm.nbytes):
            piece.frames.append(pcm.tobytes())
            piece.samples += len(pcm)
        return piece

    def _end_piece(self, party: str, rate_hz: int, piece: _Piece | None) -> None:
        if piece is not None:
            details: dict[str, object] = {"party": party, "rate": rate_hz, "cleared": piece.cleared}
            sound = b"".join(piece.frames)
            payload_class = self._classes.sound(party)
            self._waiting.append(_Waiting(payload_class, piece.turn, piece.at_us, sound, details))

    def _keep(
        self, payload_class: PayloadClass, turn: int, at_us: int, data: bytes, **details: object
    ) -> None:
        if self._has_room(len(data)):
            self._waiting.append(_Waiting(payload_class, turn, at_us, data, details))

    def _has_room(self, size: int) -> bool:
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._overflowed = True
            return False
        self._waiting_bytes += size
        return True
