//! Opening and ending turns, and authority over them.

use std::borrow::Cow;

use crate::authority::Grant;
use crate::decision::{Decision, Outcome, Phase, Scope};
use crate::effect::{AgentState, Effect, Intent, TurnOutcome};
use crate::evidence::record::{Body, Class, Marker};
use crate::fence::Hold;
use crate::input::{CancelSignal, ConnectionState, PlaybackEvent};
use crate::prelude::Activity;
use crate::reason::{Label, Reason};
use crate::session::{Drained, OpenTurn, SessionKernel, ENDED_TURNS, OPENING_ROOM, TURN_EPOCHS};
use crate::signal::{Emitter, Signal};
use crate::turn::{Machine, Trigger};

impl SessionKernel {
    /// Notices that the local lease deadline has passed.
    pub(super) fn expire(&mut self) {
        if self.authority.expired(self.now_us) {
            self.drain_authority(Label::Known(Reason::LeaseExpired));
        }
    }

    pub(super) fn lease(&mut self, epoch: u64, deadline_us: u64) {
        let open = self.open_turn();
        match self.authority.grant(epoch, deadline_us) {
            Grant::TooLate => {}
            Grant::Stale => self.stale_epoch(open),
            Grant::Renewed => self.marker(Class::Detail, open, Marker::LeaseRenewed, epoch),
            Grant::Issued => {
                self.remember_epoch(epoch);
                self.marker(Class::Baseline, 0, Marker::LeaseGranted, epoch);
                self.signal_session(Class::Baseline, Signal::LeaseIssued, Emitter::Cp07, Label::Empty);
            }
            Grant::Rotated => self.rotate(epoch),
        }
    }

    /// A turn's plan is frozen with its epoch, so a turn cannot outlive its epoch.
    fn rotate(&mut self, epoch: u64) {
        if self.turn.is_some() {
            self.drain_turn();
            self.agent_state(AgentState::Listening);
        }
        self.remember_epoch(epoch);
        self.marker(Class::Baseline, 0, Marker::LeaseGranted, epoch);
        let reason = Label::Known(Reason::AuthorityEpochRotation);
        self.signal_session(Class::Baseline, Signal::LeaseRotated, Emitter::Cp07, reason);
    }

    fn remember_epoch(&mut self, epoch: u64) {
        if self.turn_epochs.len() == TURN_EPOCHS {
            self.turn_epochs.remove(0);
        }
        self.turn_epochs.push((self.last_turn + 1, epoch));
    }

    pub(super) fn stale_epoch(&mut self, turn: u32) {
        let reason = Reason::AuthorityEpochMismatch;
        let decision = Decision::authority(
            Outcome::StaleEpochReject,
            Phase::SchedulingPoint,
            Scope::NodeDispatch,
            reason,
        );
        self.decide(Class::Baseline, turn, decision);
        let (signal, emitter, reason) = (Signal::StaleEpochReject, Emitter::Rk24, Label::Known(reason));
        if turn == 0 {
            self.signal_session(Class::Baseline, signal, emitter, reason);
        } else {
            self.signal_turn(Class::Baseline, turn, signal, emitter, reason);
        }
    }

    /// Authority is gone for good: the gate closes first, then the turn, then the room is left.
    pub(super) fn drain_authority(&mut self, reason: Label) {
        if !self.authority.drain() {
            return;
        }
        self.drained = Some(Drained::Authority);
        let open = self.open_turn();
        self.marker(Class::Terminal, open, Marker::GateClosed, self.authority.epoch());
        if open == 0 {
            self.signal_session(Class::Terminal, Signal::DeauthorizedDrain, Emitter::Rk24, reason);
        } else {
            self.drain_turn();
        }
        let reason = self.interner.owned(reason);
        self.effects.push(Effect::LeaveRoom { reason });
    }

