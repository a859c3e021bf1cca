"""Loads a pipeline file: every fault of it is told at once, with line, field, value and remedy."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec
from msgspec import inspect

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.checker import Checker, Fault
from rspp.pipeline.crosscheck import cross_faults
from rspp.pipeline.document import MAX_BYTES, compose
from rspp.pipeline.spec import PipelineSpec

if TYPE_CHECKING:
    from pathlib import Path


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
            message += f" (and {more}: rspp-cli validate-pipeline {source})"
        super().__init__(message, hint=faults[0].hint)


def describe(source: str, fault: Fault) -> str:
    """Return one fault as ``file:line: field: problem``."""
    where = f"{source}:{fault.line}" if fault.line else source
    return f"{where}: {fault.path}: {fault.problem}"


@functools.cache
def _root_type() -> inspect.Type:
    return inspect.type_info(PipelineSpec)


def load_pipeline(path: Path) -> PipelineSpec:
    """Read and check a pipeline file.

    Args:
        path: a YAML file in UTF-8 of at most 256 KiB.

    Returns:
        The pipeline with every default made explicit.

    Raises:
        ConfigurationError: missing, unreadable or invalid; ``PipelineError`` lists every fault.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no such pipeline file",
            hint="check the path; rspp/pipeline/examples/front-desk.yaml is an example to start from",
        ) from None
    except IsADirectoryError:
        raise ConfigurationError(
            f"{path}: is a directory, not a pipeline file", hint="name a YAML file inside it"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="check the path and the file's permissions",
        ) from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(content) > MAX_BYTES:
            text = content.decode("utf-8", "replace")
        else:
            line = content.count(b"\n", 0, error.start) + 1
            raise ConfigurationError(
                f"{path}:{line}: not UTF-8 text (byte 0x{content[error.start]:02x})",
                hint="save the file as UTF-8",
            ) from None
    return parse_pipeline(text, str(path))


def parse_pipeline(text: str, source: str) -> PipelineSpec:
    """Check the text of a pipeline file.

    Args:
        text: YAML.
        source: name of the file, for messages.

    Raises:
        ConfigurationError: invalid; ``PipelineError`` lists every fault.
    """
    root = compose(text, source)
    checker = Checker()
    plain = checker.value(root, _root_type(), "")
    if checker.faults:
        raise PipelineError(source, _in_order(checker.faults))
    try:
        spec = msgspec.convert(plain, PipelineSpec, strict=True)
    except msgspec.ValidationError as error:
        raise PipelineError(source, (Fault(0, "file", str(error), "correct the named value"),)) from error
    faults = cross_faults(spec, checker.lines)
    if faults:
        raise PipelineError(source, _in_order(faults))
    return spec


def _in_order(faults: list[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.line))
