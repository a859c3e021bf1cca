//! The world: one seed, one thread, virtual time. This file holds its state, its loop and its calls;
//! `shell` performs for the kernels, `lease` talks to the store, `fault` breaks things, `end` judges.

use crate::agent::{Agent, Phase};
use crate::caller::{draw, Caller, Utterance};
use crate::control::Control;
use crate::host::{Clock, Worker, DRIFT_PPM};
use crate::queue::{AgentId, Button, CallId, Event, Queue, WorkerId};
use crate::reached::{Place, Reached};
use crate::rng::Rng;
use crate::store::{Store, Wish};
use rspp_kernel::input::ConnectionState;

/// Workers of a world.
const WORKERS: usize = 3;
/// Calls at one time.
const CALLS: usize = 6;
/// When the faults stop.
pub(crate) const HEAL_US: u64 = 480_000_000;
/// After the faults stop each call settles, circuits included, which rest for a minute at most; then its
/// caller asks one question, then hangs up.
pub(crate) const QUESTION_US: u64 = HEAL_US + 70_000_000;
/// Every caller has been answered by then.
pub(crate) const HANG_UP_US: u64 = QUESTION_US + 20_000_000;
/// Every turn has closed and every lease is back by then.
pub(crate) const END_US: u64 = HANG_UP_US + 15_000_000;
/// Windows of the voice activity detector: 512 samples at 16 kHz.
const WINDOW_US: u64 = 32_000;
/// How soon an SDK comes back by itself: measured at 0.46 to 0.52 s, and 0.2 s at the soonest.
pub(crate) const REJOIN_US: u64 = 200_000;
/// A transport that is away for longer is given up.
pub(crate) const GIVE_UP_US: u64 = 15_000_000;

/// Workers do not look all at once.
const fn scan_wait(worker: WorkerId) -> u64 {
    500_000 + 30_000 * worker as u64
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failure: Option<String>,
    pub(crate) reached: Reached,
    /// Time that callers spent on the line.
    pub(crate) session_us: u64,
    pub(crate) takeovers: u64,
    pub(crate) turns: u64,
    pub(crate) frames: u64,
    pub(crate) records: u64,
    pub(crate) steps: u64,
    /// Runtimes whose records were run again, how many of them without a gap, and records compared.
    pub(crate) stints: u64,
    pub(crate) whole: u64,
    pub(crate) compared: u64,
    pub(crate) told: Vec<String>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) now_us: u64,
    pub(crate) queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) store: Store,
    pub(crate) control: Control,
    pub(crate) workers: Vec<Worker>,
    pub(crate) callers: Vec<Caller>,
    pub(crate) agents: Vec<Agent>,
    /// The agents of each call, oldest first.
    pub(crate) shares: Vec<Vec<AgentId>>,
    pub(crate) faults: bool,
    pub(crate) lossy_until_us: u64,
    pub(crate) outcome: Outcome,
    tells: bool,
}

impl World {
    pub(crate) fn new(seed: u64, tells: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut clock = || {
            let ppm = i64::try_from(rng.range(0, 20_001)).unwrap_or(0) - DRIFT_PPM;
            Clock::new(rng.range(0, 1 << 40), ppm)
        };
        let workers = (0..WORKERS).map(|_| Worker::new(clock())).collect();
        let outcome = Outcome {
            failure: None,
            reached: Reached::default(),
            session_us: 0,
            takeovers: 0,
            turns: 0,
            frames: 0,
            records: 0,
            steps: 0,
            stints: 0,
            whole: 0,
            compared: 0,
            told: Vec::new(),
        };
        Self {
            now_us: 0,
            queue: Queue::default(),
            rng,
            store: Store::default(),
            control: Control::new(),
            workers,
            callers: Vec::new(),
            agents: Vec::new(),
            shares: Vec::new(),
            faults: true,
            lossy_until_us: 0,
            outcome,
            tells,
        }
    }

    /// Lives through the whole time, or up to the first failure.
    pub(crate) fn run(mut self) -> Outcome {
        for worker in 0..WORKERS {
            self.plan_in(scan_wait(worker), Event::Scan(worker, 0));
            self.plan_in(0, Event::Refresh(worker, 0));
        }
        for _ in 0..CALLS {
            self.begin_call();
        }
        self.plan_in(2_000_000, Event::Fault);
        self.queue.plan(HEAL_US, Event::Heal);
        while let Some((at_us, event)) = self.queue.next() {
            if at_us > END_US || self.outcome.failure.is_some() {
                break;
            }
            self.now_us = at_us;
            self.happen(event);
        }
        if self.outcome.failure.is_none() {
            self.judge();
        }
        self.outcome
    }

    pub(crate) fn plan_in(&mut self, wait_us: u64, event: Event) {
        self.queue.plan(self.now_us + wait_us, event);
    }

    pub(crate) fn hit(&mut self, place: Place) {
        self.outcome.reached.hit(place);
    }

