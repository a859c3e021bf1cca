"""What stands in the blocks of a segment: header, records and seal.

The frame around a body, its checksum and its link are the kernel's (``rspp._kernel.SegmentChain``).
Bodies are deflated; inflating stops at a bound, so that a small file cannot fill the memory.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from rspp.contracts.errors import EvidenceError
from rspp.evidence.dictionary import DICTIONARY

FORMAT = 1
HEADER, RECORDS, SEAL = 1, 2, 3
"""Kinds of block."""
NO_LINK = bytes(16)
"""Link before the first segment of a session."""
MAX_INFLATED_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_NUMBER = 1 << 53
"""Largest time or number that a header or a record of the shell may hold: 285 years in microseconds."""
SUFFIX = ".segment"
_TIMES = ("at_us", "wall_ms")


class MalformedError(EvidenceError):
    """A body cannot be read although its checksum is right."""


def header_body(header: dict[str, Any]) -> bytes:
    """Return the body of a header or seal block."""
    return zlib.compress(msgspec.json.encode(header), 9)


def read_header(body: bytes) -> dict[str, Any]:
    """Return what a header or seal block says.

    Raises:
        MalformedError: it is no such body.
    """
    try:
        content = msgspec.json.decode(_inflate(body, zlib.decompressobj()))
    except msgspec.DecodeError as error:
        raise MalformedError(f"the header is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise MalformedError("the header is no object")
    return content


def records_body(kernel: bytes, records: list[bytes]) -> bytes:
    """Return the body of a block of records.

    Args:
        kernel: records of the kernel in its own binary form; may be empty.
        records: records of the shell, each one JSON object without a line break.
    """
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    content = b"".join((_varint(len(kernel)), kernel, b"\n".join(records)))
    return deflate.compress(content) + deflate.flush()


def read_records(body: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the kernel's part and the shell's records of a block.

    Raises:
        MalformedError: it is no such body.
    """
    content = _inflate(body, zlib.decompressobj(-15, DICTIONARY))
    length, start = _read_varint(content)
    if start + length > len(content):
        raise MalformedError(f"the kernel's part of {length} bytes is longer than its block")
    end = start + length
    shell: list[dict[str, Any]] = []
    for line in content[end:].split(b"\n") if end < len(content) else ():
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"a record of the shell is no JSON: {error}") from None
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise MalformedError("a record of the shell has no kind")
        times = [record.get(name, 0) for name in _TIMES]
        if any(type(time) is not int or abs(time) > MAX_NUMBER for time in times):
            raise MalformedError("a record of the shell has a time that is none")
        shell.append(record)
    return content[start:end], shell


def _inflate(body: bytes, inflate: zlib._Decompress) -> bytes:
    try:
        content = inflate.decompress(body, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise MalformedError(f"the block cannot be inflated: {error}") from None
    if inflate.unconsumed_tail or inflate.unused_data:
        raise MalformedError(
            f"the block holds more than {MAX_INFLATED_BYTES} bytes, or more than its content"
        )
    if not inflate.eof:
        raise MalformedError("the block's content ends early")
    return content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(content: bytes) -> tuple[int, int]:
    value = 0
    for index in range(min(5, len(content))):
        value |= (content[index] & 0x7F) << (7 * index)
        if content[index] < 0x80:
            return value, index + 1
    raise MalformedError("the length of the kernel's part has no end")
