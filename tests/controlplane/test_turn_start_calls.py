"""Whole calls under a control plane: real components, files and HTTP servers, in virtual time."""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from rspp.controlplane.refreshing import ControlPlane
from rspp.controlplane.settings import ControlPlaneSettings
from rspp.controlplane.sources import EnvironmentSource, FileSource, HttpSource
from rspp.evidence.baseline_reading import entries_of
from rspp.replay.compare import trace_of
from rspp.session.foreign_words import MOST, UNLISTED, ForeignWords
from rspp.tooling.fault_call import ANSWER, ASK, PIPELINE, QUESTION, FaultCall, refused_before_open
from rspp.tooling.fault_snapshots import FaultSnapshots, admission, deauthorised, marked_stale
from tests.controlplane.snapshots import put, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rspp.contracts.turn_start import TurnStart, TurnStartRequest
    from rspp.controlplane.sources import Source
    from rspp.tooling.faults import Record, Step
    from tests.controlplane.snapshots import Change, Document

HANG_UP: Step = {"do": "hang_up"}
ONCE = (*ASK, {"do": "pause", "name": "fault", "ms": 2_500}, HANG_UP)
FAST: dict[str, Any] = {"cache_ttl_ms": 100, "max_staleness_ms": 900}


def call_under(snapshots: FaultSnapshots, steps: tuple[Step, ...] = ONCE, **settings: Any) -> FaultCall:
    return FaultCall(steps, control_plane=snapshots.settings(**settings))


def from_source(*sources: Source, steps: tuple[Step, ...] = ONCE) -> FaultCall:
    return FaultCall(steps, control_plane=ControlPlaneSettings(sources=sources, **FAST)).hold()


def refused_by(change: Change, **settings: Any) -> FaultCall:
    """Ask once; what the control plane says changes as the question begins."""
    snapshots = FaultSnapshots(PIPELINE)
    call = call_under(snapshots, **settings)
    call.caller.on_step("question", lambda: snapshots.publish(change))
    return call.hold()


def told(call: FaultCall) -> list[Record]:
    return [record for record in call.records if record["kind"] == "input" and record["name"] == "turn_start"]


def plan_hashes(call: FaultCall) -> list[str]:
    """The hash of each plan, in order."""
    return [record["plan_hash"] for record in call.records if "plan_hash" in record]


# ------------------------------------------------------------------ one artifact, three ways


@pytest.mark.conformance("CT-006")
@pytest.mark.parametrize(
    "change", [None, admission("reject"), deauthorised], ids=["admitted", "rejected", "deauthorised"]
)
def test_one_artifact_decides_the_same_by_file_variable_and_http(
    change: Callable[[dict[str, Any]], None] | None, tmp_path: Path
) -> None:
    snapshots = FaultSnapshots(PIPELINE)
    snapshots.publish(change)
    path = tmp_path / "snapshot.json"
    path.write_bytes(snapshots.data)
    by_file = from_source(FileSource(path))
    by_variable = from_source(EnvironmentSource("SNAPSHOT", {"SNAPSHOT": snapshots.data.decode()}))
    with serving(snapshots.data) as server:
        by_http = from_source(HttpSource(server.url, timeout_ms=2000))
    assert server.requests
    assert by_file.timeline.lines == by_variable.timeline.lines == by_http.timeline.lines
    assert refused_before_open(by_file.records) is (change is not None)


