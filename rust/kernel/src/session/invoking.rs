//! Calling providers and cancelling what runs, with their evidence.

use crate::budget::Action;
use crate::cancellation::{CancelScope, CancelToken};
use crate::effect::Effect;
use crate::evidence::record::{AttemptRecord, Body, Call, Class, Marker};
use crate::input::{Modality, ProviderOutcome};
use crate::invocation::outcome::Ending;
use crate::invocation::policy::{InvocationPolicy, RetryDecision};
use crate::invocation::{circuit, Attempt, BudgetDue, Finished, MAX_LIVE};
use crate::node::Fate;
use crate::policy::LateAction;
use crate::prelude::Answer;
use crate::reason::{Label, Reason};
use crate::session::SessionKernel;
use crate::signal::{Emitter, Signal};

impl SessionKernel {
    /// Names the providers of each modality, the preferred one first, and what may follow a failure.
    ///
    /// Call it before the session starts: what a turn may use is frozen with its plan.
    pub fn use_providers(&mut self, policy: InvocationPolicy, candidates: &[(Modality, &str)]) {
        self.invocations.set_policy(policy);
        for &modality in Modality::ALL {
            let named = candidates.iter().filter(|(kind, _)| *kind == modality);
            let labels: Vec<_> = named.map(|(_, name)| self.interner.label(name)).collect();
            self.invocations.candidates(modality, &labels);
        }
    }

    /// Names the lesser form of a modality, which serves the rest of a turn that was degraded.
    ///
    /// Its index among the candidates is the one after the last of them.
    pub fn use_lesser(&mut self, modality: Modality, provider: &str) {
        let label = self.interner.label(provider);
        self.invocations.lesser(modality, label);
    }

    /// Whether this invocation ended so that its node goes on in a lesser form: recognition with what it
    /// heard in part, speech with a new invocation.
    #[must_use]
    pub const fn degraded(&self, invocation: u32) -> bool {
        self.invocations.degraded(invocation)
    }

    /// What the plan says of this invocation's budget, found used up only as an attempt at it ended; its
    /// node is told by the one who reports that end.
    #[must_use]
    pub fn exhausted(&self, invocation: u32) -> Option<Action> {
        self.invocations.exhausted(invocation)
    }

    /// Begins a provider invocation for the open turn, or for the session with turn 0.
    ///
    /// # Errors
    /// The reason for which nothing may be called: the turn is over, or there is no provider.
    pub fn invoke(&mut self, now_us: u64, turn: u32, modality: Modality) -> Result<Attempt, Reason> {
        self.enter(now_us);
        self.note_call(Class::Baseline, turn, Call::Invoke { modality });
        let over = self.authority.drained() || (turn != 0 && turn != self.open_turn());
        if over {
            return Err(Reason::CancelRequestedBeforeInvoke);
        }
        if !self.dispatch(turn) {
            return Err(Reason::ExecutionPlanDenied);
        }
        let (attempt, circuit) = self.invocations.begin(self.now_us, turn, modality)?;
        self.charge_recognition();
        self.circuit_event(turn, attempt.invocation, circuit);
        Ok(attempt)
    }

    /// Output of a running attempt is about to be handed on; false when it must be dropped.
    pub fn output_handed_on(&mut self, now_us: u64, invocation: u32) -> bool {
        self.enter(now_us);
        // Once per word would fill the evidence: only the first output and late ones change anything.
        if self.invocations.delivery_counts(invocation) {
            self.note_call(Class::Baseline, self.open_turn(), Call::OutputHandedOn { invocation });
        }
        self.invocations.deliver(invocation)
    }

