//! Talking to the lease store, as `rspp/authority/watcher.py` does: one request at a time, given up
//! after a second, renewed every second, retried after 200 ms.

use rspp_kernel::input::{ConnectionState, Event as Input};
use rspp_kernel::migration::Step;

use crate::agent::{self, Phase};
use crate::queue::{AgentId, Event};
use crate::reached::Place;
use crate::store::{Answer, Ask, Said, Wish, MARGIN_US, TTL_US};
use crate::world::World;

const RENEW_US: u64 = 1_000_000;
const RETRY_US: u64 = 200_000;
const PATIENCE_US: u64 = 1_000_000;
/// An outage this long takes at least one renewal with it.
const OUTAGE_US: u64 = 1_000_000;

impl World {
    pub(crate) fn local_us(&self, agent: AgentId) -> u64 {
        self.workers[self.agents[agent].worker].clock.local_us(self.now_us)
    }

    pub(crate) fn ask(&mut self, agent: AgentId, wish: Wish) {
        let asked_local_us = self.local_us(agent);
        let share = &mut self.agents[agent];
        share.asks += 1;
        let number = share.asks;
        share.pending = Some((number, wish));
        let ask = Ask { agent, call: share.call, wish, number, epoch: share.epoch, asked_local_us };
        self.plan_in(PATIENCE_US, Event::AskTimeout(agent, number));
        if !self.workers[self.agents[agent].worker].reaches_store || self.chance(80) {
            return;
        }
        let wait_us = self.rng.range(200, 8_000) + self.store.slow_us;
        self.plan_in(wait_us, Event::Ask(ask));
        if wish == Wish::Renew && self.chance(60) {
            self.plan_in(wait_us + 3_000, Event::Ask(ask));
        }
    }

    pub(crate) fn ask_arrives(&mut self, ask: Ask) {
        let before = self.store.holder(ask.call);
        let said = self.store.answer(self.now_us, ask);
        if let (Wish::Move, Some(old), Said::Granted { epoch, .. }) = (ask.wish, before, said) {
            self.moved(ask.call, old, ask.agent, epoch);
        }
        let loses_once_in = if ask.wish == Wish::Move { 12 } else { 80 };
        let lost = !self.workers[self.agents[ask.agent].worker].reaches_store || self.chance(loses_once_in);
        if lost {
            if matches!(said, Said::Granted { .. }) {
                let moves = ask.wish == Wish::Move;
                self.hit(if moves { Place::MoveAnswerLost } else { Place::GrantAnswerLost });
            }
            return;
        }
        let wait_us = self.rng.range(200, 8_000) + self.store.slow_us;
        self.plan_in(wait_us, Event::Answer(Answer { ask, said }));
    }

    pub(crate) fn ask_timeout(&mut self, agent: AgentId, number: u64) {
        let share = &mut self.agents[agent];
        let Some((_, wish)) = share.pending.filter(|(pending, _)| *pending == number) else { return };
        share.pending = None;
        if share.phase == Phase::Dead {
            return;
        }
        match wish {
            Wish::Acquire | Wish::Move => share.phase = Phase::Left,
            Wish::Renew => {
                share.failing_since_us.get_or_insert(self.now_us - PATIENCE_US);
                self.plan_in(RETRY_US, Event::Renew(agent));
            }
            Wish::Release => self.give_back(agent),
        }
    }

    /// Gives the lease back, as long as it may still be ours.
    pub(crate) fn give_back(&mut self, agent: AgentId) {
        self.agents[agent].releasing = true;
        if self.local_us(agent) < self.agents[agent].deadline_us {
            self.ask(agent, Wish::Release);
        }
    }

    pub(crate) fn renew(&mut self, agent: AgentId) {
        let share = &self.agents[agent];
        if share.releasing && share.pending.is_none() && share.phase != Phase::Dead {
            self.give_back(agent);
            return;
        }
        let over = share.lost || share.releasing || !share.active();
        if over || share.pending.is_some() || self.local_us(agent) >= share.deadline_us {
            return;
        }
        self.ask(agent, Wish::Renew);
    }

