"""What a recorded call would have been under other thresholds, another pipeline or another policy.

The kernel is run with what changed. What the world did comes at its recorded times; what the agent's side
did (provider calls, speech) is played back from the recording, moved to when the changed kernel asks for
it. The caller is the recorded one: he does not react to what would have been said. Where the recording
does not know what would have come, the run says what it assumed.
"""

from __future__ import annotations

import heapq
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any

from rspp import _kernel
from rspp.contracts.media import FRAME_MS, MAX_QUEUED_MS, OUTPUT_FRAME_SAMPLES
from rspp.replay.inputs import ENVIRONMENT, Record, kernel_of
from rspp.replay.recorded_call import GivenTurn, RecordedCall, finish_attempt, provider_of
from rspp.replay.trace import SAME_TURN_US, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rspp._kernel import Attempt as _Attempt

FRAME_US = FRAME_MS * 1000
QUEUED_FRAMES = MAX_QUEUED_MS // FRAME_MS
"""Frames that lie behind the gate: they leave at once when a voice begins, and come back on a hold."""
SAME_PROBE_US = 1_000_000
"""A probe's recorded answer stands in for one asked at most this much earlier or later."""
DEFAULT_ANSWER_US = 20_000
"""A probe's answer when none was ever recorded: the median of the embedded recogniser."""
UNKNOWN_ATTEMPT = "it tries more often than was recorded: that is taken to end like the attempt before"
GIVEN_UP = "provider_timeout"
"""Reason of an attempt whose first result did not come in time."""
DONE = frozenset({"success", "cancelled"})
"""Outcomes after which generation has not failed."""
TAIL_US = 30_000_000
"""How long a turn may go on after the recording has ended; its lease is renewed meanwhile."""
RENEWAL_US = 1_000_000


def run_what_if(call: RecordedCall, **changes: Mapping[str, Any]) -> Trace:
    """Run a recorded stint with changed settings.

    Args:
        call: as it was.
        changes: keyword arguments of the kernel's settings to replace, under ``policy``, ``plan`` and
            ``providers``.

    Returns:
        Its turns as they would have been; ``TurnTrace.assumptions`` says what the recording does not know.

    Raises:
        EvidenceError: the changed settings do not make a kernel.
    """
    return _World(call, changes).run()


class _Reply:
    """The agent's side of one turn, played back from a recorded one."""

    def __init__(self, number: int, epoch: int, opened_us: int, given: GivenTurn) -> None:
        self.number = number
        self.epoch = epoch
        self.opened_us = opened_us
        self.given = given
        self.sequence = 0
        self.position = 0
        self.burst = QUEUED_FRAMES
        self.held = False
        self.held_us = 0
        self.held_since = 0
        self.waiting = False
        self.late_us = 0
        self.endless = False
        self.otherwise = False
        self.attempts: dict[int, int] = {}
        self.total = given.generated or sum(samples for _, samples in given.frames)
        self.invocations: dict[int, int] = {}


