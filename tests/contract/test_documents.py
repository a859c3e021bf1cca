"""Every contract document is held to its own kind by three validators that agree."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from rspp import _kernel
from rspp.contracts import fixtures, schema
from rspp.contracts.agreement import judge, rules_in_schema
from rspp.contracts.documents import (
    KINDS,
    DecisionOutcome,
    TurnTransition,
    decode,
    limits_bytes,
    validate,
)
from rspp.contracts.envelope import ControlSignal, EventRecord, emitters, registry
from rspp.contracts.plan_document import ResolvedTurnPlan
from rspp.contracts.reading import FaultyDocumentError
from rspp.contracts.samples import (
    ABSENT,
    SAMPLES,
    Document,
    changed,
    control,
    decision,
    event,
    plan,
    transition,
)
from rspp.contracts.validation import check_fixtures, read_index, uncovered_rules

if TYPE_CHECKING:
    from pathlib import Path

STATES = ("Idle", "Opening", "Active", "Terminal", "Closed")
PHASES = ("pre_turn", "scheduling_point", "active_turn")
SCOPES = ("tenant", "session", "turn", "edge_enqueue", "edge_dequeue", "node_dispatch")


def verdict(kind: str, document: Document) -> tuple[str, str] | None:
    """Rule and field that all three name, or none."""
    verdicts = judge(kind, json.dumps(document).encode())
    assert verdicts.disagreement(single=True) == "", document
    return None if verdicts.kernel is None else verdicts.kernel[:2]


def accepted(kind: str, document: Document) -> bool:
    """Whether all three take the document; they need not name one field."""
    verdicts = judge(kind, json.dumps(document).encode())
    assert verdicts.disagreement(single=False) == "", document
    return verdicts.kernel is None


# ------------------------------------------------------------------------------------- fixtures


@pytest.mark.conformance("CT-001")
def test_w_08_every_fixture_is_judged_alike_by_all_validators() -> None:
    results = check_fixtures(fixtures.ROOT)
    assert len(results) > 1_000
    assert [f"{result.path}: {result.problem}" for result in results if result.problem] == []


@pytest.mark.conformance("CT-001")
def test_every_rule_has_a_fixture_that_keeps_it_and_one_that_breaks_it() -> None:
    assert uncovered_rules(read_index(fixtures.ROOT)) == []


def test_every_signal_cell_and_transition_has_fixtures() -> None:
    index = read_index(fixtures.ROOT)
    seen: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    columns = {
        "control_signal": ("signal",),
        "decision_outcome": ("outcome_kind", "emitted_by", "phase", "scope"),
        "turn_transition": ("from_state", "trigger", "to_state"),
    }
    for path, expected in index.items():
        kind, folder, _ = path.split("/")
        if kind not in columns or expected.rule.startswith(("json.", "shape.")):
            continue
        document = json.loads((fixtures.ROOT / path).read_bytes())
        seen[f"{kind}/{folder}"].add(tuple(document[column] for column in columns[kind]))
    signals = {(name,) for name in registry()}
    assert seen["control_signal/valid"] == signals
    assert seen["control_signal/invalid"] == signals
    assert seen["decision_outcome/valid"] == {row[:4] for row in _kernel.decision_matrix()}
    assert {row[0] for row in seen["decision_outcome/invalid"]} == {
        row[0] for row in _kernel.decision_matrix()
    }
    assert seen["turn_transition/valid"] == set(_kernel.transition_table())
    assert {row[:2] for row in seen["turn_transition/invalid"]} >= {
        row[:2] for row in _kernel.transition_table()
    }


def test_every_generated_file_is_what_the_generators_make() -> None:
    assert schema.stale() == []
    assert fixtures.stale() == []


def test_a_file_that_differs_is_noticed_and_written_again(tmp_path: Path) -> None:
    for name, text in schema.texts().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert schema.stale(tmp_path) == []
    (tmp_path / "rules.json").write_text("{}", encoding="utf-8")
    (tmp_path / "event_record.schema.json").unlink()
    assert schema.stale(tmp_path) == ["event_record.schema.json", "rules.json"]
    root = tmp_path / "fixtures"
    root.mkdir()
    assert fixtures.write(root) == len(fixtures.fixtures()) + 1
    (root / "extra.json").write_text("{}", encoding="utf-8")
    (root / "event_record/valid/text.json").write_text("{}", encoding="utf-8")
    assert fixtures.stale(root) == ["event_record/valid/text.json", "extra.json"]
    assert fixtures.write(root) == 2
    assert fixtures.stale(root) == []


# ------------------------------------------------------------------------------- tables, exhaustively


@pytest.mark.conformance("CT-002")
def test_g_18_g_19_the_registry_decides_every_emitter_signal_and_scope() -> None:
    taken = 0
    for signal, row in registry().items():
        for emitter in emitters():
            for scope in ("session", "turn"):
                legal = emitter in row.emitters and row.scope in ("either", scope)
                document = json.dumps(control(signal, emitter=emitter, within=scope)).encode()
                found = _kernel.validate_document("control_signal", document)
                assert (found is None) == legal, (signal, emitter, scope, found)
                assert (validate("control_signal", document) is None) == legal
                taken += legal
    assert taken == 107


@pytest.mark.parametrize("signal", sorted(registry()))
def test_g_18_every_signal_is_held_to_its_row(signal: str) -> None:
    row = registry()[signal]
    assert verdict("control_signal", control(signal)) is None
    foreign = min(emitters() - set(row.emitters))
    assert verdict("control_signal", control(signal, emitter=foreign)) == ("control.emitter", "emitted_by")
    for field in set(row.required) - {"turn_id"}:
        found = verdict("control_signal", changed(control(signal), **{field: ABSENT}))
        assert found == ("control.required", field)


@pytest.mark.parametrize("signal", ["budget_warning", "budget_exhausted", "degrade", "fallback"])
def test_g_18_the_four_signals_that_once_passed_without_a_reason_are_refused(signal: str) -> None:
    found = verdict("control_signal", changed(control(signal), reason=ABSENT))
    assert found == ("control.required", "reason")


def test_g_19_a_proposal_of_turn_scope_is_refused() -> None:
    found = verdict("control_signal", control("turn_open_proposed", within="turn"))
    assert found == ("control.event_scope", "event_scope")


def test_w_09_reasons_are_closed_for_every_signal_and_outcome() -> None:
    codes = {code for code, _, _ in _kernel.reason_codes()}
    for signal, row in registry().items():
        assert set(row.reasons) <= codes
        document = control(signal)
        for reason in (*row.reasons, "tired", "Cancelled", "deterministic_reason"):
            fits = accepted("control_signal", document | {"reason": reason})
            assert fits == (reason in row.reasons), (signal, reason)
    for outcome, emitter, phase, scope, _, _ in _kernel.decision_matrix():
        document = decision(outcome, emitter, phase, scope, reason="cancelled")
        assert verdict("decision_outcome", document) == ("decision.reason", "reason")


@pytest.mark.conformance("CT-005")
def test_w_06_the_matrix_decides_every_cell() -> None:
    legal = {row[:4]: row[4:] for row in _kernel.decision_matrix()}
    for outcome in registry().keys() & {row[0] for row in legal}:
        for emitter in ("RK-24", "RK-25", "CP-05"):
            for phase in PHASES:
                for scope in SCOPES:
                    cell = (outcome, emitter, phase, scope)
                    document = decision(*cell)
                    assert accepted("decision_outcome", document) == (cell in legal), cell
                    if cell in legal:
                        turn, epoch = legal[cell]
                        assert accepted("decision_outcome", changed(document, turn_id=ABSENT)) != turn
                        assert (
                            accepted("decision_outcome", changed(document, authority_epoch=ABSENT)) != epoch
                        )
    assert not any(row[0] in ("admit", "reject", "defer") and row[2] == "active_turn" for row in legal)


@pytest.mark.conformance("CT-003")
def test_the_table_decides_every_transition() -> None:
    table = set(_kernel.transition_table())
    for start in STATES:
        for trigger in {row[1] for row in table}:
            for to in STATES:
                legal = (start, trigger, to) in table
                assert accepted("turn_transition", transition(start, trigger, to)) == legal
    assert len(table) == 9


# ----------------------------------------------------------------------------------- weaknesses


def test_g_16_a_merge_of_65_or_of_repeated_sources_is_refused() -> None:
    def merged(ids: list[str]) -> tuple[str, str] | None:
        return verdict("event_record", event(merge_group_id="m", merged_from_event_ids=ids))

    ids = [f"e{number}" for number in range(100)]
    assert merged(ids[:64]) is None
    assert merged(ids[:65]) == ("shape.count", "merged_from_event_ids")
    assert merged(["a", "a"]) == ("shape.unique", "merged_from_event_ids")
    assert not accepted("event_record", event(merge_group_id="m", merged_from_event_ids=ids + ids))


def test_w_01_ranges_and_watermarks_may_not_be_reversed() -> None:
    document = control("drop_notice", seq_range={"start": 5, "end": 4})
    assert verdict("control_signal", document) == ("envelope.range_order", "seq_range")
    for low, fits in ((4, True), (5, False), (6, False)):
        mark = {"high": 5, "low": low}
        for path in (
            "edge_buffer_policies__default__watermarks__queue_items",
            "flow_control__watermarks__DataLane",
        ):
            found = verdict("resolved_turn_plan", plan(**{path: mark}))
            assert found == (None if fits else ("plan.watermark_order", path.replace("__", ".")))
    assert not {"envelope.range_order", "plan.watermark_order"} & rules_in_schema()


def test_w_02_a_document_never_passes_as_another_kind() -> None:
    for kind in KINDS:
        for other, document in SAMPLES.items():
            assert accepted(kind, document) == (kind == other), (kind, other)
    with pytest.raises(ValueError, match='kind "union" is none of event_record'):
        _kernel.validate_document("union", b"{}")


def test_w_03_tenant_trace_and_payload_exist_from_the_minor_version_on() -> None:
    fields = {"tenant_id": "t", "trace_id": "x", "payload_ref": "blob/1"}
    for version, exist in (
        ("v1.0", False),
        ("v1.0.9", False),
        ("v0.9", False),
        ("v1.1", True),
        ("v1.10", True),
    ):
        for field, value in fields.items():
            document = event(schema_version=version, **{field: value})
            expected = None if exist else ("envelope.minor_version", field)
            assert verdict("event_record", document) == expected
        signal = control("connected", schema_version=version, **fields)
        assert accepted("control_signal", signal) == exist


def test_w_04_the_missing_signals_exist() -> None:
    assert len(registry()) == 45
    assert verdict("control_signal", control("abi_reject")) is None
    assert verdict("control_signal", control("muted", reason="track_muted")) is None
    without = changed(control("abi_reject"), causal_parent_id=ABSENT)
    assert verdict("control_signal", without) == ("control.required", "causal_parent_id")


def test_w_05_further_evidence_has_its_own_record_and_no_place_in_the_decision() -> None:
    found = verdict("decision_outcome", decision(fairness_key="tenant"))
    assert found == ("shape.unknown_field", "fairness_key")
    document = decision()
    stream = _kernel.StreamValidator()
    assert stream.push(json.dumps({"kind": "decision", "decision": document}).encode()) is None
    sibling = {"kind": "evidence", "event_id": document["event_id"], "fairness_key": "tenant"}
    assert stream.push(json.dumps(sibling).encode()) is None


def test_w_07_block_time_is_tied_to_lane_handling_too() -> None:
    edge = "edge_buffer_policies__default"
    blocking = plan(**{f"{edge}__lane_handling__DataLane": "block"})
    field = f"{edge}__max_block_time_ms"
    assert verdict("resolved_turn_plan", blocking) == ("plan.block_time", field.replace("__", "."))
    assert verdict("resolved_turn_plan", changed(blocking, **{field: 10})) is None


# ---------------------------------------------------------------------------------- disagreements


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (event(transport_sequence=None), ""),
        (event(media_time={"sample_index": 1, "pts_ms": 1}), "envelope.media_time_one"),
        (event(edge_id="e", sync_domain="d", discontinuity_id="x"), ""),
        (event(node_id="n", causal_parent_id="c", idempotency_key="i", lease_token="l", timestamp_ms=1), ""),
        (changed(control("cancel"), scope="tenant"), "shape.word"),
        (changed(control("cancel"), authority_epoch=ABSENT), "shape.required"),
        (plan(provider_bindings={}), "shape.count"),
        (decision(timestamp_ms=1), ""),
    ],
)
def test_cases_in_which_the_validators_of_the_reference_disagreed(document: Document, rule: str) -> None:
    kind = next(
        kind
        for kind, field in (
            ("decision_outcome", "outcome_kind"),
            ("resolved_turn_plan", "plan_hash"),
            ("control_signal", "signal"),
            ("event_record", "event_id"),
        )
        if field in document
    )
    found = verdict(kind, document)
    assert (found[0] if found else "") == rule


READING = {
    b"": "json.syntax",
    b"\xef\xbb\xbf{}": "json.syntax",
    b'{"a":"\xff"}': "json.syntax",
    b'{"a":"\\ud800"}': "json.syntax",
    b'{"\\udfff":1}': "json.syntax",
    b'{"a":NaN}': "json.syntax",
    b'{"a":-Infinity}': "json.syntax",
    b'{"a":1e999}': "json.syntax",
    b'{"a":01}': "json.syntax",
    b'{"a":"\n"}': "json.syntax",
    b"{'a':1}": "json.syntax",
    b'{"a":1,}': "json.syntax",
    b"{} {}": "json.syntax",
    b'{"a":' + b"9" * 5_000 + b"}": "json.syntax",
    b"[" * 17 + b"]" * 17: "json.depth",
    b"[" * 60_000: "json.depth",
    b'{"a":{"b":[{"c":1,"c":1}]}}': "json.duplicate_key",
    b'{"a":-0}': "json.whole_number",
    b'{"a":1e2}': "json.whole_number",
    b'{"a":[0.0]}': "json.whole_number",
    b'{"a":"[[[[[[[[[[[[[[[[[[[[\\"[[[["}': "shape.unknown_field",
    b'"text"': "shape.type",
    b"null": "shape.type",
    b" {} ": "shape.required",
}


@pytest.mark.parametrize("document", READING, ids=range(len(READING)))
@pytest.mark.parametrize("kind", KINDS)
def test_what_readers_take_differently_is_refused_alike(kind: str, document: bytes) -> None:
    verdicts = judge(kind, document)
    assert verdicts.disagreement(single=False) == ""
    assert verdicts.kernel is not None
    assert verdicts.types is not None
    assert verdicts.kernel.rule == verdicts.types.rule == READING[document]
    if READING[document] != "shape.required":
        assert verdicts.kernel.field == verdicts.types.field


@pytest.mark.parametrize("kind", KINDS)
def test_documents_beyond_their_size_are_refused_unread(kind: str) -> None:
    limit = limits_bytes()[kind]
    for length, rule in ((limit, "json.syntax"), (limit + 1, "json.size")):
        verdicts = judge(kind, b" " * length)
        assert verdicts.kernel is not None
        assert verdicts.types is not None
        assert verdicts.kernel.rule == verdicts.types.rule == rule


def test_an_error_says_what_where_and_how() -> None:
    with pytest.raises(FaultyDocumentError, match=r"envelope\.turn_id at 'turn_id': an event of turn scope"):
        decode("event_record", json.dumps(event(turn_id=ABSENT)).encode())


@pytest.mark.parametrize(
    ("kind", "document", "expected"),
    [
        ("event_record", event(), EventRecord),
        ("control_signal", control("stop"), ControlSignal),
        ("turn_transition", transition(), TurnTransition),
        ("decision_outcome", decision(), DecisionOutcome),
        ("resolved_turn_plan", plan(), ResolvedTurnPlan),
    ],
)
def test_a_valid_document_becomes_an_object_and_again_the_same_document(
    kind: str, document: Document, expected: Any
) -> None:
    import msgspec

    decoded = decode(kind, json.dumps(document).encode())
    assert type(decoded) is expected
    assert msgspec.to_builtins(decoded) == document


# --------------------------------------------------------------------------------------- versions


def negotiated(version: str, now_ms: int = 0, skew_ms: int = 0, **retired: int) -> str:
    table = [(f"v1.{minor[1:]}", deadline) for minor, deadline in retired.items()]
    found = _kernel.negotiate_version(version, retired=table, now_ms=now_ms, skew_ms=skew_ms)
    assert found is None or found[1] == "schema_version"
    return found[0] if found else ""


def test_versions_are_taken_until_their_deadline() -> None:
    assert negotiated("v1.0", now_ms=10**15) == ""
    assert negotiated("v1.7", now_ms=10**15, m0=5) == ""
    assert negotiated("v1.0", now_ms=1_000, m0=1_000) == ""
    assert negotiated("v1.0.3", now_ms=1_001, m0=1_000) == "version.retired"
    assert negotiated("v1.0.3", now_ms=1_050, skew_ms=50, m0=1_000) == ""
    assert negotiated("v2.0") == negotiated("v0.9") == "version.major"
    assert negotiated("latest") == "shape.format"
    with pytest.raises(ValueError, match=r'retired version "old" is no version like v1\.0'):
        _kernel.negotiate_version("v1.0", retired=[("old", 1)], now_ms=1, skew_ms=1)


def test_w_03_every_spelling_of_a_version_is_read_alike() -> None:
    for major in ("0", "1", "2", "9", "10", "00", "01", "012"):
        for minor in ("0", "1", "9", "10", "00", "01", "010"):
            for patch in ("", ".0", ".1"):
                document = event(schema_version=f"v{major}.{minor}{patch}", tenant_id="t")
                exists = (int(major), int(minor)) >= (1, 1)
                expected = None if exists else ("envelope.minor_version", "tenant_id")
                assert verdict("event_record", document) == expected
