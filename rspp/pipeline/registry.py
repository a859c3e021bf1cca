"""The pipeline registry (CP-01): versions that never change once they are published.

A version that nobody published is refused. Nothing is filled in for it: a pipeline that merely looks like
the one that was asked for would hold calls that nobody meant.
"""

from __future__ import annotations

from msgspec import Struct

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.normalise import compile_pipeline, pipeline_version, profile_of, spec_digest
from rspp.pipeline.spec import PipelineSpec  # noqa: TC001 - msgspec reads the annotations


class PipelineRecord(Struct, frozen=True, kw_only=True):
    """What the registry says of one version.

    Attributes:
        pipeline_version: ``name@version``.
        graph_definition_ref: name of the compiled graph.
        execution_profile: name of the profile.
        digest: SHA-256 over the whole pipeline, in hex.
        spec: the pipeline.
    """

    pipeline_version: str
    graph_definition_ref: str
    execution_profile: str
    digest: str
    spec: PipelineSpec


class PipelineRegistry:
    """Published pipelines by version; the first one is the default."""

    def __init__(self) -> None:
        self._records: dict[str, PipelineRecord] = {}

    @property
    def versions(self) -> tuple[str, ...]:
        """The published versions, the default first."""
        return tuple(self._records)

    def publish(self, spec: PipelineSpec) -> PipelineRecord:
        """Publish a pipeline; publishing the same again changes nothing.

        Raises:
            ConfigurationError: it cannot be compiled, or its version is taken by another content.
        """
        record = PipelineRecord(
            pipeline_version=pipeline_version(spec),
            graph_definition_ref=compile_pipeline(spec).known().ref(),
            execution_profile=profile_of(spec).name,
            digest=spec_digest(spec),
            spec=spec,
        )
        known = self._records.setdefault(record.pipeline_version, record)
        if known.digest != record.digest:
            raise ConfigurationError(
                f"version: {record.pipeline_version} is published with another content "
                f"(sha256 {known.digest[:12]}, here {record.digest[:12]})",
                hint="give the changed pipeline a version of its own",
            )
        return known

    def record(self, requested: str) -> PipelineRecord:
        """Return the record of a version; an empty name asks for the default.

        Raises:
            ConfigurationError: nobody published that version.
        """
        known = self._records.get(requested or next(iter(self._records), ""))
        if known is None:
            raise ConfigurationError(
                f'pipeline version: unknown version ("{requested}")',
                hint=f"published here: {', '.join(self._records) or 'nothing'}",
            )
        return known

    def resolve(self, requested: str) -> PipelineSpec:
        """Return the pipeline of a version; an empty name asks for the default.

        Raises:
            ConfigurationError: nobody published that version.
        """
        return self.record(requested).spec


def published(*specs: PipelineSpec) -> PipelineRegistry:
    """Return a registry of ``specs``."""
    registry = PipelineRegistry()
    for spec in specs:
        registry.publish(spec)
    return registry
