"""Finds sessions and turns in a folder of evidence: an SQLite file beside the recordings.

Everything in it comes from the segments and is made again from them where it is missing or behind, so it
may be deleted at any time. It also remembers how far each segment had come, by which an end that was cut
off later is found.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from rspp._kernel import scan_segment
from rspp.contracts.errors import EvidenceError
from rspp.evidence.order import INDEX_FILE
from rspp.evidence.reader import LINK_AT, Recording, open_recording
from rspp.evidence.records import turn_of
from rspp.evidence.segment_file import segment_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from typing_extensions import TypeIs

FORMAT = 1
UNREAD = -1
"""Number of turns where nobody counted them yet."""
BROKEN = "index_broken"
"""Reason of the errors of an index whose content is damaged."""
BUSY_MS = 2_000
"""How long another process may hold the file."""

_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
    tenant TEXT, session TEXT, pipeline TEXT, begun_wall_ms INTEGER, last_wall_ms INTEGER,
    stints INTEGER, turns INTEGER, ended INTEGER, damaged INTEGER, bytes INTEGER,
    PRIMARY KEY (tenant, session)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON sessions (tenant, begun_wall_ms);
CREATE TABLE IF NOT EXISTS segments (
    tenant TEXT, session TEXT, file TEXT, stint TEXT, epoch INTEGER, bytes INTEGER, blocks INTEGER, link TEXT,
    PRIMARY KEY (tenant, session, file)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (
    tenant TEXT, session TEXT, epoch INTEGER, turn INTEGER, opened_us INTEGER, closed_us INTEGER,
    outcome TEXT, reason TEXT, plan_hash TEXT,
    PRIMARY KEY (tenant, session, epoch, turn)) WITHOUT ROWID;
"""

log = structlog.get_logger(__name__)


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One session.

    Attributes:
        tenant: whose.
        session: its id.
        pipeline: name and version.
        begun_wall_ms: when it began, ms since the epoch.
        last_wall_ms: time of its last record.
        stints: runtimes that held it.
        turns: turns that opened; -1 until somebody called ``refresh``.
        ended: whether it was ended in order.
        damaged: whether something was wrong when it was read.
        bytes: size of its segments.
    """

    tenant: str
    session: str
    pipeline: str
    begun_wall_ms: int
    last_wall_ms: int
    stints: int
    turns: int
    ended: bool
    damaged: bool
    bytes: int


class TurnRow(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted turn.

    Attributes:
        epoch: epoch of the stint that held it.
        turn: its number there.
        opened_us: when it opened, on the clock of its stint.
        closed_us: when it closed; 0 when it did not.
        outcome: ``commit`` or ``abort``; empty when it did not end.
        reason: why it was aborted.
        plan_hash: hash of its frozen plan.
    """

    epoch: int
    turn: int
    opened_us: int
    closed_us: int = 0
    outcome: str = ""
    reason: str = ""
    plan_hash: str = ""


