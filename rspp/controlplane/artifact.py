"""The distribution artifact of the control plane, section 13.3 of the contracts, as types.

Unknown fields are ignored, as the contracts want. At the root stand what section 13.5 asks of every snapshot:
a version that never falls, when it was issued and expires, whom it is for, which event schemas it fits, and a
signature. Nothing has a default that would let a turn open: what is left out is missing.
"""

from __future__ import annotations

import datetime
import hashlib
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from rspp.contracts.errors import ConfigurationError

SCHEMA_VERSION = "cp-snapshot-distribution/v1"
MAX_BYTES = 1 << 20
"""Largest artifact, bytes: what an endpoint sends is not the runtime's to bound otherwise."""
EVENT_SCHEMA = (1, 0)
"""The schema version of the events that this runtime emits."""

Code = Literal[
    "invalid_config",
    "artifact_read_failed",
    "artifact_decode_failed",
    "artifact_invalid",
    "snapshot_missing",
    "snapshot_stale",
    "snapshot_incompatible",
    "snapshot_older",
]
"""Codes of section 13.3, and two that its section 13.5 makes outcomes of their own: incompatible, and older
than one already used."""

Reference = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=200)]
Snapshot = Annotated[str, Meta(pattern=r"\A[!-~]{0,200}\Z")]
"""A reference, which plans and evidence carry; empty when it is left out."""
Version = Annotated[str, Meta(pattern=r"\Av[0-9]{1,6}\.[0-9]{1,6}\Z")]
Instant = Annotated[datetime.datetime, Meta(tz=True)]
Entry = TypeVar("Entry")


class SnapshotError(ConfigurationError):
    """No usable artifact could be had.

    Args:
        code: which of ``Code``.
        message: what is wrong.
        hint: what to do about it.
        retryable: whether the same endpoint may answer well in a moment.
    """

    def __init__(self, code: Code, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.code: Code = code
        self.retryable = retryable


class Record(Struct, frozen=True):
    """What CP-01 knows of one pipeline version; what is empty makes no statement."""

    pipeline_version: Text = ""
    graph_definition_ref: Text = ""
    execution_profile: Text = ""


class Registry(Struct, frozen=True):
    """CP-01: the pipeline versions that exist."""

    stale: bool = False
    default_pipeline_version: Text = ""
    records: dict[str, Record] = {}


class Rollout(Struct, frozen=True):
    """CP-09: which version serves a request for one."""

    stale: bool = False
    default_pipeline_version: Text = ""
    version_resolution_snapshot: Snapshot = ""
    by_requested_version: dict[str, Reference] = {}


class Section(Struct, Generic[Entry], frozen=True):
    """A section whose entry for a pipeline beats its default."""

    stale: bool = False
    default: Entry | UnsetType = UNSET
    by_pipeline: dict[str, Entry] = {}


class Routing(Struct, frozen=True):
    """CP-08: three of the references that plans carry."""

    routing_view_snapshot: Snapshot = ""
    admission_policy_snapshot: Snapshot = ""
    abi_compatibility_snapshot: Snapshot = ""


class Policy(Struct, frozen=True):
    """CP-04: what may be tried within a turn; an empty list is nothing, none is missing."""

    policy_resolution_snapshot: Snapshot = ""
    allowed_adaptive_actions: tuple[Text, ...] | UnsetType = UNSET


class ProviderHealth(Struct, frozen=True):
    """CP-10: the reference of the providers' health."""

    provider_health_snapshot: Snapshot = ""


class CompiledGraph(Struct, frozen=True):
    """CP-03: what the control plane compiled; an empty reference makes no statement."""

    graph_definition_ref: Text = ""
    graph_compilation_snapshot: Snapshot = ""
    graph_fingerprint: Text = ""


class Admission(Struct, frozen=True):
    """CP-05: whether new turns are admitted; any unknown outcome is a reject."""

    admission_policy_snapshot: Snapshot = ""
    outcome_kind: Text = ""
    scope: Literal["", "tenant", "session"] = ""
    reason: Text = ""


class LeaseStatement(Struct, frozen=True):
    """CP-07: what it says of authority; epoch 0 states none, both answers must be given."""

    lease_resolution_snapshot: Snapshot = ""
    authority_epoch: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)] = 0
    authority_epoch_valid: bool | UnsetType = UNSET
    authority_authorized: bool | UnsetType = UNSET
    reason: Text = ""


class Compatibility(Struct, frozen=True):
    """The event schemas that a snapshot fits, both ends included."""

    schema_min: Version
    schema_max: Version


