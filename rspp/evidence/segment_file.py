"""The files of one stint while it is being written: opened, appended to, rotated, sealed.

Used by the writer's thread alone; every method may wait for the disk and raises ``OSError`` when the disk
refuses. After a refusal the file holds whole blocks only and the same call may be made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TYPE_CHECKING, Any

from rspp._kernel import SEGMENT_MAGIC, SegmentChain, scan_segment
from rspp.evidence.segment import FORMAT, HEADER, NO_LINK, RECORDS, SEAL, SUFFIX, header_body

if TYPE_CHECKING:
    from pathlib import Path

ROTATE_BYTES = 8 * 1024 * 1024
NAME = re.compile(r"^(\d{6})-e(\d{6})\.segment$")
"""Number in the session, epoch of the lease."""


def segment_files(folder: Path) -> list[Path]:
    """Return the segments of a session in the order of their numbers."""
    found = [path for path in folder.iterdir() if NAME.match(path.name)]
    return sorted(found, key=lambda path: path.name)


class SegmentWriter:
    """Appends blocks to the newest segment of one stint.

    Args:
        folder: the session's folder; made when missing.
        header: what every header of the stint says.
        first: what only its first header says besides.
        durable: whether to wait for the disk where a segment begins and ends.
    """

    def __init__(
        self, folder: Path, header: dict[str, Any], first: dict[str, Any], *, durable: bool = True
    ) -> None:
        self.folder = folder
        self.stint = str(header["stint"])
        self.path: Path | None = None
        self.dirty = False
        """Whether blocks were written since the last ``sync``."""
        self._header = header
        self._first = first
        self._durable = durable
        self._number = 0
        self._file = -1
        self._size = 0
        self._chain = SegmentChain(NO_LINK)
        self._previous: dict[str, Any] | None = None
        self._torn = False
        self._sealed = False

    @property
    def blocks(self) -> int:
        """Blocks in the segment that is open."""
        return self._chain.blocks

    @property
    def link(self) -> bytes:
        """The latest link."""
        return self._chain.link

    def append(self, bodies: list[bytes]) -> None:
        """Append blocks of records, all of them or none.

        Raises:
            OSError: the disk refused.
        """
        if self._file < 0 or self._torn:
            self._open_next()
        elif self._sealed or self._size >= ROTATE_BYTES:
            self._seal("rotated")
            self._open_next()
        self._write([(RECORDS, body) for body in bodies])

    def sync(self) -> None:
        """Wait until what was written is on the disk.

        Raises:
            OSError: the disk refused.
        """
        if self._file >= 0 and self.dirty:
            os.fdatasync(self._file)
            self.dirty = False

    def close(self, *, ended: bool) -> None:
        """Close the file; seal it where the stint ended with nothing lost at its end.

        Raises:
            OSError: the disk refused.
        """
        try:
            if ended and not self._torn:
                if self._file < 0:
                    self._open_next()
                self._seal("ended")
        finally:
            self._let_go()

    # ------------------------------------------------------------------ the file

    def _open_next(self) -> None:
        """Make the next segment of the session and write its header."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = segment_files(self.folder)
        if self._number == 0:
            self._previous = last_link(files)
        else:
            self._remember()
        self._let_go()
        number = int(files[-1].name[:6]) + 1 if files else 1
        link = bytes.fromhex(self._previous["link"]) if self._previous else NO_LINK
        name = f"{number:06d}-e{self._header['epoch']:06d}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        path = self.folder / name
        file = os.open(path, flags, 0o600)
        body = {
            "format": FORMAT,
            **self._header,
            "segment": self._number + 1,
            "previous": self._previous,
            **(self._first if self._number == 0 else {}),
        }
        self._file, self._size, self._chain, self._torn = file, 0, SegmentChain(link), False
        self._sealed = False
        _hold(file)
        try:
            self._write([(HEADER, header_body(body))], SEGMENT_MAGIC)
            if self._durable:
                _sync_folder(self.folder)
        except OSError:
            # Without its header the file is nothing; the next attempt makes it again, behind the same link.
            self._let_go()
            self._chain = SegmentChain(link)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._number += 1
        self.path = path

    def _remember(self) -> None:
        """Keep the end of the segment that is left, for the header of the next one."""
        assert self.path is not None
        if self._chain.blocks:
            end = {"file": self.path.name, "blocks": self._chain.blocks, "link": self._chain.link.hex()}
            self._previous = end

    def _seal(self, reason: str) -> None:
        # Where only the waiting for the disk failed, the seal is there already, and nothing may follow it.
        if not self._sealed:
            seal = {"blocks": self._chain.blocks, "bytes": self._size, "reason": reason}
            self._write([(SEAL, header_body(seal))])
            self._sealed = True
        if self._durable:
            self.sync()
        self._remember()

    def _write(self, blocks: list[tuple[int, bytes]], before: bytes = b"") -> None:
        link, number = self._chain.link, self._chain.blocks
        content = before + b"".join(self._chain.frame(kind, body) for kind, body in blocks)
        written = 0
        try:
            while written < len(content):
                written += os.write(self._file, content[written:])
        except OSError:
            self._chain = SegmentChain(link, number)
            if written:
                self._cut()
            raise
        self._size += written
        self.dirty = True

    def _cut(self) -> None:
        """Take back the blocks that were written in part; where that fails the segment is given up."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._torn = True

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def is_being_written(path: Path) -> bool:
    """Return whether a process on this machine still writes a segment."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks tells nothing
    finally:
        os.close(file)
    return False


def _hold(file: int) -> None:
    """Mark a segment as being written, for as long as the file is open."""
    # Recording does not depend on it: some network file systems know no locks.
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def last_link(files: list[Path]) -> dict[str, Any] | None:
    """Return where the newest segment that holds a whole block ends, for the header of the next one.

    Raises:
        OSError: a file cannot be read.
    """
    for path in reversed(files):
        scan = scan_segment(path.read_bytes())
        whole = [block for block in scan.blocks if block[4]]
        if whole and not any(code == "not_a_segment" for code, _, _ in scan.damage):
            return {"file": path.name, "blocks": scan.whole, "link": scan.link.hex()}
    return None


def _sync_folder(folder: Path) -> None:
    """Make the new name in ``folder`` last."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
