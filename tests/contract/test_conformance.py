"""The table of conformance ids, and what recordings must hold of every accepted turn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rspp.contracts.errors import ConfigurationError
from rspp.contracts.ports import Hypothesis
from rspp.tooling.conformance import (
    Carrier,
    carriers_of_cargo,
    document_of,
    main,
    page_of,
    read_results,
    rows_of,
)
from rspp.tooling.conformance_ids import REQUIREMENTS, ids_in_name
from tests.kernel.fake_shell import FakeShell
from tests.session.fakes import FakeCaller, FakeWorld

if TYPE_CHECKING:
    from pathlib import Path

CARGO = """
     Running unittests src/lib.rs (target/debug/deps/rspp_kernel-1)
test lane::tests::m_05_control_goes_first ... ok
test turn::tests::plain ... ok
test turn::tests::g_05_g_08_one_terminal ... FAILED
test document::w01_w07_settings ... ignored
"""


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("test_g_06_g_07_an_open_circuit", ("G-06", "G-07")),
        ("g13_a_node", ("G-13",)),
        ("t8_a6_ae_002_a_revoked_lease", ("AE-002",)),
        ("test_f7_ae_003_stale_output", ("F7", "AE-003")),
        ("test_w01_w07_what_no_edge_may_be_told", ("W-01", "W-07")),
        ("ml001_ml003_every_item", ("ML-001", "ML-003")),
        ("test_a_question_is_answered", ()),
        ("test_f10_is_none", ()),
        ("test_g_5_is_none", ()),
        ("test_the_g_05_in_the_middle", ()),
    ],
)
def test_the_ids_of_a_test_are_those_its_name_begins_with(name: str, ids: tuple[str, ...]) -> None:
    assert ids_in_name(name) == ids


def test_what_cargo_printed_is_read() -> None:
    found = list(carriers_of_cargo(CARGO))
    assert [(carrier.ids, carrier.outcome) for carrier in found] == [
        (("M-05",), "passed"),
        (("G-05", "G-08"), "failed"),
        (("W-01", "W-07"), "skipped"),
    ]
    assert found[0].test == "src/lib.rs::lane::tests::m_05_control_goes_first"


def results(folder: Path, outcomes: dict[str, str]) -> Path:
    tests = [{"test": f"t::{name}", "ids": [name], "outcome": how} for name, how in outcomes.items()]
    (folder / "results-python.json").write_text(json.dumps({"tests": tests}), "utf-8")
    return folder


def everything(**changes: str) -> dict[str, str]:
    return {requirement.id: "passed" for requirement in REQUIREMENTS if not requirement.open} | changes


def status(folder: Path) -> int:
    return main(["--results", str(folder)])


def test_the_table_passes_when_every_id_has_tests_that_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(results(tmp_path, everything())) == 0
    table = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert table["summary"]["missing"] == table["summary"]["failed"] == 0
    assert {row["id"] for row in table["ids"]} == {requirement.id for requirement in REQUIREMENTS}
    page = (tmp_path / "table.html").read_text("utf-8")
    assert "http" not in page
    assert "CT-001" in page
    assert "CT-001" in capsys.readouterr().out


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_test_that_does_not_pass_fails_its_id_even_an_open_one(tmp_path: Path, outcome: str) -> None:
    assert status(results(tmp_path, everything() | {"CT-001": outcome})) == 1
    assert status(results(tmp_path, everything() | {"RD-002": outcome})) == 1


def test_an_id_without_a_test_fails_and_an_open_one_does_not_pass(tmp_path: Path) -> None:
    without = everything()
    del without["F3"]
    assert status(results(tmp_path, without)) == 1
    rows = {row.requirement.id: row for row in rows_of([Carrier("t", ("M-17",), "passed")])}
    assert rows["M-17"].status == "open"
    assert rows["F3"].status == "missing"


def test_no_results_damaged_ones_and_unknown_ids_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no results"):
        read_results(tmp_path)
    (tmp_path / "results-python.json").write_text("{", "utf-8")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_results(tmp_path)
    with pytest.raises(ConfigurationError, match="no id of the contracts"):
        rows_of([Carrier("t", ("CT-999",), "passed")])


def test_what_a_test_is_called_becomes_no_tag() -> None:
    rows = rows_of([Carrier("<script>", ("CT-001",), "passed")])
    assert "<script>" not in page_of(rows)
    assert document_of(rows)["summary"]["passed"] == 1


# ------------------------------------------------------------------------------------- completeness


def call_with_an_interruption() -> list[dict[str, Any]]:
    world = FakeWorld(
        FakeCaller([(500, 1_300, 8_001), (4_000, 5_200, 8_002)], 12_000),
        {8_001: Hypothesis("a question", complete=True), 8_002: Hypothesis("please stop now", complete=True)},
        lambda history: "w " * 30 if "question" in history[-1].text else "stopped.",
        {"greeting": "Hello there."},
    )
    world.hold()
    return [dict(record) for record in world.timeline.records]


def of_turn(records: list[dict[str, Any]], turn: int) -> tuple[list[str], list[str]]:
    """Signals and markers of one turn."""
    signals = [
        record["event"]["signal"]
        for record in records
        if record["kind"] == "signal" and record["event"].get("turn_id", "").endswith(f"-{turn}")
    ]
    return signals, [
        record["name"] for record in records if record["kind"] == "marker" and record["turn"] == turn
    ]


@pytest.mark.conformance("G-04")
def test_rd_003_evidence_is_complete_over_accepted_turns_and_nothing_is_invented() -> None:
    records = call_with_an_interruption()
    accepted = [turn for turn in range(1, 10) if "turn_open" in of_turn(records, turn)[0]]
    assert accepted == [1, 2, 3]
    hashes = set()
    for turn in accepted:
        signals, marks = of_turn(records, turn)
        end = "abort" if "abort" in signals else "commit"
        assert "admit" in signals
        assert signals.index("turn_open") < signals.index(end) < signals.index("close")
        (plan,) = [record for record in records if record.get("plan_hash") and record["turn"] == turn]
        assert len(plan["plan_hash"]) == 64
        hashes.add(plan["plan_hash"])
        assert ("first_output" in marks) == ("output_accepted" in signals)
        cancelled = {"cancel_accepted", "fence_applied"} & set(marks)
        assert len(cancelled) == (2 if end == "abort" else 0)
    assert len(hashes) == 3
    ends = [name for turn in accepted for name in of_turn(records, turn)[0] if name in ("commit", "abort")]
    assert ends == ["commit", "abort", "commit"]


def test_rd_003_what_was_refused_before_a_turn_is_no_accepted_turn() -> None:
    shell = FakeShell(lease=False)
    shell.open_text()
    records = shell.evidence()
    assert not any("turn_open" in of_turn(records, turn)[0] for turn in range(5))
    assert not any(record.get("plan_hash") for record in records)
