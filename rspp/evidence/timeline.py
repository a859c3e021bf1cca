"""Stage B of evidence: the timeline of a call as JSON lines on disk.

The session hands records over without ever waiting; one thread writes them. A killed process leaves
whole lines, at most the last one torn. What could not be kept is counted, and the file says so where it
is missing.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec
import structlog

from rspp.contracts.errors import ConfigurationError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = structlog.get_logger(__name__)

MAX_RECORDS = 65_536
"""Most records that wait for the disk: a call makes about 80 a second, so this is a quarter of an hour
of one, or 40 s of twenty in one process."""
MAX_WAITING_BYTES = 16 * 1024 * 1024
FLUSH_S = 0.1
"""Longest time that a record stays in memory while the disk keeps up."""
MAX_LINE_BYTES = 1024 * 1024
_GAP_START = b'{"kind":"gap"'


class TimelineWriter:
    """Appends records to a timeline file from a thread of its own.

    Every method but ``close`` returns at once, whatever the disk does. A file that exists is continued:
    a call that was taken over has one timeline over all its epochs.

    Args:
        path: the file; its folder must exist.

    Raises:
        ConfigurationError: the folder is missing or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._missing = 0
        self._dropped = 0
        self._failure = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"timeline-{path.stem}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Records that did not reach the file."""
        return self._dropped

    @property
    def failure(self) -> str:
        """Why the disk refused the latest write; empty when it did not."""
        return self._failure

    @property
    def waiting(self) -> int:
        """Records handed over and not yet written."""
        return len(self._waiting)

    def write(self, records: list[bytes]) -> None:
        """Hand records over.

        Args:
            records: each one JSON object in UTF-8 without a line break. All of them are kept or, when
                the disk is far behind or the writer is closed, all are dropped and counted.
        """
        if not records:
            return
        size = sum(map(len, records)) + len(records)
        with self._changed:
            if (
                self._closing.is_set()
                or len(self._waiting) + len(records) > MAX_RECORDS
                or self._waiting_bytes + size > MAX_WAITING_BYTES
            ):
                self._missing += len(records)
                self._dropped += len(records)
                return
            if self._missing:
                self._waiting.append(_gap(self._missing))
                self._missing = 0
            self._waiting.extend(records)
            self._waiting_bytes += size
            self._changed.notify()

    def close(self, timeout: float = 2.0) -> bool:
        """Write what is waiting and close the file; safe to call twice.

        Args:
            timeout: longest wait for the disk, seconds.

        Returns:
            Whether everything that was handed over is in the file.
        """
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("the timeline was not written in time", path=str(self.path), waiting=self.waiting)
            return False
        return self._dropped == 0

    def _run(self) -> None:
        """Body of the thread: gather for a moment, write, until closed."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                self._closing.wait(FLUSH_S)
                with self._changed:
                    closing = self._closing.is_set()
                    batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
                    if closing and self._missing:
                        batch.append(_gap(self._missing))
                        self._missing = 0
                self._append(batch)
                if closing:
                    return
        finally:
            os.close(self._file)

    def _append(self, batch: list[bytes]) -> None:
        if not batch:
            return
        content = b"\n".join(batch) + b"\n"
        written = 0
        try:
            while written < len(content):
                written += os.write(self._file, content[written:])
        except OSError as error:
            self._refused(error, batch, content[:written])
        else:
            self._failure = ""

    def _refused(self, error: OSError, batch: list[bytes], written: bytes) -> None:
        if not self._failure:
            log.error("the timeline cannot be written", path=str(self.path), error=error.strerror)
        whole = written.count(b"\n")
        torn = len(written) - (written.rfind(b"\n") + 1)
        if torn:
            try:
                os.ftruncate(self._file, os.fstat(self._file).st_size - torn)
            except OSError as again:
                log.exception("the timeline ends in a torn line", path=str(self.path), error=again.strerror)
        lost = batch[whole:]
        earlier = [_decoded(line) or {} for line in lost if line.startswith(_GAP_START)]
        fresh = len(lost) - len(earlier)
        with self._changed:
            # A lost gap line stands for records that are counted as dropped already.
            self._missing += fresh + sum(int(gap.get("records", 0)) for gap in earlier)
            self._dropped += fresh
            # Last, so that whoever sees the failure sees its count as well.
            self._failure = error.strerror or type(error).__name__


def read_timeline(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a timeline file, oldest first.

    A torn line at the end, or before a place where another process went on, is what a killed process
    leaves: it is passed over.

    Args:
        path: a file that ``TimelineWriter`` wrote, finished or not.

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


def _gap(records: int, *, torn: bool = False) -> bytes:
    gap: dict[str, Any] = {"kind": "gap", "records": records, "wall_ms": time.time_ns() // 1_000_000}
    return msgspec.json.encode(gap | {"torn": True} if torn else gap)


def _open(path: Path) -> int:
    """Open a timeline for appending; ends a line that an earlier process left torn."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                os.write(file, b"\n" + _gap(1, torn=True) + b"\n")
        except OSError:
            os.close(file)
            raise
    except FileNotFoundError:
        raise ConfigurationError(
            f"timeline {path}: the folder {path.parent} does not exist", hint="make it, or name another"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"timeline {path}: cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="name a file in a folder that this user may write to",
        ) from error
    return file
