"""The baseline evidence of a call's turns: its form, whether it is complete, and its file.

Sections 10.3, 10.4 and 10.8 of the contracts. An entry holds what was recorded and nothing else: what is
not in the records stays absent, and the completeness report names the turn and the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rspp import _kernel
from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA_VERSION = "v2"
PROVENANCE_REFS = (
    "routing_view_snapshot",
    "admission_policy_snapshot",
    "abi_compatibility_snapshot",
    "version_resolution_snapshot",
    "policy_resolution_snapshot",
    "provider_health_snapshot",
)
"""The six references of section 10.3."""

PAYLOAD_CLASSES = ("audio_raw", "text_raw", "PII", "PHI", "derived_summary", "metadata")
REDACTION_ACTIONS = ("allow", "mask", "hash", "drop", "tokenize")
MODALITIES = ("stt", "llm", "tts", "external")
MAX_ENTRIES = 100_000
"""Most entries of one artifact."""
_MAX_BYTES = 512 * 1024 * 1024


class RedactionDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with payload of one class."""

    payload_class: str
    action: str


class InvocationOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider invocation of a turn went.

    Attributes:
        provider_invocation_id: its id.
        modality: ``stt``, ``llm``, ``tts`` or ``external``.
        provider_id: provider of the last attempt.
        outcome_class: outcome of the last attempt.
        retryable: whether the last attempt could have been repeated.
        retry_decision: what followed the last attempt.
        attempt_count: attempts made.
        final_attempt_latency_us: duration of the last attempt, microseconds.
        total_invocation_latency_us: from the first attempt's start to the last one's end, microseconds;
            absent when the invocation's end was not recorded.
    """

    provider_invocation_id: str
    modality: str
    provider_id: str
    outcome_class: str
    retryable: bool
    retry_decision: str
    attempt_count: int
    final_attempt_latency_us: int
    total_invocation_latency_us: int | UnsetType = UNSET


class BaselineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The baseline evidence of one accepted turn; times are microseconds of the session's clock.

    Attributes:
        clock: ``real`` when the clock ran by itself, ``virtual`` when it jumped; latencies of the latter
            measure nothing.
        envelope_snapshot: the envelope of the turn's opening, as JSON.
        event_id: of the turn's opening.
        payload_tags: classes of what the turn carried.
        redaction_decisions: what was decided for these classes.
        snapshot_provenance: the six references of the plan.
        plan_matches: whether the recorded hash is that of the plan which the recorded settings give.
        ordering_markers: runtime sequences of the turn's events, in order.
        terminal_events: every ``commit``, ``abort`` and ``close`` of the turn, in order.
        turn_open_at_us: when the shell performed the opening, not only when the kernel decided it.
        cancel_fence_applied_at_us: when the shell had the gate closed.
        invocations_in_flight: provider invocations that ran when a cancel was accepted; with none there is
            nothing to send a cancel to.
        accepted_stale_epoch_output: whether a frame passed the gate under another epoch than the lease's.
        refused_stale_epoch_outputs: frames that the gate refused for their epoch.
    """

    session_id: str
    turn_id: str
    clock: Literal["real", "virtual"]
    pipeline_version: str = ""
    event_id: str = ""
    envelope_snapshot: str = ""
    payload_tags: tuple[str, ...] = ()
    redaction_decisions: tuple[RedactionDecision, ...] = ()
    plan_hash: str = ""
    plan_matches: bool | UnsetType = UNSET
    snapshot_provenance: dict[str, str] = {}
    decision_outcomes: tuple[dict[str, Any], ...] = ()
    invocation_outcomes: tuple[InvocationOutcome, ...] = ()
    determinism_seed: int | UnsetType = UNSET
    ordering_markers: tuple[str, ...] = ()
    merge_rule_id: str = ""
    merge_rule_version: str = ""
    authority_epoch: int | UnsetType = UNSET
    migration_markers: tuple[str, ...] = ()
    terminal_outcome: str = ""
    terminal_reason: str = ""
    terminal_events: tuple[str, ...] = ()
    close_emitted: bool = False
    turn_open_proposed_at_us: int | UnsetType = UNSET
    turn_open_at_us: int | UnsetType = UNSET
    first_output_at_us: int | UnsetType = UNSET
    cancel_accepted_at_us: int | UnsetType = UNSET
    cancel_fence_applied_at_us: int | UnsetType = UNSET
    cancel_sent_at_us: int | UnsetType = UNSET
    cancel_ack_at_us: int | UnsetType = UNSET
    invocations_in_flight: int = 0
    accepted_stale_epoch_output: bool | UnsetType = UNSET
    refused_stale_epoch_outputs: int = 0

    def missing(self) -> list[str]:
        """Return what keeps the entry from being complete (section 10.3), in the order of the table."""
        checks = [
            *((name, bool(getattr(self, name))) for name in _TEXTS),
            ("payload_tags", bool(self.payload_tags) and set(self.payload_tags) <= set(PAYLOAD_CLASSES)),
            ("redaction_decisions", self._redaction_is_whole()),
            ("plan_hash", _is_hash(self.plan_hash) and self.plan_matches is True),
            ("snapshot_provenance", all(self.snapshot_provenance.get(name) for name in PROVENANCE_REFS)),
            ("decision_outcomes", self._decisions_are_valid()),
            ("invocation_outcomes", all(map(_is_whole, self.invocation_outcomes))),
            ("determinism_seed", self.determinism_seed is not UNSET),
            ("ordering_markers", _are_distinct(self.ordering_markers)),
            ("merge_rule", bool(self.merge_rule_id and self.merge_rule_version)),
            ("authority_epoch", self.authority_epoch is not UNSET and self.authority_epoch >= 0),
            ("terminal_outcome", self.terminal_outcome in ("commit", "abort")),
            ("terminal_reason", self.terminal_outcome != "abort" or bool(self.terminal_reason)),
            ("close_emitted", self.close_emitted),
            ("turn_open_proposed_at_us", self.turn_open_proposed_at_us is not UNSET),
            ("turn_open_at_us", self.turn_open_at_us is not UNSET),
            ("accepted_stale_epoch_output", self.accepted_stale_epoch_output is not UNSET),
        ]
        if self.cancel_accepted_at_us is not UNSET:
            checks.append(("cancel_fence_applied_at_us", self.cancel_fence_applied_at_us is not UNSET))
            sent = self.cancel_sent_at_us is not UNSET or not self.invocations_in_flight
            checks.append(("cancel_sent_at_us", sent))
        return [name for name, there in checks if not there]

    def _redaction_is_whole(self) -> bool:
        classes = [decision.payload_class for decision in self.redaction_decisions]
        actions = {decision.action for decision in self.redaction_decisions}
        return (
            _are_distinct(classes)
            and set(classes) <= set(PAYLOAD_CLASSES)
            and set(self.payload_tags) <= set(classes)
            and actions <= set(REDACTION_ACTIONS)
        )

    def _decisions_are_valid(self) -> bool:
        return bool(self.decision_outcomes) and all(
            _kernel.validate_document("decision_outcome", msgspec.json.encode(decision)) is None
            for decision in self.decision_outcomes
        )


