"""What is done with a payload before it is kept or shown, decided by its class.

The classes come from whoever hands a payload over: nothing here guesses whether a text names a person. The
matrices are those of contract section 10.7 with the stricter action wherever the contract leaves a choice.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import msgspec

from rspp.contracts.envelope import PayloadClass
from rspp.contracts.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from rspp.pipeline.profile import RecordingLevel as Level

Action: TypeAlias = Literal["allow", "mask", "hash", "drop", "tokenize"]
ACTIONS: tuple[Action, ...] = get_args(Action)
PAYLOAD_CLASSES: tuple[PayloadClass, ...] = get_args(PayloadClass)
TEXT_CLASSES: frozenset[PayloadClass] = frozenset(("text_raw", "PII", "PHI", "derived_summary", "metadata"))
"""Classes whose payloads are texts in UTF-8; the other one is sound."""
FULL_AT_L2: frozenset[PayloadClass] = frozenset(("audio_raw", "text_raw"))
"""Classes that a tenant may have kept in full; PII and PHI never are."""

MATRIX: dict[Level, dict[PayloadClass, Action]] = {
    "L0": {
        "PII": "hash",
        "PHI": "drop",
        "audio_raw": "drop",
        "text_raw": "drop",
        "derived_summary": "allow",
        "metadata": "allow",
    },
    "L1": {
        "PII": "hash",
        "PHI": "hash",
        "audio_raw": "mask",
        "text_raw": "mask",
        "derived_summary": "allow",
        "metadata": "allow",
    },
    "L2": {
        "PII": "hash",
        "PHI": "hash",
        "audio_raw": "hash",
        "text_raw": "mask",
        "derived_summary": "allow",
        "metadata": "allow",
    },
}
"""What a recording keeps of each class at each level."""

RESPONSE: dict[PayloadClass, Action] = {
    "PII": "tokenize",
    "PHI": "tokenize",
    "audio_raw": "drop",
    "text_raw": "mask",
    "derived_summary": "allow",
    "metadata": "allow",
}
"""What a reader is shown of each class, whatever the recording holds."""

SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
"""Environment variables by such names hold secrets."""
SHORTEST_SECRET = 8
"""Shorter values are words that a caller may say by chance."""
SCRUBBED = b"[secret]"


class Decision(msgspec.Struct, frozen=True):
    """What was decided for one class; evidence itself.

    Attributes:
        payload_class: the class.
        action: what is done with its payloads.
    """

    payload_class: PayloadClass
    action: Action


class Redacted(msgspec.Struct, frozen=True):
    """What is left of a payload.

    Attributes:
        action: what was done.
        data: what may be kept or shown; empty when nothing but lengths may.
        length: length of the payload before, bytes.
    """

    action: Action
    data: bytes
    length: int


def known_class(name: str) -> PayloadClass:
    """Return ``name`` as a payload class.

    Raises:
        EvidenceError: there is no such class.
    """
    if name not in PAYLOAD_CLASSES:
        raise EvidenceError(
            f"payload class {name[:40]!r} is not known", hint=f"known: {', '.join(PAYLOAD_CLASSES)}"
        )
    return name


def level_action(payload_class: PayloadClass, level: Level, allow: Collection[PayloadClass] = ()) -> Action:
    """Return what a recording at ``level`` does with a class.

    Args:
        payload_class: the class.
        level: level of the recording.
        allow: classes that the tenant has kept in full; counts at L2 and for raw text and sound only.
    """
    if level == "L2" and payload_class in FULL_AT_L2 and payload_class in allow:
        return "allow"
    return MATRIX[level][payload_class]


def decisions(
    tags: Iterable[PayloadClass],
    level: Level,
    *,
    allow: Collection[PayloadClass] = (),
    explicit: Sequence[Decision] = (),
) -> list[Decision]:
    """Return one decision for each class of a payload, in the order of its tags.

    Args:
        tags: classes of the payload; one that comes twice counts once.
        level: level of the recording.
        allow: as ``level_action``.
        explicit: decisions that were made already; they are kept as they are.

    Raises:
        EvidenceError: there is no tag, or ``explicit`` decides a class twice or one that is no tag.
    """
    wanted = list(dict.fromkeys(tags))
    if not wanted:
        raise EvidenceError(
            "redaction: the payload has no class", hint="tag it with at least one payload class"
        )
    made = {decision.payload_class: decision for decision in explicit}
    if len(made) != len(explicit):
        raise EvidenceError("redaction: a class is decided twice", hint="give one decision for each class")
    stray = [name for name in made if name not in wanted]
    if stray:
        raise EvidenceError(
            f"redaction: {stray[0]} is decided but is no class of the payload", hint="tag the payload with it"
        )
    return [made.get(name) or Decision(name, level_action(name, level, allow)) for name in wanted]


class _Masks(dict[int, str]):
    """Code point to what stands for it; fills as characters are met."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))[0]
        self[code] = mask = "•" if kind in "LM" else "0" if kind == "N" else chr(code)
        return mask


_MASKS = _Masks()


def mask_text(text: str) -> str:
    """Return ``text`` with each letter as ``•`` and each digit as ``0``; blanks, signs and length stay."""
    return text.translate(_MASKS)


def apply_action(
    action: Action,
    payload_class: PayloadClass,
    data: bytes,
    *,
    hash_key: bytes,
    tokenize: Callable[[bytes], bytes],
) -> Redacted:
    """Return what ``action`` leaves of a payload.

    Args:
        action: what to do.
        payload_class: class of the payload.
        data: text in UTF-8, or sound.
        hash_key: the tenant's key for hashes: equal payloads give equal hashes within a tenant, and who has
            no key cannot try guesses against them.
        tokenize: makes a token from which the payload can be had back, by who may.
    """
    length = len(data)
    if action == "allow":
        return Redacted(action, data, length)
    if action == "mask":
        # Masked sound is its length: every sample of a voice says whose it is.
        kept = b"" if payload_class not in TEXT_CLASSES else mask_text(data.decode(errors="replace")).encode()
        return Redacted(action, kept, length)
    if action == "hash":
        digest = hmac.new(hash_key, payload_class.encode() + b"\0" + data, hashlib.sha256)
        return Redacted(action, digest.hexdigest().encode(), length)
    if action == "tokenize":
        return Redacted(action, tokenize(data), length)
    return Redacted("drop", b"", length)


class SecretScrubber:
    """Takes the values of secret environment variables out of what is to be kept.

    Args:
        environment: variables; those with a name like a secret's count.
        names: further names, such as the ``api_key_env`` of a pipeline.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, names: Iterable[str] = ()) -> None:
        given = os.environ if environment is None else environment
        wanted = {name for name in given if SECRET_NAME.search(name)} | set(names)
        values = {given[name].strip() for name in wanted if name in given}
        secret = sorted((value for value in values if len(value) >= SHORTEST_SECRET), key=len, reverse=True)
        self._pattern = (
            re.compile(b"|".join(re.escape(value.encode()) for value in secret)) if secret else None
        )

    def scrubbed(self, data: bytes) -> bytes:
        """Return ``data`` with ``[secret]`` in place of each secret."""
        return data if self._pattern is None else self._pattern.sub(SCRUBBED, data)
