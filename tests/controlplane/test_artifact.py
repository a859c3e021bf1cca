"""Reading and checking artifacts."""

from __future__ import annotations

import base64

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.artifact import MAX_BYTES, SnapshotError, decode_artifact
from rspp.controlplane.signature import check_signature, public_key, signed
from tests.controlplane.snapshots import Change, artifact, document, drop, encoded, put

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def code_of(data: bytes) -> str:
    with pytest.raises(SnapshotError) as caught:
        decode_artifact(data)
    assert caught.value.hint
    return caught.value.code


def test_unknown_fields_are_ignored() -> None:
    assert artifact(put("colour", "blue"), put("lease/default/colour", [1])) == artifact()


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", encoded() + b" {}", b"[" * 200_000])
def test_what_is_no_json_does_not_decode(data: bytes) -> None:
    assert code_of(data) in ("artifact_decode_failed", "artifact_invalid")


def test_trailing_data_does_not_decode() -> None:
    assert code_of(encoded() + b"x") == "artifact_decode_failed"


@pytest.mark.parametrize(
    "change",
    [
        put("schema_version", "cp-snapshot-distribution/v2"),
        drop("schema_version"),
        drop("snapshot_version"),
        put("snapshot_version", 0),
        drop("issued_at_utc"),
        drop("expires_at_utc"),
        put("expires_at_utc", "2023-11-14T22:13:19Z"),
        put("expires_at_utc", "2033-11-14T22:13:19"),
        drop("compatibility"),
        put("compatibility/schema_min", "1.0"),
        put("lease/default/authority_authorized", "yes"),
        put("lease/default/authority_epoch", -1),
        put("admission/default/scope", "turn"),
        put("routing_view", []),
    ],
)
def test_a_wrong_or_missing_field_is_invalid(change: Change) -> None:
    assert code_of(encoded(change)) == "artifact_invalid"


def test_too_large_an_artifact_is_invalid() -> None:
    assert code_of(encoded(put("more", "x" * MAX_BYTES))) == "artifact_invalid"


def test_a_list_is_no_artifact() -> None:
    assert code_of(b"[]") == "artifact_invalid"


def test_the_digest_covers_what_is_said_and_not_when() -> None:
    assert (
        artifact().digest()
        == artifact(
            put("issued_at_utc", "2023-11-14T22:13:00Z"), put("stale", True), put("policy/stale", True)
        ).digest()
    )
    assert artifact().digest() != artifact(put("lease/default/authority_authorized", False)).digest()


def test_a_signature_holds_for_any_layout() -> None:
    whole = signed(document(), KEY)
    check_signature(msgspec.json.encode(whole), KEY.public_key())
    check_signature(msgspec.json.format(msgspec.json.encode(whole), indent=4), KEY.public_key())
    check_signature(msgspec.json.encode(dict(reversed(whole.items()))), KEY.public_key())


@pytest.mark.parametrize(
    "change",
    [
        put("snapshot_version", 2),
        put("more", 1),
        drop("signature"),
        put("signature", "!"),
        put("signature", 7),
        put("signature", "AAAA"),
    ],
)
def test_a_signature_is_for_these_contents_only(change: Change) -> None:
    changed = signed(document(), KEY)
    change(changed)
    with pytest.raises(SnapshotError, match="sign") as caught:
        check_signature(msgspec.json.encode(changed), KEY.public_key())
    assert caught.value.code == "artifact_invalid"


def test_a_signature_is_of_one_key_only() -> None:
    with pytest.raises(SnapshotError, match="signature is wrong"):
        check_signature(
            msgspec.json.encode(signed(document(), KEY)), Ed25519PrivateKey.generate().public_key()
        )


def test_a_public_key_is_read_from_base64() -> None:
    raw = KEY.public_key().public_bytes_raw()
    assert public_key(base64.b64encode(raw).decode()).public_bytes_raw() == raw
    for wrong in ("", "AAAA", "not base64 at all"):
        with pytest.raises(ConfigurationError, match="RSPP_CP_DISTRIBUTION_PUBLIC_KEY"):
            public_key(wrong)
