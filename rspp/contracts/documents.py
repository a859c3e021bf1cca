"""The contract documents as types: decode, check, name the first fault (section 0.4 of the contracts).

The same contracts are held by the kernel (``rspp._kernel.validate_document``) and by the JSON Schemas in
``contracts/``; ``rspp.contracts.agreement`` runs all three and compares what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator  # noqa: TC003 - msgspec reads the annotations of this module
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from rspp import _kernel
from rspp.contracts.envelope import ControlSignal, Count, EventRecord, Name, registry
from rspp.contracts.plan_document import EdgeBufferPolicy, ResolvedTurnPlan
from rspp.contracts.reading import Fault, FaultyDocumentError, Json, join, read_document

State = Literal["Idle", "Opening", "Active", "Terminal", "Closed"]
Trigger = Literal[
    "turn_open_proposed",
    "turn_open",
    "reject",
    "defer",
    "stale_epoch_reject",
    "deauthorized_drain",
    "commit",
    "abort",
    "close",
]

_MAPS: dict[str, Any] = {"edge_buffer_policies": EdgeBufferPolicy, "provider_bindings": Name}
_AT = re.compile(r" - at `\$\.?(.*)`$")
_NAMED = re.compile(r"(?:missing required|contains unknown) field `([^`]*)`")
_RULES = (
    ("missing required field", "shape.required"),
    ("contains unknown field", "shape.unknown_field"),
    ("Invalid enum value", "shape.word"),
    ("matching regex", "shape.format"),
    ("`str` of length", "shape.empty_text"),
    ("of length", "shape.count"),
    ("`int` >=", "shape.range"),
    ("`int` <=", "shape.range"),
)


class TurnTransition(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One move of a turn along the table of section 4.2."""

    from_state: State
    trigger: Trigger
    to_state: State
    deterministic: bool

    def check(self) -> Iterator[Fault]:
        """Yield every broken rule beyond the types."""
        leaving = {
            trigger: to for start, trigger, to in _kernel.transition_table() if start == self.from_state
        }
        if not leaving:
            yield Fault("transition.final", "from_state", f"nothing leaves {self.from_state}")
        elif self.trigger not in leaving:
            yield Fault("transition.trigger", "trigger", f"does not leave {self.from_state}")
        elif leaving[self.trigger] != self.to_state:
            yield Fault("transition.target", "to_state", f"{self.trigger} does not lead there")
        if not self.deterministic:
            yield Fault("transition.deterministic", "deterministic", "must be true")


class DecisionOutcome(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One admission or authority outcome (section 3)."""

    outcome_kind: Literal["admit", "reject", "defer", "shed", "stale_epoch_reject", "deauthorized_drain"]
    phase: Literal["pre_turn", "scheduling_point", "active_turn"]
    scope: Literal["tenant", "session", "turn", "edge_enqueue", "edge_dequeue", "node_dispatch"]
    session_id: Name
    turn_id: Name | UnsetType = UNSET
    event_id: Name
    runtime_timestamp_ms: Count
    wall_clock_timestamp_ms: Count
    timestamp_ms: Count | UnsetType = UNSET
    emitted_by: Literal["RK-24", "RK-25", "CP-05"]
    authority_epoch: Count | UnsetType = UNSET
    reason: Name

    def check(self) -> Iterator[Fault]:
        """Yield every broken rule beyond the types: the first step that leaves no legal cell."""
        cells = [cell for cell in _kernel.decision_matrix() if cell[0] == self.outcome_kind]
        for column, field, value, rule in (
            (1, "emitted_by", self.emitted_by, "decision.emitter"),
            (2, "phase", self.phase, "decision.phase"),
            (3, "scope", self.scope, "decision.scope"),
        ):
            cells = [cell for cell in cells if cell[column] == value]
            if not cells:
                yield Fault(rule, field, f"no {self.outcome_kind} with {field} {value}")
                return
        if cells[0][4] and self.turn_id is UNSET:
            yield Fault("decision.turn_id", "turn_id", "a decision about a turn names it")
        if cells[0][5] and self.authority_epoch is UNSET:
            yield Fault("decision.epoch", "authority_epoch", "an authority outcome carries the epoch")
        if self.reason not in registry()[self.outcome_kind].reasons:
            yield Fault("decision.reason", "reason", f"{self.reason!r} is no reason of {self.outcome_kind}")


class ArtifactBundle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One document of every kind; ``event`` may be any envelope."""

    event: dict[str, Any]
    control_signal: dict[str, Any]
    turn_transition: dict[str, Any]
    resolved_turn_plan: dict[str, Any]
    decision_outcome: dict[str, Any]

    def check(self) -> Iterator[Fault]:
        """Yield the first fault of each part."""
        for name in self.__struct_fields__:
            part = getattr(self, name)
            kind = name if name != "event" else _envelope_kind(part)
            fault = _first_fault(kind, part)
            if fault is not None:
                yield fault._replace(field=join(name, fault.field))


KINDS: dict[str, Any] = {
    "event_record": EventRecord,
    "control_signal": ControlSignal,
    "turn_transition": TurnTransition,
    "resolved_turn_plan": ResolvedTurnPlan,
    "decision_outcome": DecisionOutcome,
    "artifact_bundle": ArtifactBundle,
}
"""The type of every kind of document."""


@cache
def limits_bytes() -> dict[str, int]:
    """Return the largest size of every kind of document."""
    return dict(_kernel.document_kinds())


def validate(kind: str, document: bytes) -> Fault | None:
    """Return the first fault of one document, or none.

    Args:
        kind: a key of ``KINDS``.
        document: JSON in UTF-8.
    """
    try:
        value = read_document(document, limits_bytes()[kind])
    except FaultyDocumentError as error:
        return error.fault
    return _first_fault(kind, value)


def decode(kind: str, document: bytes) -> Struct:
    """Return one document as an object of its type.

    Args:
        kind: a key of ``KINDS``.
        document: JSON in UTF-8.

    Raises:
        FaultyDocumentError: the document breaks a rule.
    """
    fault = validate(kind, document)
    if fault is not None:
        raise FaultyDocumentError(fault)
    decoded: Struct = msgspec.json.decode(document, type=KINDS[kind])
    return decoded


def _envelope_kind(part: dict[str, Any]) -> str:
    return "control_signal" if "signal" in part or part.get("lane") == "ControlLane" else "event_record"


def _first_fault(kind: str, value: Json) -> Fault | None:
    try:
        document = msgspec.convert(value, KINDS[kind], strict=True)
    except msgspec.ValidationError as error:
        return _translated(str(error), value)
    return next(document.check(), None)


def _translated(said: str, value: Json) -> Fault:
    """Turn what msgspec says into rule and field."""
    at = _AT.search(said)
    path = at[1] if at else ""
    if "[...]" in path:
        return _in_map(path.partition("[...]")[0], value)
    named = _NAMED.search(said)
    rule = next((rule for words, rule in _RULES if words in said), "shape.type")
    return Fault(rule, join(path, named[1]) if named else path, said.partition(" - at ")[0])


def _in_map(name: str, value: Json) -> Fault:
    """Find the entry of a map that msgspec does not name."""
    entries: dict[str, Json] = value[name] if isinstance(value, dict) else {}
    for key, entry in entries.items():
        try:
            msgspec.convert(entry, _MAPS[name], strict=True)
        except msgspec.ValidationError as error:
            fault = _translated(str(error), entry)
            return fault._replace(
                field=join(join(name, key), fault.field) if fault.field else join(name, key)
            )
    raise AssertionError(f"no entry of {name} is at fault")
