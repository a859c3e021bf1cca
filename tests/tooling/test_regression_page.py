"""The page of a regression run: every recording, every divergence side by side, nothing believed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from rspp.tooling.call_page.regression import regression_page
from rspp.tooling.regression_report import write_regression_report
from tests.e2e.fake_call import HOSTILE
from tests.tooling.pages import Page, check_alone

if TYPE_CHECKING:
    from pathlib import Path

RECORDED = {
    "kind": "signal",
    "at_us": 5,
    "event": {"signal": "abort", "reason": HOSTILE, "runtime_sequence": 8},
}
REPLAYED = {"kind": "signal", "at_us": 5, "event": {"signal": "commit", "runtime_sequence": 8}}


def divergence(**more: Any) -> dict[str, Any]:
    sides = {"recorded": json.dumps(RECORDED), "replayed": json.dumps(REPLAYED)}
    told = {"class": "OUTCOME_DIVERGENCE", "scope": f"turn:{HOSTILE}", "message": HOSTILE, "at_us": 1_500_000}
    return told | sides | more


def fixture(name: str, status: str, *divergences: dict[str, Any], **more: Any) -> dict[str, Any]:
    counts = {
        "total_divergences": len(divergences),
        "failing_count": status == "FAIL",
        "unexplained_count": 0,
    }
    empty = {
        "missing_expected": [],
        "by_class": {},
        "failing_classes": [],
        "problem": "",
        "expected_configured": 0,
    }
    told = {
        "about": HOSTILE,
        "shows": ["CT-001"],
        "timing_tolerance_ms": 15,
        "records": 812,
        "recorded_ms": 1_000.0,
    }
    return (
        {"fixture_id": name, "gate": "full", "status": status, "divergences": list(divergences)}
        | counts
        | empty
        | told
        | more
    )


def report(*fixtures: dict[str, Any]) -> dict[str, Any]:
    failing = sum(int(one["failing_count"]) for one in fixtures)
    return {
        "generated_at_utc": "2026-01-01T00:00:00Z",
        "gate": "full",
        "metadata_path": HOSTILE,
        "fixture_count": len(fixtures),
        "total_divergences": sum(one["total_divergences"] for one in fixtures),
        "failing_count": failing,
        "unexplained_count": failing,
        "missing_expected": [],
        "by_class": {"OUTCOME_DIVERGENCE": 2},
        "failing_divergences": [],
        "problems": [HOSTILE] if failing else [],
        "fixtures": list(fixtures),
    }


def test_each_divergence_stands_side_by_side_with_its_differences_marked() -> None:
    text = regression_page(report(fixture("rd-1", "FAIL", divergence())))
    page = Page(text)
    check_alone(page)
    marked = [part.split("</mark>")[0] for part in text.split("<mark>")[1:]]
    assert [one.split(":")[0] for one in marked] == ["event.signal", "event.reason", "event.signal"]
    assert "unexplained" in page.shown
    assert "at 1.500 s of the session's clock" in page.shown


def test_expected_allowed_and_failing_are_told_apart() -> None:
    failing = fixture(
        "a", "FAIL", divergence(expected=True), divergence(expected=True), divergence(), problem=""
    )
    text = regression_page(report(failing))
    verdicts = re.findall(r'<span class="(?:good|bad)">([^<]+)</span><span class="soft">at', text)
    assert verdicts == ["expected, yet fails", "expected", "allowed"]


def test_a_side_that_has_no_record_or_no_json_is_shown_as_it_is() -> None:
    page = Page(regression_page(report(fixture("a", "PASS", divergence(recorded="", replayed="[" * 9_000)))))
    check_alone(page)
    assert "no such record" in page.shown


def test_an_identical_run_says_so_and_a_broken_fixture_does_not() -> None:
    assert "Every record came out" in Page(regression_page(report(fixture("a", "PASS")))).shown
    broken = Page(regression_page(report(fixture("a", "FAIL", problem="no recording"))))
    assert "Every record came out" not in broken.shown
    assert "no recording" in broken.shown
    check_alone(Page(regression_page({})))


def test_the_report_leaves_its_page_beside_its_json(tmp_path: Path) -> None:
    write_regression_report(report(fixture("rd-1", "PASS")), tmp_path / "regression-report.json")
    page = Page((tmp_path / "regression-report.html").read_text("utf-8"))
    assert page.data == json.loads((tmp_path / "regression-report.json").read_text("utf-8"))
