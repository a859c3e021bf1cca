"""Evidence of one session to the few log events that telemetry exports (appendix B of the contracts).

They carry words of closed lists, numbers and ids, never text. Ordinary events are debug logs, of which
the first is kept and then every Nth; what went wrong is always kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from rspp.telemetry.measuring import turn_number
from rspp.telemetry.spans import SCOPE
from rspp.telemetry.vocabulary import (
    DECISIONS,
    EMITTERS,
    LANES,
    MODALITIES,
    OUTCOMES,
    PHASES,
    RETRY_DECISIONS,
    name_of,
    reason_of,
    word_of,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from rspp.telemetry.context import SessionContext

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Sampler:
    """Keeps the first debug log of each kind, then every Nth; for one thread.

    Args:
        every: N, 1 keeps all.

    Attributes:
        dropped: debug logs left out.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._seen: dict[str, int] = {}
        self.dropped = 0

    def keep(self, name: str) -> bool:
        """Whether this debug log is kept; ``name`` is one of the few event names."""
        seen = self._seen.get(name, 0)
        self._seen[name] = seen + 1
        if seen % self._every == 0:
            return True
        self.dropped += 1
        return False


class SessionLogs:
    """Turns the evidence of one session into log events.

    Args:
        context: the session.
        resource: the process.
        sampler: shared by all sessions of the process.
    """

    def __init__(self, context: SessionContext, resource: Resource, sampler: Sampler) -> None:
        self._context = context
        self._resource = resource
        self._sampler = sampler

    def take(self, record: dict[str, Any]) -> ReadableLogRecord | None:
        """Take one record and return its log event, if it has one and sampling keeps it."""
        match record.get("kind"):
            case "decision":
                return self._decision(record)
            case "signal" if record["event"]["signal"] == "turn_open":
                return self._log(record, "turn_active_result", record["event"], {"rspp.outcome": "active"})
            case "provider_attempt":
                return self._attempt(record)
            case "marker" if record["name"] == "fence_applied":
                return self._log(record, "output_fence_decision", record, {"rspp.outcome": "fenced"})
        return None

    def _decision(self, record: dict[str, Any]) -> ReadableLogRecord | None:
        decision = record["decision"]
        outcome = word_of(decision["outcome_kind"], DECISIONS)
        told = {
            "rspp.outcome": outcome,
            "rspp.phase": word_of(decision["phase"], PHASES),
            "rspp.reason": reason_of(decision.get("reason")),
        }
        name = "scheduling_shed" if outcome == "shed" else "turn_open_result"
        return self._log(record, name, decision, told, warns=outcome != "admit")

    def _attempt(self, record: dict[str, Any]) -> ReadableLogRecord | None:
        outcome = word_of(record["outcome"], OUTCOMES)
        told = {
            "rspp.provider_invocation_id": str(record["provider_invocation_id"]),
            "rspp.modality": word_of(record["modality"], MODALITIES),
            "rspp.provider": name_of(record["provider_id"]),
            "rspp.attempt": record["attempt"],
            "rspp.outcome": outcome,
            "rspp.reason": reason_of(record.get("reason")),
            "rspp.retry_decision": word_of(record["retry_decision"], RETRY_DECISIONS),
            "rspp.attempt_latency_us": record["attempt_latency_us"],
        }
        if outcome == "cancelled":
            return self._log(record, "provider_invocation_cancelled", record, told)
        return self._log(record, "provider_invocation_attempt", record, told, warns=outcome != "success")

    def _log(
        self,
        record: dict[str, Any],
        name: str,
        event: dict[str, Any],
        told: dict[str, Any],
        *,
        warns: bool = False,
    ) -> ReadableLogRecord | None:
        if not warns and not self._sampler.keep(name):
            return None
        at_us = record["at_us"]
        number = turn_number(event) or record.get("turn", 0)
        epoch = event.get("authority_epoch", self._context.epoch)
        turn_id = str(event.get("turn_id") or (f"turn-{epoch}-{number}" if number else ""))
        at_ns = self._context.wall_ns(at_us)
        attributes = {
            "rspp.tenant": self._context.tenant,
            "rspp.session_id": self._context.session_id,
            "rspp.turn_id": turn_id,
            "rspp.event_id": str(event.get("event_id", "")),
            "rspp.pipeline_version": self._context.pipeline_version,
            "rspp.authority_epoch": epoch,
            "rspp.lane": word_of(event.get("lane", "ControlLane"), LANES),
            "rspp.emitted_by": word_of(
                event.get("emitted_by", "RK-11" if "modality" in record else "RK-16"), EMITTERS
            ),
            "rspp.runtime_timestamp_ms": at_us // 1000,
            "rspp.wall_clock_timestamp_ms": at_ns // 1_000_000,
        } | told
        log_record = LogRecord(
            timestamp=at_ns,
            observed_timestamp=at_ns,
            context=self._place(turn_id),
            severity_number=SeverityNumber.WARN if warns else SeverityNumber.DEBUG,
            severity_text="WARN" if warns else "DEBUG",
            body=name,
            attributes=attributes,
            event_name=name,
        )
        return ReadableLogRecord(log_record, self._resource, SCOPE)

    def _place(self, turn_id: str) -> Context:
        if not turn_id:
            return Context()
        span = SpanContext(
            self._context.trace_id(turn_id),
            self._context.span_id(turn_id),
            is_remote=False,
            trace_flags=_SAMPLED,
        )
        return set_span_in_context(NonRecordingSpan(span), Context())
