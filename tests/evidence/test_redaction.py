"""Redaction: what each level leaves of each class, and that it is really gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rspp.contracts.errors import EvidenceError
from rspp.evidence.redaction import (
    ACTIONS,
    MATRIX,
    PAYLOAD_CLASSES,
    RESPONSE,
    Action,
    Decision,
    Redacted,
    SecretScrubber,
    apply_action,
    decisions,
    level_action,
    mask_text,
)

if TYPE_CHECKING:
    from rspp.contracts.envelope import PayloadClass

KEY = b"k" * 32


def applied(action: Action, data: bytes, payload_class: str = "text_raw", key: bytes = KEY) -> Redacted:
    return apply_action(
        action,
        next(name for name in PAYLOAD_CLASSES if name == payload_class),
        data,
        hash_key=key,
        tokenize=lambda value: b"token:" + value[::-1],
    )


def test_the_matrices_are_those_of_the_contract() -> None:
    order: tuple[PayloadClass, ...] = ("audio_raw", "text_raw", "PII", "PHI", "derived_summary", "metadata")
    table = {level: [actions[name] for name in order] for level, actions in MATRIX.items()}
    assert table == {
        "L0": ["drop", "drop", "hash", "drop", "allow", "allow"],
        "L1": ["mask", "mask", "hash", "hash", "allow", "allow"],
        "L2": ["hash", "mask", "hash", "hash", "allow", "allow"],
    }
    assert [RESPONSE[name] for name in order] == ["drop", "mask", "tokenize", "tokenize", "allow", "allow"]


def test_only_raw_text_and_sound_and_only_at_l2_can_be_kept_in_full() -> None:
    everything = frozenset(PAYLOAD_CLASSES)
    assert level_action("text_raw", "L2", everything) == "allow"
    assert level_action("audio_raw", "L2", everything) == "allow"
    assert level_action("PII", "L2", everything) == "hash"
    assert level_action("PHI", "L2", everything) == "hash"
    assert level_action("text_raw", "L1", everything) == "mask"
    assert level_action("text_raw", "L0", everything) == "drop"


def test_decisions_follow_the_tags_once_each_and_keep_what_was_decided() -> None:
    made = decisions(["text_raw", "PII", "text_raw", "metadata"], "L1", explicit=[Decision("PII", "drop")])
    assert made == [Decision("text_raw", "mask"), Decision("PII", "drop"), Decision("metadata", "allow")]


@pytest.mark.parametrize(
    ("tags", "explicit", "said"),
    [
        ([], [], "no class"),
        (["PII"], [Decision("PII", "drop"), Decision("PII", "hash")], "decided twice"),
        (["PII"], [Decision("PHI", "drop")], "PHI is decided but is no class"),
    ],
)
def test_decisions_without_tags_or_that_contradict_are_refused(
    tags: list[str], explicit: list[Decision], said: str
) -> None:
    known = [name for name in PAYLOAD_CLASSES if name in tags]
    with pytest.raises(EvidenceError, match=said):
        decisions(known, "L0", explicit=explicit)


def test_a_mask_keeps_the_structure_and_no_letter_or_digit() -> None:
    assert mask_text("Dr. Weiß, Raum 12-b: Ünal λ ٣!") == "••. ••••, •••• 00-•: •••• • 0!"
    assert mask_text("नमस्ते") == "•" * len("नमस्ते")


def test_masked_sound_is_its_length_only() -> None:
    assert applied("mask", b"\x01\x02" * 100, "audio_raw") == Redacted("mask", b"", 200)


def test_a_hash_needs_the_tenants_key_to_be_guessed() -> None:
    one, again = applied("hash", b"Ada Lovelace", "PII"), applied("hash", b"Ada Lovelace", "PII")
    assert one == again
    assert one.data != applied("hash", b"Ada Lovelace", "PII", key=b"o" * 32).data
    assert one.data != applied("hash", b"Ada Lovelace", "PHI").data
    assert b"Ada" not in one.data


@pytest.mark.parametrize("action", ACTIONS)
def test_only_allow_lets_the_text_through(action: Action) -> None:
    assert (b"Ada" in applied(action, b"Ada").data) is (action == "allow")


def test_secrets_of_the_environment_are_taken_out_and_common_words_stay() -> None:
    scrub = SecretScrubber(
        {"OPENAI_API_KEY": "sk-123456789", "LIVEKIT_API_SECRET": "sk-123456789-long", "MY_TOKEN": "hello"},
        names=("MODEL_ACCESS",),
    )
    assert scrub.scrubbed(b"hello sk-123456789-long, sk-123456789.") == b"hello [secret], [secret]."
    named = SecretScrubber({"MODEL_ACCESS": "longenough"}, names=("MODEL_ACCESS",))
    assert named.scrubbed(b"longenough") == b"[secret]"
    assert SecretScrubber({"HOME": "/home/somebody"}).scrubbed(b"/home/somebody") == b"/home/somebody"
