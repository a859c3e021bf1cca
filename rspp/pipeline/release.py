"""The release manifest: what is released, on which evidence, by content (section 12.5 of the contracts)."""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rspp.pipeline.base import Strict
from rspp.pipeline.normalise import (
    compile_pipeline,
    pipeline_version,
    plan_template,
    profile_of,
    spec_digest,
)
from rspp.pipeline.rollout import RolloutConfig  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from datetime import datetime

    from rspp.pipeline.spec import PipelineSpec

Digest: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
"""SHA-256 in hex."""
CheckReason: TypeAlias = Literal[
    "passed", "missing", "unreadable", "invalid", "stale", "from_the_future", "failing"
]
_ID_DIGITS = 10


class SourceArtifact(Strict, frozen=True, kw_only=True):
    """One file that a release rests on.

    Attributes:
        path: where it lay, as it was named.
        sha256: over its bytes.
        generated_at_utc: when a report says that it was made; a file that people write does not say it.
    """

    path: str
    sha256: Digest
    generated_at_utc: str | UnsetType = UNSET


class ReadinessCheck(Strict, frozen=True, kw_only=True):
    """What came of one report.

    Attributes:
        name: which report.
        path: its file, as it was named.
        passed: whether it allows the release.
        reason: why, in one word.
        detail: why, for people, with the remedy; empty when it passed.
        generated_at_utc: when it says that it was made, if it could be read.
        age_ms: how long ago that was, milliseconds; below 0 when it lies ahead.
    """

    name: str
    path: str
    passed: bool
    reason: CheckReason
    detail: str = ""
    generated_at_utc: str | UnsetType = UNSET
    age_ms: int | UnsetType = UNSET


class Readiness(Strict, frozen=True, kw_only=True):
    """Whether the reports allow a release.

    Attributes:
        passed: whether every check did.
        max_artifact_age_ms: how old a report may be, milliseconds.
        checks: one for each report.
        violations: what forbids the release, for people.
    """

    passed: bool
    max_artifact_age_ms: int
    checks: tuple[ReadinessCheck, ...]
    violations: tuple[str, ...] = ()


class ReleasedPipeline(Strict, frozen=True, kw_only=True):
    """What is released, by content.

    Attributes:
        pipeline_version: `name@version`.
        spec_sha256: over the bytes of the pipeline file.
        spec_digest: over its normalised form, defaults and profiles included.
        graph_definition_ref: name of the compiled graph, with its digest.
        execution_profile: the profile that its sessions run under.
        profile_digests: over the normalised form of each profile that its plans depend on, by name.
        plan_policy_digest: over the policy that all its turn plans share.
    """

    pipeline_version: str
    spec_sha256: Digest
    spec_digest: Digest
    graph_definition_ref: str
    execution_profile: str
    profile_digests: dict[str, Digest]
    plan_policy_digest: Digest


class ReleaseManifest(Strict, frozen=True, kw_only=True):
    """What is released, how, and on which evidence.

    Attributes:
        schema_version: version of this document.
        status: whether the release was published, or refused for its readiness.
        release_id: its name; a refused one has none, so that nothing can be rolled out by it.
        generated_at_utc: when.
        spec_ref: the pipeline file, as it was named.
        pipeline: what is released, by content.
        rollout_config: how it reaches its callers.
        readiness: whether the reports allow it.
        source_artifacts: the files that it rests on, by name; one that could not be read is not among them.
    """

    schema_version: Literal["release/v1"]
    status: Literal["published", "refused"]
    release_id: Annotated[str, Meta(pattern="^rel-[0-9]{14}-[0-9a-f]{10}$")] | UnsetType = UNSET
    generated_at_utc: str
    spec_ref: str
    pipeline: ReleasedPipeline
    rollout_config: RolloutConfig
    readiness: Readiness
    source_artifacts: dict[str, SourceArtifact]


def sha256_of(content: bytes) -> str:
    """Return SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def released_pipeline(spec: PipelineSpec, content: bytes) -> ReleasedPipeline:
    """Say what a pipeline is, by content.

    Args:
        spec: the pipeline.
        content: bytes of the file that it was read from.

    Raises:
        ConfigurationError: the pipeline cannot be compiled.
    """
    profile = profile_of(spec)
    return ReleasedPipeline(
        pipeline_version=pipeline_version(spec),
        spec_sha256=sha256_of(content),
        spec_digest=spec_digest(spec),
        graph_definition_ref=compile_pipeline(spec).known().ref(),
        execution_profile=profile.name,
        profile_digests={profile.name: sha256_of(msgspec.json.encode(profile, order="sorted"))},
        plan_policy_digest=sha256_of(plan_template(spec)["policy_json"].encode()),
    )


def release_id(spec_ref: str, rollout: RolloutConfig, now: datetime) -> str:
    """Return the name of a release: when it was published, and a digest of what it was asked to be.

    Args:
        spec_ref: the pipeline file, as it was named.
        rollout: how it reaches its callers.
        now: when it is published, with a time zone.
    """
    posture = rollout.rollback_posture
    asked = "|".join((spec_ref, rollout.pipeline_version, rollout.strategy, posture.mode, posture.trigger))
    digest = sha256_of(asked.encode())[:_ID_DIGITS]
    return f"rel-{now.astimezone(UTC):%Y%m%d%H%M%S}-{digest}"
