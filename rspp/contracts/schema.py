"""The JSON Schemas (draft 2020-12) of the contract documents, generated from the kernel's own tables.

``python -m rspp.contracts.schema --write`` brings ``contracts/<kind>.schema.json`` and
``contracts/rules.json`` up to date; without the flag it names the files that differ. The structure comes
from the kernel's field tables, the conditions from its signal registry, reason vocabularies, transition
table and decision matrix, so no schema can disagree with a table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rspp import _kernel

FOLDER = Path(__file__).parents[2] / "contracts"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MINOR_VERSIONS = r"^v(0*1\.0*[1-9]|0*([2-9]|[1-9][0-9])[0-9]*\.)"
"""Versions from v1.1 on, as a pattern."""

Schema = dict[str, Any]

ABSENT: Schema = {"not": {}}
"""No value fits. The plain ``false`` says the same, but some validators then do not name the field."""

_TITLES = {
    "event_record": "One event on the DataLane or the TelemetryLane",
    "control_signal": "One control signal",
    "turn_transition": "One move of a turn",
    "resolved_turn_plan": "Everything that is fixed for one turn",
    "decision_outcome": "One admission or authority outcome",
    "artifact_bundle": "One document of every kind",
}


def schema(kind: str) -> Schema:
    """Return the schema of one kind of document."""
    body = _bundle() if kind == "artifact_bundle" else _schema(kind)
    return {"$schema": DIALECT, "title": _TITLES[kind], **body}


def rules() -> list[dict[str, Any]]:
    """Return every rule of the contracts: id, source, whether JSON Schema can say it, text."""
    names = ("id", "source", "in_schema", "text")
    return [dict(zip(names, row, strict=True)) for row in _kernel.contract_rules()]


def texts() -> dict[str, str]:
    """Return the text of every generated file by its name."""
    files = {f"{kind}.schema.json": schema(kind) for kind in _TITLES}
    return {name: _text(content) for name, content in (files | {"rules.json": {"rules": rules()}}).items()}


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of the files that differ from what is generated."""
    return [
        name
        for name, text in texts().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _schema(kind: str) -> Schema:
    body: Schema = json.loads(_kernel.document_structure(kind))
    match kind:
        case "event_record":
            body["allOf"] = [*_event_rules(body), *_envelope_rules(body)]
        case "control_signal":
            body["allOf"] = [*_control_rules(), *_envelope_rules(body)]
        case "turn_transition":
            body["allOf"] = _transition_rules()
        case "decision_outcome":
            body["allOf"] = _decision_rules()
        case _:
            _plan_rules(body)
    return body


def _bundle() -> Schema:
    body: Schema = json.loads(_kernel.document_structure("artifact_bundle"))
    parts = [kind for kind in _TITLES if kind != "artifact_bundle"]
    for kind in parts:
        if kind in body["properties"]:
            body["properties"][kind] = {"$ref": f"#/$defs/{kind}"}
    body["properties"]["event"] = {
        "$comment": "any envelope: a control signal if it carries a signal or is on the ControlLane",
        "if": {"anyOf": [{"required": ["signal"]}, _is(lane="ControlLane")]},
        "then": {"$ref": "#/$defs/control_signal"},
        "else": {"$ref": "#/$defs/event_record"},
    }
    body["$defs"] = {kind: _schema(kind) for kind in parts}
    return body


def _is(**values: object) -> Schema:
    """Return the condition that these fields are present and hold these values."""
    return {
        "properties": {name: {"const": value} for name, value in values.items()},
        "required": list(values),
    }


def _when(rule: str, condition: Schema, consequence: Schema) -> Schema:
    return {"$comment": rule, "if": condition, "then": consequence}


def _must(rule: str, **fields: object) -> Schema:
    return ({"$comment": rule} if rule else {}) | {"properties": fields}


def _event_rules(body: Schema) -> list[Schema]:
    body["properties"]["signal"] = {"$comment": "event.no_signal"} | ABSENT
    return [_must("event.lane", lane={"not": {"const": "ControlLane"}})]


def _control_rules() -> list[Schema]:
    reasons = dict(_kernel.signal_reasons())
    clauses = [
        _must("control.lane", lane={"const": "ControlLane"}),
        _must("control.payload", payload_class={"const": "metadata"}),
    ]
    for signal, emitters, scope, required in _kernel.signal_registry():
        row: Schema = {"emitted_by": {"enum": list(emitters)}}
        if scope != "either":
            row["event_scope"] = {"const": scope}
        row["reason"] = {"enum": list(reasons[signal])} if reasons[signal] else ABSENT
        consequence: Schema = {"properties": row}
        if needed := [field for field in required if field != "turn_id"]:
            consequence["required"] = needed
        comment = "control.emitter, control.event_scope, control.required, control.reason"
        clauses.append(_when(comment, _is(signal=signal), consequence))
    return clauses


def _envelope_rules(body: Schema) -> list[Schema]:
    fields = body["properties"]
    fields["media_time"] |= {
        "$comment": "envelope.media_time_one",
        "oneOf": [{"required": ["sample_index"]}, {"required": ["pts_ms"]}],
    }
    turn = _is(event_scope="turn")
    newer = {"properties": {"schema_version": {"pattern": MINOR_VERSIONS}}}
    minor = dict.fromkeys(("tenant_id", "trace_id", "payload_ref"), ABSENT)
    return [
        _when("envelope.late_scope", _is(late_after_cancel=True), _must("", event_scope={"const": "turn"})),
        _when("envelope.turn_id, envelope.turn_epoch", turn, {"required": ["turn_id", "authority_epoch"]}),
        _when("envelope.media_time", _is(payload_class="audio_raw"), {"required": ["media_time"]}),
        _when(
            "envelope.merge_group",
            {"required": ["merged_from_event_ids"]},
            {"required": ["merge_group_id"]},
        ),
        _when("envelope.sync_domain", {"required": ["discontinuity_id"]}, {"required": ["sync_domain"]}),
        {"$comment": "envelope.minor_version", "if": newer, "else": {"properties": minor}},
    ]


def _transition_rules() -> list[Schema]:
    table = _kernel.transition_table()
    leaving: dict[str, dict[str, str]] = {}
    for start, trigger, to in table:
        leaving.setdefault(start, {})[trigger] = to
    clauses = [
        _must("transition.final", from_state={"enum": list(leaving)}),
        _must("transition.deterministic", deterministic={"const": True}),
    ]
    for start, triggers in leaving.items():
        allowed = _must("", trigger={"enum": list(triggers)})
        clauses.append(_when("transition.trigger", _is(from_state=start), allowed))
    for start, trigger, to in table:
        condition = _is(from_state=start, trigger=trigger)
        clauses.append(_when("transition.target", condition, _must("", to_state={"const": to})))
    return clauses


def _decision_rules() -> list[Schema]:
    cells = _kernel.decision_matrix()
    reasons = dict(_kernel.signal_reasons())
    columns = ("outcome_kind", "emitted_by", "phase", "scope")
    clauses: list[Schema] = []
    for depth, rule in ((1, "decision.emitter"), (2, "decision.phase"), (3, "decision.scope")):
        allowed: dict[tuple[str, ...], list[str]] = {}
        for *names, _, _ in cells:
            words = allowed.setdefault(tuple(names[:depth]), [])
            if names[depth] not in words:
                words.append(names[depth])
        for prefix, words in allowed.items():
            condition = _is(**dict(zip(columns, prefix, strict=False)))
            clauses.append(_when(rule, condition, _must("", **{columns[depth]: {"enum": words}})))
    for column, rule, field in ((4, "decision.turn_id", "turn_id"), (5, "decision.epoch", "authority_epoch")):
        for cell in cells:
            if cell[column]:
                condition = _is(**dict(zip(columns, cell[:4], strict=True)))
                clauses.append(_when(rule, condition, {"required": [field]}))
    for outcome in dict.fromkeys(cell[0] for cell in cells):
        words = list(reasons[outcome])
        clauses.append(_when("decision.reason", _is(outcome_kind=outcome), _must("", reason={"enum": words})))
    return clauses


def _plan_rules(body: Schema) -> None:
    edge = body["properties"]["edge_buffer_policies"]["additionalProperties"]
    edge["properties"]["watermarks"] |= {"$comment": "plan.watermarks", "minProperties": 1}
    edge["properties"]["lane_handling"]["properties"]["ControlLane"] |= {
        "$comment": "plan.control_handling",
        "const": "non_blocking_priority",
    }
    data_blocks = {"properties": {"lane_handling": _is(DataLane="block")}, "required": ["lane_handling"]}
    edge["allOf"] = [
        _when(
            "plan.block_time",
            {"anyOf": [_is(strategy="block"), data_blocks]},
            {"required": ["max_block_time_ms"]},
        )
    ]
    grouped = {"properties": {"policy": {"enum": ["atomic_drop", "drop_with_discontinuity"]}}}
    edge["properties"]["sync_drop_policy"]["allOf"] = [
        _when("plan.group_by", grouped | {"required": ["policy"]}, {"required": ["group_by"]}),
        _when("plan.sync_domain", _is(policy="drop_with_discontinuity"), {"required": ["sync_domain"]}),
    ]
    flow = body["properties"]["flow_control"]["properties"]
    flow["shedding_strategy_by_lane"]["properties"]["ControlLane"] |= {
        "$comment": "plan.control_shedding",
        "const": "none",
    }


def main(arguments: list[str]) -> int:
    """Write the generated files, or name those that differ; return the exit status."""
    if arguments == ["--write"]:
        for name, text in texts().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    if arguments:
        print("usage: python -m rspp.contracts.schema [--write]", file=sys.stderr)
        return 2
    differing = stale()
    for name in differing:
        print(f"contracts/{name} is not what the kernel's tables say: run with --write")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
