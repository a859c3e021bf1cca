"""Telemetry never makes a call wait: what it cannot keep up with is shed and counted."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
from typing import TYPE_CHECKING

import msgspec

from rspp import _kernel
from rspp.pipeline.normalise import plan_template, turn_policy
from rspp.pipeline.spec import PipelineSpec
from rspp.telemetry.instruments import BY_NAME, PREFIX
from rspp.telemetry.logs import Sampler
from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import MAX_BATCH_BYTES, TelemetrySink
from tests.telemetry.collector import fake_collector, told
from tests.telemetry.evidence import (
    ANSWERED,
    INTERRUPTED,
    START_US,
    WALL_MS,
    attempt,
    context,
    decision,
    lines,
    signal,
    transition,
)
from tests.telemetry.scraping import read_samples, sample
from tests.waits import no_wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

MANY = 400


@contextlib.contextmanager
def silent_collector() -> Iterator[tuple[str, socket.socket]]:
    """A server that takes connections and never answers: its address, and where they wait."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", listening


def await_failure(sink: TelemetrySink, signal: str = "spans") -> None:
    """Wait for the first request of a signal that fails; the test's own timeout bounds it."""
    while not sink.tally.failures()[signal]:
        threading.Event().wait(0.01)


def busy(batches: int) -> list[list[bytes]]:
    """Batches of which each one makes spans and logs."""
    return [
        lines(
            transition(number * 3000, number + 1, "turn_open_proposed", "Idle", "Opening"),
            decision(number * 3000, "admit", "pre_turn", "admission_capacity_allow", number + 1),
            attempt(number * 3000 + 100, number + 1, number),
            transition(number * 3000 + 200, number + 1, "close", "Terminal", "Closed"),
        )
        for number in range(batches)
    ]


def test_a_full_queue_drops_and_counts() -> None:
    sink = TelemetrySink(TelemetrySettings(queue_capacity=4))
    sink.begin(context())
    batch = lines(*ANSWERED) * 20
    taken = [sink.offer(context(), batch) for _ in range(MANY)]
    assert sink.enqueued == sum(taken) < MANY
    assert sink.dropped == MANY - sum(taken) > 0
    assert sink.depth <= 4
    found = read_samples(sink)
    sink.close()
    assert sample(found, "rspp_telemetry_enqueued_total") == sink.enqueued
    assert sample(found, "rspp_telemetry_dropped_total", stage="evidence") == sink.dropped
    # Twenty commits in each batch that was taken: what was taken was read to the end.
    turns = sample(found, "rspp_turns_total", pipeline="desk@v3", outcome="commit", reason="none")
    assert turns == 20 * sink.enqueued


def test_a_batch_beyond_the_bound_is_dropped() -> None:
    sink = TelemetrySink(TelemetrySettings())
    assert not sink.offer(context(), [b"{" + b" " * MAX_BATCH_BYTES + b"}"])
    assert not sink.offer(context(), [], b"x" * (MAX_BATCH_BYTES + 1))
    assert (sink.enqueued, sink.dropped) == (0, 2)
    sink.close()
    assert not sink.offer(context(), lines(*ANSWERED))


def test_a_collector_that_never_answers_blocks_neither_offer_nor_the_metrics() -> None:
    with silent_collector() as (url, _):
        sink = TelemetrySink(
            TelemetrySettings(otlp_http_endpoint=url, queue_capacity=MANY, export_timeout_ms=100)
        )
        sink.begin(context())
        batches = busy(MANY)
        with no_wait():
            assert all(sink.offer(context(), batch) for batch in batches)
        assert sink.flush(timeout=30.0)
        await_failure(sink)
        found = read_samples(sink)
        sink.close()
    assert sample(found, "rspp_telemetry_export_failures_total", signal="spans") >= 1
    assert sample(found, "rspp_telemetry_exported_total", signal="spans") == 0
    modality = {"modality": "llm", "provider": "openai/gpt", "outcome": "success"}
    assert sample(found, "rspp_provider_rtt_ms_count", **modality) == MANY


def test_a_collector_that_is_away_is_counted() -> None:
    sink = TelemetrySink(TelemetrySettings(otlp_http_endpoint="http://127.0.0.1:9", export_timeout_ms=100))
    sink.begin(context())
    sink.offer(context(), lines(*ANSWERED, *INTERRUPTED))
    sink.close(timeout=20.0)
    failures = sink.tally.failures()
    assert failures["spans"] >= 1
    assert failures["logs"] >= 1
    assert failures["metrics"] >= 1
    assert sum(sink.tally.exported().values()) == 0