    pub(crate) fn answer_arrives(&mut self, answer: Answer) {
        let Answer { ask, said } = answer;
        let agent = ask.agent;
        if self.agents[agent].phase == Phase::Dead {
            return;
        }
        if self.agents[agent].answered == ask.number {
            self.hit(Place::RepeatedAnswer);
        }
        self.agents[agent].answered = ask.number;
        let pending = self.agents[agent].pending.is_some_and(|(number, _)| number == ask.number);
        if pending {
            self.agents[agent].pending = None;
        }
        match said {
            Said::Granted { epoch, resumed } if pending => self.granted(ask, epoch, resumed),
            Said::Held if pending => {
                if self.store.epoch(ask.call) > 1 {
                    self.hit(Place::RacedForOrphan);
                }
                self.agents[agent].phase = Phase::Left;
            }
            Said::Renewed { epoch } => self.renewed(ask, epoch, pending),
            Said::Released => self.agents[agent].deadline_us = 0,
            Said::Lost { successor } if ask.wish == Wish::Renew => self.lease_lost(agent, successor),
            Said::Unusable if pending => match ask.wish {
                Wish::Acquire | Wish::Move => self.agents[agent].phase = Phase::Left,
                Wish::Renew => {
                    self.agents[agent].failing_since_us.get_or_insert(self.now_us);
                    self.plan_in(RETRY_US, Event::Renew(agent));
                }
                Wish::Release => self.plan_in(RETRY_US, Event::Renew(agent)),
            },
            _ => {}
        }
    }

    fn granted(&mut self, ask: Ask, epoch: u64, resumed: bool) {
        let agent = ask.agent;
        let local_us = self.local_us(agent);
        let deadline_us = ask.asked_local_us + TTL_US - MARGIN_US;
        if local_us >= deadline_us {
            self.hit(Place::GrantTooLate);
            self.agents[agent].phase = Phase::Left;
            return;
        }
        if self.agents[agent].draining {
            // Nothing has begun here yet, and nothing will.
            let share = &mut self.agents[agent];
            share.phase = Phase::Left;
            (share.epoch, share.deadline_us) = (epoch, deadline_us);
            self.give_back(agent);
            return;
        }
        let (kernel, twin, managed) = agent::kernel(&mut self.rng, ask.call, local_us);
        let bad_provider = self.chance(8);
        let share = &mut self.agents[agent];
        (share.bad_provider, share.managed) = (bad_provider, managed);
        (share.kernel, share.twin) = (Some(Box::new(kernel)), Some(Box::new(twin)));
        share.phase = Phase::Joining;
        (share.epoch, share.resumed, share.deadline_us) = (epoch, resumed, deadline_us);
        self.outcome.takeovers += u64::from(resumed);
        if resumed {
            let barge_in = |place: &AgentId| {
                let before = &self.agents[*place];
                before.barge_in_lost && before.epoch + 1 == epoch
            };
            if self.shares[ask.call].iter().any(barge_in) {
                self.hit(Place::FailoverInBargeIn);
            }
        }
        self.step(agent, Input::Lease { epoch, deadline_us });
        self.tell_bundle(agent);
        if resumed {
            self.agents[agent].told_rotated = epoch;
            for step in [Step::Rotated, Step::Started] {
                self.step(agent, Input::Migration { step, epoch });
            }
        }
        let wait_us = self.rng.range(50_000, 90_000);
        self.plan_in(wait_us, Event::Joined(agent));
        self.plan_in(RENEW_US, Event::Renew(agent));
        self.plan_in(200_000, Event::Drain(agent));
    }