    /// An attempt ended; returns the next one, if the plan allows one.
    ///
    /// `idle_us` is how long the provider waited for its listener, which is not its latency.
    pub fn attempt_finished(
        &mut self,
        now_us: u64,
        invocation: u32,
        ending: Ending,
        idle_us: u64,
    ) -> Option<Attempt> {
        self.enter(now_us);
        let call = Call::AttemptFinished { invocation, ending, idle_us };
        self.note_call(Class::Baseline, self.open_turn(), call);
        self.invocations.exhaust(None);
        // A shell that gives up at the very limit may come before the timer.
        while let Some(due) = self.invocations.take_budget_due(self.now_us) {
            self.tell_budget(&due);
            if due.decision.exhausted {
                self.invocations.exhaust(Some((due.invocation, due.decision.action)));
            }
        }
        let in_part = self.prelude.heard_in_part();
        let finished = self.invocations.finish(self.now_us, invocation, ending, idle_us, in_part)?;
        self.charge_recognition();
        let turn = finished.turn;
        let reason = finished.ending.reason.map_or(Label::Empty, Label::Known);
        let record = AttemptRecord {
            invocation,
            modality: finished.modality,
            provider: finished.provider,
            attempt: finished.attempt,
            outcome: finished.ending.class,
            reason,
            retryable: finished.ending.retryable,
            decision: finished.decision,
            next_provider: finished.next_provider,
            latency_us: finished.attempt_us,
        };
        self.record(Class::Baseline, turn, 0, Body::Attempt(record));
        let quiet = matches!(finished.ending.class, ProviderOutcome::Success | ProviderOutcome::Cancelled);
        if !quiet {
            self.signal_invocation(turn, invocation, Signal::ProviderError, Emitter::Rk11, reason);
        }
        self.circuit_event(turn, invocation, finished.circuit);
        if matches!(finished.decision, RetryDecision::ProviderSwitch | RetryDecision::Fallback) {
            self.signal_invocation(turn, invocation, Signal::ProviderSwitch, Emitter::Rk11, reason);
            if finished.budget_spent {
                let spent = Label::Known(Reason::BudgetExhausted);
                self.signal_invocation(turn, invocation, Signal::Fallback, Emitter::Rk17, spent);
            }
        }
        self.circuit_event(turn, invocation, finished.next_circuit);
        if finished.degraded {
            let spent = finished.budget_spent;
            let why = if spent { Reason::BudgetExhausted } else { Reason::NodeTimeoutOrFailure };
            self.signal_invocation(turn, invocation, Signal::Degrade, Emitter::Rk17, Label::Known(why));
        }
        if finished.next.is_none() {
            self.conclude(invocation, &finished);
        }
        finished.next
    }

    fn conclude(&mut self, invocation: u32, finished: &Finished) {
        let (turn, modality, latency_us) = (finished.turn, finished.modality, finished.total_us);
        let outcome = finished.ending.class;
        let body = Body::Provider { reported: false, modality, outcome, latency_us };
        self.record(Class::Detail, turn, 0, body);
        if finished.cancelled {
            self.marker(Class::Baseline, turn, Marker::CancelAckAt, u64::from(invocation));
            if finished.dropped > 0 {
                let dropped = u64::from(finished.dropped);
                self.marker(Class::Baseline, turn, Marker::LateOutputDropped, dropped);
            }
        }
    }

    /// Warns nodes that have handed nothing on yet, and ends a turn whose plan allows no way out.
    ///
    /// Where the plan allows another provider but none is left, the turn's own budget decides.
    pub(super) fn node_budgets(&mut self) {
        while let Some(due) = self.invocations.take_budget_due(self.now_us) {
            self.tell_budget(&due);
            let over = due.decision.action == Action::Terminate;
            if over && due.turn != 0 && due.turn == self.open_turn() {
                self.fail_by(Fate::NodeBudget(due.modality), Reason::NodeTimeoutOrFailure);
            } else if due.decision.exhausted {
                self.tell_nodes(due.turn, Fate::WayOut(due.modality, due.decision.action));
            }
        }
    }

    /// Recognition has a budget for its answer, and none for listening.
    pub(super) fn charge_recognition(&mut self) {
        let charged = self.prelude.answer() == Answer::Awaited;
        self.invocations.charge(self.now_us, Modality::Stt, charged);
    }

    /// Ends recognition whose words would come too late to count.
    pub(super) fn stop_recognition(&mut self) {
        if self.policy.late_event == LateAction::Drop {
            self.stop_invocations(CancelToken::Node(0, Modality::Stt));
        }
    }

    /// A way out is told when it is taken: the attempt may still hand something on.
    fn tell_budget(&mut self, due: &BudgetDue) {
        for (signal, reason) in due.told.into_iter().flatten() {
            if !matches!(signal, Signal::Degrade | Signal::Fallback) {
                let reason = Label::Known(reason);
                self.signal_invocation(due.turn, due.invocation, signal, Emitter::Rk17, reason);
            }
        }
    }

