//! What breaks, and how it is mended.

use rspp_kernel::input::{ConnectionState, Event as Input};

use crate::agent::Phase;
use crate::moving::Blow;
use crate::queue::{CallId, Event, Reach, WorkerId};
use crate::reached::Place;
use crate::world::{World, GIVE_UP_US, HANG_UP_US, QUESTION_US, REJOIN_US};

impl World {
    /// Once in so many times, as long as there are faults.
    pub(crate) fn chance(&mut self, times: u64) -> bool {
        self.faults && self.rng.one_in(times)
    }

    pub(crate) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let wait_us = self.rng.range(300_000, 9_000_000);
        self.plan_in(wait_us, Event::Fault);
        let worker = self.rng.index(self.workers.len());
        let call = self.rng.index(self.callers.len());
        let kind = self.rng.range(0, 27);
        self.tell(|| format!("fault {kind}: worker {worker}, call {call}"));
        match kind {
            0 | 1 => self.crash(worker),
            2 => self.pause(worker, 50_000, 5_000_000),
            3 | 4 => self.pause(worker, 4_000_000, 30_000_000),
            5 => self.cut_off(worker, Reach::Store, 8_000_000),
            6 => self.cut_off(worker, Reach::Room, 20_000_000),
            7 => {
                self.store.down = true;
                let wait_us = self.rng.range(200_000, 5_000_000);
                self.plan_in(wait_us, Event::StoreHeals);
            }
            8 => {
                self.store.slow_us = self.rng.range(50_000, 2_500_000);
                let wait_us = self.rng.range(1_000_000, 6_000_000);
                self.plan_in(wait_us, Event::StoreHeals);
            }
            9 => self.revoke(),
            10 => self.lossy_until_us = self.now_us + self.rng.range(500_000, 6_000_000),
            11 | 12 => self.disk_sticks(),
            13 | 14 => self.drain_worker(worker),
            15 | 16 => self.rotate(),
            17..=21 => self.move_session(),
            22 => self.cut_off(worker, Reach::Control, 25_000_000),
            23..=25 => self.control_fails(),
            _ => {
                let live = self.callers.len();
                self.reconnect(live - 1 - call % live.min(6), 20_000_000);
            }
        }
    }

    /// One of the faults of a worker.
    pub(crate) fn strike(&mut self, worker: WorkerId) {
        if !self.faults {
            return;
        }
        match self.rng.range(0, 4) {
            0 => self.crash(worker),
            1 => self.pause(worker, 50_000, 8_000_000),
            2 => self.cut_off(worker, Reach::Store, 8_000_000),
            _ => self.cut_off(worker, Reach::Room, 20_000_000),
        }
    }

    fn crash(&mut self, worker: WorkerId) {
        if !self.workers[worker].alive {
            return;
        }
        self.struck(worker, Blow::Crash);
        let host = &mut self.workers[worker];
        host.alive = false;
        host.life += 1;
        host.paused = false;
        host.pauses += 1;
        host.deferred.clear();
        host.fetched = None;
        let mut in_turn = false;
        for agent in 0..self.agents.len() {
            let share = &mut self.agents[agent];
            if share.worker != worker || share.phase == Phase::Dead {
                continue;
            }
            in_turn |= share.open.is_some();
            share.barge_in_lost |= share.open.is_some() && share.held;
            share.phase = Phase::Dead;
            share.kernel = None;
            self.judge_twin(agent);
        }
        if in_turn {
            self.hit(Place::CrashInTurn);
        }
        let wait_us = self.rng.range(500_000, 20_000_000);
        self.plan_in(wait_us, Event::Restart(worker));
    }

    pub(crate) fn restart(&mut self, worker: WorkerId) {
        let host = &mut self.workers[worker];
        if std::mem::replace(&mut host.alive, true) {
            return;
        }
        host.life += 1;
        host.draining = false;
        let life = host.life;
        self.plan_in(100_000, Event::Scan(worker, life));
        self.plan_in(50_000, Event::Refresh(worker, life));
    }

    pub(crate) fn pause(&mut self, worker: WorkerId, shortest_us: u64, longest_us: u64) {
        if !self.workers[worker].runs() {
            return;
        }
        self.struck(worker, Blow::Pause);
        let now_us = self.now_us;
        let host = &mut self.workers[worker];
        host.paused = true;
        host.paused_us = now_us;
        host.pauses += 1;
        let pause = host.pauses;
        let wait_us = self.rng.range(shortest_us, longest_us);
        self.plan_in(wait_us, Event::Wake(worker, pause));
    }

    pub(crate) fn wake(&mut self, worker: WorkerId, pause: u32) {
        let now_us = self.now_us;
        let host = &mut self.workers[worker];
        if host.pauses != pause || !std::mem::replace(&mut host.paused, false) {
            return;
        }
        let paused_us = host.paused_us;
        self.back(worker, paused_us);
        for event in std::mem::take(&mut self.workers[worker].deferred) {
            // A reconnection that was under way begins anew: its server has given it up meanwhile.
            let again = matches!(event, Event::SdkRejoins(_));
            self.queue.plan(if again { now_us + REJOIN_US } else { now_us }, event);
        }
        self.tell_missed(worker);
    }

    /// A server that heard nothing for the signalling ping has dropped its participants; each SDK comes
    /// back by itself.
    fn back(&mut self, worker: WorkerId, since_us: u64) {
        if self.now_us - since_us < GIVE_UP_US {
            return;
        }
        for agent in 0..self.agents.len() {
            let share = &mut self.agents[agent];
            let entered = matches!(share.phase, Phase::Removing | Phase::Live);
            if share.worker == worker && entered {
                share.in_room = false;
                self.plan_in(REJOIN_US, Event::SdkRejoins(agent));
            }
        }
    }

    /// What the server tells a worker that did not listen.
    fn tell_missed(&mut self, worker: WorkerId) {
        for agent in 0..self.agents.len() {
            if self.agents[agent].worker != worker || !self.hears(agent) {
                continue;
            }
            let caller = &self.callers[self.agents[agent].call];
            let (state, reason) = match (caller.on_line, caller.reconnecting) {
                (false, _) => (ConnectionState::Ended, "participant_left"),
                (true, true) => (ConnectionState::Reconnecting, ""),
                (true, false) => (ConnectionState::Connected, ""),
            };
            self.step(agent, Input::Connection { state, reason });
        }
    }

    fn cut_off(&mut self, worker: WorkerId, reach: Reach, longest_us: u64) {
        self.struck(worker, Blow::CutOff);
        let now_us = self.now_us;
        let host = &mut self.workers[worker];
        match reach {
            Reach::Store => host.reaches_store = false,
            Reach::Control => host.reaches_control = false,
            Reach::Room => {
                if !host.reaches_room {
                    return;
                }
                host.cut_off_us = now_us;
                self.tell_cut_off(worker);
                self.workers[worker].reaches_room = false;
            }
        }
        let wait_us = self.rng.range(300_000, longest_us);
        self.plan_in(wait_us, Event::Reached(worker, reach));
    }

    pub(crate) fn reaches_again(&mut self, worker: WorkerId, reach: Reach) {
        let host = &mut self.workers[worker];
        match reach {
            Reach::Store => host.reaches_store = true,
            Reach::Control => host.reaches_control = true,
            Reach::Room if host.reaches_room => {}
            Reach::Room => {
                host.reaches_room = true;
                let since_us = host.cut_off_us;
                if self.now_us - since_us >= GIVE_UP_US {
                    self.hit(Place::ConnectionLost);
                }
                self.back(worker, since_us);
                self.tell_missed(worker);
            }
        }
    }

    fn tell_cut_off(&mut self, worker: WorkerId) {
        for agent in 0..self.agents.len() {
            if self.agents[agent].worker == worker && self.hears(agent) {
                let state = ConnectionState::Reconnecting;
                self.step(agent, Input::Connection { state, reason: "" });
            }
        }
    }

    pub(crate) fn store_heals(&mut self) {
        self.store.down = false;
        self.store.slow_us = 0;
    }

    /// An operator takes a lease away.
    fn revoke(&mut self) {
        let call = self.rng.index(self.callers.len());
        if self.callers[call].on_line {
            self.ended_at_store(call, self.store.epoch(call));
            self.store.revoke(self.now_us, call);
        }
    }

    fn disk_sticks(&mut self) {
        let until_us = self.now_us + self.rng.range(3_000_000, 60_000_000);
        for share in &mut self.agents {
            if share.active() {
                share.stuck_until_us = until_us;
            }
        }
    }

    pub(crate) fn reconnect(&mut self, call: CallId, longest_us: u64) {
        let caller = &mut self.callers[call];
        if !caller.on_line || std::mem::replace(&mut caller.reconnecting, true) {
            return;
        }
        caller.connection += 1;
        let connection = caller.connection;
        let shares = self.shares[call].clone();
        for agent in shares {
            let share = &mut self.agents[agent];
            share.hold_saw_reconnect = true;
            if share.held {
                self.hit(Place::BothHolds);
            }
        }
        self.tell_connection(call, ConnectionState::Reconnecting, "");
        let length_us = self.rng.range(200_000, longest_us);
        self.plan_in(length_us, Event::Reconnected(call, connection));
        self.plan_in(GIVE_UP_US, Event::ConnectionLost(call, connection));
    }

    pub(crate) fn reconnected(&mut self, call: CallId, connection: u32) {
        let caller = &mut self.callers[call];
        if caller.connection == connection && std::mem::replace(&mut caller.reconnecting, false) {
            self.tell_connection(call, ConnectionState::Connected, "");
        }
    }

    pub(crate) fn connection_lost(&mut self, call: CallId, connection: u32) {
        let caller = &self.callers[call];
        if caller.connection == connection && caller.reconnecting {
            self.hit(Place::ConnectionLost);
            self.tell_connection(call, ConnectionState::Disconnected, "reconnect_failed");
        }
    }

    /// Mends everything; from now on nothing breaks.
    pub(crate) fn heal(&mut self) {
        self.faults = false;
        self.lossy_until_us = 0;
        self.store_heals();
        self.mend_control();
        for worker in 0..self.workers.len() {
            self.restart(worker);
            self.reaches_again(worker, Reach::Store);
            self.reaches_again(worker, Reach::Room);
            let pause = self.workers[worker].pauses;
            self.wake(worker, pause);
        }
        for share in &mut self.agents {
            share.stuck_until_us = 0;
        }
        for call in 0..self.callers.len() {
            let connection = self.callers[call].connection;
            self.reconnected(call, connection);
            self.callers[call].polite = true;
            self.queue.plan(QUESTION_US, Event::Question(call));
            self.queue.plan(HANG_UP_US, Event::HangUp(call));
        }
    }
}
