"""F8: another runtime takes the call over, and a call moves to another placement."""

from __future__ import annotations

import numpy as np
import pytest

from rspp._kernel import STALE_EPOCH
from rspp.authority.store import TTL_MS
from rspp.contracts.validation import check_stream
from rspp.tooling.fault_call import ASK, FaultCall, TakeoverCall, fault_after


@pytest.fixture(scope="module")
def runtimes() -> TakeoverCall:
    first = FaultCall(fault_after(9_000))
    second = FaultCall(({"do": "pause", "ms": 3_500}, *ASK, {"do": "pause", "ms": 2_000}, {"do": "hang_up"}))
    return TakeoverCall(first, second).hold()


@pytest.mark.conformance("AE-003")
def test_f8_the_old_placement_is_silent_before_the_new_one_speaks(runtimes: TakeoverCall) -> None:
    audible = np.flatnonzero(runtimes.first.caller.heard)
    last_ms = int(audible[-1]) // 24
    assert last_ms < runtimes.taken_ms
    first_ms = runtimes.taken_ms + int(np.flatnonzero(runtimes.second.caller.heard)[0]) // 24
    assert last_ms < first_ms <= last_ms + TTL_MS + 2_000
    assert runtimes.first.session.reason == "lease_expired"


def test_f8_the_old_one_drains_aborts_and_closes(runtimes: TakeoverCall) -> None:
    runtimes.first.check()
    assert runtimes.first.ending(1) == ["abort", "close"]
    assert runtimes.first.signals("deauthorized_drain", "abort") == [
        ("deauthorized_drain", "authority_revoked_in_turn"),
        ("abort", "authority_loss"),
    ]
    assert runtimes.first.transport.left == 1


def test_f8_the_new_one_says_so_and_goes_on_under_a_higher_epoch(runtimes: TakeoverCall) -> None:
    runtimes.second.check()
    assert runtimes.second.lease.epoch == runtimes.first.lease.epoch + 1
    assert runtimes.second.lease.resumed
    told = [text for of_caller, text in runtimes.second.caller.transcripts if not of_caller]
    assert told[0] == "Sorry, I lost you."
    assert [text for of_caller, text in runtimes.second.caller.transcripts if of_caller] == [ASK[1]["text"]]


def test_f8_a_takeover_leaves_the_steps_of_its_migration_in_order(runtimes: TakeoverCall) -> None:
    moments = ("lease_issued", "lease_rotated", "migration_start", "migration_finish", "turn_open")
    assert [name for name, _ in runtimes.second.signals(*moments)][:5] == list(moments)
    reattached = [record for record in runtimes.second.records if record.get("name") == "state_reattached"]
    assert [(record["kind"], record["value"]) for record in reattached] == [("marker", 2)]
    assert runtimes.first.signals("lease_rotated", "migration_start") == []


def test_f8_an_old_holder_that_hears_of_its_successor_records_its_side() -> None:
    call = FaultCall(fault_after(4_000))

    def give_away() -> None:
        call.store.revoke(call.lease)
        assert call.store.acquire("call", "next", TTL_MS, {}).epoch == 2

    call.caller.on_fault(give_away)
    call.hold().check()
    moments = ("lease_rotated", "migration_start", "deauthorized_drain", "abort", "close")
    assert [name for name, _ in call.signals(*moments)] == list(moments)
    assert call.session.reason == "lease_stale_epoch"
    rotated = next(record for record in call.records if record.get("name") == "migration")
    assert (rotated["step"], rotated["epoch"]) == ("rotated", 2)


