"""One file of payloads: its format, how it is written, and what can be read of a damaged one.

An artifact is one file with the payloads of one turn and one class, encrypted under a data key of its own
that lies wrapped beside it. Each writer begins files of its own, so a runtime that takes a call over never
touches what its predecessor left::

    TENANT/SESSION/payloads/t000002.text_raw.payload       parts after the first: t000002.text_raw.2.payload
    TENANT/SESSION/keys/t000002.text_raw.key

    file   magic "RSPPPAY1" | u64 wall clock of its beginning, ms | u32 CRC-32 of both | entries
    entry  u32 length | u32 CRC-32 of the body | body: nonce (12) | AES-256-GCM of
           u32 length of the description | description as JSON | payload

Numbers are little endian. Each entry is bound to tenant, session, file and its own position, so entries
cannot be swapped; a file that was cut is named as torn unless the cut is exactly between two entries.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rspp.contracts.errors import EvidenceError
from rspp.evidence.redaction import PAYLOAD_CLASSES, known_class

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.redaction import Action

MAX_ENTRY_BYTES = 1 << 20
"""Longest payload: 33 s of speech at 16 kHz."""
MAX_FILE_BYTES = 64 << 20
"""A file that reaches this goes on in the next part."""
BUFFER_BYTES = 64 << 10
"""What waits at most for ``flush`` in each open file."""
SUFFIX = ".payload"

DamageCode: TypeAlias = Literal[
    "not_an_artifact", "torn", "oversized_entry", "checksum_mismatch", "not_authentic", "key_missing"
]
State: TypeAlias = Literal["active", "cryptographically_inaccessible"]

_MAGIC = b"RSPPPAY1"
_HEAD = struct.Struct("<8sQI")
_ENTRY = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_NONCE_BYTES = 12
_LARGEST_BODY = MAX_ENTRY_BYTES + (64 << 10)
_NAME = re.compile(rf"t(\d{{6,10}})\.({'|'.join(PAYLOAD_CLASSES)})(?:\.(\d{{1,6}}))?\.payload")


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One file of payloads.

    Attributes:
        session: session it belongs to.
        turn: turn it belongs to; 0 for none.
        payload_class: class of its payloads.
        part: which file of that turn and class, from 1.
        path: the file.
        key_path: its wrapped data key.
        recorded_ms: when the file was begun, milliseconds since 1970; when it was last changed if its head
            is damaged.
        size: bytes of the file.
        state: whether its key still exists.
    """

    session: str
    turn: int
    payload_class: PayloadClass
    part: int
    path: Path
    key_path: Path
    recorded_ms: int
    size: int
    state: State


class PayloadEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One payload as it was kept.

    Attributes:
        session: session it belongs to.
        turn: turn it belongs to; 0 for none.
        payload_class: its class.
        at_us: when it happened, on the clock of the session's records.
        action: what redaction did before it was kept.
        length: length before redaction, bytes.
        data: what was kept.
        details: what the writer said about it.
        artifact: name of its artifact, such as ``t000002.text_raw``.
    """

    session: str
    turn: int
    payload_class: PayloadClass
    at_us: int
    action: Action
    length: int
    data: bytes
    details: dict[str, Any]
    artifact: str


class PayloadDamage(NamedTuple):
    """What cannot be read.

    Attributes:
        code: what is wrong.
        path: the file.
        offset: where in it, bytes.
        entry: number of the entry, from 0.
    """

    code: DamageCode
    path: Path
    offset: int
    entry: int


class OpenFile:
    """A new file that is being written; entries wait in memory until ``flush``, at most one or 64 KiB.

    Args:
        path: the file; there must be none.
        data_key: key of this file alone.
        binding: as ``binding_of``.
        wall_ms: now, milliseconds since 1970.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, *, data_key: bytes, binding: bytes, wall_ms: int) -> None:
        self.path = path
        self.data_key = data_key
        self.size = 0
        self._seal = AESGCM(data_key)
        self._binding = binding
        self._entries = 0
        self._buffer = bytearray()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        start = _MAGIC + struct.pack("<Q", wall_ms)
        self._take(start + _LENGTH.pack(zlib.crc32(start)))

    def append(self, description: bytes, data: bytes) -> None:
        """Encrypt one payload and let it wait.

        Raises:
            OSError: the disk refuses what waited before; this payload was not taken.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = _LENGTH.pack(len(description)) + description + data
        body = nonce + self._seal.encrypt(nonce, plain, _bound(self._binding, self._entries))
        self._take(_ENTRY.pack(len(body), zlib.crc32(body)) + body)
        self._entries += 1

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: the disk refuses; what it did not take goes on waiting.
        """
        # Cleared as far as it was written, so that after a full disk the file goes on without a hole.
        while self._buffer:
            written = os.write(self._file, self._buffer)
            del self._buffer[:written]

    def sync(self) -> None:
        """Write what waits, and wait until it is on the medium.

        Raises:
            OSError: the disk refuses.
        """
        self.flush()
        os.fsync(self._file)

    def close(self) -> None:
        """Write what waits and close the file.

        Raises:
            OSError: the disk refuses; the file is closed all the same.
        """
        try:
            self.flush()
        finally:
            os.close(self._file)

    def _take(self, content: bytes) -> None:
        if self._buffer and len(self._buffer) + len(content) > BUFFER_BYTES:
            self.flush()
        self._buffer += content
        self.size += len(content)


