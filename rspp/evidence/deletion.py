"""Deletes recorded evidence: files removed, or the keys of payloads destroyed; logged before and after.

Hard deletion of a session removes everything of it. Deletion of a turn removes, or makes unreadable, its
payloads; the records of the turn, which hold no words and no sound, stay, because the chain of the other
turns' evidence runs through them. The audit log is never deleted by this.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import structlog

from rspp.contracts.errors import EvidenceError
from rspp.evidence.audit import AuditEvent
from rspp.evidence.index import forget_deleted
from rspp.evidence.keys import destroy, sync_folder
from rspp.evidence.order import INDEX_FILE
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.segment_file import is_being_written, segment_files

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.evidence.artifact_file import Artifact
    from rspp.evidence.audit import AuditSink

DeletionMode: TypeAlias = Literal["hard_delete", "crypto_inaccessible"]

log = structlog.get_logger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TURN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})/(\d{1,9})")


class DeletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants what deleted.

    Attributes:
        tenant_id: whose evidence it is.
        mode: ``hard_delete`` removes; ``crypto_inaccessible`` destroys the keys and leaves what they locked.
        requested_by: who wants it.
        requested_at_ms: when, milliseconds since 1970.
        session_id: the session; empty when a turn is meant.
        turn_id: the turn as ``SESSION/NUMBER``; empty when a session is meant.
        reason: why; may be empty.
    """

    tenant_id: str
    mode: str
    requested_by: str
    requested_at_ms: int
    session_id: str = ""
    turn_id: str = ""
    reason: str = ""


class Deleted(msgspec.Struct, kw_only=True):
    """What a deletion did.

    Attributes:
        files: files that were removed.
        keys: data keys that were destroyed.
        bytes: bytes of the removed files.
        kept: files in clear that a destroyed key does not lock, by name; they stay readable. Of a session
            that was removed: the index, where it could not be written.
    """

    files: int = 0
    keys: int = 0
    bytes: int = 0
    kept: list[str] = []


def request_fault(request: DeletionRequest) -> str:
    """Return what is wrong with a request by the contract; empty when nothing is."""
    if not _NAME.fullmatch(request.tenant_id):
        return f"tenant_id {request.tenant_id[:100]!r} is no name of a tenant"
    if bool(request.session_id) == bool(request.turn_id):
        return "exactly one of session_id and turn_id must be given"
    if request.session_id and not _NAME.fullmatch(request.session_id):
        return f"session_id {request.session_id[:100]!r} is no name of a session"
    if request.turn_id and not _TURN.fullmatch(request.turn_id):
        return f"turn_id {request.turn_id[:100]!r} is not written as SESSION/NUMBER"
    if request.mode not in ("hard_delete", "crypto_inaccessible"):
        return f"mode {request.mode[:40]!r} is neither hard_delete nor crypto_inaccessible"
    if not request.requested_by.strip():
        return "requested_by is missing"
    if request.requested_at_ms < 0:
        return f"requested_at_ms {request.requested_at_ms} is before 1970"
    return ""


