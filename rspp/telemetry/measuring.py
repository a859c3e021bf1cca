"""Evidence of one session to metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.telemetry.instruments import METRICS
from rspp.telemetry.vocabulary import (
    CONNECTION_STATES,
    DECISIONS,
    MODALITIES,
    NONE,
    OUTCOMES,
    PHASES,
    POOL_REFUSALS,
    RETRY_DECISIONS,
    VERDICTS,
    reason_of,
    word_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.telemetry.context import SessionContext
    from rspp.telemetry.gauges import Gauges
    from rspp.telemetry.instruments import Instruments
    from rspp.telemetry.vocabulary import BoundedNames

MAX_PENDING = 32
"""Beginnings kept until their end is seen; a turn has few, and one that never ends must not stay."""

ADMISSION = frozenset({"admit", "reject", "defer", "shed"})
CALL_ENDS = frozenset({"ended", "disconnected"})
AUTHORITY = frozenset({"stale_epoch_reject", "deauthorized_drain"})
MIGRATION = frozenset({"migration_start", "migration_finish", "session_handoff", "lease_rotated"})
EDGE_EVENTS = frozenset({"watermark", "flow_xoff", "flow_xon", "credit_grant", "discontinuity"})
STAGES = {"cancel_to_gate_closed": "gate_closed", "cancel_to_queue_cleared": "queue_cleared"}
FIRST_RESULTS = {"stt_final": "stt", "llm_first_word": "llm", "tts_first_audio": "tts"}
RARE = (
    *(
        ("lease_events_total", {"event": "lost", "reason": reason})
        for reason in ("lease_expired", "lease_deauthorized", "lease_stale_epoch")
    ),
    (
        "authority_rejections_total",
        {"outcome": "stale_epoch_reject", "reason": "authority_epoch_mismatch"},
    ),
    ("circuit_events_total", {"event": "circuit_opened"}),
    ("migrations_total", {"event": "migration_start"}),
    ("migrations_total", {"event": "migration_finish"}),
    ("recording_downgrades_total", {"reason": "stage_a_detail_overflow"}),
)
"""Counters with more labels whose first event must not be missed."""


class SessionMeasures:
    """Turns the evidence of one session into metrics; used by one thread.

    Args:
        context: the session.
        instruments: take the samples.
        gauges: take the levels.
        pipelines: bounds the pipeline versions told apart.
        names: bounds the providers and edges told apart.
    """

    def __init__(
        self,
        context: SessionContext,
        instruments: Instruments,
        gauges: Gauges,
        pipelines: BoundedNames,
        names: BoundedNames,
    ) -> None:
        self._context = context
        self._instruments = instruments
        self._gauges = gauges
        self._names = names
        self._tenant = gauges.tenant(context.tenant)
        self._pipeline = pipelines(context.pipeline_version)
        self._since: dict[tuple[str, int], int] = {}
        self._attempted: tuple[object, object] = (None, None)
        self._ended = False
        self._lost: object = "lease_expired"
        self._kinds: dict[str, Callable[[dict[str, Any]], None]] = {
            "signal": self._signal,
            "decision": self._decision,
            "transition": self._transition,
            "marker": self._marker,
            "provider": self._provider,
            "provider_attempt": self._attempt,
            "latency": self._latency,
            "pressure": self._pressure,
            "pool": self._pool,
            "input": self._input,
            "gap": self._gap,
        }
        begin_at_zero(instruments, self._tenant)
        self._count("sessions_total", pipeline=self._pipeline)

    def take(self, record: dict[str, Any]) -> None:
        """Take one record; of an unknown kind there is nothing to measure."""
        handle = self._kinds.get(record.get("kind", ""))
        if handle is not None:
            handle(record)

    # ------------------------------------------------------------------ kernel

    def _signal(self, record: dict[str, Any]) -> None:
        event = record["event"]
        name, reason = event["signal"], event.get("reason")
        if name in ("commit", "abort"):
            self._count("turns_total", pipeline=self._pipeline, outcome=name, reason=reason_of(reason))
            self._since["outcome " + name, turn_number(event)] = record["at_us"]
        elif name == "close":
            self._closed(turn_number(event), record["at_us"])
        elif name == "barge_in":
            self._count("barge_ins_total")
        elif name == "provider_switch":
            self._count("provider_switches_total", reason=reason_of(reason))
        elif name == "circuit_event":
            self._count("circuit_events_total", event=reason_of(reason))
        elif name in MIGRATION:
            self._count("migrations_total", event=name)
        elif name == "recording_level_downgraded":
            self._count("recording_downgrades_total", reason=reason_of(reason))
        elif name == "drop_notice":
            lost = event["seq_range"]
            edge = self._names(event["edge_id"])
            self._count("drops_total", lost["end"] - lost["start"] + 1, edge=edge, reason=reason_of(reason))
        elif name in EDGE_EVENTS:
            self._count("edge_events_total", edge=self._names(event.get("edge_id", NONE)), event=name)
        elif name in CONNECTION_STATES:
            self._ended = name in CALL_ENDS
            self._count("connection_events_total", state=name, reason=reason_of(reason))

    def _closed(self, turn: int, at_us: int) -> None:
        committed = self._since.pop(("outcome commit", turn), None) is not None
        self._since.pop(("outcome abort", turn), None)
        proposed = self._since.pop(("proposed", turn), None)
        if proposed is not None:
            outcome = "commit" if committed else "abort"
            self._measure("turn_duration_ms", at_us - proposed, outcome=outcome)

    def _decision(self, record: dict[str, Any]) -> None:
        decision = record["decision"]
        outcome, reason = decision["outcome_kind"], reason_of(decision.get("reason"))
        known = word_of(outcome, DECISIONS)
        self._count("decisions_total", outcome=known, phase=word_of(decision["phase"], PHASES), reason=reason)
        if outcome in AUTHORITY:
            self._count("authority_rejections_total", outcome=known, reason=reason)
        elif outcome in ADMISSION:
            self._gauges.decided(admitted=outcome == "admit")

    def _transition(self, record: dict[str, Any]) -> None:
        if record["trigger"] == "turn_open_proposed":
            self._begin("proposed", record["turn"], record["at_us"])

    def _marker(self, record: dict[str, Any]) -> None:
        name, turn, at_us = record["name"], record["turn"], record["at_us"]
        match name:
            case "cancel_accepted":
                self._begin("cancel", turn, at_us)
            case "fence_applied":
                accepted = self._since.pop(("cancel", turn), None)
                if accepted is not None:
                    self._measure("cancel_latency_ms", at_us - accepted, stage="fence")
            case "cancel_sent_at":
                self._begin("sent", record["value"], at_us)
            case "cancel_ack_at":
                sent = self._since.pop(("sent", record["value"]), None)
                if sent is not None:
                    self._measure("cancel_latency_ms", at_us - sent, stage="provider_acknowledged")
            case "late_provider_output_dropped_count":
                self._count("late_outputs_dropped_total", record["value"])
            case "output_held" | "output_released":
                self._count("holds_total", event=name.removeprefix("output_"))
            case "utterance_ended" | "utterance_discarded":
                self._count("utterances_total", ending=name.removeprefix("utterance_"))
            case "lease_granted" | "lease_renewed":
                self._count("lease_events_total", event=name.removeprefix("lease_"), reason=NONE)
            case "gate_closed" if not self._ended:
                self._count("lease_events_total", event="lost", reason=reason_of(self._lost))

    def _provider(self, record: dict[str, Any]) -> None:
        # A call that the kernel managed has told its attempts already.
        if self._attempted != (record["at_us"], record["modality"]):
            self._round_trip(record, NONE, record["latency_us"])

    def _attempt(self, record: dict[str, Any]) -> None:
        self._attempted = (record["at_us"], record["modality"])
        provider = self._names(record["provider_id"])
        self._round_trip(record, provider, record["attempt_latency_us"])
        self._count(
            "provider_attempts_total",
            modality=word_of(record["modality"], MODALITIES),
            provider=provider,
            outcome=word_of(record["outcome"], OUTCOMES),
            reason=reason_of(record.get("reason")),
            decision=word_of(record["retry_decision"], RETRY_DECISIONS),
        )

    def _round_trip(self, record: dict[str, Any], provider: str, latency_us: int) -> None:
        self._measure(
            "provider_rtt_ms",
            latency_us,
            modality=word_of(record["modality"], MODALITIES),
            provider=provider,
            outcome=word_of(record["outcome"], OUTCOMES),
        )

    def _input(self, record: dict[str, Any]) -> None:
        match record["name"]:
            case "start" if record["resumed"]:
                self._count("takeovers_total")
            case "frame":
                self._count("frames_refused_total", verdict=word_of(record["verdict"], VERDICTS))
            case "lease_lost":
                self._lost = record.get("reason")

    # ------------------------------------------------------------------ shell

    def _latency(self, record: dict[str, Any]) -> None:
        name, turn, value_us = record["name"], record["turn"], record["value_us"]
        if name in STAGES:
            self._measure("cancel_latency_ms", value_us, stage=STAGES[name])
        elif name in FIRST_RESULTS:
            self._measure("provider_first_result_ms", value_us, modality=FIRST_RESULTS[name])
        elif name == "turn_open_proposed_to_turn_open":
            self._measure("turn_open_latency_ms", value_us)
        elif name == "end_of_speech_to_turn_open":
            self._measure("end_of_turn_latency_ms", value_us)
            self._begin("silence", turn, value_us)
        elif name == "turn_open_to_first_output":
            self._measure("first_output_latency_ms", value_us)
            silence_us = self._since.pop(("silence", turn), None)
            if silence_us is not None:
                self._measure("answer_latency_ms", silence_us + value_us)

    def _pressure(self, record: dict[str, Any]) -> None:
        edge, queued_ms = self._names(record["edge"]), record["queued_ms"]
        self._gauges.queued(self._context, edge, queued_ms)
        self._count("drops_total", 0, edge=edge, reason="queue_pressure_drop")
        self._measure("edge_queued_ms", queued_ms * 1000, edge=edge)

    def _pool(self, record: dict[str, Any]) -> None:
        modality = word_of(record["node"], MODALITIES)
        if record.get("tasks"):
            self._measure("pool_wait_ms", record.get("longest_queue_us", 0), modality=modality)
            self._measure("pool_run_ms", record.get("longest_run_us", 0), modality=modality)
        for why, times in record.get("refused", {}).items():
            self._count("pool_refusals_total", times, modality=modality, reason=word_of(why, POOL_REFUSALS))

    def _gap(self, record: dict[str, Any]) -> None:
        self._count("evidence_gaps_total")
        self._count("evidence_lost_records_total", record["records"])

    # ------------------------------------------------------------------

    def _begin(self, what: str, key: int, value: int) -> None:
        self._since[what, key] = value
        if len(self._since) > MAX_PENDING:
            del self._since[next(iter(self._since))]

    def _count(self, name: str, amount: int = 1, **labels: str) -> None:
        self._instruments.count(name, amount, tenant=self._tenant, **labels)

    def _measure(self, name: str, value_us: int, **labels: str) -> None:
        self._instruments.measure(name, max(0, value_us) / 1000, tenant=self._tenant, **labels)


def begin_at_zero(instruments: Instruments, tenant: str) -> None:
    """Show the counters that alerts watch before they count anything.

    An alert on a rise cannot see a counter that appears with its first event.
    """
    for metric in METRICS:
        if metric.kind == "counter" and metric.labels == ("tenant",):
            instruments.count(metric.name, 0, tenant=tenant)
    for name, labels in RARE:
        instruments.count(name, 0, tenant=tenant, **labels)


def turn_number(event: dict[str, Any]) -> int:
    """Return the number in a ``turn-<epoch>-<number>`` id; 0 when the event has none."""
    number = str(event.get("turn_id", "")).rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else 0
