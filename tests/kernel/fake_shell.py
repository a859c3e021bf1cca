"""A shell in virtual time: windows every 32 ms, frames every 20 ms, ticks exactly when they are due."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from rspp import _kernel
from rspp._kernel import (
    CancelTurn,
    CloseTurn,
    ContinueUtterance,
    Effect,
    HoldOutput,
    OpenTurn,
    PlanTemplate,
    ProbeUtterance,
    ResumeOutput,
    SessionKernel,
    StartUtterance,
    TurnPolicy,
)

WINDOW_US = 32_000
FRAME_US = 20_000
FRAME_SAMPLES = 480
LEASE_US = 4_000_000
RENEWAL_US = 1_000_000
Kind = TypeVar("Kind")


def make_plan(
    policy_json: str = '{"budgets":{"turn_budget_ms":5000}}', graph: str = "graph/voice"
) -> PlanTemplate:
    return PlanTemplate(
        pipeline_version="shop@v1",
        graph_definition_ref=graph,
        execution_profile="simple",
        policy_json=policy_json,
    )


def make_policy(
    *,
    interruptions: bool = True,
    confirm_ms: int = 700,
    confirm_words: int = 2,
    max_utterance_ms: int = 30_000,
    failure_notice: bool = True,
    greeting: bool = False,
    takeover_notice: bool = False,
) -> TurnPolicy:
    """Thresholds that the tests' figures are computed from, whatever the defaults become."""
    return TurnPolicy(
        speech_permille=500,
        silence_permille=350,
        interruptions=interruptions,
        confirm_ms=confirm_ms,
        confirm_words=confirm_words,
        release_ms=200,
        short_burst_ms=250,
        short_release_ms=100,
        probe_ms=90,
        complete_wait_ms=180,
        incomplete_wait_ms=1500,
        max_utterance_ms=max_utterance_ms,
        first_output_budget_ms=5000,
        stall_budget_ms=3000,
        failure_notice=failure_notice,
        greeting=greeting,
        takeover_notice=takeover_notice,
    )


class FakeRecogniser:
    """Answers each probe after ``delay_ms`` with the words that ``listen`` names at that time."""

    def __init__(self, delay_ms: int = 40) -> None:
        self.delay_us = delay_ms * 1000
        self.words = 0
        self.backchannel = False
        self.complete = False

    def hears(self, words: int, *, backchannel: bool = False, complete: bool = False) -> None:
        self.words, self.backchannel, self.complete = words, backchannel, complete


