//! One session's kernel: an input goes in, evidence is appended, effects come out.
//!
//! `arbiter` opens and ends turns, `holding` watches authority, `listening` follows the caller,
//! `arriving` is the gate of what comes in,
//! `delivery` takes what the transport reports, `invoking` calls providers and cancels, `hosting` tells nodes,
//! `placing` keeps to the runtime's quotas, `starting` to the control plane's bundle, `leaving` lets a session end
//! that drains, `recording` writes evidence.
//! This file holds the state, the order within a step, and the gate.

mod arbiter;
pub mod arriving;
mod delivery;
mod edges;
mod holding;
pub mod hosting;
mod invoking;
mod leaving;
mod listening;
mod placing;
mod recording;
mod starting;

use std::collections::VecDeque;

use crate::admission::Place;
use crate::authority::Authority;
use crate::behaviour::Behaviours;
use crate::bundle::{Actions, Provenance};
use crate::decision::Scope;
use crate::effect::{AgentState, Effect, Intent};
use crate::event::SequenceAllocator;
use crate::evidence::json::Context;
use crate::evidence::record::{Body, Class, Marker};
use crate::evidence::ring::{self, StageA};
use crate::fence::{Gate, Verdict};
use crate::input::{Event, Input};
use crate::interruption::Burst;
use crate::invocation::Invocations;
use crate::migration::Migration;
use crate::node::HostedNode;
use crate::plan::PlanTemplate;
use crate::policy::TurnPolicy;
use crate::prelude::{self, Prelude};
use crate::reason::{Interner, Label, Reason};
use crate::signal::{Emitter, Signal};
use crate::turn::{Machine, State};

/// The turn that is open.
#[derive(Clone, Copy, Debug)]
struct OpenTurn {
    number: u32,
    machine: Machine,
    intent: Intent,
    /// Seed of its plan.
    seed: u64,
    finished: bool,
}

/// Why no further turn may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Authority,
    Call,
}

/// A timer of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Budget,
    Release,
    Node,
    Place,
    Prelude(prelude::Timer),
}

/// What a kernel is created with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Non-empty id of the logical conversation.
    pub session_id: String,
    /// Thresholds of turn taking; validated by the caller.
    pub policy: TurnPolicy,
    /// What every turn plan shares.
    pub plan: PlanTemplate,
    /// Time of creation, microseconds.
    pub now_us: u64,
    /// Wall clock at that time, milliseconds.
    pub wall_clock_ms: u64,
    /// Records that Stage A keeps.
    pub evidence_capacity: usize,
}

/// Every decision of one session. Pure and single-threaded.
#[derive(Clone, Debug)]
pub struct SessionKernel {
    context: Context,
    policy: TurnPolicy,
    behaviours: Behaviours,
    plan: PlanTemplate,
    now_us: u64,
    authority: Authority,
    gate: Gate,
    prelude: Prelude,
    burst: Burst,
    turn: Option<OpenTurn>,
    last_turn: u32,
    /// Epochs by the first turn opened under them, oldest first; the last few suffice for late reports.
    turn_epochs: Vec<(u32, u64)>,
    /// The last few turns that ended, oldest first, and whether by commit.
    ended_turns: Vec<(u32, bool)>,
    started: bool,
    connection_down: bool,
    drained: Option<Drained>,
    leaving: leaving::Leaving,
    waiting: Option<(Intent, u32)>,
    /// What admission says at turn start and at node dispatch, none before it said anything.
    turn_start: Option<Place<Label>>,
    node_dispatch: Option<Place<Label>>,
    deferred: Option<placing::Deferred>,
    /// What the control plane says, and the highest version of it that was taken.
    bundle: Option<starting::InForce>,
    bundle_version: u64,
    /// The latest provenance that was told, and how many differed from the one before.
    provenance: Option<Provenance>,
    provenances: u64,
    /// Adaptive actions of the next turn.
    allowed: Actions,
    /// Events from outside: how many asked to come in, and the latest that did.
    arrivals: u32,
    arrived: VecDeque<u64>,
    /// The latest turn that closed, and when.
    closed: (u32, u64),
    /// The latest utterance that ended without an answer, and when.
    unanswered: Option<(u32, u64)>,
    migration: Migration,
    rotated_epoch: u64,
    invocations: Invocations,
    nodes: Vec<HostedNode>,
    /// Nodes of the open turn that ended before it, by the bit of their index.
    nodes_ended: u64,
    stale_events: u64,
    stale_event_reported: Option<u32>,
    stale_reported: Option<u32>,
    stale_frames: u64,
    sequences: SequenceAllocator,
    evidence: StageA,
    downgraded: Option<u32>,
    interner: Interner,
    effects: Vec<Effect>,
    delivered: bool,
    crossings: u64,
}

