"""How long evidence is kept, by tenant and payload class, and the sweep that removes what is older.

Payload artifacts are of the class in their name and as old as their beginning. The segments of a session are
metadata; they go all at once, as old as the last record in them, because a chain with a piece missing could
not be told from a tampered one. Artifacts whose key is destroyed are not swept: nothing in them is left.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from rspp.contracts.envelope import PayloadClass  # noqa: TC001 - msgspec reads the annotations
from rspp.contracts.errors import EvidenceError
from rspp.evidence.age import written_before
from rspp.evidence.audit import AuditEvent
from rspp.evidence.deletion import Deleted, delete_artifact, drop_empty, remove_file
from rspp.evidence.index import forget_deleted
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.redaction import PAYLOAD_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rspp.evidence.artifact_file import Artifact
    from rspp.evidence.audit import AuditSink

DAY_MS = 86_400_000
DEFAULT_MS = 30 * DAY_MS
PII_LIMIT_MS = 7 * DAY_MS
PHI_LIMIT_MS = DAY_MS
MAX_POLICY_BYTES = 1 << 20
Duration: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 53)]
PolicySource: TypeAlias = Literal[
    "policy_artifact", "cp_distribution_file", "cp_distribution_http", "default_fallback", "mixed"
]
FallbackReason: TypeAlias = Literal[
    "",
    "cp_distribution_unconfigured",
    "cp_distribution_fetch_failed",
    "cp_distribution_snapshot_stale",
    "cp_distribution_policy_invalid",
    "mixed",
]

_RECORDS = re.compile(r".+\.segment|timeline(-\d+)?\.jsonl")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a tenant's evidence is kept, milliseconds.

    Attributes:
        tenant_id: the tenant.
        default_retention_ms: for classes that ``max_retention_by_class_ms`` does not name.
        pii_retention_limit_ms: most that PII may be kept.
        phi_retention_limit_ms: most that PHI may be kept.
        max_retention_by_class_ms: by class; PII and PHI must be there, within their limits.
    """

    tenant_id: str
    default_retention_ms: Duration = DEFAULT_MS
    pii_retention_limit_ms: Duration = PII_LIMIT_MS
    phi_retention_limit_ms: Duration = PHI_LIMIT_MS
    max_retention_by_class_ms: dict[PayloadClass, Duration]

    def window_ms(self, payload_class: PayloadClass) -> int:
        """Return how long a class is kept."""
        return self.max_retention_by_class_ms.get(payload_class, self.default_retention_ms)


class ResolvedPolicy(NamedTuple):
    """A policy, where it came from, and why it did not come from somewhere better."""

    policy: RetentionPolicy
    source: PolicySource
    fallback_reason: FallbackReason


class TenantSweep(msgspec.Struct, kw_only=True):
    """What a sweep did for one tenant.

    Attributes:
        tenant_id: the tenant.
        policy_source: where its policy came from.
        policy_fallback_reason: why not from somewhere better; empty for an explicit file.
        records: files of evidence that were looked at.
        deleted: files of evidence that were removed.
        deleted_by_class: the same by payload class, all six.
        remaining: files of evidence that are left.
    """

    tenant_id: str
    policy_source: PolicySource
    policy_fallback_reason: FallbackReason
    records: int = 0
    deleted: int = 0
    deleted_by_class: dict[PayloadClass, int] = {}
    remaining: int = 0


def default_policy(tenant: str) -> RetentionPolicy:
    """Return the policy of a tenant that has none of its own."""
    windows: dict[PayloadClass, int] = dict.fromkeys(PAYLOAD_CLASSES, DEFAULT_MS)
    return RetentionPolicy(
        tenant_id=tenant,
        max_retention_by_class_ms=windows | {"PII": PII_LIMIT_MS, "PHI": PHI_LIMIT_MS},
    )


def resolve_policy(path: Path, tenant: str) -> ResolvedPolicy:
    """Return the policy of a tenant in an explicit file.

    Args:
        path: the file: one policy, or ``{"policies": [...]}``.
        tenant: the tenant.

    Raises:
        EvidenceError: the file is not usable; its ``reason`` is one of the ``RETENTION_POLICY_...`` codes.
    """
    for policy in _policies(path):
        if policy.tenant_id == tenant:
            return ResolvedPolicy(policy, "policy_artifact", "")
    raise _wrong(path, "RETENTION_POLICY_TENANT_MISMATCH", f"has no policy for tenant {tenant}")


def policy_fault(policy: RetentionPolicy) -> str:
    """Return what contradicts itself in a policy; empty when nothing does."""
    if not _TENANT.fullmatch(policy.tenant_id):
        return f"tenant_id {policy.tenant_id[:100]!r} is no name of a tenant"
    windows = policy.max_retention_by_class_ms
    limits: tuple[tuple[PayloadClass, int], ...] = (
        ("PII", policy.pii_retention_limit_ms),
        ("PHI", policy.phi_retention_limit_ms),
    )
    for name, limit in limits:
        if name not in windows:
            return f"max_retention_by_class_ms lacks {name}"
        if windows[name] > limit:
            return f"max_retention_by_class_ms.{name} {windows[name]} is above its limit {limit}"
    return ""


