//! Opening and ending turns.

use std::borrow::Cow;

use crate::cancellation::CancelToken;
use crate::decision::{Decider, Decision, Outcome, Scope};
use crate::effect::{AgentState, Effect, Intent, TurnOutcome};
use crate::evidence::record::{Body, Class, Marker};
use crate::fence::Hold;
use crate::input::CancelSignal;
use crate::interruption::Burst;
use crate::node::Fate;
use crate::policy::{LateAction, Overlap};
use crate::prelude::Activity;
use crate::reason::{Label, Reason};
use crate::session::starting::Refusal;
use crate::session::{OpenTurn, SessionKernel, ENDED_TURNS};
use crate::signal::{Emitter, Signal};
use crate::turn::{Machine, Trigger};

/// A turn as it failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff {
    intent: Intent,
    /// The caller's burst over it, if there was one.
    speaking: Option<Burst>,
}

impl SessionKernel {
    pub(super) fn start(&mut self, resumed: bool) {
        if std::mem::replace(&mut self.started, true) {
            self.marker(Class::Baseline, self.open_turn(), Marker::LateEvent, 0);
            return;
        }
        self.signal_session(Class::Baseline, Signal::Connected, Emitter::Rk23, Label::Empty);
        self.agent_state(AgentState::Listening);
        if resumed && self.policy.takeover_notice {
            self.propose(Intent::TakeoverNotice, 0);
        } else if !resumed && self.policy.greeting {
            self.propose(Intent::Greeting, 0);
        }
    }

    /// An intent from outside arrives; while a turn runs the policy says what becomes of it.
    pub(super) fn intend(&mut self, intent: Intent, reference: u32) {
        if self.turn.is_none() || self.comes_too_late(intent) {
            return self.propose(intent, reference);
        }
        match self.policy.overlap {
            Overlap::Preempt => self.propose(intent, reference),
            Overlap::Defer => self.defer(intent, reference),
            Overlap::Queue => {
                self.marker(Class::Baseline, self.open_turn(), Marker::IntentQueued, u64::from(reference));
                if let Some((earlier, number)) = self.waiting.replace((intent, reference)) {
                    self.defer(earlier, number);
                }
            }
        }
    }

    /// Proposes the intent that waited for the running turn to end.
    pub(super) fn open_waiting(&mut self) {
        if self.turn.is_none() {
            if let Some((intent, reference)) = self.waiting.take() {
                self.propose(intent, reference);
            }
        }
    }

    fn candidate(&mut self) -> (Machine, u32) {
        let mut machine = Machine::new();
        let number = self.last_turn + 1;
        self.last_turn = number;
        let reason = Label::Known(Reason::SessionTurnIntent);
        self.signal_session(Class::Baseline, Signal::TurnOpenProposed, Emitter::Rk02, reason);
        self.fire(&mut machine, number, Trigger::TurnOpenProposed, Class::Baseline);
        (machine, number)
    }

    fn defer(&mut self, intent: Intent, reference: u32) {
        let (machine, number) = self.candidate();
        let refusal = Refusal::local(Outcome::Defer, Reason::AdmissionCapacityDefer);
        self.refuse(machine, number, intent, reference, refusal);
    }

    /// Rejects what has waited for too long.
    pub(super) fn give_up(&mut self, intent: Intent, reference: u32, reason: Reason) {
        let (machine, number) = self.candidate();
        self.refuse(machine, number, intent, reference, Refusal::local(Outcome::Reject, reason));
        self.owe_notice(intent);
    }

