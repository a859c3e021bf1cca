"""The Python face itself: the stub, the tables, wrong arguments, and what a call costs in objects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rspp import _kernel
from rspp._kernel import CloseTurn, OpenTurn, SessionKernel, TurnPolicy
from tests.kernel.fake_shell import FakeShell, make_plan

ROOT = Path(__file__).parents[2]


def test_the_stub_tells_the_truth() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "rspp._kernel"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_tables_are_those_of_the_contracts() -> None:
    assert len(_kernel.transition_table()) == 9
    registry = {row[0]: row for row in _kernel.signal_registry()}
    assert len(registry) == 45
    assert registry["turn_open_proposed"][1:] == (("RK-02",), "session", ())
    assert registry["abort"][1:] == (("RK-03",), "turn", ("turn_id", "reason"))
    assert registry["drop_notice"][1:3] == (("RK-12", "RK-13"), "either")
    reasons = {code: area for code, area, _ in _kernel.reason_codes()}
    assert reasons["authority_loss"] == "turn"
    assert len(reasons) == len(_kernel.reason_codes())


def test_every_reason_of_the_errors_is_in_the_table() -> None:
    from rspp.contracts import errors

    reasons = {code for code, _, _ in _kernel.reason_codes()}
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    declared = {kind.reason for kind in classes if issubclass(kind, errors.RsppError)}
    assert declared <= reasons


def test_a_call_without_effects_returns_the_one_empty_tuple() -> None:
    shell = FakeShell()
    assert shell.kernel.tick(shell.now_us) is ()  # noqa: F632 - identity is the point


def test_effects_are_frozen_compare_and_match() -> None:
    one, two = FakeShell(), FakeShell()
    for shell in (one, two):
        shell.open_text()
        shell.do(shell.kernel.cancel(shell.now_us, "stop"))
    assert [effect for _, effect in one.log] == [effect for _, effect in two.log]
    match one.effects(OpenTurn)[0]:
        case OpenTurn(turn, turn_id, epoch, intent, reference, plan_hash):
            assert (turn, turn_id, epoch, intent, reference) == (1, "turn-1-1", 1, "text", 1)
            assert len(plan_hash) == 64
    closed = one.effects(CloseTurn)[0]
    assert repr(closed) == 'CloseTurn(turn=1, outcome="abort", reason="cancelled")'
    with pytest.raises(AttributeError):
        closed.turn = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confirm_ms": 0}, "confirm_ms is 0: choose a value from 1 to 600000"),
        ({"probe_ms": -5}, "probe_ms is -5: choose a value that is not negative"),
        ({"speech_permille": 1001}, "speech_permille is 1001: choose a value from 1 to 1000"),
        ({"silence_permille": 600}, "silence_permille is 600: choose at most speech_permille, which is 500"),
        ({"confirm_words": 101}, "confirm_words is 101"),
    ],
)
def test_a_wrong_threshold_is_named_with_its_remedy(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        TurnPolicy(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["", "[]", "3", "{", '{"turn_id":"x"}'])
def test_a_policy_that_is_no_object_is_refused(policy: str) -> None:
    with pytest.raises(ValueError, match=r"^policy_json must"):
        make_plan(policy)


def make_kernel(session_id: str = "call", capacity: int = 256) -> SessionKernel:
    return SessionKernel(
        session_id=session_id,
        policy=TurnPolicy(),
        plan=make_plan(),
        now_us=0,
        wall_clock_ms=0,
        evidence_capacity=capacity,
    )


def test_wrong_arguments_are_refused_with_field_value_and_remedy() -> None:
    kernel = make_kernel()
    with pytest.raises(ValueError, match="session_id is empty"):
        make_kernel("")
    with pytest.raises(ValueError, match="evidence_capacity is 255"):
        make_kernel(capacity=255)
    with pytest.raises(ValueError, match="permille is 1001: choose a value from 0 to 1000"):
        kernel.voice_activity(0, 0, 1001)
    with pytest.raises(ValueError, match='signal is "halt": choose one of stop, cancel'):
        kernel.cancel(0, "halt")
    with pytest.raises(ValueError, match='event is "paused"'):
        kernel.playback(0, 1, "paused", 0)
    with pytest.raises(ValueError, match='state is "lost"'):
        kernel.connection(0, "lost", "")
    with pytest.raises(ValueError, match='modality is "vad"'):
        kernel.provider_outcome(0, 1, "vad", "success", 1)
    with pytest.raises(ValueError, match='outcome is "good"'):
        kernel.provider_outcome(0, 1, "stt", "good", 1)
    with pytest.raises(OverflowError):
        kernel.tick(-1)


def test_time_never_goes_back_and_its_extremes_do_no_harm() -> None:
    kernel = make_kernel()
    kernel.lease(1_000, 1, 2_000)
    kernel.text_message(1_500, 1)
    assert kernel.frame(1_400, 1, 1, 0, 480) == _kernel.PASS
    assert kernel.frame(2_000, 1, 1, 1, 480) == _kernel.LEASE_EXPIRED
    assert kernel.frame(100, 1, 1, 1, 480) == _kernel.LEASE_EXPIRED
    late = make_kernel()
    late.lease(2**64 - 1, 1, 2**64 - 1)
    late.text_message(2**64 - 1, 1)
    late.voice_activity(2**64 - 1, 2**64 - 1, 1000)
    late.frame(2**64 - 1, 2**32 - 1, 1, 2**64 - 1, 2**64 - 1)
    late.tick(2**64 - 1)
    assert late.turn == 1


def test_crossings_count_calls() -> None:
    kernel = make_kernel()
    kernel.lease(0, 1, 1_000)
    kernel.frame(0, 1, 1, 0, 480)
    kernel.provider_outcome(0, 1, "stt", "success", 1)
    kernel.drain_evidence(10)
    assert kernel.crossings == 4
    assert kernel.turn_state == "Idle"
    assert kernel.crossings == 4


def test_the_build_says_what_it_is() -> None:
    assert _kernel.VERSION.count(".") == 2
    assert _kernel.BUILD_PROFILE in {"release", "debug"}
