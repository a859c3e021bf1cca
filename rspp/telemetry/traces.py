"""Evidence of one session to the span tree of each turn.

``turn_span`` > ``node_span`` > ``provider_invocation_span``. Times are those of the evidence, ids depend on
tenant, session and turn only: the same evidence gives the same spans, whenever and wherever it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.telemetry.measuring import turn_number
from rspp.telemetry.spans import Draft, span_of
from rspp.telemetry.vocabulary import (
    EMITTERS,
    LANES,
    MODALITIES,
    OUTCOMES,
    RETRY_DECISIONS,
    SIGNALS,
    STATES,
    TRIGGERS,
    name_of,
    reason_of,
    word_of,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from rspp.telemetry.context import SessionContext

LINGER_US = 1_000_000
"""A turn's spans are made this long after its close: cancelled providers report a little later."""
MAX_OPEN_TURNS = 4
MAX_INVOCATIONS = 256
"""Most provider invocations of one turn that get spans; a long answer has one for each sentence."""
MAX_EVENTS = 64
SPAN_EVENTS = frozenset(
    {"output_held", "output_released", "cancel_accepted", "fence_applied", "first_output"}
)
OWNERS = {"stt": "RK-11", "llm": "RK-11", "tts": "RK-11", "playout": "RK-22"}


class _Turn:
    """What is known of one turn so far."""

    def __init__(self, number: int, turn_id: str, at_us: int) -> None:
        self.number = number
        self.turn_id = turn_id
        self.span = Draft("turn_span", at_us, {})
        self.nodes: dict[str, Draft] = {}
        self.invocations: dict[str, tuple[str, Draft]] = {}
        self.closed_us: int | None = None
        self.envelope: dict[str, Any] = {}


