"""Checking whole folders of evidence."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from rspp.contracts.errors import EvidenceError
from rspp.evidence.damage import MEANING
from rspp.evidence.index import EvidenceIndex
from rspp.evidence.order import INDEX_FILE, misplaced
from rspp.evidence.reader import Recording, open_recording
from rspp.evidence.segment_file import segment_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = structlog.get_logger(__name__)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where something is wrong.

    Attributes:
        path: the file, or the folder where one is missing.
        offset: where its block begins, bytes.
        block: number of the block, from 0.
        code: one of ``rspp._kernel.DAMAGE_CODES``.
        message: what it means.
    """

    path: str
    offset: int
    block: int
    code: str
    message: str


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """What can be read of one session.

    Attributes:
        path: its folder or file.
        segments: files.
        sound_blocks: blocks whose checksum and link are right.
        records: records that can be read; 0 where nothing is wrong and nobody asked.
        last_ms: time of the last of them, from the beginning of its stint.
        damaged: whether anything is wrong.
        ended: whether each stint was ended in order.
    """

    path: str
    segments: int
    sound_blocks: int
    records: int
    last_ms: float
    damaged: bool
    ended: bool


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        sessions: every session that was checked.
        damage: everything that is wrong.
        segments: files that were checked.
        bytes: their size.
    """

    sessions: list[SessionState]
    damage: list[Place]
    segments: int
    bytes: int

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {"whole": not self.damage, **plain}


def verify(path: Path, *, content: bool = False) -> Verification:
    """Check everything under ``path``.

    Args:
        path: folder of a session, of a tenant or of all evidence, or one segment.
        content: decode every record too. Checksums and links alone find every change made after the writer.

    Raises:
        EvidenceError: there is nothing to check, or it cannot be read.
    """
    sessions: list[SessionState] = []
    damage: list[Place] = []
    segments = size = 0
    for place in _sessions(path):
        recording = open_recording(place, content=content)
        if recording.lines:
            raise EvidenceError(
                f"{place}: is no segment, and has nothing that it could be checked against",
                hint="name EVIDENCE, a folder in it or a segment; validate-stream checks JSON lines",
            )
        files = [segment for stint in recording.stints for segment in stint.segments]
        segments += len(files)
        size += sum(segment.size for segment in files)
        folder = place if place.is_dir() else place.parent
        wrong = misplaced(folder, files) if place.is_dir() else None
        found = [wrong, *recording.damage] if wrong else recording.damage
        damage += [
            Place(
                path=str(folder / one.file),
                offset=one.offset,
                block=one.block,
                code=one.code,
                message=one.message,
            )
            for one in found
        ]
        if place.is_dir():
            damage += _shortened(place, {(one.file, one.code) for one in found})
        sessions.append(_state(place, recording, content=content, damaged=bool(found)))
    if not sessions:
        raise EvidenceError(
            f"{path}: holds no recording",
            hint="name EVIDENCE, EVIDENCE/TENANT, a session's folder or a segment",
        )
    return Verification(sessions=sessions, damage=damage, segments=segments, bytes=size)


def _shortened(folder: Path, named: set[tuple[str, str]]) -> list[Place]:
    """What the index knows of and the files no longer hold; ends that were cut off leave no other trace."""
    root = folder.parent.parent
    if not (root / INDEX_FILE).is_file():
        return []
    try:
        with closing(EvidenceIndex(root)) as index:
            gone = [one for one in index.shortened(folder) if one not in named]
    except EvidenceError as error:
        # The files are judged all the same: what they hold does not depend on the index.
        log.warning("ends that were cut off cannot be found", error=error.message)
        return []
    return [
        Place(
            path=str(folder / file), offset=0, block=0, code=code, message=f"{MEANING[code]}, says the index"
        )
        for file, code in gone
    ]


def _state(path: Path, recording: Recording, *, content: bool, damaged: bool) -> SessionState:
    records, last_ms = 0, 0.0
    ended = all(stint.ended for stint in recording.stints)
    blocks = [block for stint in recording.stints for one in stint.segments for block in one.blocks]
    # Records are counted where somebody asks what is left of them.
    counted = content or damaged or not ended
    for stint in recording.stints if counted else ():
        begun = int(stint.header.get("created_us", 0))
        for record in stint.records():
            if record["kind"] not in ("header", "gap"):
                records += 1
                last_ms = (record["at_us"] - begun) / 1000
    return SessionState(
        path=str(path),
        segments=sum(len(stint.segments) for stint in recording.stints),
        sound_blocks=sum(sound for *_, sound in blocks),
        records=records,
        last_ms=last_ms,
        damaged=damaged,
        ended=ended,
    )


def _sessions(path: Path) -> Iterator[Path]:
    """Find the folders of sessions: itself, those of a tenant, those of all tenants; or one segment."""
    if path.is_file():
        yield path
        return
    level = [path]
    try:
        for _ in range(3):
            below: list[Path] = []
            for folder in level:
                if segment_files(folder):
                    yield folder
                else:
                    below += sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())
            level = below
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be read: {error.strerror}", hint="name EVIDENCE, or a folder in it"
        ) from error