    /// Proposes a turn. A running one is interrupted first.
    pub(super) fn propose(&mut self, intent: Intent, reference: u32) {
        if self.turn.is_some() && !self.comes_too_late(intent) {
            self.interrupt(Signal::BargeIn);
        }
        let (mut machine, number) = self.candidate();
        if let Some(refusal) = self.refusal(intent) {
            self.refuse(machine, number, intent, reference, refusal);
            if refusal.waits() {
                self.keep_deferred(intent, reference, refusal);
            } else if self.owes_notice(refusal) {
                self.owe_notice(intent);
            }
            return;
        }
        let epoch = self.authority.epoch();
        let Ok(plan) = self.plan.materialize(epoch, number) else {
            self.marker(Class::Baseline, number, Marker::PlanFailed, 0);
            self.refuse(machine, number, intent, reference, self.plan_refusal());
            return;
        };
        let admitted = Reason::AdmissionCapacityAllow;
        self.decide(Class::Baseline, number, Decision::admission(Outcome::Admit, admitted));
        self.signal_candidate(number, Signal::Admit, Emitter::Rk25, admitted);
        self.record(Class::Baseline, number, 0, Body::Plan(plan));
        self.signal_turn(Class::Baseline, number, Signal::TurnOpen, Emitter::Rk03, Label::Empty);
        self.fire(&mut machine, number, Trigger::TurnOpen, Class::Baseline);
        self.deferred = None;
        self.turn = Some(OpenTurn { number, machine, intent, seed: plan.seed, finished: false });
        self.nodes_ended = 0;
        self.gate.open(number, self.now_us);
        let plan_hash = plan.hash;
        self.effects.push(Effect::OpenTurn { turn: number, epoch, intent, reference, plan_hash });
        self.agent_state(AgentState::Thinking);
        if self.connection_down {
            self.hold(Hold::Connection);
        }
        if self.policy.interruptions && self.prelude.activity() == Activity::Speech {
            // Nobody starts to talk over a caller who is speaking.
            self.burst.begin(self.now_us);
            self.hold(Hold::Speech);
        }
    }

    fn refuse(
        &mut self,
        mut machine: Machine,
        number: u32,
        intent: Intent,
        reference: u32,
        refusal: Refusal,
    ) {
        let Refusal { outcome, reason, decider, scope } = refusal;
        let trigger = match outcome {
            Outcome::DeauthorizedDrain => Trigger::DeauthorizedDrain,
            Outcome::StaleEpochReject => Trigger::StaleEpochReject,
            Outcome::Defer => Trigger::Defer,
            Outcome::Admit | Outcome::Reject | Outcome::Shed => Trigger::Reject,
        };
        let emitter = match decider {
            Decider::Rk24 => Emitter::Rk24,
            Decider::Rk25 => Emitter::Rk25,
            Decider::Cp05 => Emitter::Cp05,
        };
        // What covers more than the turn does not name it.
        let named = if scope == Scope::Turn { number } else { 0 };
        self.decide(Class::Baseline, named, refusal.decision());
        self.signal_candidate(number, outcome.signal(), emitter, reason);
        self.fire(&mut machine, number, trigger, Class::Baseline);
        self.effects.push(Effect::RefuseIntent {
            intent,
            reference,
            outcome: outcome.name(),
            reason: reason.code(),
        });
    }

    /// Before the turn is open its signals have session scope and only carry the candidate's id.
    fn signal_candidate(&mut self, number: u32, signal: Signal, emitter: Emitter, reason: Reason) {
        let scope = crate::event::EventScope::Session;
        self.signal(Class::Baseline, number, scope, signal, emitter, Label::Known(reason));
    }

    fn fire(&mut self, machine: &mut Machine, number: u32, trigger: Trigger, class: Class) {
        let transition = machine.fire(trigger);
        debug_assert!(transition.is_some(), "{trigger:?} in {:?}", machine.state());
        if let Some(transition) = transition {
            self.record(class, number, 0, Body::Transition(transition));
        }
    }

