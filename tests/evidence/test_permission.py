"""Where a tenant's evidence has access rules, every command that reads a session asks them first."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from rspp.cli.main import run
from rspp.evidence.audit import AuditEvent, audit_events, log_name
from rspp.evidence.writer import EvidenceWriter
from tests.replay.test_audio import FULL, hold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASKED = ["--role", "oncall", "--purpose", "incident", "--principal", "ines"]
OUT = "{out}"
COMMANDS = {
    "list": ["evidence", "list", "--session", "fake", "--evidence", "{root}", "--tenant", "acme"],
    "list-all": ["evidence", "list", "--evidence", "{root}", "--tenant", "acme", "--json"],
    "replay": ["replay", "{place}"],
    "replay-id": ["replay", "fake", "--evidence", "{root}", "--tenant", "acme"],
    "replay-decisions": ["replay", "{place}", "--mode", "replay_decisions"],
    "playback": ["replay", "{place}", "--mode", "playback_recorded_provider_outputs"],
    "stand": ["replay", "{place}", "--to-turn", "1"],
    "what-if": ["what-if", "{place}", "--set", "policy.confirm_ms=200"],
    "show": ["timeline", "show", "{place}"],
    "export": ["timeline", "export", "{place}"],
    "export-otlp": ["timeline", "export", "{place}", "--format", "otlp"],
    "report": ["report", "{place}", "--json", "--fidelity", "L0"],
    "validate": ["validate-stream", "{place}"],
}
"""Commands that show records, as a user gives them."""
RICHER = {
    "resimulate": ["replay", "{place}", "--mode", "re_simulate_nodes"],
    "words": ["report", "{place}", "--json"],
    "audio": ["render-audio", "{place}", "--out", OUT],
}
"""Commands that use sound or show words."""


def rules(root: Path, tenant: str = "acme", **policy: Any) -> None:
    (root / tenant / "access.json").write_text(json.dumps({"tenant_id": tenant} | policy), "utf-8")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recorded")
    hold(root, FULL)
    return root


@pytest.fixture
def root(recorded: Path, tmp_path: Path) -> Path:
    root = tmp_path / "evidence"
    shutil.copytree(recorded, root)
    rules(root)
    return root


def command(name: str, root: Path, place: Path | str | None = None) -> list[str]:
    words = {"root": str(root), "place": str(place or root / "acme" / "fake"), "out": str(root / "call.wav")}
    return [word.format(**words) for word in (COMMANDS | RICHER)[name]]


def asked(root: Path, tenant: str = "acme") -> list[AuditEvent]:
    log = root / "audit" / log_name(tenant)
    return list(audit_events(log)) if log.exists() else []


def denials(root: Path, tenant: str = "acme") -> list[str]:
    return [str(event.decision["deny_reason"]) for event in asked(root, tenant)]


@pytest.mark.parametrize("name", COMMANDS)
def test_records_are_shown_to_whom_the_rules_allow_and_it_is_logged(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command(name, root), *ASKED]) == 0
    assert capsys.readouterr().out
    (event,) = asked(root)
    assert event.decision["allowed"] is True
    request = event.request
    assert (request["principal_id"], request["role"], request["purpose"]) == ("ines", "oncall", "incident")
    assert request["requested_scope"] == ("session:*" if name == "list-all" else "session:fake")
    assert (request["tenant_id"], request["requested_fidelity"]) == ("acme", "L0")


@pytest.mark.parametrize("name", [*COMMANDS, *RICHER])
def test_who_does_not_say_role_and_purpose_is_shown_nothing(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--role", "", "--purpose", ""] if name == "audio" else []
    assert run([*command(name, root), *flags]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "denied: invalid_request_attributes" in said.err
    assert "hint: this evidence has access rules: give --role and --purpose" in said.err
    assert denials(root) == ["invalid_request_attributes"]


@pytest.mark.parametrize("name", [*COMMANDS, *RICHER])
def test_a_log_that_cannot_be_written_closes_every_command(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = {"text_raw": "allow", "audio_raw": "allow"}
    rules(root, fidelities=["L0", "L1", "L2"], actions=everything)
    (root / "audit").write_text("in the way")
    assert run([*command(name, root), *ASKED]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "denied: audit_sink_write_failed" in said.err
    assert not (root / "call.wav").exists()


@pytest.mark.parametrize("name", RICHER)
def test_words_and_sound_need_rules_that_allow_them(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command(name, root), *ASKED]) == 2
    assert "denied: requested_fidelity_not_authorized" in capsys.readouterr().err
    if name != "words":
        rules(root, fidelities=["L0", "L2"])
        assert run([*command(name, root), *ASKED]) == 2
        assert "denied: requested_classes_not_authorized" in capsys.readouterr().err
        assert not (root / "call.wav").exists()


def test_words_and_sound_that_the_rules_allow_are_asked_for_once(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules(root, fidelities=["L2"], actions={"text_raw": "allow", "audio_raw": "allow"})
    for place in (root / "acme" / "fake", next((root / "acme" / "fake").glob("*.segment"))):
        assert run([*command("words", root, place), *ASKED]) == 0
        assert "tell me all" in capsys.readouterr().out
    assert run([*command("audio", root), *ASKED]) == 0
    requested = [event.request["requested_classes"] for event in asked(root)]
    assert requested == [["metadata", "text_raw"], ["metadata", "text_raw"], ["audio_raw"]]


@pytest.mark.parametrize(
    ("policy", "flags", "reason"),
    [
        ({"tenant_id": " "}, ["--role", "x", "--purpose", "x"], "policy_tenant_scope_missing"),
        ({"tenant_id": "beta"}, ["--role", "x", "--purpose", "x"], "cross_tenant_denied"),
        ({}, ["--role", "x", "--purpose", "x", "--tenant", "beta"], "cross_tenant_denied"),
        ({"fidelities": []}, ["--role", "x", "--purpose", "x"], "role_not_authorized"),
        ({"fidelities": []}, ["--role", "oncall", "--purpose", "x"], "purpose_not_authorized"),
        ({"fidelities": [], "classes": []}, ASKED, "requested_fidelity_not_authorized"),
        ({"scopes": ["session:other"], "classes": []}, ASKED, "requested_scope_not_authorized"),
        ({"classes": ["text_raw"]}, ASKED, "requested_classes_not_authorized"),
    ],
)
def test_the_first_reason_in_the_order_of_the_contract_is_given(
    root: Path, policy: dict[str, Any], flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rules(root, **policy)
    assert run([*command("show", root), *flags]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"denied: {reason}" in said.err


def test_rules_that_cannot_be_read_close_what_they_are_over(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = root / "acme" / "access.json"
    policy.write_text("{")
    assert run([*command("replay", root), *ASKED]) == 2
    policy.unlink()
    policy.symlink_to("nowhere")
    assert run([*command("list-all", root), *ASKED]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("access policy") == 2


def linked_segments(root: Path, elsewhere: Path) -> Path:
    folder = elsewhere / "loose"
    folder.mkdir()
    for segment in (root / "acme" / "fake").glob("*.segment"):
        (folder / segment.name).symlink_to(segment)
    return folder


def linked_folder(root: Path, elsewhere: Path) -> Path:
    (elsewhere / "loose").symlink_to(root / "acme" / "fake")
    return elsewhere / "loose"


def linked_tenant(root: Path, elsewhere: Path) -> Path:
    (elsewhere / "mine").symlink_to(root / "acme")
    return elsewhere / "mine" / "fake"


def linked_segment(root: Path, elsewhere: Path) -> Path:
    segment = next((root / "acme" / "fake").glob("*.segment"))
    (elsewhere / "x.segment").symlink_to(segment)
    return elsewhere / "x.segment"


def one_segment(root: Path, _: Path) -> Path:
    return next((root / "acme" / "fake").glob("*.segment"))


def relative(root: Path, _: Path) -> Path:
    return root / "acme" / "fake" / ".." / "fake"


def within(root: Path, _: Path) -> str:
    os.chdir(root / "acme" / "fake")
    return "."


def put_below(root: Path, _: Path) -> Path:
    shutil.copytree(root / "acme" / "fake", root / "acme" / "fake" / "deeper" / "fake")
    return root / "acme" / "fake" / "deeper" / "fake"


def put_in_the_tenants_folder(root: Path, _: Path) -> Path:
    for segment in (root / "acme" / "fake").glob("*.segment"):
        shutil.copy(segment, root / "acme")
    return root / "acme"


def as_lines(root: Path, _: Path) -> Path:
    lines = root / "acme" / "fake" / "timeline.jsonl"
    lines.write_text('{"kind":"header","session_id":"fake","epoch":1,"at_us":0,"wall_ms":1}\n', "utf-8")
    return lines


def put_beside(root: Path, _: Path) -> Path:
    shutil.copytree(root / "acme" / "fake", root / "beta" / "fake")
    return root / "beta" / "fake"


def linked_from_another_tenant(root: Path, _: Path) -> Path:
    (root / "beta").mkdir()
    (root / "beta" / "fake").symlink_to(root / "acme" / "fake")
    return root / "beta" / "fake"


def led_away(root: Path, elsewhere: Path) -> Path:
    (root / "acme" / "fake").rename(elsewhere / "fake")
    (root / "acme" / "fake").symlink_to(elsewhere / "fake")
    return root / "acme" / "fake"


PLACES = [
    linked_segments,
    linked_folder,
    linked_tenant,
    linked_segment,
    one_segment,
    relative,
    within,
    put_below,
    put_in_the_tenants_folder,
    as_lines,
    put_beside,
    linked_from_another_tenant,
    led_away,
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["replay", "export", "validate", "report"])
def test_no_way_of_naming_a_recording_leads_past_the_rules(
    root: Path,
    tmp_path: Path,
    place: Callable[[Path, Path], Path | str],
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    assert run([*command(name, root, place(root, elsewhere)), "--role", "guest", "--purpose", "debug"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "the request was denied: " in said.err
    assert asked(root)
    assert all(event.decision["allowed"] is False for event in asked(root))
    assert not (root.parent / "audit").exists()


def test_a_link_to_another_tenant_is_cross_tenant(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(root / "acme", root / "beta")
    rules(root, "beta")
    shutil.rmtree(root / "beta" / "fake")
    linked = root / "beta" / "call"
    linked.symlink_to(root / "acme" / "fake")
    listing = ["evidence", "list", "--evidence", str(root), "--tenant", "beta"]
    reading = ["evidence", "read", "call", "--evidence", str(root), "--tenant", "beta"]
    words = ["report", str(linked)]
    rules(root, "beta", fidelities=["L0", "L2"])
    for given in (command("show", root, linked), listing, [*listing, "--session", "call"], reading, words):
        assert run([*given, *ASKED]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "cross_tenant_denied" in said.err
    assert denials(root) == ["cross_tenant_denied"] * 5
    for way in ("../acme/fake", "call/../../acme/fake"):
        assert run(["replay", way, "--evidence", str(root), "--tenant", "beta", *ASKED]) == 2
        assert "cross_tenant_denied" in capsys.readouterr().err


def test_a_recording_of_another_tenant_is_not_shown_under_these_rules(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "acme" / "fake", root / "beta" / "fake")
    rules(root, "beta")
    moved = root / "beta" / "fake"
    assert run([*command("show", root, moved), *ASKED]) == 2
    assert "cross_tenant_denied" in capsys.readouterr().err
    assert denials(root) == ["cross_tenant_denied"]
    (root / "acme" / "access.json").unlink()
    assert run([*command("show", root, moved), *ASKED]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "a recording of tenant acme in the folder of beta" in said.err


def test_a_name_that_is_too_long_for_a_file_names_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a" * 300
    assert run(["replay", long, "--evidence", str(root), "--tenant", "acme", *ASKED]) == 2
    assert "neither a path nor the id of a session" in capsys.readouterr().err
    listing = ["evidence", "list", "--session", long, "--evidence", str(root), "--tenant", "acme"]
    assert run([*listing, *ASKED]) == 2
    assert "denied: requested_scope_not_authorized" in capsys.readouterr().err


def test_one_tenants_rules_say_nothing_about_another(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EvidenceWriter(root, "beta") as writer, writer.open("call", epoch=1) as recorder:
        recorder.begin(
            {"pipeline": "x@v1", "pipeline_version": "x@v1", "created_wall_ms": 1, "created_us": 1}
        )
        recorder.write(b"", [b'{"kind":"marker","turn":1,"name":"n","at_us":2}'])
    assert run(["timeline", "export", str(root / "beta" / "call")]) == 0
    assert run(["evidence", "list", "--evidence", str(root), "--tenant", "beta"]) == 0
    assert "acme" not in capsys.readouterr().out
    assert not (root / "audit").exists()


def test_without_rules_nothing_is_asked_and_nothing_is_logged(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "acme" / "access.json").unlink()
    for name in COMMANDS:
        assert run(command(name, root)) == 0
        assert capsys.readouterr().out
    assert not (root / "audit").exists()


def test_the_list_is_of_sessions_that_may_all_be_read(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules(root, scopes=["session:fake"])
    assert run([*command("list-all", root), *ASKED]) == 2
    assert "session:* of tenant acme: the request was denied: requested_scope" in capsys.readouterr().err
    assert run([*command("list", root), *ASKED]) == 0
    rules(root, scopes=["session:f*"])
    assert run([*command("list-all", root), *ASKED]) == 2
    rules(root)
    assert run(["evidence", "read", "*", "--evidence", str(root), "--tenant", "acme", *ASKED]) == 2
    assert denials(root)[-1] == "requested_scope_not_authorized"


def test_records_that_hold_words_come_without_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = root / "acme" / "old" / "timeline.jsonl"
    lines.parent.mkdir()
    said = {"kind": "transcript", "turn": 1, "party": "caller", "text": "my secret", "words": 2, "at_us": 5}
    header = {"kind": "header", "session_id": "old", "epoch": 1, "at_us": 0, "wall_ms": 1}
    lines.write_text("".join(json.dumps(one) + "\n" for one in (header, said)), "utf-8")
    for name in ("show", "export", "report"):
        assert run([*command(name, root, lines), *ASKED]) == 0
        text = capsys.readouterr().out
        assert "secret" not in text
        assert text
    (root / "acme" / "access.json").unlink()
    assert run(command("export", root, lines)) == 0
    assert "my secret" in capsys.readouterr().out
