"""Takes the baseline evidence of a call's turns out of its records (section 10.3 of the contracts)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rspp.evidence.baseline import BaselineEntry, InvocationOutcome, RedactionDecision
from rspp.evidence.bound_plan import BoundPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def entries_of(
    records: Iterable[Mapping[str, Any]],
    headers: Sequence[Mapping[str, Any]] = (),
    *,
    clock: Literal["real", "virtual"] = "real",
) -> list[BaselineEntry]:
    """Return the baseline evidence of each accepted turn of a recording, in order.

    Args:
        records: the record dicts of a recording in order, with a header before each stint.
        headers: the whole headers of the stints in order, where the records have short ones.
        clock: what the session's clock was.
    """
    entries: list[BaselineEntry] = []
    stint = _Stint({}, clock)
    whole = iter(headers)
    for record in records:
        if record.get("kind") == "header":
            entries += stint.entries()
            stint = _Stint(next(whole, record), clock)
        else:
            stint.take(record)
    return entries + stint.entries()


class _Invocation:
    """The attempts of one invocation, as they come."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        self.first = self.last = first
        self.attempts = 0
        self.total_us: int | UnsetType = UNSET

    def outcome(self) -> InvocationOutcome:
        last = self.last
        return InvocationOutcome(
            provider_invocation_id=last["provider_invocation_id"],
            modality=last["modality"],
            provider_id=last["provider_id"],
            outcome_class=last["outcome"],
            retryable=last["retryable"],
            retry_decision=last["retry_decision"],
            attempt_count=self.attempts,
            final_attempt_latency_us=last["attempt_latency_us"],
            total_invocation_latency_us=self.total_us,
        )


class _Turn:
    """What is known of one turn while its records come."""

    def __init__(self, opened: Mapping[str, Any], at_us: int, proposed_us: int | UnsetType) -> None:
        self.opened = opened
        self.fields: dict[str, Any] = {}
        if proposed_us is not UNSET:
            self.fields["turn_open_proposed_at_us"] = proposed_us
        self.decided_us = at_us
        self.tags: dict[str, None] = {}
        self.markers: list[str] = []
        self.terminal: list[tuple[str, str]] = []
        self.migration: list[str] = []
        self.stale: bool | UnsetType = UNSET
        self.refused = 0
        self.closed = False
        self.in_flight = 0


_MIGRATION = ("lease_rotated", "migration_start", "migration_finish", "session_handoff")