@pytest.mark.conformance("AE-002")
def test_f8_an_old_holder_that_meets_its_successor_in_the_room_loses_its_authority() -> None:
    call = FaultCall(fault_after(4_000))

    def meet() -> None:
        assert call.transport.sink is not None
        call.transport.sink.on_successor(2)
        call.transport.sink.on_connection("ended", "superseded")

    call.caller.on_fault(meet)
    call.hold().check()
    moments = ("lease_rotated", "migration_start", "deauthorized_drain", "abort", "close", "ended")
    assert call.signals(*moments) == [
        ("lease_rotated", "authority_epoch_rotation"),
        ("migration_start", "region_failover_start"),
        ("deauthorized_drain", "authority_revoked_in_turn"),
        ("abort", "authority_loss"),
        ("close", ""),
    ]
    views = [record["value"] for record in call.records if record.get("name") == "routing_view_supersedes"]
    assert views == [2]
    assert call.session.reason == "lease_stale_epoch"
    assert call.silent_after(call.caller.begun_ms["fault"])


def test_f8_who_claims_an_epoch_below_the_lease_takes_nothing() -> None:
    call = FaultCall(fault_after(12_000), earlier_epochs=2)

    def claim() -> None:
        assert call.transport.sink is not None
        call.transport.sink.on_successor(2)

    call.caller.on_fault(claim)
    call.hold().check()
    assert call.lease.epoch == 3
    assert call.ending(1) == ["commit", "close"]
    assert call.signals("lease_rotated", "deauthorized_drain") == []
    refused = [record["value"] for record in call.records if record.get("name") == "migration_step_refused"]
    assert refused == [2, 2]


def test_f8_one_recording_of_both_keeps_every_rule(runtimes: TakeoverCall) -> None:
    lines = [*runtimes.first.timeline.lines, *runtimes.second.timeline.lines]
    assert check_stream(iter(lines)).faults == []
    ids = [
        record["event"]["event_id"]
        for call in (runtimes.first, runtimes.second)
        for record in call.records
        if record["kind"] == "signal"
    ]
    assert len(ids) == len(set(ids))


@pytest.mark.conformance("AE-003")
def test_f8_what_the_old_placement_still_sends_is_refused_by_the_new() -> None:
    refused = FaultCall(fault_after(12_000))
    verdicts: list[object] = []

    def stale() -> None:
        refused.session._perform(refused.session.kernel.lease(refused.session._step_time(), 2, 2**50))
        now = refused.clock.now_us()
        verdicts.extend([refused.session.kernel.frame(now, 1, 1, 10**6, 480)])
        verdicts.append(refused.session.kernel.ingress(now, 1)[0])

    refused.caller.on_fault(stale)
    refused.hold().check()
    assert verdicts == [STALE_EPOCH, "stale"]
    assert refused.decisions("stale_epoch_reject")[0]["scope"] == "node_dispatch"


def move(call: FaultCall, *steps: str) -> None:
    session = call.session
    for step in steps:
        session._perform(session.kernel.migration(session._step_time(), step, 2))


def test_f8_a_migration_drains_the_old_placement_in_order() -> None:
    call = FaultCall(fault_after(4_000))
    call.caller.on_fault(lambda: move(call, "rotated", "started"))
    call.hold().check()
    moments = ("lease_rotated", "migration_start", "deauthorized_drain", "abort", "close")
    assert call.signals(*moments) == [
        ("lease_rotated", "authority_epoch_rotation"),
        ("migration_start", "region_failover_start"),
        ("deauthorized_drain", "authority_revoked_in_turn"),
        ("abort", "authority_loss"),
        ("close", ""),
    ]
    assert call.transport.left == 1
    assert call.silent_after(call.caller.begun_ms["fault"])


def test_f8_a_migration_goes_on_at_the_new_placement() -> None:
    call = FaultCall((*ASK, {"do": "pause", "ms": 1_500}, {"do": "hang_up"}), earlier_epochs=1)
    call.caller.on_step(
        "question", lambda: move(call, "rotated", "started", "reattached", "finished", "handed_off")
    )
    call.hold().check()
    moments = ("lease_rotated", "migration_start", "migration_finish", "session_handoff")
    assert [name for name, _ in call.signals(*moments)] == list(moments)
    assert "state_reattached" in [record["name"] for record in call.records if record["kind"] == "marker"]
    assert call.lease.epoch == 2
    assert np.any(call.caller.heard)
