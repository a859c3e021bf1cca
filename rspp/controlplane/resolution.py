"""Resolves an artifact for one pipeline: the turn-start bundle of section 13.2, or why there is none.

Pure: the same artifact and request give the same answer wherever the artifact came from. Modules are asked in
the order of section 13.1, and the first that cannot answer decides. Nothing is made up: a version that is not
registered, a section that is not there and an answer that is left out are failures, not defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from rspp.contracts.turn_start import (
    AdmissionOutcome,
    AdmissionScope,
    FailureReason,
    TurnStart,
)
from rspp.controlplane.artifact import (
    EVENT_SCHEMA,
    MODULES,
    Admission,
    Artifact,
    Code,
    CompiledGraph,
    LeaseStatement,
    Policy,
    ProviderHealth,
    Routing,
    Section,
)
from rspp.pipeline.base import ADAPTIVE_ACTIONS
from rspp.pipeline.quotas import FOREVER_US

if TYPE_CHECKING:
    from rspp.contracts.turn_start import TurnStartRequest

Entry = TypeVar("Entry")

INVALID: FailureReason = "snapshot_invalid_or_missing"
UNRESOLVED: FailureReason = "turn_start_bundle_resolution_failed"
OUTCOMES: dict[str, AdmissionOutcome] = {"admit": "admit", "reject": "reject", "defer": "defer"}


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What turns of one pipeline start from.

    Attributes:
        snapshot_version: number of the snapshot.
        pipeline_version: ``name@version`` that serves.
        graph_definition_ref: its graph.
        execution_profile: its profile.
        graph_compilation_snapshot: what CP-03 calls its compilation; empty for none.
        graph_fingerprint: what CP-03 calls the graph; empty for none.
        provenance: the six references.
        adaptive_actions: what may be tried within a turn, in the order of the contracts.
        admission: what CP-05 says of new turns.
        admission_scope: for whom.
        admission_reason: why.
        lease_resolution_snapshot: where CP-07's answer is from; empty for none.
        authority_epoch: epoch that it states; 0 for none.
        authority_valid: whether it holds the epoch for valid.
        authority_authorized: whether the session may speak.
        authority_reason: why.
        sources: by module, which part of the artifact answered.
    """

    snapshot_version: int
    pipeline_version: str
    graph_definition_ref: str
    execution_profile: str
    graph_compilation_snapshot: str
    graph_fingerprint: str
    provenance: dict[str, str]
    adaptive_actions: tuple[str, ...]
    admission: AdmissionOutcome
    admission_scope: AdmissionScope
    admission_reason: str
    lease_resolution_snapshot: str
    authority_epoch: int
    authority_valid: bool
    authority_authorized: bool
    authority_reason: str
    sources: dict[str, str]

    def told(self, *, usable_until_us: int, claim_us: int) -> TurnStart:
        """Return what a session is told of it.

        Args:
            usable_until_us: until when turns may open from it, microseconds of the kernel's clock.
            claim_us: how long a deferred turn waits, microseconds.
        """
        return TurnStart(
            version=self.snapshot_version,
            usable_until_us=usable_until_us,
            provenance=self.provenance,
            adaptive_actions=self.adaptive_actions,
            admission=self.admission,
            admission_scope=self.admission_scope,
            admission_reason=self.admission_reason,
            authority_epoch=self.authority_epoch,
            authority_valid=self.authority_valid,
            authority_authorized=self.authority_authorized,
            claim_us=claim_us,
        )


