//! Authority over the session: lease, deadline, routing view, ingress, migration.

use crate::authority::{Grant, Ingress};
use crate::behaviour::Behaviour;
use crate::decision::{Decision, Outcome, Phase, Scope};
use crate::effect::{AgentState, Effect};
use crate::evidence::record::{Call, Class, Marker};
use crate::migration::{self, Step};
use crate::node::Fate;
use crate::reason::{Label, Reason};
use crate::session::{Drained, SessionKernel, TURN_EPOCHS};
use crate::signal::{Emitter, Signal};

/// Most turns that an earlier placement may have opened: far beyond any call, and no sum can pass the type.
const MOST_TURNS: u32 = u32::MAX / 2;

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
            Grant::Stale => self.stale_epoch(open, Scope::NodeDispatch),
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
        let cut_off = self.cut_off();
        if cut_off.is_some() {
            self.drain_turn();
            self.agent_state(AgentState::Listening);
        }
        self.remember_epoch(epoch);
        self.marker(Class::Baseline, 0, Marker::LeaseGranted, epoch);
        let reason = Label::Known(Reason::AuthorityEpochRotation);
        if std::mem::replace(&mut self.rotated_epoch, epoch) != epoch {
            self.signal_session(Class::Baseline, Signal::LeaseRotated, Emitter::Cp07, reason);
        }
        if let (Some(cut_off), true) = (cut_off, self.behaviours.has(Behaviour::RotationTold)) {
            self.tell_failure(cut_off);
        }
    }

    fn remember_epoch(&mut self, epoch: u64) {
        self.plan.prepare(epoch);
        if self.turn_epochs.len() == TURN_EPOCHS {
            self.turn_epochs.remove(0);
        }
        self.turn_epochs.push((self.last_turn + 1, epoch));
    }

    /// Diagnostics of something stale: a refusal at a scheduling point that moves no turn.
    pub(super) fn stale_epoch(&mut self, turn: u32, point: Scope) {
        let reason = Reason::AuthorityEpochMismatch;
        let decision = Decision::authority(Outcome::StaleEpochReject, Phase::SchedulingPoint, point, reason);
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
        self.tell_nodes(0, Fate::Over);
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

    /// May an event from outside come in? Names the epoch that it is taken under.
    ///
    /// Ask again once the routing view was refreshed if the answer is [`Ingress::Refresh`].
    pub fn ingress(&mut self, now_us: u64, carrier: Option<i64>) -> (Ingress, u64) {
        self.crossings += 1;
        self.advance(now_us);
        let view = self.authority.view();
        if self.authority.drained() || self.authority.expired(self.now_us) {
            return (Ingress::Stale, view);
        }
        let verdict = self.authority.ingress(carrier);
        let open = self.open_turn();
        let call = Call::Ingress { carrier };
        match verdict {
            Ingress::Accepted | Ingress::Invalid => {}
            Ingress::Enriched => {
                self.note_call(Class::Detail, open, call);
                self.marker(Class::Detail, open, Marker::EpochEnriched, view);
            }
            Ingress::Refresh => {
                self.note_call(Class::Detail, open, call);
                self.marker(Class::Detail, open, Marker::ViewBehind, view);
            }
            Ingress::Stale => {
                self.stale_events += 1;
                // Once per turn: a flood of stale events must not fill the evidence.
                if self.stale_event_reported.replace(open) != Some(open) {
                    self.note_call(Class::Baseline, open, call);
                    self.stale_epoch(open, Scope::EdgeEnqueue);
                }
            }
        }
        (verdict, view)
    }

    /// Epoch of the routing view.
    #[must_use]
    pub const fn view(&self) -> u64 {
        self.authority.view()
    }

    pub(super) fn routing_view(&mut self, epoch: u64) {
        let name = if self.authority.route(epoch) { Marker::ViewSupersedes } else { Marker::ViewRefreshed };
        self.marker(Class::Baseline, self.open_turn(), name, epoch);
    }

    /// The session goes on under this epoch: a placement with a lower one drains.
    fn started_elsewhere(&mut self, epoch: u64) {
        let newly = self.authority.route(epoch);
        if newly {
            self.marker(Class::Baseline, self.open_turn(), Marker::ViewSupersedes, epoch);
        }
        let superseded = self.authority.holds() && self.authority.superseded();
        if newly || (superseded && self.behaviours.has(Behaviour::DrainSuperseded)) {
            self.drain_authority(Label::Known(Reason::LeaseStaleEpoch));
        }
    }

    /// Takes over what survived of an earlier placement, before the first turn: turns are counted on, so that
    /// no turn of a session has the number of another. Returns whether it was taken.
    ///
    /// The words themselves are the shell's; how many messages came along is evidence.
    pub fn reattach(&mut self, now_us: u64, turns: u32, messages: u32) -> bool {
        self.enter(now_us);
        self.note_call(Class::Baseline, self.open_turn(), Call::Reattach { turns, messages });
        let fits = self.authority.holds() && self.last_turn == 0 && turns <= MOST_TURNS;
        if fits {
            self.last_turn = turns;
        } else {
            self.marker(Class::Baseline, self.open_turn(), Marker::MigrationRefused, self.authority.epoch());
        }
        fits
    }

    /// Takes one step of a migration; the signals come out in the order of the steps.
    pub(super) fn migrate(&mut self, step: Step, epoch: u64) {
        let held = self.authority.holds();
        let fits = match step {
            Step::Rotated => epoch >= self.authority.epoch(),
            Step::Reattached => held,
            Step::Finished => !held || self.migration.state() == migration::State::Reattached,
            Step::Started | Step::HandedOff => true,
        };
        if !(fits && self.migration.step(step, epoch)) {
            self.marker(Class::Baseline, self.open_turn(), Marker::MigrationRefused, epoch);
            return;
        }
        let (signal, emitter, reason) = match step {
            Step::Rotated => (Signal::LeaseRotated, Emitter::Cp07, Reason::AuthorityEpochRotation),
            Step::Started => (Signal::MigrationStart, Emitter::Cp08, Reason::RegionFailoverStart),
            Step::Finished => (Signal::MigrationFinish, Emitter::Cp08, Reason::RegionFailoverComplete),
            Step::HandedOff => (Signal::SessionHandoff, Emitter::Cp08, Reason::AuthoritativeHandoff),
            Step::Reattached => {
                self.marker(Class::Baseline, 0, Marker::StateReattached, epoch);
                return;
            }
        };
        let known = step == Step::Rotated && std::mem::replace(&mut self.rotated_epoch, epoch) == epoch;
        if !known {
            self.signal_session(Class::Baseline, signal, emitter, Label::Known(reason));
        }
        if step == Step::Started {
            self.started_elsewhere(epoch);
        }
    }
}