def binding_of(tenant: str, session: str, path: Path) -> bytes:
    """Return what the entries of a file are bound to."""
    return b"\0".join((_MAGIC, tenant.encode(), session.encode(), path.name.encode()))


def stem_of(turn: int, payload_class: PayloadClass, part: int) -> str:
    """Return the name of an artifact without suffix; ``part`` counts from 1."""
    return f"t{turn:06d}.{payload_class}" + (f".{part}" if part > 1 else "")


def artifact_at(session: str, path: Path) -> Artifact | None:
    """Return what a file of a session is; none when it is no artifact by its name.

    Raises:
        OSError: it cannot be read.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    key_path = path.parents[1] / "keys" / f"{path.name.removesuffix(SUFFIX)}.key"
    facts = path.stat()
    with path.open("rb") as file:
        begun = _begun(file.read(_HEAD.size))
    return Artifact(
        session=session,
        turn=int(match[1]),
        payload_class=known_class(match[2]),
        part=int(match[3] or 1),
        path=path,
        key_path=key_path,
        recorded_ms=facts.st_mtime_ns // 1_000_000 if begun is None else begun,
        size=facts.st_size,
        state="active" if key_path.exists() else "cryptographically_inaccessible",
    )


def entries_of(
    artifact: Artifact, data_key: bytes, binding: bytes, damage: list[PayloadDamage]
) -> Iterator[PayloadEntry]:
    """Yield the entries of an artifact that can be read; the others are added to ``damage``.

    Raises:
        EvidenceError: the file cannot be read.
    """
    path = artifact.path
    opener = AESGCM(data_key)
    try:
        with path.open("rb") as file:
            if _begun(file.read(_HEAD.size)) is None:
                damage.append(PayloadDamage("not_an_artifact", path, 0, 0))
                return
            number, offset = 0, _HEAD.size
            while head := file.read(_ENTRY.size):
                length, checksum = _ENTRY.unpack(head) if len(head) == _ENTRY.size else (0, 0)
                if length > _LARGEST_BODY:
                    damage.append(PayloadDamage("oversized_entry", path, offset, number))
                    return
                body = file.read(length)
                if len(head) < _ENTRY.size or len(body) < length:
                    damage.append(PayloadDamage("torn", path, offset, number))
                    return
                if zlib.crc32(body) != checksum:
                    damage.append(PayloadDamage("checksum_mismatch", path, offset, number))
                else:
                    entry = _opened(artifact, opener, body, _bound(binding, number))
                    if entry is None:
                        damage.append(PayloadDamage("not_authentic", path, offset, number))
                    else:
                        yield entry
                number, offset = number + 1, offset + _ENTRY.size + length
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error


def _bound(binding: bytes, entry: int) -> bytes:
    return binding + struct.pack("<Q", entry)


def _begun(head: bytes) -> int | None:
    """Return when a file was begun; none when its head is damaged."""
    if len(head) != _HEAD.size:
        return None
    magic, wall_ms, checksum = _HEAD.unpack(head)
    return int(wall_ms) if magic == _MAGIC and zlib.crc32(head[:-4]) == checksum else None


def _opened(artifact: Artifact, opener: AESGCM, body: bytes, bound: bytes) -> PayloadEntry | None:
    try:
        plain = opener.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], bound)
        (length,) = _LENGTH.unpack_from(plain)
        description = msgspec.json.decode(plain[4 : 4 + length], type=_Description)
    except (InvalidTag, ValueError, struct.error):
        return None
    return PayloadEntry(
        session=artifact.session,
        turn=artifact.turn,
        payload_class=artifact.payload_class,
        at_us=description.at_us,
        action=description.action,
        length=description.length,
        data=plain[4 + length :],
        details=description.details,
        artifact=artifact.path.name.removesuffix(SUFFIX),
    )


class _Description(msgspec.Struct):
    at_us: int
    action: Literal["allow", "mask", "hash", "drop", "tokenize"]
    length: int
    details: dict[str, Any]
