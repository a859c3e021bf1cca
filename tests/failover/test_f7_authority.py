"""F7: authority is lost or contested: at the gate, at ingress, before a turn and within one."""

from __future__ import annotations

import pytest

from rspp._kernel import LEASE_EXPIRED, STALE_EPOCH
from rspp.tooling.fault_call import ASK, FaultCall, fault_after

pytestmark = pytest.mark.quick

LOST = ("deauthorized_drain", "abort", "close")
SEQUENCE = [
    ("deauthorized_drain", "authority_revoked_in_turn"),
    ("abort", "authority_loss"),
    ("close", ""),
]


def held(call: FaultCall) -> FaultCall:
    return call.hold().check()


def test_f7_ae_002_a_revoked_lease_drains_aborts_and_closes_within_a_renewal() -> None:
    call = FaultCall(fault_after(4_000))
    call.caller.on_fault(lambda: call.store.revoke(call.lease))
    held(call)
    assert call.signals(*LOST) == SEQUENCE
    (drain,) = call.decisions("deauthorized_drain")
    assert (drain["phase"], drain["scope"], drain["authority_epoch"]) == ("active_turn", "turn", 1)
    assert call.transport.left == 1
    assert call.session.reason == "lease_deauthorized"
    assert call.silent_after(call.caller.begun_ms["fault"], within_ms=1_100)


@pytest.mark.conformance("G-01", "G-26")
def test_f7_a_store_that_cannot_be_reached_closes_the_gate_at_the_local_deadline() -> None:
    call = FaultCall(fault_after(7_000))
    call.caller.on_fault(lambda: setattr(call.store, "partitioned", True))
    held(call)
    assert call.signals(*LOST) == SEQUENCE
    assert call.session.reason == "lease_expired"
    # The deadline lies between 2,750 and 3,750 ms after the fault: the last renewal was up to 1 s before it.
    begun = call.caller.begun_ms["fault"]
    lost = next(record["at_us"] for record in call.records if record.get("name") == "gate_closed")
    start = next(record["started_us"] for record in call.records if record["kind"] == "header")
    assert 2_750 <= (lost - start) / 1_000 - begun <= 3_760
    assert call.silent_after((lost - start) // 1_000)
    assert call.session.kernel.frame(call.ended_us, 1, 1, 10**6, 480) == LEASE_EXPIRED


@pytest.mark.conformance("G-01")
def test_f7_a_revoke_with_the_store_unreachable_afterwards_stays_a_revoke() -> None:
    call = FaultCall((*ASK, {"do": "pause", "ms": 6_000}, {"do": "hang_up"}))
    call.caller.on_step("question", lambda: setattr(call.store, "partitioned", True))
    held(call)
    opened = [record for record in call.records if record["kind"] == "signal"]
    assert [record["event"]["signal"] for record in opened].count("turn_open") == 1
    assert call.signals(*LOST)[-3:] == SEQUENCE


def test_f7_ae_005_without_authority_no_turn_opens() -> None:
    call = FaultCall((*ASK, {"do": "pause", "ms": 500}, {"do": "hang_up"}))
    call.caller.on_step("question", lambda: call.session._lost("lease_deauthorized"))
    call.hold()
    assert not {name for name, _ in call.signals("turn_open", "commit", "abort", "close")}
    assert call.transport.left == 1
    # An intent that still comes is refused with the reason for it.
    call.session.kernel.text_message(call.ended_us, 1)
    refused = [b for b in call.session.kernel.drain_evidence(64) if b'"deauthorized_drain"' in b]
    assert any(b'"phase":"pre_turn"' in line for line in refused)


def test_f7_ae_002_a_cancel_at_the_same_point_does_not_hide_the_loss() -> None:
    call = FaultCall(fault_after(1_000))

    def both() -> None:
        call.session._lost("lease_deauthorized")
        call.session._perform(call.session.kernel.cancel(call.session._step_time(), "stop"))

    call.caller.on_fault(both)
    held(call)
    assert call.signals("abort") == [("abort", "authority_loss")]


def test_f7_ae_003_stale_output_and_stale_events_are_refused_and_move_nothing() -> None:
    verdicts: list[int] = []
    ingress: list[tuple[str, int]] = []
    call = FaultCall(fault_after(12_000))

    def stale() -> None:
        kernel, now = call.session.kernel, call.clock.now_us()
        verdicts.extend(kernel.frame(now, 1, epoch, 10**6, 480) for epoch in (0, 7))
        ingress.extend(kernel.ingress(now, epoch) for epoch in (0, 1, None))

    call.caller.on_fault(stale)
    held(call)
    assert verdicts == [STALE_EPOCH, STALE_EPOCH]
    assert [verdict for verdict, _ in ingress] == ["stale", "accepted", "enriched"]
    assert call.signals("stale_epoch_reject")
    assert all(
        (found["phase"], found["scope"]) in (("scheduling_point", "node_dispatch"), ("pre_turn", "session"))
        or found["phase"] == "scheduling_point"
        for found in call.decisions("stale_epoch_reject")
    )
    assert call.signals("abort") == []
    assert call.ending(1) == ["commit", "close"]
    assert (call.session.kernel.stale_frames, call.session.kernel.stale_events) == (2, 1)
