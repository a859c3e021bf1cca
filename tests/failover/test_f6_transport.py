"""F6: the transport is lost, comes back, or the caller's microphone delivers nothing."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from rspp.tooling.fault_call import FaultCall, fault_after


def lose(call: FaultCall, state: str, reason: str = "") -> None:
    sink = call.transport.sink
    assert sink is not None
    sink.on_connection(state, reason)  # type: ignore[arg-type] # words of the contract


@pytest.mark.parametrize(
    ("state", "reason"), [("disconnected", "caller_vanished"), ("ended", "room_deleted")]
)
def test_f6_a_lost_transport_fences_aborts_and_closes(state: str, reason: str) -> None:
    call = FaultCall(fault_after(2_000))
    call.caller.on_fault(lambda: lose(call, state, reason))
    call.hold().check()
    assert call.ending(1) == ["abort", "close"]
    assert call.signals("abort") == [("abort", "transport_disconnect_or_stall")]
    assert call.signals(state) == [(state, reason)]
    assert call.session.reason == reason
    assert call.silent_after(call.caller.begun_ms["fault"])
    assert call.lease_is_free


def test_f6_a_connection_that_comes_back_costs_no_word() -> None:
    call = FaultCall(fault_after(12_000))

    def break_for_a_second() -> None:
        lose(call, "reconnecting")
        asyncio.get_running_loop().call_later(1.0, lambda: lose(call, "connected"))

    call.caller.on_fault(break_for_a_second)
    call.hold().check()
    whole = FaultCall(fault_after(12_000)).hold()
    assert call.signals("abort") == []
    assert call.ending(1) == ["commit", "close"]
    heard, usual = (one.caller.heard[one.caller.heard != 0] for one in (call, whole))
    assert np.array_equal(heard, usual)
    begun = call.caller.begun_ms["fault"]
    assert not np.any(call.caller.heard[(begun + 60) * 24 : (begun + 950) * 24])


@pytest.mark.parametrize("state", ["stall", "silence", "muted"])
def test_f6_a_microphone_that_delivers_nothing_is_told_apart_and_ends_no_turn(state: str) -> None:
    call = FaultCall(fault_after(12_000))
    call.caller.on_fault(lambda: lose(call, state))
    call.hold().check()
    assert [name for name, _ in call.signals("stall", "silence", "muted")] == [state]
    assert call.signals("abort") == []
    assert call.ending(1) == ["commit", "close"]
