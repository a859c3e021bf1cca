//! Places for turns and for provider calls: what the runtime's admission says is an input, and what
//! follows from it for this session is decided here.
//!
//! Many sessions share the quotas of one runtime, so their admission lives outside of the sessions; its
//! answer is told before every input that may need a place, when it has changed. Without any answer there
//! is no quota.

use crate::admission::{Place, Point};
use crate::decision::{Decider, Decision, Outcome, Phase, Scope};
use crate::effect::Intent;
use crate::event::EventScope;
use crate::evidence::record::{Call, Class};
use crate::prelude::Activity;
use crate::reason::{Label, Reason};
use crate::session::starting::Refusal;
use crate::session::SessionKernel;
use crate::signal::{Emitter, Signal};

/// How often an intent that waits for a place looks for one, microseconds.
const LOOK_US: u64 = 100_000;

/// An intent that was deferred, or the notice that is owed after a rejection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deferred {
    intent: Intent,
    reference: u32,
    /// When it is looked for a place again, microseconds.
    look_us: u64,
    /// When it is given up, microseconds; none for a notice that is owed.
    until_us: Option<u64>,
    /// Whether it is a place of the runtime that it waits for.
    for_place: bool,
}

impl SessionKernel {
    /// Takes what admission says now at one point.
    pub fn admission(&mut self, now_us: u64, place: Place<&str>) {
        self.enter(now_us);
        let place = place.map(|word| self.interner.label(word));
        self.note_call(Class::Baseline, self.open_turn(), Call::Admission(place));
        match place.point {
            Point::TurnStart => self.turn_start = Some(place),
            Point::NodeDispatch => self.node_dispatch = Some(place),
            Point::EdgeEnqueue | Point::EdgeDequeue => {}
        }
    }

    /// Whether an intent of the caller waits for a place.
    #[must_use]
    pub fn waits_for_place(&self) -> bool {
        self.deferred.is_some_and(|deferred| deferred.for_place)
    }

    /// Provider invocations that have not ended.
    #[must_use]
    pub fn live_invocations(&self) -> usize {
        self.invocations.live()
    }

    /// Why no turn may start now, if so.
    pub(super) fn start_refused(&self) -> Option<(Outcome, Reason)> {
        let place = self.turn_start?;
        (place.outcome != Outcome::Admit).then_some((place.outcome, place.reason))
    }

    /// An intent was deferred: it waits as long as its claim holds.
    pub(super) fn keep_deferred(&mut self, intent: Intent, reference: u32, refusal: Refusal) {
        let until_us = Some(self.now_us.saturating_add(self.claim_us(refusal)));
        let for_place = refusal.reason == Reason::AdmissionCapacityDefer;
        let look_us = self.now_us + LOOK_US;
        self.deferred = Some(Deferred { intent, reference, look_us, until_us, for_place });
    }

    /// What it waits for may have come.
    pub(super) fn look_now(&mut self) {
        if let Some(deferred) = &mut self.deferred {
            deferred.look_us = self.now_us;
        }
    }

    /// Nothing waits any longer.
    pub(super) fn give_up_deferred(&mut self) {
        if let Some(Deferred { intent, reference, until_us: Some(_), .. }) = self.deferred.take() {
            self.give_up(intent, reference, Reason::AdmissionCapacityReject);
        }
    }

    /// An intent was rejected for want of a place or a bundle: the caller is told as soon as there is one.
    pub(super) fn owe_notice(&mut self, intent: Intent) {
        let told = matches!(intent, Intent::Utterance | Intent::Text) && !self.leaving.asked;
        self.deferred = (told && self.policy.failure_notice).then_some(Deferred {
            intent: Intent::FailureNotice,
            reference: 0,
            look_us: self.now_us + LOOK_US,
            until_us: None,
            for_place: false,
        });
    }

    /// When it is looked for a place again.
    pub(super) fn place_due_us(&self) -> Option<u64> {
        self.deferred.map(|deferred| deferred.look_us)
    }

    /// Looks for a place for what waits; gives it up when its claim has run out.
    pub(super) fn look_for_place(&mut self) {
        let Some(Deferred { intent, reference, until_us, .. }) = self.deferred else { return };
        if self.turn.is_some() {
            // What was answered since needs no notice any more.
            self.deferred = None;
        } else if self.prelude.activity() == Activity::Speech {
            // What the caller is saying takes the place of what waits.
            self.look_later();
        } else if let Some(gives_up) = self.keeps_waiting() {
            if until_us.is_some_and(|until_us| until_us <= self.now_us) {
                self.deferred = None;
                self.give_up(intent, reference, gives_up);
            } else {
                self.look_later();
            }
        } else {
            self.deferred = None;
            self.propose(intent, reference);
        }
    }

    fn look_later(&mut self) {
        let look_us = self.now_us + LOOK_US;
        if let Some(deferred) = &mut self.deferred {
            deferred.look_us = look_us;
        }
    }

    /// Whether a node may be dispatched; a refusal is recorded as shed at that point.
    pub(super) fn dispatch(&mut self, turn: u32) -> bool {
        let refused = self.node_dispatch.is_some_and(|place| place.outcome == Outcome::Shed);
        if refused {
            self.shed_at(turn, Scope::NodeDispatch);
            let in_turn = turn != 0 && turn == self.open_turn();
            let scope = if in_turn { EventScope::Turn } else { EventScope::Session };
            let reason = Label::Known(Reason::SchedulingPointShed);
            self.signal(Class::Baseline, turn, scope, Signal::Shed, Emitter::Rk25, reason);
        }
        !refused
    }

    /// Records the decision that sheds at a scheduling point.
    pub(super) fn shed_at(&mut self, turn: u32, scope: Scope) {
        let decision = Decision {
            outcome: Outcome::Shed,
            phase: Phase::SchedulingPoint,
            scope,
            decider: Decider::Rk25,
            reason: Reason::SchedulingPointShed,
        };
        self.decide(Class::Baseline, turn, decision);
    }
}