def test_closing_does_not_wait_for_a_collector_beyond_its_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[float] = []
    join = threading.Thread.join

    def watched_join(thread: threading.Thread, timeout: float | None = None) -> None:
        limits.append(math.inf if timeout is None else timeout)
        join(thread, timeout)

    with silent_collector() as (url, listening):
        sink = TelemetrySink(
            TelemetrySettings(otlp_http_endpoint=url, queue_capacity=MANY, export_timeout_ms=60_000)
        )
        sink.begin(context())
        assert all(sink.offer(context(), batch) for batch in busy(MANY))
        connection, _ = listening.accept()
        with connection:
            monkeypatch.setattr(threading.Thread, "join", watched_join)
            sink.close(timeout=0.1)
            monkeypatch.undo()
            assert limits
            assert max(limits) <= 0.1
            # Whoever waited for these would have seen them fail; the last metrics have a limit of their own.
            assert (sink.tally.failures()["spans"], sink.tally.exported()["spans"]) == (0, 0)
    await_failure(sink)
    await_failure(sink, "metrics")


async def test_a_collector_that_refuses_is_counted_and_one_that_recovers_gets_the_rest() -> None:
    async with fake_collector() as collector:
        collector.status = 400
        sink = TelemetrySink(TelemetrySettings(otlp_http_endpoint=collector.url, export_timeout_ms=2_000))
        sink.begin(context())
        sink.offer(context(), lines(*ANSWERED, *INTERRUPTED))
        await asyncio.to_thread(await_failure, sink)
        collector.status = 200
        assert await asyncio.to_thread(sink.close)
        assert sink.tally.failures()["spans"] + sink.tally.exported()["spans"] >= 2
        assert sink.tally.exported()["metrics"] >= 1


async def test_a_real_collector_decodes_the_tree_the_logs_and_the_metrics() -> None:
    async with fake_collector() as collector:
        sink = TelemetrySink(TelemetrySettings(otlp_http_endpoint=collector.url, export_timeout_ms=2_000))
        sink.begin(context())
        sink.offer(context(), lines(*ANSWERED))
        sink.offer(context(), lines(*INTERRUPTED))
        sink.end(context())
        assert await asyncio.to_thread(sink.close)
        exported = sink.tally.exported()
    turns = [span for span in collector.spans if span.name == "turn_span"]
    assert [told(list(turn.attributes))["rspp.turn_id"] for turn in turns] == ["turn-2-1", "turn-2-2"]
    by_id = {span.span_id: span for span in collector.spans}
    for span in collector.spans:
        if span.name == "turn_span":
            assert not span.parent_span_id
            continue
        parent = by_id[span.parent_span_id]
        assert parent.name == {"node_span": "turn_span", "provider_invocation_span": "node_span"}[span.name]
        assert parent.trace_id == span.trace_id
    assert exported["spans"] == len(collector.spans) == 8 + 4
    assert collector.metrics >= {
        "turns_total",
        "provider_rtt_ms",
        "cancel_latency_ms",
        "queue_depth",
        "shed_rate",
    }
    names = [record.event_name for record in collector.logs]
    assert exported["logs"] == len(names)
    assert names[:4] == [
        "turn_open_result",
        "turn_active_result",
        "provider_invocation_attempt",
        "provider_invocation_attempt",
    ]
    assert {"output_fence_decision", "provider_invocation_cancelled"} <= set(names)
    for record in collector.logs:
        assert record.body.string_value == record.event_name
        assert record.trace_id in {span.trace_id for span in turns}
        attributes = told(list(record.attributes))
        assert attributes["rspp.tenant"] == "acme"
        assert attributes["rspp.authority_epoch"] == 2


async def test_debug_logs_are_sampled_and_what_went_wrong_is_not() -> None:
    shed = [decision(number, "shed", "scheduling_point", "scheduling_point_shed", 1) for number in range(10)]
    admitted = [decision(number, "admit", "pre_turn", "admission_capacity_allow", 1) for number in range(10)]
    async with fake_collector() as collector:
        settings = TelemetrySettings(
            otlp_http_endpoint=collector.url, export_timeout_ms=2_000, drop_sample_rate=4
        )
        sink = TelemetrySink(settings)
        sink.begin(context())
        sink.offer(context(), lines(*shed, *admitted))
        found = await asyncio.to_thread(read_samples, sink)
        assert await asyncio.to_thread(sink.close)
        names = [record.event_name for record in collector.logs]
    assert names.count("scheduling_shed") == 10
    assert names.count("turn_open_result") == 3
    assert sample(found, "rspp_telemetry_sampled_dropped_total") == 7


