"""Deletion, proved by reading every byte that is left."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp.contracts.errors import EvidenceError
from rspp.evidence import deletion, keys
from rspp.evidence.audit import FileAudit, audit_events, log_name, verify_audit
from rspp.evidence.deletion import DeletionRequest, delete_evidence
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.writer import EvidenceWriter
from tests.evidence.recordings import begin, folder_of, marks, opened, values

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.evidence.audit import AuditEvent

NOW = 1_700_000_000_000
NAME, ADDRESS = b"Ada Lovelace of London", b"12 St James's Square"
RECORDS = b"records of the call, without words"
REQUEST = DeletionRequest(
    tenant_id="acme",
    mode="hard_delete",
    requested_by="ines",
    requested_at_ms=NOW,
    session_id="call-1",
    reason="the caller asked",
)


def changed(**fields: Any) -> DeletionRequest:
    return msgspec.structs.replace(REQUEST, **fields)


def recorded(root: Path) -> PayloadStore:
    store = PayloadStore(root, "acme", wall_ms=lambda: NOW)
    for session in ("call-1", "call-2"):
        store.append(session, 1, "text_raw", 5, NAME, action="allow")
        store.append(session, 2, "text_raw", 6, ADDRESS, action="allow")
        store.append(session, 2, "PHI", 7, b"a cough", action="tokenize")
        (root / "acme" / session / "000001-e000001.segment").write_bytes(RECORDS + session.encode())
    store.close()
    return store


def every_byte(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def data_keys(store: PayloadStore, session: str, turn: int | None = None) -> list[tuple[bytes, bytes]]:
    """Return the data keys of a session, each as it is and as it lies on disk."""
    return [(store.data_key(one), one.key_path.read_bytes()) for one in store.artifacts(session, turn=turn)]


def log_of(root: Path) -> list[AuditEvent]:
    path = root / "audit" / log_name("acme")
    assert verify_audit(path).faults == []
    return list(audit_events(path))


def run(root: Path, request: DeletionRequest) -> deletion.Deleted:
    return delete_evidence(root, request, FileAudit(root / "audit"))


def test_hard_deletion_of_a_session_leaves_no_byte_of_it(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    secrets = data_keys(store, "call-1")
    assert len(secrets) == 3
    done = run(tmp_path, REQUEST)
    assert (done.keys, done.files) == (3, 4)
    left = every_byte(tmp_path)
    assert not (tmp_path / "acme" / "call-1").exists()
    assert RECORDS + b"call-1" not in left
    assert not any(part in left for pair in secrets for part in pair)
    assert [one.data for one in store.read("call-2").entries][:1] == [NAME]
    assert RECORDS + b"call-2" in left


def test_crypto_deletion_leaves_the_files_and_no_key_to_them(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    secrets = data_keys(store, "call-1")
    sealed = [one.path.read_bytes() for one in store.artifacts("call-1")]
    done = run(tmp_path, changed(mode="crypto_inaccessible"))
    assert (done.keys, done.files) == (3, 0)
    assert done.kept == ["000001-e000001.segment"]
    left = every_byte(tmp_path)
    assert all(content in left for content in sealed)
    assert not any(part in left for pair in secrets for part in pair)
    assert NAME not in left
    reading = store.read("call-1")
    assert reading.entries == []
    assert [one.code for one in reading.damage] == ["key_missing"] * 3
    assert {one.state for one in store.artifacts("call-1")} == {"cryptographically_inaccessible"}
    with pytest.raises(EvidenceError, match="its key is destroyed"):
        store.data_key(store.artifacts("call-1")[0])


def test_a_call_that_goes_on_never_gives_a_deleted_payload_a_key_again(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    run(tmp_path, changed(mode="crypto_inaccessible"))
    store.append("call-1", 1, "text_raw", 9, b"said later", action="allow")
    store.close()
    assert [one.data for one in store.read("call-1").entries] == [b"said later"]
    states = [(one.part, one.state) for one in store.artifacts("call-1", turn=1)]
    assert states == [(1, "cryptographically_inaccessible"), (2, "active")]


@pytest.mark.parametrize("mode", ["hard_delete", "crypto_inaccessible"])
def test_deletion_of_a_turn_takes_its_payloads_and_leaves_the_rest(tmp_path: Path, mode: str) -> None:
    store = recorded(tmp_path)
    gone, stays = data_keys(store, "call-1", 2), data_keys(store, "call-1", 1)
    done = run(tmp_path, changed(mode=mode, session_id="", turn_id="call-1/2"))
    assert (done.keys, done.files) == (2, 2 if mode == "hard_delete" else 0)
    left = every_byte(tmp_path)
    assert not any(part in left for pair in gone for part in pair)
    assert stays[0][1] in left
    assert [one.data for one in store.read("call-1").entries] == [NAME]
    assert RECORDS + b"call-1" in left


def test_the_bytes_of_a_key_are_overwritten_before_its_name_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = recorded(tmp_path)
    (artifact,) = store.artifacts("call-1", turn=1)
    other_name = tmp_path / "other-name"
    other_name.hardlink_to(artifact.key_path)
    assert keys.destroy(artifact.key_path)
    assert set(other_name.read_bytes()) == {0}
    assert not keys.destroy(artifact.key_path)


def test_s5_a_deletion_is_logged_before_and_after(tmp_path: Path) -> None:
    recorded(tmp_path)
    run(tmp_path, REQUEST)
    requested, done = log_of(tmp_path)
    assert (requested.kind, done.kind) == ("deletion_requested", "deletion_done")
    assert requested.request["requested_by"] == "ines"
    assert requested.outcome == {}
    assert done.outcome["keys"] == 3


def test_nothing_is_deleted_when_the_log_cannot_be_written(tmp_path: Path) -> None:
    store = recorded(tmp_path)
    (tmp_path / "audit").write_text("in the way")
    with pytest.raises(EvidenceError, match="audit log"):
        run(tmp_path, REQUEST)
    assert len(store.read("call-1").entries) == 3


def test_a_call_that_is_still_recorded_is_not_removed_under_its_writer(tmp_path: Path) -> None:
    request = changed(tenant_id="default", session_id="call")
    with EvidenceWriter(tmp_path, fsync="never") as writer:
        recorder = begin(writer)
        recorder.write(b"", marks(0, 2))
        while recorder.waiting:
            threading.Event().wait(0.005)
        with pytest.raises(EvidenceError, match="still being recorded"):
            run(tmp_path, request)
        assert (folder_of(tmp_path) / "000001-e000001.segment").is_file()
        denied = list(audit_events(tmp_path / "audit" / log_name("default")))[-1]
        assert denied.decision == {"allowed": False, "deny_reason": "session_is_recorded"}
        run(tmp_path, changed(tenant_id="default", session_id="call", mode="crypto_inaccessible"))
        recorder.write(b"", marks(2, 2))
        assert recorder.close()
    assert values(opened(tmp_path)) == [0, 1, 2, 3]
    assert run(tmp_path, request).files == 1
    assert not folder_of(tmp_path).exists()


def test_the_audit_log_outlives_what_it_is_about(tmp_path: Path) -> None:
    recorded(tmp_path)
    run(tmp_path, REQUEST)
    with pytest.raises(EvidenceError, match="no recording of it"):
        run(tmp_path, REQUEST)
    assert [event.kind for event in log_of(tmp_path)] == [
        "deletion_requested",
        "deletion_done",
        "deletion_requested",
    ]
    assert log_of(tmp_path)[2].decision["deny_reason"] == "session_not_found"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"session_id": ""}, "exactly one"),
        ({"turn_id": "call-1/2"}, "exactly one"),
        ({"session_id": "../other"}, "no name of a session"),
        ({"session_id": "", "turn_id": "call-1"}, "SESSION/NUMBER"),
        ({"mode": "maybe"}, "neither hard_delete"),
        ({"requested_by": " "}, "requested_by"),
        ({"requested_at_ms": -1}, "before 1970"),
    ],
)
def test_a_wrong_request_deletes_nothing_and_is_logged(
    tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    store = recorded(tmp_path)
    with pytest.raises(EvidenceError, match=problem):
        run(tmp_path, changed(**fields))
    assert len(store.read("call-1").entries) == 3
    assert [event.decision["deny_reason"] for event in log_of(tmp_path)] == ["invalid_request_attributes"]


def test_a_tenant_that_is_none_reaches_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no name of a tenant"):
        run(tmp_path, changed(tenant_id="../acme"))
    assert not (tmp_path / "audit").exists()


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    root = tmp_path / "evidence"
    recorded(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.key").write_text("stays")
    (root / "acme" / "call-1" / "link").symlink_to(outside)
    (root / "acme" / "call-1" / "keys" / "link.key").symlink_to(outside / "precious.key")
    run(root, REQUEST)
    assert (outside / "precious.key").read_text() == "stays"
    (root / "acme" / "call-3").symlink_to(root / "acme" / "call-2")
    with pytest.raises(EvidenceError, match="no recording"):
        run(root, changed(session_id="call-3"))


def test_what_could_not_be_deleted_is_said_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = recorded(tmp_path)

    def refuse(path: Path, done: deletion.Deleted) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(deletion, "remove_file", refuse)
    with pytest.raises(EvidenceError, match="Permission denied"):
        run(tmp_path, REQUEST)
    assert [event.kind for event in log_of(tmp_path)] == ["deletion_requested", "deletion_failed"]
    assert log_of(tmp_path)[1].outcome["keys"] == 1
    assert store.artifacts("call-1")[0].state == "cryptographically_inaccessible"