def sweep_tenant(root: Path, resolved: ResolvedPolicy, sink: AuditSink, *, now_ms: int) -> TenantSweep:
    """Remove what a tenant's policy does not keep any longer; logged before.

    Args:
        root: the evidence folder.
        resolved: the policy.
        sink: the audit log; when it cannot be written nothing is removed.
        now_ms: now, milliseconds since 1970; what lies after it never expires.

    Raises:
        EvidenceError: the folder cannot be read, the log cannot be written, or something stays.
    """
    policy = resolved.policy
    counts: dict[PayloadClass, int] = dict.fromkeys(PAYLOAD_CLASSES, 0)
    result = TenantSweep(
        tenant_id=policy.tenant_id,
        policy_source=resolved.source,
        policy_fallback_reason=resolved.fallback_reason,
        deleted_by_class=counts,
    )
    expired: list[_Expired] = []
    try:
        for session in _sessions(root / policy.tenant_id):
            expired += _expired(root, policy, session, now_ms, result)
        for item in expired:
            counts[item.payload_class] += 1
        result.deleted = len(expired)
        result.remaining = result.records - result.deleted
        if expired:
            _log(sink, result, now_ms)
        for item in expired:
            item.remove(Deleted())
        for folder in dict.fromkeys(item.folder for item in expired):
            drop_empty(folder)
        if expired:
            forget_deleted(root)
    except OSError as error:
        raise EvidenceError(
            f"tenant {policy.tenant_id}: retention sweep: {error.filename}: {error.strerror}",
            hint="check permissions and sweep again",
        ) from error
    return result


class _Expired(NamedTuple):
    folder: Path
    payload_class: PayloadClass
    artifact: Artifact | None
    path: Path

    def remove(self, done: Deleted) -> None:
        if self.artifact is None:
            remove_file(self.path, done)
        else:
            delete_artifact(self.artifact, done, hard=True)


def _sessions(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield path


def _expired(
    root: Path, policy: RetentionPolicy, folder: Path, now_ms: int, result: TenantSweep
) -> Iterator[_Expired]:
    for artifact in PayloadStore(root, policy.tenant_id).artifacts(folder.name):
        result.records += 1
        old = now_ms - artifact.recorded_ms > policy.window_ms(artifact.payload_class)
        if old and artifact.state == "active":
            yield _Expired(folder, artifact.payload_class, artifact, artifact.path)
    files = [path for path in sorted(folder.iterdir()) if _RECORDS.fullmatch(path.name)]
    result.records += len(files)
    if written_before(files, now_ms - policy.window_ms("metadata")):
        for path in files:
            yield _Expired(folder, "metadata", None, path)


def _policies(path: Path) -> Sequence[RetentionPolicy]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise _wrong(path, "RETENTION_POLICY_READ_ERROR", f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_POLICY_BYTES:
        raise _wrong(path, "RETENTION_POLICY_DECODE_ERROR", f"is longer than {MAX_POLICY_BYTES} bytes")
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(path, "RETENTION_POLICY_DECODE_ERROR", f"is no JSON: {error}") from error
    listed = document.get("policies") if isinstance(document, dict) and "policies" in document else None
    if listed is not None and set(document) != {"policies"}:
        raise _wrong(path, "RETENTION_POLICY_ARTIFACT_INVALID", "holds more than `policies`")
    try:
        policies = msgspec.convert([document] if listed is None else listed, list[RetentionPolicy])
    except msgspec.ValidationError as error:
        raise _wrong(path, "RETENTION_POLICY_ARTIFACT_INVALID", f"does not fit: {error}") from error
    if not policies:
        raise _wrong(path, "RETENTION_POLICY_ARTIFACT_INVALID", "holds no policy")
    names = [policy.tenant_id for policy in policies]
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise _wrong(path, "RETENTION_POLICY_ARTIFACT_INVALID", f"holds two policies for {twice[0]}")
    for policy in policies:
        fault = policy_fault(policy)
        if fault:
            raise _wrong(path, "RETENTION_POLICY_VALIDATION_ERROR", f"tenant {policy.tenant_id}: {fault}")
    return policies


def _wrong(path: Path, code: str, problem: str) -> EvidenceError:
    return EvidenceError(
        f"{code}: retention policy {path} {problem}", hint="correct the file; nothing was swept", reason=code
    )


def _log(sink: AuditSink, result: TenantSweep, now_ms: int) -> None:
    sink.append(
        AuditEvent(
            timestamp_ms=now_ms,
            kind="retention_sweep",
            tenant_id=result.tenant_id,
            request={"principal_id": "retention-sweep", "policy_source": result.policy_source},
            decision={"allowed": True},
            outcome={"to_delete": result.deleted, "to_delete_by_class": dict(result.deleted_by_class)},
        )
    )
