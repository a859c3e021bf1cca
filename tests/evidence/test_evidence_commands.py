"""The commands that read, delete and audit evidence, as a user meets them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rspp.cli.main import run
from rspp.evidence.audit import audit_events, log_name
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.writer import EvidenceWriter

if TYPE_CHECKING:
    from pathlib import Path

HEADER: dict[str, object] = {
    "session_id": "call-1",
    "pipeline": "x@v1",
    "pipeline_version": "x@v1",
    "created_us": 1,
    "created_wall_ms": 1_700_000_000_000,
}
WORDS = "I am Ada Lovelace"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "evidence"
    with EvidenceWriter(root, "acme") as writer, writer.open("call-1", epoch=1, resumed=False) as recorder:
        recorder.begin(dict(HEADER))
        said = {"kind": "transcript", "turn": 2, "party": "caller", "text": WORDS, "words": 4, "at_us": 9}
        recorder.write(b"", [json.dumps(said).encode()])
    store = PayloadStore(root, "acme")
    store.append("call-1", 2, "text_raw", 9, WORDS.encode(), action="allow")
    store.append("call-1", 2, "PII", 9, b"Ada", action="tokenize")
    store.close()
    return root


def asked(root: Path, *more: str) -> int:
    base = ["evidence", "read", "call-1", "--evidence", str(root), "--tenant", "acme", "--principal", "ines"]
    return run([*base, *more])


def events(root: Path) -> list[dict[str, Any]]:
    return [event.decision for event in audit_events(root / "audit" / log_name("acme"))]


def test_an_answer_has_records_and_no_words_at_l0(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(root, "--role", "oncall", "--purpose", "incident", "--classes", "metadata,text_raw") == 0
    text = capsys.readouterr().out
    answer = json.loads(text)
    assert [record["kind"] for record in answer["records"]] == ["header", "transcript"]
    assert "Ada" not in text
    assert events(root)[0]["allowed"] is True


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "invalid_request_attributes"),
        (("--role", "intern", "--purpose", "debug"), "role_not_authorized"),
        (("--role", "oncall", "--purpose", "debug", "--fidelity", "L2"), "requested_fidelity_not_authorized"),
        (("--role", "oncall", "--purpose", "debug", "--classes", "gossip"), "invalid_requested_classes"),
    ],
)
def test_a_denial_names_its_reason_and_is_logged(
    root: Path, flags: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(root, *flags) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["decision"]["deny_reason"] == reason
    assert f"denied: {reason}" in said.err
    assert [decision["deny_reason"] for decision in events(root)] == [reason]


def test_a_request_that_lacks_something_is_told_what(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(root) == 2
    assert "hint: give --role and --purpose" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_closes_access(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "audit").write_text("in the way")
    assert asked(root, "--role", "oncall", "--purpose", "incident") == 2
    said = capsys.readouterr()
    assert list(json.loads(said.out)) == ["decision"]
    assert "the audit log cannot be written" in said.err


def test_the_tenants_own_policy_is_found_and_another_tenants_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"tenant_id": "acme", "roles": ["auditor"], "fidelities": ["L1"]}
    (root / "acme" / "access.json").write_text(json.dumps(own))
    flags = ["--role", "auditor", "--purpose", "eval", "--fidelity", "L1", "--classes", "text_raw"]
    assert asked(root, *flags) == 0
    assert json.loads(capsys.readouterr().out)["payloads"][0]["content"] == "• •• ••• ••••••••"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(own | {"tenant_id": "other"}))
    assert asked(root, *flags, "--policy", str(other)) == 2
    assert "cross_tenant_denied" in capsys.readouterr().err


def test_a_token_is_turned_back_for_compliance_only(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(root, "--role", "compliance", "--purpose", "compliance", "--classes", "PII") == 0
    token = json.loads(capsys.readouterr().out)["payloads"][0]["content"]
    base = ["evidence", "reveal", token, "--evidence", str(root), "--tenant", "acme"]
    assert run([*base, "--role", "oncall", "--purpose", "debug"]) == 2
    assert "token_reveal_not_authorized" in capsys.readouterr().err
    assert run([*base, "--role", "compliance", "--purpose", "compliance"]) == 0
    inner = capsys.readouterr().out.strip()
    assert (
        run(["evidence", "reveal", inner, *base[3:], "--role", "compliance", "--purpose", "compliance"]) == 0
    )
    assert capsys.readouterr().out == "Ada\n"


def test_a_turn_and_then_the_whole_call_are_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["evidence", "delete", "call-1", "--evidence", str(root), "--tenant", "acme"]
    assert run([*base, "--mode", "crypto_inaccessible", "--turn", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": 0, "keys": 2, "bytes": 0, "kept": []}
    assert asked(root, "--role", "oncall", "--purpose", "debug", "--classes", "PII") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["payloads"] == []
    assert [one["code"] for one in answer["damage"]] == ["key_missing"]
    assert run([*base, "--mode", "hard_delete"]) == 0
    assert "3 files removed" in capsys.readouterr().out
    assert run([*base, "--mode", "hard_delete"]) == 2
    assert "no recording of it" in capsys.readouterr().err


def test_a_changed_log_is_named_with_its_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        asked(root, "--role", "oncall", "--purpose", "incident")
    capsys.readouterr()
    assert run(["evidence", "audit", "verify", "--evidence", str(root)]) == 0
    assert "whole: 2 events" in capsys.readouterr().out
    log = root / "audit" / log_name("acme")
    log.write_bytes(log.read_bytes().replace(b"oncall", b"nobody", 1))
    assert run(["evidence", "audit", "verify", str(log)]) == 1
    assert f"{log}:1: the event was changed" in capsys.readouterr().out
    assert run(["evidence", "audit", "verify", str(log), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["sound"] is False
    assert document["logs"][0]["tenant"] == "acme"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["audit", "verify"], "name a log"),
        (["audit", "verify", "--evidence", "/nonexistent"], "is no folder"),
        (["audit", "verify", "/nonexistent.jsonl"], "cannot be read"),
        (["reveal", "x", "--evidence", "/tmp"], "this is no token"),
        (["read", "call-1", "--evidence", "/nonexistent"], "is no folder"),
        (["read", "call-1", "--evidence", "/tmp", "--turn", "-1"], "Must be >= 0"),
        (["list", "--evidence", "/tmp", "--outcome", "nope"], "nope"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evidence", *arguments]) == 2
    assert problem in capsys.readouterr().err
