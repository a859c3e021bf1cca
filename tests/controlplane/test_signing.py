"""``rspp-cli generate-snapshot-key``, ``sign-snapshot`` and ``verify-snapshot``."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from rspp.cli.main import run
from rspp.controlplane.artifact import MAX_BYTES
from rspp.controlplane.reading import ArtifactReader
from rspp.controlplane.signature import PUBLIC_KEY_VARIABLE
from rspp.controlplane.sources import FileSource
from tests.controlplane.snapshots import ISSUED_MS, document, encoded, put, settings_of

if TYPE_CHECKING:
    from tests.controlplane.snapshots import Change

Capture = pytest.CaptureFixture[str]

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PRIVATE = base64.b64encode(b"k" * 32).decode()
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
LOCKED = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
OTHER_KIND = generate_private_key(SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a snapshot and a key; the key is in a variable too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGNING", PRIVATE)
    monkeypatch.delenv(PUBLIC_KEY_VARIABLE, raising=False)
    (tmp_path / "snapshot.json").write_bytes(encoded())
    kept("key", PRIVATE.encode())
    return tmp_path


def kept(name: str, content: bytes, mode: int = 0o600) -> str:
    Path(name).write_bytes(content)
    Path(name).chmod(mode)
    return name


def sign(*more: str, file: str = "snapshot.json") -> int:
    return run(["sign-snapshot", file, *more])


def verify(file: str, *more: str) -> int:
    return run(["verify-snapshot", file, *more])


def told_as_bad_input(capsys: Capture) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "\nhint: " in said.err
    assert "Traceback" not in said.err
    assert PRIVATE not in said.err
    return said.err


@pytest.mark.parametrize("form", [PRIVATE.encode(), f"  {PRIVATE}\n".encode(), PEM, b"\n" + PEM])
def test_a_runtime_takes_what_was_signed_with_the_key_that_belongs_to_its_own(
    form: bytes, capsys: Capture
) -> None:
    assert sign("--key", kept("form", form), "--out", "signed.json") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "signed snapshot 1, which expires at 2023-11-15T22:13:19+00:00" in said.err
    assert PUBLIC in said.err
    settings = settings_of(FileSource(Path("signed.json")), key=KEY.public_key())
    assert ArtifactReader(settings).read(ISSUED_MS).artifact.snapshot_version == 1
    written = json.loads(Path("signed.json").read_text())
    assert {name: value for name, value in written.items() if name != "signature"} == document()


def test_a_signed_snapshot_goes_to_standard_output_and_replaces_a_signature(capsys: Capture) -> None:
    Path("snapshot.json").write_bytes(encoded(put("signature", "of somebody else")))
    assert sign("--key-env", "SIGNING") == 0
    Path("signed.json").write_text(capsys.readouterr().out)
    assert verify("signed.json", "--public-key", PUBLIC) == 0
    assert "signed by that key: snapshot 1" in capsys.readouterr().out


def test_a_file_can_be_signed_in_place_and_leaves_nothing_beside_it(desk: Path) -> None:
    before = sorted(desk.iterdir())
    assert sign("--key", "key", "--out", "snapshot.json") == 0
    assert sorted(desk.iterdir()) == before
    assert verify("snapshot.json", "--public-key", PUBLIC) == 0


def test_a_made_key_is_private_new_and_belongs_to_the_public_one(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["generate-snapshot-key", "made"]) == 0
    name, _, public = capsys.readouterr().out.strip().partition("=")
    assert name == PUBLIC_KEY_VARIABLE
    assert stat.S_IMODE(Path("made").stat().st_mode) == 0o600
    assert sign("--key", "made", "--out", "signed.json") == 0
    monkeypatch.setenv(name, public)
    assert verify("signed.json") == 0
    content = Path("made").read_bytes()
    capsys.readouterr()
    assert run(["generate-snapshot-key", "made"]) == 2
    assert "never overwritten" in told_as_bad_input(capsys)
    assert Path("made").read_bytes() == content
    assert run(["generate-snapshot-key", "second", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["file"], second["public_key"] == public) == ("second", False)
    assert run(["generate-snapshot-key", "nowhere/key"]) == 2
    assert "nowhere/key: cannot be written" in told_as_bad_input(capsys)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("lease/default/authority_authorized", False), "the artifact's signature is wrong"),
        (put("more", 1), "the artifact's signature is wrong"),
        (put("signature", ""), "the artifact is not signed"),
        (put("snapshot_version", 0), "snapshot_version"),
    ],
)
def test_what_was_changed_since_is_told_with_status_1(change: Change, told: str, capsys: Capture) -> None:
    assert sign("--key", "key", "--out", "signed.json") == 0
    changed: dict[str, Any] = json.loads(Path("signed.json").read_text())
    change(changed)
    Path("signed.json").write_text(json.dumps(changed))
    capsys.readouterr()
    assert verify("signed.json", "--public-key", PUBLIC) == 1
    assert told in told_as_bad_input(capsys)
    assert verify("signed.json", "--public-key", PUBLIC, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["valid"], answer["code"]) == (False, "artifact_invalid")
    assert told in answer["problem"]


def test_a_signature_of_another_key_is_told_with_status_1(capsys: Capture) -> None:
    assert sign("--key", "key", "--out", "signed.json") == 0
    other = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    assert verify("signed.json", "--public-key", other) == 1
    assert "signature is wrong" in capsys.readouterr().err
    assert verify("signed.json", "--public-key", PUBLIC, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["valid"], answer["snapshot_version"]) == (True, 1)


@pytest.mark.parametrize("key", ["", "AAAA", "not base64", PRIVATE + PRIVATE])
def test_without_a_public_key_nothing_is_verified(key: str, capsys: Capture) -> None:
    assert verify("snapshot.json", "--public-key", key) == 2
    told_as_bad_input(capsys)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe", "is no JSON"),
        (encoded()[:-1], "is no JSON"),
        (b"[]", "is invalid"),
        (b"{}", "schema_version"),
        (encoded(put("snapshot_version", "1")), "snapshot_version"),
        (encoded(put("more", "x" * MAX_BYTES)), "gives more than"),
        (encoded()[:-1] + b',"more":' + b"[" * 5000 + b"]" * 5000 + b"}", "is no JSON"),
        (b"[" * 100_000, "is invalid"),
        (encoded()[:-1] + b',"more":"\xff"}', "cannot be signed"),
    ],
    ids=["empty", "binary", "cut", "list", "none", "type", "large", "nested", "bottomless", "no text"],
)
def test_what_is_no_snapshot_is_not_signed(content: bytes, told: str, capsys: Capture) -> None:
    Path("hostile.json").write_bytes(content)
    assert sign("--key", "key", "--out", "signed.json", file="hostile.json") == 2
    said = told_as_bad_input(capsys)
    assert told in said
    assert "hostile.json: " in said
    assert not Path("signed.json").exists()


@pytest.mark.parametrize(
    "command", [["sign-snapshot", "--key", "key"], ["verify-snapshot", "--public-key", PUBLIC]]
)
def test_a_snapshot_that_is_not_there_is_bad_input(command: list[str], capsys: Capture) -> None:
    for name in ("none.json", "."):
        assert run([*command, name]) == 2
        said = told_as_bad_input(capsys)
        assert f"{name}: " in said
        assert "name the file of the snapshot" in said


def test_a_snapshot_that_its_signature_makes_too_large_is_not_signed(capsys: Capture) -> None:
    room = MAX_BYTES - len(encoded(put("more", "")))
    Path("large.json").write_bytes(encoded(put("more", "x" * room)))
    assert Path("large.json").stat().st_size == MAX_BYTES
    assert sign("--key", "key", "--out", "signed.json", file="large.json") == 2
    assert "more than" in told_as_bad_input(capsys)
    Path("large.json").write_bytes(encoded(put("more", "x" * (room - 200))))
    assert sign("--key", "key", "--out", "signed.json", file="large.json") == 0
    assert verify("signed.json", "--public-key", PUBLIC) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "exactly one"),
        (["--key", "key", "--key-env", "SIGNING"], "exactly one"),
        (["--key", "none"], "--key none: cannot be read: No such file"),
        (["--key", "folder"], "--key folder: is no file"),
        (["--key", "pipe"], "--key pipe: is no file"),
        (["--key", "open"], "may be read or written by others (mode 640)"),
        (["--key", "empty"], "holds no Ed25519 private key"),
        (["--key", "short"], "holds no Ed25519 private key"),
        (["--key", "binary"], "holds no Ed25519 private key"),
        (["--key", "locked"], "holds no Ed25519 private key"),
        (["--key", "kind"], "holds no Ed25519 private key"),
        (["--key", "long"], "holds no Ed25519 private key"),
        (["--key", PRIVATE], "--key: this is a key and no file"),
        ([f"--key={PEM.decode()}"], "--key: this is a key and no file"),
        (["--key-env", "NOTHING"], "--key-env NOTHING: is not set"),
        (["--key-env", "WRONG"], "--key-env WRONG: holds no Ed25519 private key"),
        (["--key-env", PRIVATE], "cannot be the name of an environment variable"),
        (["--key-env", "$SIGNING"], "cannot be the name of an environment variable"),
        (["--key", "key", "--out", "nowhere/signed.json"], "--out nowhere/signed.json: cannot be written"),
        (["--key", "key", "--out", "folder"], "--out folder: cannot be written"),
    ],
)
def test_a_key_or_a_place_that_cannot_be_used_is_bad_input(
    arguments: list[str], told: str, desk: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("folder").mkdir(mode=0o700)
    os.mkfifo("pipe", 0o600)
    kept("open", PRIVATE.encode(), 0o640)
    for name, content in {
        "empty": b"",
        "short": b"AAAA",
        "binary": b"k" * 32,
        "locked": LOCKED,
        "kind": OTHER_KIND,
        "long": PEM + b" " * 5000,
    }.items():
        kept(name, content)
    monkeypatch.setenv("WRONG", PRIVATE[:-4])
    before = sorted(desk.rglob("*"))
    assert sign(*arguments) == 2
    said = told_as_bad_input(capsys)
    assert told in said
    assert PRIVATE[:-4] not in said
    assert "PRIVATE KEY" not in said
    assert sorted(desk.rglob("*")) == before