class FakeShell:
    """Performs effects by bookkeeping and keeps ``log``, a list of ``(now_us, effect)``.

    Args:
        policy: thresholds of the session.
        plan: plan template.
        lease: whether a lease is granted and renewed.
        recogniser: answers probes; none leaves them unanswered.
        capacity: records of Stage A.
        behaviours: what the kernel behaves by; everything when not given.
    """

    def __init__(
        self,
        policy: TurnPolicy | None = None,
        *,
        plan: PlanTemplate | None = None,
        lease: bool = True,
        recogniser: FakeRecogniser | None = None,
        capacity: int = 4096,
        behaviours: Sequence[int] | None = None,
    ) -> None:
        self.now_us = 10_000_000
        self.kernel = SessionKernel(
            session_id="call/1",
            policy=policy or make_policy(),
            plan=plan or make_plan(),
            now_us=self.now_us,
            wall_clock_ms=1_700_000_000_000,
            evidence_capacity=capacity,
            behaviours=behaviours,
        )
        self.log: list[tuple[int, Effect]] = []
        self.passed: list[tuple[int, int, int]] = []
        self.recogniser = recogniser
        self.renewing = lease
        self.utterance = 0
        self.revision = 0
        self.media_sample = 0
        self.sequence = 0
        self.playing = 0
        self.permille = 20
        self._answer_at: int | None = None
        self._next_window = self.now_us + WINDOW_US
        self._next_frame = self.now_us
        self._renew_at = self.now_us
        if lease:
            self.renew()

    def do(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        for effect in effects:
            self.log.append((self.now_us, effect))
            match effect:
                case OpenTurn():
                    self.sequence = 0
                case StartUtterance(utterance=utterance):
                    self.utterance, self.revision = utterance, 0
                case ContinueUtterance():
                    self.revision += 1
                case ProbeUtterance() if self.recogniser is not None:
                    self._answer_at = self.now_us + self.recogniser.delay_us
        return effects

    def renew(self, epoch: int = 1) -> Sequence[Effect]:
        self._renew_at = self.now_us + RENEWAL_US
        return self.do(self.kernel.lease(self.now_us, epoch, self.now_us + LEASE_US))

    def open_text(self, *, playing: int = 0) -> int:
        """Open a turn by a chat text; with ``playing`` ms of speech on their way."""
        self.do(self.kernel.text_message(self.now_us, 1))
        self.play(playing)
        return self.kernel.turn

    def play(self, duration_ms: int) -> None:
        """Let the open turn say something from now on."""
        self.playing = duration_ms * 1000 // FRAME_US
        self._next_frame = self.now_us

    def transcript(
        self, words: int, *, backchannel: bool = False, complete: bool = False, probe: bool = False
    ) -> Sequence[Effect]:
        return self.do(
            self.kernel.transcript(
                self.now_us, self.utterance, self.revision, words, backchannel, complete, probe
            )
        )

    def speak(self, duration_ms: int) -> None:
        self.permille = 950
        self.run(duration_ms)
        self.permille = 20

    def run(self, duration_ms: int) -> None:
        """Let virtual time pass, doing what falls due in order of time."""
        end = self.now_us + duration_ms * 1000
        while True:
            due = self.kernel.next_deadline_us
            if self.renewing and self.now_us >= self._renew_at and not self.kernel.drained:
                self.renew(self.kernel.epoch)
                due = self.kernel.next_deadline_us
            frame = self._next_frame if self.playing else None
            renewal = self._renew_at if self.renewing and not self.kernel.drained else None
            moments = (due, renewal, self._answer_at, self._next_window, frame)
            moment = min(moment for moment in moments if moment is not None)
            if moment > end:
                self.now_us = end
                return
            self.now_us = max(self.now_us, moment)
            if moment == due:
                self.do(self.kernel.tick(self.now_us))
            elif moment == renewal:
                continue
            elif moment == self._answer_at:
                self._answer_at = None
                self._answer()
            elif moment == self._next_window:
                self._next_window += WINDOW_US
                self.media_sample += 512
                self.do(self.kernel.voice_activity(self.now_us, self.media_sample, self.permille))
            else:
                self._frame()

    def _answer(self) -> None:
        heard = self.recogniser
        if heard is not None:
            self.transcript(heard.words, backchannel=heard.backchannel, complete=heard.complete, probe=True)

    def _frame(self) -> None:
        self._next_frame += FRAME_US
        turn = self.kernel.turn
        verdict = self.kernel.frame(self.now_us, turn, self.kernel.epoch, self.sequence, FRAME_SAMPLES)
        if verdict == _kernel.HELD:
            return
        if verdict != _kernel.PASS:
            self.playing = 0
            return
        self.passed.append((self.now_us, turn, self.sequence))
        self.sequence += 1
        self.playing -= 1
        if not self.playing:
            self.do(self.kernel.generation_finished(self.now_us, turn))

    def effects(self, kind: type[Kind]) -> list[Kind]:
        return [effect for _, effect in self.log if isinstance(effect, kind)]

    def at(self, kind: type[Any], index: int = 0) -> int:
        """Time of the effect of that kind, microseconds."""
        return [moment for moment, effect in self.log if isinstance(effect, kind)][index]

    def intents(self) -> list[str]:
        return [effect.intent for effect in self.effects(OpenTurn)]

    def endings(self) -> list[tuple[int, str, str]]:
        return [(effect.turn, effect.outcome, effect.reason) for effect in self.effects(CloseTurn)]

    def holds(self) -> tuple[int, int, int]:
        """Holds, resumes and cancels so far."""
        return len(self.effects(HoldOutput)), len(self.effects(ResumeOutput)), len(self.effects(CancelTurn))

    def evidence(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.kernel.drain_evidence(1_000_000)]

    def signals(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in self.evidence():
            if record["kind"] == "signal":
                yield record["event"]["signal"], record["event"]


def names(records: list[dict[str, Any]], turn: int | None = None) -> list[str]:
    """Signals, decisions and markers in order; agent states and inputs left out."""
    found = []
    for record in records:
        match record["kind"]:
            case "signal" if turn is None or record["event"].get("turn_id", "").endswith(f"-{turn}"):
                found.append(record["event"]["signal"])
            case "marker" if record["name"] != "agent_state" and turn in (None, record["turn"]):
                found.append(record["name"])
    return found


ShellMaker = Callable[[], FakeShell]
