"""The life of a turn: opening, output, budgets, failure, connection, playback."""

from __future__ import annotations

import pytest

from rspp._kernel import (
    FENCED,
    HELD,
    PASS,
    AgentState,
    CancelTurn,
    CloseTurn,
    EndUtterance,
    HoldOutput,
    LeaveRoom,
    OpenTurn,
    RefuseIntent,
    ResumeOutput,
)
from tests.kernel.fake_shell import FakeRecogniser, FakeShell, make_plan, make_policy, names


def started(*, resumed: bool = False, **policy: bool) -> FakeShell:
    shell = FakeShell(make_policy(**policy))
    shell.do(shell.kernel.start(shell.now_us, resumed))
    return shell


@pytest.mark.parametrize(
    ("greeting", "notice", "resumed", "intents"),
    [
        (True, True, False, ["greeting"]),
        (True, True, True, ["takeover_notice"]),
        (False, True, False, []),
        (True, False, True, []),
    ],
)
def test_a_session_begins_with_what_the_policy_says(
    *, greeting: bool, notice: bool, resumed: bool, intents: list[str]
) -> None:
    shell = started(resumed=resumed, greeting=greeting, takeover_notice=notice)
    assert shell.intents() == intents


def test_a_second_start_is_a_late_event() -> None:
    shell = started(greeting=True)
    assert not shell.kernel.start(shell.now_us, resumed=False)
    assert shell.intents() == ["greeting"]


def test_a_turn_from_its_opening_to_its_commit() -> None:
    shell = started(greeting=True)
    shell.play(200)
    shell.run(300)
    assert [effect.state for effect in shell.effects(AgentState)] == [
        "listening",
        "thinking",
        "speaking",
        "listening",
    ]
    assert names(shell.evidence(), turn=1) == [
        "admit",
        "plan_frozen",
        "turn_open",
        "first_output",
        "output_accepted",
        "frames_passed",
        "commit",
        "close",
    ]
    assert (shell.kernel.turn, shell.kernel.turn_state) == (0, "Idle")


def test_speaking_is_shown_by_the_next_call_and_asks_for_one() -> None:
    shell = FakeShell()
    shell.open_text()
    assert shell.kernel.frame(shell.now_us, 1, 1, 0, 480) == PASS
    assert shell.kernel.next_deadline_us == shell.now_us
    effects = shell.kernel.tick(shell.now_us)
    assert [effect.state for effect in effects if isinstance(effect, AgentState)] == ["speaking"]
    assert len(effects) == 1
    assert shell.kernel.next_deadline_us != shell.now_us


def test_frames_must_go_forwards_and_belong_to_the_open_turn() -> None:
    shell = FakeShell()
    shell.open_text()
    verdicts = [
        shell.kernel.frame(shell.now_us, turn, 1, sequence, 480)
        for turn, sequence in [(1, 3), (1, 3), (1, 2), (2, 9), (0, 9), (1, 4)]
    ]
    assert verdicts == [PASS, FENCED, FENCED, FENCED, FENCED, PASS]


@pytest.mark.conformance("CF-001", "CF-003")
@pytest.mark.parametrize("signal", ["stop", "cancel"])
def test_a_cancel_closes_the_fence_in_the_same_step(signal: str) -> None:
    shell = FakeShell()
    shell.open_text(playing=1_000)
    shell.run(100)
    shell.evidence()
    effects = shell.do(shell.kernel.cancel(shell.now_us, signal))
    assert [type(effect) for effect in effects] == [CancelTurn, CloseTurn, AgentState]
    assert shell.kernel.frame(shell.now_us, 1, 1, 999, 480) == FENCED
    assert names(shell.evidence()) == [
        signal,
        "cancel_accepted",
        "fence_applied",
        "frames_passed",
        "abort",
        "close",
    ]


def test_a_cancel_without_a_turn_is_only_recorded() -> None:
    shell = FakeShell()
    shell.evidence()
    assert shell.kernel.cancel(shell.now_us, "stop") == ()
    assert names(shell.evidence()) == ["cancel_ignored"]


def test_a_turn_that_never_speaks_is_ended_and_the_caller_told() -> None:
    shell = FakeShell()
    shell.open_text()
    shell.run(5_000)
    assert shell.endings() == [(1, "abort", "node_timeout_or_failure")]
    assert shell.intents() == ["text", "failure_notice"]
    shell.run(5_000)
    assert shell.intents() == ["text", "failure_notice"]
    assert len(shell.endings()) == 2


def test_a_turn_that_stalls_is_ended() -> None:
    shell = FakeShell(make_policy(failure_notice=False))
    shell.open_text()
    shell.kernel.frame(shell.now_us, 1, 1, 0, 480)
    shell.run(2_999)
    assert shell.kernel.turn == 1
    shell.run(1)
    assert shell.endings() == [(1, "abort", "node_timeout_or_failure")]
    assert shell.intents() == ["text"]


def test_held_time_is_not_charged_to_the_budget() -> None:
    shell = FakeShell(make_policy(confirm_ms=600_000))
    shell.open_text()
    shell.run(4_000)
    shell.speak(4_000)
    shell.run(4_500)
    assert shell.kernel.turn == 1
    shell.run(1_000)
    assert shell.endings() == [(1, "abort", "node_timeout_or_failure")]


@pytest.mark.parametrize(
    ("reason", "recorded"),
    [
        ("provider_timeout", "provider_timeout"),
        ("KeyError: 'x'", "provider_failure"),
        ("", "provider_failure"),
    ],
)
def test_a_failed_turn_ends_with_a_reason_of_the_table(reason: str, recorded: str) -> None:
    shell = FakeShell()
    shell.open_text()
    shell.do(shell.kernel.generation_failed(shell.now_us, 1, reason))
    assert shell.endings() == [(1, "abort", recorded)]
    assert shell.intents() == ["text", "failure_notice"]
    shell.do(shell.kernel.generation_failed(shell.now_us, 2, reason))
    assert shell.intents() == ["text", "failure_notice"]


