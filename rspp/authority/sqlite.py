"""The embedded lease store: one SQLite file, shared by the runtimes of one host.

Deadlines in the file are boot-time microseconds beside the id of that boot, so that setting the wall
clock can neither prolong a lease nor end it; a lease of an earlier boot is over. All runtimes that share
a file must therefore run on one host and in one time namespace.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from rspp.authority.clock import read_boot_id
from rspp.authority.store import (
    MARGIN_MS,
    Lease,
    LeaseExpiredError,
    LeaseHeld,
    LeaseLostError,
    LeaseStoreError,
    Orphan,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rspp.contracts.ports import Clock

T = TypeVar("T")

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 500
"""Longest wait for another writer: shorter than a renewal interval, so that the next attempt still comes."""
OPENING_TIMEOUT_MS = 5000
"""Longest wait while the file is made: runtimes that start together make it one after the other."""
_OPENING_RETRY_S = 0.02
"""Between two tries: making the file takes a few milliseconds, so the next one mostly finds it made."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lease (
    session_id TEXT PRIMARY KEY,
    epoch      INTEGER NOT NULL CHECK (epoch >= 1),
    token      TEXT NOT NULL,
    holder     TEXT NOT NULL,
    boot_id    TEXT NOT NULL,
    expires_us INTEGER NOT NULL,
    released   INTEGER NOT NULL CHECK (released IN (0, 1)),
    metadata   TEXT NOT NULL
) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS unreleased ON lease (released) WHERE released = 0"
"""Rows stay for ever, orphans are looked for twice a second: the search must not read all of them."""
_ROTATIONS = """
CREATE TABLE IF NOT EXISTS rotation (
    session_id TEXT PRIMARY KEY,
    epoch      INTEGER NOT NULL
) WITHOUT ROWID
"""
"""Epochs that are to be replaced. A table of its own, so that files of earlier versions stay good."""


