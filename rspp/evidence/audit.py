"""The audit log: who asked for recorded evidence, and what came of it.

If it cannot be written, access closes.

Each tenant has a file of its own, only ever appended to, one JSON object a line, each with the digest of the
line before::

    {"format":1,"number":1,"previous":"00…","event":{…},"digest":"SHA-256 of all these"}

A changed, removed or inserted line breaks the chain at its place. Lines cut off at the end show because the
file ``….head`` beside the log keeps how many there were; where that file is missing, so may lines be.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from rspp.contracts.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EventKind: TypeAlias = Literal[
    "access", "token_revealed", "deletion_requested", "deletion_done", "deletion_failed", "retention_sweep"
]
SUFFIX = ".replay-audit.jsonl"
MAX_LINE_BYTES = 256 << 10
FORMAT: Literal[1] = 1
FIRST = "0" * 64
"""What stands for the digest before the first line."""
MAX_NAME_BYTES = 255 - len(SUFFIX) - len(".head")

_PLAIN = re.compile(r"[a-z0-9-]")
_ESCAPED = re.compile(r"_([0-9A-F]{2})")
_LOG_NAME = re.compile(r"(?:[a-z0-9-]|_[0-9A-F]{2})+")


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of the log.

    Attributes:
        timestamp_ms: when, milliseconds since 1970.
        kind: what happened.
        tenant_id: whose evidence it is about, and in whose log it stands.
        request: who asked for what, as it was asked; no content.
        decision: what was decided: ``allowed``, and ``deny_reason`` or ``redaction_markers``.
        outcome: what came of it, such as how many files were deleted; empty when nothing was to come.
    """

    timestamp_ms: int
    kind: EventKind
    tenant_id: str
    request: dict[str, Any]
    decision: dict[str, Any]
    outcome: dict[str, Any] = {}


class AuditSink(Protocol):
    """Where audit events go."""

    def append(self, event: AuditEvent) -> None:
        """Keep an event for good.

        Raises:
            EvidenceError: it cannot be kept; what it is about must not happen.
        """
        ...


class AuditFault(NamedTuple):
    """What is wrong with a log.

    Attributes:
        line: number of the line, from 1; 0 for the whole.
        problem: what is wrong.
    """

    line: int
    problem: str


class AuditCheck(NamedTuple):
    """What checking a log found: how many sound events, and the faults."""

    events: int
    faults: list[AuditFault]


def audit_faults(event: AuditEvent) -> str:
    """Return what is wrong with an event by the contract; empty when nothing is."""
    if event.timestamp_ms < 0:
        return f"timestamp_ms {event.timestamp_ms} is before 1970"
    if not event.request:
        return "the request is missing"
    allowed = event.decision.get("allowed")
    if not isinstance(allowed, bool):
        return "decision.allowed is missing"
    if not allowed and not event.decision.get("deny_reason"):
        return "a denial has no reason"
    markers = event.decision.get("redaction_markers", [])
    if any(not marker.get("reason") for marker in markers):
        return "a redaction marker has no reason"
    return ""


def log_name(tenant: str) -> str:
    """Return the name of a tenant's log: a different one for each tenant, on every file system.

    Small letters, digits and dashes stand for themselves, every other byte as ``_`` and two hex digits; so
    ``Acme`` and ``acme`` differ even where file names know no case.

    Raises:
        EvidenceError: the name is empty or too long for a file.
    """
    name = "".join(
        letter if _PLAIN.fullmatch(letter) else "".join(f"_{byte:02X}" for byte in letter.encode())
        for letter in tenant
    )
    if not name or len(name) > MAX_NAME_BYTES:
        raise EvidenceError(
            f"tenant {tenant[:40]!r} cannot name an audit log",
            hint=f"use a name of at most {MAX_NAME_BYTES} small letters, digits and dashes",
        )
    return name + SUFFIX