    fn drain_turn(&mut self) {
        let turn = self.open_turn();
        let reason = Reason::AuthorityRevokedInTurn;
        let decision =
            Decision::authority(Outcome::DeauthorizedDrain, Phase::ActiveTurn, Scope::Turn, reason);
        self.decide(Class::Terminal, turn, decision);
        let (signal, label) = (Signal::DeauthorizedDrain, Label::Known(reason));
        self.signal_turn(Class::Terminal, turn, signal, Emitter::Rk24, label);
        self.abort(Reason::AuthorityLoss);
    }

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

    /// Proposes a turn. A running one is interrupted first.
    pub(super) fn propose(&mut self, intent: Intent, reference: u32) {
        if self.turn.is_some() {
            self.interrupt(Signal::BargeIn);
        }
        let mut machine = Machine::new();
        let number = self.last_turn + 1;
        self.last_turn = number;
        let reason = Label::Known(Reason::SessionTurnIntent);
        self.signal_session(Class::Baseline, Signal::TurnOpenProposed, Emitter::Rk02, reason);
        self.fire(&mut machine, number, Trigger::TurnOpenProposed, Class::Baseline);
        let refusal = if self.drained == Some(Drained::Call) {
            Some((Outcome::Reject, Reason::TransportDisconnectOrStall))
        } else if !self.authority.holds() {
            Some((Outcome::DeauthorizedDrain, Reason::AuthorityRevokedBeforeOpen))
        } else if self.evidence.free() < OPENING_ROOM {
            Some((Outcome::Reject, Reason::RecordingEvidenceUnavailable))
        } else {
            None
        };
        if let Some((outcome, reason)) = refusal {
            self.refuse(machine, number, intent, reference, outcome, reason);
            return;
        }
        let epoch = self.authority.epoch();
        let Ok(plan) = self.plan.materialize(epoch, number) else {
            self.marker(Class::Baseline, number, Marker::PlanFailed, 0);
            let reason = Reason::PlanMaterializationFailed;
            self.refuse(machine, number, intent, reference, Outcome::Reject, reason);
            return;
        };
        let admitted = Reason::AdmissionCapacityAllow;
        self.decide(Class::Baseline, number, Decision::admission(Outcome::Admit, admitted));
        self.signal_candidate(number, Signal::Admit, Emitter::Rk25, admitted);
        self.record(Class::Baseline, number, 0, Body::Plan(plan));
        self.signal_turn(Class::Baseline, number, Signal::TurnOpen, Emitter::Rk03, Label::Empty);
        self.fire(&mut machine, number, Trigger::TurnOpen, Class::Baseline);
        self.turn = Some(OpenTurn { number, machine, intent, finished: false });
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
        outcome: Outcome,
        reason: Reason,
    ) {
        let (decision, signal, emitter, trigger) = if outcome == Outcome::DeauthorizedDrain {
            let decision = Decision::authority(outcome, Phase::PreTurn, Scope::Turn, reason);
            (decision, Signal::DeauthorizedDrain, Emitter::Rk24, Trigger::DeauthorizedDrain)
        } else {
            let decision = Decision::admission(outcome, reason);
            (decision, Signal::Reject, Emitter::Rk25, Trigger::Reject)
        };
        self.decide(Class::Baseline, number, decision);
        self.signal_candidate(number, signal, emitter, reason);
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
        self.abort(Reason::Cancelled);
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
        if self.ended_turns.len() == ENDED_TURNS {
            self.ended_turns.remove(0);
        }
        self.ended_turns.push((number, trigger == Trigger::Commit));
        if reason == Label::Known(Reason::Cancelled) {
            self.marker(Class::Terminal, number, Marker::FenceApplied, 0);
        }
        self.marker(Class::Terminal, number, Marker::FramesPassed, samples);
        let signal = if trigger == Trigger::Commit { Signal::Commit } else { Signal::Abort };
        self.fire(&mut machine, number, trigger, Class::Terminal);
        self.signal_turn(Class::Terminal, number, signal, Emitter::Rk03, reason);
        self.fire(&mut machine, number, Trigger::Close, Class::Terminal);
        self.signal_turn(Class::Terminal, number, Signal::Close, Emitter::Rk03, Label::Empty);
        Some(number)
    }