class SessionTraces:
    """Collects the evidence of one session and returns the spans of the turns that are over.

    Args:
        context: the session.
        resource: the process.
    """

    def __init__(self, context: SessionContext, resource: Resource) -> None:
        self._context = context
        self._resource = resource
        self._turns: dict[int, _Turn] = {}
        self._utterance: Draft | None = None
        self._heard: list[Draft] = []
        self._idle_us: dict[int, int] = {}

    def take(self, record: dict[str, Any]) -> list[ReadableSpan]:
        """Take one record and return the spans that are complete now."""
        kind = record.get("kind")
        match kind:
            case "transition":
                self._transition(record)
            case "signal":
                self._signal(record)
            case "decision":
                self._identify(record["decision"])
            case "marker":
                self._marker(record)
            case "provider_attempt":
                self._attempt(record)
            case "provider":
                self._provider(record)
            case "input" if record["name"] == "attempt_finished" and "idle_us" in record:
                self._idle_us = {record["invocation"]: record["idle_us"]}
        return self._over(record.get("at_us", 0))

    def finish(self) -> list[ReadableSpan]:
        """Return the spans of what is left when the session has ended."""
        turns, self._turns = list(self._turns.values()), {}
        return [span for turn in turns for span in self._spans(turn)]

    # ------------------------------------------------------------------ the turn

    def _transition(self, record: dict[str, Any]) -> None:
        number, at_us = record["turn"], record["at_us"]
        turn = self._turns.get(number)
        if turn is None and record["trigger"] == "turn_open_proposed":
            turn = _Turn(number, f"turn-{self._context.epoch}-{number}", at_us)
            if len(self._turns) >= MAX_OPEN_TURNS:
                del self._turns[next(iter(self._turns))]
            self._turns[number] = turn
            self._bind_utterance(turn)
        if turn is not None:
            turn.span.event(
                at_us,
                "turn_transition",
                {
                    "rspp.trigger": word_of(record["trigger"], TRIGGERS),
                    "rspp.state": word_of(record["to"], STATES),
                },
            )
            if record["to"] == "Closed" or (record["to"] == "Idle" and record["from"] == "Opening"):
                self._close(turn, at_us)

    def _close(self, turn: _Turn, at_us: int) -> None:
        turn.closed_us = turn.span.end_us = at_us
        playout = turn.nodes.get("playout")
        if playout is not None:
            playout.end_us = max(playout.start_us, at_us)

    def _identify(self, event: dict[str, Any]) -> _Turn | None:
        turn = self._turns.get(turn_number(event))
        if turn is not None:
            turn.turn_id = str(event["turn_id"])
        return turn

    def _signal(self, record: dict[str, Any]) -> None:
        event = record["event"]
        turn = self._identify(event)
        if turn is None:
            return
        name, reason = word_of(event["signal"], SIGNALS), reason_of(event.get("reason"))
        if name in ("commit", "abort"):
            turn.span.attributes |= {"rspp.turn.outcome": name, "rspp.turn.reason": reason}
            if name == "abort" and reason != "cancelled":
                turn.span.failure = reason
        if name == "turn_open" or not turn.envelope:
            turn.envelope = event
        turn.span.event(record["at_us"], name, {"rspp.event_id": event["event_id"], "rspp.reason": reason})
        if name in ("playback_completed", "playback_cancelled") and "playout" in turn.nodes:
            playout = turn.nodes["playout"]
            playout.end_us = max(playout.start_us, record["at_us"])
            playout.attributes["rspp.playback"] = name.removeprefix("playback_")

    def _marker(self, record: dict[str, Any]) -> None:
        name, at_us = record["name"], record["at_us"]
        turn = self._turns.get(record["turn"])
        match name:
            case "utterance_started":
                self._utterance, self._heard = Draft("node_span", at_us, {"rspp.node": "stt"}), []
            case "utterance_ended" if self._utterance is not None:
                self._utterance.end_us = at_us
            case "utterance_discarded":
                self._utterance, self._heard = None, []
            case "plan_frozen" if turn is not None:
                turn.span.attributes["rspp.plan_hash"] = str(record.get("plan_hash", ""))
            case "frames_passed" if turn is not None and "playout" in turn.nodes:
                turn.nodes["playout"].attributes["rspp.samples"] = record["value"]
        if turn is not None and name in SPAN_EVENTS:
            if name == "first_output":
                turn.nodes["playout"] = Draft("node_span", at_us, {"rspp.node": "playout"})
            turn.span.event(at_us, name, {})

    def _bind_utterance(self, turn: _Turn) -> None:
        """The utterance that has just ended is what the turn answers."""
        utterance, heard = self._utterance, self._heard
        if utterance is None or utterance.end_us < 0:
            return
        self._utterance, self._heard = None, []
        turn.nodes["stt"] = utterance
        for number, draft in enumerate(heard, 1):
            turn.invocations[f"stt/{number}"] = ("stt", draft)

    # ------------------------------------------------------------------ its providers

    def _attempt(self, record: dict[str, Any]) -> None:
        turn = self._turns.get(record["turn"])
        if turn is None:
            return
        key, at_us = str(record["provider_invocation_id"]), record["at_us"]
        waited = self._idle_us.pop(int(key.rpartition("/")[2] or 0), 0)
        start_us = at_us - record["attempt_latency_us"] - waited
        outcome, reason = word_of(record["outcome"], OUTCOMES), reason_of(record.get("reason"))
        draft = self._invocation(turn, key, word_of(record["modality"], MODALITIES), start_us, at_us)
        if draft is None:
            return
        provider = name_of(record["provider_id"])
        draft.attributes |= {
            "rspp.provider": provider,
            "rspp.attempts": draft.attributes.get("rspp.attempts", 0) + 1,
        }
        self._ended(draft, outcome, reason, record["attempt_latency_us"])
        told = {
            "rspp.provider": provider,
            "rspp.attempt": record["attempt"],
            "rspp.outcome": outcome,
            "rspp.reason": reason,
            "rspp.retryable": record["retryable"],
            "rspp.retry_decision": word_of(record["retry_decision"], RETRY_DECISIONS),
            "rspp.attempt_latency_us": record["attempt_latency_us"],
            "rspp.attempt_waiting_us": waited,
        }
        draft.event(at_us, "provider_attempt", told)

    def _provider(self, record: dict[str, Any]) -> None:
        modality, at_us = word_of(record["modality"], MODALITIES), record["at_us"]
        outcome, latency_us = word_of(record["outcome"], OUTCOMES), record["latency_us"]
        if modality == "stt":
            draft = Draft("provider_invocation_span", at_us - latency_us, {"rspp.modality": modality}, at_us)
            self._ended(draft, outcome, "none", latency_us)
            if len(self._heard) < MAX_EVENTS:
                self._heard.append(draft)
            return
        turn = self._turns.get(record["turn"])
        if turn is None:
            return
        managed = any(
            of == modality and draft.end_us == at_us and "rspp.attempts" in draft.attributes
            for of, draft in turn.invocations.values()
        )
        if not managed:
            key = f"{modality}/{len(turn.invocations) + 1}"
            made = self._invocation(turn, key, modality, at_us - latency_us, at_us)
            if made is not None:
                self._ended(made, outcome, "none", latency_us)

    def _invocation(self, turn: _Turn, key: str, modality: str, start_us: int, end_us: int) -> Draft | None:
        node = turn.nodes.setdefault(modality, Draft("node_span", start_us, {"rspp.node": modality}))
        node.start_us, node.end_us = min(node.start_us, start_us), max(node.end_us, end_us)
        if key in turn.invocations:
            draft = turn.invocations[key][1]
            draft.start_us, draft.end_us = min(draft.start_us, start_us), end_us
            return draft
        if len(turn.invocations) >= MAX_INVOCATIONS:
            node.attributes["rspp.invocations_left_out"] = (
                node.attributes.get("rspp.invocations_left_out", 0) + 1
            )
            return None
        draft = Draft("provider_invocation_span", start_us, {"rspp.modality": modality}, end_us)
        turn.invocations[key] = (modality, draft)
        return draft

    def _ended(self, draft: Draft, outcome: str, reason: str, latency_us: int) -> None:
        draft.attributes |= {"rspp.outcome": outcome, "rspp.reason": reason, "rspp.execution_us": latency_us}
        draft.failure = "" if outcome in ("success", "cancelled") else reason

    # ------------------------------------------------------------------ spans

    def _over(self, now_us: int) -> list[ReadableSpan]:
        over = [
            turn
            for turn in self._turns.values()
            if turn.closed_us is not None and turn.closed_us + LINGER_US <= now_us
        ]
        for turn in over:
            del self._turns[turn.number]
        return [span for turn in over for span in self._spans(turn)]

    def _spans(self, turn: _Turn) -> list[ReadableSpan]:
        common = self._common(turn)
        spans = [span_of(self._context, self._resource, turn.turn_id, (), turn.span, common)]
        for node, draft in turn.nodes.items():
            told = common | {"rspp.emitted_by": OWNERS.get(node, "RK-08"), "rspp.lane": "DataLane"}
            spans.append(span_of(self._context, self._resource, turn.turn_id, (node,), draft, told))
        for key, (node, draft) in turn.invocations.items():
            told = common | {
                "rspp.emitted_by": "RK-11",
                "rspp.lane": "DataLane",
                "rspp.provider_invocation_id": key,
            }
            spans.append(span_of(self._context, self._resource, turn.turn_id, (node, key), draft, told))
        return spans

    def _common(self, turn: _Turn) -> dict[str, Any]:
        """The correlation attributes of appendix B."""
        event = turn.envelope
        return {
            "rspp.tenant": self._context.tenant,
            "rspp.session_id": self._context.session_id,
            "rspp.turn_id": turn.turn_id,
            "rspp.event_id": str(event.get("event_id", "")),
            "rspp.pipeline_version": self._context.pipeline_version,
            "rspp.authority_epoch": int(event.get("authority_epoch", self._context.epoch)),
            "rspp.lane": word_of(event.get("lane", "ControlLane"), LANES),
            "rspp.emitted_by": word_of(event.get("emitted_by", "RK-03"), EMITTERS),
        }
