"""Retention policies out of the control plane's distribution artifact, section 11.8 of the contracts.

The ``retention`` section holds ``default_policy`` and ``tenant_policies``, with the fields of a policy file.
A tenant's own beats the default. Where none can be had, the built-in defaults hold and the reason is told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from rspp.controlplane.artifact import SnapshotError
from rspp.controlplane.reading import ArtifactReader
from rspp.controlplane.settings import control_plane_settings
from rspp.controlplane.sources import HttpSource
from rspp.evidence.retention import ResolvedPolicy, RetentionPolicy, default_policy, policy_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rspp.controlplane.artifact import Artifact
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.evidence.retention import FallbackReason, PolicySource

_FIELDS = frozenset(RetentionPolicy.__struct_fields__)


class _Section(msgspec.Struct, frozen=True):
    stale: bool = False
    default_policy: dict[str, Any] | None = None
    tenant_policies: dict[str, dict[str, Any]] = {}


def distributed_policies(
    tenants: Sequence[str],
    *,
    wall_clock_ms: int,
    environment: Mapping[str, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[ResolvedPolicy]:
    """Return the policies of tenants, in their order; asks the control plane once.

    Args:
        tenants: whose policies.
        wall_clock_ms: now, milliseconds since 1970.
        environment: ``os.environ`` when absent; says where artifacts come from.
        sleep: waits that many seconds.

    Raises:
        ConfigurationError: a variable that says where they come from is wrong.
    """
    settings = control_plane_settings(environment=environment)
    if settings is None:
        return [_fallback(tenant, "cp_distribution_unconfigured") for tenant in tenants]
    try:
        received = ArtifactReader(settings, sleep).read(wall_clock_ms)
    except SnapshotError as error:
        stale = error.code == "snapshot_stale"
        reason: FallbackReason = "cp_distribution_snapshot_stale" if stale else "cp_distribution_fetch_failed"
        return [_fallback(tenant, reason) for tenant in tenants]
    artifact, source = received.artifact, _source(settings)
    if artifact.retention is msgspec.UNSET:
        return [_fallback(tenant, "cp_distribution_fetch_failed") for tenant in tenants]
    try:
        section = msgspec.convert(artifact.retention, _Section)
    except msgspec.ValidationError:
        return [_fallback(tenant, "cp_distribution_policy_invalid") for tenant in tenants]
    if section.stale or artifact.staleness(wall_clock_ms):
        return [_fallback(tenant, "cp_distribution_snapshot_stale") for tenant in tenants]
    return [_resolved(artifact, section, tenant, source) for tenant in tenants]


def _resolved(artifact: Artifact, section: _Section, tenant: str, source: PolicySource) -> ResolvedPolicy:
    if artifact.tenant_id not in ("", tenant):
        return _fallback(tenant, "cp_distribution_policy_invalid")
    stated = section.tenant_policies.get(tenant)
    # A default is nobody's own, so whose it says it is means nothing.
    own = stated if stated is not None else {**(section.default_policy or {}), "tenant_id": tenant}
    if stated is None and section.default_policy is None:
        return _fallback(tenant, "cp_distribution_fetch_failed")
    known = {name: value for name, value in {"tenant_id": tenant, **own}.items() if name in _FIELDS}
    try:
        policy = msgspec.convert(known, RetentionPolicy)
    except msgspec.ValidationError:
        return _fallback(tenant, "cp_distribution_policy_invalid")
    if policy.tenant_id != tenant or policy_fault(policy):
        return _fallback(tenant, "cp_distribution_policy_invalid")
    return ResolvedPolicy(policy, source, "")


def _source(settings: ControlPlaneSettings) -> PolicySource:
    remote = any(isinstance(source, HttpSource) for source in settings.sources)
    return "cp_distribution_http" if remote else "cp_distribution_file"


def _fallback(tenant: str, reason: FallbackReason) -> ResolvedPolicy:
    return ResolvedPolicy(default_policy(tenant), "default_fallback", reason)
