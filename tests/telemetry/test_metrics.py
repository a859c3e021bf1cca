"""Evidence to metrics, seen as Prometheus sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rspp.telemetry.gauges import Gauges
from rspp.telemetry.instruments import BY_NAME, METRICS
from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from rspp.telemetry.vocabulary import MAX_TENANTS
from tests.telemetry.evidence import (
    ANSWERED,
    INTERRUPTED,
    context,
    decision,
    latency,
    lines,
    marker,
    signal,
    taken,
)
from tests.telemetry.scraping import measured, read_samples, sample

if TYPE_CHECKING:
    from rspp.telemetry.context import SessionContext

CONTRACT = ("queue_depth", "drops_total", "cancel_latency_ms", "provider_rtt_ms", "shed_rate")


def test_the_five_metrics_of_the_contract_are_there() -> None:
    assert [metric.name for metric in METRICS[:5]] == list(CONTRACT)


def test_names_and_labels_are_unique_and_sessions_are_no_labels() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert not {"session", "session_id", "turn", "turn_id", "event_id"} & set(metric.labels)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert metric.name.endswith("_total") == (metric.kind in ("counter", "total"))


def test_an_answered_turn() -> None:
    found = measured(ANSWERED)
    assert sample(found, "rspp_turns_total", pipeline="desk@v3", outcome="commit", reason="none") == 1
    assert sample(found, "rspp_turn_open_latency_ms_sum") == 1
    assert sample(found, "rspp_first_output_latency_ms_sum") == 299
    assert sample(found, "rspp_end_of_turn_latency_ms_sum") == 190
    assert sample(found, "rspp_answer_latency_ms_sum") == 489
    assert sample(found, "rspp_turn_duration_ms_sum", outcome="commit") == 1000
    assert sample(found, "rspp_utterances_total", ending="ended") == 1
    assert sample(found, "rspp_provider_first_result_ms_sum", modality="stt") == 30


def test_each_attempt_is_one_round_trip_and_is_counted_once() -> None:
    found = measured(ANSWERED)
    llm = {"modality": "llm", "provider": "openai/gpt"}
    assert sample(found, "rspp_provider_rtt_ms_sum", outcome="overload", **llm) == 40
    assert sample(found, "rspp_provider_rtt_ms_sum", outcome="success", **llm) == 100
    counted = {
        name
        for name, labels in found
        if name == "rspp_provider_rtt_ms_count" and ("modality", "llm") in labels
    }
    assert counted == {"rspp_provider_rtt_ms_count"}
    assert (
        sum(
            value
            for (name, labels), value in found.items()
            if name == "rspp_provider_rtt_ms_count" and ("modality", "llm") in labels
        )
        == 2
    )
    assert (
        sample(found, "rspp_provider_rtt_ms_count", modality="stt", provider="none", outcome="success") == 1
    )
    assert (
        sample(
            found,
            "rspp_provider_attempts_total",
            outcome="overload",
            reason="provider_overload",
            decision="retry",
            **llm,
        )
        == 1
    )


def test_an_interruption_and_each_stage_of_its_cancel() -> None:
    found = measured(INTERRUPTED)
    assert sample(found, "rspp_barge_ins_total") == 1
    assert sample(found, "rspp_holds_total", event="held") == 1
    stages = {"fence": 2, "gate_closed": 2.1, "queue_cleared": 3, "provider_acknowledged": 48}
    for stage, expected_ms in stages.items():
        assert sample(found, "rspp_cancel_latency_ms_count", stage=stage) == 1
        assert sample(found, "rspp_cancel_latency_ms_sum", stage=stage) == expected_ms
    assert sample(found, "rspp_turns_total", pipeline="desk@v3", outcome="abort", reason="cancelled") == 1
    assert sample(found, "rspp_turn_duration_ms_count", outcome="abort") == 1


def test_shedding_edges_and_circuits() -> None:
    edge = {"edge_id": "tts->playout", "target_lane": "DataLane"}
    lost = {"start": 10, "end": 14}
    found = measured(
        (
            signal(1, "drop_notice", 1, reason="queue_pressure_drop", seq_range=lost, **edge),
            signal(1, "flow_xoff", 1, reason="backpressure_asserted", **edge),
            signal(2, "circuit_event", 1, reason="circuit_opened"),
            signal(2, "provider_switch", 1, reason="provider_timeout"),
            signal(3, "recording_level_downgraded", 1, reason="stage_a_detail_overflow"),
            {"kind": "gap", "at_us": 5_000_000, "records": 12},
            {"kind": "pressure", "edge": "tts->playout", "queued_ms": 700, "shed": 5, "at_us": 5_000_000},
        )
    )
    assert sample(found, "rspp_drops_total", edge="tts->playout", reason="queue_pressure_drop") == 5
    assert sample(found, "rspp_edge_events_total", edge="tts->playout", event="flow_xoff") == 1
    assert sample(found, "rspp_circuit_events_total", event="circuit_opened") == 1
    assert sample(found, "rspp_provider_switches_total", reason="provider_timeout") == 1
    assert sample(found, "rspp_recording_downgrades_total", reason="stage_a_detail_overflow") == 1
    assert sample(found, "rspp_evidence_gaps_total") == 1
    assert sample(found, "rspp_evidence_lost_records_total") == 12
    assert sample(found, "rspp_edge_queued_ms_sum", edge="tts->playout") == 700


def test_a_wait_for_the_pool_is_measured_apart_from_the_run() -> None:
    used = {"tasks": 12, "queue_us": 9_000, "longest_queue_us": 7_000, "run_us": 60_000}
    refused = {"expired": 2, "something else": 1}
    record = {"kind": "pool", "turn": 1, "node": "stt", "longest_run_us": 21_000, "at_us": 5_000_000}
    found = measured(({**record, **used, "refused": refused},))
    assert sample(found, "rspp_pool_wait_ms_sum", modality="stt") == 7
    assert sample(found, "rspp_pool_run_ms_sum", modality="stt") == 21
    assert sample(found, "rspp_pool_refusals_total", modality="stt", reason="expired") == 2
    assert sample(found, "rspp_pool_refusals_total", modality="stt", reason="other") == 1


def test_authority_takeovers_and_migrations() -> None:
    found = measured(
        (
            marker(0, "lease_granted", value=3),
            taken(0, "start", resumed=True),
            marker(1000, "lease_renewed", value=3),
            signal(1500, "migration_start"),
            taken(2000, "lease_lost", reason="lease_stale_epoch"),
            marker(2000, "gate_closed"),
            decision(2000, "stale_epoch_reject", "scheduling_point", "authority_epoch_mismatch"),
            marker(2001, "late_provider_output_dropped_count", value=4),
        )
    )
    assert sample(found, "rspp_takeovers_total") == 1
    assert sample(found, "rspp_lease_events_total", event="granted", reason="none") == 1
    assert sample(found, "rspp_lease_events_total", event="renewed", reason="none") == 1
    assert sample(found, "rspp_lease_events_total", event="lost", reason="lease_stale_epoch") == 1
    assert sample(found, "rspp_migrations_total", event="migration_start") == 1
    told = {"outcome": "stale_epoch_reject", "reason": "authority_epoch_mismatch"}
    assert sample(found, "rspp_authority_rejections_total", **told) == 1
    assert sample(found, "rspp_late_outputs_dropped_total") == 4


def test_frames_that_the_gate_refused_are_counted_by_verdict() -> None:
    verdicts = ("pass", "pass", "held", "stale_epoch", "stale_epoch")
    found = measured([taken(number, "frame", verdict=name) for number, name in enumerate(verdicts)])
    assert sample(found, "rspp_frames_refused_total", verdict="held") == 1
    assert sample(found, "rspp_frames_refused_total", verdict="stale_epoch") == 2
    assert sum(value for (name, _), value in found.items() if name == "rspp_frames_refused_total") == 3


@pytest.mark.parametrize(("name", "reason"), [("ended", "drained"), ("disconnected", "caller_vanished")])
def test_a_gate_that_closes_because_the_call_is_over_is_no_lost_lease(name: str, reason: str) -> None:
    found = measured((signal(0, name, reason=reason), marker(0, "gate_closed")))
    lost = [value for (name, labels), value in found.items() if name == "rspp_lease_events_total"]
    assert lost
    assert not any(lost)


def test_counters_that_alerts_watch_begin_at_zero() -> None:
    found = measured((marker(0, "lease_granted"),))
    assert sample(found, "rspp_takeovers_total") == 0
    assert sample(found, "rspp_evidence_lost_records_total") == 0
    assert sample(found, "rspp_lease_events_total", event="lost", reason="lease_expired") == 0


def test_a_tenant_that_is_expected_is_shown_before_its_first_session() -> None:
    sink = TelemetrySink(TelemetrySettings())
    sink.expect("acme")
    found = read_samples(sink)
    sink.close()
    assert sample(found, "rspp_takeovers_total") == 0
    assert sample(found, "rspp_circuit_events_total", event="circuit_opened") == 0


def test_the_share_shed_is_of_the_last_minute() -> None:
    now = [1000.0]
    gauges = Gauges(lambda: now[0])
    for admitted in (True, True, True, False):
        gauges.decided(admitted=admitted)
    assert gauges.shed_rate() == [(0.25, {})]
    now[0] += 59
    gauges.decided(admitted=False)
    assert gauges.shed_rate() == [(0.4, {})]
    now[0] += 2
    assert gauges.shed_rate() == [(1.0, {})]
    now[0] += 100
    assert gauges.shed_rate() == [(0.0, {})]


def test_of_edges_the_fullest_of_all_sessions_is_shown_and_sessions_are_counted() -> None:
    gauges = Gauges()
    first, second = context(session_id="a"), context(session_id="b")
    for session, queued_ms in ((first, 300), (second, 800)):
        gauges.begin(session)
        gauges.queued(session, "tts->playout", queued_ms)
    assert list(gauges.queue_depth()) == [(800, {"queue": "tts->playout", "unit": "ms"})]
    assert gauges.active_sessions() == [(2, {"tenant": "acme"})]
    gauges.end(second)
    assert list(gauges.queue_depth()) == [(300, {"queue": "tts->playout", "unit": "ms"})]
    gauges.queued(second, "tts->playout", 900)
    assert list(gauges.queue_depth()) == [(300, {"queue": "tts->playout", "unit": "ms"})]


def test_another_queue_of_the_process_can_be_shown() -> None:
    sink = TelemetrySink(TelemetrySettings())
    sink.watch("evidence_writer", "records", lambda: 17)
    found = read_samples(sink)
    sink.close()
    assert sample(found, "rspp_queue_depth", queue="evidence_writer", unit="records") == 17
    assert sample(found, "rspp_queue_depth", queue="telemetry", unit="batches") == 0


def test_tenants_are_told_apart_up_to_a_bound() -> None:
    sink = TelemetrySink(TelemetrySettings(queue_capacity=1000))

    def session(number: int) -> SessionContext:
        return context(tenant=f"tenant-{number}", session_id=str(number))

    for number in range(MAX_TENANTS + 20):
        sink.begin(session(number))
        sink.offer(session(number), lines(latency(0, "turn_open_proposed_to_turn_open", 1, 1_000)))
    found = read_samples(sink)
    sink.close()
    counts = {
        labels: value for (name, labels), value in found.items() if name == "rspp_turn_open_latency_ms_count"
    }
    assert len(counts) == MAX_TENANTS + 1
    assert counts[frozenset({("tenant", "other")})] == 20


def test_the_snapshot_in_force_is_shown_where_there_is_a_control_plane() -> None:
    gauges = Gauges()
    assert (gauges.snapshot_version(), gauges.snapshot_age_ms()) == ([], [])
    gauges.watch_snapshot(lambda: (7, 500.0))
    assert (gauges.snapshot_version(), gauges.snapshot_age_ms()) == ([(7, {})], [(500.0, {})])