_TEXTS = ("session_id", "turn_id", "pipeline_version", "event_id", "envelope_snapshot")


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """The completeness report of section 10.4.

    Attributes:
        total_accepted: accepted turns.
        complete: those of them whose evidence is complete.
        incomplete_turn_ids: the others as ``session/turn``, sorted.
        missing: what each of them lacks.
        ratio: complete by accepted; 0 when none was accepted.
    """

    total_accepted: int
    complete: int
    incomplete_turn_ids: tuple[str, ...]
    missing: dict[str, list[str]]
    ratio: float


class BaselineArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """The file of section 10.8.

    Attributes:
        schema_version: ``v2``: names in snake_case, times in microseconds.
        generated_at_utc: when, RFC 3339.
        exercises: gates that the scenarios behind the entries exercise, so that a gate without a sample
            fails; none in a file means that every gate is exercised.
        scenarios: what was held, for people.
        entries: one for each accepted turn.
    """

    schema_version: str
    generated_at_utc: str
    entries: tuple[BaselineEntry, ...]
    exercises: tuple[str, ...] | UnsetType = UNSET
    scenarios: tuple[dict[str, Any], ...] = ()


def completeness(entries: Sequence[BaselineEntry]) -> Completeness:
    """Say which turns have complete evidence."""
    lacking = {f"{entry.session_id}/{entry.turn_id}": entry.missing() for entry in entries}
    incomplete = {name: fields for name, fields in sorted(lacking.items()) if fields}
    complete = sum(not entry.missing() for entry in entries)
    return Completeness(
        total_accepted=len(entries),
        complete=complete,
        incomplete_turn_ids=tuple(incomplete),
        missing=incomplete,
        ratio=complete / len(entries) if entries else 0.0,
    )


def write_artifact(artifact: BaselineArtifact, path: Path) -> None:
    """Write the artifact in one step: a reader sees the old file or the new one.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.format(msgspec.json.encode(artifact), indent=1) + b"\n")
        part.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"baseline {str(path)!r} cannot be written: {error.strerror or error}",
            hint="name a file in a folder that can be written",
        ) from error


def read_artifact(path: Path) -> BaselineArtifact:
    """Read an artifact.

    Raises:
        ConfigurationError: the file is missing, is no artifact, has another version or no entries.
    """
    hint = "make one with rspp-cli generate-runtime-baseline"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"baseline {str(path)!r} cannot be read: {error.strerror}", hint=hint
        ) from error
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"baseline {str(path)!r}: schema_version is {version!r}, not {SCHEMA_VERSION!r}", hint=hint
            )
        artifact = msgspec.json.decode(content, type=BaselineArtifact)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"baseline {str(path)!r} is no baseline: {error}", hint=hint) from error
    if not artifact.entries or len(artifact.entries) > MAX_ENTRIES:
        raise ConfigurationError(
            f"baseline {str(path)!r} has {len(artifact.entries)} entries, not 1 to {MAX_ENTRIES}", hint=hint
        )
    return artifact


class _Versioned(msgspec.Struct):
    schema_version: str


def _is_hash(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _are_distinct(texts: Sequence[str]) -> bool:
    return bool(texts) and all(texts) and len(set(texts)) == len(texts)


def _is_whole(outcome: InvocationOutcome) -> bool:
    return (
        bool(outcome.provider_invocation_id and outcome.provider_id and outcome.outcome_class)
        and outcome.modality in MODALITIES
        and outcome.attempt_count >= 1
        and outcome.final_attempt_latency_us >= 0
        and outcome.total_invocation_latency_us is not UNSET
        and outcome.total_invocation_latency_us >= outcome.final_attempt_latency_us
    )
