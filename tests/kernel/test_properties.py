"""Random calls through the Python face: what may never happen does not."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rspp import _kernel
from rspp._kernel import CancelTurn, CloseTurn, HoldOutput, OpenTurn, ResumeOutput
from tests.kernel.fake_shell import FakeShell, make_policy, names

WAITS = st.sampled_from([0, 10, 32, 90, 200, 700, 1_500, 3_000])


class Call(RuleBasedStateMachine):
    """A caller, a recogniser, a provider and a lease store that do anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.shell = FakeShell(make_policy(failure_notice=True), capacity=1024)
        self.seen = 0
        self.ended: set[int] = set()
        self.held = False
        self.signals: list[str] = []

    @rule(wait_ms=WAITS, loud=st.booleans())
    def caller(self, *, wait_ms: int, loud: bool) -> None:
        if loud:
            self.shell.speak(wait_ms)
        else:
            self.shell.run(wait_ms)

    @rule(words=st.integers(0, 4), backchannel=st.booleans(), complete=st.booleans(), probe=st.booleans())
    def recogniser(self, *, words: int, backchannel: bool, complete: bool, probe: bool) -> None:
        self.shell.transcript(words, backchannel=backchannel, complete=complete, probe=probe)

    @rule(playing=st.sampled_from([0, 100, 5_000]))
    def text(self, *, playing: int) -> None:
        self.shell.open_text(playing=playing)

    @precondition(lambda self: self.shell.kernel.turn > 0)
    @rule(reason=st.sampled_from(["provider_timeout", "nonsense"]))
    def failure(self, *, reason: str) -> None:
        self.shell.do(self.shell.kernel.generation_failed(self.shell.now_us, self.shell.kernel.turn, reason))

    @rule(signal=st.sampled_from(["stop", "cancel"]))
    def cancel(self, *, signal: str) -> None:
        turn = self.shell.kernel.turn
        self.shell.do(self.shell.kernel.cancel(self.shell.now_us, signal))
        assert self.shell.kernel.frame(self.shell.now_us, turn, 1, 10**6, 480) != _kernel.PASS

    @rule(state=st.sampled_from(["connected", "reconnecting", "silence", "stall", "muted"]))
    def connection(self, *, state: str) -> None:
        self.shell.do(self.shell.kernel.connection(self.shell.now_us, state, ""))

    @rule()
    def lease_runs_out(self) -> None:
        self.shell.renewing = False
        self.shell.run(4_100)
        assert self.shell.kernel.drained

    @rule(turn=st.integers(0, 3), epoch=st.integers(0, 3))
    def stray_frame(self, *, turn: int, epoch: int) -> None:
        verdict = self.shell.kernel.frame(self.shell.now_us, turn, epoch, 10**9, 480)
        assert verdict != _kernel.PASS or turn == self.shell.kernel.turn

    @invariant()
    def effects_tell_a_consistent_story(self) -> None:
        for _, effect in self.shell.log[self.seen :]:
            match effect:
                case OpenTurn(turn=turn):
                    assert turn not in self.ended
                case HoldOutput():
                    assert not self.held
                    self.held = True
                case ResumeOutput():
                    assert self.held
                    self.held = False
                case CancelTurn(turn=turn) | CloseTurn(turn=turn):
                    self.ended.add(turn)
                    self.held = False
        self.seen = len(self.shell.log)
        due = self.shell.kernel.next_deadline_us
        assert due is None or due >= self.shell.now_us or self.shell.kernel.drained

    @invariant()
    def turns_end_once(self) -> None:
        self.signals += names(self.shell.evidence())
        opened, closed = self.signals.count("turn_open"), self.signals.count("close")
        assert opened - closed == int(self.shell.kernel.turn > 0)
        assert self.signals.count("commit") + self.signals.count("abort") == closed


TestCall = Call.TestCase
TestCall.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
