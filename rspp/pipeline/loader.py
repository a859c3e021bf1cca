"""Loads a pipeline file: every fault of it is told at once, with line, field, value and remedy."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import inspect

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.base import Strict
from rspp.pipeline.candidates import Spread
from rspp.pipeline.checker import Checker, Fault
from rspp.pipeline.crosscheck import cross_faults, profile_faults
from rspp.pipeline.document import MAX_BYTES, UnreadableError, compose
from rspp.pipeline.profile import SIMPLE_NAME, ExecutionProfile
from rspp.pipeline.spec import PipelineSpec

if TYPE_CHECKING:
    from pathlib import Path

    from yaml.nodes import MappingNode


PROFILE_SUFFIX = ".profile.yaml"
LEAST_PROFILE = "the least an execution profile needs is `name:`"
Kind = TypeVar("Kind", bound=Strict)


class PipelineError(ConfigurationError):
    """A pipeline file that is not valid.

    Args:
        source: name of the file.
        faults: all of them, in the order of their lines; at least one.
    """

    def __init__(self, source: str, faults: tuple[Fault, ...]) -> None:
        self.source = source
        self.faults = faults
        message = describe(source, faults[0])
        if len(faults) > 1:
            more = f"{len(faults) - 1} more fault{'s' if len(faults) > 2 else ''}"
            message += f" (and {more}: rspp-cli validate-spec {source})"
        super().__init__(message, hint=faults[0].hint)


def describe(source: str, fault: Fault) -> str:
    """Return one fault as ``file:line: field: problem``."""
    where = f"{source}:{fault.line}" if fault.line else source
    return f"{where}: {fault.path}: {fault.problem}"


class LoadedPipeline(msgspec.Struct, frozen=True):
    """A pipeline with what its author wrote of it.

    Attributes:
        spec: the pipeline.
        lines: line of each path that the file has, such as ``llm.rules[2].hear``.
    """

    spec: PipelineSpec
    lines: dict[str, int]


@functools.cache
def _type_of(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def load_pipeline(path: Path) -> PipelineSpec:
    """Read and check a pipeline file, and the profile beside it if it names one.

    Args:
        path: a YAML file in UTF-8 of at most 256 KiB.

    Returns:
        The pipeline with every default made explicit.

    Raises:
        ConfigurationError: missing, unreadable or invalid; ``PipelineError`` lists every fault.
    """
    return load_with_lines(path).spec


def load_with_lines(path: Path) -> LoadedPipeline:
    """Like ``load_pipeline``, but keeps the lines, which tell what the author wrote.

    Raises:
        ConfigurationError: as ``load_pipeline``.
    """
    hint = "check the path; rspp/pipeline/examples/front-desk.yaml is an example to start from"
    return _parse(text_of(path, "pipeline", hint), str(path), path.parent)


def load_profile(path: Path) -> ExecutionProfile:
    """Read and check an execution profile in a file of its own.

    Args:
        path: a YAML file in UTF-8 of at most 256 KiB.

    Raises:
        ConfigurationError: missing, unreadable or invalid; ``PipelineError`` lists every fault.
    """
    text = text_of(path, "profile", "check the path")
    profile, lines = typed_document(compose(text, str(path), LEAST_PROFILE), str(path), ExecutionProfile)
    faults = profile_faults(profile, lines, "")
    if faults:
        raise PipelineError(str(path), _in_order(faults))
    return profile


def parse_pipeline(text: str, source: str, folder: Path | None = None) -> PipelineSpec:
    """Check the text of a pipeline file.

    Args:
        text: YAML.
        source: name of the file, for messages.
        folder: where a profile may lie that the file names; without it only the file's own profiles count.

    Raises:
        ConfigurationError: invalid; ``PipelineError`` lists every fault.
    """
    return _parse(text, source, folder).spec


def _parse(text: str, source: str, folder: Path | None) -> LoadedPipeline:
    root = compose(text, source)
    spread = Spread(root)
    spec, lines = typed_document(root, source, PipelineSpec, spread)
    beside = None if folder is None else folder / f"{spec.profile}{PROFILE_SUFFIX}"
    own = spec.profile != SIMPLE_NAME and spec.profile not in spec.profiles
    if own and beside is not None and beside.is_file():
        profile = load_profile(beside)
        if profile.name != spec.profile:
            raise ConfigurationError(
                f'{beside}: name: must be "{spec.profile}" like the file (is "{profile.name}")',
                hint="give the profile the name of its file",
            )
        spec = msgspec.structs.replace(spec, profiles={**spec.profiles, spec.profile: profile})
    faults = cross_faults(spec, lines)
    if faults:
        raise PipelineError(source, _in_order([spread.written(fault) for fault in faults]))
    return LoadedPipeline(spec, lines)


def typed_document(
    root: MappingNode, source: str, kind: type[Kind], spread: Spread | None = None
) -> tuple[Kind, dict[str, int]]:
    """Return what ``root`` says as ``kind``, and the line of each of its paths.

    Args:
        root: the document.
        source: name of the file, for messages.
        kind: type of the document.
        spread: what was written otherwise than ``root`` says it.

    Raises:
        PipelineError: the document does not fit ``kind``; it lists every fault.
    """
    checker = Checker()
    plain = checker.value(root, _type_of(kind), "")
    faults = checker.faults if spread is None else spread.told(checker.faults)
    if faults:
        raise PipelineError(source, _in_order(faults))
    try:
        return msgspec.convert(plain, kind, strict=True), checker.lines
    except msgspec.ValidationError as error:
        raise PipelineError(source, (Fault(0, "file", str(error), "correct the named value"),)) from error


def text_of(path: Path, what: str, missing: str) -> str:
    """Return the text of a file of at most 256 KiB; of a larger one the beginning, which no parser takes.

    Args:
        path: the file.
        what: kind of file, for messages.
        missing: remedy when there is none.

    Raises:
        UnreadableError: there is none, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such {what} file", hint=missing) from None
    except IsADirectoryError:
        raise UnreadableError(
            f"{path}: is a directory, not a {what} file", hint="name a YAML file inside it"
        ) from None
    except (OSError, ValueError) as error:
        raise UnreadableError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="check the path and the file's permissions",
        ) from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(content) > MAX_BYTES:
            return content.decode("utf-8", "replace")
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(
            f"{path}:{line}: not UTF-8 text (byte 0x{content[error.start]:02x})",
            hint="save the file as UTF-8",
        ) from None


def _in_order(faults: list[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.line))