@pytest.mark.conformance("CT-006")
def test_a_partial_outage_changes_no_decision(tmp_path: Path) -> None:
    snapshots = FaultSnapshots(PIPELINE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = HttpSource(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_ms=2000)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with serving(snapshots.data) as server:
        whole = from_source(HttpSource(server.url, timeout_ms=2000))
        partial = from_source(nobody, FileSource(broken), HttpSource(server.url, timeout_ms=2000))
    assert partial.check().timeline.lines == whole.timeline.lines


# ------------------------------------------------------------------ what refuses a turn


def other_profile(document: Document) -> None:
    """A change: the registry has the pipeline under a profile that it does not run under."""
    for record in document["registry"]["records"].values():
        record["execution_profile"] = "turbo"


@pytest.mark.conformance("CT-006")
@pytest.mark.parametrize(
    ("change", "outcome", "reason", "by", "scope"),
    [
        (marked_stale, "defer", "snapshot_invalid_or_missing", "RK-25", "turn"),
        (put("tenant_id", "somebody"), "defer", "snapshot_invalid_or_missing", "RK-25", "turn"),
        (other_profile, "defer", "turn_start_bundle_resolution_failed", "RK-25", "turn"),
        (admission("reject"), "reject", "cp_admission_reject_policy", "CP-05", "session"),
        (admission("defer", "tenant"), "defer", "cp_admission_defer_capacity", "CP-05", "tenant"),
        (admission("perhaps"), "reject", "cp_admission_reject_policy", "CP-05", "session"),
        (deauthorised, "deauthorized_drain", "authority_revoked_before_open", "RK-24", "turn"),
        (
            put("lease/default/authority_epoch_valid", False),
            "stale_epoch_reject",
            "authority_epoch_mismatch",
            "RK-24",
            "turn",
        ),
        (
            put("lease/default/authority_epoch", 9),
            "stale_epoch_reject",
            "authority_epoch_mismatch",
            "RK-24",
            "turn",
        ),
    ],
)
def test_what_the_control_plane_does_not_let_open_is_refused_the_same_every_time(
    change: Change, outcome: str, reason: str, by: str, scope: str
) -> None:
    call = refused_by(change)
    assert refused_before_open(call.records)
    assert call.problems() == []
    refused = call.decisions(outcome)[0]
    assert (refused["reason"], refused["emitted_by"], refused["phase"], refused["scope"]) == (
        reason,
        by,
        "pre_turn",
        scope,
    )
    assert ("turn_id" in refused) is (scope == "turn")
    assert (False, ANSWER) not in call.caller.transcripts
    assert refused_by(change).timeline.lines == call.timeline.lines


def test_the_operator_chooses_what_becomes_of_turns_without_a_snapshot() -> None:
    assert refused_by(marked_stale, snapshot_failure="reject").decisions("defer") == []
    assert refused_by(marked_stale, snapshot_failure="reject").decisions("reject")
    assert refused_by(other_profile, plan_failure="reject").decisions("defer") == []
    assert refused_by(other_profile, snapshot_failure="reject").decisions("defer")


@pytest.mark.conformance("G-01")
def test_a_control_plane_that_is_gone_for_too_long_lets_no_turn_open() -> None:
    snapshots = FaultSnapshots(PIPELINE)
    call = call_under(snapshots)
    call.caller.on_step("question", lambda: setattr(snapshots, "gone", True))
    call.hold()
    assert refused_before_open(call.records)
    assert call.decisions("defer")[0]["reason"] == "snapshot_invalid_or_missing"


@pytest.mark.conformance("G-01")
def test_a_session_that_may_not_speak_does_not_get_to_because_the_control_plane_is_gone() -> None:
    snapshots = FaultSnapshots(PIPELINE)
    again: Step = {"do": "say", "text": QUESTION, "name": "again"}
    steps = (*ASK, {"do": "pause", "ms": 2_000}, again, {"do": "pause", "ms": 4_500}, HANG_UP)
    call = call_under(snapshots, steps)
    call.caller.on_step("question", lambda: snapshots.publish(deauthorised))
    call.caller.on_step("again", lambda: setattr(snapshots, "gone", True))
    call.hold()
    assert refused_before_open(call.records)
    assert [one["reason"] for one in call.decisions("deauthorized_drain")] == [
        "authority_revoked_before_open"
    ]
    assert [one["reason"] for one in call.decisions("defer")] == ["snapshot_invalid_or_missing"]


@pytest.mark.conformance("CT-006")
def test_a_deferred_turn_opens_when_the_source_is_back() -> None:
    snapshots = FaultSnapshots(PIPELINE)
    steps = (*ASK, {"do": "pause", "ms": 1_500}, {"do": "pause", "name": "fault", "ms": 15_000}, HANG_UP)
    call = call_under(snapshots, steps)
    call.caller.on_step("question", lambda: setattr(snapshots, "gone", True))
    call.caller.on_fault(lambda: setattr(snapshots, "gone", False))
    call.hold().check()
    assert [decision["reason"] for decision in call.decisions("defer")] == ["snapshot_invalid_or_missing"]
    assert call.decisions("reject") == []
    assert (False, ANSWER) in call.caller.transcripts
    back_us = told(call)[0]["at_us"] + call.caller.begun_ms["fault"] * 1000
    renewed_us = next(record["at_us"] for record in told(call) if record["at_us"] >= back_us)
    opened = [record["at_us"] for record in call.records if record.get("to") == "Active"]
    assert renewed_us - back_us <= 100_000
    assert opened[0] == renewed_us, "the turn opens at the moment of the first snapshot that comes"


# ------------------------------------------------------------------ versions, and the way of a turn


@pytest.mark.conformance("M-16")
def test_going_back_in_version_is_refused_and_does_not_renew_what_is_in_force() -> None:
    snapshots = FaultSnapshots(PIPELINE)
    snapshots.publish()
    call = call_under(snapshots)
    call.caller.on_step("question", lambda: snapshots.publish(admission("admit"), back=1))
    call.hold()
    assert {record["version"] for record in told(call)} == {2}
    assert refused_before_open(call.records)
    assert call.decisions("defer")[0]["reason"] == "snapshot_invalid_or_missing"


@pytest.mark.conformance("M-16")
def test_a_source_that_does_not_answer_is_not_on_the_way_of_a_turn() -> None:
    """While a snapshot holds, a turn opens at the same microsecond whether the source answers or not."""
    opened = []
    for gone in (False, True):
        snapshots = FaultSnapshots(PIPELINE)
        call = call_under(snapshots, cache_ttl_ms=2_000, max_staleness_ms=10_000)
        call.caller.on_step("question", partial(setattr, snapshots, "gone", gone))
        call.hold().check()
        opened.append([record["at_us"] for record in call.records if record.get("to") == "Active"])
    assert opened[0] == opened[1]


@pytest.mark.conformance("G-08")
def test_a_running_turn_keeps_its_plan_and_the_next_one_has_the_new_snapshot() -> None:
    again: Step = {"do": "say", "text": QUESTION, "name": "again"}
    during: Step = {"do": "pause", "name": "fault", "ms": 13_000}
    steps = (
        *ASK,
        {"do": "wait_agent_speaking", "ms": 800},
        during,
        again,
        {"do": "pause", "ms": 2_500},
        HANG_UP,
    )
    calls = []
    for change in (None, put("policy/default/allowed_adaptive_actions", [])):
        snapshots = FaultSnapshots(PIPELINE)
        call = call_under(snapshots, steps)
        if change is not None:
            call.caller.on_fault(partial(snapshots.publish, change))
        calls.append(call.hold().check())
    unchanged, changed = calls
    assert {record["version"] for record in told(changed)} == {1, 2}
    assert changed.ending(1) == ["commit", "close"]
    assert plan_hashes(changed)[0] == plan_hashes(unchanged)[0]
    assert plan_hashes(changed)[1] != plan_hashes(unchanged)[1]


def test_without_a_control_plane_plans_say_that_nobody_manages_them() -> None:
    call = FaultCall(ONCE).hold().check()
    settings = call.timeline.headers[0]["settings"]
    provenance = json.loads(settings["plan"]["policy_json"])["snapshot_provenance"]
    assert provenance["routing_view_snapshot"] == "routing-view/unmanaged"
    assert "needs_bundle" not in settings["policy"]
    assert told(call) == []


def test_a_session_that_has_ended_is_followed_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    follow = ControlPlane.follow

    def spied(
        plane: ControlPlane, request: TurnStartRequest, listener: Callable[[TurnStart], None]
    ) -> Callable[[], None]:
        leave = follow(plane, request, listener)

        def leave_and_count() -> None:
            leave()
            left.append(len(plane._followers))

        return leave_and_count

    monkeypatch.setattr(ControlPlane, "follow", spied)
    call_under(FaultSnapshots(PIPELINE)).hold()
    assert left == [0]


def test_a_minute_tells_a_session_eight_times_at_most() -> None:
    steps = ({"do": "pause", "ms": 55_000}, HANG_UP)
    call = FaultCall(
        steps, control_plane=FaultSnapshots(PIPELINE).settings(cache_ttl_ms=2_000, max_staleness_ms=10_000)
    ).hold()
    assert 5 <= len(told(call)) <= 8


def test_reasons_that_change_with_each_snapshot_leave_room_for_other_words() -> None:
    """A kernel keeps 64 words from outside, and those of its providers are among them."""

    class Chatty(FaultSnapshots):
        def read(self) -> bytes:
            number = self.version + 1
            self.publish(lambda made: made["admission"]["default"].update(reason=f"ticket {number}"))
            return super().read()

    snapshots = Chatty(PIPELINE)
    call = call_under(snapshots, ({"do": "pause", "ms": 9_000}, *ONCE)).hold().check()
    reasons = [record["admission_reason"] for record in told(call)]
    assert snapshots.version > 64
    assert len(reasons) > 64
    assert reasons[:MOST] == [f"ticket {number + 2}" for number in range(MOST)]
    assert set(reasons[MOST:]) == {UNLISTED}
    assert not refused_before_open(call.records)


@pytest.mark.parametrize("word", ["", "cp_admission_reject_policy", UNLISTED])
def test_what_a_kernel_knows_already_takes_no_room(word: str) -> None:
    words = ForeignWords(most=1)
    assert [words.bounded(one) for one in (word, "a", "b", "a", word)] == [word, "a", UNLISTED, "a", word]


@pytest.mark.conformance("CT-004")
def test_the_evidence_of_a_turn_has_the_snapshots_that_its_plan_came_from() -> None:
    snapshots = FaultSnapshots(PIPELINE)
    call = call_under(snapshots, (*ASK, {"do": "pause", "ms": 2_500}, HANG_UP))
    call.caller.on_step("question", snapshots.publish)
    call.hold().check()
    (entry,) = entries_of(call.records, call.timeline.headers, clock="virtual")
    assert entry.snapshot_provenance["routing_view_snapshot"] == "routing-view/2"
    assert entry.plan_matches is True
    (frozen,) = [
        one.provenance
        for one in trace_of(call.records, call.timeline.headers)
        if one.what in ("commit", "abort")
    ]
    assert json.loads(frozen) == entry.snapshot_provenance
