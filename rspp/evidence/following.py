"""Reading a recording while it is being written, for live views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp._kernel import SEGMENT_MAGIC, scan_segment
from rspp.evidence.records import StintDecoder
from rspp.evidence.segment import HEADER, RECORDS, MalformedError, read_header, read_records
from rspp.evidence.segment_file import segment_files

if TYPE_CHECKING:
    from pathlib import Path

READ_BYTES = 4 * 1024 * 1024
"""Most bytes taken of one file at once; more than the longest block."""


class Follower:
    """Gives the records that came since the last time.

    A block that is not whole yet waits; one that is damaged is passed over, which a view may do and
    ``open_recording`` does not.

    Args:
        folder: folder of the session; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._positions: dict[str, int] = {}
        self._decoders: dict[str, StintDecoder] = {}
        self._stints: dict[str, str] = {}

    def read(self) -> list[dict[str, Any]]:
        """Return the new records in the order of the files."""
        try:
            files = segment_files(self._folder)
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        for path in files:
            found += self._read_on(path)
        return found

    def _read_on(self, path: Path) -> list[dict[str, Any]]:
        position = self._positions.get(path.name, len(SEGMENT_MAGIC))
        with path.open("rb") as file:
            file.seek(position)
            data = SEGMENT_MAGIC + file.read(READ_BYTES)
        found: list[dict[str, Any]] = []
        for _, kind, start, end, sound in scan_segment(data).blocks:
            self._positions[path.name] = position + end - len(SEGMENT_MAGIC)
            if not sound:
                continue
            try:
                if kind == HEADER:
                    found += self._begin(path.name, read_header(data[start:end]))
                elif kind == RECORDS:
                    found += self._decoder(path.name).records(*read_records(data[start:end]))
            except MalformedError:
                continue
        return found

    def _begin(self, name: str, header: dict[str, Any]) -> list[dict[str, Any]]:
        stint = str(header.get("stint", ""))
        self._stints[name] = stint
        if stint in self._decoders:
            return []
        self._decoders[stint] = StintDecoder(header)
        return [self._decoders[stint].header()]

    def _decoder(self, name: str) -> StintDecoder:
        return self._decoders.setdefault(self._stints.get(name, ""), StintDecoder({}))
