"""A recorder that keeps a call in memory: for calls over the loopback that are looked at at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rspp.evidence.records import StintDecoder

if TYPE_CHECKING:
    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.redaction import Action
    from rspp.pipeline.profile import RecordingLevel as Level


class MemoryRecorder:
    """Keeps what sessions record, in the shapes that a recording on disk is read back in.

    Attributes:
        records: all records in order; a second stint's follow those of the first.
        headers: what each stint said of itself.
        blocks: the kernel's binary records, flush by flush.
        payloads: class, turn, time and content of what the level wanted.
    """

    def __init__(self, level: Level = "L0") -> None:
        self.level: Level = level
        self.records: list[dict[str, Any]] = []
        self.headers: list[dict[str, Any]] = []
        self.blocks: list[bytes] = []
        self.payloads: list[tuple[str, int, int, bytes]] = []
        self._decoder = StintDecoder({})

    @property
    def payload_failure(self) -> str:
        """Memory fails no payload."""
        return ""

    def begin(self, header: dict[str, object]) -> None:
        """Take the header of a stint."""
        self.headers.append(header)
        self._decoder = StintDecoder(header)
        self.records.append(self._decoder.header())

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        """Take what was recorded since the last time."""
        if block:
            self.blocks.append(block)
        self.records += self._decoder.records(block, [msgspec.json.decode(record) for record in records])

    def payload(
        self,
        payload_class: PayloadClass,
        turn: int,
        at_us: int,
        data: bytes,
        *,
        action: Action = "drop",
        **details: object,
    ) -> None:
        """Take content."""
        self.payloads.append((payload_class, turn, at_us, data))

    @property
    def lines(self) -> list[bytes]:
        """The records as JSON lines."""
        return [msgspec.json.encode(record) for record in self.records]
