"""When the records of a session were written, by their own account.

The times of files do not survive every copy: evidence that was restored would be young again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp.contracts.errors import EvidenceError
from rspp.evidence.reader import begin_of_segment, open_recording
from rspp.evidence.segment import SUFFIX
from rspp.evidence.timeline import read_timeline

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FIRST_MS = 1_767_225_600_000
"""2026-01-01: nothing was recorded before; an earlier time is of virtual time, or of a clock never set."""


def written_before(files: Iterable[Path], limit_ms: int) -> bool:
    """Return whether everything that record files hold was written before a moment.

    Args:
        files: segments, and timelines as JSON lines.
        limit_ms: the moment, milliseconds since 1970.

    Raises:
        OSError: a file is gone.
    """
    listed = list(files)
    # What only began after it needs not be read to its end, and that is nearly everything there is.
    return all(begun_ms(path) < limit_ms for path in listed) and all(
        last_ms(path) < limit_ms for path in listed
    )


def begun_ms(path: Path) -> int:
    """Return when a file of records was begun, ms since 1970; as the file system says if it does not.

    Raises:
        OSError: it is gone.
    """
    said = 0
    try:
        if path.suffix == SUFFIX:
            said = _begin(path)
        else:
            said = next((_told(record) for record in read_timeline(path) if _told(record)), 0)
    except EvidenceError:
        pass
    return said or _changed_ms(path)


def last_ms(path: Path) -> int:
    """Return when the last record that can be read was written, milliseconds since 1970.

    A file that does not say is as old as the file system has it.

    Raises:
        OSError: it is gone.
    """
    said = 0
    try:
        if path.suffix == SUFFIX:
            said = _begin(path)
            records = open_recording(path).records() if said else iter(())
        else:
            records = read_timeline(path)
        for record in records:
            said = max(said, _told(record))
    except EvidenceError:
        pass
    return said or _changed_ms(path)


def _told(record: dict[str, object]) -> int:
    times = (record.get("wall_ms"), record.get("started_wall_ms"))
    return max((time for time in times if type(time) is int and time >= FIRST_MS), default=0)


def _begin(path: Path) -> int:
    said = begin_of_segment(path)
    return said if said >= FIRST_MS else 0


def _changed_ms(path: Path) -> int:
    return path.stat().st_mtime_ns // 1_000_000