class EvidenceIndex:
    """The index of one folder of evidence.

    Args:
        root: the folder; the file in it is made when missing.

    Raises:
        EvidenceError: the file cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        path = root / INDEX_FILE
        try:
            self._store = sqlite3.connect(path, timeout=BUSY_MS / 1000, check_same_thread=False)
            path.chmod(0o600)
            self._store.execute("PRAGMA journal_mode=WAL")
            # What is forgotten is overwritten: a session's id may be somebody's telephone number.
            self._store.execute("PRAGMA secure_delete=ON")
            self._store.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._store.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise EvidenceError(f"{path}: made by another version", hint="delete it; it is made again")
            self._store.executescript(f"{_TABLES} PRAGMA user_version={FORMAT};")
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def refresh(self) -> int:
        """Take in every session that is new or went on, and forget those that are gone; returns how many."""
        known = self._sizes()
        unread = set(self._rows("SELECT tenant, session FROM sessions WHERE turns=?", (UNREAD,)))
        found: set[tuple[str, str]] = set()
        changed = 0
        for tenant, folder in _folders(self._root):
            found.add((tenant, folder.name))
            sizes = {path.name: path.stat().st_size for path in segment_files(folder)}
            if known.get((tenant, folder.name)) != sizes or (tenant, folder.name) in unread:
                self.update(folder)
                changed += 1
        for tenant, session in known.keys() - found:
            self.forget(tenant, session)
            changed += 1
        return changed

    def update(self, folder: Path, *, content: bool = True) -> None:
        """Take in one session.

        Args:
            folder: ``EVIDENCE/TENANT/SESSION``.
            content: read its records for its turns; without it they are read by the next ``refresh``, which
                spares a runtime with calls the work.

        Raises:
            EvidenceError: it cannot be read, or the index not be written.
        """
        tenant, session = folder.parent.name, folder.name
        # What was there and is not any more stays known, or taking in what is left would hide the cut.
        gone = {file for file, _ in self.shortened(folder)}
        recording = open_recording(folder, content=content)
        turns, last_wall_ms = _read(recording) if content else ([], 0)
        headers = [stint.header for stint in recording.stints]
        segments = [segment for stint in recording.stints for segment in stint.segments]
        row = (
            tenant,
            session,
            str(headers[0].get("pipeline", "")),
            int(headers[0].get("created_wall_ms", 0)),
            last_wall_ms,
            len(headers),
            len(turns) if content else UNREAD,
            all(stint.ended for stint in recording.stints),
            bool(recording.damage or gone),
            sum(segment.size for segment in segments),
        )
        try:
            with self._store:
                self._delete(tenant, session, keep=gone)
                self._store.execute(f"INSERT INTO sessions VALUES ({_marks(row)})", row)
                for one in segments:
                    if one.path.name in gone:
                        continue
                    header = one.header
                    values: tuple[Any, ...] = (
                        tenant,
                        session,
                        one.path.name,
                        header.get("stint", ""),
                        header.get("epoch", 0),
                    )
                    values += (one.size, len(one.blocks), one.link)
                    self._store.execute(f"INSERT INTO segments VALUES ({_marks(values)})", values)
                for turn in turns:
                    values = (tenant, session, *msgspec.structs.astuple(turn))
                    self._store.execute(f"INSERT INTO turns VALUES ({_marks(values)})", values)
        except sqlite3.Error as error:
            raise _unusable(self._root / INDEX_FILE, error) from error

    def forget(self, tenant: str, session: str) -> None:
        """Take a session out, whose recording was deleted; nothing of it stays in the file.

        Raises:
            EvidenceError: the index cannot be written.
        """
        try:
            with self._store:
                self._delete(tenant, session)
            # Its rows lie in the log of writes too, until that is emptied.
            self._store.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise _unusable(self._root / INDEX_FILE, error) from error

    def forget_missing(self) -> None:
        """Take out every session whose recording is gone."""
        present = {(tenant, folder.name) for tenant, folder in _folders(self._root) if segment_files(folder)}
        for tenant, session in self._sizes().keys() - present:
            self.forget(tenant, session)

    def sessions(self, tenant: str, *, since_ms: int = 0, until_ms: int = 1 << 62) -> list[SessionRow]:
        """Return the sessions of a tenant that began in a time, newest first."""
        query = (
            "SELECT * FROM sessions WHERE tenant=? AND begun_wall_ms BETWEEN ? AND ? ORDER BY begun_wall_ms"
        )
        rows = self._rows(query, (tenant, since_ms, until_ms))
        return [self._session(row) for row in reversed(rows)]

    def turns(self, tenant: str, session: str) -> list[TurnRow]:
        """Return the turns of a session in order."""
        query = "SELECT * FROM turns WHERE tenant=? AND session=? ORDER BY epoch, turn"
        names = TurnRow.__struct_fields__
        return [
            TurnRow(**dict(zip(names, row[2:], strict=True))) for row in self._rows(query, (tenant, session))
        ]

    def shortened(self, folder: Path) -> list[tuple[str, str]]:
        """Return segments that lost what they had when they were taken in, as ``(file, what is gone)``."""
        query = "SELECT file, blocks, link FROM segments WHERE tenant=? AND session=? ORDER BY file"
        found: list[tuple[str, str]] = []
        for file, blocks, link in self._rows(query, (folder.parent.name, folder.name)):
            path = folder / file
            if not path.is_file():
                found.append((file, "segment_missing"))
            elif blocks and bytes.fromhex(link) not in _links(path):
                found.append((file, "segment_replaced"))
        return found

    def _sizes(self) -> dict[tuple[str, str], dict[str, int]]:
        sizes: dict[tuple[str, str], dict[str, int]] = {}
        for tenant, session, file, size in self._rows("SELECT tenant, session, file, bytes FROM segments"):
            sizes.setdefault((tenant, session), {})[file] = size
        return sizes

    def _delete(self, tenant: str, session: str, keep: Collection[str] = ()) -> None:
        """Take out the rows of a session, but for those of the segments to ``keep``."""
        for table in ("sessions", "turns"):
            self._store.execute(f"DELETE FROM {table} WHERE tenant=? AND session=?", (tenant, session))
        others = f"DELETE FROM segments WHERE tenant=? AND session=? AND file NOT IN ({_marks(tuple(keep))})"
        self._store.execute(others, (tenant, session, *keep))

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._store.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _unusable(self._root / INDEX_FILE, error) from error

    @staticmethod
    def _session(row: tuple[Any, ...]) -> SessionRow:
        fields = dict(zip(SessionRow.__struct_fields__, row, strict=True))
        return SessionRow(**fields | {"ended": bool(fields["ended"]), "damaged": bool(fields["damaged"])})


def refreshed(root: Path) -> closing[EvidenceIndex]:
    """Open the index of ``root``, brought up to date; closes with the block it is used in.

    One that is damaged is made again.

    Raises:
        EvidenceError: it cannot be used, or a recording cannot be read.
    """
    try:
        return closing(_up_to_date(root))
    except EvidenceError as error:
        if error.reason != BROKEN:
            raise
        log.warning("the index is damaged and made again", error=error.message)
    _remove(root)
    return closing(_up_to_date(root))


def _up_to_date(root: Path) -> EvidenceIndex:
    index = EvidenceIndex(root)
    try:
        index.refresh()
    except EvidenceError:
        index.close()
        raise
    return index


def _remove(root: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        (root / f"{INDEX_FILE}{suffix}").unlink(missing_ok=True)


def _unusable(path: Path, error: sqlite3.Error | OSError) -> EvidenceError:
    # A file that is locked, or cannot be opened, is an operational error; the others are of its content.
    broken = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    return EvidenceError(
        f"{path}: cannot be used: {error}",
        hint="delete it; it is made again" if broken else "try again; delete it if that does not help",
        reason=BROKEN if broken else None,
    )


def _read(recording: Recording) -> tuple[list[TurnRow], int]:
    """Turns of a recording, and the time of day of its last record."""
    turns: dict[tuple[int, int], dict[str, Any]] = {}
    plans: dict[tuple[int, int], str] = {}
    last_wall_ms = 0
    for stint in recording.stints:
        epoch = int(stint.header.get("epoch", 0))
        for record in stint.records():
            last_wall_ms = max(last_wall_ms, int(record.get("wall_ms", 0)))
            number = turn_of(record)
            key = (epoch, number)
            kind, state, event = record["kind"], record.get("to"), record.get("event")
            if kind == "transition" and state == "Active":
                turns[key] = {"epoch": epoch, "turn": number, "opened_us": record["at_us"]}
            elif kind == "transition" and state == "Closed" and key in turns:
                turns[key]["closed_us"] = record["at_us"]
            elif kind == "marker" and "plan_hash" in record:
                plans[key] = str(record["plan_hash"])
            elif kind == "signal" and key in turns and _ends_turn(event):
                turns[key]["outcome"] = event["signal"]
                turns[key]["reason"] = str(event.get("reason", ""))
    return [TurnRow(**turn, plan_hash=plans.get(key, "")) for key, turn in turns.items()], last_wall_ms


def _ends_turn(event: object) -> TypeIs[dict[str, Any]]:
    return isinstance(event, dict) and event.get("signal") in ("commit", "abort")


def _links(path: Path) -> set[bytes]:
    data = path.read_bytes()
    return {data[offset + LINK_AT : start] for offset, _, start, _, _ in scan_segment(data).blocks}


def _folders(root: Path) -> Iterator[tuple[str, Path]]:
    for tenant in sorted(root.iterdir()):
        if tenant.is_dir() and not tenant.is_symlink():
            for folder in sorted(tenant.iterdir()):
                if folder.is_dir() and segment_files(folder):
                    yield tenant.name, folder


def _marks(values: tuple[Any, ...]) -> str:
    return ",".join("?" * len(values))


def forget_deleted(root: Path) -> None:
    """Take sessions out of the index whose recording is gone, if there is an index.

    Raises:
        EvidenceError: the index cannot be used.
    """
    if not (root / INDEX_FILE).is_file():
        return
    try:
        with closing(EvidenceIndex(root)) as index:
            index.forget_missing()
    except EvidenceError as error:
        if error.reason != BROKEN:
            raise
        # What is damaged may hold what was deleted; whoever reads it next makes it again.
        _remove(root)