    fn circuit_event(&mut self, turn: u32, invocation: u32, state: Option<circuit::State>) {
        let Some(state) = state else { return };
        let reason = Label::Known(match state {
            circuit::State::Open => Reason::CircuitOpened,
            circuit::State::Probing => Reason::CircuitHalfOpened,
            circuit::State::Closed => Reason::CircuitClosed,
        });
        self.signal_invocation(turn, invocation, Signal::CircuitEvent, Emitter::Rk11, reason);
    }

    /// Cancels the invocations that a token reaches; returns their numbers.
    pub(super) fn cancel_invocations(&mut self, token: CancelToken) -> ([(u32, u32); MAX_LIVE], usize) {
        let (mut sent, mut count) = ([(0, 0); MAX_LIVE], 0);
        self.invocations.cancel(
            |invocation, turn, modality| token.reaches(invocation, turn, modality),
            |invocation, turn| {
                sent[count] = (invocation, turn);
                count += 1;
            },
        );
        for (invocation, turn) in &sent[..count] {
            self.marker(Class::Baseline, *turn, Marker::CancelSentAt, u64::from(*invocation));
        }
        (sent, count)
    }

    /// A cancel of another scope than the running turn.
    pub(super) fn cancel_within(&mut self, scope: CancelScope, target: u32) {
        let open = self.open_turn();
        let modality = usize::try_from(target).ok().and_then(|index| Modality::ALL.get(index)).copied();
        let token = match (scope, modality) {
            (CancelScope::Session, _) => CancelToken::Session,
            (CancelScope::Turn, _) => CancelToken::Turn(target),
            // What the caller says is heard for the session, whichever turn is open.
            (CancelScope::Node, Some(Modality::Stt)) => CancelToken::Node(0, Modality::Stt),
            (CancelScope::Node, Some(modality)) => CancelToken::Node(open, modality),
            (CancelScope::Node, None) => return self.ignore_cancel(),
            (CancelScope::ProviderInvocation, _) => CancelToken::ProviderInvocation(target),
        };
        match token {
            CancelToken::Turn(turn) if turn == 0 || turn != open => self.ignore_cancel(),
            CancelToken::Turn(_) => self.interrupt(Signal::Cancel),
            CancelToken::Session => {
                self.signal_cancel(0, CancelScope::Session);
                if open != 0 {
                    self.interrupt(Signal::Cancel);
                }
                self.stop_invocations(token);
            }
            CancelToken::Node(..) | CancelToken::ProviderInvocation(_) => {
                if !self.invocations.reached(token) {
                    return self.ignore_cancel();
                }
                self.signal_cancel(open, scope);
                self.stop_invocations(token);
            }
        }
    }

    fn stop_invocations(&mut self, token: CancelToken) {
        let (sent, count) = self.cancel_invocations(token);
        for &modality in Modality::ALL {
            let own = |(number, _): &&(u32, u32)| self.invocations.modality(*number) == Some(modality);
            if let Some((_, turn)) = sent[..count].iter().find(own) {
                self.tell_nodes(*turn, Fate::NodeCancelled(modality));
            }
        }
        for (invocation, _) in &sent[..count] {
            self.effects.push(Effect::CancelInvocation { invocation: *invocation });
        }
    }

    fn ignore_cancel(&mut self) {
        self.marker(Class::Baseline, self.open_turn(), Marker::CancelIgnored, 0);
    }

    /// What every call outside `step` begins with; effects of an expired lease wait for the next step.
    pub(super) fn enter(&mut self, now_us: u64) {
        self.crossings += 1;
        self.advance(now_us);
        if self.authority.expired(self.now_us) {
            self.begin();
            self.note_call(Class::Baseline, self.open_turn(), Call::DeadlinePassed);
            self.expire();
        }
    }

    /// Notices that the lease has run out, as every call does; a replay calls it by itself.
    pub fn deadline_passed(&mut self, now_us: u64) {
        self.enter(now_us);
    }

    /// Records one provider invocation. Effects wait for the next step.
    pub fn provider_outcome(
        &mut self,
        now_us: u64,
        turn: u32,
        modality: Modality,
        outcome: ProviderOutcome,
        latency_us: u64,
    ) {
        self.enter(now_us);
        let body = Body::Provider { reported: true, modality, outcome, latency_us };
        self.record(Class::Detail, turn, 0, body);
    }
}
