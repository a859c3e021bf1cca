"""What can be wrong with a recording, and where."""

from __future__ import annotations

from dataclasses import dataclass

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