def delete_evidence(root: Path, request: DeletionRequest, sink: AuditSink) -> Deleted:
    """Delete what a request names.

    Args:
        root: the evidence folder.
        request: who wants what deleted.
        sink: the audit log; when it cannot be written nothing is deleted.

    Returns:
        What was done. A second deletion of the same finds nothing to do and is no error.

    Raises:
        EvidenceError: the request is wrong (logged all the same where it names a tenant), there is no such
            session, the log cannot be written, or something could not be deleted.
    """
    fault = request_fault(request)
    if fault:
        if _NAME.fullmatch(request.tenant_id):
            _log(sink, request, "deletion_requested", denied="invalid_request_attributes")
        raise EvidenceError(f"deletion: {fault}", hint="correct the request; nothing was deleted")
    match = _TURN.fullmatch(request.turn_id)
    session, turn = (match[1], int(match[2])) if match else (request.session_id, None)
    folder = root / request.tenant_id / session
    if folder.is_symlink() or not folder.is_dir():
        _log(sink, request, "deletion_requested", denied="session_not_found")
        raise EvidenceError(
            f"session {session}: tenant {request.tenant_id} has no recording of it",
            hint=f"recorded sessions are the folders in {folder.parent}",
        )
    running = [path.name for path in segment_files(folder) if is_being_written(path)]
    if running and turn is None and request.mode == "hard_delete":
        _log(sink, request, "deletion_requested", denied="session_is_recorded")
        raise EvidenceError(
            f"session {session}: the call is still being recorded ({running[-1]})",
            hint="delete it when it has ended; crypto_inaccessible locks at once what it has kept so far",
        )
    _log(sink, request, "deletion_requested")
    done = Deleted()
    try:
        artifacts = PayloadStore(root, request.tenant_id).artifacts(session, turn=turn)
        hard = request.mode == "hard_delete"
        for artifact in artifacts:
            delete_artifact(artifact, done, hard=hard)
        if hard and turn is None:
            remove_folder(folder, done)
            done.kept = _forgotten(root)
        elif turn is None:
            done.kept = sorted(path.name for path in folder.iterdir() if path.is_file())
    except (EvidenceError, OSError) as error:
        message = error.message if isinstance(error, EvidenceError) else str(error.strerror)
        _log(sink, request, "deletion_failed", done)
        raise EvidenceError(
            f"session {session}: not everything could be deleted: {message}",
            hint="check permissions and delete again; what was done is in the audit log",
        ) from error
    _log(sink, request, "deletion_done", done)
    return done


def _forgotten(root: Path) -> list[str]:
    """Take what was deleted out of the index; returns the index where that is not possible now.

    The recording is gone all the same, and whoever reads the index next takes it out.
    """
    try:
        forget_deleted(root)
    except EvidenceError as error:
        log.warning("the index was not kept", folder=str(root), error=error.message)
        return [INDEX_FILE]
    return []


def delete_artifact(artifact: Artifact, done: Deleted, *, hard: bool) -> None:
    """Destroy the key of an artifact, and with ``hard`` remove its file too; counts into ``done``.

    Raises:
        EvidenceError: the key cannot be destroyed.
        OSError: the file cannot be removed.
    """
    # The key first: should the rest fail, the payload cannot be read any more all the same.
    done.keys += destroy(artifact.key_path)
    if hard:
        remove_file(artifact.path, done)


def remove_file(path: Path, done: Deleted) -> None:
    """Remove a file for good, and count it.

    Raises:
        OSError: it cannot be removed.
    """
    size = path.lstat().st_size
    path.unlink()
    sync_folder(path.parent)
    done.files += 1
    done.bytes += size


def remove_folder(folder: Path, done: Deleted) -> None:
    """Remove a folder with everything in it; keys are destroyed, links are removed and not followed.

    Raises:
        EvidenceError: a key cannot be destroyed.
        OSError: something cannot be removed.
    """
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            remove_folder(path, done)
        elif path.suffix == ".key" and not path.is_symlink():
            done.keys += destroy(path)
        else:
            remove_file(path, done)
    folder.rmdir()


def drop_empty(folder: Path) -> None:
    """Remove the folders of a session that hold nothing any more."""
    for emptied in (folder / "payloads", folder / "keys", folder):
        # Whatever still lies in it keeps the folder.
        with contextlib.suppress(OSError):
            emptied.rmdir()


def _log(
    sink: AuditSink,
    request: DeletionRequest,
    kind: Literal["deletion_requested", "deletion_done", "deletion_failed"],
    done: Deleted | None = None,
    denied: str = "",
) -> None:
    plain = {name: str(value)[:200] for name, value in msgspec.structs.asdict(request).items()}
    sink.append(
        AuditEvent(
            timestamp_ms=max(0, request.requested_at_ms),
            kind=kind,
            tenant_id=request.tenant_id,
            request=plain,
            decision={"allowed": False, "deny_reason": denied} if denied else {"allowed": True},
            outcome={} if done is None else msgspec.to_builtins(done),
        )
    )