def tenant_of_log(name: str) -> str | None:
    """Return the tenant whose log has that name; none when it is no log."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or not _LOG_NAME.fullmatch(stem):
        return None
    raw = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), stem)
    try:
        return raw.encode("latin-1").decode()
    except UnicodeDecodeError:
        return None


class FileAudit:
    """Appends events to the tenants' logs; each is on the medium before ``append`` returns.

    Several processes may append to one log at once.

    Args:
        folder: folder of the logs; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, event: AuditEvent) -> None:
        """Keep an event for good.

        Raises:
            EvidenceError: it cannot be written, or the log is damaged at its end.
        """
        path = self.folder / log_name(event.tenant_id)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(path, flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                _append(file, path, event)
            finally:
                os.close(file)
        except OSError as error:
            raise EvidenceError(
                f"audit log {path} cannot be written: {error.strerror}",
                hint="evidence stays closed until it can; check space and permissions",
            ) from error


def audit_events(path: Path) -> Iterator[AuditEvent]:
    """Yield the events of a log that can be read, oldest first.

    Raises:
        EvidenceError: the file cannot be read.
    """
    for _, line in _lines(path):
        entry = _entry(line)
        if entry is not None:
            yield entry.event


def verify_audit(path: Path) -> AuditCheck:
    """Check the chain of a log.

    Raises:
        EvidenceError: the file cannot be read.
    """
    faults: list[AuditFault] = []
    previous, number, torn = FIRST, 0, 0
    for place, line in _lines(path):
        entry = _entry(line)
        if entry is None:
            torn = place
            continue
        if torn and not entry.after_torn:
            faults.append(AuditFault(torn, "not an audit event: the line was changed"))
        torn = 0
        same = msgspec.json.encode(entry) == line.rstrip(b"\n")
        if not same or entry.digest != _digest(entry.previous, entry.number, entry.event):
            faults.append(AuditFault(place, "the event was changed: its digest is another"))
        if entry.previous != previous or entry.number != number + 1:
            missing = entry.number - number - 1
            lost = f"{missing} events are missing" if missing > 0 else "the event is out of its place"
            faults.append(AuditFault(place, f"{lost}: it does not follow the event before"))
        previous, number = entry.digest, entry.number
    if torn:
        faults.append(AuditFault(torn, "torn: the process died while it wrote this line, or it was cut"))
    kept = _head(path)
    if kept is None and number > 1:
        message = f"{_head_path(path).name}, which counts the events, is missing: some may be cut off the end"
        faults.append(AuditFault(0, message))
    elif kept is not None and kept > number:
        faults.append(AuditFault(0, f"{kept - number} events at the end are missing"))
    return AuditCheck(number, faults)


class _Entry(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    format: Literal[1]
    number: int
    previous: str
    event: AuditEvent
    digest: str
    after_torn: bool = False


def _append(file: int, path: Path, event: AuditEvent) -> None:
    size = os.fstat(file).st_size
    last, whole = _last(file, size)
    number, previous = (0, FIRST) if last is None else (last.number, last.digest)
    if last is None and size > MAX_LINE_BYTES:
        raise EvidenceError(
            f"audit log {path}: its end is damaged", hint="keep it, and begin another by moving it away"
        )
    entry = _Entry(
        FORMAT, number + 1, previous, event, _digest(previous, number + 1, event), after_torn=not whole
    )
    line = msgspec.json.encode(entry) + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise EvidenceError(f"audit event of {len(line)} bytes is too long", hint="shorten the request")
    content = line if whole else b"\n" + line
    written = os.write(file, content)
    if written < len(content):
        raise OSError(28, "No space left on device")
    os.fsync(file)
    # After the log: a head that is behind is what a crash leaves, one that is ahead tells of a cut.
    passing = path.with_name(path.name + f".{os.getpid()}.tmp")
    passing.write_text(f"{entry.number}\n", encoding="ascii")
    passing.chmod(0o600)
    passing.replace(_head_path(path))


def _last(file: int, size: int) -> tuple[_Entry | None, bool]:
    """Return the last whole entry, and whether the file ends with it."""
    start = max(0, size - 2 * MAX_LINE_BYTES)
    content = os.pread(file, size - start, start)
    whole = not content or content.endswith(b"\n")
    lines = content.split(b"\n")
    for place, line in enumerate(reversed(lines[:-1] if whole else lines)):
        entry = _entry(line)
        if entry is not None:
            return entry, whole and place == 0
    return None, whole and not content


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if line.strip():
                    yield number, line
    except OSError as error:
        raise EvidenceError(
            f"audit log {path} cannot be read: {error.strerror}", hint="name a log under EVIDENCE/audit"
        ) from error


def _entry(line: bytes) -> _Entry | None:
    try:
        return msgspec.json.decode(line, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _digest(previous: str, number: int, event: AuditEvent) -> str:
    body = msgspec.json.encode([FORMAT, previous, number, event], order="sorted")
    return hashlib.sha256(body).hexdigest()


def _head_path(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def _head(path: Path) -> int | None:
    """How many events there were; none when that cannot be read, as after a crash in the very first."""
    try:
        return int(_head_path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
