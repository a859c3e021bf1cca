"""Lease, epoch and the gate: nobody speaks without authority."""

from __future__ import annotations

import pytest

from rspp._kernel import (
    FENCED,
    LEASE_EXPIRED,
    PASS,
    STALE_EPOCH,
    AgentState,
    CancelTurn,
    CloseTurn,
    LeaveRoom,
    OpenTurn,
    RefuseIntent,
)
from tests.kernel.fake_shell import LEASE_US, FakeShell, make_policy, names


def without_renewal(*, playing: int = 60_000) -> FakeShell:
    """A shell whose only lease runs out ``LEASE_US`` after its start."""
    shell = FakeShell()
    shell.renewing = False
    if playing:
        shell.open_text(playing=playing)
    return shell


def test_the_gate_closes_before_the_first_frame_after_a_pause() -> None:
    shell = without_renewal()
    shell.run(1_000)
    granted = shell.now_us - 1_000_000
    just_before = granted + LEASE_US - 1
    assert shell.kernel.frame(just_before, 1, 1, 900, 480) == PASS
    # The process was stopped here; the very next call it makes is a frame.
    assert shell.kernel.frame(granted + LEASE_US, 1, 1, 901, 480) == LEASE_EXPIRED
    assert shell.kernel.drained
    assert shell.kernel.next_deadline_us == granted + LEASE_US
    effects = shell.kernel.tick(granted + LEASE_US + 5)
    assert [type(effect) for effect in effects] == [CancelTurn, CloseTurn, LeaveRoom]
    assert shell.kernel.frame(granted + LEASE_US + 9, 1, 1, 902, 480) == LEASE_EXPIRED


def test_expiry_drains_the_turn_in_the_order_of_the_contract() -> None:
    shell = without_renewal()
    shell.run(5_000)
    assert shell.endings() == [(1, "abort", "authority_loss")]
    assert shell.effects(LeaveRoom)[0].reason == "lease_expired"
    assert shell.at(LeaveRoom) == shell.passed[0][0] + LEASE_US
    records = shell.evidence()
    drained = [record["decision"] for record in records if record["kind"] == "decision"][-1]
    assert (drained["outcome_kind"], drained["phase"], drained["scope"], drained["reason"]) == (
        "deauthorized_drain",
        "active_turn",
        "turn",
        "authority_revoked_in_turn",
    )
    ending = names(records, turn=1)
    assert ending[-6:] == [
        "output_accepted",
        "gate_closed",
        "deauthorized_drain",
        "frames_passed",
        "abort",
        "close",
    ]


def test_expiry_without_a_turn_leaves_the_room() -> None:
    shell = without_renewal(playing=0)
    shell.run(5_000)
    assert [type(effect) for _, effect in shell.log] == [LeaveRoom]


@pytest.mark.conformance("AE-002")
def test_a_cancel_at_the_instant_of_expiry_is_an_authority_loss() -> None:
    shell = without_renewal()
    effects = shell.kernel.cancel(shell.now_us + LEASE_US, "stop")
    assert [effect.reason for effect in effects if isinstance(effect, CancelTurn)] == ["authority_loss"]


@pytest.mark.conformance("G-26", "G-01")
def test_a_renewal_after_the_deadline_does_not_reopen() -> None:
    shell = without_renewal()
    shell.now_us += LEASE_US
    assert [type(effect) for effect in shell.renew()] == [CancelTurn, CloseTurn, LeaveRoom]
    assert not shell.renew(epoch=2)
    assert shell.kernel.drained
    assert shell.kernel.epoch == 1


def test_a_grant_that_is_over_when_it_arrives_drains() -> None:
    shell = FakeShell(lease=False)
    effects = shell.kernel.lease(shell.now_us, 1, shell.now_us)
    assert [type(effect) for effect in effects] == [LeaveRoom]


def test_renewals_keep_the_turn_running() -> None:
    shell = FakeShell()
    shell.open_text(playing=10_000)
    shell.run(11_000)
    assert shell.endings() == [(1, "commit", "")]
    assert len(shell.passed) == 500


def test_a_late_answer_to_an_older_renewal_does_not_shorten_the_lease() -> None:
    shell = FakeShell()
    shell.kernel.lease(shell.now_us, 1, shell.now_us + 500_000)
    assert shell.kernel.next_deadline_us == shell.now_us + LEASE_US