    /// Accepts a barge-in, stop or cancel of the running turn: the fence closes in this very step.
    pub(super) fn interrupt(&mut self, signal: Signal) {
        let turn = self.open_turn();
        self.signal_turn(Class::Baseline, turn, signal, Emitter::Rk06, Label::Empty);
        self.marker(Class::Baseline, turn, Marker::CancelAccepted, 0);
        let fate = if signal == Signal::BargeIn { Fate::BargeIn } else { Fate::Cancelled };
        self.abort_by(fate, Reason::Cancelled);
        self.agent_state(AgentState::Listening);
    }

    pub(super) fn cancel(&mut self, signal: CancelSignal) {
        if self.turn.is_none() {
            self.marker(Class::Baseline, 0, Marker::CancelIgnored, 0);
            return;
        }
        self.interrupt(match signal {
            CancelSignal::Stop => Signal::Stop,
            CancelSignal::Cancel => Signal::Cancel,
        });
    }

    /// Ends the running turn; none when there is nothing to end.
    fn end_turn(&mut self, trigger: Trigger, reason: Label) -> Option<u32> {
        let OpenTurn { number, mut machine, .. } = self.turn.take()?;
        let samples = self.gate.close();
        if trigger == Trigger::Commit && samples > 0 {
            self.leaving.unheard = number;
        }
        if self.ended_turns.len() == ENDED_TURNS {
            self.ended_turns.remove(0);
        }
        self.ended_turns.push((number, trigger == Trigger::Commit));
        if reason == Label::Known(Reason::Cancelled) {
            self.marker(Class::Terminal, number, Marker::FenceApplied, 0);
        }
        self.cancel_invocations(CancelToken::Turn(number));
        self.marker(Class::Terminal, number, Marker::FramesPassed, samples);
        let signal = if trigger == Trigger::Commit { Signal::Commit } else { Signal::Abort };
        self.fire(&mut machine, number, trigger, Class::Terminal);
        self.signal_turn(Class::Terminal, number, signal, Emitter::Rk03, reason);
        self.fire(&mut machine, number, Trigger::Close, Class::Terminal);
        self.signal_turn(Class::Terminal, number, Signal::Close, Emitter::Rk03, Label::Empty);
        self.closed = (number, self.now_us);
        self.invocations.allow(self.allowed);
        Some(number)
    }

    /// Aborts and closes the running turn.
    pub(super) fn abort(&mut self, reason: Reason) {
        self.abort_by(Fate::Cancelled, reason);
    }

    /// Aborts and closes the running turn, whose nodes are told of their fate.
    fn abort_by(&mut self, fate: Fate, reason: Reason) {
        if let Some(turn) = self.end_turn(Trigger::Abort, Label::Known(reason)) {
            self.tell_nodes(turn, fate);
            let reason = Cow::Borrowed(reason.code());
            self.effects.push(Effect::CancelTurn { turn, reason: reason.clone() });
            self.effects.push(Effect::CloseTurn { turn, outcome: TurnOutcome::Abort, reason });
        }
    }

    fn commit(&mut self) {
        if let Some(turn) = self.end_turn(Trigger::Commit, Label::Empty) {
            let (outcome, reason) = (TurnOutcome::Commit, Cow::Borrowed(""));
            self.effects.push(Effect::CloseTurn { turn, outcome, reason });
            self.agent_state(AgentState::Listening);
        }
    }

    pub(super) fn generation_finished(&mut self, turn: u32) {
        match &mut self.turn {
            Some(open) if open.number == turn => {
                open.finished = true;
                if !self.gate.held() {
                    self.commit();
                }
            }
            _ => self.late_event(turn),
        }
    }

    /// An event of a turn that is over: it never opens that turn again.
    ///
    /// Reports of a shell carry no intent, so there is nothing that could be remapped; only the words
    /// of an utterance can.
    pub(super) fn late_event(&mut self, turn: u32) {
        let ended_us = if turn != 0 && turn == self.closed.0 { Some(self.closed.1) } else { None };
        self.marker(Class::Baseline, turn, Marker::LateEvent, self.policy.late_event as u64);
        if self.policy.late_event == LateAction::Diagnostics {
            if let Some(ended_us) = ended_us {
                self.marker(Class::Detail, turn, Marker::LateBy, self.now_us - ended_us);
            }
        }
    }

