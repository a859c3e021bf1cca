"""Reading recordings: the records in the order of time, and whatever is wrong with the files.

Nothing that is read is believed: a block counts only if its checksum, its link and its content are right,
and everything else is named with file, block and byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rspp._kernel import SEGMENT_MAGIC, scan_segment
from rspp.contracts.errors import EvidenceError
from rspp.evidence.damage import MEANING, Damage
from rspp.evidence.order import check_order, strangers
from rspp.evidence.records import StintDecoder, turn_of
from rspp.evidence.segment import (
    FORMAT,
    HEADER,
    MAX_NUMBER,
    RECORDS,
    SEAL,
    SUFFIX,
    MalformedError,
    read_header,
    read_records,
)
from rspp.evidence.segment_file import segment_files
from rspp.evidence.timeline import read_timeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_SEGMENT_BYTES = 64 * 1024 * 1024
"""Largest file that is read as a segment; the writer rotates at 8 MiB."""
LINK_AT, HEAD_BYTES = 9, 25
LINK_BYTES = 16
MAX_HEADER_BYTES = 1024 * 1024
_TEXTS = ("session_id", "tenant", "stint", "pipeline", "pipeline_version", "level", "kernel")
_NUMBERS = ("epoch", "segment", "created_us", "created_wall_ms")


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
        links: link of each of its blocks.
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
        wordless: whether ``records`` leaves out what was said, should a record hold it.
    """

    def __init__(self, path: Path, stints: list[Stint], damage: list[Damage], *, lines: bool = False) -> None:
        self.path = path
        self.stints = stints
        self.damage = damage
        self.lines = lines
        self.wordless = False
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
                yield record | {"text": ""} if self.wordless and "text" in record else record

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
                    hint="name EVIDENCE/TENANT/SESSION, a segment or a timeline.jsonl",
                )
            return _open_segments(path, files, whole=True, content=content)
        with path.open("rb") as file:
            start = file.read(len(SEGMENT_MAGIC))
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be read: {error.strerror}",
            hint="name EVIDENCE/TENANT/SESSION, a segment or a timeline.jsonl",
        ) from error
    if start == SEGMENT_MAGIC or path.suffix == SUFFIX:
        return _open_segments(path, [path], whole=False, content=content)
    if not start:
        raise EvidenceError(
            f"{path}: the file is empty", hint="name EVIDENCE/TENANT/SESSION, a segment or a timeline.jsonl"
        )
    return Recording(path, [], [], lines=True)


def _open_segments(path: Path, files: list[Path], *, whole: bool, content: bool) -> Recording:
    segments = [read_segment(file, content=content) for file in files]
    damage: list[Damage] = []
    stints: dict[str, Stint] = {}
    foreign = strangers(path.resolve().name, segments) if whole else {}
    for segment in segments:
        damage += segment.damage
        if segment.path.name in foreign:
            damage.append(foreign[segment.path.name])
            continue
        name = str(segment.header.get("stint", "")) or _stint_before(segment, segments)
        stint = stints.setdefault(name, Stint(segment.header))
        stint.header = stint.header or segment.header
        stint.segments.append(segment)
    if whole:
        damage += check_order([one for one in segments if one.path.name not in foreign], segments, stints)
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


def begin_of_segment(path: Path) -> int:
    """Return when the stint of a segment began, milliseconds since 1970; 0 when its header does not say.

    Raises:
        EvidenceError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = _header_of(file.read(HEAD_BYTES + MAX_HEADER_BYTES))
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror}", hint="look at its rights") from error
    return int(header.get("created_wall_ms", 0))


def _header_of(data: bytes) -> dict[str, Any]:
    """What the header says, when that block is whole; the chain is checked afterwards with its help."""
    first = scan_segment(data[: HEAD_BYTES + MAX_HEADER_BYTES]).blocks[:1]
    if not first or not first[0][4] or first[0][1] != HEADER:
        return {}
    try:
        header = read_header(data[first[0][2] : first[0][3]])
    except MalformedError:
        return {}
    return header if header.get("format") == FORMAT and _sound(header) else {}


def _sound(header: dict[str, Any]) -> bool:
    """Whether what a header says is of the right type where it is said; a header may be forged."""
    if any(not isinstance(header.get(name, ""), str) for name in _TEXTS):
        return False
    numbers = [header.get(name, 0) for name in _NUMBERS]
    if any(type(number) is not int or not 0 <= number <= MAX_NUMBER for number in numbers):
        return False
    previous = header.get("previous")
    if previous is None:
        return True
    if not isinstance(previous, dict) or not isinstance(previous.get("file"), str):
        return False
    try:
        return len(bytes.fromhex(previous["link"])) == LINK_BYTES and type(previous.get("blocks")) is int
    except (ValueError, TypeError, KeyError):
        return False


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_SEGMENT_BYTES:
            raise EvidenceError(
                f"{path}: larger than any segment ({MAX_SEGMENT_BYTES} bytes)", hint="name a segment"
            )
        return path.read_bytes()
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror}", hint="look at its rights") from error
