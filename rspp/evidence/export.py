"""A recording as JSON lines, for tools that read lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def write_lines(records: Iterable[dict[str, Any]], path: Path) -> int:
    """Write records to ``path``, one JSON object a line; returns how many.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    count = 0
    try:
        with path.open("wb") as file:
            for record in records:
                file.write(msgspec.json.encode(record) + b"\n")
                count += 1
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"timeline {str(path)!r} cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="name a file in a folder that exists and that this user may write to",
        ) from error
    return count