const TURN_EPOCHS: usize = 16;
/// Effects of one step that need no allocation: those of an interruption that eleven nodes are told of.
const EFFECTS: usize = 32;
/// How many turns back the transport may still report on.
const ENDED_TURNS: usize = 16;
/// Latest time that is told apart: 146,000 years after boot.
const LATEST_US: u64 = 1 << 62;
/// Free places that a turn needs to open: its own baseline beside the reserve.
const OPENING_ROOM: usize = crate::evidence::ring::RESERVE + 24;

impl SessionKernel {
    /// A kernel at rest: no lease, no turn, nobody speaking.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            context: Context::new(
                &settings.session_id,
                settings.plan.pipeline_version(),
                settings.now_us,
                settings.wall_clock_ms,
            ),
            policy: settings.policy,
            behaviours: Behaviours::default(),
            plan: settings.plan,
            now_us: settings.now_us,
            authority: Authority::default(),
            gate: Gate::default(),
            prelude: Prelude::default(),
            burst: Burst::default(),
            turn: None,
            last_turn: 0,
            turn_epochs: Vec::with_capacity(TURN_EPOCHS),
            ended_turns: Vec::with_capacity(ENDED_TURNS),
            started: false,
            connection_down: false,
            drained: None,
            leaving: leaving::Leaving::default(),
            waiting: None,
            turn_start: None,
            node_dispatch: None,
            deferred: None,
            bundle: None,
            bundle_version: 0,
            provenance: None,
            provenances: 0,
            allowed: Actions::ALL,
            arrivals: 0,
            arrived: VecDeque::with_capacity(arriving::REMEMBERED),
            closed: (0, 0),
            unanswered: None,
            migration: Migration::default(),
            rotated_epoch: 0,
            invocations: Invocations::default(),
            nodes: Vec::new(),
            nodes_ended: 0,
            stale_events: 0,
            stale_event_reported: None,
            stale_reported: None,
            stale_frames: 0,
            sequences: SequenceAllocator::default(),
            evidence: StageA::new(settings.evidence_capacity),
            downgraded: None,
            interner: Interner::default(),
            effects: Vec::with_capacity(EFFECTS),
            delivered: false,
            crossings: 0,
        }
    }

    /// Makes the kernel behave as it did under these changes and no others; call it before the first input.
    pub fn behave_by(&mut self, behaviours: Behaviours) {
        self.behaviours = behaviours;
    }

    /// Takes one input and returns what the shell must do, in order.
    ///
    /// The order within a step: lease expiry, timers that are due, the input, and both once more for
    /// what the input made due; then what waited for its place, and the end of a session that drains.
    pub fn step(&mut self, input: Input<&str>) -> &[Effect] {
        self.crossings += 1;
        self.begin();
        self.advance(input.now_us);
        self.note(input.event);
        self.expire();
        self.fire_timers();
        self.apply(input.event);
        self.expire();
        self.fire_timers();
        self.open_waiting();
        self.check_evidence();
        self.leave_when_done();
        self.delivered = true;
        &self.effects
    }

    /// The egress gate: may this frame leave now? Allocates nothing.
    #[inline]
    pub fn frame(&mut self, now_us: u64, turn: u32, epoch: u64, sequence: u64, samples: u64) -> Verdict {
        self.crossings += 1;
        self.advance(now_us);
        let verdict = if self.authority.drained() || self.authority.expired(self.now_us) {
            Verdict::LeaseExpired
        } else if epoch != self.authority.epoch() || self.authority.superseded() {
            Verdict::StaleEpoch
        } else {
            self.gate.check(turn, sequence, samples, self.now_us)
        };
        let first = verdict == Verdict::Pass && self.gate.frames() == 1;
        let verdict = if first && !self.first_output_fits() { Verdict::Fenced } else { verdict };
        self.record(Class::Detail, turn, 0, Body::Frame { sequence, samples, epoch, verdict });
        match verdict {
            Verdict::LeaseExpired => self.refuse_expired(),
            Verdict::StaleEpoch => self.refuse_stale(),
            Verdict::Pass | Verdict::Fenced if first => self.first_output(turn),
            Verdict::Pass | Verdict::Held | Verdict::Fenced => {}
        }
        verdict
    }

    #[cold]
    fn refuse_expired(&mut self) {
        if self.drained.is_none() {
            self.begin();
            self.expire();
        }
    }

    #[cold]
    fn refuse_stale(&mut self) {
        self.stale_frames += 1;
        let open = self.open_turn();
        if self.stale_reported != Some(open) {
            self.stale_reported = Some(open);
            self.stale_epoch(open, Scope::NodeDispatch);
        }
    }

    /// Whether the record of a first frame, its marker and its signal will all be stored.
    #[cold]
    fn first_output_fits(&self) -> bool {
        let downgrade = self.downgraded != Some(self.open_turn());
        let needed = 2 + usize::from(self.evidence.takes(Class::Detail) || downgrade);
        !self.evidence.losing() && self.evidence.free() >= ring::RESERVE + needed
    }

    #[cold]
    fn first_output(&mut self, turn: u32) {
        self.begin();
        self.marker(Class::Baseline, turn, Marker::FirstOutput, 0);
        self.signal_turn(Class::Baseline, turn, Signal::OutputAccepted, Emitter::Rk22, Label::Empty);
        if self.evidence.losing() {
            // Evidence comes before its effect: without it the first frame may not leave.
            self.check_evidence();
        } else {
            self.agent_state(AgentState::Speaking);
        }
    }

    fn apply(&mut self, event: Event<&str>) {
        match event {
            Event::Tick => {}
            Event::Lease { epoch, deadline_us } => self.lease(epoch, deadline_us),
            Event::LeaseLost { reason } => {
                let reason = if reason.is_empty() { Reason::LeaseDeauthorized.code() } else { reason };
                let label = self.interner.label(reason);
                self.drain_authority(label);
            }
            Event::Start { resumed } => self.start(resumed),
            Event::VoiceActivity { permille, media_sample } => self.window(permille, media_sample),
            Event::Transcript(transcript) => self.transcript(transcript),
            Event::TextMessage { reference } => self.intend(Intent::Text, reference),
            Event::Cancel { signal } => self.cancel(signal),
            Event::GenerationFinished { turn } => self.generation_finished(turn),
            Event::GenerationFailed { turn, reason } => self.generation_failed(turn, reason),
            Event::Playback { turn, event, .. } => self.playback(turn, event),
            Event::Connection { state, reason } => self.connection(state, reason),
            Event::CancelWithin { scope, target } => self.cancel_within(scope, target),
            Event::RoutingView { epoch } => self.routing_view(epoch),
            Event::Migration { step, epoch } => self.migrate(step, epoch),
            Event::Drain => self.drain(),
        }
    }

    /// The earliest timer of the session and what it is for.
    fn next_timer(&self) -> Option<(u64, Timer)> {
        if self.drained.is_some() {
            return None;
        }
        let spoken = self
            .prelude
            .due(&self.policy, self.turn.is_some())
            .map(|(due, timer)| (due, Timer::Prelude(timer)));
        let release = self.release_due_us().map(|due| (due, Timer::Release));
        let budget = self.budget_due_us().map(|due| (due, Timer::Budget));
        let node = self.invocations.budget_due_us().map(|due| (due, Timer::Node));
        let place = self.place_due_us().map(|due| (due, Timer::Place));
        // A probe that is due together with a release goes first: its answer may be worth the wait.
        [spoken, release, budget, node, place].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn fire_timers(&mut self) {
        while let Some((due, timer)) = self.next_timer() {
            if due > self.now_us {
                break;
            }
            match timer {
                Timer::Budget => self.budget_exhausted(),
                Timer::Release => self.release_speech(),
                Timer::Node => self.node_budgets(),
                Timer::Place => self.look_for_place(),
                Timer::Prelude(timer) => self.prelude_timer(timer),
            }
        }
    }

    /// Starts collecting effects; those of a frame that nobody has taken yet stay in front.
    fn begin(&mut self) {
        if self.delivered {
            self.effects.clear();
            self.delivered = false;
        }
    }

    fn open_turn(&self) -> u32 {
        self.turn.map_or(0, |turn| turn.number)
    }

    /// Time never goes back, and stays so far from the end of its type that sums cannot pass it.
    #[inline]
    fn advance(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us.min(LATEST_US));
    }

    /// When a tick is due if no other input comes first.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        if !self.delivered && !self.effects.is_empty() {
            return Some(self.now_us);
        }
        let timer = self.next_timer().map(|(due, _)| due);
        [self.authority.deadline_us(), timer].into_iter().flatten().min()
    }

    /// Number of the open turn, 0 when none is.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.open_turn()
    }

    /// State of the turn machine.
    #[must_use]
    pub fn turn_state(&self) -> State {
        self.turn.map_or(State::Idle, |turn| turn.machine.state())
    }

    /// Epoch of the lease, 0 before the first.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.authority.epoch()
    }

    /// Whether the voice is held.
    #[must_use]
    pub const fn held(&self) -> bool {
        self.gate.held()
    }

    /// Whether authority or the call is gone for good.
    #[must_use]
    pub const fn drained(&self) -> bool {
        self.authority.drained()
    }

    /// Calls of `step`, `frame` and whatever else takes the time or evidence.
    #[must_use]
    pub const fn crossings(&self) -> u64 {
        self.crossings
    }

    /// Frames refused because of another epoch.
    #[must_use]
    pub const fn stale_frames(&self) -> u64 {
        self.stale_frames
    }

    /// Events refused at ingress because of another epoch.
    #[must_use]
    pub const fn stale_events(&self) -> u64 {
        self.stale_events
    }

    /// Detail records shed because Stage A was full.
    #[must_use]
    pub const fn evidence_dropped(&self) -> u64 {
        self.evidence.shed()
    }
}