    /// A never-assertion is broken.
    pub(crate) fn never(&mut self, what: impl Into<String>) {
        if self.outcome.failure.is_none() {
            self.outcome.failure = Some(format!("at {} us: {}", self.now_us, what.into()));
        }
    }

    /// Adds to what a failure is told with; costs nothing in a run that tells nothing.
    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.tells {
            let line = format!("{:>12} {}", self.now_us, what());
            self.outcome.told.push(line);
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(worker) = self.worker_of(event) {
            let host = &mut self.workers[worker];
            if host.paused {
                host.deferred.push(event);
                return;
            }
        }
        match event {
            Event::Window(_)
            | Event::Frame(..)
            | Event::FrameOut { .. }
            | Event::Heard { .. }
            | Event::Tick(..)
            | Event::Drain(_)
            | Event::Refresh(..)
            | Event::Scan(..) => {}
            _ => self.tell(|| format!("{event:?}")),
        }
        match event {
            Event::Window(call) => self.window(call),
            Event::Caller(call) => self.caller(call),
            Event::Dispatch(call) => self.dispatch(call),
            Event::Reconnected(call, connection) => self.reconnected(call, connection),
            Event::ConnectionLost(call, connection) => self.connection_lost(call, connection),
            Event::Frame(agent, pump) => self.frame(agent, pump),
            Event::FrameOut { agent, flush, turn, finishes } => self.frame_out(agent, flush, turn, finishes),
            Event::Heard { call, epoch, sent_us } => self.heard(call, epoch, sent_us),
            Event::Tick(agent, at_us) => self.tick(agent, at_us),
            Event::Drain(agent) => self.drain(agent),
            Event::Hypothesis(agent, heard) => self.hypothesis(agent, heard),
            Event::FirstAudio(agent, turn) => self.first_audio(agent, turn),
            Event::ProviderFails(agent, turn) => self.provider_fails(agent, turn),
            Event::LateOutput(agent, turn, sequence, invocation) => {
                self.late_output(agent, turn, sequence, invocation);
            }
            Event::Repeated(agent, turn) => self.repeated(agent, turn),
            Event::Renew(agent) => self.renew(agent),
            Event::AskTimeout(agent, number) => self.ask_timeout(agent, number),
            Event::Ask(ask) => self.ask_arrives(ask),
            Event::Answer(answer) => self.answer_arrives(answer),
            Event::Scan(worker, life) => self.scan(worker, life),
            Event::Joined(agent) => self.joined(agent),
            Event::RemoveOlder(agent) => self.remove_older(agent),
            Event::SdkRejoins(agent) => self.sdk_rejoins(agent),
            Event::DrainLimit(worker, life) => self.drain_limit(worker, life),
            Event::View(agent, epoch) => self.view(agent, epoch),
            Event::Told(agent, step, epoch) => self.told(agent, step, epoch),
            Event::Fault => self.fault(),
            Event::Strike(worker) => self.strike(worker),
            Event::Wake(worker, pause) => self.wake(worker, pause),
            Event::Restart(worker) => self.restart(worker),
            Event::Reached(worker, reach) => self.reaches_again(worker, reach),
            Event::StoreHeals => self.store_heals(),
            Event::Refresh(worker, life) => self.refresh(worker, life),
            Event::ControlGoesBack(version) => self.control_goes_back(version),
            Event::ControlHeals(version) => self.control_heals(version),
            Event::Question(call) => self.question(call),
            Event::HangUp(call) => self.last_hang_up(call),
            Event::Heal => self.heal(),
        }
    }

    /// The worker on which an event happens; none for what happens outside of them.
    fn worker_of(&self, event: Event) -> Option<WorkerId> {
        match event {
            Event::Frame(agent, _)
            | Event::FrameOut { agent, .. }
            | Event::Tick(agent, _)
            | Event::Drain(agent)
            | Event::Hypothesis(agent, _)
            | Event::FirstAudio(agent, _)
            | Event::ProviderFails(agent, _)
            | Event::LateOutput(agent, ..)
            | Event::Repeated(agent, _)
            | Event::Renew(agent)
            | Event::AskTimeout(agent, _)
            | Event::Joined(agent)
            | Event::RemoveOlder(agent)
            | Event::SdkRejoins(agent) => Some(self.agents[agent].worker),
            Event::Answer(answer) => Some(self.agents[answer.ask.agent].worker),
            Event::Scan(worker, _) | Event::Refresh(worker, _) | Event::DrainLimit(worker, _) => Some(worker),
            _ => None,
        }
    }

    pub(crate) fn begin_call(&mut self) {
        let call = self.callers.len();
        self.callers.push(Caller::new(self.now_us));
        self.shares.push(Vec::new());
        self.store.add_call();
        let wait_us = self.rng.range(0, 1_000_000);
        self.plan_in(wait_us, Event::Dispatch(call));
        self.plan_in(wait_us, Event::Window(call));
        let wait_us = self.rng.range(1_000_000, 6_000_000);
        self.plan_in(wait_us, Event::Caller(call));
    }