def test_a_notice_waits_for_the_caller_who_is_speaking() -> None:
    shell = FakeShell(recogniser=FakeRecogniser())
    shell.open_text(playing=10_000)
    shell.run(500)
    shell.speak(300)
    shell.do(shell.kernel.generation_failed(shell.now_us, 1, "provider_timeout"))
    shell.playing = 0
    assert shell.kernel.frame(shell.now_us, 2, 1, 0, 480) == HELD
    shell.run(1_000)
    assert shell.holds() == (2, 1, 1)
    assert shell.kernel.frame(shell.now_us, 2, 1, 0, 480) == PASS


def test_speech_counts_on_across_a_failure() -> None:
    shell = FakeShell()
    shell.open_text(playing=10_000)
    shell.run(500)
    shell.speak(500)
    shell.do(shell.kernel.generation_failed(shell.now_us, 1, "provider_timeout"))
    shell.playing = 0
    shell.speak(280)
    assert shell.endings() == [(1, "abort", "provider_timeout"), (2, "abort", "cancelled")]


def test_reports_about_another_turn_are_late_events() -> None:
    shell = FakeShell()
    shell.open_text()
    shell.evidence()
    assert shell.kernel.generation_finished(shell.now_us, 7) == ()
    assert shell.kernel.generation_failed(shell.now_us, 7, "provider_timeout") == ()
    assert shell.kernel.generation_failed(shell.now_us, 0, "provider_timeout") == ()
    assert names(shell.evidence()) == ["late_event"] * 3
    assert shell.kernel.turn == 1


@pytest.mark.conformance("CT-003")
def test_without_a_plan_the_intent_is_refused() -> None:
    shell = FakeShell(plan=make_plan(graph=""))
    shell.open_text()
    refused = shell.effects(RefuseIntent)[0]
    assert (refused.outcome, refused.reason) == ("reject", "plan_materialization_failed")
    recorded = names(shell.evidence())
    assert recorded[-3:] == ["turn_open_proposed", "plan_failed", "reject"]
    assert not {"turn_open", "abort", "close"} & set(recorded)


def test_reconnecting_holds_the_voice_whatever_the_caller_does() -> None:
    shell = FakeShell(recogniser=FakeRecogniser())
    shell.open_text(playing=10_000)
    shell.run(200)
    shell.do(shell.kernel.connection(shell.now_us, "reconnecting", ""))
    shell.speak(100)
    shell.run(1_000)
    assert shell.holds() == (1, 0, 0)
    shell.do(shell.kernel.connection(shell.now_us, "connected", ""))
    assert shell.holds() == (1, 1, 0)
    shell.run(100)
    assert shell.passed[-1][0] > shell.at(ResumeOutput)


def test_a_turn_that_opens_while_reconnecting_waits() -> None:
    shell = FakeShell()
    shell.do(shell.kernel.connection(shell.now_us, "reconnecting", ""))
    shell.open_text()
    assert [type(effect) for _, effect in shell.log][-2:] == [AgentState, HoldOutput]
    assert shell.kernel.held


@pytest.mark.parametrize(("state", "reason"), [("ended", ""), ("disconnected", "ROOM_DELETED")])
def test_the_end_of_the_call_ends_everything(state: str, reason: str) -> None:
    shell = FakeShell()
    shell.open_text(playing=1_000)
    shell.do(shell.kernel.connection(shell.now_us, state, reason))
    assert shell.endings() == [(1, "abort", "transport_disconnect_or_stall")]
    assert [effect.reason for effect in shell.effects(LeaveRoom)] == [reason or state]
    assert shell.kernel.drained
    shell.open_text()
    refused = shell.effects(RefuseIntent)[0]
    assert (refused.outcome, refused.reason) == ("reject", "transport_disconnect_or_stall")
    assert len(shell.effects(OpenTurn)) == 1
    assert shell.kernel.next_deadline_us is None


def test_delivery_is_reported_after_the_close_too() -> None:
    shell = FakeShell()
    shell.open_text(playing=100)
    shell.run(200)
    shell.evidence()
    for event in ("started", "completed", "cancelled"):
        assert shell.kernel.playback(shell.now_us, 1, event, 480) == ()
    assert names(shell.evidence()) == ["playback_started", "playback_completed", "playback_cancelled"]


@pytest.mark.conformance("CF-002")
def test_playback_of_a_cancelled_or_unknown_turn_cannot_start() -> None:
    shell = FakeShell()
    shell.open_text()
    shell.do(shell.kernel.cancel(shell.now_us, "stop"))
    shell.evidence()
    shell.kernel.playback(shell.now_us, 1, "started", 0)
    shell.kernel.playback(shell.now_us, 9, "completed", 0)
    shell.kernel.playback(shell.now_us, 1, "cancelled", 0)
    assert names(shell.evidence()) == ["late_event", "late_event", "playback_cancelled"]


def test_the_kernel_is_crossed_at_most_twice_per_frame() -> None:
    shell = FakeShell()
    shell.renewing = False
    shell.open_text(playing=3_000)
    before = shell.kernel.crossings
    shell.run(3_000)
    frames = len(shell.passed)
    assert frames >= 149
    assert shell.kernel.crossings - before <= 2 * frames


def test_an_utterance_goes_on_over_a_text() -> None:
    shell = FakeShell()
    shell.speak(100)
    shell.open_text()
    assert not shell.effects(EndUtterance)
