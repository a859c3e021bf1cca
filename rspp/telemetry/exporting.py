"""Sends spans, logs and metrics to an OTLP/HTTP collector, from threads of its own.

A collector that is slow or away costs what it should have got and nothing else: the queue before it is
bounded, each request has a deadline, and what did not fit is counted.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Literal

import structlog
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from rspp.telemetry.settings import TelemetrySettings

log = structlog.get_logger(__name__)

SIGNALS = ("spans", "logs", "metrics")
_POLL_S = 0.25


class Tally:
    """What became of exports; any thread may count and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exported = dict.fromkeys(SIGNALS, 0)
        self._failures = dict.fromkeys(SIGNALS, 0)
        self._failing: set[str] = set()

    def count(self, signal: str, items: int, *, taken: bool) -> None:
        """Count a request; the first failure and the first success after one are said in the log."""
        with self._lock:
            changed = (signal in self._failing) == taken
            if taken:
                self._exported[signal] += items
                self._failing.discard(signal)
            else:
                self._failures[signal] += 1
                self._failing.add(signal)
        if changed and taken:
            log.info("the telemetry collector takes reports again", signal=signal)
        elif changed:
            log.warning("the telemetry collector takes no reports; calls go on without", signal=signal)

    def exported(self) -> dict[str, int]:
        """Return how many spans, logs and metric reports the collector took."""
        with self._lock:
            return dict(self._exported)

    def failures(self) -> dict[str, int]:
        """Return how many requests it did not take."""
        with self._lock:
            return dict(self._failures)


class CountingMetricExporter(OTLPMetricExporter):
    """The OTLP exporter of metrics; says what became of each report.

    Args:
        endpoint: address of ``/v1/metrics``.
        timeout: longest wait, seconds.
        tally: takes the counts.
    """

    def __init__(self, endpoint: str, timeout: float, tally: Tally) -> None:
        super().__init__(endpoint=endpoint, timeout=timeout)
        self._tally = tally

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: object
    ) -> MetricExportResult:
        """Send one report of all metrics."""
        result = super().export(metrics_data, timeout_millis=timeout_millis, **kwargs)
        self._tally.count("metrics", 1, taken=result is MetricExportResult.SUCCESS)
        return result


class CollectorLink:
    """Sends batches of spans and logs from one thread.

    Args:
        settings: address, deadline and bound of the queue.
        tally: takes the counts.
    """

    def __init__(self, settings: TelemetrySettings, tally: Tally) -> None:
        # The exporters say each failure in a line of their own; the tally says it once.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        base, timeout = settings.otlp_http_endpoint, settings.export_timeout_ms / 1000
        self._spans = OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=timeout)
        self._logs = OTLPLogExporter(endpoint=f"{base}/v1/logs", timeout=timeout)
        self.metrics = CountingMetricExporter(f"{base}/v1/metrics", timeout, tally)
        self._tally = tally
        self._waiting: queue.Queue[tuple[Literal["spans", "logs"], Sequence[object]]] = queue.Queue(
            settings.queue_capacity
        )
        self.dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry-export", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Batches that wait for the collector."""
        return self._waiting.qsize()

    def send(
        self, signal: Literal["spans", "logs"], items: Sequence[ReadableSpan] | Sequence[ReadableLogRecord]
    ) -> None:
        """Hand a batch over; it is dropped and counted when the collector is far behind."""
        try:
            self._waiting.put_nowait((signal, items))
        except queue.Full:
            self.dropped += 1

    def close(self, timeout: float) -> None:
        """Send what is waiting, for at most ``timeout`` seconds."""
        self._closing.set()
        self._thread.join(timeout)
        self._spans.shutdown()  # type: ignore[no-untyped-call]
        self._logs.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while True:
            try:
                signal, items = self._waiting.get(timeout=_POLL_S)
            except queue.Empty:
                if self._closing.is_set():
                    return
                continue
            self._export(signal, items)

    def _export(self, signal: Literal["spans", "logs"], items: Sequence[object]) -> None:
        try:
            if signal == "spans":
                taken = self._spans.export(items) is SpanExportResult.SUCCESS  # type: ignore[arg-type]
            else:
                taken = self._logs.export(items) is LogRecordExportResult.SUCCESS  # type: ignore[arg-type]
        except Exception:  # whatever an HTTP library raises, the next batch is tried
            log.exception("telemetry could not be sent", signal=signal)
            taken = False
        self._tally.count(signal, len(items), taken=taken)