    /// The server tells one worker of the call; a caller who hears nobody is dispatched again.
    fn dispatch(&mut self, call: CallId) {
        if !self.callers[call].on_line {
            return;
        }
        self.plan_in(5_000_000, Event::Dispatch(call));
        let served = self.shares[call].iter().any(|agent| self.agents[*agent].active());
        if served {
            return;
        }
        let worker = self.rng.index(WORKERS);
        if self.workers[worker].takes_calls() {
            self.seek(worker, call, Wish::Acquire);
        }
    }

    /// A worker asks for the lease of a call.
    pub(crate) fn seek(&mut self, worker: WorkerId, call: CallId, wish: Wish) {
        let agent = self.agents.len();
        self.agents.push(Agent::new(worker, call, self.workers[worker].pauses));
        self.shares[call].push(agent);
        self.ask(agent, wish);
        if self.chance(80) {
            // The worst moment: the grant is on its way.
            self.pause(worker, 2_000_000, 8_000_000);
        }
    }

    pub(crate) fn scan(&mut self, worker: WorkerId, life: u32) {
        if self.workers[worker].life != life || !self.workers[worker].alive {
            return;
        }
        self.plan_in(scan_wait(worker), Event::Scan(worker, life));
        if !self.workers[worker].reaches_store || self.workers[worker].draining {
            return;
        }
        for call in 0..self.callers.len() {
            if !self.store.orphaned(self.now_us, call) {
                continue;
            }
            let here = |agent: &AgentId| {
                let agent = &self.agents[*agent];
                agent.worker == worker && agent.phase == Phase::Asking
            };
            if !self.shares[call].iter().any(here) {
                self.seek(worker, call, Wish::Acquire);
            }
        }
    }

    fn window(&mut self, call: CallId) {
        if !self.callers[call].on_line {
            return;
        }
        self.plan_in(WINDOW_US, Event::Window(call));
        let caller = &self.callers[call];
        let lost = caller.reconnecting || (self.now_us < self.lossy_until_us && self.rng.one_in(3));
        let caller = &self.callers[call];
        let sounds = caller.sounds(self.now_us);
        if lost {
            if sounds {
                self.hit(Place::LostWindows);
            }
            return;
        }
        let permille = caller.permille(&mut self.rng, self.now_us);
        let partial = sounds && (self.now_us / WINDOW_US).is_multiple_of(9);
        for place in 0..self.shares[call].len() {
            let agent = self.shares[call][place];
            self.ears(agent, permille, partial);
        }
    }

    /// The caller does the next thing.
    fn caller(&mut self, call: CallId) {
        if !self.callers[call].on_line {
            self.tell_of_end(call);
            return;
        }
        if self.callers[call].polite {
            return;
        }
        let wait_us = self.rng.range(400_000, 7_000_000);
        self.plan_in(wait_us, Event::Caller(call));
        match self.rng.range(0, 60) {
            0 => self.hang_up(call),
            1..=4 => self.button(call, Button::Text),
            5..=6 => self.button(call, Button::Stop),
            7 => self.button(call, Button::Cancel),
            8..=9 => self.reconnect(call, 3_000_000),
            10 => {
                let states = [ConnectionState::Silence, ConnectionState::Stall, ConnectionState::Muted];
                let state = states[self.rng.index(states.len())];
                self.tell_connection(call, state, "");
            }
            _ => {
                let kind = draw(&mut self.rng);
                self.tell(|| format!("caller {call}: {kind:?}"));
                self.callers[call].speak(&mut self.rng, self.now_us, kind);
                if kind == Utterance::Cough {
                    self.each_live(call, |agent| agent.hold_saw_cough = true);
                }
            }
        }
    }

    pub(crate) fn hang_up(&mut self, call: CallId) {
        let caller = &mut self.callers[call];
        if !std::mem::replace(&mut caller.on_line, false) {
            return;
        }
        self.outcome.session_us += self.now_us - caller.began_us;
        if self.shares[call].iter().any(|agent| self.agents[*agent].open.is_some()) {
            self.hit(Place::HungUpInTurn);
        }
        self.tell_of_end(call);
        if self.faults {
            self.begin_call();
        }
    }

    /// Tells each runtime that is still there, until none is.
    fn tell_of_end(&mut self, call: CallId) {
        self.tell_connection(call, ConnectionState::Ended, "participant_left");
        let waits = self.shares[call].iter().any(|agent| self.agents[*agent].active());
        if waits || self.store.unreleased(call) {
            self.plan_in(500_000, Event::Caller(call));
        }
    }

    pub(crate) fn each_live(&mut self, call: CallId, mut change: impl FnMut(&mut Agent)) {
        for agent in &self.shares[call] {
            let agent = &mut self.agents[*agent];
            if agent.phase == Phase::Live {
                change(agent);
            }
        }
    }
}
