"""Reading recordings: the records in the order of time, and whatever is wrong with the files.

Nothing that is read is believed: a block counts only if its checksum, its link and its content are right,
and everything else is named with file, block and byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rspp._kernel import SEGMENT_MAGIC, scan_segment
from rspp.contracts.errors import EvidenceError
from rspp.evidence.records import StintDecoder, turn_of
from rspp.evidence.segment import (
    FORMAT,
    HEADER,
    RECORDS,
    SEAL,
    SUFFIX,
    MalformedError,
    read_header,
    read_records,
)
from rspp.evidence.segment_file import NAME, segment_files
from rspp.evidence.timeline import read_timeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_SEGMENT_BYTES = 64 * 1024 * 1024
"""Largest file that is read as a segment; the writer rotates at 8 MiB."""
LINK_AT, HEAD_BYTES = 9, 25
MAX_HEADER_BYTES = 1024 * 1024

MEANING = {
    "not_a_segment": "the file does not begin as a segment",
    "torn": "the file ends inside a block, as one whose writer was killed",
    "checksum_mismatch": "the block's bytes are not those that were written",
    "chain_broken": "the block does not follow the one before it: one was changed, added or removed",
    "oversized_block": "the length of the block is beyond all bounds",
    "unknown_kind": "the block is of a kind that this version does not know",
    "malformed_records": "the block's content cannot be read",
    "segment_missing": "a segment of the session is missing",
    "segment_replaced": "the segment is not the one that the next one followed, or its end was cut off",
}


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing wrong with a recording.

    Attributes:
        code: one of ``rspp._kernel.DAMAGE_CODES``.
        file: name of the file.
        offset: where its block begins, bytes.
        block: number of the block in its file, from 0.
        message: what it means.
    """

    code: str
    file: str
    offset: int
    block: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}: byte {self.offset}, block {self.block}: {self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class KernelBlock:
    """Records of the kernel of one flush, for ``rspp._kernel.Replay``.

    Attributes:
        data: in the kernel's binary form.
        file: file that holds them.
        offset: where the block begins, bytes.
        missing: why records are missing before it; empty when none are.
    """

    data: bytes
    file: str
    offset: int
    missing: str = ""


@dataclass(slots=True)
class Segment:
    """One file of a stint.

    Attributes:
        path: the file.
        header: what its header says; empty when it cannot be read.
        blocks: blocks as ``scan_segment`` gives them.
        sealed: ``rotated``, ``ended`` or empty.
        damage: what is wrong in it.
        size: bytes.
        link: last link, as hexadecimal digits.
    """

    path: Path
    header: dict[str, Any]
    blocks: list[tuple[int, int, int, int, bool]]
    sealed: str
    damage: list[Damage]
    size: int
    link: str
    links: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Stint:
    """One kernel's life in a session.

    Attributes:
        header: what its first header says.
        segments: its files in order.
        ended: whether it was closed in order.
    """

    header: dict[str, Any]
    segments: list[Segment] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the stint was closed in order."""
        return bool(self.segments) and self.segments[-1].sealed == "ended"

    @property
    def blocks(self) -> Iterator[bytes]:
        """What the kernel recorded before anything is missing: that can be run again."""
        for block in self.kernel_blocks():
            if block.missing:
                return
            yield block.data

    @property
    def loss(self) -> str:
        """Why records are missing from some place on; empty when none are."""
        return next((missing for *_, content in self._content() if (missing := _missing(content))), "")

    def shell_records(self) -> Iterator[dict[str, Any]]:
        """Yield what the shell recorded, flush by flush, the kernel's records left out."""
        for *_, content in self._content():
            if not isinstance(content, str):
                yield from content[1]

    def kernel_blocks(self) -> Iterator[KernelBlock]:
        """Yield what the kernel recorded, block by block."""
        missing = ""
        for file, offset, content in self._content():
            missing = missing or _missing(content)
            if not isinstance(content, str) and content[0]:
                yield KernelBlock(content[0], file, offset, missing)
                missing = ""

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the stint's records in the order of time, its header first."""
        decoder = StintDecoder(self.header)
        yield decoder.header()
        for _, _, content in self._content():
            if isinstance(content, str):
                yield decoder.gap(content)
            else:
                yield from decoder.records(*content)

    def _content(self) -> Iterator[tuple[str, int, tuple[bytes, list[dict[str, Any]]] | str]]:
        """Yield file, offset and content of each block of records; of a damaged one its code."""
        for segment in self.segments:
            data = _read(segment.path)
            events: list[tuple[int, int, int, str]] = [
                (damage.offset, 0, 0, damage.code) for damage in segment.damage
            ]
            bad = {damage.offset for damage in segment.damage}
            events += [
                (offset, start, end, "")
                for offset, kind, start, end, sound in segment.blocks
                if sound and kind == RECORDS and offset not in bad
            ]
            for offset, start, end, code in sorted(events):
                if code:
                    yield segment.path.name, offset, code
                    continue
                yield segment.path.name, offset, read_records(data[start:end])


def _missing(content: tuple[bytes, list[dict[str, Any]]] | str) -> str:
    """Why records are missing where a block stands, or stood."""
    if isinstance(content, str):
        return content
    return "the writer lost records" if any(record["kind"] == "gap" for record in content[1]) else ""


class Recording:
    """Everything kept of one session.

    Attributes:
        path: what was opened.
        session_id: the session.
        tenant: whose it is.
        stints: its stints, in order; of a timeline as JSON lines none.
        damage: everything wrong, in the order of the files.
    """

    def __init__(self, path: Path, stints: list[Stint], damage: list[Damage], *, lines: bool = False) -> None:
        self.path = path
        self.stints = stints
        self.damage = damage
        self.lines = lines
        first: dict[str, Any] = stints[0].header if stints else {}
        self.session_id = str(first.get("session_id", ""))
        self.tenant = str(first.get("tenant", ""))

    @property
    def complete(self) -> bool:
        """Whether nothing is damaged or missing and every stint ended in order."""
        whole = not self.damage and (self.lines or all(stint.ended for stint in self.stints))
        return whole and not any(record.get("kind") == "gap" for record in self.records())

    def records(self, turn: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the records in the order of time, stint by stint.

        Args:
            turn: only records of this turn.

        Raises:
            EvidenceError: a file cannot be read any more.
        """
        for record in self._all():
            if turn is None or turn_of(record) == turn:
                yield record

    def _all(self) -> Iterator[dict[str, Any]]:
        if self.lines:
            yield from read_timeline(self.path)
            return
        for stint in self.stints:
            yield from stint.records()


def open_recording(path: Path, *, content: bool = True) -> Recording:
    """Open a recording.

    Args:
        path: folder of a session, one segment file, or a timeline as JSON lines.
        content: whether to look into the blocks too; checksums and links alone find every change made
            after the writer.

    Raises:
        EvidenceError: there is nothing to read.
    """
    try:
        if path.is_dir():
            files = segment_files(path)
            if not files:
                raise EvidenceError(
                    f"{path}: holds no segment",
                    hint="Name EVIDENCE/TENANT/SESSION, a segment or a timeline.jsonl.",
                )
            return _open_segments(path, files, whole=True, content=content)
        with path.open("rb") as file:
            start = file.read(len(SEGMENT_MAGIC))
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be read: {error.strerror}",
            hint="Name EVIDENCE/TENANT/SESSION, a segment or a timeline.jsonl.",
        ) from error
    if start == SEGMENT_MAGIC or path.suffix == SUFFIX:
        return _open_segments(path, [path], whole=False, content=content)
    return Recording(path, [], [], lines=True)


def _open_segments(path: Path, files: list[Path], *, whole: bool, content: bool) -> Recording:
    segments = [read_segment(file, content=content) for file in files]
    damage: list[Damage] = []
    stints: dict[str, Stint] = {}
    for segment in segments:
        damage += segment.damage
        name = str(segment.header.get("stint", "")) or _stint_before(segment, segments)
        stint = stints.setdefault(name, Stint(segment.header))
        stint.header = stint.header or segment.header
        stint.segments.append(segment)
    if whole:
        damage += _check_order(segments, stints)
    return Recording(path, [stint for stint in stints.values() if stint.segments], damage)


def _stint_before(segment: Segment, segments: list[Segment]) -> str:
    """The stint that a segment without a header is taken to belong to: that of the file before it."""
    before = segments[: segments.index(segment)]
    return next((str(one.header["stint"]) for one in reversed(before) if "stint" in one.header), "")


def read_segment(path: Path, *, content: bool = True) -> Segment:
    """Read one file and find what is wrong with it by itself.

    Args:
        path: the file.
        content: whether to decode every block of records.

    Raises:
        EvidenceError: the file cannot be read.
    """
    data = _read(path)
    name = path.name
    header = _header_of(data)
    previous = header.get("previous")
    before = bytes.fromhex(previous["link"]) if isinstance(previous, dict) else bytes(16)
    scan = scan_segment(data, before if header else None)
    damage = [Damage(code, name, offset, block, MEANING[code]) for code, offset, block in scan.damage]
    sealed = ""
    decoder = StintDecoder(header)
    for number, (offset, kind, start, end, sound) in enumerate(scan.blocks):
        if not sound:
            continue
        try:
            if kind == RECORDS and content:
                kernel, _ = read_records(data[start:end])
                decoder.kernel(kernel)
            elif kind == SEAL:
                sealed = str(read_header(data[start:end]).get("reason", ""))
        except MalformedError as error:
            damage.append(Damage("malformed_records", name, offset, number, error.message))
        if (kind == HEADER) != (number == 0):
            wrong = "a header stands elsewhere than at the beginning, or does not stand there"
            damage.append(Damage("malformed_records", name, offset, number, wrong))
    if not header and not damage:
        damage.append(Damage("malformed_records", name, 0, 0, "the segment has no header that can be read"))
    links = frozenset(data[block[0] + LINK_AT : block[0] + HEAD_BYTES] for block in scan.blocks)
    damage.sort(key=lambda one: one.offset)
    return Segment(path, header, scan.blocks, sealed, damage, len(data), scan.link.hex(), links)


def _header_of(data: bytes) -> dict[str, Any]:
    """What the header says, when that block is whole; the chain is checked afterwards with its help."""
    first = scan_segment(data[: HEAD_BYTES + MAX_HEADER_BYTES]).blocks[:1]
    if not first or not first[0][4] or first[0][1] != HEADER:
        return {}
    try:
        header = read_header(data[first[0][2] : first[0][3]])
        if header.get("format") != FORMAT:
            return {}
        previous = header.get("previous")
        if previous is not None and len(bytes.fromhex(previous["link"])) != 16:
            return {}
    except (MalformedError, ValueError, TypeError, KeyError):
        return {}
    return header


def _check_order(segments: list[Segment], stints: dict[str, Stint]) -> list[Damage]:
    """Find segments that are missing or were exchanged for others."""
    damage: list[Damage] = []
    by_name = {segment.path.name: segment for segment in segments}

    def missing(name: str, message: str) -> None:
        damage.append(Damage("segment_missing", name, 0, 0, message))

    expected = 1
    for segment in segments:
        match = NAME.match(segment.path.name)
        number = int(match[1]) if match else expected
        if number > expected:
            last = f" to {number - 1:06d}" if number > expected + 1 else ""
            missing(f"{expected:06d}{last}", MEANING["segment_missing"])
        expected = number + 1
        previous = segment.header.get("previous")
        if not isinstance(previous, dict):
            continue
        before = by_name.get(str(previous.get("file")))
        if before is not None and bytes.fromhex(previous["link"]) not in before.links and not before.damage:
            message = (
                f"{MEANING['segment_replaced']} ({segment.path.name} names its block {previous['blocks']})"
            )
            damage.append(
                Damage("segment_replaced", before.path.name, before.size, len(before.blocks), message)
            )
    for stint in stints.values():
        if stint.segments[-1].sealed == "rotated":
            missing(
                f"after {stint.segments[-1].path.name}", "the segment that follows was removed or never made"
            )
    return damage


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_SEGMENT_BYTES:
            raise EvidenceError(
                f"{path}: larger than any segment ({MAX_SEGMENT_BYTES} bytes)", hint="Name a segment."
            )
        return path.read_bytes()
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be read: {error.strerror}", hint="Look at its rights."
        ) from error
