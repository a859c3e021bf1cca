"""Payloads on disk: what may identify people, encrypted, apart from the records of a call.

An artifact is one file with the payloads of one turn and one class, encrypted under a data key of its own
that lies wrapped beside it; ``rspp.evidence.artifact_file`` is its format. Each writer begins files of its
own, so a runtime that takes a call over never touches what its predecessor left.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rspp.contracts.errors import EvidenceError
from rspp.evidence.artifact_file import (
    MAX_ENTRY_BYTES,
    MAX_FILE_BYTES,
    SUFFIX,
    Artifact,
    OpenFile,
    PayloadDamage,
    PayloadEntry,
    artifact_at,
    binding_of,
    entries_of,
    stem_of,
)
from rspp.evidence.keys import KEY_BYTES, tenant_keys, write_whole
from rspp.evidence.redaction import TEXT_CLASSES, SecretScrubber, apply_action, known_class
from rspp.evidence.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.keys import TenantKeys
    from rspp.evidence.redaction import Action

MAX_SESSION_BYTES = 2 << 30
"""Most that one writer keeps of a session."""
MAX_OPEN = 64
"""Most files that are open at once; the one that was used longest ago is closed for another."""


class PayloadReading(NamedTuple):
    """The payloads that could be read, in the order of turns and files, and the damage that was met."""

    entries: list[PayloadEntry]
    damage: list[PayloadDamage]


class PayloadStore:
    """Writes and reads the payloads of one tenant.

    Not safe for several threads at once: the writer's thread owns one, every reader makes its own. Nothing
    here may run on the hot path.

    Args:
        root: the evidence folder.
        tenant: name of the tenant, checked by the caller.
        environment: ``os.environ`` when absent; for the key and the secrets that are never kept.
        secret_names: further variables whose values are never kept, such as ``api_key_env`` of the pipeline.
        wall_ms: wall clock, milliseconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        tenant: str,
        *,
        environment: Mapping[str, str] | None = None,
        secret_names: Iterable[str] = (),
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.tenant = tenant
        self.folder = root / tenant
        self._environment = environment
        self._wall_ms = wall_ms
        self._scrubber = SecretScrubber(environment, secret_names)
        self._keys: TenantKeys | None = None
        self._open: OrderedDict[tuple[str, int, PayloadClass], OpenFile] = OrderedDict()
        self._kept: dict[str, int] = {}

    def append(
        self,
        session: str,
        turn: int,
        payload_class: PayloadClass,
        at_us: int,
        data: bytes,
        details: Mapping[str, object] | None = None,
        *,
        action: Action = "drop",
    ) -> bool:
        """Redact a payload and keep what is left; on disk after the next ``flush``.

        Args:
            session: session it belongs to.
            turn: turn it belongs to; 0 for none.
            payload_class: its class.
            at_us: when it happened, on the clock of the session's records.
            data: text in UTF-8 or sound, at most 1 MiB.
            details: small facts about it, such as the sample rate; encrypted with it.
            action: what the level of the recording does with that class (``RecordingLevel.action``);
                without it nothing is kept.

        Returns:
            Whether anything was kept.

        Raises:
            EvidenceError: it is too long, the session has had its share, or the disk refuses.
            ConfigurationError: the tenant's key is not usable.
        """
        known_class(payload_class)
        if action == "drop":
            return False
        if len(data) > MAX_ENTRY_BYTES:
            raise EvidenceError(
                f"payload of {len(data)} bytes is longer than {MAX_ENTRY_BYTES}",
                hint="hand it over in pieces",
            )
        if self._kept.get(session, 0) + len(data) > MAX_SESSION_BYTES:
            raise EvidenceError(
                f"session {session}: its payloads reached {MAX_SESSION_BYTES} bytes",
                hint="record long calls at a lower level",
            )
        try:
            file = self._file_of(session, turn, payload_class)
            described = dict(details or {})
            if payload_class in TEXT_CLASSES:
                data = self._scrubber.scrubbed(data)
            name = file.path.name.removesuffix(SUFFIX)
            left = apply_action(
                action,
                payload_class,
                data,
                hash_key=self._known_keys(create=True).hash_key,
                tokenize=lambda value: make_token(file.data_key, session, name, value),
            )
            description = msgspec.json.encode(
                {"at_us": at_us, "action": action, "length": left.length, "details": described}
            )
            file.append(self._scrubber.scrubbed(description), left.data)
        except OSError as error:
            raise self._refused(session, error) from error
        self._kept[session] = self._kept.get(session, 0) + len(left.data) + len(description)
        return True

    def flush(self, *, sync: bool = False) -> None:
        """Write what waits; with ``sync`` wait until it is on the medium.

        Raises:
            EvidenceError: the disk refuses; what waits goes on waiting.
        """
        for (session, _, _), file in self._open.items():
            try:
                file.sync() if sync else file.flush()
            except OSError as error:
                raise self._refused(session, error) from error

    def end(self, session: str) -> None:
        """Write and close the files of a session that is over.

        Raises:
            EvidenceError: the disk refuses.
        """
        self._kept.pop(session, None)
        self._close([key for key in self._open if key[0] == session])

    def close(self) -> None:
        """Write and close everything.

        Raises:
            EvidenceError: the disk refuses.
        """
        self._close(list(self._open))

    def artifacts(
        self, session: str, *, turn: int | None = None, classes: Collection[PayloadClass] | None = None
    ) -> list[Artifact]:
        """Return the artifacts of a session in the order of turns, or those of one turn or some classes.

        Raises:
            EvidenceError: the folder cannot be read.
        """
        folder = self.folder / session / "payloads"
        try:
            paths = list(folder.iterdir()) if folder.is_dir() else []
            found = [one for path in paths if (one := artifact_at(session, path)) is not None]
        except OSError as error:
            raise EvidenceError(
                f"{folder}: cannot be read: {error.strerror}", hint="check the folder's permissions"
            ) from error
        wanted = [
            one
            for one in found
            if (turn is None or one.turn == turn) and (classes is None or one.payload_class in classes)
        ]
        return sorted(wanted, key=lambda one: (one.turn, one.payload_class, one.part))

    def read(
        self, session: str, *, turn: int | None = None, classes: Collection[PayloadClass] | None = None
    ) -> PayloadReading:
        """Return the payloads of a session as they were kept, all at once.

        Raises:
            EvidenceError: the folder or the tenant's key cannot be read.
            ConfigurationError: the tenant's key is not usable.
        """
        damage: list[PayloadDamage] = []
        entries = list(self.stream(session, damage, turn=turn, classes=classes))
        return PayloadReading(entries, damage)

    def stream(
        self,
        session: str,
        damage: list[PayloadDamage],
        *,
        turn: int | None = None,
        classes: Collection[PayloadClass] | None = None,
    ) -> Iterator[PayloadEntry]:
        """Yield the payloads of a session in the order of turns and classes; damage is added to ``damage``.

        Raises:
            EvidenceError: the folder or the tenant's key cannot be read.
            ConfigurationError: the tenant's key is not usable.
        """
        for artifact in self.artifacts(session, turn=turn, classes=classes):
            if artifact.state == "active":
                binding = binding_of(self.tenant, session, artifact.path)
                yield from entries_of(artifact, self.data_key(artifact), binding, damage)
            else:
                damage.append(PayloadDamage("key_missing", artifact.path, 0, 0))

    def data_key(self, artifact: Artifact) -> bytes:
        """Return the data key of an artifact.

        Raises:
            EvidenceError: it was destroyed, or cannot be unwrapped.
            ConfigurationError: the tenant's key is not usable.
        """
        name = artifact.path.name.removesuffix(SUFFIX)
        try:
            wrapped = artifact.key_path.read_bytes()
        except FileNotFoundError:
            raise EvidenceError(
                f"payload {artifact.session}/{name} was deleted: its key is destroyed",
                hint="it cannot be read any more, by anybody",
            ) from None
        except OSError as error:
            raise EvidenceError(
                f"key of {artifact.session}/{name} cannot be read: {error.strerror}", hint="check permissions"
            ) from error
        return self._known_keys(create=False).unwrap(wrapped, f"{artifact.session}/{name}")

    def _file_of(self, session: str, turn: int, payload_class: PayloadClass) -> OpenFile:
        key = (session, turn, payload_class)
        file = self._open.get(key)
        if file is not None and file.size >= MAX_FILE_BYTES:
            self._close([key])
            file = None
        if file is None:
            while len(self._open) >= MAX_OPEN:
                self._close([next(iter(self._open))])
            file = self._open[key] = self._begin(session, turn, payload_class)
        self._open.move_to_end(key)
        return file

    def _begin(self, session: str, turn: int, payload_class: PayloadClass) -> OpenFile:
        home = self.folder / session
        for name in ("payloads", "keys"):
            (home / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = self._known_keys(create=True)
        part = 1
        while True:
            stem = stem_of(turn, payload_class, part)
            path, key_path = home / "payloads" / f"{stem}{SUFFIX}", home / "keys" / f"{stem}.key"
            if path.exists() or key_path.exists():
                part += 1
                continue
            data_key = secrets.token_bytes(KEY_BYTES)
            try:
                # The key first: a payload without a key could never be read.
                write_whole(key_path, keys.wrap(data_key, f"{session}/{stem}"))
                binding = binding_of(self.tenant, session, path)
                return OpenFile(path, data_key=data_key, binding=binding, wall_ms=self._wall_ms())
            except FileExistsError:
                part += 1  # another runtime was first

    def _close(self, keys: list[tuple[str, int, PayloadClass]]) -> None:
        for key in keys:
            try:
                self._open.pop(key).close()
            except OSError as error:
                raise self._refused(key[0], error) from error

    def _known_keys(self, *, create: bool) -> TenantKeys:
        if self._keys is None:
            self._keys = tenant_keys(self.folder, self.tenant, create=create, environment=self._environment)
        return self._keys

    def _refused(self, session: str, error: OSError) -> EvidenceError:
        return EvidenceError(
            f"session {session}: payloads cannot be written: {error.strerror}",
            hint="check space and permissions of the evidence folder",
        )
