"""The commands of ``rspp-cli`` that sign snapshots of the control plane and check signatures."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it parses
from typing import TYPE_CHECKING

from rspp.terminal import print_json, show_error, style_of

if TYPE_CHECKING:
    from rspp.controlplane.artifact import Artifact


def sign_snapshot(file: Path, *, key: Path | None = None, key_env: str = "", out: Path | None = None) -> int:
    """Sign a control-plane snapshot, in place of any signature that it has.

    Args:
        file: the snapshot.
        key: file with the Ed25519 private key, which only this user may read: its 32 bytes in base64, or PEM.
        key_env: environment variable with the key, instead of a file.
        out: where the signed snapshot goes, also FILE itself; standard output by default.
    """
    from rspp.controlplane.artifact import SnapshotError
    from rspp.controlplane.signing import private_key, shown_key, sign_artifact

    signing = private_key(key, key_env)
    data = _read(file)
    try:
        written, artifact = sign_artifact(data, signing)
    except SnapshotError as error:
        raise SnapshotError(error.code, f"{file}: {error.message}", hint=error.hint) from error
    if out is None:
        sys.stdout.write(written.decode())
    else:
        _replace(out, written)
    told = f"signed {_described(artifact)} with the key of {shown_key(signing.public_key())}"
    print(told, file=sys.stderr)
    return 0


def verify_snapshot(file: Path, *, public_key: str = "", json: bool = False) -> int:
    """Check a control-plane snapshot and its signature.

    Args:
        file: the snapshot.
        public_key: Ed25519 key that must have signed, 32 bytes in base64; RSPP_CP_DISTRIBUTION_PUBLIC_KEY by
            default.
        json: print one JSON object instead of lines.

    Returns:
        0 when it is a snapshot signed by that key, 1 when it is not, 2 when it cannot be read.
    """
    import os

    from rspp.contracts.errors import ConfigurationError
    from rspp.controlplane.artifact import SnapshotError, decode_artifact
    from rspp.controlplane.signature import PUBLIC_KEY_VARIABLE, check_signature
    from rspp.controlplane.signature import public_key as parsed_key

    given = public_key.strip() or os.environ.get(PUBLIC_KEY_VARIABLE, "").strip()
    if not given:
        raise ConfigurationError(
            f"--public-key: there is none, and {PUBLIC_KEY_VARIABLE} is not set",
            hint="give the key that rspp-cli generate-snapshot-key or sign-snapshot showed",
        )
    key = parsed_key(given)
    data = _read(file)
    try:
        artifact = decode_artifact(data)
        check_signature(data, key)
    except SnapshotError as error:
        if error.code != "artifact_invalid":
            raise SnapshotError(error.code, f"{file}: {error.message}", hint=error.hint) from error
        if json:
            print_json({"file": str(file), "valid": False, "code": error.code, "problem": error.message})
        else:
            show_error(f"{file}: {error.message}", error.hint)
        return 1
    if json:
        told = {
            "file": str(file),
            "valid": True,
            "snapshot_version": artifact.snapshot_version,
            "issued_at_utc": artifact.issued_at_utc.isoformat(),
            "expires_at_utc": artifact.expires_at_utc.isoformat(),
        }
        print_json(told)
    else:
        style = style_of(sys.stdout)
        print(f"{style.good('signed by that key')}: {_described(artifact)}")
    return 0


def generate_snapshot_key(file: Path, *, json: bool = False) -> int:
    """Make a key that signs control-plane snapshots, and print the public key that runtimes check with.

    Args:
        file: where the private key goes: a new file, which only this user may read.
        json: print one JSON object instead of a line for the environment.
    """
    from rspp.controlplane.signature import PUBLIC_KEY_VARIABLE
    from rspp.controlplane.signing import make_key, shown_key

    public = shown_key(make_key(file))
    if json:
        print_json({"file": str(file), "public_key": public})
    else:
        print(f"{PUBLIC_KEY_VARIABLE}={public}")
    return 0


def _read(file: Path) -> bytes:
    from rspp.controlplane.artifact import SnapshotError
    from rspp.controlplane.sources import FileSource

    try:
        return FileSource(file).read()
    except SnapshotError as error:
        raise SnapshotError(error.code, error.message, hint="name the file of the snapshot") from error


def _described(artifact: Artifact) -> str:
    return f"snapshot {artifact.snapshot_version}, which expires at {artifact.expires_at_utc.isoformat()}"


def _replace(path: Path, content: bytes) -> None:
    """Write a file of which a runtime that reads it meanwhile sees the old or the new one."""
    import secrets

    from rspp.contracts.errors import ConfigurationError

    try:
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--out {path}: cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="name a file in a folder that exists and that this user may write to",
        ) from error
