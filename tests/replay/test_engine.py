"""Replays of whole recorded calls, from their files: identical, or different where something was changed."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rspp.cli.main import run
from rspp.contracts.errors import EvidenceError
from rspp.evidence.reader import KernelBlock, Recording, open_recording
from rspp.replay.engine import MODES, ReplayCursor, allowed_modes, recompute, take_decisions
from rspp.replay.inputs import kernel_of
from rspp.tooling.golden import ROOT
from tests.replay.test_audio import FULL, hold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.evidence.reader import Stint


GOLDEN = Path(__file__).parents[2] / "replay" / "recordings"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return hold(tmp_path_factory.mktemp("engine"), FULL)[1]


def test_a_recorded_call_replays_to_the_identical_trace(recording: Recording) -> None:
    result = recompute(recording)
    assert result.identical
    (stint,) = result.stints
    assert stint.compared == stint.records
    assert stint.inputs > 500
    assert result.document()["identical"] is True


def test_recorded_decisions_keep_the_contracts(recording: Recording) -> None:
    result = take_decisions(recording)
    assert result.identical, result.stints
    assert result.stints[0].records > 500


def test_a_changed_threshold_diverges_in_the_turn_that_it_changes(recording: Recording) -> None:
    result = recompute(recording, {"policy": {"confirm_ms": 200}})
    assert not result.identical
    assert "OUTCOME_DIVERGENCE" in {found.class_ for found in result.divergences}
    first = result.divergences[0]
    assert first.recorded or first.replayed


def test_a_changed_plan_diverges_in_every_turn(recording: Recording) -> None:
    result = recompute(recording, {"plan": {"execution_profile": "other"}})
    assert [found.scope for found in result.divergences if found.class_ == "PLAN_DIVERGENCE"] == [
        "turn:turn-1-1",
        "turn:turn-1-2",
    ]


def test_the_cursor_stands_where_it_is_told(recording: Recording) -> None:
    cursor = ReplayCursor(recording.stints[0])
    assert cursor.step(5) == 5
    assert cursor.state()["position"] == 5
    assert cursor.to_turn(2)
    state = cursor.state()
    assert (state["turn"], state["turn_state"], state["divergences"]) == (2, "Active", 0)
    cursor.to_ms(11_000)
    assert cursor.state()["turn"] == 0
    assert not cursor.to_turn(9)


def test_the_commands_say_what_came_out(recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(recording.path)
    assert run(["replay", path]) == 0
    assert "identical" in capsys.readouterr().out
    assert run(["replay", path, "--json", "--set", "policy.confirm_ms=200"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["identical"], document["mode"]) == (False, "recompute_decisions")
    assert run(["replay", path, "--mode", "replay_decisions"]) == 0
    capsys.readouterr()
    assert run(["replay", path, "--mode", "playback_recorded_provider_outputs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differing_turns"] == 0
    assert run(["replay", path, "--to-turn", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["turn"] == 2
    assert run(["what-if", path, "--set", "policy.complete_wait_ms=900", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differing_turns"] == 2


def test_the_cursor_stands_in_each_stint_of_a_call_that_was_taken_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for choice in ([], ["--stint", "1"], ["--stint", "2"]):
        assert run(["replay", str(ROOT / "room-002-takeover"), "--to-turn", "1", *choice, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [(state["stint"], state["turn"], state["epoch"]) for state in found] == [
        (2, 1, 2),
        (1, 1, 1),
        (2, 1, 2),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "no-such-call"], "neither a path nor the id"),
        (["what-if", "{}"], "nothing is changed"),
        (["replay", "{}", "--set", "confirm_ms=3"], "is not a setting"),
        (["replay", "{}", "--set", "policy.confirm_ms=-3"], "confirm_ms"),
        (["replay", "{}", "--to-turn", "77"], "no such turn"),
        (["replay", "{}", "--mode", "replay_decisions", "--set", "policy.confirm_ms=3"], "no effect"),
        (["render-audio", "{}", "--out", "x.wav", "--role", "guest", "--purpose", "debug"], "denied"),
        (["replay", "{}", "--mode", "re_simulate_nodes", "--set", "policy.confirm_ms=3"], "no effect"),
        (["replay", "{}", "--mode", "replay_decisions", "--steps", "3", "--set", "policy.x=3"], "no effect"),
        (["replay", "{}", "--mode", "playback_recorded_provider_outputs", "--steps", "3"], "no effect"),
        (["replay", "{}", "--stint", "1"], "--stint 1 has no effect alone"),
        (["replay", "{}", "--steps", "3", "--stint", "2"], "--stint 2: the recording has 1 of them"),
        (["replay", "{}", "--steps", "3", "--stint", "0"], "--stint 0: the recording has 1 of them"),
        (["replay", "{}", "--steps", "-1"], "Must be >= 0"),
        (["replay", "{}", "--to-turn", "-1"], "Must be >= 0"),
        (["replay", "{}", "--to-ms", "99999999999999999999"], "Must be <= 2147483647"),
        (
            ["replay", "{}", "--set", "policy.nope=1"],
            "policy.nope: the kernel has no such setting hint: policy has",
        ),
        (["what-if", "{}", "--set", "plan.nope=1"], "plan.nope: the kernel has no such setting"),
        (["replay", "{}", "--set", "policy.confirm_ms=abc"], "error: policy.confirm_ms='abc': "),
        (["replay", "{}", "--set", "policy.confirm_ms=99999999999999999999"], "policy.confirm_ms=9999"),
    ],
)
def test_wrong_requests_are_told_in_one_sentence(
    recording: Recording, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run([argument.format(recording.path) for argument in arguments]) == 2
    shown = capsys.readouterr().err
    assert said in " ".join(shown.split())
    assert "Traceback" not in shown


def test_a_stint_that_names_neither_itself_nor_its_epoch_replays_all_the_same(recording: Recording) -> None:
    (stint,) = recording.stints
    nameless = {name: value for name, value in stint.header.items() if name not in ("stint", "epoch")}
    bare = Recording(recording.path, [dataclasses.replace(stint, header=nameless)], [])
    for result in (recompute(bare), take_decisions(bare)):
        assert result.identical
        assert (result.stints[0].stint, result.stints[0].epoch) == ("", 0)


@pytest.mark.parametrize(
    "settings", [None, [], {}, {"plan": {}}, {"plan": {"policy_json": "no json"}}], ids=str
)
def test_a_header_that_does_not_say_how_to_replay_is_an_error(recording: Recording, settings: object) -> None:
    (stint,) = recording.stints
    stint = dataclasses.replace(stint, header={**stint.header, "settings": settings})
    with pytest.raises(EvidenceError, match="does not say how the call may be replayed"):
        allowed_modes(stint)


@pytest.mark.parametrize(
    "command",
    [
        ["replay"],
        ["replay", "--mode", "replay_decisions"],
        ["replay", "--mode", "playback_recorded_provider_outputs"],
        ["replay", "--to-ms", "5"],
        ["what-if", "--set", "policy.confirm_ms=5"],
    ],
)
def test_a_recording_whose_header_was_cut_off_is_told_and_is_no_defect(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    whole = next(recording.path.glob("*.segment"))
    (tmp_path / whole.name).write_bytes(whole.read_bytes()[:60])
    assert run([command[0], str(tmp_path), *command[1:]]) == 2
    assert f"{whole.name}: its header" in capsys.readouterr().err


def test_damage_is_told_whatever_is_asked_and_in_seconds_of_the_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = next((GOLDEN / "room-001-barge-in").glob("*.segment"))
    data = bytearray(whole.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    (tmp_path / whole.name).write_bytes(data)
    assert run(["replay", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    at = re.search(r"inputs are missing from ([0-9.]+) s on", said)
    assert at is not None
    assert 1 < float(at[1]) < 12.8
    run(["what-if", str(tmp_path), "--set", "policy.confirm_ms=5"])
    assert f"damage: {whole.name}: byte" in capsys.readouterr().out
    run(["what-if", str(tmp_path), "--set", "policy.confirm_ms=5", "--json"])
    assert len(json.loads(capsys.readouterr().out)["damage"]) == 1
    run(["replay", str(tmp_path), "--mode", "replay_decisions"])
    assert "StreamFault" not in capsys.readouterr().out


def test_the_sound_is_written_for_whom_the_policy_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, kept = hold(tmp_path, FULL)
    policy: dict[str, Any] = {"tenant_id": "acme", "fidelities": ["L2"], "actions": {"audio_raw": "allow"}}
    (tmp_path / "acme" / "access.json").write_text(json.dumps(policy), "utf-8")
    out = tmp_path / "call.wav"
    asked = ["--role", "operator", "--purpose", "debug"]
    assert run(["render-audio", str(kept.path), "--out", str(out), *asked]) == 0
    assert out.stat().st_size > 24_000 * 4 * 11
    assert "12.0 s" in capsys.readouterr().err


def test_a_call_without_segments_cannot_be_run_again(tmp_path: Path) -> None:
    lines = tmp_path / "timeline.jsonl"
    lines.write_text('{"kind":"gap","records":1,"wall_ms":1}\n', "utf-8")
    with pytest.raises(EvidenceError, match="no stint"):
        recompute(open_recording(lines))


def test_a_mode_that_the_plan_does_not_allow_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = {"name": "careful", "recording": {"replay_modes": ["replay_decisions"]}}
    _, kept = hold(tmp_path, FULL, profile="careful", profiles={"careful": profile})
    assert allowed_modes(kept.stints[0]) == ("replay_decisions",)
    assert run(["replay", str(kept.path), "--mode", "replay_decisions"]) == 0
    for mode in set(MODES) - {"replay_decisions"}:
        assert run(["replay", str(kept.path), "--mode", mode]) == 2
        assert "allows replay_decisions" in " ".join(capsys.readouterr().err.split())
    assert run(["what-if", str(kept.path), "--set", "policy.confirm_ms=300"]) == 2


class FakeStint:
    """A sealed stint whose kernel wrote less about its only input than a kernel writes."""

    ended = True

    def __init__(self, whole: Stint) -> None:
        self.header = whole.header
        kernel = kernel_of(whole.header)
        kernel.lease(whole.header["created_us"], 1, whole.header["created_us"] + 4_000_000)
        self._block = KernelBlock(kernel.drain_records(1), "fake", 0)

    def kernel_blocks(self) -> Iterator[KernelBlock]:
        yield self._block


def test_what_is_missing_at_the_end_of_a_sealed_stint_is_told(recording: Recording) -> None:
    cursor = ReplayCursor(FakeStint(recording.stints[0]))  # type: ignore[arg-type]
    assert cursor.to_end() == 1
    assert [found.class_ for found in cursor.replay.divergences]
