"""The other side of a signature: the private key of who publishes snapshots, and the signed document.

Keys come from an environment variable or from a file that nobody else may read, never from a command line,
where every process of the machine sees them. Messages never show what a key might be.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.artifact import MAX_BYTES, Artifact, SnapshotError, decode_artifact
from rspp.controlplane.signature import KEY_BYTES, check_signature, signed
from rspp.evidence.keys import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_KEY_BYTES = 4096
"""Largest file of a key."""
FORMS = "32 raw bytes in base64, or an unencrypted PEM as openssl genpkey -algorithm ed25519 makes it"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHERS = 0o077


def private_key(
    file: Path | None, variable: str, environment: Mapping[str, str] | None = None
) -> Ed25519PrivateKey:
    """Read the private key that signs.

    Args:
        file: file that holds it; none takes it from ``variable``.
        variable: environment variable that holds it; empty takes it from ``file``.
        environment: ``os.environ`` when absent.

    Raises:
        ConfigurationError: neither or both are named, others may read the file, or there is no key in it.
    """
    if (file is None) == (not variable):
        raise ConfigurationError(
            "--key and --key-env: exactly one of them says where the private key is",
            hint="--key FILE, a file that only this user may read, or --key-env NAME of a variable; "
            "rspp-cli generate-snapshot-key FILE makes one",
        )
    if file is not None:
        return _parsed(_read_private(file), f"--key {file}")
    if not _VARIABLE.fullmatch(variable):
        raise ConfigurationError(
            "--key-env: this cannot be the name of an environment variable (value not shown)",
            hint="name the variable, without $; if it was the key itself, others may have seen it: make "
            "another",
        )
    text = (os.environ if environment is None else environment).get(variable, "").strip()
    if not text:
        raise ConfigurationError(f"--key-env {variable}: is not set", hint=f"set it to the key: {FORMS}")
    return _parsed(text.encode("utf-8", "surrogateescape"), f"--key-env {variable}")


def make_key(file: Path) -> Ed25519PublicKey:
    """Make a private key and write it to a new file that only this user may read.

    Returns:
        The public key that belongs to it.

    Raises:
        ConfigurationError: there is a file already, or it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    try:
        write_whole(file, base64.b64encode(key.private_bytes_raw()) + b"\n")
    except FileExistsError:
        raise ConfigurationError(
            f"{file}: is there already, and a key is never overwritten", hint="name a new file"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{file}: cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="name a file in a folder that exists and that this user may write to",
        ) from error
    return key.public_key()


def shown_key(key: Ed25519PublicKey) -> str:
    """Return a public key as runtimes take it: its 32 bytes in base64."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def sign_artifact(data: bytes, key: Ed25519PrivateKey) -> tuple[bytes, Artifact]:
    """Sign an artifact, in place of any signature that it has.

    Args:
        data: the artifact as it is written.
        key: who signs.

    Returns:
        The signed document as JSON with a line end, and what it says. A runtime that has the public key
        takes it.

    Raises:
        SnapshotError: it is no artifact, or would be too large with its signature.
    """
    decode_artifact(data)
    try:
        document = signed(msgspec.json.decode(data, type=dict[str, Any]), key)
        compact = msgspec.json.encode(document)
        formatted = msgspec.json.format(compact, indent=2)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SnapshotError(
            "artifact_invalid",
            f"the artifact cannot be signed: {' '.join(str(error).split())[:200]}",
            hint="leave out fields that rspp-cli snapshot-template does not print",
        ) from error
    written = (formatted if len(formatted) < MAX_BYTES else compact) + b"\n"
    # What is handed out is what a runtime would take.
    artifact = decode_artifact(written)
    check_signature(written, key.public_key())
    return written, artifact


def _read_private(file: Path) -> bytes:
    """Return what a private file holds; the same opened file is checked and read."""
    try:
        # A pipe would keep the command for as long as it likes.
        opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(opened).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigurationError(f"--key {file}: is no file", hint="name the file of the private key")
            if mode & _OTHERS:
                raise ConfigurationError(
                    f"--key {file}: may be read or written by others (mode {stat.S_IMODE(mode):o})",
                    hint=f"chmod 600 {file}; if others may have read it, make another key",
                )
            return os.read(opened, MAX_KEY_BYTES + 1)
        finally:
            os.close(opened)
    except (OSError, ValueError) as error:
        if _is_key(str(file)):
            raise ConfigurationError(
                "--key: this is a key and no file (value not shown)",
                hint="write it to a private file; others may have seen it on the command line: make another",
            ) from None
        raise ConfigurationError(
            f"--key {file}: cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="name the file of the private key; rspp-cli generate-snapshot-key FILE makes one",
        ) from error


def _parsed(data: bytes, where: str) -> Ed25519PrivateKey:
    try:
        if len(data) <= MAX_KEY_BYTES:
            if data.lstrip().startswith(b"-----BEGIN"):
                key = load_pem_private_key(data, password=None)
                if isinstance(key, Ed25519PrivateKey):
                    return key
            else:
                raw = base64.b64decode(data.strip(), validate=True)
                if len(raw) == KEY_BYTES:
                    return Ed25519PrivateKey.from_private_bytes(raw)
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise ConfigurationError(
        f"{where}: holds no Ed25519 private key (value not shown)", hint=f"write {FORMS}"
    )


def _is_key(text: str) -> bool:
    try:
        return "-----BEGIN" in text or len(base64.b64decode(text.strip(), validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False