    /// Aborts and closes the running turn.
    pub(super) fn abort(&mut self, reason: Reason) {
        if let Some(turn) = self.end_turn(Trigger::Abort, Label::Known(reason)) {
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
            _ => self.marker(Class::Baseline, turn, Marker::LateEvent, 0),
        }
    }

    pub(super) fn generation_failed(&mut self, turn: u32, reason: &str) {
        if turn == 0 || turn != self.open_turn() {
            self.marker(Class::Baseline, turn, Marker::LateEvent, 0);
            return;
        }
        self.fail(Reason::parse(reason).unwrap_or(Reason::ProviderFailure));
    }

    /// Aborts the running turn because something in it failed, and says so if the policy wants it.
    fn fail(&mut self, reason: Reason) {
        let Some(open) = self.turn else { return };
        let (burst, speaking) = (self.burst, self.gate.held_by(Hold::Speech));
        self.abort(reason);
        self.agent_state(AgentState::Listening);
        let again = open.intent == Intent::FailureNotice;
        if !self.policy.failure_notice || again || self.drained.is_some() {
            return;
        }
        self.propose(Intent::FailureNotice, 0);
        if speaking && self.turn.is_some() {
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
        self.fail(reason);
    }

    /// Without evidence a turn may not go on; its terminal markers fit into the reserve.
    pub(super) fn check_evidence(&mut self) {
        if self.evidence.take_loss() && self.turn.is_some() {
            self.abort(Reason::RecordingEvidenceUnavailable);
            self.agent_state(AgentState::Listening);
            self.evidence.take_loss();
        }
    }

    pub(super) fn playback(&mut self, turn: u32, event: PlaybackEvent) {
        // An aborted turn is behind a closed fence: nothing of it may start to play any more.
        let taken = match self.ended_turns.iter().find(|(ended, _)| *ended == turn) {
            Some((_, committed)) => *committed || event != PlaybackEvent::Started,
            None => turn != 0 && turn == self.open_turn(),
        };
        if !taken {
            self.marker(Class::Baseline, turn, Marker::LateEvent, 0);
            return;
        }
        let (signal, reason) = match event {
            PlaybackEvent::Started => (Signal::PlaybackStarted, Label::Empty),
            PlaybackEvent::Completed => (Signal::PlaybackCompleted, Label::Empty),
            PlaybackEvent::Cancelled => (Signal::PlaybackCancelled, Label::Known(Reason::CancelFenceApplied)),
        };
        self.signal_turn(Class::Baseline, turn, signal, Emitter::Rk22, reason);
    }

    pub(super) fn connection(&mut self, state: ConnectionState, reason: &str) {
        let label = self.interner.label(reason);
        let signal = match state {
            ConnectionState::Connected => Signal::Connected,
            ConnectionState::Reconnecting => Signal::Reconnecting,
            ConnectionState::Disconnected => Signal::Disconnected,
            ConnectionState::Ended => Signal::Ended,
            ConnectionState::Silence => Signal::Silence,
            ConnectionState::Stall => Signal::Stall,
            ConnectionState::Muted => Signal::Muted,
        };
        self.signal_session(Class::Baseline, signal, Emitter::Rk23, label);
        match state {
            ConnectionState::Connected => {
                self.connection_down = false;
                self.release(Hold::Connection);
            }
            ConnectionState::Reconnecting => {
                self.connection_down = true;
                self.hold(Hold::Connection);
            }
            ConnectionState::Silence | ConnectionState::Stall | ConnectionState::Muted => {
                self.prelude.pause();
            }
            ConnectionState::Disconnected | ConnectionState::Ended => {
                let reason = if reason.is_empty() { state.name() } else { reason };
                self.end_call(reason);
            }
        }
    }

    fn end_call(&mut self, reason: &str) {
        if !self.authority.drain() {
            return;
        }
        self.drained = Some(Drained::Call);
        self.marker(Class::Terminal, self.open_turn(), Marker::GateClosed, self.authority.epoch());
        self.abort(Reason::TransportDisconnectOrStall);
        let label = self.interner.label(reason);
        let reason = self.interner.owned(label);
        self.effects.push(Effect::LeaveRoom { reason });
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
