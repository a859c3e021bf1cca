"""The keys of a tenant's payloads: one key wraps the data keys of all artifacts, one makes hashes.

A payload can be read only with its own data key, which is on disk only wrapped. Destroying the wrapped key
therefore destroys the payload, copies in backups included as long as no backup holds the wrapped key too.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rspp.contracts.errors import ConfigurationError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VARIABLE = "RSPP_EVIDENCE_KEY"
"""Environment variable with the key of the installation as 64 hex digits; the tenants' keys come of it."""
FILE = ".key"
KEY_BYTES = 32
_MAGIC = b"RSPPKEY1"
_ID_BYTES = 8
_NONCE_BYTES = 12
_WRAPPED_BYTES = len(_MAGIC) + _ID_BYTES + _NONCE_BYTES + KEY_BYTES + 16
_HEX = re.compile(r"[0-9a-fA-F]{64}")


class TenantKeys:
    """What wraps and hashes for one tenant.

    Args:
        master: 32 secret bytes.
        tenant: name of the tenant; two tenants never share a key, even under one master.
    """

    def __init__(self, master: bytes, tenant: str) -> None:
        self.tenant = tenant
        self.hash_key = _derived(master, tenant, "hash")
        """Key of the hashes that stand for payloads."""
        wrapping = _derived(master, tenant, "wrap")
        self._wrapping = AESGCM(wrapping)
        self._id = hmac.new(wrapping, b"id", hashlib.sha256).digest()[:_ID_BYTES]

    def wrap(self, data_key: bytes, name: str) -> bytes:
        """Return ``data_key`` encrypted, bound to the artifact ``name``."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        head = _MAGIC + self._id
        return head + nonce + self._wrapping.encrypt(nonce, data_key, head + name.encode())

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """Return the data key of the artifact ``name``.

        Raises:
            EvidenceError: ``wrapped`` is damaged, of another artifact, or made under another key.
        """
        head, start = wrapped[: len(_MAGIC) + _ID_BYTES], len(_MAGIC) + _ID_BYTES
        if len(wrapped) != _WRAPPED_BYTES or not head.startswith(_MAGIC):
            raise EvidenceError(f"key of {name}: damaged", hint="restore the file under keys/ from a backup")
        if head != _MAGIC + self._id:
            raise EvidenceError(
                f"key of {name}: made under another key of tenant {self.tenant}",
                hint=f"set {VARIABLE}, or the file {FILE}, to what it was when the call was recorded",
            )
        nonce, sealed = wrapped[start : start + _NONCE_BYTES], wrapped[start + _NONCE_BYTES :]
        try:
            return self._wrapping.decrypt(nonce, sealed, head + name.encode())
        except InvalidTag:
            raise EvidenceError(
                f"key of {name}: damaged or of another artifact",
                hint="restore the file under keys/ from a backup",
            ) from None


def tenant_keys(
    folder: Path, tenant: str, *, create: bool, environment: Mapping[str, str] | None = None
) -> TenantKeys:
    """Return the keys of a tenant: from ``RSPP_EVIDENCE_KEY``, else from the file ``.key`` in its folder.

    Args:
        folder: the tenant's folder.
        tenant: its name.
        create: make the file when there is neither.
        environment: ``os.environ`` when absent.

    Raises:
        ConfigurationError: the variable or the file is not usable, or others may read the file.
        EvidenceError: there is no key and none is to be made.
    """
    given = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if given:
        if not _HEX.fullmatch(given):
            raise ConfigurationError(
                f"{VARIABLE} is not 64 hex digits (value not shown)", hint="make one: openssl rand -hex 32"
            )
        return TenantKeys(bytes.fromhex(given), tenant)
    path = folder / FILE
    try:
        if create and not path.exists():
            _make(folder, path)
        return TenantKeys(_read(path), tenant)
    except FileNotFoundError:
        raise EvidenceError(
            f"tenant {tenant}: there is no key in {path}",
            hint=f"without it payloads cannot be read; restore it, or set {VARIABLE}",
        ) from None
    except OSError as error:
        raise EvidenceError(
            f"tenant {tenant}: the key {path} cannot be used: {error.strerror}",
            hint="check the folder and its permissions",
        ) from error


def destroy(path: Path) -> bool:
    """Destroy a wrapped key: overwritten, then removed; returns whether there was one.

    Raises:
        EvidenceError: it cannot be destroyed.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _undestroyed(path, error) from error
    try:
        os.pwrite(file, bytes(os.fstat(file).st_size), 0)
        os.fsync(file)
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise _undestroyed(path, error) from error
    finally:
        os.close(file)
    return True


def sync_folder(folder: Path) -> None:
    """Make names that came or went in ``folder`` last through a loss of power."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_whole(path: Path, content: bytes) -> None:
    """Write a new file that only this user may read; others see all of it or none.

    Raises:
        FileExistsError: there is one of that name.
        OSError: it cannot be written.
    """
    passing = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.link(passing, path)
    finally:
        passing.unlink()
    sync_folder(path.parent)


def _derived(master: bytes, tenant: str, purpose: str) -> bytes:
    info = f"rspp evidence\0{tenant}\0{purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master)


def _make(folder: Path, path: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        write_whole(path, secrets.token_bytes(KEY_BYTES))
    except FileExistsError:
        return  # another runtime was first


def _read(path: Path) -> bytes:
    mode = path.stat().st_mode
    if mode & 0o077:
        raise ConfigurationError(
            f"{path} may be read by others (mode {mode & 0o777:o})", hint=f"chmod 600 {path}"
        )
    master = path.read_bytes()
    if len(master) != KEY_BYTES:
        raise ConfigurationError(
            f"{path} holds {len(master)} bytes, not {KEY_BYTES}", hint="restore it from a backup"
        )
    return master


def _undestroyed(path: Path, error: OSError) -> EvidenceError:
    return EvidenceError(
        f"{path}: the key cannot be destroyed: {error.strerror}",
        hint="the payload is still readable; check permissions",
    )
