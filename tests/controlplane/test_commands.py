"""``rspp-cli resolve-turn-start`` and ``snapshot-template``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rspp.cli.main import run
from tests.controlplane.snapshots import Change, drop, put

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "rspp" / "pipeline" / "examples" / "front-desk.yaml"

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def template(capsys: Capture) -> dict[str, Any]:
    assert run(["snapshot-template", str(EXAMPLE), "--snapshot-version", "3"]) == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


@pytest.fixture
def resolve(
    template: dict[str, Any], tmp_path: Path, capsys: Capture
) -> Callable[..., tuple[int, dict[str, Any]]]:
    def ask(*changes: Change) -> tuple[int, dict[str, Any]]:
        for change in changes:
            change(template)
        path = tmp_path / "snapshot.json"
        path.write_text(json.dumps(template))
        status = run(["resolve-turn-start", str(EXAMPLE), "--control-plane", str(path), "--json"])
        return status, json.loads(capsys.readouterr().out)

    return ask


def test_a_template_opens_turns(resolve: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    status, answer = resolve()
    assert status == 0
    assert answer["turn"] == {"outcome": "open", "reason": "", "decided_by": ""}
    assert answer["bundle"]["snapshot_version"] == 3
    assert answer["bundle"]["sources"]["CP-05"] == "admission.default"


@pytest.mark.parametrize(
    ("change", "outcome", "decided_by"),
    [
        (put("lease/default/authority_epoch_valid", False), "stale_epoch_reject", "RK-24"),
        (put("lease/default/authority_authorized", False), "deauthorized_drain", "RK-24"),
        (put("admission/default/outcome_kind", "reject"), "reject", "CP-05"),
        (put("admission/default/outcome_kind", "defer"), "defer", "CP-05"),
        (put("policy/stale", True), "defer", "RK-25"),
        (drop("lease"), "defer", "RK-25"),
        (put("registry/records", {"other@v1": {}}), "defer", "RK-25"),
    ],
)
def test_what_refuses_a_turn_is_told_with_status_1(
    resolve: Callable[..., tuple[int, dict[str, Any]]], change: Change, outcome: str, decided_by: str
) -> None:
    status, answer = resolve(change)
    assert status == 1
    assert (answer["turn"]["outcome"], answer["turn"]["decided_by"]) == (outcome, decided_by)


def test_people_are_shown_where_each_part_is_from(
    template: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(template))
    assert run(["resolve-turn-start", str(EXAMPLE), "--control-plane", str(path)]) == 0
    said = capsys.readouterr().out
    assert "routing_view_snapshot        routing-view/3" in said
    assert "policy.default" in said
    assert "a turn would open" in said
    assert "\x1b" not in said
    template["lease"]["default"]["authority_authorized"] = False
    path.write_text(json.dumps(template))
    assert run(["resolve-turn-start", str(EXAMPLE), "--control-plane", str(path)]) == 1
    assert "no turn would open: deauthorized_drain by RK-24" in capsys.readouterr().out
    del template["lease"]
    path.write_text(json.dumps(template))
    assert run(["resolve-turn-start", str(EXAMPLE), "--control-plane", str(path)]) == 1
    assert "snapshot_missing: lease is missing (CP-07)" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["", "none.json", "http://example.com/x", "env:NONE"])
def test_bad_input_is_status_2_with_a_remedy(
    given: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["resolve-turn-start", str(EXAMPLE), "--control-plane", given]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: " in said.err
    assert "hint: " in said.err
    assert "Traceback" not in said.err
