"""Publishes a release: a manifest that binds a pipeline, its rollout and the reports that allow it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.checker import shown
from rspp.pipeline.document import UnreadableError
from rspp.pipeline.loader import parse_pipeline, text_of
from rspp.pipeline.release import (
    ReleaseManifest,
    SourceArtifact,
    release_id,
    released_pipeline,
    sha256_of,
)
from rspp.pipeline.rollout import parse_rollout
from rspp.tooling.readiness import CONTRACTS, REPLAY, SLO, judge_reports
from rspp.tooling.report_files import markdown_table, text_table, write_report_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from rspp.pipeline.release import ReleasedPipeline
    from rspp.pipeline.rollout import RolloutConfig

SPEC = "pipeline_spec"
ROLLOUT = "rollout_config"
HEADER = ("report", "age", "result")


class ReleaseInputs(NamedTuple):
    """The files that a release is made of.

    Attributes:
        spec: the pipeline file.
        rollout: the rollout configuration.
        contracts: what ``rspp-cli validate-contracts-report`` wrote.
        replay: what ``rspp-cli replay-regression-report`` wrote for the full gate.
        slo: what ``rspp-cli slo-gates-report`` wrote.
    """

    spec: Path
    rollout: Path
    contracts: Path
    replay: Path
    slo: Path


class InvalidReleaseError(ConfigurationError):
    """A pipeline or a rollout that can be read and cannot be released: a judgement, as a failed gate is."""

    exit_status = 1


def make_manifest(inputs: ReleaseInputs, now: datetime) -> ReleaseManifest:
    """Read everything that a release is made of, and judge it.

    Args:
        inputs: the files.
        now: the time, with a time zone.

    Returns:
        The manifest, with a release id when the reports allow the release.

    Raises:
        UnreadableError: the pipeline file, its profile or the rollout configuration cannot be read, or is no
            YAML or JSON document.
        InvalidReleaseError: one of the two is invalid, or they are about different versions.
    """
    spec_text = text_of(inputs.spec, "pipeline", "name the pipeline file to release")
    rollout_text = text_of(inputs.rollout, "rollout", "name the file that says how it is released")
    pipeline, rollout = _checked(inputs, spec_text, rollout_text)
    paths = {CONTRACTS: inputs.contracts, REPLAY: inputs.replay, SLO: inputs.slo}
    readiness, reports = judge_reports(paths, now)
    spec_ref = str(inputs.spec)
    return ReleaseManifest(
        schema_version="release/v1",
        status="published" if readiness.passed else "refused",
        release_id=release_id(spec_ref, rollout, now) if readiness.passed else UNSET,
        generated_at_utc=now.astimezone(UTC).isoformat(timespec="seconds"),
        spec_ref=spec_ref,
        pipeline=pipeline,
        rollout_config=rollout,
        readiness=readiness,
        source_artifacts={
            **reports,
            ROLLOUT: SourceArtifact(path=str(inputs.rollout), sha256=sha256_of(rollout_text.encode())),
            SPEC: SourceArtifact(path=spec_ref, sha256=pipeline.spec_sha256),
        },
    )


def publish(inputs: ReleaseInputs, output: Path, now: datetime) -> ReleaseManifest:
    """Write the manifest and its Markdown twin, also when the release is refused: it says why.

    Args:
        inputs: the files that the release is made of.
        output: the JSON file.
        now: the time, with a time zone.

    Raises:
        ConfigurationError: an input cannot be read or would be overwritten, or the manifest cannot be
            written.
        InvalidReleaseError: the pipeline or the rollout is invalid; nothing is written.
    """
    written = {output.resolve(), output.with_suffix(".md").resolve()}
    for name, path in inputs._asdict().items():
        if path.resolve() in written:
            raise ConfigurationError(
                f"output {str(output)!r} would overwrite the {name} input",
                hint="the third argument is where the manifest goes; name another file",
            )
    manifest = make_manifest(inputs, now)
    write_report_files(output, msgspec.to_builtins(manifest), release_markdown(manifest))
    return manifest


def release_table(manifest: ReleaseManifest) -> list[str]:
    """Return a manifest as lines for the terminal."""
    return [
        *text_table(HEADER, _rows(manifest)),
        *(f"violation: {violation}" for violation in manifest.readiness.violations),
        _verdict(manifest),
    ]


def release_markdown(manifest: ReleaseManifest) -> str:
    """Return a manifest for people as Markdown."""
    pipeline, rollout = manifest.pipeline, manifest.rollout_config
    profiles = [(f"profile {name}", digest) for name, digest in pipeline.profile_digests.items()]
    artifacts = [
        (name, f"`{artifact.path}`", artifact.sha256) for name, artifact in manifest.source_artifacts.items()
    ]
    posture = rollout.rollback_posture
    lines = [
        "# Release",
        "",
        f"**{_verdict(manifest)}**",
        "",
        f"Made at {manifest.generated_at_utc} from `{manifest.spec_ref}`. "
        f"Rollout {rollout.strategy}, rollback {posture.mode}: {posture.trigger}",
        "",
        *markdown_table(HEADER, _rows(manifest)),
    ]
    if manifest.readiness.violations:
        lines += ["", "## Violations", "", *(f"- {violation}" for violation in manifest.readiness.violations)]
    lines += [
        "",
        "## What is released",
        "",
        *markdown_table(
            ("what", "by content"),
            [
                ("version", pipeline.pipeline_version),
                ("normalised form", pipeline.spec_digest),
                ("graph", pipeline.graph_definition_ref),
                *profiles,
                ("plan policy", pipeline.plan_policy_digest),
            ],
        ),
        "",
        "## What it rests on",
        "",
        *markdown_table(("artifact", "file", "SHA-256"), artifacts),
    ]
    return "\n".join(lines) + "\n"


def _checked(
    inputs: ReleaseInputs, spec_text: str, rollout_text: str
) -> tuple[ReleasedPipeline, RolloutConfig]:
    with _judged("rollout configuration"):
        rollout = parse_rollout(rollout_text, str(inputs.rollout))
    with _judged("pipeline"):
        spec = parse_pipeline(spec_text, str(inputs.spec), inputs.spec.parent)
        pipeline = released_pipeline(spec, spec_text.encode())
    if rollout.pipeline_version != pipeline.pipeline_version:
        raise InvalidReleaseError(
            f"rollout configuration: {inputs.rollout}: pipeline_version: {shown(rollout.pipeline_version)} "
            f"is not what {inputs.spec} holds ({shown(pipeline.pipeline_version)})",
            hint="name the version that the pipeline file has, as name@version",
        )
    return pipeline, rollout


@contextmanager
def _judged(what: str) -> Iterator[None]:
    """Tell what is read and invalid, a judgement, from what is no document, bad input."""
    try:
        yield
    except UnreadableError as error:
        raise UnreadableError(f"{what}: {error.message}", hint=error.hint) from error
    except ConfigurationError as error:
        raise InvalidReleaseError(f"{what}: {error.message}", hint=error.hint) from error


def _verdict(manifest: ReleaseManifest) -> str:
    if isinstance(manifest.release_id, UnsetType):
        failed = [check.name for check in manifest.readiness.checks if not check.passed]
        return f"failed: readiness: {', '.join(failed)}; {manifest.pipeline.pipeline_version} is not released"
    return f"passed: {manifest.release_id} releases {manifest.pipeline.pipeline_version}"


def _rows(manifest: ReleaseManifest) -> list[list[object]]:
    return [
        [check.name, _age(check.age_ms), "pass" if check.passed else f"{check.reason} FAIL"]
        for check in manifest.readiness.checks
    ]


def _age(age_ms: int | UnsetType) -> str:
    return "" if isinstance(age_ms, UnsetType) else f"{age_ms / 60_000:.0f} min"