class Artifact(Struct, frozen=True, kw_only=True):
    """One snapshot of everything that a turn starts from.

    Attributes:
        schema_version: always ``SCHEMA_VERSION``.
        snapshot_version: never falls; a number names one content.
        issued_at_utc: when it was made.
        expires_at_utc: until when turns may open from it.
        tenant_id: whose it is; empty for every tenant's.
        compatibility: event schemas that it fits.
        signature: Ed25519 over the canonical form without it, base64; empty for none.
        stale: the control plane itself holds it for out of date.
        registry: CP-01.
        rollout: CP-09.
        routing_view: CP-08.
        policy: CP-04.
        provider_health: CP-10.
        graph_compiler: CP-03.
        admission: CP-05.
        lease: CP-07.
        retention: how long evidence is kept; ``rspp.controlplane.retention`` reads it, and no turn depends on
            it, so whatever stands there does not make an artifact invalid.
    """

    schema_version: str
    snapshot_version: Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]
    issued_at_utc: Instant
    expires_at_utc: Instant
    compatibility: Compatibility
    tenant_id: Text = ""
    signature: Text = ""
    stale: bool = False
    registry: Registry | UnsetType = UNSET
    rollout: Rollout | UnsetType = UNSET
    routing_view: Section[Routing] | UnsetType = UNSET
    policy: Section[Policy] | UnsetType = UNSET
    provider_health: Section[ProviderHealth] | UnsetType = UNSET
    graph_compiler: Section[CompiledGraph] | UnsetType = UNSET
    admission: Section[Admission] | UnsetType = UNSET
    lease: Section[LeaseStatement] | UnsetType = UNSET
    retention: Any = UNSET

    @property
    def expires_ms(self) -> int:
        """Expiry, milliseconds since the Unix epoch."""
        return round(self.expires_at_utc.timestamp() * 1000)

    @property
    def order(self) -> tuple[int, datetime.datetime]:
        """What must not go back from one snapshot to the next."""
        return self.snapshot_version, self.issued_at_utc

    def staleness(self, wall_clock_ms: int) -> str:
        """Say what is out of date; empty when nothing is.

        Args:
            wall_clock_ms: now, milliseconds since the Unix epoch.
        """
        if self.stale:
            return "the artifact is marked stale"
        for name in SECTIONS:
            if getattr(getattr(self, name), "stale", False):
                return f"{name} is marked stale"
        if wall_clock_ms >= self.expires_ms:
            return f"the artifact expired at {self.expires_at_utc:%FT%TZ}"
        return ""

    def fits(self) -> bool:
        """Whether the events of this runtime are within the range that it fits."""
        low, high = _version(self.compatibility.schema_min), _version(self.compatibility.schema_max)
        return low <= EVENT_SCHEMA <= high

    def digest(self) -> str:
        """Return SHA-256 in hex over what turns start from, without when it said so and who signed it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("issued_at_utc", "expires_at_utc", "signature", "stale", "retention"):
            plain.pop(name, None)
        for name in SECTIONS:
            if name in plain:
                plain[name].pop("stale", None)
        return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


SECTIONS = (
    "registry",
    "rollout",
    "graph_compiler",
    "routing_view",
    "provider_health",
    "policy",
    "lease",
    "admission",
)
"""In the order in which they are resolved, section 13.1."""
MODULES = {
    "routing_view_snapshot": "CP-08",
    "admission_policy_snapshot": "CP-08",
    "abi_compatibility_snapshot": "CP-08",
    "version_resolution_snapshot": "CP-09",
    "policy_resolution_snapshot": "CP-04",
    "provider_health_snapshot": "CP-10",
}
"""Whose answer each reference of a plan is taken from: that of admission is routing's, section 13.1."""


class _Head(Struct):
    schema_version: str = ""


def decode_artifact(data: bytes) -> Artifact:
    """Read an artifact; whether it may be used is for ``rspp.controlplane.reading`` to say.

    Raises:
        SnapshotError: ``artifact_decode_failed`` when it is no JSON, ``artifact_invalid`` when it is another
            schema or a field is wrong.
    """
    if len(data) > MAX_BYTES:
        raise SnapshotError(
            "artifact_invalid",
            f"the artifact has more than {MAX_BYTES} bytes",
            hint="leave out pipelines that this runtime does not hold",
        )
    if not data.strip():
        raise _no_json("it is empty")
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(str(error)) from error
    if head.schema_version != SCHEMA_VERSION:
        raise _invalid(f"schema_version {head.schema_version[:80]!r} is not {SCHEMA_VERSION!r}")
    try:
        artifact = msgspec.json.decode(data, type=Artifact)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    if artifact.expires_at_utc <= artifact.issued_at_utc:
        raise _invalid("expires_at_utc is not after issued_at_utc")
    return artifact


def _no_json(problem: str) -> SnapshotError:
    return SnapshotError(
        "artifact_decode_failed",
        f"the artifact is no JSON: {problem}",
        hint="see what is really there; rspp-cli snapshot-template PIPELINE prints a valid one",
    )


def _invalid(problem: str) -> SnapshotError:
    return SnapshotError(
        "artifact_invalid",
        f"the artifact is invalid: {problem}",
        hint="rspp-cli snapshot-template PIPELINE prints a valid one",
    )


def _version(text: str) -> tuple[int, int]:
    major, minor = text.removeprefix("v").split(".")
    return int(major), int(minor)