def test_the_first_debug_log_is_kept_and_then_every_nth() -> None:
    sampler = Sampler(3)
    assert [sampler.keep("a") for _ in range(7)] == [True, False, False, True, False, False, True]
    assert sampler.keep("b")
    assert sampler.dropped == 4


def test_evidence_that_cannot_be_read_is_counted_and_what_follows_is_read() -> None:
    sink = TelemetrySink(TelemetrySettings())
    sink.begin(context())
    damaged = [b"{", b"\xff", b"[]", b'{"kind":"signal"}', b'{"kind":"marker","at_us":"soon"}']
    sink.offer(context(), [*damaged, *lines(*ANSWERED)], b"no block at all")
    found = read_samples(sink)
    sink.close()
    assert sample(found, "rspp_telemetry_unreadable_total") == len(damaged) + 1
    assert sample(found, "rspp_turns_total", pipeline="desk@v3", outcome="commit", reason="none") == 1


def test_a_session_whose_last_spans_cannot_be_made_costs_nothing_but_them() -> None:
    sink = TelemetrySink(TelemetrySettings(otlp_http_endpoint="http://127.0.0.1:9", export_timeout_ms=50))
    odd = signal(1001, "turn_open", 1)
    odd["event"]["authority_epoch"] = []
    first, other = context(session_id="odd"), context(session_id="other")
    for session, records in (
        (first, (transition(1000, 1, "turn_open_proposed", "Idle", "Opening"), odd)),
        (other, ANSWERED),
    ):
        sink.begin(session)
        sink.offer(session, lines(*records))
        sink.end(session)
    found = read_samples(sink)
    assert sink.close()
    assert sample(found, "rspp_telemetry_unreadable_total") == 1
    assert sample(found, "rspp_sessions_total", pipeline="desk@v3") == 2


def test_a_session_that_ended_is_forgotten_once_its_evidence_is_read() -> None:
    sink = TelemetrySink(TelemetrySettings())
    for number in range(20):
        session = context(session_id=str(number))
        sink.begin(session)
        sink.offer(session, lines(*ANSWERED))
        sink.end(session)
    found = read_samples(sink)
    assert not sink._states
    sink.close()
    assert sample(found, "rspp_sessions_total", pipeline="desk@v3") == 20


METRIC_NAMES = frozenset(f"{PREFIX}_{name}" for name in BY_NAME)


def a_short_life(clock_us: int = START_US) -> _kernel.SessionKernel:
    """A kernel that took a lease, greeted and was closed."""
    rules = {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}
    spec = msgspec.convert({"name": "desk", "version": "v3", "llm": rules}, PipelineSpec)
    kernel = _kernel.SessionKernel(
        session_id="call-1",
        policy=_kernel.TurnPolicy(**turn_policy(spec)),
        plan=_kernel.PlanTemplate(**plan_template(spec)),
        now_us=clock_us,
        wall_clock_ms=WALL_MS,
    )
    kernel.lease(clock_us, 2, clock_us + 10_000_000)
    kernel.connection(clock_us, "connected", "")
    kernel.connection(clock_us + 500_000, "ended", "hang_up")
    return kernel


def test_the_kernel_s_binary_records_are_read_like_its_lines() -> None:
    found = []
    for binary in (True, False):
        kernel = a_short_life()
        sink = TelemetrySink(TelemetrySettings())
        sink.begin(context())
        block = kernel.drain_records(1000) if binary else b""
        sink.offer(context(), [] if binary else kernel.drain_evidence(1000), block)
        found.append(read_samples(sink))
        sink.close()
    first, second = (
        {key: value for key, value in samples.items() if key[0] in METRIC_NAMES} for samples in found
    )
    assert first == second
    assert sample(first, "rspp_lease_events_total", event="granted", reason="none") == 1
    assert sample(first, "rspp_connection_events_total", state="ended", reason="hang_up") == 1
    assert sample(first, "rspp_telemetry_unreadable_total") == 0


def test_a_cut_block_is_counted_and_the_next_one_read() -> None:
    block = a_short_life().drain_records(1000)
    sink = TelemetrySink(TelemetrySettings())
    sink.begin(context())
    sink.offer(context(), [], block[:-1])
    sink.offer(context(), [], block)
    found = read_samples(sink)
    sink.close()
    assert sample(found, "rspp_telemetry_unreadable_total") == 1
    assert sample(found, "rspp_lease_events_total", event="granted", reason="none") == 1