def test_a_lower_epoch_is_refused_and_changes_nothing() -> None:
    shell = FakeShell(lease=False)
    shell.renew(epoch=5)
    shell.open_text(playing=1_000)
    shell.evidence()
    assert not shell.renew(epoch=4)
    assert (shell.kernel.epoch, shell.kernel.turn, shell.kernel.turn_state) == (5, 1, "Active")
    decision = next(record["decision"] for record in shell.evidence() if record["kind"] == "decision")
    assert decision["outcome_kind"] == "stale_epoch_reject"
    assert (decision["phase"], decision["scope"]) == ("scheduling_point", "node_dispatch")


@pytest.mark.conformance("G-11", "AE-003")
def test_frames_of_another_epoch_never_pass_and_are_reported_once() -> None:
    shell = FakeShell(lease=False)
    shell.renew(epoch=2)
    shell.open_text()
    shell.evidence()
    for sequence in range(50):
        assert shell.kernel.frame(shell.now_us, 1, 1, sequence, 480) == STALE_EPOCH
        assert shell.kernel.frame(shell.now_us, 1, 3, sequence, 480) == STALE_EPOCH
    assert names(shell.evidence()) == ["stale_epoch_reject"]
    assert shell.kernel.frame(shell.now_us, 1, 2, 0, 480) == PASS


def test_a_rotation_ends_the_turn_that_was_planned_under_the_old_epoch() -> None:
    shell = FakeShell()
    shell.open_text(playing=1_000)
    shell.run(100)
    shell.renew(epoch=2)
    assert shell.endings() == [(1, "abort", "authority_loss")]
    assert not shell.kernel.drained
    assert not shell.effects(LeaveRoom)
    notice = shell.effects(OpenTurn)[-1]
    assert (notice.epoch, notice.turn_id, notice.intent) == (2, "turn-2-2", "failure_notice")
    shell.open_text()
    opened = shell.effects(OpenTurn)[-1]
    assert (opened.epoch, opened.turn_id) == (2, "turn-2-3")
    assert "lease_rotated" in names(shell.evidence())


@pytest.mark.parametrize("reason", ["", "lease_stale_epoch", "taken by another runtime"])
def test_a_lost_lease_drains_at_once(reason: str) -> None:
    shell = FakeShell()
    shell.open_text(playing=1_000)
    shell.do(shell.kernel.lease_lost(shell.now_us, reason))
    assert [effect.reason for effect in shell.effects(LeaveRoom)] == [reason or "lease_deauthorized"]
    assert not shell.kernel.lease_lost(shell.now_us, reason)
    assert shell.kernel.frame(shell.now_us, 1, 1, 0, 480) == LEASE_EXPIRED


@pytest.mark.conformance("AE-005")
def test_no_turn_opens_without_a_lease() -> None:
    shell = FakeShell(lease=False)
    shell.open_text()
    refusal = RefuseIntent
    assert [type(effect) for _, effect in shell.log] == [refusal]
    refused = shell.effects(RefuseIntent)[0]
    assert (refused.intent, refused.reference) == ("text", 1)
    assert (refused.outcome, refused.reason) == ("deauthorized_drain", "authority_revoked_before_open")
    recorded = names(shell.evidence())
    assert recorded == ["turn_open_proposed", "deauthorized_drain"]
    assert shell.kernel.frame(shell.now_us, 1, 0, 0, 480) == FENCED


def test_no_turn_opens_after_a_drain() -> None:
    shell = without_renewal(playing=0)
    shell.run(5_000)
    shell.speak(1_000)
    shell.run(3_000)
    shell.open_text()
    assert not shell.effects(OpenTurn)
    assert len(shell.effects(RefuseIntent)) == 1


def test_the_taking_runtime_says_so_instead_of_greeting() -> None:
    shell = FakeShell(make_policy(greeting=True, takeover_notice=True), lease=False)
    shell.renew(epoch=7)
    shell.do(shell.kernel.start(shell.now_us, resumed=True))
    assert shell.intents() == ["takeover_notice"]
    assert shell.effects(OpenTurn)[0].turn_id == "turn-7-1"
    assert shell.effects(AgentState)[0].state == "listening"
