"""Access to recorded evidence: denied unless allowed, in a fixed order, and logged either way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence.access import AccessPolicy, AccessRequest, authorise, load_policy, scope_of
from rspp.evidence.answers import EvidenceReader
from rspp.evidence.audit import AuditEvent, FileAudit, audit_events, log_name, verify_audit
from rspp.evidence.payloads import PayloadStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_700_000_000_000
POLICY = AccessPolicy(tenant_id="acme")
REQUEST = AccessRequest(
    tenant_id="acme",
    principal_id="ines",
    role="oncall",
    purpose="incident",
    requested_scope="session:call-1",
)
RECORDS: list[dict[str, Any]] = [
    {"kind": "header", "session_id": "call-1"},
    {"kind": "transcript", "turn": 2, "party": "caller", "text": "I am Ada", "words": 3},
]


class FakeAudit:
    """Keeps events in memory, or refuses them."""

    def __init__(self, *, broken: bool = False) -> None:
        self.events: list[AuditEvent] = []
        self.broken = broken

    def append(self, event: AuditEvent) -> None:
        if self.broken:
            raise EvidenceError("the log is full")
        self.events.append(event)


def changed(**fields: Any) -> AccessRequest:
    return msgspec.structs.replace(REQUEST, **fields)


ORDER: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("invalid_request_attributes", {"principal_id": " "}, {}),
    ("policy_tenant_scope_missing", {}, {"tenant_id": ""}),
    ("cross_tenant_denied", {"tenant_id": "other"}, {}),
    ("role_not_authorized", {"role": "intern"}, {}),
    ("purpose_not_authorized", {"purpose": "curiosity"}, {}),
    ("requested_fidelity_not_authorized", {"requested_fidelity": "L2"}, {}),
    ("invalid_requested_classes", {"requested_classes": ("metadata", "gossip")}, {}),
    ("requested_scope_not_authorized", {}, {"scopes": ("session:call-2",)}),
    ("requested_classes_not_authorized", {}, {"classes": ("derived_summary",)}),
]


@pytest.mark.parametrize("place", range(len(ORDER)))
def test_the_order_of_denials(place: int) -> None:
    wrong_request: dict[str, Any] = {}
    wrong_policy: dict[str, Any] = {}
    for _, request, policy in reversed(ORDER[place:]):
        wrong_request |= request
        wrong_policy |= policy
    sink = FakeAudit()
    policy = msgspec.structs.replace(POLICY, **wrong_policy)
    decision = authorise(changed(**wrong_request), policy, sink, now_ms=NOW)
    assert (decision.allowed, decision.deny_reason) == (False, ORDER[place][0])
    assert [event.decision["deny_reason"] for event in sink.events] == [ORDER[place][0]]


def test_after_the_policy_comes_the_log_and_nothing_is_allowed_without_it() -> None:
    assert authorise(REQUEST, POLICY, None, now_ms=NOW).deny_reason == "audit_sink_unavailable"
    assert authorise(REQUEST, POLICY, FakeAudit(), now_ms=-1).deny_reason == "audit_event_invalid"
    broken = FakeAudit(broken=True)
    assert authorise(REQUEST, POLICY, broken, now_ms=NOW).deny_reason == "audit_sink_write_failed"
    denied = authorise(changed(role="intern"), POLICY, broken, now_ms=NOW)
    assert denied.deny_reason == "role_not_authorized"


@pytest.mark.parametrize(
    "fields",
    [
        {"tenant_id": ""},
        {"role": ""},
        {"purpose": "\t"},
        {"requested_scope": ""},
        {"requested_fidelity": ""},
        {"requested_fidelity": "L9"},
    ],
)
def test_s6_malformed_requests_are_denied_and_logged(fields: dict[str, Any]) -> None:
    sink = FakeAudit()
    assert authorise(changed(**fields), POLICY, sink, now_ms=NOW).deny_reason == "invalid_request_attributes"
    (event,) = sink.events
    assert event.tenant_id == "acme"


def test_a_request_without_any_policy_has_a_log_too(tmp_path: Path) -> None:
    authorise(REQUEST, AccessPolicy(tenant_id=""), FileAudit(tmp_path), now_ms=NOW)
    (path,) = tmp_path.glob("*.jsonl")
    assert verify_audit(path) == (1, [])


def test_what_somebody_puts_into_a_request_cannot_flood_the_log() -> None:
    sink = FakeAudit()
    flood = changed(principal_id="x" * 100_000, requested_classes=("y" * 1000,) * 1000)
    authorise(flood, POLICY, sink, now_ms=NOW)
    assert len(json.dumps(sink.events[0].request)) < 6000


def test_an_allowed_request_says_what_is_done_with_each_class() -> None:
    sink = FakeAudit()
    request = changed(requested_classes=("text_raw", "PII", "metadata", "audio_raw"))
    decision = authorise(request, POLICY, sink, now_ms=NOW)
    assert {mark.payload_class: mark.action for mark in decision.redaction_markers} == {
        "PII": "tokenize",
        "audio_raw": "drop",
        "text_raw": "drop",
        "metadata": "allow",
    }
    assert {mark.reason for mark in decision.redaction_markers} == {"default_or03_policy"}
    assert sink.events[0].decision["allowed"] is True
    assert len(sink.events[0].decision["redaction_markers"]) == 4


def test_a_request_that_names_no_class_is_about_metadata() -> None:
    decision = authorise(changed(requested_classes=()), POLICY, FakeAudit(), now_ms=NOW)
    assert [(mark.payload_class, mark.action) for mark in decision.redaction_markers] == [
        ("metadata", "allow")
    ]
    hidden = msgspec.structs.replace(POLICY, classes=("derived_summary",))
    denied = authorise(changed(requested_classes=()), hidden, FakeAudit(), now_ms=NOW)
    assert denied.deny_reason == "requested_classes_not_authorized"


def test_more_detail_is_shown_only_as_far_as_fidelity_and_policy_go() -> None:
    plain = AccessPolicy(tenant_id="acme")
    assert [plain.action("text_raw", level) for level in ("L0", "L1", "L2")] == ["drop", "mask", "mask"]
    full = AccessPolicy(tenant_id="acme", actions={"text_raw": "allow", "audio_raw": "allow"})
    assert [full.action("text_raw", level) for level in ("L0", "L1", "L2")] == ["drop", "mask", "allow"]
    assert [full.action("audio_raw", level) for level in ("L0", "L1", "L2")] == ["drop", "mask", "allow"]


@pytest.mark.parametrize(
    "text", ["call-1", "session:", "session:../x", "turn:call-1", "turn:call-1/x", "all"]
)
def test_a_scope_that_is_none_is_not_permitted(text: str) -> None:
    assert scope_of(text) is None
    decision = authorise(changed(requested_scope=text), POLICY, FakeAudit(), now_ms=NOW)
    assert decision.deny_reason == "requested_scope_not_authorized"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "tenant_id"),
        ('{"tenant_id": "acme", "rolls": ["x"]}', "rolls"),
        ('{"tenant_id": "acme", "actions": {"PHI": "allow"}}', "actions.PHI is allow"),
        ('{"tenant_id": "acme", "actions": {"PHI": "show"}}', "show"),
        ("nothing", "malformed"),
    ],
)
def test_a_policy_file_that_is_wrong_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load_policy(path)
    assert caught.value.hint


def recorded(root: Path) -> PayloadStore:
    store = PayloadStore(root, "acme", environment={}, wall_ms=lambda: NOW)
    store.append("call-1", 2, "text_raw", 5, b"I am Ada", {"party": "caller"}, action="allow")
    store.append("call-1", 2, "PII", 6, b"Ada Lovelace", action="hash")
    store.append("call-1", 3, "PHI", 7, b"a cough", action="tokenize")
    store.append("call-1", 3, "audio_raw", 8, b"\x01\x02", action="allow")
    store.close()
    return store


def reader_of(root: Path, policy: AccessPolicy, sink: FakeAudit) -> EvidenceReader:
    def records(_: Path, turn: int) -> Iterator[dict[str, Any]]:
        yield from (record for record in RECORDS if not turn or record.get("turn") == turn)

    return EvidenceReader(root, policy, sink, records, environment={}, now_ms=lambda: NOW)


EVERYTHING = ("text_raw", "PII", "PHI", "audio_raw", "derived_summary", "metadata")


def test_a_reader_at_l0_gets_records_without_words_and_tokens_for_people(tmp_path: Path) -> None:
    recorded(tmp_path)
    answer = reader_of(tmp_path, POLICY, FakeAudit()).read(changed(requested_classes=EVERYTHING))
    assert answer["decision"]["allowed"] is True
    assert [record["kind"] for record in answer["records"]] == ["header", "transcript"]
    assert answer["records"][1]["text"] == ""
    assert [(one["payload_class"], one["action"]) for one in answer["payloads"]] == [
        ("PII", "tokenize"),
        ("PHI", "tokenize"),
    ]
    # A token is of random letters, and three of them in a row may be any.
    tokens = [one.pop("content") for one in answer["payloads"]]
    assert "Ada" not in json.dumps(answer)
    assert all(len(token) > 60 for token in tokens)
    assert RECORDS[1]["text"] == "I am Ada"


def test_richer_recordings_do_not_widen_an_answer_and_policy_does(tmp_path: Path) -> None:
    recorded(tmp_path)
    wider = AccessPolicy(tenant_id="acme", fidelities=("L0", "L1", "L2"))
    request = changed(requested_classes=("text_raw", "metadata", "audio_raw"), requested_fidelity="L2")
    masked = reader_of(tmp_path, wider, FakeAudit()).read(request)
    assert masked["payloads"][0]["content"] == "• •• •••"
    assert masked["payloads"][0]["details"] == {"party": "caller"}
    assert masked["records"][1]["text"] == "• •• •••"
    full = msgspec.structs.replace(wider, actions={"text_raw": "allow", "audio_raw": "allow"})
    shown = reader_of(tmp_path, full, FakeAudit()).read(request)
    assert [one["content"] for one in shown["payloads"]] == ["I am Ada", "AQI="]
    assert shown["payloads"][0]["details"] == {"party": "caller"}
    assert {mark["reason"] for mark in shown["decision"]["redaction_markers"]} == {
        "tenant_policy",
        "default_or03_policy",
    }


def test_one_turn_is_one_turn(tmp_path: Path) -> None:
    recorded(tmp_path)
    request = changed(requested_classes=("PII", "PHI", "metadata"), requested_scope="turn:call-1/2")
    answer = reader_of(tmp_path, POLICY, FakeAudit()).read(request)
    assert {one["turn"] for one in answer["payloads"]} == {2}
    assert [record["kind"] for record in answer["records"]] == ["transcript"]


def test_nothing_is_opened_when_the_log_cannot_be_written(tmp_path: Path) -> None:
    recorded(tmp_path)
    answer = reader_of(tmp_path, POLICY, FakeAudit(broken=True)).read(REQUEST)
    assert list(answer) == ["decision"]
    assert answer["decision"]["deny_reason"] == "audit_sink_write_failed"


def test_a_token_leads_back_only_for_who_may_and_only_while_its_artifact_lives(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    sink = FakeAudit()
    reader = reader_of(tmp_path, POLICY, sink)
    answer = reader.read(changed(requested_classes=("PHI",)))
    outer = answer["payloads"][0]["content"]
    oncall = changed(requested_classes=("PHI",))
    decision, value = reader.reveal(oncall, outer)
    assert (decision.deny_reason, value) == ("token_reveal_not_authorized", b"")
    officer = changed(requested_classes=("PHI",), role="compliance", purpose="compliance")
    decision, kept = reader.reveal(officer, outer)
    assert decision.allowed
    assert reader.reveal(officer, kept.decode())[1] == b"a cough"
    assert [event.kind for event in sink.events[1:]] == ["token_revealed"] * 3
    elsewhere = msgspec.structs.replace(officer, requested_scope="session:call-9")
    with pytest.raises(EvidenceError, match="another scope"):
        reader.reveal(elsewhere, outer)
    with pytest.raises(EvidenceError, match="damaged"):
        reader.reveal(officer, outer[:-6] + ("AAAA==" if outer[-6:] != "AAAA==" else "BBBB=="))
    with pytest.raises(EvidenceError, match="no token"):
        reader.reveal(officer, "Ada")
    (artifact,) = store.artifacts("call-1", turn=3, classes=["PHI"])
    artifact.key_path.unlink()
    with pytest.raises(EvidenceError, match="was deleted"):
        reader.reveal(officer, outer)


def test_an_unknown_session_is_said_after_it_was_logged(tmp_path: Path) -> None:
    sink = FileAudit(tmp_path / "audit")
    reader = EvidenceReader(tmp_path, POLICY, sink, lambda _, __: [], environment={}, now_ms=lambda: NOW)
    with pytest.raises(EvidenceError, match="no recording of it"):
        reader.read(changed(requested_scope="session:nowhere"))
    (event,) = audit_events(tmp_path / "audit" / log_name("acme"))
    assert event.request["requested_scope"] == "session:nowhere"
