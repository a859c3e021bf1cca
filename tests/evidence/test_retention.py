"""Retention: windows by class, over the real folder, and where the policy came from."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from rspp._kernel import scan_segment
from rspp.contracts.errors import EvidenceError
from rspp.controlplane.retention import distributed_policies
from rspp.evidence import age
from rspp.evidence.audit import FileAudit, audit_events, log_name
from rspp.evidence.deletion import DeletionRequest, delete_evidence
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.redaction import PAYLOAD_CLASSES
from rspp.evidence.retention import (
    DAY_MS,
    ResolvedPolicy,
    default_policy,
    resolve_policy,
    sweep_tenant,
)
from rspp.evidence.writer import EvidenceWriter
from rspp.runtime.commands import app
from rspp.runtime.retention import sweep
from rspp.terminal import run_app

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.contracts.envelope import PayloadClass

NOW = 1_800_000_000_000
CLASSES: tuple[PayloadClass, ...] = PAYLOAD_CLASSES


def recorded(root: Path, tenant: str = "acme", session: str = "call-1", at_ms: int = NOW) -> PayloadStore:
    store = PayloadStore(root, tenant, wall_ms=lambda: at_ms)
    for name in CLASSES:
        store.append(session, 1, name, 1, b"content", action="allow")
    store.close()
    for number in (1, 2):
        path = root / tenant / session / f"00000{number}-e000001.segment"
        path.write_bytes(b"records")
        os.utime(path, ns=(at_ms * 1_000_000, (at_ms + number) * 1_000_000))
    return store


def swept(root: Path, now_ms: int, tenant: str = "acme") -> dict[str, int]:
    resolved = ResolvedPolicy(default_policy(tenant), "default_fallback", "cp_distribution_unconfigured")
    result = sweep_tenant(root, resolved, FileAudit(root / "audit"), now_ms=now_ms)
    assert result.deleted == sum(result.deleted_by_class.values())
    return {name: count for name, count in result.deleted_by_class.items() if count}


def test_each_class_goes_when_its_window_is_over_and_not_a_millisecond_before(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    assert swept(tmp_path, NOW + DAY_MS) == {}
    assert swept(tmp_path, NOW + DAY_MS + 1) == {"PHI": 1}
    assert swept(tmp_path, NOW + 7 * DAY_MS) == {}
    assert swept(tmp_path, NOW + 7 * DAY_MS + 1) == {"PII": 1}
    assert {one.payload_class for one in store.artifacts("call-1")} == set(CLASSES) - {"PII", "PHI"}
    assert not list(tmp_path.rglob("*PII*"))
    assert swept(tmp_path, NOW + 30 * DAY_MS + 1) == {
        "audio_raw": 1,
        "text_raw": 1,
        "derived_summary": 1,
        "metadata": 1,
    }
    # The segments are as old as the last of them, and go together.
    assert swept(tmp_path, NOW + 30 * DAY_MS + 2) == {}
    assert len(list(tmp_path.rglob("*.segment"))) == 2
    assert swept(tmp_path, NOW + 30 * DAY_MS + 3) == {"metadata": 2}
    assert not (tmp_path / "acme" / "call-1").exists()


def test_what_lies_in_the_future_never_expires(tmp_path: Path) -> None:
    recorded(tmp_path, at_ms=NOW + 100 * DAY_MS)
    assert swept(tmp_path, NOW) == {}


def test_what_lost_its_key_is_not_swept(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    request = DeletionRequest(
        tenant_id="acme",
        mode="crypto_inaccessible",
        requested_by="ines",
        requested_at_ms=NOW,
        session_id="call-1",
    )
    delete_evidence(tmp_path, request, FileAudit(tmp_path / "audit"))
    assert swept(tmp_path, NOW + 40 * DAY_MS) == {"metadata": 2}
    assert len(store.artifacts("call-1")) == 6


def test_other_tenants_and_other_files_are_left_alone(tmp_path: Path) -> None:
    recorded(tmp_path)
    other = recorded(tmp_path, tenant="other")
    (tmp_path / "acme" / "call-1" / "notes.txt").write_text("mine")
    swept(tmp_path, NOW + 40 * DAY_MS)
    assert len(other.read("call-1").entries) == 6
    assert [path.name for path in (tmp_path / "acme" / "call-1").iterdir()] == ["notes.txt"]


def test_a_sweep_is_logged_before_it_removes_and_not_done_without_the_log(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    (tmp_path / "audit").write_text("in the way")
    with pytest.raises(EvidenceError, match="audit log"):
        swept(tmp_path, NOW + 40 * DAY_MS)
    assert len(store.artifacts("call-1")) == 6
    (tmp_path / "audit").unlink()
    swept(tmp_path, NOW + 40 * DAY_MS)
    swept(tmp_path, NOW + 41 * DAY_MS)
    (event,) = audit_events(tmp_path / "audit" / log_name("acme"))
    assert event.kind == "retention_sweep"
    assert event.outcome["to_delete"] == 8


def policy_of(**change: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "tenant_id": "acme",
        "max_retention_by_class_ms": {"PII": 1000, "PHI": 500, "text_raw": 2000},
    }
    return fields | change


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "RETENTION_POLICY_READ_ERROR"),
        ("{", "RETENTION_POLICY_DECODE_ERROR"),
        ([], "RETENTION_POLICY_ARTIFACT_INVALID"),
        ({"policies": []}, "RETENTION_POLICY_ARTIFACT_INVALID"),
        ({"policies": [policy_of()], "more": 1}, "RETENTION_POLICY_ARTIFACT_INVALID"),
        ({"policies": [policy_of(), policy_of()]}, "RETENTION_POLICY_ARTIFACT_INVALID"),
        (policy_of(surprise=1), "RETENTION_POLICY_ARTIFACT_INVALID"),
        (policy_of(default_retention_ms=0), "RETENTION_POLICY_ARTIFACT_INVALID"),
        (policy_of(max_retention_by_class_ms={"gossip": 1}), "RETENTION_POLICY_ARTIFACT_INVALID"),
        (policy_of(tenant_id="other"), "RETENTION_POLICY_TENANT_MISMATCH"),
        (policy_of(max_retention_by_class_ms={"PII": 1}), "RETENTION_POLICY_VALIDATION_ERROR"),
        (policy_of(pii_retention_limit_ms=10), "RETENTION_POLICY_VALIDATION_ERROR"),
        (policy_of(phi_retention_limit_ms=499), "RETENTION_POLICY_VALIDATION_ERROR"),
        (policy_of(tenant_id="../x"), "RETENTION_POLICY_VALIDATION_ERROR"),
    ],
)
def test_a_policy_file_that_is_wrong_stops_the_sweep_with_its_code(
    tmp_path: Path, content: Any, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "evidence"
    store = recorded(root)
    path = tmp_path / "policy.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(EvidenceError) as caught:
        resolve_policy(path, "acme")
    assert caught.value.reason == code
    arguments = ["retention-sweep", "--store", str(root), "--tenants", "acme", "--policy", str(path)]
    assert run_app(app, [*arguments, "--report", str(tmp_path / "r.json")]) == 1
    assert code in capsys.readouterr().err
    assert len(store.artifacts("call-1")) == 6


def test_without_a_file_the_defaults_hold_and_the_reason_is_said() -> None:
    (resolved,) = distributed_policies(["acme"], wall_clock_ms=NOW, environment={})
    assert (resolved.source, resolved.fallback_reason) == ("default_fallback", "cp_distribution_unconfigured")
    assert resolved.policy.window_ms("PII") == 604_800_000
    assert resolved.policy.window_ms("PHI") == 86_400_000
    assert resolved.policy.window_ms("audio_raw") == 2_592_000_000


def test_classes_without_a_window_of_their_own_have_the_default(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"policies": [policy_of(default_retention_ms=7)]}))
    resolved = resolve_policy(path, "acme")
    assert (resolved.source, resolved.fallback_reason) == ("policy_artifact", "")
    assert resolved.policy.window_ms("text_raw") == 2000
    assert resolved.policy.window_ms("audio_raw") == 7


def test_the_command_sweeps_run_by_run_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, report = tmp_path / "evidence", tmp_path / "out" / "report.json"
    recorded(root)
    recorded(root, tenant="other")
    arguments = ["--store", str(root), "--tenants", " other,acme,,acme ", "--report", str(report)]
    times = ["--now-ms", str(NOW + 1), "--interval-ms", str(DAY_MS), "--runs", "9"]
    assert run_app(app, ["retention-sweep", *arguments, *times]) == 0
    document = json.loads(report.read_text())
    assert document["tenants"] == ["acme", "other"]
    assert document["policy_source"] == "default_fallback"
    assert document["policy_fallback_reason"] == "cp_distribution_unconfigured"
    assert [run["now_ms"] - NOW - 1 for run in document["run_results"]] == [
        number * DAY_MS for number in range(9)
    ]
    by_run = [run["tenants"][0]["deleted_by_class"] for run in document["run_results"]]
    assert all(set(counts) == set(CLASSES) for counts in by_run)
    assert [sum(counts.values()) for counts in by_run] == [0, 1, 0, 0, 0, 0, 0, 1, 0]
    assert document["final_records"] == 12
    assert "acme: 0 removed" in capsys.readouterr().out


def test_without_a_given_time_it_waits_between_runs(tmp_path: Path) -> None:
    waits: list[float] = []
    report = sweep(tmp_path, "acme", policy=None, now_ms=None, interval_ms=1500, runs=3, sleep=waits.append)
    assert waits == [1.5, 1.5]
    assert len(report["run_results"]) == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--tenants", " , "], "names no tenant"),
        (["--tenants", "../x"], "cannot name a tenant"),
        (["--tenants", "acme", "--store", "/nonexistent"], "is no folder"),
        (["--tenants", "acme", "--report", "/proc/nothing/report.json"], "cannot be written"),
    ],
)
def test_wrong_arguments_end_in_a_message_and_1(
    tmp_path: Path, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = [] if "--store" in arguments else ["--store", str(tmp_path)]
    report = [] if "--report" in arguments else ["--report", str(tmp_path / "report.json")]
    assert run_app(app, ["retention-sweep", *store, *report, *arguments]) == 1
    assert problem in capsys.readouterr().err


def written(root: Path, begun_ms: int, lasted_ms: int) -> list[Path]:
    """Two segments of a call, whose files are as young as their copy."""
    header = {
        "pipeline": "x@v1",
        "pipeline_version": "x@v1",
        "created_us": 1_000,
        "created_wall_ms": begun_ms,
    }
    for epoch in (1, 2):
        with EvidenceWriter(root, "acme") as writer, writer.open("call-1", epoch=epoch) as recorder:
            recorder.begin(dict(header))
            at_us = 1_000 + (lasted_ms * 1_000 if epoch == 2 else 1)
            recorder.write(b"", [json.dumps({"kind": "marker", "name": "n", "at_us": at_us}).encode()])
    files = sorted((root / "acme" / "call-1").glob("*.segment"))
    assert len(files) == 2
    for path in files:
        os.utime(path, ns=((NOW + 99 * DAY_MS) * 1_000_000,) * 2)
    return files


def test_segments_are_as_old_as_their_records_say_however_young_their_files_are(tmp_path: Path) -> None:
    written(tmp_path, NOW, 5_000)
    assert swept(tmp_path, NOW + 30 * DAY_MS + 5_000) == {}
    assert swept(tmp_path, NOW + 30 * DAY_MS + 5_001) == {"metadata": 2}


def test_a_segment_whose_records_cannot_be_read_is_as_old_as_what_of_it_can(tmp_path: Path) -> None:
    files = written(tmp_path, NOW, 5_000)
    data = files[1].read_bytes()
    header_end = scan_segment(data).blocks[0][3]
    files[1].write_bytes(data[: header_end + 40])
    assert swept(tmp_path, NOW + 30 * DAY_MS + 1) == {"metadata": 2}


def test_a_segment_that_says_nothing_is_as_old_as_its_file(tmp_path: Path) -> None:
    files = written(tmp_path, NOW, 5_000)
    files[1].write_bytes(b"\xff" * 100)
    os.utime(files[1], ns=((NOW + 9) * 1_000_000,) * 2)
    assert swept(tmp_path, NOW + 30 * DAY_MS + 9) == {}
    assert swept(tmp_path, NOW + 30 * DAY_MS + 10) == {"metadata": 2}


def test_timelines_of_lines_are_as_old_as_their_records_say(tmp_path: Path) -> None:
    folder = tmp_path / "acme" / "call-1"
    folder.mkdir(parents=True)
    lines = [
        {"kind": "header", "started_wall_ms": NOW},
        {"kind": "marker", "wall_ms": NOW + 7},
        {"kind": "x"},
    ]
    (folder / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert swept(tmp_path, NOW + 30 * DAY_MS + 7) == {}
    assert swept(tmp_path, NOW + 30 * DAY_MS + 8) == {"metadata": 1}


def test_a_damaged_timeline_is_as_old_as_what_of_it_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "acme" / "call-1"
    folder.mkdir(parents=True)
    late = json.dumps({"kind": "marker", "wall_ms": NOW + 9_000})
    (folder / "timeline.jsonl").write_text(
        f'{{"kind":"header","started_wall_ms":{NOW}}}\nx\n{late}\n', "utf-8"
    )
    assert swept(tmp_path, NOW + 30 * DAY_MS) == {}
    assert swept(tmp_path, NOW + 30 * DAY_MS + 1) == {"metadata": 1}


@pytest.mark.parametrize("begun_ms", [1, 1_700_000_000_000, age.FIRST_MS - 6_000])
def test_calls_of_virtual_time_and_of_clocks_never_set_are_as_old_as_their_files(
    tmp_path: Path, begun_ms: int
) -> None:
    for path in written(tmp_path, begun_ms, 5_000):
        os.utime(path, ns=(NOW * 1_000_000,) * 2)
    assert swept(tmp_path, NOW + 30 * DAY_MS) == {}
    assert swept(tmp_path, NOW + 30 * DAY_MS + 1) == {"metadata": 2}


def test_what_began_within_its_window_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, NOW, 5_000)
    monkeypatch.setattr(age, "last_ms", lambda _: pytest.fail("read to its end"))
    assert swept(tmp_path, NOW + 30 * DAY_MS) == {}
