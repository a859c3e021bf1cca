"""Remembers across restarts which snapshot was used last: section 13.5 lets no turn open from an older one.

One small SQLite file beside the leases, for all runtimes of a host: the database makes a change whole, and
keeps the highest of what several runtimes write at once.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TypeVar

    from rspp.controlplane.artifact import Artifact
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.controlplane.sources import Source

    T = TypeVar("T")

USED_FILE = "snapshots.sqlite3"
"""Its name in the state folder."""
BUSY_SECONDS = 2.0
"""Longest wait for another runtime that writes."""

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS used (
    tenant    TEXT NOT NULL,
    source    TEXT NOT NULL,
    version   INTEGER NOT NULL,
    issued_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, source)
) WITHOUT ROWID
"""
_NOTE = """
INSERT INTO used (tenant, source, version, issued_us) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant, source) DO UPDATE SET version = excluded.version, issued_us = excluded.issued_us
WHERE (excluded.version, excluded.issued_us) > (used.version, used.issued_us)
"""
_LATEST = "SELECT version, issued_us FROM used WHERE tenant = ? AND source = ?"


class Earlier(msgspec.Struct, frozen=True):
    """A snapshot that was used before this process began.

    Attributes:
        snapshot_version: its number.
        issued_at_utc: when it was made.
        remembered_in: the file that says so.
    """

    snapshot_version: int
    issued_at_utc: datetime.datetime
    remembered_in: str

    @property
    def order(self) -> tuple[int, datetime.datetime]:
        """What must not go back, as ``Artifact.order``."""
        return self.snapshot_version, self.issued_at_utc


class UsedSnapshots:
    """The latest snapshot that the runtimes of a host used, per tenant and source; blocks.

    The endpoints of one runtime speak for one control plane, so what one of them gave counts for each: it is
    remembered when an endpoint is left out or another is put first.

    Args:
        file: where it is remembered; made when missing.
        sources: the endpoints.
        tenant: whose turns open from them.
    """

    def __init__(self, file: Path, sources: Sequence[Source], tenant: str) -> None:
        self._file = file
        self._tenant = tenant
        # An address may hold what is nobody else's business.
        self._sources = [hashlib.sha256(source.identity.encode()).hexdigest() for source in sources]
        self._noted: tuple[int, datetime.datetime] | None = None

    def latest(self) -> Earlier | None:
        """Return the latest that was used; none when none was.

        Raises:
            ConfigurationError: the file cannot be read, so that nobody can tell.
        """

        def ask(connection: sqlite3.Connection) -> list[tuple[int, int]]:
            rows = [connection.execute(_LATEST, (self._tenant, source)) for source in self._sources]
            return [row for found in rows for row in found]

        rows = self._within(ask)
        if not rows:
            return None
        try:
            version, issued_us = max(rows)
            return Earlier(version, _EPOCH + issued_us * _MICROSECOND, str(self._file))
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unusable("it holds what is no snapshot") from error

    def note(self, artifact: Artifact) -> None:
        """Remember that turns may open from ``artifact``, unless it is for another tenant.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        if artifact.tenant_id not in ("", self._tenant):
            return
        if self._noted is not None and artifact.order <= self._noted:
            return
        issued_us = (artifact.issued_at_utc - _EPOCH) // _MICROSECOND
        rows = [(self._tenant, source, artifact.snapshot_version, issued_us) for source in self._sources]
        self._within(lambda connection: connection.executemany(_NOTE, rows))
        self._noted = artifact.order

    def _within(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in one transaction."""
        try:
            if not self._file.exists():
                os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self._file, timeout=BUSY_SECONDS)) as connection, connection:
                connection.execute(_SCHEMA)
                return work(connection)
        except (sqlite3.Error, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise self._unusable(said or type(error).__name__) from error

    def _unusable(self, problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"--state: {self._file}: cannot be used: {problem}",
            hint="make it a file that this user may write, or remove it: it holds only which snapshot of the "
            "control plane was used last",
        )


def used_snapshots(folder: Path, settings: ControlPlaneSettings | None, tenant: str) -> UsedSnapshots | None:
    """Return the memory of a runtime; none without a control plane.

    Args:
        folder: its state folder.
        settings: where its snapshots come from.
        tenant: whose turns it opens.
    """
    return None if settings is None else UsedSnapshots(folder / USED_FILE, settings.sources, tenant)
