"""Fixtures of recorded sessions: what only the order across documents can break."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rspp.contracts.fixtures import STREAM, Fixture
from rspp.contracts.samples import Document, changed, control, decision, event, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = {"kind": "header", "session_id": "s-1", "pipeline": "front-desk@v1", "started_wall_ms": 1}


class Recording:
    """Numbers documents as a session would and keeps them as lines."""

    def __init__(self) -> None:
        self.lines: list[Document] = [HEADER]
        self.sequence = 0
        self.epoch = 3

    def record(self, line: Document) -> Recording:
        """Add a line as it is."""
        self.lines.append(line)
        return self

    def numbered(self, document: Document) -> Document:
        """Give a document the next sequence and a new id."""
        self.sequence += 1
        identity: Document = {"event_id": f"evt/s-1/{self.epoch}/{self.sequence:06}"}
        if "runtime_sequence" in document:
            identity["runtime_sequence"] = self.sequence
        if "authority_epoch" in document:
            identity["authority_epoch"] = self.epoch
        return changed(document, **identity)

    def signal(self, name: str, **changes: object) -> Recording:
        """Add a control signal as a runtime records it."""
        scope = str(changes.pop("event_scope", ""))
        document = self.numbered(changed(control(name, within=scope), **changes))
        return self.record({"kind": "signal", "at_us": self.sequence, "event": document})

    def in_turn(self, *names: str) -> Recording:
        """Add control signals of the turn."""
        for name in names:
            self.signal(name, event_scope="turn")
        return self

    def data(self, **changes: object) -> Recording:
        """Add an event of the turn on the DataLane, as a plain document."""
        return self.record(self.numbered(event(**changes)))

    def move(self, start: str, trigger: str, to: str) -> Recording:
        """Add a transition of the turn."""
        return self.record({"kind": "transition", "turn": 1, "from": start, "trigger": trigger, "to": to})

    def text(self) -> bytes:
        """Return the recording as JSON lines."""
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines).encode()


def opened() -> Recording:
    """Return a recording in which the turn is open."""
    recording = Recording().signal("lease_issued").signal("connected").signal("turn_open_proposed")
    recording.record({"kind": "decision", "at_us": 4, "decision": recording.numbered(decision())})
    return recording.signal("admit").in_turn("turn_open")


def fixtures() -> Iterator[Fixture]:
    """Yield every fixture of recorded sessions."""
    yield from _valid()
    yield from _invalid()


def _valid() -> Iterator[Fixture]:
    order = ("stream.sequence", "stream.event_id", "stream.epoch", "stream.record")
    turns = ("stream.turn_open", "stream.terminal", "stream.close", "stream.control_first")
    answered = opened().data().in_turn("output_accepted", "playback_started", "commit", "close")
    yield _kept("answered", answered.in_turn("playback_completed"), *order, *turns, "stream.output_after_end")
    cut = opened().data().in_turn("output_accepted", "playback_started", "barge_in")
    cut.signal("abort", reason="cancelled").in_turn("close", "playback_cancelled").data(
        late_after_cancel=True
    )
    yield _kept("interrupted", cut, "stream.cancel_fence", "stream.cancel_reason", "stream.output_after_end")
    lost = opened().in_turn("barge_in", "deauthorized_drain").signal("abort", reason="authority_loss")
    yield _kept("authority-lost", lost.in_turn("close"), "stream.cancel_reason")
    flow = Recording().signal("flow_xoff").signal("flow_xon").signal("flow_xoff", edge_id="llm-to-tts")
    yield _kept("flow-control", flow, "stream.flow_pairing")
    taken = opened().record(HEADER)
    taken.epoch, taken.sequence = 4, 0
    yield _kept("taken-over", taken.signal("lease_issued"), "stream.sequence", "stream.close")
    paused = opened().record(HEADER)
    paused.epoch = 4
    paused.signal("lease_issued")
    paused.epoch = 3
    paused.in_turn("deauthorized_drain").signal("abort", reason="authority_loss")
    yield _kept("paused-and-drained", paused.in_turn("close", "playback_cancelled"), "stream.epoch")
    moves = Recording().move("Idle", "turn_open_proposed", "Opening").move("Opening", "defer", "Idle")
    yield _kept(
        "deferred-and-proposed-again",
        moves.move("Idle", "turn_open_proposed", "Opening"),
        "stream.transition",
    )
    yield _kept("plan-repeated", Recording().record(plan()).record(plan()), "stream.plan")


def _invalid() -> Iterator[Fixture]:
    back = Recording().signal("connected").signal("muted")
    back.lines[-1]["event"]["runtime_sequence"] = 1
    yield _broken("stream.sequence", "event.runtime_sequence", back, "equal")
    twice = Recording().signal("connected").signal("muted")
    twice.lines[-1]["event"]["event_id"] = twice.lines[-2]["event"]["event_id"]
    yield _broken("stream.event_id", "event.event_id", twice)
    down = Recording().signal("connected")
    down.epoch = 2
    yield _broken("stream.epoch", "event.authority_epoch", down.signal("muted"))
    paused = opened().record(HEADER)
    paused.epoch = 4
    paused.signal("lease_issued")
    paused.epoch = 3
    heard = paused.in_turn("output_accepted")
    yield _broken("stream.epoch", "event.authority_epoch", heard, "paused-and-heard")
    yield _broken(
        "stream.turn_open", "event.turn_id", opened().in_turn("turn_open", "commit", "close"), "twice"
    )
    ended = opened().in_turn("commit", "close").in_turn("turn_open")
    yield _broken("stream.turn_open", "event.turn_id", ended, "after-close")
    yield _broken("stream.terminal", "event.turn_id", Recording().in_turn("abort"), "never-opened")
    both = opened().in_turn("commit").signal("abort", reason="cancelled").in_turn("close")
    yield _broken("stream.terminal", "event.signal", both, "commit-and-abort")
    yield _broken(
        "stream.close", "event.signal", opened().in_turn("close", "commit", "close"), "before-commit"
    )
    between = opened().in_turn("commit", "playback_completed", "close")
    yield _broken("stream.close", "event.signal", between, "not-at-once")
    yield _broken("stream.close", "turn_id", opened(), "never")
    yield _broken("stream.control_first", "event.turn_id", Recording().in_turn("output_accepted"), "output")
    yield _broken("stream.control_first", "turn_id", Recording().data(), "data")
    late = opened().in_turn("commit", "close").data()
    yield _broken("stream.output_after_end", "turn_id", late)
    for name, changes in (("barge_in", {}), ("stop", {}), ("cancel", {"scope": "turn"})):
        for output in ("output_accepted", "playback_started"):
            leaked = opened().signal(name, event_scope="turn", **changes).in_turn(output)
            leaked.signal("abort", reason="cancelled").in_turn("close")
            yield _broken("stream.cancel_fence", "event.signal", leaked, f"{name}-{output}")
    won = opened().in_turn("barge_in", "commit", "close")
    yield _broken("stream.cancel_reason", "event.signal", won, "commit-after-cancel")
    wrong = opened().in_turn("deauthorized_drain").signal("abort", reason="cancelled").in_turn("close")
    yield _broken("stream.cancel_reason", "event.reason", wrong, "revoked-but-cancelled")
    yield _broken("stream.flow_pairing", "event.signal", Recording().signal("flow_xon"), "xon-first")
    stopped = Recording().signal("flow_xoff").signal("flow_xoff")
    yield _broken("stream.flow_pairing", "event.signal", stopped, "xoff-twice")
    skipped = Recording().move("Idle", "turn_open_proposed", "Opening").move("Active", "commit", "Terminal")
    yield _broken("stream.transition", "from", skipped)
    swapped = Recording().record(plan()).record(plan(plan_hash="ab" * 32))
    yield _broken("stream.plan", "plan_hash", swapped)
    yield _broken("stream.record", "event", Recording().record({"kind": "signal"}), "signal-without-event")


def _kept(name: str, recording: Recording, *shows: str) -> Fixture:
    return Fixture(STREAM, name, recording.text(), shows=shows)


def _broken(rule: str, field: str, recording: Recording, detail: str = "once") -> Fixture:
    return Fixture(STREAM, f"{rule}--{detail}", recording.text(), rule, field)
