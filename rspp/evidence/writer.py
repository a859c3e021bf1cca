"""Stage B: one thread that puts the evidence of all sessions of a process on disk.

Sessions hand blocks over and go on at once, whatever the disk does. What the disk refuses is kept and
tried again until the bound of the session is reached; from then on what comes is counted, and the
recording says where it is missing.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, get_args

import msgspec
import structlog

from rspp.contracts.errors import ConfigurationError, EvidenceError, RsppError
from rspp.evidence.index import EvidenceIndex
from rspp.evidence.records import decoder_of
from rspp.evidence.segment import MAX_BODY_BYTES, MalformedError, records_body
from rspp.evidence.segment_file import SegmentWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.redaction import Action
    from rspp.pipeline.profile import RecordingLevel as Level

FsyncPolicy = Literal["never", "interval", "turn", "always"]
FSYNC_POLICIES: tuple[str, ...] = get_args(FsyncPolicy)

FLUSH_S = 0.1
"""How long the thread gathers before it writes: so many sessions cost few wakings. The longest time that
what was handed over stays in memory while the disk keeps up."""
FSYNC_INTERVAL_S = 1.0
RETRY_S = 1.0
"""Wait before the disk is tried again after it refused."""
MAX_SESSION_BYTES = 4 * 1024 * 1024
"""Most bytes of one session that wait for the disk: an hour and more of a call at L0."""
MAX_SESSION_BLOCKS = 8192
"""The same in blocks."""
MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Most bytes of all sessions together."""
OVERHEAD_BYTES = 200
"""What a waiting block costs besides its content."""

log = structlog.get_logger(__name__)


class Payloads(Protocol):
    """Keeps content that may identify people; ``rspp.evidence.payloads.PayloadStore``."""

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
        """Add ``data`` to the artifact of its session, turn and class."""
        ...

    def flush(self, *, sync: bool = False) -> None:
        """Write what waits."""
        ...

    def end(self, session: str) -> None:
        """Write and close the files of a session that is over."""
        ...


class Payload(NamedTuple):
    """What is said of the content of a payload."""

    payload_class: PayloadClass
    turn: int
    at_us: int
    details: dict[str, object]
    action: Action


@dataclass(slots=True)
class _Block:
    """What one flush of a session holds."""

    kernel: bytes
    records: list[bytes]
    durable: bool = False
    payload: Payload | None = None
    """Of what, where ``kernel`` is the content of a payload."""

    @property
    def size(self) -> int:
        return len(self.kernel) + sum(map(len, self.records)) + OVERHEAD_BYTES


@dataclass(slots=True)
class _Gap:
    """Records that are missing."""

    records: int = 0
    at_us: int = 0


@dataclass(slots=True, eq=False)
class _Stint:
    """The writer's side of one recorder; ``lock`` of the writer guards all but ``file``."""

    session_id: str
    waiting: deque[_Block] = field(default_factory=deque)
    waiting_bytes: int = 0
    gap: _Gap = field(default_factory=_Gap)
    dropped: int = 0
    failure: str = ""
    ending: bool = False
    payload_failure: str = ""
    file: SegmentWriter | None = None
    owed: bool = False
    """Blocks are written that the disk must still be waited for."""
    count: Callable[[bytes], int] = len
    done: threading.Event = field(default_factory=threading.Event)


