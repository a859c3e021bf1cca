//! Sessions that leave where they are: runtimes that drain, epochs that rotate under their holder, and
//! sessions that are moved to another placement while they run (section 9.5 of the contracts).
//!
//! | a move            | who tells whom                | may be                          |
//! |-------------------|-------------------------------|---------------------------------|
//! | the epoch rotates | the new placement, the store  | lost, slow, or refused          |
//! | the view changes  | the control plane, the old    | lost                            |
//! | it starts         | the control plane, the old    | lost, repeated, out of order    |
//! | the old drains    | itself, or its next renewal   | too late: its lease runs out    |
//! | the new reattaches and finishes | itself, when it is in the room | struck by any fault |
//! | the handoff       | the control plane, the new    | lost                            |

use rspp_kernel::input::{ConnectionState, Event as Input};
use rspp_kernel::migration::Step;

use crate::agent::Phase;
use crate::queue::{AgentId, CallId, Event, WorkerId};
use crate::reached::Place;
use crate::store::Wish;
use crate::world::World;

/// Longest wait for the running turn (`DRAIN_SECONDS` in `rspp/runtime/call.py`).
const DRAIN_LIMIT_US: u64 = 10_000_000;

/// What strikes a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    Crash,
    Pause,
    CutOff,
}

impl World {
    /// A worker is asked to stop: each session may finish its turn, then leaves; no call is taken.
    pub(crate) fn drain_worker(&mut self, worker: WorkerId) {
        let host = &mut self.workers[worker];
        if !host.takes_calls() {
            return;
        }
        host.draining = true;
        let life = host.life;
        for agent in 0..self.agents.len() {
            let share = &mut self.agents[agent];
            if share.worker == worker && share.active() {
                share.draining = true;
                share.drain_turn = share.open;
                if share.has_begun() {
                    self.step(agent, Input::Drain);
                }
            }
        }
        self.plan_in(DRAIN_LIMIT_US, Event::DrainLimit(worker, life));
        self.strike_soon(worker, 3_000_000);
    }

    /// The process waits no longer; another one takes its place.
    pub(crate) fn drain_limit(&mut self, worker: WorkerId, life: u32) {
        let host = &self.workers[worker];
        if !host.alive || host.life != life {
            return;
        }
        for agent in 0..self.agents.len() {
            let share = &mut self.agents[agent];
            if share.worker != worker || !share.active() {
                continue;
            }
            if share.phase == Phase::Asking {
                // A grant on its way finds nobody and runs out.
                share.phase = Phase::Left;
                continue;
            }
            share.drain_turn = None;
            if share.open.is_some() {
                self.hit(Place::DrainCut);
            }
            if self.agents[agent].has_begun() {
                self.step(agent, Input::Connection { state: ConnectionState::Ended, reason: "drained" });
            }
        }
        self.workers[worker].alive = false;
        self.restart(worker);
    }

    /// The control plane rotates the epoch of a session that stays where it is.
    pub(crate) fn rotate(&mut self) {
        let Some(call) = self.some_call() else { return };
        let Some((holder, epoch)) = self.store.rotate(self.now_us, call) else { return };
        self.ended_at_store(call, epoch - 1);
        self.view_changes(holder, epoch);
        let worker = self.agents[holder].worker;
        self.strike_soon(worker, 1_000_000);
    }

    /// The control plane moves a session to another worker.
    pub(crate) fn move_session(&mut self) {
        let Some(call) = self.some_call() else { return };
        let Some(holder) = self.store.holder(call).filter(|holder| self.agents[*holder].phase == Phase::Live)
        else {
            return;
        };
        let away = self.rng.range(1, self.workers.len() as u64);
        let from = self.agents[holder].worker;
        let worker = (from + usize::try_from(away).unwrap_or(1)) % self.workers.len();
        if self.workers[worker].takes_calls() {
            self.seek(worker, call, Wish::Move);
            let struck = if self.chance(2) { worker } else { from };
            self.strike_soon(struck, 400_000);
        }
    }

    /// A call that goes on, one in a turn before the others.
    fn some_call(&mut self) -> Option<CallId> {
        let on_line = |call: &CallId| self.callers[*call].on_line;
        let in_turn = |call: &CallId| {
            let holder = self.store.holder(*call);
            holder.is_some_and(|holder| self.agents[holder].open.is_some())
        };
        let calls: Vec<CallId> = (0..self.callers.len()).filter(on_line).collect();
        let busy: Vec<CallId> = calls.iter().copied().filter(in_turn).collect();
        let calls = if busy.is_empty() { calls } else { busy };
        (!calls.is_empty()).then(|| calls[self.rng.index(calls.len())])
    }

