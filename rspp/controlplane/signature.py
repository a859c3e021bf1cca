"""Signatures of artifacts: Ed25519 over the canonical form, so that any layout of the file will do.

The canonical form is the document without its ``signature``, with sorted keys, without blanks, in UTF-8.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.artifact import SnapshotError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FIELD = "signature"
KEY_BYTES = 32
PUBLIC_KEY_VARIABLE = "RSPP_CP_DISTRIBUTION_PUBLIC_KEY"


def signed(document: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Return ``document`` with a signature by ``key``."""
    signature = key.sign(_canonical(document))
    return {**document, FIELD: base64.b64encode(signature).decode()}


def check_signature(data: bytes, key: Ed25519PublicKey) -> None:
    """Check the signature of an artifact that decodes.

    Raises:
        SnapshotError: ``artifact_invalid``: it has none, or it was not made by the owner of ``key`` for these
            contents.
    """
    given = ""
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
        given = str(document.get(FIELD, ""))
        key.verify(base64.b64decode(given, validate=True), _canonical(document))
    except (InvalidSignature, binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise SnapshotError(
            "artifact_invalid",
            "the artifact is not signed" if not given else "the artifact's signature is wrong",
            hint=f"sign it with the key that belongs to {PUBLIC_KEY_VARIABLE}: rspp-cli sign-snapshot",
        ) from error


def public_key(text: str) -> Ed25519PublicKey:
    """Read a public key: the 32 raw bytes in base64.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        raw = base64.b64decode(text, validate=True)
        if len(raw) == KEY_BYTES:
            return Ed25519PublicKey.from_public_bytes(raw)
    except (binascii.Error, ValueError):
        pass
    raise ConfigurationError(
        f"{PUBLIC_KEY_VARIABLE} is no Ed25519 public key",
        hint="write its 32 raw bytes in base64",
    )


def _canonical(document: dict[str, Any]) -> bytes:
    unsigned = {name: value for name, value in document.items() if name != FIELD}
    return msgspec.json.encode(unsigned, order="sorted")
