"""Builds the model of a call from its evidence records, one record at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.evidence.records import MAX_DIGITS
from rspp.tooling.call_page.clock import CallClock, whole
from rspp.tooling.call_page.model import (
    SHED,
    VOICE_STEP_US,
    Attempt,
    CallModel,
    Damage,
    EdgeView,
    Frames,
    Kept,
    Mark,
    Span,
    Stint,
    Style,
    TurnView,
    Words,
)
from rspp.tooling.call_page.room import MAX_RUNS, Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Record = dict[str, Any]

MAX_VOICE = 24 * 3_600 * 1_000_000 // VOICE_STEP_US
"""A day of voice; what lies beyond in a damaged recording is not drawn."""
FRAME_GAP_US = 200_000
"""Frames of one verdict further apart than this are two runs."""
SUMMED = frozenset({"frame", "voice_activity", "tick", "ingress"})
"""Inputs that come so often that the model keeps their sums only."""
GOOD = frozenset({"admit", "allow", "commit", "connected", "lease_issued", "turn_open", "flow_xon"})
# fmt: off
BAD = frozenset({
    "abort", "reject", "shed", "defer", "stale_epoch_reject", "deauthorized_drain", "provider_error",
    "disconnected", "drop_notice", "circuit_event", "barge_in", "gate_closed", "lease_lost",
    "plan_failed", "migration_step_refused", "stall", "discontinuity", "recording_level_downgraded",
    "abi_reject", "budget_exhausted",
})
# fmt: on


class CallBuilder:
    """Takes the records of one call in the order of the recording.

    ``feed`` never fails: a record of another version, or one that was damaged, is kept and shown, and is
    otherwise passed over.

    Args:
        most: evidence records that the model keeps at most, with what is drawn of them; none keeps all.
    """

    def __init__(self, most: int | None = None) -> None:
        self.model = CallModel()
        self._room = None if most is None else Room(most)
        self._clock = CallClock()
        self._index = -1
        self._epoch = 0
        self._proposed: int | None = None
        self._utterance: Span | None = None
        self._lease: Span | None = None
        self._plain_providers: list[tuple[int, Record, str, int]] = []
        self._attempted: set[str] = set()
        self._hands: dict[str, Callable[[Record, int, str, int], None]] = {
            "header": self._header,
            "transition": self._transition,
            "marker": self._marker,
            "signal": self._signal,
            "decision": self._decision,
            "input": self._input,
            "provider": self._provider,
            "provider_attempt": self._attempt,
            "latency": self._latency,
            "transcript": self._transcript,
            "pressure": self._pressure,
            "gap": self._gap,
        }

    def feed(self, record: Record) -> None:
        """Take the next record."""
        self._index += 1
        model = self.model
        kind = str(record.get("kind", "unknown"))
        at = self._clock.place(record)
        model.duration_us = max(model.duration_us, at)
        name = str(record.get("name", ""))
        counted = f"{kind}:{name}" if kind == "input" and name in SUMMED else kind
        model.counts[counted] = model.counts.get(counted, 0) + 1
        if kind == "input" and name in SUMMED:
            self._summed(name, record, at)
            return
        turn = self._turn_of(record)
        place = self._keep(Kept(self._index, at, turn, record))
        if turn and place >= 0:
            self._turn(turn).records.append(place)
        hand = self._hands.get(kind)
        if hand is not None:
            hand(record, at, turn, place)

    def _keep(self, kept: Kept) -> int:
        """Keep a record if there is room; returns its place, or -1."""
        model = self.model
        place = len(model.records)
        if self._room is not None:
            taken, given_up = self._room.take(place, kept.record)
            for old in given_up:
                model.records[old] = SHED
            if given_up:
                gone = frozenset(given_up)
                model.marks = [mark for mark in model.marks if not gone.issuperset(mark.records)]
            if not taken:
                return -1
        model.records.append(kept)
        return place

    def finish(self) -> CallModel:
        """Close what is still open and return the model."""
        model = self.model
        if self._room is not None:
            model.left_out |= self._room.left_out
        model.started_wall_ms = self._clock.started_wall_ms
        if model.stints:
            model.stints[-1].end_us = model.duration_us
        for place, record, turn, at in self._plain_providers:
            if str(record.get("modality")) not in self._attempted:
                self._provider_span(record, at, turn, place)
        for view in model.ordered:
            self._voice_of(view)
        return model

    # ------------------------------------------------------------------ which turn

    def _turn_of(self, record: Record) -> str:
        inner = record.get("event") or record.get("decision")
        if isinstance(inner, dict):
            return str(inner.get("turn_id") or "")
        number = whole(record.get("turn")) or 0
        return f"turn-{self._epoch}-{number}" if number > 0 else ""

    def _turn(self, key: str) -> TurnView:
        found = self.model.turns.get(key)
        if found is None:
            _, _, tail = key.partition("-")
            epoch, _, number = tail.partition("-")
            found = TurnView(key, _number(epoch), _number(number))
            self.model.turns[key] = found
        return found

    # ------------------------------------------------------------------ records by kind

    def _header(self, record: Record, at: int, _turn: str, place: int) -> None:
        model = self.model
        if model.stints:
            self._end_stint(at)
        model.session_id = model.session_id or str(record.get("session_id", ""))
        model.tenant = model.tenant or str(record.get("tenant", ""))
        model.kernel = model.kernel or str(record.get("kernel", ""))
        model.pipeline = model.pipeline or str(record.get("pipeline", ""))
        model.level = str(record.get("level", "")) or model.level
        self._epoch = whole(record.get("epoch")) or self._epoch
        resumed = bool(record.get("resumed", bool(model.stints)))
        model.stints.append(
            Stint(at, whole(record.get("epoch")) or 0, str(record.get("pipeline", "")), resumed, place)
        )
        if len(model.stints) > 1:
            self._mark("authority", at, "takeover", "bad", "", place)

    def _end_stint(self, at: int) -> None:
        """What a runtime left open ends where the next one begins."""
        self.model.stints[-1].end_us = at
        for open_span in (self._lease, self._utterance):
            if open_span is not None:
                open_span.end_us = at
        self._lease = self._utterance = None
        for turn in self.model.turns.values():
            if turn.holds and turn.holds[-1].end_us is None:
                turn.holds[-1].end_us = at

    def _transition(self, record: Record, at: int, turn: str, _place: int) -> None:
        if not turn:
            return
        view = self._turn(turn)
        state = str(record.get("to", ""))
        view.states.append((state, at))
        if state == "Opening":
            view.proposed_us = self._proposed if self._proposed is not None else at
            self._proposed = None
        elif state == "Active":
            view.opened_us = at
        elif state == "Terminal":
            view.ended_us, view.outcome = at, str(record.get("trigger", ""))
        elif state == "Closed":
            view.closed_us = at
        if state in {"Terminal", "Closed"} and view.holds and view.holds[-1].end_us is None:
            view.holds[-1].end_us = at

    def _marker(self, record: Record, at: int, turn: str, place: int) -> None:
        name = str(record.get("name", ""))
        if name == "utterance_started":
            self._utterance = Span("caller", at, None, "the caller speaks", "caller", "", [place])
            self._span(self._utterance)
        elif name.startswith("utterance_") and self._utterance is not None:
            self._utterance.records.append(place)
            if name in {"utterance_ended", "utterance_discarded"}:
                self._utterance.end_us = at
                if name == "utterance_discarded":
                    self._utterance.name = "heard and put aside"
                self._utterance = None
        elif name == "output_held":
            hold = Span("holds", at, None, "voice held", "hold", turn, [place])
            self._span(hold)
            if turn:
                self._turn(turn).holds.append(hold)
        elif name == "output_released":
            holds = self._turn(turn).holds if turn else []
            if holds and holds[-1].end_us is None:
                holds[-1].end_us = at
                holds[-1].name = "voice held, then released"
                holds[-1].records.append(place)
        elif name == "first_output" and turn:
            self._turn(turn).first_output_us = at
            self._mark("data", at, "first output", "agent", turn, place)
        elif name == "plan_frozen" and turn:
            self._turn(turn).plan_hash = str(record.get("plan_hash", ""))
            self._mark("control", at, "plan frozen", "plain", turn, place)
        elif name in {"lease_granted", "lease_renewed"}:
            self._leased(name, record, at, place)
        elif name == "gate_closed":
            self._mark("authority", at, "gate closed", "bad", turn, place)
            if self._lease is not None:
                self._lease.end_us = at
                self._lease = None
        elif name.startswith(("cancel_", "fence_")):
            self._mark("holds", at, name.replace("_", " "), "bad", turn, place)
        elif name not in {"agent_state", "frames_passed"}:
            self._mark("control", at, name.replace("_", " "), _style(name), turn, place)

    def _leased(self, name: str, record: Record, at: int, place: int) -> None:
        epoch = whole(record.get("value")) or self._epoch
        if name == "lease_granted" or self._lease is None:
            if self._lease is not None:
                self._lease.end_us = at
            self._epoch = epoch
            if self.model.stints and not self.model.stints[-1].epoch:
                self.model.stints[-1].epoch = epoch
            self._lease = Span("authority", at, None, f"epoch {epoch}", "good", "", [])
            self._span(self._lease)
        self._lease.records.append(place)

    def _signal(self, record: Record, at: int, turn: str, place: int) -> None:
        event = record.get("event")
        if not isinstance(event, dict):
            return
        name, reason = str(event.get("signal", "")), str(event.get("reason", ""))
        if name == "turn_open_proposed":
            self._proposed = at
        elif name == "abort" and turn:
            self._turn(turn).reason = reason
        elif name == "barge_in":
            if turn:
                self._turn(turn).barge_in = True
            self._mark("holds", at, "barge-in", "bad", turn, place)
            return
        elif name in {"playback_completed", "playback_cancelled"} and turn:
            self._turn(turn).spoken_us = at
        elif name == "ended":
            self.model.ended_reason = reason
        edge = event.get("edge_id") or (event.get("sync_domain") if name == "discontinuity" else "")
        row = "control"
        if edge:
            row = f"edge:{edge}"
            view = self._edge(str(edge))
            view.stops += name == "flow_xoff"
            if name == "drop_notice":
                span = event.get("seq_range")
                low, high = (
                    (whole(span.get("start")), whole(span.get("end"))) if isinstance(span, dict) else (0, 0)
                )
                view.drops += max(1, (high or 0) - (low or 0) + 1)
        shown = f"{name}: {reason}" if reason and name in {"abort", "ended", "disconnected"} else name
        self._mark(row, at, shown.replace("_", " "), _style(name), turn, place)

    def _decision(self, record: Record, at: int, turn: str, place: int) -> None:
        decision = record.get("decision")
        outcome = str(decision.get("outcome_kind", "")) if isinstance(decision, dict) else "?"
        self._mark("control", at, f"decision: {outcome}", _style(outcome), turn, place)

    def _input(self, record: Record, at: int, turn: str, place: int) -> None:
        name = str(record.get("name", ""))
        if name == "lease":
            self._epoch = whole(record.get("epoch")) or self._epoch
            if self._lease is not None:
                self._lease.records.append(place)
        elif name == "lease_lost":
            self._mark("authority", at, "lease lost", "bad", turn, place)
        elif name == "transcript":
            self._mark("data", at, "words recognised", "caller", turn, place)
        elif name in {"playback", "generation_finished", "text_message", "output_handed_on"}:
            self._mark("data", at, name.replace("_", " "), "plain", turn, place)
        else:
            self._mark("control", at, name.replace("_", " "), _style(name), turn, place)

    def _provider(self, record: Record, at: int, turn: str, place: int) -> None:
        if place < 0:
            return
        self._plain_providers.append((place, record, turn, at))

    def _provider_span(self, record: Record, at: int, turn: str, place: int) -> None:
        took = whole(record.get("latency_us")) or 0
        outcome = str(record.get("outcome", ""))
        style: Style = "think" if outcome == "success" else "bad"
        name = f"{record.get('modality', '')}: {outcome}"
        self._span(Span("data", max(0, at - took), at, name, style, turn, [place]))

    def _attempt(self, record: Record, at: int, turn: str, place: int) -> None:
        took = whole(record.get("attempt_latency_us")) or 0
        modality = str(record.get("modality", ""))
        self._attempted.add(modality)
        attempt = Attempt(
            invocation=str(record.get("provider_invocation_id", "")),
            modality=modality,
            provider=str(record.get("provider_id", "")),
            number=whole(record.get("attempt")) or 0,
            outcome=str(record.get("outcome", "")),
            reason=str(record.get("reason", "")),
            decision=str(record.get("retry_decision", "")),
            begin_us=max(0, at - took),
            end_us=at,
            turn=turn,
            record=place,
        )
        if turn:
            self._turn(turn).attempts.append(attempt)
        style: Style = "think" if attempt.outcome in {"success", "cancelled"} else "bad"
        name = f"{modality} {attempt.provider}: {attempt.outcome}"
        self._span(Span("data", attempt.begin_us, at, name, style, turn, [place]))

    def _latency(self, record: Record, at: int, turn: str, place: int) -> None:
        name, value = str(record.get("name", "")), whole(record.get("value_us")) or 0
        if turn:
            view = self._turn(turn)
            # A reply of several segments makes several calls; the first is what the caller waits for.
            view.latencies.setdefault(name, value)
            if name == "end_of_speech_to_turn_open":
                opened = view.opened_us if view.opened_us is not None else at
                view.speech_end_us = max(0, opened - value)
        title = name.replace("_", " ")
        self._mark("telemetry", at, f"{title}: {value / 1000:.1f} ms", "soft", turn, place)

    def _transcript(self, record: Record, at: int, turn: str, place: int) -> None:
        if not record.get("final", True):
            return
        text = record.get("text")
        words = Words(
            whole(record.get("words")) or len(str(text or "").split()), str(text) if text else None, place
        )
        caller = record.get("party") == "caller"
        self._mark("data", at, "caller's words" if caller else "agent's words as heard", "plain", turn, place)
        if turn:
            view = self._turn(turn)
            if caller:
                view.caller = words
            else:
                view.agent = words

    def _pressure(self, record: Record, at: int, _turn: str, place: int) -> None:
        edge = self._edge(str(record.get("edge", "")))
        if self._room is None or len(edge.depth) < MAX_RUNS:
            edge.depth.append((at, whole(record.get("queued_ms")) or 0, place))
        else:
            self._left_out("depths of edges")
        edge.shed = max(edge.shed, whole(record.get("shed")) or 0)

    def _gap(self, record: Record, at: int, _turn: str, place: int) -> None:
        lost = whole(record.get("records")) or 1
        self.model.incomplete += lost
        said = "1 record is missing" if lost == 1 else f"{lost} records are missing"
        self._mark("missing", at, said, "bad", "", place)

    def _summed(self, name: str, record: Record, at: int) -> None:
        model = self.model
        if name == "voice_activity":
            column = at // VOICE_STEP_US
            if column < MAX_VOICE:
                model.voice.extend([0] * (column + 1 - len(model.voice)))
                heard = min(1_000, max(0, whole(record.get("permille")) or 0))
                model.voice[column] = max(model.voice[column], heard)
        elif name == "frame":
            turn, verdict = self._turn_of(record), str(record.get("verdict", ""))
            samples = whole(record.get("samples")) or 0
            last = model.frames[-1] if model.frames else None
            if (
                last is not None
                and (last.turn, last.verdict) == (turn, verdict)
                and at - last.end_us <= FRAME_GAP_US
            ):
                last.end_us, last.frames, last.samples = at, last.frames + 1, last.samples + samples
            elif self._room is not None and len(model.frames) >= MAX_RUNS:
                self._left_out("runs of frames")
            else:
                model.frames.append(Frames(at, at, turn, verdict, 1, samples))

    # ------------------------------------------------------------------ helpers

    def _voice_of(self, view: TurnView) -> None:
        """Draw when the agent thought and spoke in a turn."""
        if view.opened_us is None:
            return
        end = view.closed_us if view.closed_us is not None else self.model.end_of(view)
        spoke = view.first_output_us
        spans = self.model.spans
        silent = min(spoke, end) if spoke is not None else end
        spans.append(Span("agent", view.opened_us, silent, "thinking", "think", view.key, view.records[:1]))
        if spoke is not None:
            until = view.spoken_us if view.spoken_us is not None else end
            spans.append(
                Span("agent", spoke, max(spoke, until), "speaking", "agent", view.key, view.records[:1])
            )

    def _edge(self, name: str) -> EdgeView:
        return self.model.edges.setdefault(name, EdgeView(name))

    def _left_out(self, what: str) -> None:
        left_out = self.model.left_out
        left_out[what] = left_out.get(what, 0) + 1

    def _span(self, span: Span) -> None:
        """Draw a span, unless the record that it begins with is not kept."""
        span.records = [place for place in span.records if place >= 0]
        if span.records or span is self._lease or self._room is None:
            self.model.spans.append(span)

    def _mark(self, row: str, at: int, name: str, style: Style, turn: str, place: int) -> None:
        if place < 0:
            return
        self.model.marks.append(Mark(row, at, name, style, turn, [place]))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else 0


def _style(name: str) -> Style:
    if name == "flow_xoff":
        # A producer that waits is what the edge is for; only what it sheds is lost.
        return "think"
    return "good" if name in GOOD else "bad" if name in BAD else "plain"


def build_call(
    records: Iterable[Record],
    *,
    damage: Iterable[Damage] = (),
    sealed: bool | None = None,
    most: int | None = None,
) -> CallModel:
    """Return the model of a call.

    Args:
        records: its evidence records in the order of the recording.
        damage: what is wrong with the recording itself.
        sealed: whether it was closed in order; none when its format does not say.
        most: evidence records that the model keeps at most, as a page does; none keeps all.
    """
    builder = CallBuilder(most)
    for record in records:
        builder.feed(record)
    model = builder.finish()
    model.damage = list(damage)
    model.sealed = sealed
    return model