class Unresolved(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no bundle.

    Attributes:
        snapshot_version: number of the snapshot.
        code: of section 13.3.
        module: who could not answer; empty when the whole artifact may not be used.
        message: what is wrong, naming the part of the artifact.
        reason: reason code that turns are refused or deferred with.
    """

    snapshot_version: int
    code: Code
    module: str
    message: str
    reason: FailureReason

    def told(self, *, usable_until_us: int, claim_us: int) -> TurnStart:
        """Return what a session is told of it; a failure holds until something else is told."""
        return TurnStart(
            version=self.snapshot_version,
            usable_until_us=FOREVER_US,
            failure=self.reason,
            claim_us=claim_us,
        )


class _FailedError(Exception):
    def __init__(self, code: Code, module: str, message: str, reason: FailureReason = INVALID) -> None:
        super().__init__(message)
        self.code: Code = code
        self.module = module
        self.message = message
        self.reason: FailureReason = reason


def resolve(artifact: Artifact, request: TurnStartRequest, *, wall_clock_ms: int) -> Bundle | Unresolved:
    """Resolve ``artifact`` for ``request``.

    Args:
        artifact: read and authentic.
        request: for what.
        wall_clock_ms: now, milliseconds since the Unix epoch.
    """
    try:
        _check_whole(artifact, request, wall_clock_ms)
        return _bundle(artifact, request)
    except _FailedError as failed:
        return Unresolved(
            snapshot_version=artifact.snapshot_version,
            code=failed.code,
            module=failed.module,
            message=failed.message,
            reason=failed.reason,
        )


def _check_whole(artifact: Artifact, request: TurnStartRequest, wall_clock_ms: int) -> None:
    stale = artifact.staleness(wall_clock_ms)
    if stale:
        raise _FailedError("snapshot_stale", "", stale)
    if not artifact.fits():
        fits = artifact.compatibility
        raise _FailedError(
            "snapshot_incompatible",
            "",
            f"compatibility: events have schema v{EVENT_SCHEMA[0]}.{EVENT_SCHEMA[1]}, and the artifact fits "
            f"{fits.schema_min} to {fits.schema_max}",
        )
    if artifact.tenant_id not in ("", request.tenant):
        raise _FailedError(
            "snapshot_incompatible",
            "",
            f"tenant_id: the artifact is for {artifact.tenant_id!r}, the session is of {request.tenant!r}",
        )


def _bundle(artifact: Artifact, request: TurnStartRequest) -> Bundle:
    wanted = request.pipeline_version
    sources: dict[str, str] = {}
    _check_registered(artifact, request, sources)
    version_ref = _rolled_out(artifact, wanted, sources)
    compiled = _compiled(artifact, request, sources)
    routing: Routing = _entry(artifact.routing_view, "CP-08", "routing_view", wanted, sources)
    health: ProviderHealth = _entry(artifact.provider_health, "CP-10", "provider_health", wanted, sources)
    policy: Policy = _entry(artifact.policy, "CP-04", "policy", wanted, sources)
    if policy.allowed_adaptive_actions is UNSET:
        raise _missing("CP-04", f"{sources['CP-04']}.allowed_adaptive_actions")
    lease: LeaseStatement = _entry(artifact.lease, "CP-07", "lease", wanted, sources)
    if lease.authority_epoch_valid is UNSET or lease.authority_authorized is UNSET:
        name = "authority_epoch_valid" if lease.authority_epoch_valid is UNSET else "authority_authorized"
        raise _missing("CP-07", f"{sources['CP-07']}.{name}")
    admission: Admission = _entry(artifact.admission, "CP-05", "admission", wanted, sources)
    if not admission.outcome_kind:
        raise _missing("CP-05", f"{sources['CP-05']}.outcome_kind")
    references = {
        "routing_view_snapshot": routing.routing_view_snapshot,
        "admission_policy_snapshot": routing.admission_policy_snapshot,
        "abi_compatibility_snapshot": routing.abi_compatibility_snapshot,
        "version_resolution_snapshot": version_ref,
        "policy_resolution_snapshot": policy.policy_resolution_snapshot,
        "provider_health_snapshot": health.provider_health_snapshot,
    }
    for name, value in references.items():
        if not value:
            raise _missing(MODULES[name], f"{sources[MODULES[name]]}.{name}")
    return Bundle(
        snapshot_version=artifact.snapshot_version,
        pipeline_version=wanted,
        graph_definition_ref=request.graph_definition_ref,
        execution_profile=request.execution_profile,
        graph_compilation_snapshot=compiled.graph_compilation_snapshot,
        graph_fingerprint=compiled.graph_fingerprint,
        provenance=references,
        adaptive_actions=tuple(name for name in ADAPTIVE_ACTIONS if name in policy.allowed_adaptive_actions),
        admission=OUTCOMES.get(admission.outcome_kind, "reject"),
        admission_scope=admission.scope or ("tenant" if artifact.tenant_id else "session"),
        admission_reason=admission.reason,
        lease_resolution_snapshot=lease.lease_resolution_snapshot,
        authority_epoch=lease.authority_epoch,
        authority_valid=lease.authority_epoch_valid,
        authority_authorized=lease.authority_authorized,
        authority_reason=lease.reason,
        sources=sources,
    )


def _check_registered(artifact: Artifact, request: TurnStartRequest, sources: dict[str, str]) -> None:
    """CP-01 and CP-02: the version exists, with the graph and the profile that the session runs."""
    registry, wanted = artifact.registry, request.pipeline_version
    if registry is UNSET or not registry.records:
        raise _missing("CP-01", "registry")
    record = registry.records.get(wanted)
    where = f"registry.records[{wanted}]"
    if record is None:
        raise _FailedError("snapshot_missing", "CP-01", f"{where}: the version is not registered", UNRESOLVED)
    sources["CP-01"] = where
    said = (
        ("pipeline_version", record.pipeline_version, wanted),
        ("graph_definition_ref", record.graph_definition_ref, request.graph_definition_ref),
        ("execution_profile", record.execution_profile, request.execution_profile),
    )
    for name, told, runs in said:
        if told not in ("", runs):
            raise _differs("CP-02", f"{where}.{name}", told, runs)
    sources["CP-02"] = where


def _rolled_out(artifact: Artifact, wanted: str, sources: dict[str, str]) -> str:
    """CP-09: the version that serves is the one that the session runs; returns its reference."""
    rollout = artifact.rollout
    if rollout is UNSET or not rollout.version_resolution_snapshot:
        raise _missing("CP-09", "rollout" if rollout is UNSET else "rollout.version_resolution_snapshot")
    serves = rollout.by_requested_version.get(wanted, wanted)
    sources["CP-09"] = f"rollout.by_requested_version[{wanted}]" if serves != wanted else "rollout"
    if serves != wanted:
        raise _differs("CP-09", sources["CP-09"], serves, wanted)
    return rollout.version_resolution_snapshot


def _compiled(artifact: Artifact, request: TurnStartRequest, sources: dict[str, str]) -> CompiledGraph:
    """CP-03: the control plane compiled the graph that the session runs."""
    compiled: CompiledGraph = _entry(
        artifact.graph_compiler, "CP-03", "graph_compiler", request.pipeline_version, sources
    )
    if compiled.graph_definition_ref not in ("", request.graph_definition_ref):
        where = f"{sources['CP-03']}.graph_definition_ref"
        raise _differs("CP-03", where, compiled.graph_definition_ref, request.graph_definition_ref)
    return compiled


def _entry(
    section: Section[Entry] | UnsetType, module: str, name: str, version: str, sources: dict[str, str]
) -> Entry:
    """Return a section's entry: its own of the pipeline, else the default."""
    if section is UNSET:
        raise _missing(module, name)
    if version in section.by_pipeline:
        sources[module] = f"{name}.by_pipeline[{version}]"
        return section.by_pipeline[version]
    if section.default is UNSET:
        raise _missing(module, f"{name}.by_pipeline[{version}] and {name}.default")
    sources[module] = f"{name}.default"
    return section.default


def _missing(module: str, where: str) -> _FailedError:
    return _FailedError("snapshot_missing", module, f"{where} is missing")


def _differs(module: str, where: str, told: str, runs: str) -> _FailedError:
    return _FailedError(
        "snapshot_incompatible", module, f"{where} is {told!r}, and this runtime runs {runs!r}", UNRESOLVED
    )