class _World:
    def __init__(self, call: RecordedCall, changes: Mapping[str, Mapping[str, Any]]) -> None:
        self._call = call
        self._kernel = kernel_of(call.header, **changes)
        self._providers = {**call.header["settings"]["providers"], **changes.get("providers", {})}
        self._trace = Trace()
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = count()
        self._reply: _Reply | None = None
        self._used: set[int] = set()
        self._utterance = self._revision = 0
        self._over = False
        answers = call.probe_answer_us
        self._answer_us = round(median(answers)) if answers else DEFAULT_ANSWER_US
        ended_by_agent = call.ended in ("hang_up", "drained", "session_closed")
        for record in call.environment:
            if not (ended_by_agent and record["name"] == "connection" and record["state"] == "ended"):
                self._at(record["at_us"], self._environment(record))
        for record in call.hypotheses:
            if not record["probe"]:
                self._at(record["at_us"], self._partial(record))
        for later_us in range(0, TAIL_US, RENEWAL_US):
            self._at(call.last_us + later_us, self._renew)
        self._hangs_up = max(call.turns, default=0) if call.ended == "hang_up" else 0

    def run(self) -> Trace:
        kernel = self._kernel
        end_us = self._call.last_us + TAIL_US
        tick: Callable[[int], None] = self._tick
        while not self._over:
            due = kernel.next_deadline_us
            at = self._events[0][0] if self._events else None
            # What came at the very time of a timer came before it: places are told just before a tick.
            if due is not None and (at is None or due < at):
                now, action = due, tick
            elif at is not None:
                now, _, action = heapq.heappop(self._events)
            else:
                break
            endless = self._reply is None or self._reply.endless
            if now > end_us or (now > self._call.last_us and endless):
                break
            action(now)
        return self._trace

    def _at(self, at_us: int, action: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (at_us, next(self._order), action))

    def _renew(self, now: int) -> None:
        epoch = self._kernel.epoch
        self._perform(now, self._kernel.lease(now, epoch, now + 2 * RENEWAL_US))

    def _tick(self, now: int) -> None:
        self._perform(now, self._kernel.tick(now))

    def _environment(self, record: Record) -> Callable[[int], None]:
        give = ENVIRONMENT[record["name"]]
        return lambda now: self._perform(now, give(self._kernel, {**record, "at_us": now}))

    # ------------------------------------------------------------------ the recogniser

    def _partial(self, record: Record) -> Callable[[int], None]:
        def give(now: int) -> None:
            if self._utterance:
                self._transcript(now, record, probe=False)

        return give

    def _transcript(self, now: int, heard: Record, *, probe: bool) -> None:
        effects = self._kernel.transcript(
            now,
            self._utterance,
            self._revision,
            heard["words"],
            heard["backchannel"],
            heard["complete"],
            probe,
        )
        self._perform(now, effects)

    def _probe(self, asked_us: int, utterance: int) -> None:
        """Answer with the recorded answer that is nearest in time, else with what was heard last."""
        answer_at = asked_us + self._answer_us
        known = [heard for heard in self._call.hypotheses if heard["at_us"] <= answer_at + SAME_PROBE_US]
        near = [heard for heard in known if heard["probe"] and heard["at_us"] >= answer_at - SAME_PROBE_US]
        if near:
            heard = min(near, key=lambda answer: abs(answer["at_us"] - answer_at))
        elif known:
            heard = known[-1]
        else:
            heard = {"words": 0, "backchannel": False, "complete": False}
        revision = self._revision

        def give(now: int) -> None:
            if self._utterance == utterance and self._revision == revision:
                self._transcript(now, heard, probe=True)

        self._at(answer_at, give)

    # ------------------------------------------------------------------ effects

    def _perform(self, now: int, effects: Sequence[_kernel.Effect]) -> None:
        self._trace.observe(now, effects)
        for effect in effects:
            match effect:
                case _kernel.OpenTurn():
                    self._open(now, effect)
                case _kernel.HoldOutput():
                    self._hold(now)
                case _kernel.ResumeOutput():
                    self._resume(now)
                case _kernel.CancelTurn(turn, _):
                    self._cancel(now, turn)
                case _kernel.CloseTurn(turn, outcome, _):
                    self._close(now, turn, outcome)
                case _kernel.StartUtterance(utterance, _):
                    self._utterance, self._revision = utterance, 0
                case _kernel.ContinueUtterance():
                    self._revision += 1
                case _kernel.ProbeUtterance(utterance):
                    self._probe(now, utterance)
                case _kernel.EndUtterance():
                    self._utterance = 0
                case _kernel.LeaveRoom():
                    self._over = True

    def _open(self, now: int, opened: _kernel.OpenTurn) -> None:
        turn = self._trace.turns[opened.turn]
        given = self._counterpart(now, opened.intent)
        if given is None:
            turn.assumptions.append("nothing like this turn was recorded: it is taken as never answered")
            given = GivenTurn(0, opened.intent, now)
        elif given.number in self._used:
            turn.assumptions.append(f"answered as recorded turn {given.number} was")
        else:
            turn.counterpart = given.number
        self._used.add(given.number)
        self._reply = reply = _Reply(opened.turn, opened.epoch, now, given)
        recorded = self._call.trace.turns.get(given.number)
        if recorded is not None and recorded.outcome == "abort" and given.frames and not given.whole:
            reply.endless = True
            turn.assumptions.append("how long its answer would have been was not recorded")
        for step in given.steps:
            self._at(now + step["at_us"] - given.opened_us, self._step(reply, step))
        if given.frames:
            self._at(now + given.frames[0][0], self._next_frame(reply))

    def _counterpart(self, now: int, intent: str) -> GivenTurn | None:
        alike = [given for given in self._call.turns.values() if given.intent == intent]
        fresh = [
            given
            for given in alike
            if given.number not in self._used and abs(given.opened_us - now) <= SAME_TURN_US
        ]
        nearest = fresh or [given for given in alike if given.frames]
        return min(nearest, key=lambda given: abs(given.opened_us - now), default=None)

    # ------------------------------------------------------------------ the agent's side

    def _step(self, reply: _Reply, step: Record, late_us: int = 0) -> Callable[[int], None]:
        def give(now: int) -> None:
            if self._reply is not reply:
                return
            if reply.late_us > late_us:
                # What followed a provider's first result follows that of the provider that took over.
                self._at(now + reply.late_us - late_us, self._step(reply, step, reply.late_us))
                return
            match step["name"]:
                case "invoke":
                    answer = self._kernel.invoke(now, reply.number, step["modality"])
                    if isinstance(answer, str):
                        self._fail(now, reply, answer)
                    else:
                        recorded = self._recorded_invocation(reply, len(reply.invocations))
                        reply.invocations[recorded] = answer.invocation
                        self._attempt(now, reply, recorded, step["modality"], answer)
                case "output_handed_on":
                    number = reply.invocations.get(step["invocation"])
                    if number is not None:
                        self._kernel.output_handed_on(now, number)
                case "generation_failed" if not reply.otherwise:
                    self._fail(now, reply, step["reason"])

        return give

    def _recorded_invocation(self, reply: _Reply, index: int) -> int:
        """Return the recorded number of the turn's invocation of that index: they count upwards."""
        numbers = sorted({step["invocation"] for step in reply.given.steps if "invocation" in step})
        return int(numbers[index]) if index < len(numbers) else -1 - index

    def _attempt(self, now: int, reply: _Reply, invocation: int, modality: str, attempt: _Attempt) -> None:
        """Let an attempt that the kernel asked for end as the recording tells, or is taken to tell."""
        recorded = [
            step
            for step in reply.given.steps
            if step["name"] == "attempt_finished" and step["invocation"] == invocation
        ]
        if not recorded:
            return
        done = reply.attempts.get(invocation, 0)
        reply.attempts[invocation] = done + 1
        provider = provider_of(self._providers, modality, attempt)
        same = [step for step in recorded if provider and step["provider"] == provider]
        known, place = (same, attempt.attempt - 1) if same else (recorded, done)
        outcome = known[min(place, len(known) - 1)]
        if place >= len(known):
            self._assume(reply, UNKNOWN_ATTEMPT)
        elif provider and outcome["provider"] and not same:
            self._assume(reply, f"{provider} is taken to answer as {outcome['provider']} did")
        more = done + 1 < len(recorded)
        outcome = self._in_time(reply, attempt, outcome, more=more)
        if done >= len(recorded) or outcome is not recorded[done]:
            reply.otherwise = True
        end_us = now + attempt.wait_us + outcome["took_us"]
        self._at(end_us, self._finish(reply, invocation, modality, outcome, more=more))

    def _in_time(self, reply: _Reply, attempt: _Attempt, outcome: Record, *, more: bool) -> Record:
        """Return how an attempt ends that now may wait for its first result so long and no longer."""
        limit_us, recorded_us = attempt.limit_us, outcome["limit_us"]
        shorter = limit_us is not None and (recorded_us is None or limit_us < recorded_us)
        provider = outcome["provider"] or "a provider"
        if limit_us is not None and shorter and outcome["first_us"] > limit_us:
            later = "" if more else ", and what follows is taken to come as much later"
            self._assume(reply, f"{provider} is given up after {limit_us // 1000} ms{later}")
            ending = {"outcome": "timeout", "reason": GIVEN_UP, "retryable": True, "idle_us": 0}
            return {**outcome, **ending, "took_us": limit_us, "given_up": True}
        longer = recorded_us is not None and (limit_us is None or limit_us > recorded_us)
        if longer and outcome.get("reason") == GIVEN_UP:
            self._assume(
                reply,
                f"what {provider} would have given after {recorded_us // 1000} ms was not recorded: "
                "it is taken to fail then",
            )
        return outcome

    def _finish(
        self, reply: _Reply, invocation: int, modality: str, outcome: Record, *, more: bool
    ) -> Callable[[int], None]:
        def give(now: int) -> None:
            number = reply.invocations.get(invocation)
            if self._reply is not reply or number is None:
                return
            following = finish_attempt(self._kernel, now, number, outcome)
            if following is not None:
                if outcome.get("given_up") and not more and not reply.sequence:
                    reply.late_us += outcome["took_us"] + following.wait_us
                self._attempt(now, reply, invocation, modality, following)
            elif outcome["outcome"] not in DONE and (more or reply.otherwise):
                self._fail(now, reply, outcome.get("reason") or "provider_failure")

        return give

    def _assume(self, reply: _Reply, what: str) -> None:
        assumptions = self._trace.turns[reply.number].assumptions
        if what not in assumptions:
            assumptions.append(what)

    def _fail(self, now: int, reply: _Reply, reason: str) -> None:
        self._perform(now, self._kernel.generation_failed(now, reply.number, reason))

    def _next_frame(self, reply: _Reply, late_us: int = 0) -> Callable[[int], None]:
        def give(now: int) -> None:
            if self._reply is not reply:
                return
            if reply.held:
                reply.waiting = True
                return
            if not reply.sequence and reply.late_us > late_us:
                self._at(now + reply.late_us - late_us, self._next_frame(reply, reply.late_us))
                return
            samples = OUTPUT_FRAME_SAMPLES
            if not reply.endless:
                samples = min(samples, reply.total - reply.position)
            verdict = self._kernel.frame(now, reply.number, reply.epoch, reply.sequence + 1, samples)
            if verdict != _kernel.PASS:
                self._tick(now)
                return
            reply.sequence += 1
            reply.position += samples
            self._trace.frame(now, reply.number, samples)
            if reply.sequence == 1:
                self._perform(now, self._kernel.playback(now, reply.number, "started", 0))
            if reply.position >= reply.total and not reply.endless:
                self._perform(now, self._kernel.generation_finished(now, reply.number))
                return
            following = now if reply.burst else now + FRAME_US
            reply.burst = max(0, reply.burst - 1)
            if reply.sequence < len(reply.given.frames):
                known = reply.given.frames[reply.sequence][0]
                following = max(following, reply.opened_us + reply.held_us + reply.late_us + known)
            self._at(following, give)

        return give

    def _hold(self, now: int) -> None:
        reply = self._reply
        if reply is not None and not reply.held:
            reply.held, reply.held_since = True, now
            reply.position = max(0, reply.position - QUEUED_FRAMES * OUTPUT_FRAME_SAMPLES)

    def _resume(self, now: int) -> None:
        reply = self._reply
        if reply is None or not reply.held:
            return
        reply.held = False
        reply.burst = QUEUED_FRAMES
        reply.held_us += now - reply.held_since
        if reply.waiting:
            reply.waiting = False
            self._next_frame(reply, reply.late_us)(now)

    def _cancel(self, now: int, turn: int) -> None:
        reply = self._reply
        if reply is not None and reply.number == turn:
            self._reply = None
            if reply.position:
                self._perform(now, self._kernel.playback(now, turn, "cancelled", reply.position))

    def _close(self, now: int, turn: int, outcome: str) -> None:
        reply = self._reply
        if reply is None or reply.number != turn:
            return
        self._reply = None
        if outcome != "commit":
            return

        def played(later: int) -> None:
            self._perform(later, self._kernel.playback(later, turn, "completed", reply.position))
            if self._hangs_up and reply.given.number == self._hangs_up:
                self._perform(later, self._kernel.connection(later, "ended", "hang_up"))
                self._over = True

        self._at(now + 2 * FRAME_US, played)