class SqliteLeaseStore:
    """A lease store in one SQLite file.

    Rows are never deleted: an epoch must rise even over a session that was given back long ago.

    Args:
        path: the file, made with its folder when missing; ``:memory:`` lasts as long as the store.
        clock: boot-time clock, the same one that the kernel is told.
        boot_id: names this boot of the host; read from the system when absent.

    Raises:
        LeaseStoreError: the file cannot be made, opened or written, or is no lease store.
    """

    def __init__(self, path: Path | str, clock: Clock, *, boot_id: str | None = None) -> None:
        self._path = str(path)
        self._clock = clock
        self._boot_id = read_boot_id() if boot_id is None else boot_id
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            if self._path != ":memory:":
                _make_private(Path(self._path))
            self._connection = sqlite3.connect(
                self._path, timeout=OPENING_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._connection)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._unusable(error) from error
        except LeaseStoreError:
            self.close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._switch_to_log(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._check_version(connection)
            connection.execute(_SCHEMA)
            connection.execute(_INDEX)
            connection.execute(_ROTATIONS)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")

    @staticmethod
    def _switch_to_log(connection: sqlite3.Connection) -> None:
        deadline_s = time.monotonic() + OPENING_TIMEOUT_MS / 1000
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # Two that switch at once block each other, and SQLite then tells one of them without waiting.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline_s:
                    raise
                time.sleep(_OPENING_RETRY_S)
            else:
                return

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise LeaseStoreError(
                f"lease store {self._path}: made by another version of RSPP (schema {version}, "
                f"this one knows {SCHEMA_VERSION})",
                hint="run one version on a host, or name another file",
            )

    def acquire(
        self, session_id: str, holder: str, ttl_ms: int, metadata: Mapping[str, str]
    ) -> Lease | LeaseHeld:
        """Take the lease of a session, unless somebody holds it.

        Args:
            session_id: the logical conversation.
            holder: who asks; unique per process and session.
            ttl_ms: time to live without renewal, more than the margin of 250 ms.
            metadata: what a successor needs to take over.

        Raises:
            ValueError: the time to live is no longer than the margin.
            LeaseStoreError: the store cannot be used.
        """
        if ttl_ms <= MARGIN_MS:
            raise ValueError(f"ttl_ms must be above the margin of {MARGIN_MS} ms (is {ttl_ms})")
        asked_us = self._clock.now_us()

        def take(connection: sqlite3.Connection) -> Lease | LeaseHeld:
            row = connection.execute(
                "SELECT epoch, released FROM lease WHERE session_id = ?", (session_id,)
            ).fetchone()
            now_us = self._clock.now_us()
            held = self._held(connection, session_id, now_us)
            if held is not None:
                return held
            epoch, resumed = (1, False) if row is None else (row[0] + 1, not row[1])
            token = secrets.token_hex(16)
            connection.execute(
                "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
                (
                    session_id,
                    epoch,
                    token,
                    holder,
                    self._boot_id,
                    now_us + ttl_ms * 1000,
                    msgspec.json.encode(dict(metadata)).decode(),
                ),
            )
            return Lease(
                session_id=session_id,
                epoch=epoch,
                token=token,
                holder=holder,
                ttl_ms=ttl_ms,
                deadline_us=asked_us + (ttl_ms - MARGIN_MS) * 1000,
                metadata=dict(metadata),
                resumed=resumed,
            )

        return self._transact(take)

    def renew(self, lease: Lease) -> Lease:
        """Prolong a lease by its time to live, from now on; one that is to rotate gets a higher epoch.

        Epoch and token change within the renewal: until then the old ones hold, from then on the new ones.

        Raises:
            LeaseExpiredError: it ran out before, even if nobody took it: its holder was silent meanwhile.
            LeaseLostError: it was released or is another's.
            LeaseStoreError: the store cannot be used.
        """
        asked_us = self._clock.now_us()

        def prolong(connection: sqlite3.Connection) -> Lease:
            expires_us, released, ours = self._owned(connection, lease)
            now_us = self._clock.now_us()
            if released:
                raise LeaseLostError(
                    f"session {lease.session_id}: the lease of epoch {lease.epoch} was given back",
                    hint="acquire it again",
                )
            if not ours or now_us >= expires_us:
                raise LeaseExpiredError(
                    f"session {lease.session_id}: the lease of epoch {lease.epoch} has run out",
                    hint="leave the room; the session goes on under a higher epoch",
                )
            epoch, token = lease.epoch, lease.token
            due = connection.execute(
                "DELETE FROM rotation WHERE session_id = ? AND epoch = ?", (lease.session_id, epoch)
            )
            if due.rowcount:
                epoch, token = epoch + 1, secrets.token_hex(16)
            connection.execute(
                "UPDATE lease SET epoch = ?, token = ?, expires_us = ? WHERE session_id = ?",
                (epoch, token, now_us + lease.ttl_ms * 1000, lease.session_id),
            )
            deadline_us = asked_us + (lease.ttl_ms - MARGIN_MS) * 1000
            return msgspec.structs.replace(lease, epoch=epoch, token=token, deadline_us=deadline_us)

        return self._transact(prolong)

    def rotate(self, session_id: str, epoch: int | None = None) -> LeaseHeld | None:
        """Ask that a session goes on under a higher epoch from its holder's next renewal on.

        Args:
            session_id: the logical conversation.
            epoch: rotate only if this one is in force; none rotates whichever is.

        Returns:
            What is in force now; none when nobody holds the session.

        Raises:
            LeaseStoreError: the store cannot be used.
        """

        def ask(connection: sqlite3.Connection) -> LeaseHeld | None:
            held = self._held(connection, session_id, self._clock.now_us())
            if held is not None and epoch in (None, held.epoch):
                connection.execute(
                    "INSERT INTO rotation VALUES (?, ?) ON CONFLICT DO UPDATE SET epoch = excluded.epoch "
                    "WHERE epoch <> excluded.epoch",
                    (session_id, held.epoch),
                )
            return held

        return self._transact(ask)

    def release(self, lease: Lease) -> None:
        """Give a lease back, also one that ran out unless another took it; twice is once.

        Raises:
            LeaseLostError: it is another's by now.
            LeaseStoreError: the store cannot be used.
        """

        def give_back(connection: sqlite3.Connection) -> None:
            self._owned(connection, lease)
            connection.execute("UPDATE lease SET released = 1 WHERE session_id = ?", (lease.session_id,))

        self._transact(give_back)

    def orphans(self, limit: int = 100) -> list[Orphan]:
        """Return sessions whose lease ran out unreleased, the latest first, those of an earlier boot last.

        Calls that can still be saved thus come before those that nobody has waited for in a long time.

        Raises:
            LeaseStoreError: the store cannot be used.
        """

        def find(connection: sqlite3.Connection) -> list[Orphan]:
            now_us = self._clock.now_us()
            rows = connection.execute(
                "SELECT session_id, epoch, holder, boot_id, expires_us, metadata FROM lease "
                "WHERE released = 0 AND (boot_id <> ?1 OR expires_us <= ?2) "
                "ORDER BY boot_id <> ?1, expires_us DESC, session_id LIMIT ?3",
                (self._boot_id, now_us, limit),
            ).fetchall()
            return [
                Orphan(
                    session_id=session_id,
                    epoch=epoch,
                    holder=holder,
                    metadata=msgspec.json.decode(metadata, type=dict[str, str]),
                    expired_ms=(now_us - expires_us) // 1000 if boot_id == self._boot_id else None,
                )
                for session_id, epoch, holder, boot_id, expires_us, metadata in rows
            ]

        return self._transact(find, write=False)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _held(self, connection: sqlite3.Connection, session_id: str, now_us: int) -> LeaseHeld | None:
        """Return who holds a session now."""
        row = connection.execute(
            "SELECT epoch, holder, expires_us FROM lease "
            "WHERE session_id = ? AND released = 0 AND boot_id = ? AND expires_us > ?",
            (session_id, self._boot_id, now_us),
        ).fetchone()
        if row is None:
            return None
        remaining_ms = -((now_us - row[2]) // 1000)
        return LeaseHeld(session_id=session_id, epoch=row[0], holder=row[1], remaining_ms=remaining_ms)

    def _owned(self, connection: sqlite3.Connection, lease: Lease) -> tuple[int, bool, bool]:
        """Return expiry, whether released and whether of this boot; refuse a lease that is another's."""
        row = connection.execute(
            "SELECT epoch, token, holder, boot_id, expires_us, released FROM lease WHERE session_id = ?",
            (lease.session_id,),
        ).fetchone()
        if row is None or row[0] != lease.epoch or not secrets.compare_digest(row[1], lease.token):
            taker = "nobody" if row is None else f"{row[2]} (epoch {row[0]})"
            error = LeaseLostError(
                f"session {lease.session_id}: the lease of epoch {lease.epoch} now belongs to {taker}",
                hint="leave the room; another runtime speaks for this session",
            )
            error.epoch = 0 if row is None or row[0] <= lease.epoch else row[0]
            raise error
        return int(row[4]), bool(row[5]), row[3] == self._boot_id

    def _transact(self, work: Callable[[sqlite3.Connection], T], *, write: bool = True) -> T:
        with self._lock:
            connection = self._connection
            if connection is None:
                raise LeaseStoreError(f"lease store {self._path}: is closed", hint="open it again")
            try:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    result = work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, msgspec.DecodeError) as error:
                raise self._unusable(error) from error
            return result

    def _unusable(self, error: Exception) -> LeaseStoreError:
        text = str(getattr(error, "strerror", None) or error)
        if "locked" in text:
            hint = "another process keeps the file locked; end it, or name another file"
        elif "readonly" in text or isinstance(error, PermissionError):
            hint = "the file and its folder must be writable for this user"
        elif "not a database" in text or "malformed" in text or isinstance(error, msgspec.DecodeError):
            hint = "the file is damaged or no lease store; end all runtimes, move it away and start again"
        elif "full" in text:
            hint = "make room on the disk"
        else:
            hint = "check that the folder exists, is writable and lies on a local disk"
        return LeaseStoreError(f"lease store {self._path}: {text}", hint=hint)


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, readable for its owner only: it holds the tokens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
