"""Reading timelines: calls as JSON lines, as earlier versions kept them and exports still are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rspp.contracts.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_LINE_BYTES = 1024 * 1024


def read_timeline(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a timeline file, oldest first.

    A torn line at the end, or before a place where another process went on, is what a killed process
    leaves: it is passed over.

    Args:
        path: the file, finished or not.

    Raises:
        EvidenceError: the file cannot be read, or another line of it is no JSON object.
    """
    try:
        with path.open("rb") as file:
            torn: EvidenceError | None = None
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                record = _decoded(line)
                if torn is not None and not (record is not None and record.get("torn") is True):
                    raise torn
                torn = None
                if record is not None:
                    yield record
                    continue
                torn = EvidenceError(
                    f"{path}:{number}: not a timeline record",
                    hint="the file was changed or is no timeline; use the original",
                )
                if not line.endswith(b"\n"):
                    torn = None if len(line) < MAX_LINE_BYTES else torn
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be read: {error.strerror}", hint="name a timeline.jsonl of a call"
        ) from error
    if torn is not None:
        raise torn


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
