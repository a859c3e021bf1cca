"""Dashboard and alerts ask for what a runtime really emits, and each alert has its runbook section."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import msgspec
import promql_parser
import pytest
import yaml

from rspp.telemetry.instruments import METRICS, PREFIX
from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from tests.telemetry.evidence import ANSWERED, INTERRUPTED, context, decision, lines, marker, signal, taken
from tests.telemetry.scraping import read_samples

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/rspp.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
RUNBOOK = ROOT / "docs/runbook.md"
EDGE = {"edge_id": "tts->playout", "target_lane": "DataLane"}
TROUBLE = (
    taken(0, "start", resumed=True),
    marker(0, "lease_granted"),
    decision(5, "shed", "scheduling_point", "scheduling_point_shed", 1),
    decision(5, "stale_epoch_reject", "scheduling_point", "authority_epoch_mismatch", 1),
    signal(6, "drop_notice", 1, reason="queue_pressure_drop", seq_range={"start": 1, "end": 2}, **EDGE),
    signal(6, "flow_xoff", 1, reason="backpressure_asserted", **EDGE),
    {"kind": "pressure", "edge": "tts->playout", "queued_ms": 700, "shed": 2, "at_us": 5_000_000},
    {
        "kind": "pool",
        "turn": 1,
        "node": "stt",
        "tasks": 12,
        "queue_us": 9_000,
        "longest_queue_us": 7_000,
        "run_us": 60_000,
        "longest_run_us": 21_000,
        "refused": {"expired": 2},
        "at_us": 5_000_000,
    },
    signal(7, "circuit_event", 1, reason="circuit_opened"),
    signal(7, "provider_switch", 1, reason="provider_timeout"),
    marker(7, "late_provider_output_dropped_count", 1, 1),
    signal(8, "migration_start"),
    signal(9, "migration_finish"),
    signal(9, "disconnected", reason="server_shutdown"),
    signal(9, "recording_level_downgraded", 1, reason="stage_a_detail_overflow"),
    {"kind": "gap", "at_us": 5_010_000, "records": 3},
    signal(10, "abort", 1, reason="provider_timeout"),
    taken(10, "frame", sequence=1, verdict="stale_epoch"),
    taken(10, "lease_lost", reason="lease_deauthorized"),
    marker(10, "gate_closed"),
)
"""One of everything that can go wrong."""
ADDED_BY_PROMETHEUS = {"job": "rspp", "instance": "host:8081"}


@functools.cache
def emitted() -> dict[str, list[dict[str, str]]]:
    """Every series that a runtime shows after such calls: its labels, by its name."""
    sink = TelemetrySink(TelemetrySettings())
    sink.watch_snapshot(lambda: (7, 500.0))
    sink.begin(context())
    sink.offer(context(), lines(*ANSWERED, *INTERRUPTED, *TROUBLE))
    found: dict[str, list[dict[str, str]]] = {"up": [ADDED_BY_PROMETHEUS]}
    for name, labels in read_samples(sink):
        found.setdefault(name, []).append(dict(labels) | ADDED_BY_PROMETHEUS)
    sink.close()
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(DASHBOARD.read_bytes())
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[tuple[str, str]]:
    asked = [(rule["alert"], rule["expr"]) for rule in rules()]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$tenant", ".*")
            asked.append((f"{panel['title']} {target['refId']}", expression))
    return asked


def selectors(node: Any) -> list[promql_parser.VectorSelector]:
    """Every series selector in a query."""
    match node:
        case promql_parser.VectorSelector():
            return [node]
        case promql_parser.MatrixSelector():
            return [node.vector_selector]
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return []
        case promql_parser.Call():
            return [found for argument in node.args for found in selectors(argument)]
        case promql_parser.BinaryExpr():
            return selectors(node.lhs) + selectors(node.rhs)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            return selectors(node.expr)
    raise AssertionError(f"no rule for {type(node)}")


def aggregations(node: Any) -> list[promql_parser.AggregateExpr]:
    """Every ``sum by (…)`` and the like in a query."""
    match node:
        case promql_parser.AggregateExpr():
            return [node, *aggregations(node.expr)]
        case promql_parser.Call():
            return [found for argument in node.args for found in aggregations(argument)]
        case promql_parser.BinaryExpr():
            return aggregations(node.lhs) + aggregations(node.rhs)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            return aggregations(node.expr)
    return []


def matching(selector: promql_parser.VectorSelector) -> list[dict[str, str]]:
    """The emitted series that a selector finds."""

    def fits(labels: dict[str, str], matcher: Any) -> bool:
        value = labels.get(matcher.name, "")
        match matcher.op:
            case promql_parser.MatchOp.Equal:
                return bool(value == matcher.value)
            case promql_parser.MatchOp.NotEqual:
                return bool(value != matcher.value)
            case promql_parser.MatchOp.Re:
                return re.fullmatch(matcher.value, value) is not None
            case _:
                return re.fullmatch(matcher.value, value) is None

    series = emitted().get(str(selector.name), [])
    return [labels for labels in series if all(fits(labels, one) for one in selector.matchers.matchers)]


def test_dx_05_a_runtime_emits_every_metric_of_the_table_with_its_labels() -> None:
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        for suffix in suffixes:
            series = emitted()[f"{PREFIX}_{metric.name}{suffix}"]
            expected = {*metric.labels, *ADDED_BY_PROMETHEUS} | ({"le"} if suffix == "_bucket" else set())
            assert {frozenset(labels) for labels in series} == {frozenset(expected)}, metric.name


def test_dx_05_every_metric_that_is_emitted_is_in_the_table() -> None:
    known = {f"{PREFIX}_{metric.name}" for metric in METRICS} | {"up", "target_info"}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in emitted()} == known


@pytest.mark.parametrize(("name", "query"), queries(), ids=[name for name, _ in queries()])
def test_dx_05_every_query_finds_series_that_a_runtime_emits(name: str, query: str) -> None:
    parsed = promql_parser.parse(query)
    found = selectors(parsed)
    assert found, name
    for selector in found:
        assert matching(selector), f"{name}: nothing is emitted for {selector.prettify()}"
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert all(asked <= set(labels) for labels in matching(selector)), name
    for aggregation in aggregations(parsed):
        if aggregation.modifier is None:
            continue
        for selector in selectors(aggregation.expr):
            by = set(aggregation.modifier.labels)
            assert all(by <= set(labels) for labels in matching(selector)), name


def test_gate_d_alerts_and_dashboard_cover_what_operators_must_see() -> None:
    asked = " ".join(query for _, query in queries())
    alerting = " ".join(rule["expr"] for rule in rules())
    for expressions in (asked, alerting):
        assert "histogram_quantile(0.95" in expressions
        assert "histogram_quantile(0.99" in expressions
        for metric in (
            "rspp_cancel_latency_ms_bucket",
            "rspp_evidence_lost_records_total",
            "rspp_drops_total",
            "rspp_provider_attempts_total",
            "rspp_shed_rate",
            "rspp_takeovers_total",
            "rspp_migrations_total",
            "rspp_authority_rejections_total",
            "rspp_lease_events_total",
            "rspp_control_plane_snapshot_age_ms",
        ):
            assert metric in expressions


def test_gate_d_every_alert_has_its_runbook_section_and_every_section_its_alert() -> None:
    sections = re.split(r"^### ", RUNBOOK.read_text("utf-8"), flags=re.MULTILINE)[1:]
    by_name = {section.splitlines()[0].strip(): section for section in sections}
    assert list(by_name) == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        section = by_name[rule["alert"]]
        assert "**Means:**" in section
        assert "**Do:**" in section


def test_the_dashboard_s_panels_have_places_and_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(panel["title"] for panel in panels)
    assert all(panel["description"] for panel in panels if panel["type"] != "row")


def test_the_docs_name_every_metric() -> None:
    documented = set(
        re.findall(r"^\| `([a-z_]+)`", (ROOT / "docs/telemetry.md").read_text("utf-8"), re.MULTILINE)
    )
    assert documented >= {metric.name for metric in METRICS}
