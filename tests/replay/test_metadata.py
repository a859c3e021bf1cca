"""What is declared of golden recordings, and the rule on invocation latencies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from msgspec import UNSET

from rspp.contracts.errors import ConfigurationError
from rspp.evidence.baseline import BaselineEntry, InvocationOutcome
from rspp.replay.latency import latency_divergences
from rspp.replay.metadata import SCHEMA, Fixture, Metadata, derived_scope, read_metadata, schema_text

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, document: object) -> Path:
    path = folder / "metadata.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return path


def invocation(final_us: int, total_us: int | None, number: int = 1) -> InvocationOutcome:
    return InvocationOutcome(
        provider_invocation_id=f"pvi/{number}",
        modality="llm",
        provider_id="rules",
        outcome_class="success",
        retryable=False,
        retry_decision="none",
        attempt_count=1,
        final_attempt_latency_us=final_us,
        total_invocation_latency_us=UNSET if total_us is None else total_us,
    )


def turn(*outcomes: InvocationOutcome, turn_id: str = "turn-cf-001") -> BaselineEntry:
    return BaselineEntry(session_id="s", turn_id=turn_id, clock="virtual", invocation_outcomes=outcomes)


def test_a_fixture_without_fields_has_the_defaults_of_the_contract(tmp_path: Path) -> None:
    fixture = read_metadata(written(tmp_path, {"fixtures": {"rd-001-smoke": {}}})).fixtures["rd-001-smoke"]
    assert fixture.gate == "full"
    assert fixture.timing_tolerance_ms == 15
    assert fixture.final_attempt_latency_threshold_ms is UNSET
    assert fixture.total_invocation_latency_threshold_ms is UNSET
    assert fixture.invocation_latency_scopes == ()
    assert fixture.expected_divergences == ()


def test_numbers_below_zero_count_as_zero_and_scopes_are_put_in_order(tmp_path: Path) -> None:
    document = {
        "fixtures": {
            "a-1": {
                "timing_tolerance_ms": -3,
                "final_attempt_latency_threshold_ms": -1,
                "total_invocation_latency_threshold_ms": 40,
                "invocation_latency_scopes": [" turn:b", "turn:a", "turn:b "],
            }
        }
    }
    fixture = read_metadata(written(tmp_path, document)).fixtures["a-1"]
    assert (fixture.timing_tolerance_ms, fixture.final_attempt_latency_threshold_ms) == (0, 0)
    assert fixture.total_invocation_latency_threshold_ms == 40
    assert fixture.invocation_latency_scopes == ("turn:a", "turn:b")


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("{", "metadata.json"),
        ({}, "fixtures"),
        ({"fixtures": {}, "version": 1}, "version"),
        ({"fixtures": {"a-1": {"gates": "full"}}}, "gates"),
        ({"fixtures": {"a-1": {"gate": "slow"}}}, "gate"),
        ({"fixtures": {"a-1": {"timing_tolerance_ms": "15"}}}, "timing_tolerance_ms"),
        ({"fixtures": {"A 1": {}}}, "A 1"),
        ({"fixtures": {"../a": {}}}, "../a"),
        ({"fixtures": {"a-1": {"invocation_latency_scopes": ["x"]}}}, "invocation_latency_scopes"),
        ({"fixtures": {"a-1": {"expected_divergences": [{"class": "X", "scope": "trace"}]}}}, "class"),
        ({"fixtures": {"a-1": {"expected_divergences": [{"class": "PLAN_DIVERGENCE"}]}}}, "scope"),
        ({"fixtures": {"a-1": {"replay_with": {"recording": "../b"}}}}, "recording"),
        ({"fixtures": {"a-1": {"replay_with": {"recording": "b", "compare": []}}}}, "compare"),
    ],
)
def test_wrong_metadata_is_refused_by_the_field(tmp_path: Path, document: object, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_metadata(written(tmp_path, document))
    assert named in caught.value.message
    assert caught.value.hint


def test_metadata_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.json.*No such file"):
        read_metadata(tmp_path / "nowhere.json")


def test_gates_choose_their_fixtures_and_an_unknown_one_is_refused() -> None:
    metadata = Metadata(
        fixtures={"c-1": Fixture(gate="both"), "b-1": Fixture(gate="quick"), "a-1": Fixture(gate="full")}
    )
    assert list(metadata.of_gate("quick")) == ["b-1", "c-1"]
    assert list(metadata.of_gate("full")) == ["a-1", "c-1"]
    with pytest.raises(ConfigurationError, match="'slow' is unknown"):
        metadata.of_gate("slow")


def test_the_schema_in_the_repository_is_the_one_of_the_types_and_accepts_what_they_accept() -> None:
    assert SCHEMA.read_text("utf-8") == schema_text(), "run python -m rspp.replay.metadata --write"
    schema = json.loads(schema_text())
    good: dict[str, Any] = {
        "fixtures": {
            "a-1": {
                "expected_divergences": [{"class": "PLAN_DIVERGENCE", "scope": "trace", "approved": True}]
            }
        }
    }
    jsonschema.validate(good, schema)
    good["fixtures"]["a-1"]["other"] = 1
    with pytest.raises(jsonschema.ValidationError, match="other"):
        jsonschema.validate(good, schema)


@pytest.mark.parametrize(
    ("fixture_id", "scope"),
    [
        ("cf-001-cancel-fence", "turn:turn-cf-001"),
        ("cf-001", "turn:turn-cf-001"),
        ("rd-ordering-approved-1", ""),
        ("f1-overload", ""),
        ("smoke", ""),
    ],
)
def test_an_id_with_a_number_names_its_turn(fixture_id: str, scope: str) -> None:
    assert derived_scope(fixture_id) == scope


THRESHOLDS = Fixture(final_attempt_latency_threshold_ms=20, total_invocation_latency_threshold_ms=40)


@pytest.mark.conformance("RD-005")
@pytest.mark.parametrize(
    ("outcomes", "broken"),
    [
        ([invocation(20_000, 40_000)], []),
        ([invocation(20_001, 40_000)], [("final", 0.001)]),
        ([invocation(1, 2), invocation(25_000, 47_500, 2)], [("final", 5.0), ("total", 7.5)]),
        ([invocation(1, None)], [("total", None)]),
        ([], [("final", None), ("total", None)]),
    ],
)
def test_rd_005_the_slowest_invocation_of_the_turn_counts(
    outcomes: list[InvocationOutcome], broken: list[tuple[str, float | None]]
) -> None:
    found = latency_divergences(
        "cf-001-x", THRESHOLDS, [turn(*outcomes), turn(invocation(10**9, 10**9), turn_id="z")]
    )
    assert [(one.scope, one.diff_ms) for one in found] == [
        (f"invocation_latency_{name}:turn:turn-cf-001", UNSET if diff is None else pytest.approx(diff))
        for name, diff in broken
    ]
    assert {one.class_ for one in found} <= {"TIMING_DIVERGENCE"}


def test_rd_005_where_no_turn_is_named_the_fixture_is_the_scope() -> None:
    found = latency_divergences("smoke", THRESHOLDS, [turn(invocation(1, 1))])
    assert [one.scope for one in found] == [
        "invocation_latency_final:fixture:smoke",
        "invocation_latency_total:fixture:smoke",
    ]
    assert all(one.diff_ms is UNSET for one in found)


def test_rd_005_declared_scopes_beat_the_id_and_unreadable_evidence_fails_each() -> None:
    fixture = Fixture(
        final_attempt_latency_threshold_ms=20, invocation_latency_scopes=("turn:turn-1-1", "turn:turn-1-2")
    )
    slow = turn(invocation(30_000, 30_000), turn_id="turn-1-2")
    fast = turn(invocation(1, 1), turn_id="turn-1-1")
    assert [one.scope for one in latency_divergences("cf-001-x", fixture, [fast, slow])] == [
        "invocation_latency_final:turn:turn-1-2"
    ]
    assert len(latency_divergences("cf-001-x", fixture, None)) == 2


def test_without_a_threshold_nothing_is_checked() -> None:
    assert latency_divergences("smoke", Fixture(), None) == []