    fn renewed(&mut self, ask: Ask, epoch: u64, pending: bool) {
        let agent = ask.agent;
        let deadline_us = ask.asked_local_us + TTL_US - MARGIN_US;
        let local_us = self.local_us(agent);
        let share = &mut self.agents[agent];
        if pending {
            let since_us = share.failing_since_us.take();
            if since_us.is_some_and(|since| self.now_us - since >= OUTAGE_US) {
                self.hit(Place::OutageSurvived);
            }
            self.plan_in(RENEW_US, Event::Renew(agent));
        } else {
            self.hit(Place::LateRenewal);
        }
        let share = &mut self.agents[agent];
        if share.lost || share.releasing || !share.active() || local_us >= share.deadline_us {
            return;
        }
        if epoch >= share.epoch {
            share.deadline_us = share.deadline_us.max(deadline_us);
        }
        share.epoch = share.epoch.max(epoch);
        self.step(agent, Input::Lease { epoch, deadline_us });
    }

    fn lease_lost(&mut self, agent: AgentId, successor: u64) {
        let share = &mut self.agents[agent];
        if share.releasing || !share.active() || std::mem::replace(&mut share.lost, true) {
            return;
        }
        let share_moved = share.moved_to.is_some();
        if share.open.is_some() {
            self.hit(Place::RevokedInTurn);
        }
        if share_moved {
            self.hit(Place::MoveLearnedAtStore);
        }
        if successor != 0 {
            // The store says who speaks now: the old placement drains as its side of the migration.
            for step in [Step::Rotated, Step::Started] {
                self.step(agent, Input::Migration { step, epoch: successor });
            }
        }
        self.step(agent, Input::LeaseLost { reason: "lease_deauthorized" });
    }

    pub(crate) fn joined(&mut self, agent: AgentId) {
        if self.agents[agent].phase != Phase::Joining {
            return;
        }
        if !self.workers[self.agents[agent].worker].reaches_room {
            self.plan_in(500_000, Event::Joined(agent));
            return;
        }
        self.agents[agent].in_room = true;
        self.agents[agent].phase = Phase::Removing;
        let wait_us = self.rng.range(3_000, 30_000);
        self.plan_in(wait_us, Event::RemoveOlder(agent));
    }

    /// Removes older identities of the call before the own voice is published.
    pub(crate) fn remove_older(&mut self, agent: AgentId) {
        if self.agents[agent].phase != Phase::Removing {
            return;
        }
        if !self.workers[self.agents[agent].worker].reaches_room {
            self.plan_in(500_000, Event::RemoveOlder(agent));
            return;
        }
        let (call, epoch) = (self.agents[agent].call, self.agents[agent].epoch);
        for place in 0..self.shares[call].len() {
            let other = self.shares[call][place];
            let older = self.agents[other].epoch < epoch;
            if older && std::mem::replace(&mut self.agents[other].in_room, false) {
                self.hit(Place::OlderRemoved);
                if self.hears(other) {
                    let (state, reason) = (ConnectionState::Disconnected, "participant_removed");
                    self.step(other, Input::Connection { state, reason });
                }
            }
        }
        self.agents[agent].phase = Phase::Live;
        let resumed = self.agents[agent].resumed;
        if resumed {
            self.move_finishes(agent);
        }
        self.step(agent, Input::Start { resumed });
        if !self.callers[call].on_line {
            let (state, reason) = (ConnectionState::Ended, "participant_left");
            self.step(agent, Input::Connection { state, reason });
        } else if self.callers[call].reconnecting {
            let state = ConnectionState::Reconnecting;
            self.step(agent, Input::Connection { state, reason: "" });
        }
    }

    /// A server that timed a participant out gets it back when its SDK can: nothing stops the SDK.
    pub(crate) fn sdk_rejoins(&mut self, agent: AgentId) {
        let share = &self.agents[agent];
        match share.phase {
            Phase::Dead => {}
            Phase::Left => self.hit(Place::LeftBeforeSdk),
            _ if share.epoch < self.store.epoch(share.call)
                && share.epoch > self.callers[share.call].revoked_epoch =>
            {
                let epoch = share.epoch;
                self.never(format!("the SDK of epoch {epoch} came back before its holder had left"));
            }
            _ => {
                self.agents[agent].in_room = true;
                self.hit(Place::SdkRejoined);
            }
        }
    }
}
