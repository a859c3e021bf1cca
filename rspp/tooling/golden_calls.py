"""The calls behind the golden recordings: for each id of the contracts one call in which it shows.

Every call is held by real components in virtual time; see ``rspp.tooling.fault_call``. A few are held a
second time with one thing changed around them, and the second recording is what the first is compared with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rspp._kernel import Admission
from rspp.contracts.errors import ProviderError
from rspp.pipeline.quotas import FOREVER_US
from rspp.tooling.fault_call import (
    ASK,
    PIPELINE,
    QUESTION,
    SPEAKING,
    FaultCall,
    TakeoverCall,
    fault_after,
)
from rspp.tooling.fault_snapshots import FaultSnapshots, admission, deauthorised, marked_stale
from rspp.tooling.faults import FaultResponder, Step

if TYPE_CHECKING:
    from rspp.contracts.ports import ConnectionState, Responder

Held = FaultCall | TakeoverCall
Make = Callable[[str], Held]
"""Makes the call, not yet held, for a session id."""

HANG_UP: Step = {"do": "hang_up"}
PLAIN = (*ASK, {"do": "pause", "ms": 3_500}, HANG_UP)
INTERRUPTED = (
    *ASK,
    SPEAKING,
    {"do": "say", "text": "stop that and tell me about the garden", "name": "interruption"},
    {"do": "pause", "ms": 1_200},
    HANG_UP,
)
SHORT_ANSWER = "It was built by a captain."
SHORT = {"llm": {"provider": "rules", "rules": [{"hear": QUESTION, "say": SHORT_ANSWER}]}}
QUICK_BUDGET = {"budget": {"first_output_ms": 1_200, "stall_ms": 1_000}}
SLOW_WORDS_MS = 300
"""Between words of a responder that is still at work when the caller interrupts."""


@dataclass(frozen=True)
class GoldenCall:
    """One golden recording.

    Attributes:
        shows: ids of the contracts.
        about: what happens, for the metadata.
        make: makes the call for a session id.
        again: makes the call of the second recording, where there is one.
    """

    shows: tuple[str, ...]
    about: str
    make: Make
    again: Make | None = None


def _plain(session_id: str, earlier_epochs: int = 0) -> FaultCall:
    return FaultCall(PLAIN, SHORT, earlier_epochs=earlier_epochs, session_id=session_id)


def _at_fault(session_id: str, happens: Callable[[FaultCall], None], ms: int = 1_500) -> FaultCall:
    call = FaultCall(fault_after(ms), session_id=session_id)
    call.caller.on_fault(lambda: happens(call))
    return call


def _at_question(session_id: str, happens: Callable[[FaultCall], None], ms: int = 800) -> FaultCall:
    call = FaultCall((*ASK, {"do": "pause", "ms": ms}, HANG_UP), session_id=session_id)
    call.caller.on_step("question", lambda: happens(call))
    return call


def _with(session_id: str, wrap: Callable[[Responder], FaultResponder], spare: int = 0) -> FaultCall:
    return FaultCall(PLAIN, SHORT, responder=wrap, spare=spare, session_id=session_id)


def _interrupted(session_id: str, word_ms: int = SLOW_WORDS_MS) -> FaultCall:
    return FaultCall(
        INTERRUPTED, responder=lambda real: FaultResponder(real, word_ms=word_ms), session_id=session_id
    )


def _rate_limit() -> ProviderError:
    return ProviderError("429", outcome="overload", retryable=True, reason="provider_overload")


def _server_error() -> ProviderError:
    return ProviderError("500", retryable=True, reason="provider_server_error")


# ------------------------------------------------------------------ what happens in them


def _revoke(call: FaultCall) -> None:
    call.store.revoke(call.lease)


def _revoke_at_once(call: FaultCall) -> None:
    call.session._lost("lease_deauthorized")


def _revoke_and_cancel(call: FaultCall) -> None:
    call.session._lost("lease_deauthorized")
    call.session._perform(call.session.kernel.cancel(call.session._step_time(), "stop"))


def _higher_epoch(call: FaultCall) -> None:
    call.session._perform(call.session.kernel.routing_view(call.session._step_time(), call.lease.epoch + 1))


def _stale_output_and_events(call: FaultCall) -> None:
    kernel, now = call.session.kernel, call.clock.now_us()
    for epoch in (0, 7):
        kernel.frame(now, kernel.turn, epoch, 10**6, 480)
    for carrier in (0, 1):
        kernel.ingress(now, carrier)


def _event_without_epoch(call: FaultCall) -> None:
    call.session.kernel.ingress(call.clock.now_us(), None)


def _stop(call: FaultCall) -> None:
    call.session._perform(call.session.kernel.cancel(call.session._step_time(), "stop"))


def _stop_and_come_late(call: FaultCall) -> None:
    kernel = call.session.kernel
    turn = kernel.turn
    _stop(call)
    kernel.frame(call.clock.now_us(), turn, call.lease.epoch, 10**6, 480)


def _stop_twice(call: FaultCall) -> None:
    _stop(call)
    _stop(call)


def _connection(*states: ConnectionState) -> Callable[[FaultCall], None]:
    def happen(call: FaultCall) -> None:
        for state in states:
            if call.transport.sink is not None:
                call.transport.sink.on_connection(state, "")

    return happen


def _vanish(call: FaultCall) -> None:
    if call.transport.sink is not None:
        call.transport.sink.on_connection("disconnected", "caller_vanished")


def _break_for_a_moment(call: FaultCall) -> None:
    _connection("reconnecting")(call)
    asyncio.get_running_loop().call_later(0.6, lambda: _connection("connected")(call))


def _pressed_front_end(
    session_id: str, strategy: str = "drop", sync: dict[str, str] | None = None, *, hangs: bool = True
) -> FaultCall:
    """A call whose front end hangs, so that the edge to it sheds."""
    edge: dict[str, Any] = {
        "from": "turn",
        "to": "presenter",
        "strategy": strategy,
        "max_queue_items": 2,
        "watermarks": {"queue_items": {"high": 2, "low": 1}},
    }
    if sync is not None:
        edge["sync_drop_policy"] = sync
    call = FaultCall(
        (*ASK, SPEAKING, *ASK, {"do": "pause", "ms": 9_000}, HANG_UP),
        {"graph": {"edges": [edge]}},
        session_id=session_id,
    )
    if hangs:
        call.caller.on_step("question", lambda: setattr(call.transport, "front_end_hangs", True))
    return call


def _marked_speech(session_id: str) -> FaultCall:
    edge = {
        "from": "tts",
        "to": "playout",
        "max_queue_ms": 1_000,
        "watermarks": {"queue_items": {"high": 20, "low": 10}},
    }
    return FaultCall(fault_after(6_000), {"graph": {"edges": [edge]}}, session_id=session_id)


def _hanging(session_id: str) -> FaultCall:
    return FaultCall(
        (*ASK, {"do": "pause", "ms": 3_500}, HANG_UP),
        QUICK_BUDGET,
        responder=lambda real: FaultResponder(real, ["hang", "hang"]),
        session_id=session_id,
    )


def _taken_over(session_id: str) -> TakeoverCall:
    return TakeoverCall(
        FaultCall(fault_after(6_000), session_id=session_id),
        FaultCall(
            ({"do": "pause", "ms": 2_500}, *ASK, {"do": "pause", "ms": 1_000}, HANG_UP), session_id=session_id
        ),
    )


def _taken_by_another(point: str) -> Admission:
    """Quotas whose one place at a point another call has."""
    admission = Admission()
    plenty = (10_000, 10_000, 10_000)
    places = {name: (1, 1, 1) if name == point else plenty for name in _POINTS}
    admission.adopt(
        snapshot_ref="admission-policy/golden",
        valid_until_us=FOREVER_US,
        max_deferred=4,
        claim_us=3_000_000,
        turn_start=places["turn_start"],
        edge_enqueue=places["edge_enqueue"],
        edge_dequeue=places["edge_dequeue"],
        node_dispatch=places["node_dispatch"],
    )
    admission.ask(0, point, "DataLane", "another", True)
    return admission


def _two_questions(session_id: str) -> FaultCall:
    another: Step = {"do": "say", "text": "what will the weather be", "name": "another"}
    return FaultCall(
        (*PLAIN[:-1], another, {"do": "pause", "ms": 3_500}, HANG_UP), SHORT, session_id=session_id
    )


def _many_owners(session_id: str) -> FaultCall:
    call = FaultCall(
        fault_after(1_500),
        responder=lambda real: FaultResponder(real, [_rate_limit()]),
        session_id=session_id,
    )
    call.caller.on_fault(lambda: _connection("stall", "silence", "muted")(call))
    return call


def _by_text(session_id: str) -> FaultCall:
    call = FaultCall(
        ({"do": "pause", "ms": 300}, {"do": "pause", "name": "fault", "ms": 3_000}, HANG_UP),
        SHORT,
        session_id=session_id,
    )
    call.caller.on_fault(lambda: _write(call, QUESTION))
    return call


def _write(call: FaultCall, text: str) -> None:
    if call.transport.sink is not None:
        call.transport.sink.on_text(text)


def _stopped_in_flight(session_id: str) -> FaultCall:
    call = FaultCall(
        fault_after(1_200),
        responder=lambda real: FaultResponder(real, word_ms=SLOW_WORDS_MS),
        session_id=session_id,
    )
    call.caller.on_fault(lambda: _stop(call))
    return call


def _overloaded(session_id: str) -> FaultCall:
    admission = _taken_by_another("turn_start")
    call = FaultCall(
        (*ASK, {"do": "pause", "ms": 1_200}, {"do": "pause", "name": "fault", "ms": 2_500}, HANG_UP),
        SHORT,
        session_id=session_id,
        admission=admission,
    )
    call.caller.on_fault(lambda: _give_back(admission))
    return call


def _give_back(admission: Admission) -> None:
    admission.done("turn_start", "DataLane", "another")


def _shed(session_id: str) -> FaultCall:
    return FaultCall(PLAIN, SHORT, session_id=session_id, admission=_taken_by_another("node_dispatch"))


def _stale_then_current(session_id: str) -> FaultCall:
    snapshots = FaultSnapshots(PIPELINE | SHORT)
    call = FaultCall(
        (*ASK, {"do": "pause", "ms": 1_200}, {"do": "pause", "name": "fault", "ms": 3_000}, HANG_UP),
        SHORT,
        session_id=session_id,
        control_plane=snapshots.settings(),
    )
    call.caller.on_step("question", lambda: snapshots.publish(marked_stale))
    call.caller.on_fault(snapshots.publish)
    return call


def _refused_by_the_control_plane(session_id: str) -> FaultCall:
    snapshots = FaultSnapshots(PIPELINE | SHORT)
    again: Step = {"do": "say", "text": QUESTION, "name": "again"}
    wait: Step = {"do": "pause", "ms": 1_500}
    call = FaultCall(
        (*ASK, wait, again, wait, HANG_UP), SHORT, session_id=session_id, control_plane=snapshots.settings()
    )
    call.caller.on_step("question", lambda: snapshots.publish(admission("reject")))
    call.caller.on_step("again", lambda: snapshots.publish(deauthorised))
    return call


def _rotated(session_id: str) -> FaultCall:
    # The notice of what was cut off takes about two seconds, and the caller asks once more after it.
    call = FaultCall(
        (*fault_after(4_500)[:-1], *ASK, {"do": "pause", "ms": 2_500}, HANG_UP), session_id=session_id
    )
    call.caller.on_fault(lambda: _rotate(call))
    return call


def _rotate(call: FaultCall) -> None:
    call.store.rotate(call.session_id)


def _drained(session_id: str) -> FaultCall:
    call = FaultCall(
        (*ASK, SPEAKING, {"do": "pause", "name": "fault", "ms": 15_000}, HANG_UP),
        SHORT,
        session_id=session_id,
    )
    call.caller.on_fault(lambda: _drain_and_write(call))
    return call


def _drain_and_write(call: FaultCall) -> None:
    call.session.drain()
    _write(call, QUESTION)


def _degraded(session_id: str) -> FaultCall:
    declared = {
        "adaptive_actions": ("retry", "degrade", "fallback"),
        "degraded": {"llm": {"provider": "fixed", "say": "I cannot look that up just now."}},
    }
    again: Step = {"do": "say", "text": QUESTION, "name": "again"}
    return FaultCall(
        (*ASK, {"do": "pause", "ms": 6_000}, again, {"do": "pause", "ms": 3_500}, HANG_UP),
        SHORT | declared,
        responder=lambda real: FaultResponder(real, ["hangs"]),
        session_id=session_id,
    )


def _slow_first_word(ms: int) -> Make:
    return lambda session_id: _with(session_id, lambda real: FaultResponder(real, delay_ms=ms))


_POINTS = ("turn_start", "edge_enqueue", "edge_dequeue", "node_dispatch")
_CAPTIONS = {
    "policy": "drop_with_discontinuity",
    "scope": "edge_local",
    "group_by": "sync_id",
    "sync_domain": "captions",
}

CALLS: dict[str, GoldenCall] = {
    "ct-001-valid-documents": GoldenCall(
        ("CT-001",),
        "an answer, and a question that nothing answers to: every document is valid",
        _two_questions,
    ),
    "ct-002-signals-and-owners": GoldenCall(
        ("CT-002",),
        "a provider's bad moment, then a microphone that stalls, is silent and muted: signals of many owners",
        _many_owners,
    ),
    "ct-003-before-the-turn": GoldenCall(
        ("CT-003",),
        "authority is revoked while the caller speaks: what fails before the turn stays before it",
        lambda session_id: _at_question(session_id, _revoke_at_once),
    ),
    "ct-004-another-epoch": GoldenCall(
        ("CT-004",),
        "the session's third lease: the plan is that of its epoch",
        lambda session_id: _plain(session_id, earlier_epochs=2),
    ),
    "ct-005-decision-matrix": GoldenCall(
        ("CT-005",),
        "admission before a turn, and stale output refused within it",
        lambda session_id: _at_fault(session_id, _stale_output_and_events),
    ),
    "ct-006-turn-start": GoldenCall(
        ("CT-006",), "a chat text starts a turn: the snapshots that its plan came from", _by_text
    ),
    "ct-006-stale-then-current": GoldenCall(
        ("CT-006", "M-16"),
        "the control plane's snapshot is stale: the turn is deferred, and opens under the next version",
        _stale_then_current,
    ),
    "ct-006-refused-by-the-control-plane": GoldenCall(
        ("CT-006",),
        "a turn that the control plane does not admit, then one whose right to speak it takes away",
        _refused_by_the_control_plane,
    ),
    "rd-001-smoke": GoldenCall(("RD-001",), "one question and its answer, replayed exactly", _plain),
    "rd-002-recompute-within-tolerance": GoldenCall(
        ("RD-002",),
        "the call held again with a responder 10 ms slower: within the tolerance",
        _slow_first_word(0),
        again=_slow_first_word(10),
    ),
    "rd-003-baseline-completeness": GoldenCall(
        ("RD-003",),
        "an answered turn, then a revoke within the next: both are complete",
        lambda session_id: _at_fault(session_id, _revoke, 2_500),
    ),
    "rd-004-snapshot-provenance-plan": GoldenCall(
        ("RD-004",), "replayed with another routing view in the plan's provenance", _plain
    ),
    "rd-005-invocation-latency": GoldenCall(
        ("RD-005",), "a responder that takes 300 ms for its first word", _slow_first_word(300)
    ),
    "rd-ordering-approved-1": GoldenCall(
        ("RD-001",),
        "two changes of the connection at one moment, which the second run gives in the other order",
        lambda session_id: _at_fault(session_id, _connection("stall", "silence")),
        again=lambda session_id: _at_fault(session_id, _connection("silence", "stall")),
    ),
    "rd-what-if-policy-1": GoldenCall(
        ("M-10",),
        "a caller who is not answered, replayed as if only a surer voice counted as speech: it begins later",
        lambda session_id: _at_question(session_id, _revoke, 1_500),
    ),
    "cf-001-cancel-fence": GoldenCall(("CF-001",), "a barge-in while the answer is made", _interrupted),
    "cf-002-late-output": GoldenCall(
        ("CF-002",),
        "a stop while the agent speaks, and a frame of the turn that comes after it: fenced",
        lambda session_id: _at_fault(session_id, _stop_and_come_late),
    ),
    "cf-003-one-terminal": GoldenCall(
        ("CF-003",),
        "the same turn is stopped twice: one terminal",
        lambda session_id: _at_fault(session_id, _stop_twice),
    ),
    "cf-004-cancel-markers": GoldenCall(
        ("CF-004",), "a stop that reaches provider calls in flight, with all its markers", _stopped_in_flight
    ),
    "ae-001-preturn-stale-epoch": GoldenCall(
        ("AE-001",),
        "the routing view shows a higher epoch while the caller speaks: no turn opens",
        lambda session_id: _at_question(session_id, _higher_epoch),
    ),
    "ae-002-revoke-and-cancel": GoldenCall(
        ("AE-002",),
        "a revoke and a stop at one moment within a turn: the loss wins",
        lambda session_id: _at_fault(session_id, _revoke_and_cancel),
    ),
    "ae-003-old-placement": GoldenCall(
        ("AE-003",),
        "output and events of other epochs are refused, and the turn goes on",
        lambda session_id: _at_fault(session_id, _stale_output_and_events, 2_500),
    ),
    "ae-004-missing-epoch": GoldenCall(
        ("AE-004",),
        "an event without an epoch gets that of the routing view",
        lambda session_id: _at_fault(session_id, _event_without_epoch),
    ),
    "ae-005-preturn-deauthorised": GoldenCall(
        ("AE-005",),
        "the lease is taken back before the turn: deauthorized_drain and no opening",
        lambda session_id: _at_question(session_id, _revoke, 2_500),
    ),
    "ml-001-drop-under-pressure": GoldenCall(
        ("ML-001",), "a front end that hangs loses updates by name", _pressed_front_end
    ),
    "ml-002-losses-in-one-notice": GoldenCall(
        ("ML-002",),
        "losses next to each other are joined into notices that name every one of them",
        lambda session_id: _pressed_front_end(session_id, "latest_only"),
    ),
    "ml-003-replay-absence-classification": GoldenCall(
        ("ML-003",),
        "what a notice explains in the recording is absent without a reason from the second run",
        _pressed_front_end,
        again=lambda session_id: _pressed_front_end(session_id, hangs=False),
    ),
    "ml-004-discontinuity": GoldenCall(
        ("ML-004",),
        "a loss in a synchronised domain resets it with a marker",
        lambda session_id: _pressed_front_end(session_id, sync=_CAPTIONS),
    ),
    "f1-admission-overload": GoldenCall(
        ("F1",),
        "no place for a turn while another call has it: deferred, then admitted once it is given back",
        _overloaded,
    ),
    "f1-admission-shed": GoldenCall(
        ("F1",), "a node finds no place within an open turn: shed, and the turn ends once", _shed
    ),
    "f1-refused-while-draining": GoldenCall(
        ("F1",),
        "the runtime leaves while the agent speaks: a text is refused, and the answer is heard to its end",
        _drained,
    ),
    "f2-node-failure": GoldenCall(("F2",), "a node hangs until the budget is exhausted", _hanging),
    "f2-degraded-language-model": GoldenCall(
        ("F2",),
        "the language model hangs: its declared stand-in answers in that turn, and itself in the next",
        _degraded,
    ),
    "f3-provider-failure": GoldenCall(
        ("F3",),
        "a provider fails twice, its circuit opens, and another takes over",
        lambda session_id: _with(
            session_id, lambda real: FaultResponder(real, [_server_error(), _server_error()]), spare=1
        ),
    ),
    "f3-provider-failure-abort": GoldenCall(
        ("F3",),
        "a provider stays overloaded and no other is left: the turn aborts and the caller is told",
        lambda session_id: _with(
            session_id, lambda real: FaultResponder(real, [_rate_limit(), _rate_limit()])
        ),
    ),
    "f4-edge-pressure": GoldenCall(
        ("F4",), "the speech edge passes its mark, stops its producer and loses nothing", _marked_speech
    ),
    "f5-sync-loss": GoldenCall(
        ("F5",),
        "one stream of a domain loses items: discontinuity, and the call goes on",
        lambda session_id: _pressed_front_end(session_id, sync=_CAPTIONS),
    ),
    "f6-transport-lost": GoldenCall(
        ("F6",),
        "the caller's connection vanishes while the agent speaks",
        lambda session_id: _at_fault(session_id, _vanish),
    ),
    "f6-transport-back": GoldenCall(
        ("F6",),
        "the connection breaks for a moment and comes back: no word is lost",
        lambda session_id: _at_fault(session_id, _break_for_a_moment, 3_000),
    ),
    "f7-authority-conflict": GoldenCall(
        ("F7",),
        "the lease is revoked while the agent speaks",
        lambda session_id: _at_fault(session_id, _revoke, 2_500),
    ),
    "f7-rotated-lease": GoldenCall(
        ("F7",),
        "the epoch rotates in an answer: the caller is told, and the next turn is of the new epoch",
        _rotated,
    ),
    "f8-failover": GoldenCall(
        ("F8",), "the runtime loses its lease store and another takes the call over", _taken_over
    ),
}
"""By fixture id."""