    pub(super) fn generation_failed(&mut self, turn: u32, reason: &str) {
        if turn == 0 || turn != self.open_turn() {
            self.late_event(turn);
            return;
        }
        // Decided by the label that was recorded, so that a replay decides the same.
        let label = self.interner.label(reason);
        self.fail(if let Label::Known(reason) = label { reason } else { Reason::ProviderFailure });
    }

    /// Aborts the running turn because something in it failed, and says so if the policy wants it.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.fail_by(Fate::Cancelled, reason);
    }

    /// The same, for a budget that is used up.
    pub(super) fn fail_by(&mut self, fate: Fate, reason: Reason) {
        let Some(cut_off) = self.cut_off() else { return };
        self.abort_by(fate, reason);
        self.agent_state(AgentState::Listening);
        self.tell_failure(cut_off);
    }

    /// What the caller has to be told about the running turn when it fails.
    pub(super) fn cut_off(&self) -> Option<CutOff> {
        let intent = self.turn?.intent;
        let speaking = self.gate.held_by(Hold::Speech).then_some(self.burst);
        Some(CutOff { intent, speaking })
    }

    /// Proposes the failure notice after a turn that failed, if the policy wants it; never one after the other.
    pub(super) fn tell_failure(&mut self, cut_off: CutOff) {
        let again = cut_off.intent == Intent::FailureNotice;
        if !self.policy.failure_notice || again || self.drained.is_some() {
            return;
        }
        self.propose(Intent::FailureNotice, 0);
        if let (Some(burst), true) = (cut_off.speaking, self.turn.is_some()) {
            // The caller's burst goes on across the failure; the notice waits for its end.
            self.burst = burst;
            self.hold(Hold::Speech);
        }
    }

    pub(super) fn budget_due_us(&self) -> Option<u64> {
        let open = self.turn?;
        if open.finished || self.gate.held() {
            return None;
        }
        let budget_ms = if self.gate.frames() == 0 {
            self.policy.first_output_budget_ms
        } else {
            self.policy.stall_budget_ms
        };
        Some(self.gate.waiting_since_us() + budget_ms * 1000)
    }

    pub(super) fn budget_exhausted(&mut self) {
        let reason = Reason::NodeTimeoutOrFailure;
        let turn = self.open_turn();
        let label = Label::Known(reason);
        self.signal_turn(Class::Baseline, turn, Signal::BudgetExhausted, Emitter::Rk17, label);
        self.fail_by(Fate::TurnBudget, reason);
    }

    /// Without evidence a turn may not go on; its terminal markers fit into the reserve.
    pub(super) fn check_evidence(&mut self) {
        if self.evidence.take_loss() && self.turn.is_some() {
            self.abort(Reason::RecordingEvidenceUnavailable);
            self.agent_state(AgentState::Listening);
            self.evidence.take_loss();
        }
    }

    /// Holds the voice of the running turn, if there is one.
    pub(super) fn hold(&mut self, hold: Hold) {
        let Some(open) = self.turn else { return };
        if self.gate.hold(hold) {
            self.marker(Class::Baseline, open.number, Marker::OutputHeld, hold as u64);
            self.effects.push(Effect::HoldOutput { turn: open.number });
        }
    }

    /// Ends one hold; a turn that had nothing left to say commits with it.
    pub(super) fn release(&mut self, hold: Hold) {
        let Some(open) = self.turn else { return };
        if !self.gate.release(hold, self.now_us) {
            return;
        }
        self.marker(Class::Baseline, open.number, Marker::OutputReleased, hold as u64);
        self.effects.push(Effect::ResumeOutput { turn: open.number });
        if open.finished {
            self.commit();
        }
    }
}