class _Stint:
    """One kernel's life in a session: turns are numbered anew in the next one."""

    def __init__(self, header: Mapping[str, Any], clock: Literal["real", "virtual"]) -> None:
        self._header = header
        self._bound = BoundPlan(header)
        self._clock = clock
        # Recordings from before content had classes of its own held raw text and sound only.
        self._classes: Mapping[str, str] = header.get("data", {})
        self._turns: dict[int, _Turn] = {}
        self._decisions: dict[int, list[dict[str, Any]]] = {}
        self._frozen: dict[int, tuple[str, int, dict[str, Any]]] = {}
        self._invocations: dict[int, dict[str, _Invocation]] = {}
        self._running: dict[int, int] = {}
        self._early: dict[int, list[str]] = {}
        self._proposed_us: int | UnsetType = UNSET
        self._epoch = -1
        self._frames_recorded = False

    def take(self, record: Mapping[str, Any]) -> None:
        """Take the next record."""
        match record.get("kind"):
            case "signal":
                self._signal(record["event"], record["at_us"])
            case "decision":
                decision = record["decision"]
                number = _number(decision.get("turn_id", ""))
                self._decisions.setdefault(number, []).append(decision)
            case "marker":
                self._marker(record)
            case "input":
                self._input(record)
            case "provider_attempt":
                self._attempt(record)
            case "provider":
                self._invocation_ended(record)
            case "latency":
                self._latency(record)
            case "transcript":
                party = record.get("party", "agent")
                self._tag(record["turn"], self._classes.get(f"{party}_text", "text_raw"))

    def entries(self) -> list[BaselineEntry]:
        """Return the accepted turns in order."""
        return [self._entry(number, turn) for number, turn in sorted(self._turns.items())]

    def _signal(self, event: Mapping[str, Any], at_us: int) -> None:
        name = event["signal"]
        if name == "turn_open_proposed":
            self._proposed_us = at_us
        number = _number(event.get("turn_id", ""))
        marker = f"runtime_sequence/{event['runtime_sequence']:06}"
        if name == "turn_open":
            self._turns[number] = _Turn(event, at_us, self._proposed_us)
            self._turns[number].markers = self._early.pop(number, [])
            self._proposed_us = UNSET
        turn = self._turns.get(number)
        if turn is None:
            if number:
                self._early.setdefault(number, []).append(marker)
            elif name in _MIGRATION:
                for opened in self._turns.values():
                    if not opened.closed:
                        opened.migration.append(name)
            return
        turn.tags[event["payload_class"]] = None
        turn.markers.append(marker)
        if name in ("commit", "abort", "close"):
            turn.terminal.append((name, event.get("reason", "")))
            turn.closed = turn.closed or name == "close"
        if name == "output_accepted":
            turn.tags[self._classes.get("agent_sound", "audio_raw")] = None

    def _marker(self, record: Mapping[str, Any]) -> None:
        name, turn = record["name"], self._turns.get(record["turn"])
        if name == "plan_frozen":
            self._frozen[record["turn"]] = (record["plan_hash"], record["value"], self._bound.policy)
        if turn is None:
            return
        if name == "state_reattached":
            turn.migration.append(name)
        if name == "cancel_accepted":
            turn.fields.setdefault("cancel_accepted_at_us", record["at_us"])
            turn.in_flight = self._running.get(record["turn"], 0)
        if name in ("cancel_sent_at", "cancel_ack_at"):
            turn.fields.setdefault(f"{name}_us", record["at_us"])

    def _input(self, record: Mapping[str, Any]) -> None:
        match record["name"]:
            case "lease":
                self._epoch = record["epoch"]
            case "turn_start":
                self._bound.take(record)
            case "invoke":
                number = record["turn"]
                self._running[number] = self._running.get(number, 0) + 1
            case "frame":
                self._frames_recorded = True
                turn = self._turns.get(record["turn"])
                if turn is not None and record["verdict"] == "stale_epoch":
                    turn.refused += 1
                if turn is not None and record["verdict"] == "pass":
                    stale = (
                        record["epoch"] != self._epoch or record["epoch"] != turn.opened["authority_epoch"]
                    )
                    turn.stale = turn.stale is True or stale

    def _attempt(self, record: Mapping[str, Any]) -> None:
        of_turn = self._invocations.setdefault(record["turn"], {})
        found = of_turn.setdefault(record["provider_invocation_id"], _Invocation(record))
        found.last = record
        found.attempts += 1

    def _invocation_ended(self, record: Mapping[str, Any]) -> None:
        """The outcome of an invocation follows its last attempt at once."""
        number = record["turn"]
        for invocation in self._invocations.get(number, {}).values():
            last = invocation.last
            if (
                invocation.total_us is UNSET
                and last["modality"] == record["modality"]
                and last["outcome"] == record["outcome"]
                and last["at_us"] == record["at_us"]
            ):
                invocation.total_us = record["latency_us"]
                self._running[number] = max(0, self._running.get(number, 0) - 1)
                return

    def _latency(self, record: Mapping[str, Any]) -> None:
        turn = self._turns.get(record["turn"])
        if turn is None:
            return
        fields, value = turn.fields, record["value_us"]
        match record["name"]:
            case "turn_open_proposed_to_turn_open":
                fields["turn_open_at_us"] = turn.decided_us + value
            case "turn_open_to_first_output" if "turn_open_at_us" in fields:
                fields["first_output_at_us"] = fields["turn_open_at_us"] + value
            case "cancel_to_gate_closed" if "cancel_accepted_at_us" in fields:
                fields["cancel_fence_applied_at_us"] = fields["cancel_accepted_at_us"] + value

    def _tag(self, number: int, payload_class: str) -> None:
        turn = self._turns.get(number)
        if turn is not None:
            turn.tags[payload_class] = None

    def _entry(self, number: int, turn: _Turn) -> BaselineEntry:
        opened, fields = turn.opened, dict(turn.fields)
        plan, policy = self._bound.template, self._bound.policy
        if number in self._frozen:
            fields["plan_hash"], fields["determinism_seed"], policy = self._frozen[number]
            if plan:
                fields["plan_matches"] = fields["plan_hash"] == _plan_hash(plan, policy, opened)
        determinism = policy.get("determinism", {})
        ends = [(name, reason) for name, reason in turn.terminal if name != "close"]
        if ends:
            fields["terminal_outcome"], fields["terminal_reason"] = ends[0]
        stale = turn.stale
        if stale is UNSET and self._frames_recorded:
            stale = False
        redaction = {
            str(one["payload_class"]): str(one["action"]) for one in self._header.get("redaction", ())
        }
        return BaselineEntry(
            session_id=opened["session_id"],
            turn_id=opened["turn_id"],
            clock=self._clock,
            pipeline_version=opened["pipeline_version"],
            event_id=opened["event_id"],
            envelope_snapshot=msgspec.json.encode(opened).decode(),
            payload_tags=tuple(turn.tags),
            redaction_decisions=tuple(
                RedactionDecision(payload_class=name, action=redaction[name])
                for name in turn.tags
                if name in redaction
            ),
            snapshot_provenance=policy.get("snapshot_provenance", {}),
            decision_outcomes=tuple(self._decisions.get(number, ())),
            invocation_outcomes=tuple(
                invocation.outcome() for invocation in self._invocations.get(number, {}).values()
            ),
            ordering_markers=tuple(turn.markers),
            merge_rule_id=determinism.get("merge_rule_id", ""),
            merge_rule_version=determinism.get("merge_rule_version", ""),
            authority_epoch=opened["authority_epoch"],
            migration_markers=tuple(turn.migration),
            terminal_events=tuple(name for name, _ in turn.terminal),
            close_emitted=turn.closed,
            invocations_in_flight=turn.in_flight,
            accepted_stale_epoch_output=stale,
            refused_stale_epoch_outputs=turn.refused,
            **fields,
        )


def _plan_hash(plan: Mapping[str, Any], policy: Mapping[str, Any], opened: Mapping[str, Any]) -> str:
    """Hash the plan of a turn as section 5.3 of the contracts asks for."""
    own = {
        "authority_epoch": opened["authority_epoch"],
        "execution_profile": plan["execution_profile"],
        "graph_definition_ref": plan["graph_definition_ref"],
        "pipeline_version": plan["pipeline_version"],
        "turn_id": opened["turn_id"],
    }
    canonical = json.dumps({**policy, **own}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _number(turn_id: str) -> int:
    """Return the turn's number of ``turn-<epoch>-<number>``; 0 for no turn."""
    return int(turn_id.rpartition("-")[2]) if turn_id else 0
