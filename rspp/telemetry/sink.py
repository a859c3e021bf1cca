"""The telemetry of one process: takes evidence without waiting, and turns it into spans and metrics.

A session offers what it records; a full queue drops it and counts it. One thread reads the evidence, and
rests after its work, so that under load telemetry is what falls behind first and not the calls.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rspp import _kernel
from rspp.telemetry.context import SERVICE
from rspp.telemetry.exporting import SIGNALS, CollectorLink, Tally
from rspp.telemetry.gauges import Gauges
from rspp.telemetry.instruments import PREFIX, Instruments
from rspp.telemetry.logs import Sampler, SessionLogs
from rspp.telemetry.measuring import SessionMeasures, begin_at_zero
from rspp.telemetry.traces import SessionTraces
from rspp.telemetry.vocabulary import MAX_NAMES, MAX_PIPELINES, BoundedNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from rspp.telemetry.context import SessionContext
    from rspp.telemetry.settings import TelemetrySettings

log = structlog.get_logger(__name__)

MAX_BATCH_BYTES = 1024 * 1024
"""Largest batch taken: with the bound of the queue this bounds the memory."""
MAX_SESSIONS = 4096
EXPORT_BATCH = 256
EXPORT_INTERVAL_S = 1.0
METRICS_INTERVAL_MS = 10_000
REST = 3
"""The thread rests this many times as long as it worked: at most a quarter of a core."""
MAX_REST_S = 0.25
_POLL_S = 0.25
_INPUT = b'{"kind":"input"'
_WANTED_INPUTS = (
    b'"name":"start"',
    b'"name":"lease_lost"',
    b'"name":"connection"',
    b'"name":"attempt_finished"',
)

_FRAME = b'"name":"frame"'
_PASSED = b'"verdict":"pass"'

_Batch = tuple["SessionContext", bytes, list[bytes], bool]
"""Session, binary records, JSON records, whether the session has ended."""


def _wanted(line: bytes) -> bool:
    """Whether an input of the kernel is of use here; nearly all are voice activity and frames that passed."""
    if _FRAME in line:
        return _PASSED not in line
    return any(name in line for name in _WANTED_INPUTS)


class _SessionState:
    """What the telemetry thread keeps of one session."""

    def __init__(self, sink: TelemetrySink, context: SessionContext) -> None:
        self.decoder = _kernel.RecordDecoder(
            session_id=context.session_id,
            pipeline_version=context.pipeline_version,
            created_us=context.created_us,
            created_wall_ms=context.created_wall_ms,
        )
        self.measures = SessionMeasures(context, sink.instruments, sink.gauges, sink.pipelines, sink.names)
        self.traces = SessionTraces(context, sink.resource)
        self.logs = SessionLogs(context, sink.resource, sink.sampler)


class TelemetrySink:
    """Takes the evidence of all sessions of a process.

    Args:
        settings: how telemetry is set up.
        metrics_interval_ms: how often metrics are sent to the collector.
        now: monotonic seconds.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        metrics_interval_ms: int = METRICS_INTERVAL_MS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resource = Resource.create(
            {
                "service.name": SERVICE,
                "service.version": _kernel.VERSION,
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            }
        )
        self.gauges = Gauges(now)
        self.pipelines = BoundedNames(MAX_PIPELINES)
        self.names = BoundedNames(MAX_NAMES)
        self.sampler = Sampler(settings.drop_sample_rate)
        self.tally = Tally()
        self._now = now
        self._lock = threading.Lock()
        self._enqueued = self._dropped = self._unreadable = 0
        self._waiting: queue.Queue[_Batch] = queue.Queue(settings.queue_capacity)
        self._states: dict[SessionContext, _SessionState] = {}
        self._spans: list[ReadableSpan] = []
        self._logs: list[ReadableLogRecord] = []
        self._sent_at = now()
        self._closing = threading.Event()
        self._link = CollectorLink(settings, self.tally) if settings.otlp_http_endpoint else None
        self._registry = CollectorRegistry()
        self._provider = self._meters(metrics_interval_ms)
        self.instruments = Instruments(self._provider.get_meter(SERVICE, _kernel.VERSION), self._readings())
        self.gauges.watch("telemetry", "batches", self._waiting.qsize)
        if self._link is not None:
            link = self._link
            self.gauges.watch("telemetry_export", "batches", lambda: link.waiting)
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ from the sessions

    def begin(self, context: SessionContext) -> None:
        """A session begins; returns at once."""
        self.gauges.begin(context)

    def expect(self, tenant: str) -> None:
        """Show the counters of a tenant before its first session, so that alerts see their first rise."""
        begin_at_zero(self.instruments, self.gauges.tenant(tenant))

    def offer(self, context: SessionContext, records: list[bytes], block: bytes = b"") -> bool:
        """Hand evidence over; returns at once, whatever the collector does.

        Args:
            context: the session, as given to ``begin``.
            records: each one JSON object in UTF-8.
            block: binary records of the kernel.

        Returns:
            Whether it was taken; when the queue is full it is not, and that is counted.
        """
        sound = len(block) + sum(map(len, records)) <= MAX_BATCH_BYTES and not self._closing.is_set()
        if sound:
            try:
                self._waiting.put_nowait((context, block, records, False))
            except queue.Full:
                sound = False
        with self._lock:
            self._enqueued += sound
            self._dropped += not sound
        return sound

    def end(self, context: SessionContext) -> None:
        """A session has ended; its last spans are made when its evidence has been read."""
        self.gauges.end(context)
        # When the queue is full the session is finished once the queue has run empty.
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait((context, b"", [], True))

    # ------------------------------------------------------------------ to the operator

    def scrape(self) -> tuple[bytes, str]:
        """Return all metrics in Prometheus' text format, and its content type; takes some milliseconds."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def watch(self, queue_name: str, unit: str, read: Callable[[], float]) -> None:
        """Show the depth of another queue of the process; see ``Gauges.watch``."""
        self.gauges.watch(queue_name, unit, read)

    def watch_snapshot(self, read: Callable[[], tuple[int, float]]) -> None:
        """Show the control plane's snapshot in force; see ``Gauges.watch_snapshot``."""
        self.gauges.watch_snapshot(read)

    @property
    def enqueued(self) -> int:
        """Batches taken."""
        return self._enqueued

    @property
    def dropped(self) -> int:
        """Batches shed before they were read."""
        return self._dropped

    @property
    def depth(self) -> int:
        """Batches that wait."""
        return self._waiting.qsize()

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until all evidence that was taken has been read; returns whether it has.

        Args:
            timeout: longest wait, seconds.
        """
        with self._waiting.all_tasks_done:
            return self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, timeout)

    def close(self, timeout: float = 2.0) -> bool:
        """Read and send what is waiting; safe to call twice. Nothing can be scraped afterwards.

        Args:
            timeout: longest wait, seconds; what is not sent by then is lost.

        Returns:
            Whether everything that was taken has been read.
        """
        if self._closing.is_set():
            return not self._thread.is_alive()
        until = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout)
        self._provider.shutdown(timeout_millis=max(1.0, (until - time.monotonic()) * 1000))
        if self._link is not None:
            self._link.close(max(0.1, until - time.monotonic()))
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while True:
            try:
                context, block, records, ended = self._waiting.get(timeout=_POLL_S)
            except queue.Empty:
                self._reap()
                self._send(force=self._closing.is_set())
                if self._closing.is_set():
                    return
                continue
            used = time.thread_time()
            if ended:
                self._finish(context)
            else:
                self._read(context, block, records)
            self._waiting.task_done()
            self._send(force=False)
            if not self._closing.is_set():
                self._closing.wait(min(MAX_REST_S, (time.thread_time() - used) * REST))

    def _read(self, context: SessionContext, block: bytes, records: list[bytes]) -> None:
        state = self._states.get(context)
        if state is None:
            if len(self._states) >= MAX_SESSIONS:
                self._finish(next(iter(self._states)))
            state = self._states[context] = _SessionState(self, context)
        try:
            lines = state.decoder.decode(block) if block else []
        except ValueError as error:
            self._cannot_read(error)
            lines = []
        for line in (*lines, *records):
            if line.startswith(_INPUT) and not _wanted(line):
                continue
            try:
                self._take(state, msgspec.json.decode(line))
            except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
                # Evidence of another version may lack what is looked for; telemetry may lose, never stop.
                self._cannot_read(error)

    def _take(self, state: _SessionState, record: dict[str, Any]) -> None:
        state.measures.take(record)
        if self._link is not None:
            self._spans += state.traces.take(record)
            told = state.logs.take(record)
            if told is not None:
                self._logs.append(told)

    def _cannot_read(self, error: Exception) -> None:
        self._unreadable += 1
        if self._unreadable == 1:
            # Of the record nothing is told: it may hold what a caller said.
            log.warning("telemetry cannot read a record of evidence", error=type(error).__name__)

    def _reap(self) -> None:
        """Finish the sessions that have ended; called when all their evidence has been read."""
        for context in [
            known for known in self._states if not self.gauges.active(known) or self._closing.is_set()
        ]:
            self._finish(context)

    def _finish(self, context: SessionContext) -> None:
        state = self._states.pop(context, None)
        if state is None or self._link is None:
            return
        try:
            self._spans += state.traces.finish()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._cannot_read(error)

    def _send(self, *, force: bool) -> None:
        if self._link is None:
            return
        now = self._now()
        full = len(self._spans) >= EXPORT_BATCH or len(self._logs) >= EXPORT_BATCH
        if not (force or full or now - self._sent_at >= EXPORT_INTERVAL_S):
            return
        self._sent_at = now
        if self._spans:
            self._link.send("spans", self._spans)
            self._spans = []
        if self._logs:
            self._link.send("logs", self._logs)
            self._logs = []

    # ------------------------------------------------------------------ metrics

    def _meters(self, interval_ms: int) -> MeterProvider:
        prometheus = PrometheusMetricReader(prefix=PREFIX, scope_info_enabled=False, registry=self._registry)
        readers: list[Any] = [prometheus]
        if self._link is not None:
            readers.append(
                PeriodicExportingMetricReader(self._link.metrics, export_interval_millis=interval_ms)
            )
        return MeterProvider(readers, resource=self.resource, shutdown_on_exit=False)

    def _readings(self) -> dict[str, Callable[[], Iterable[tuple[float, dict[str, str]]]]]:
        def by_signal(read: Callable[[], dict[str, int]]) -> Callable[[], list[tuple[float, dict[str, str]]]]:
            return lambda: [(read()[signal], {"signal": signal}) for signal in SIGNALS]

        link = self._link
        return {
            "queue_depth": self.gauges.queue_depth,
            "shed_rate": self.gauges.shed_rate,
            "active_sessions": self.gauges.active_sessions,
            "control_plane_snapshot_version": self.gauges.snapshot_version,
            "control_plane_snapshot_age_ms": self.gauges.snapshot_age_ms,
            "telemetry_enqueued_total": lambda: [(self._enqueued, {})],
            "telemetry_dropped_total": lambda: [
                (self._dropped, {"stage": "evidence"}),
                (link.dropped if link is not None else 0, {"stage": "export"}),
            ],
            "telemetry_sampled_dropped_total": lambda: [(self.sampler.dropped, {})],
            "telemetry_exported_total": by_signal(self.tally.exported),
            "telemetry_export_failures_total": by_signal(self.tally.failures),
            "telemetry_unreadable_total": lambda: [(self._unreadable, {})],
        }
