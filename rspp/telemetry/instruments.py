"""The metrics: one table of names, labels and buckets, and the OpenTelemetry instruments made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

PREFIX = "rspp"
"""What Prometheus puts before every name."""

FENCE_MS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 150, 250, 500, 1000)
"""Cancellation: the gate is 150 ms, a sound machine takes well under one."""
OPEN_MS = (0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 120, 200, 400, 800)
"""Turn-open decision: the gate is 120 ms."""
ANSWER_MS = (50, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000)
"""What a caller waits for: the gate of the first output is 1500 ms."""
PROVIDER_MS = (5, 10, 20, 50, 100, 200, 300, 500, 750, 1000, 1500, 2500, 5000, 10_000, 30_000)
DURATION_MS = (250, 500, 1000, 2000, 4000, 8000, 15_000, 30_000, 60_000, 120_000)
QUEUED_MS = (0, 20, 50, 100, 250, 500, 1000, 2000, 5000, 10_000)

Kind = Literal["counter", "histogram", "gauge", "total"]


class Metric(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: as OTLP has it; Prometheus has ``rspp_`` before it.
        kind: ``counter`` and ``histogram`` are fed by evidence; ``gauge`` and ``total`` (a counter) are
            read when somebody asks.
        labels: its labels, all of them always.
        meaning: one sentence.
        buckets: upper bounds of a histogram, milliseconds.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


METRICS = (
    # The five that the contracts name.
    Metric(
        "queue_depth",
        "gauge",
        ("queue", "unit"),
        "What waits in a queue; of edges the fullest of all sessions.",
    ),
    Metric("drops_total", "counter", ("tenant", "edge", "reason"), "Items that edges shed."),
    Metric(
        "cancel_latency_ms",
        "histogram",
        ("tenant", "stage"),
        "From an accepted cancel to a stage of it.",
        FENCE_MS,
    ),
    Metric(
        "provider_rtt_ms",
        "histogram",
        ("tenant", "modality", "provider", "outcome"),
        "One attempt at a provider.",
        PROVIDER_MS,
    ),
    Metric(
        "shed_rate", "gauge", (), "Share of the last minute's admission decisions that did not admit, 0 to 1."
    ),
    # The control plane.
    Metric(
        "control_plane_snapshot_version",
        "gauge",
        (),
        "Version of the control plane's snapshot in force; none without a control plane.",
    ),
    Metric(
        "control_plane_snapshot_age_ms",
        "gauge",
        (),
        "How long ago the snapshot in force was asked for; by default turns stop opening at 12 s.",
    ),
    # Sessions and turns.
    Metric("active_sessions", "gauge", ("tenant",), "Calls that run here."),
    Metric("sessions_total", "counter", ("tenant", "pipeline"), "Calls that began or were taken over here."),
    Metric("takeovers_total", "counter", ("tenant",), "Calls that were taken over from another runtime."),
    Metric(
        "turns_total",
        "counter",
        ("tenant", "pipeline", "outcome", "reason"),
        "Turns that ended, by commit or abort.",
    ),
    Metric(
        "decisions_total",
        "counter",
        ("tenant", "outcome", "phase", "reason"),
        "Admission and authority decisions.",
    ),
    Metric("barge_ins_total", "counter", ("tenant",), "Confirmed interruptions."),
    Metric(
        "holds_total",
        "counter",
        ("tenant", "event"),
        "Voices held because the caller spoke, and released again.",
    ),
    Metric(
        "utterances_total", "counter", ("tenant", "ending"), "The caller's utterances: answered or discarded."
    ),
    Metric(
        "turn_open_latency_ms", "histogram", ("tenant",), "From a turn's proposal to its opening.", OPEN_MS
    ),
    Metric(
        "first_output_latency_ms",
        "histogram",
        ("tenant",),
        "From a turn's opening to its first frame.",
        ANSWER_MS,
    ),
    Metric(
        "end_of_turn_latency_ms",
        "histogram",
        ("tenant",),
        "From the caller's last speech to the turn's opening.",
        ANSWER_MS,
    ),
    Metric(
        "answer_latency_ms",
        "histogram",
        ("tenant",),
        "From the caller's last speech to the first frame of the answer.",
        ANSWER_MS,
    ),
    Metric(
        "provider_first_result_ms",
        "histogram",
        ("tenant", "modality"),
        "From a provider's call to its first result.",
        PROVIDER_MS,
    ),
    Metric(
        "turn_duration_ms",
        "histogram",
        ("tenant", "outcome"),
        "From a turn's proposal to its close.",
        DURATION_MS,
    ),
    # Providers.
    Metric(
        "provider_attempts_total",
        "counter",
        ("tenant", "modality", "provider", "outcome", "reason", "decision"),
        "Attempts at providers and what followed.",
    ),
    Metric(
        "provider_switches_total", "counter", ("tenant", "reason"), "Calls that went on at another provider."
    ),
    Metric(
        "circuit_events_total", "counter", ("tenant", "event"), "Circuits that opened, were tried or closed."
    ),
    # Authority.
    Metric(
        "lease_events_total", "counter", ("tenant", "event", "reason"), "Leases granted, renewed and lost."
    ),
    Metric(
        "authority_rejections_total",
        "counter",
        ("tenant", "outcome", "reason"),
        "What was refused for its epoch or lease.",
    ),
    Metric(
        "migrations_total",
        "counter",
        ("tenant", "event"),
        "Steps of migrations: start, finish, handoff, rotation.",
    ),
    Metric(
        "frames_refused_total", "counter", ("tenant", "verdict"), "Frames that the gate did not let pass."
    ),
    Metric(
        "late_outputs_dropped_total", "counter", ("tenant",), "Provider results that came after their fence."
    ),
    # Connections and edges.
    Metric(
        "connection_events_total",
        "counter",
        ("tenant", "state", "reason"),
        "Changes of the connection to the room.",
    ),
    Metric(
        "edge_events_total",
        "counter",
        ("tenant", "edge", "event"),
        "Watermarks, flow control and discontinuities.",
    ),
    Metric(
        "edge_queued_ms",
        "histogram",
        ("tenant", "edge"),
        "Audio that waits on an edge, once a second.",
        QUEUED_MS,
    ),
    # The pool for blocking work.
    Metric(
        "pool_wait_ms",
        "histogram",
        ("tenant", "modality"),
        "Longest wait of a turn's blocking work for a worker.",
        PROVIDER_MS,
    ),
    Metric(
        "pool_run_ms",
        "histogram",
        ("tenant", "modality"),
        "Longest run of a turn's blocking work, without its wait.",
        PROVIDER_MS,
    ),
    Metric(
        "pool_refusals_total",
        "counter",
        ("tenant", "modality", "reason"),
        "Blocking work that was given up: no room, or too late.",
    ),
    # Evidence.
    Metric("evidence_gaps_total", "counter", ("tenant",), "Places where evidence is missing."),
    Metric("evidence_lost_records_total", "counter", ("tenant",), "Evidence records that were lost."),
    Metric(
        "recording_downgrades_total", "counter", ("tenant", "reason"), "Recordings that went down a level."
    ),
    # Telemetry itself.
    Metric("telemetry_enqueued_total", "total", (), "Batches of evidence that telemetry took."),
    Metric(
        "telemetry_dropped_total",
        "total",
        ("stage",),
        "Batches that telemetry shed because a queue was full or nobody took them.",
    ),
    Metric("telemetry_sampled_dropped_total", "total", (), "Debug logs that sampling left out."),
    Metric(
        "telemetry_exported_total",
        "total",
        ("signal",),
        "Spans, logs and metric reports that the collector took.",
    ),
    Metric(
        "telemetry_export_failures_total", "total", ("signal",), "Requests that the collector did not take."
    ),
    Metric("telemetry_unreadable_total", "total", (), "Evidence records that telemetry could not read."),
)
BY_NAME = {metric.name: metric for metric in METRICS}

Readings = dict[str, "Callable[[], Iterable[tuple[float, dict[str, str]]]]"]


class Instruments:
    """The instruments of one process.

    Args:
        meter: makes them.
        readings: for each metric of kind ``gauge`` or ``total`` what to read it from.

    Raises:
        KeyError: a reading is missing.
    """

    def __init__(self, meter: Meter, readings: Readings) -> None:
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            if metric.kind == "counter":
                self._counters[metric.name] = meter.create_counter(metric.name, description=metric.meaning)
            elif metric.kind == "histogram":
                self._histograms[metric.name] = meter.create_histogram(
                    metric.name,
                    # Braces keep Prometheus from adding the unit to a name that ends in it already.
                    unit="{ms}",
                    description=metric.meaning,
                    explicit_bucket_boundaries_advisory=metric.buckets,
                )
            else:
                make = (
                    meter.create_observable_gauge
                    if metric.kind == "gauge"
                    else meter.create_observable_counter
                )
                make(metric.name, [_observing(readings[metric.name])], description=metric.meaning)

    def count(self, name: str, amount: int, **labels: str) -> None:
        """Add to a counter."""
        self._counters[name].add(amount, labels)

    def measure(self, name: str, value_ms: float, **labels: str) -> None:
        """Add a sample in milliseconds to a histogram."""
        self._histograms[name].record(value_ms, labels)


def _observing(
    read: Callable[[], Iterable[tuple[float, dict[str, str]]]],
) -> Callable[[CallbackOptions], Sequence[Observation]]:
    from opentelemetry.metrics import Observation

    return lambda _: [Observation(value, labels) for value, labels in read()]