    /// The store has given a session to a new placement; the control plane tells the old one.
    pub(crate) fn moved(&mut self, call: CallId, old: AgentId, new: AgentId, epoch: u64) {
        self.ended_at_store(call, epoch - 1);
        self.agents[new].moving = true;
        if !self.agents[old].active() {
            return;
        }
        self.agents[old].moved_to = Some(new);
        if self.chance(3) {
            self.view_changes(old, epoch);
        }
        for step in [Step::Rotated, Step::Started] {
            let least_us = if step == Step::Started { 2_000 } else { 1_000 };
            for _ in 0..=u64::from(self.chance(8)) {
                let longest_us = if self.chance(2) { 1_500_000 } else { 4_000 };
                let wait_us = self.rng.range(least_us, longest_us);
                if !self.chance(6) {
                    self.plan_in(wait_us, Event::Told(old, step, epoch));
                }
            }
        }
    }

    /// An epoch is over at the store; its holder learns of it with its next renewal at the latest.
    pub(crate) fn ended_at_store(&mut self, call: CallId, epoch: u64) {
        let caller = &mut self.callers[call];
        caller.revoked_epoch = caller.revoked_epoch.max(epoch);
    }

    fn view_changes(&mut self, agent: AgentId, epoch: u64) {
        let wait_us = self.rng.range(1_000, 900_000);
        if !self.chance(3) {
            self.plan_in(wait_us, Event::View(agent, epoch));
        }
    }

    /// The control plane reaches a runtime with a refreshed view.
    pub(crate) fn view(&mut self, agent: AgentId, epoch: u64) {
        if self.reached_by_control(agent) {
            self.step(agent, Input::RoutingView { epoch });
        }
    }

    /// The control plane tells a placement a step of a move.
    pub(crate) fn told(&mut self, agent: AgentId, step: Step, epoch: u64) {
        if !self.reached_by_control(agent) {
            return;
        }
        let share = &mut self.agents[agent];
        let in_order = share.told_rotated == epoch;
        match step {
            // Until its own move is finished a placement takes no other; its next renewal ends it then.
            Step::Rotated if share.phase == Phase::Live => share.told_rotated = epoch,
            Step::Started if !in_order => self.hit(Place::MoveStepRefused),
            _ => {}
        }
        self.step(agent, Input::Migration { step, epoch });
        let drained = self.agents[agent].kernel.as_ref().is_none_or(|kernel| kernel.drained());
        if step == Step::Started && in_order && !drained {
            self.never(format!("agent {agent} was told that its session moves to epoch {epoch} and stays"));
        }
    }

    fn reached_by_control(&self, agent: AgentId) -> bool {
        let share = &self.agents[agent];
        let known = matches!(share.phase, Phase::Joining | Phase::Removing | Phase::Live);
        known && self.workers[share.worker].runs()
    }

    /// A new placement is in the room, alone, and goes on with the session.
    pub(crate) fn move_finishes(&mut self, agent: AgentId) {
        let epoch = self.agents[agent].told_rotated;
        for step in [Step::Reattached, Step::Finished] {
            self.step(agent, Input::Migration { step, epoch });
        }
        if std::mem::replace(&mut self.agents[agent].moving, false) {
            self.hit(Place::MoveFinished);
            if !self.chance(3) {
                let wait_us = self.rng.range(1_000, 500_000);
                self.plan_in(wait_us, Event::Told(agent, Step::HandedOff, epoch));
            }
        }
    }

    /// Breaks something of a worker while it is in the middle of what has just begun.
    fn strike_soon(&mut self, worker: WorkerId, longest_us: u64) {
        if !self.chance(3) {
            let wait_us = self.rng.range(1_000, longest_us);
            self.plan_in(wait_us, Event::Strike(worker));
        }
    }

    /// Takes note of what a worker is in the middle of.
    pub(crate) fn struck(&mut self, worker: WorkerId, blow: Blow) {
        // A turn that a drain waits for; an epoch that has rotated and of which its holder does not know; a
        // session given to another placement that is not live yet; a session given to this one.
        let (mut drain, mut rotation, mut old, mut new) = (false, false, false, false);
        for (agent, share) in self.agents.iter().enumerate() {
            if share.worker != worker || !share.active() {
                continue;
            }
            let holds = self.store.holder(share.call) == Some(agent);
            let unheard = holds && share.epoch < self.store.epoch(share.call);
            drain |= share.drain_turn.is_some();
            rotation |= unheard && share.phase == Phase::Live;
            old |= share.moved_to.is_some_and(|new| self.agents[new].moving);
            new |= holds && share.moving;
        }
        let places = match blow {
            Blow::Crash => {
                [Place::CrashInDrain, Place::CrashInRotation, Place::OldCrashInMove, Place::NewCrashInMove]
            }
            Blow::Pause => {
                [Place::PauseInDrain, Place::PauseInRotation, Place::OldPauseInMove, Place::NewPauseInMove]
            }
            Blow::CutOff => [
                Place::CutOffInDrain,
                Place::CutOffInRotation,
                Place::OldCutOffInMove,
                Place::NewCutOffInMove,
            ],
        };
        for (there, place) in [drain, rotation, old, new].into_iter().zip(places) {
            if there {
                self.hit(place);
            }
        }
    }
}