class SessionRecorder:
    """One session's way to the writer; made by ``EvidenceWriter.open``. Nothing here waits but ``close``."""

    def __init__(self, writer: EvidenceWriter, stint: _Stint, level: Level, header: dict[str, Any]) -> None:
        self.level: Level = level
        self._writer = writer
        self._stint = stint
        self._header = header

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Records that are not and will not be on disk."""
        return self._stint.dropped

    @property
    def failure(self) -> str:
        """Why the disk refused the latest write; empty when it did not."""
        return self._stint.failure

    @property
    def payload_failure(self) -> str:
        """Why a payload could not be kept; empty while all could."""
        return self._stint.payload_failure

    @property
    def waiting(self) -> int:
        """Blocks handed over and not yet written."""
        return len(self._stint.waiting)

    def begin(self, header: dict[str, object]) -> None:
        """Take what the headers of this stint say; ``settings``, ``spec`` and ``redaction`` once."""
        once = {"settings", "spec", "redaction"}
        first = {name: value for name, value in header.items() if name in once}
        always = {name: value for name, value in header.items() if name not in once} | self._header
        self._writer.begin(self._stint, always, first)

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        """Hand over what one flush of the session holds.

        Args:
            block: records of the kernel, in its binary form.
            records: records of the shell, each one JSON object without a line break.
            durable: a turn closed, which the policy ``turn`` waits for.
        """
        if block or records:
            self._writer.put(self._stint, _Block(block, records, durable))

    def payload(
        self,
        payload_class: PayloadClass,
        turn: int,
        at_us: int,
        data: bytes,
        *,
        action: Action = "drop",
        **details: object,
    ) -> None:
        """Hand over content of ``turn``, 0 for none; dropped and counted where no store takes it.

        Args:
            payload_class: its class.
            turn: turn it belongs to.
            at_us: when it happened, on the clock of the session's records.
            data: text in UTF-8 or sound.
            action: what the level does with that class.
            details: small facts about it.
        """
        about = {**details, "stint": self._header["stint"]}
        told = Payload(payload_class, turn, at_us, about, action)
        self._writer.put(self._stint, _Block(data, [], payload=told))

    def close(self, timeout: float = 2.0) -> bool:
        """End the stint once everything is written; safe to call twice.

        Args:
            timeout: longest wait for the disk, seconds.

        Returns:
            Whether everything that was handed over is on disk.
        """
        return self._writer.end(self._stint, timeout)


class EvidenceWriter:
    """Writes the recordings of a process.

    Args:
        root: folder of all evidence; made when missing.
        tenant: whose calls they are; part of the path.
        fsync: when the disk is waited for: ``never``, ``interval`` (each second), ``turn`` (when one
            closes) or ``always``.
        payloads: takes content; none keeps none.

    Raises:
        ConfigurationError: the folder cannot be made, or ``fsync`` is unknown.
    """

    def __init__(
        self,
        root: Path,
        tenant: str = "default",
        *,
        fsync: str = "interval",
        payloads: Payloads | None = None,
    ) -> None:
        if fsync not in FSYNC_POLICIES:
            raise ConfigurationError(
                f"evidence fsync policy {fsync!r} is unknown", hint=f"use one of {', '.join(FSYNC_POLICIES)}"
            )
        self.root = root
        self.tenant = tenant
        try:
            (root / tenant).mkdir(parents=True, exist_ok=True, mode=0o700)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"evidence folder {str(root)!r} cannot be made: {getattr(error, 'strerror', None) or error}",
                hint="name a folder that this user may write to",
            ) from error
        self._fsync = fsync
        self._payloads = payloads
        self._changed = threading.Condition()
        self._stints: list[_Stint] = []
        self._waiting_bytes = 0
        self._ready = False
        self._closing = False
        self._retry_at = 0.0
        self._synced_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def waiting_bytes(self) -> int:
        """Bytes handed over and not yet written."""
        return self._waiting_bytes

    def open(
        self, session_id: str, *, epoch: int, resumed: bool = False, level: Level = "L0"
    ) -> SessionRecorder:
        """Begin a stint; its first segment is made when its header and first records come.

        Args:
            session_id: the session; part of the path.
            epoch: epoch of its lease.
            resumed: the session was taken over.
            level: recording level.

        Raises:
            EvidenceError: the writer is closed.
        """
        stint = _Stint(session_id)
        with self._changed:
            if self._closing:
                raise EvidenceError("the evidence writer is closed", hint="open another one")
            self._stints.append(stint)
        header = {
            "tenant": self.tenant,
            "session_id": session_id,
            "stint": secrets.token_hex(8),
            "epoch": epoch,
            "resumed": resumed,
            "level": level,
            "fsync": self._fsync,
        }
        return SessionRecorder(self, stint, level, header)

    def close(self, timeout: float = 5.0) -> bool:
        """End every stint and the thread; safe to call twice.

        Returns:
            Whether everything that was handed over is on disk.
        """
        with self._changed:
            stints = list(self._stints)
            self._closing = True
            self._retry_at = 0.0
            for stint in stints:
                stint.ending = True
            self._wake()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("evidence was not written in time", folder=str(self.root), sessions=len(stints))
            return False
        return not any(stint.dropped for stint in stints)

    # ------------------------------------------------------------------ from the recorders

    def begin(self, stint: _Stint, header: dict[str, Any], first: dict[str, Any]) -> None:
        """Fix the headers of a stint."""
        folder = self.root / self.tenant / stint.session_id
        with self._changed:
            stint.file = SegmentWriter(folder, header, first, durable=self._fsync != "never")
            stint.count = _counter(header)
            self._wake()

    def put(self, stint: _Stint, block: _Block) -> None:
        """Queue a block, or count what it holds where the bounds are reached."""
        size = block.size
        with self._changed:
            full = (
                stint.ending
                or len(stint.waiting) >= MAX_SESSION_BLOCKS
                or stint.waiting_bytes + size > MAX_SESSION_BYTES
                or self._waiting_bytes + size > MAX_WAITING_BYTES
            )
            if full:
                _lose(stint, block)
                return
            if stint.gap.records and block.payload is None:
                block.records.insert(0, _gap_record(stint.gap))
                stint.gap = _Gap()
            stint.waiting.append(block)
            stint.waiting_bytes += size
            self._waiting_bytes += size
            self._wake()

    def end(self, stint: _Stint, timeout: float) -> bool:
        """End a stint; returns whether everything of it is on disk."""
        with self._changed:
            stint.ending = True
            self._retry_at = 0.0
            self._wake()
        if not stint.done.wait(timeout):
            log.warning("evidence was not written in time", session=stint.session_id)
            return False
        return stint.dropped == 0

    def _wake(self) -> None:
        self._ready = True
        self._changed.notify()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready, timeout=self._pause())
                hurried = self._closing or any(stint.ending for stint in self._stints)
            if not hurried:
                time.sleep(FLUSH_S)
            with self._changed:
                self._ready = False
                closing = self._closing
                work = [stint for stint in self._stints if stint.waiting or stint.ending or stint.owed]
                may_try = time.monotonic() >= self._retry_at
            for stint in work:
                if may_try or stint.ending:
                    self._write(stint)
            self._sync_all()
            if closing and not self._stints:
                return

    def _pause(self) -> float | None:
        """How long nothing needs doing if nothing comes."""
        unfinished = any(stint.waiting or stint.owed for stint in self._stints)
        waits = [self._retry_at - time.monotonic()] if unfinished else []
        if self._fsync == "interval" and any(stint.file and stint.file.dirty for stint in self._stints):
            waits.append(self._synced_at + FSYNC_INTERVAL_S - time.monotonic())
        return max(0.0, min(waits)) if waits else None

    def _write(self, stint: _Stint) -> None:
        """Write what waits of a stint, and end it where it ends."""
        with self._changed:
            batch = list(stint.waiting)
            ending = stint.ending
        try:
            written, failure = self._append(stint, batch)
            if self._payloads is not None and any(block.payload for block in batch):
                self._payloads.flush(sync=self._fsync == "always")
        except Exception as error:
            # One session's defect must not end the evidence of the others. A traceback would show what
            # was to be kept.
            log.warning("evidence is lost by a defect", session=stint.session_id, error=type(error).__name__)
            with self._changed:
                for block in batch:
                    _lose(stint, block)
            written, failure = len(batch), type(error).__name__
        with self._changed:
            for block in batch[:written]:
                stint.waiting.popleft()
                stint.waiting_bytes -= block.size
                self._waiting_bytes -= block.size
            if failure and not stint.failure:
                log.error(
                    "evidence cannot be written",
                    session=stint.session_id,
                    folder=str(self.root),
                    error=failure,
                )
            stint.failure = failure
            if failure:
                self._retry_at = time.monotonic() + RETRY_S
            if ending:
                for block in stint.waiting:
                    self._waiting_bytes -= block.size
                    _lose(stint, block)
                stint.waiting.clear()
                stint.waiting_bytes = 0
        if ending:
            self._finish(stint)

    def _append(self, stint: _Stint, batch: list[_Block]) -> tuple[int, str]:
        """Write blocks in order; returns how many are dealt with, and why no more."""
        failure = self._made_durable(stint) if stint.owed else ""
        for index, block in enumerate(batch):
            try:
                if block.payload is not None:
                    self._keep_payload(stint, block)
                    continue
                body = records_body(block.kernel, block.records)
                if stint.file is None or len(body) > MAX_BODY_BYTES:
                    with self._changed:
                        _lose(stint, block)
                    continue
                stint.file.append([body])
            except OSError as error:
                return index, error.strerror or type(error).__name__
            if self._fsync == "always" or (self._fsync == "turn" and block.durable):
                failure = self._made_durable(stint)
        return len(batch), failure

    def _made_durable(self, stint: _Stint) -> str:
        """Wait for the disk; returns why it refused, empty when it did not.

        What was written stays written then: it is only waited for again, never written again.
        """
        assert stint.file is not None
        try:
            stint.file.sync()
        except OSError as error:
            stint.owed = True
            return error.strerror or type(error).__name__
        stint.owed = False
        return ""

    def _keep_payload(self, stint: _Stint, block: _Block) -> None:
        assert block.payload is not None
        told = block.payload
        try:
            if self._payloads is not None:
                self._payloads.append(
                    stint.session_id,
                    told.turn,
                    told.payload_class,
                    told.at_us,
                    block.kernel,
                    told.details,
                    action=told.action,
                )
                return
        except RsppError as error:
            if not stint.payload_failure:
                log.warning("a payload cannot be kept", session=stint.session_id, error=error.message)
            stint.payload_failure = error.message
        with self._changed:
            _lose(stint, block)

    def _finish(self, stint: _Stint) -> None:
        try:
            self._end_files(stint)
        except Exception as error:
            # As above: the thread goes on, and nobody waits for this stint for ever.
            stint.failure = type(error).__name__
            log.warning("a recording was not ended in order", session=stint.session_id, error=stint.failure)
        with self._changed:
            self._stints.remove(stint)
        stint.done.set()

    def _end_files(self, stint: _Stint) -> None:
        if stint.file is not None:
            try:
                if stint.gap.records:
                    stint.file.append([records_body(b"", [_gap_record(stint.gap)])])
                    stint.gap = _Gap()
                stint.file.close(ended=True)
            except OSError as error:
                stint.failure = error.strerror or type(error).__name__
                log.warning("the recording has no end", session=stint.session_id, error=stint.failure)
                try:
                    stint.file.close(ended=False)
                except OSError as again:
                    log.warning("a segment cannot be closed", session=stint.session_id, error=again.strerror)
        try:
            if self._payloads is not None:
                self._payloads.end(stint.session_id)
        except RsppError as error:
            stint.payload_failure = error.message
            log.warning("payloads cannot be closed", session=stint.session_id, error=error.message)
        self._take_in(stint)

    def _take_in(self, stint: _Stint) -> None:
        """Put an ended stint into the index; where that fails, whoever reads it brings it up to date."""
        if stint.file is None or stint.file.path is None:
            return
        try:
            with closing(EvidenceIndex(self.root)) as index:
                index.update(stint.file.folder, content=False)
        except RsppError as error:
            log.warning("the index was not kept", folder=str(self.root), error=error.message)

    def _sync_all(self) -> None:
        now = time.monotonic()
        if self._fsync != "interval" or now < self._synced_at + FSYNC_INTERVAL_S:
            return
        with self._changed:
            files = [stint.file for stint in self._stints if stint.file is not None and stint.file.dirty]
        for file in files:
            try:
                file.sync()
            except OSError as error:
                log.warning("evidence cannot be made durable", folder=str(file.folder), error=error.strerror)
        # From the end, so that a disk that is slower than the interval still gets to write.
        self._synced_at = time.monotonic()


def _lose(stint: _Stint, block: _Block) -> None:
    """Count a block that will not be on disk; a gap that it stood for is counted already."""
    lost = 1 if block.payload is not None else stint.count(block.kernel)
    for record in block.records:
        if record.startswith(_GAP_START):
            stint.gap.records += int(msgspec.json.decode(record)["records"])
        else:
            lost += 1
    if block.payload is None:
        stint.gap.records += lost
    stint.dropped += lost


_GAP_START = b'{"kind":"gap"'


def _gap_record(gap: _Gap) -> bytes:
    return msgspec.json.encode({"kind": "gap", "records": gap.records})


def _counter(header: dict[str, Any]) -> Callable[[bytes], int]:
    """Return how to count the records of a block of the kernel."""

    def count(block: bytes) -> int:
        if not block:
            return 0
        try:
            return len(decoder_of(header).decode(block))
        except (MalformedError, ValueError):
            return 1

    return count
