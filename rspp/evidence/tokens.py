"""Tokens stand for payloads that a reader may not see, and lead back to them for one who may.

A token is made under a key that comes of its artifact's data key: equal payloads of one artifact give equal
tokens, and once the artifact is deleted no token of it can be turned back by anybody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from rspp.contracts.errors import EvidenceError

_TOKEN = re.compile(rb"tok1:([A-Za-z0-9._-]{1,100}):([A-Za-z0-9._]{1,80}):([A-Za-z0-9_-]{22,}={0,2})")
MAX_TOKEN_BYTES = 2 << 20


def make_token(data_key: bytes, session: str, artifact: str, value: bytes) -> bytes:
    """Return the token of a payload.

    Args:
        data_key: key of its artifact.
        session: session of the artifact.
        artifact: name of the artifact, such as ``t000002.PII``.
        value: the payload; an empty one has a token too.
    """
    # AES-SIV takes no empty input.
    sealed = _cipher(data_key).encrypt(b"\x00" + value, [session.encode(), artifact.encode()])
    return b":".join((b"tok1", session.encode(), artifact.encode(), base64.urlsafe_b64encode(sealed)))


def token_place(token: bytes) -> tuple[str, str]:
    """Return session and artifact of a token.

    Raises:
        EvidenceError: it is no token.
    """
    match = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_BYTES else None
    if match is None:
        raise EvidenceError("this is no token", hint="give it whole: tok1:SESSION:ARTIFACT:...")
    return match[1].decode(), match[2].decode()


def open_token(data_key: bytes, token: bytes) -> bytes:
    """Return the payload that a token stands for.

    Raises:
        EvidenceError: it is no token, or was not made under that key.
    """
    session, artifact = token_place(token)
    try:
        sealed = base64.urlsafe_b64decode(token.rpartition(b":")[2])
        plain = _cipher(data_key).decrypt(sealed, [session.encode(), artifact.encode()])
    except (InvalidTag, binascii.Error, ValueError):
        raise EvidenceError(
            f"the token of {session}/{artifact} is damaged", hint="give it exactly as it was shown"
        ) from None
    return plain[1:]


def _cipher(data_key: bytes) -> AESSIV:
    return AESSIV(hashlib.sha512(b"rspp token" + data_key).digest())
