"""From blocks to records: the shapes that reports, validators and people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rspp._kernel import RecordDecoder
from rspp.evidence.segment import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MAX_DIGITS = 10
"""Digits of the largest number of a turn."""


class StintDecoder:
    """Turns the blocks of one stint into records, in order.

    Args:
        header: first header of the stint; empty when it was lost, then times of day are unknown.
    """

    def __init__(self, header: Mapping[str, Any]) -> None:
        self._header = header
        self._created_us = _whole(header.get("created_us"))
        self._created_wall_ms = _whole(header.get("created_wall_ms"))
        self._latest_us = self._created_us
        self._decoder: RecordDecoder | None = None

    def header(self) -> dict[str, Any]:
        """Return the header as a record."""
        return {
            "kind": "header",
            "session_id": self._header.get("session_id", ""),
            "pipeline": self._header.get("pipeline", ""),
            "started_wall_ms": self._created_wall_ms,
            "started_us": self._created_us,
        }

    def records(self, kernel: bytes, shell: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the records of one block in the order of time, the kernel's first where times are equal.

        Raises:
            MalformedError: the kernel's part cannot be decoded.
        """
        merged = self.kernel(kernel)
        latest = self._latest_us
        for record in shell:
            # A gap of the writer has no time: it lies where it stands.
            latest = record.setdefault("at_us", latest)
            record.setdefault("wall_ms", self.wall_ms(latest))
            merged.append(record)
        merged.sort(key=_time)
        if merged:
            self._latest_us = _time(merged[-1])
        yield from merged

    def gap(self, damage: str) -> dict[str, Any]:
        """Return the record that says that records are missing here for ``damage``."""
        at_us = self._latest_us
        return {"kind": "gap", "at_us": at_us, "wall_ms": self.wall_ms(at_us), "records": 1, "damage": damage}

    def wall_ms(self, at_us: int) -> int:
        """Time of day at ``at_us``, ms since the epoch."""
        return self._created_wall_ms + max(0, at_us - self._created_us) // 1000

    def kernel(self, block: bytes) -> list[dict[str, Any]]:
        """Return the records of the kernel's part of a block.

        Raises:
            MalformedError: it cannot be decoded, or the header does not say for whom it was written.
        """
        if not block:
            return []
        if self._decoder is None:
            self._decoder = decoder_of(self._header)
        try:
            return [msgspec.json.decode(line) for line in self._decoder.decode(block)]
        except ValueError as error:
            raise MalformedError(f"the kernel's records: {error}") from None


def decoder_of(header: Mapping[str, Any]) -> RecordDecoder:
    """Return the decoder for the kernel's records of the stint with that header.

    Raises:
        MalformedError: the header does not say for whom they were written.
    """
    try:
        return RecordDecoder(
            session_id=header["session_id"],
            pipeline_version=header["pipeline_version"],
            created_us=header["created_us"],
            created_wall_ms=header["created_wall_ms"],
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedError(f"the header does not say whose records follow: {error}") from None


def _whole(value: object) -> int:
    """A time of a header; 0 where an old or a forged one has none."""
    return value if isinstance(value, int) else 0


def _time(record: Mapping[str, Any]) -> int:
    return int(record["at_us"])


def turn_of(record: Mapping[str, Any]) -> int:
    """Return the turn that a record belongs to, 0 for none."""
    turn = record.get("turn")
    if isinstance(turn, int):
        return turn
    part = record.get("event") or record.get("decision")
    named = str(part.get("turn_id", "")) if isinstance(part, dict) else ""
    number = named.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS else 0


def encode(record: Mapping[str, Any]) -> bytes:
    """Return a record as one JSON object."""
    return msgspec.json.encode(record)
