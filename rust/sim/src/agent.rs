//! A runtime's share in one call: the shell around one real kernel, as far as the room can tell.

use rspp_kernel::evidence::json::Context;
use rspp_kernel::input::Modality;
use rspp_kernel::invocation::policy::InvocationPolicy;
use rspp_kernel::plan::PlanTemplate;
use rspp_kernel::policy::{TurnPolicy, WhenRefused};
use rspp_kernel::session::{SessionKernel, Settings};

use crate::control::Fetched;
use crate::journal::Journal;
use crate::queue::{AgentId, CallId, WorkerId};
use crate::rng::Rng;
use crate::store::Wish;
use crate::twin::Twin;

const PIPELINE: &str = "sim@v1";
const WALL_CLOCK_MS: u64 = 1_700_000_000_000;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has asked for the lease.
    Asking,
    /// It holds the lease and enters the room.
    Joining,
    /// It is in the room and removes older identities.
    Removing,
    /// It listens and may speak.
    Live,
    /// It has left, or never got the lease.
    Left,
    /// Its process crashed.
    Dead,
}

/// What a provider will do in this turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice {
    pub(crate) turn: u32,
    pub(crate) frames_left: u32,
    pub(crate) sequence: u64,
    pub(crate) ready: bool,
    /// The kernel's number of the provider call, 0 when none may be made.
    pub(crate) invocation: u32,
    pub(crate) started: bool,
    /// Stops for good when this many frames are left.
    pub(crate) stalls_at: Option<u32>,
}

/// The share of one runtime.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a runtime, not one state
pub(crate) struct Agent {
    pub(crate) worker: WorkerId,
    pub(crate) call: CallId,
    pub(crate) phase: Phase,
    pub(crate) kernel: Option<Box<SessionKernel>>,
    /// Its kernel once more, over what it recorded.
    pub(crate) twin: Option<Box<Twin>>,
    pub(crate) journal: Journal,
    pub(crate) epoch: u64,
    pub(crate) resumed: bool,
    /// Latest deadline that the store has promised, local time.
    pub(crate) deadline_us: u64,
    pub(crate) lost: bool,
    pub(crate) releasing: bool,
    pub(crate) asks: u64,
    pub(crate) pending: Option<(u64, Wish)>,
    pub(crate) answered: u64,
    pub(crate) failing_since_us: Option<u64>,
    /// Whether the server has its identity in the room.
    pub(crate) in_room: bool,
    pub(crate) open: Option<u32>,
    /// Epoch under which the latest turn was opened.
    pub(crate) open_epoch: u64,
    pub(crate) held: bool,
    pub(crate) hold_saw_cough: bool,
    pub(crate) hold_saw_reconnect: bool,
    pub(crate) barge_in_lost: bool,
    pub(crate) cancelled: u32,
    pub(crate) ended: u32,
    pub(crate) utterance: u32,
    pub(crate) revision: u32,
    pub(crate) voice: Option<Voice>,
    /// Rises when the native queue is cleared.
    pub(crate) flush: u32,
    pub(crate) queued: u32,
    /// Rises when the playout starts anew, so that there is one at a time.
    pub(crate) pump: u32,
    pub(crate) tick_us: u64,
    /// Until then Stage B takes nothing.
    pub(crate) stuck_until_us: u64,
    pub(crate) pauses: u32,
    pub(crate) shed: u64,
    /// Its provider fails every other time.
    pub(crate) bad_provider: bool,
    /// It leaves when its turn is over.
    pub(crate) draining: bool,
    /// The turn that was open when the drain began, and still is.
    pub(crate) drain_turn: Option<u32>,
    /// The store gave it a session that another still serves; it is not live yet.
    pub(crate) moving: bool,
    /// To whom the store has given its session.
    pub(crate) moved_to: Option<AgentId>,
    /// Epoch of the latest move that it was told of.
    pub(crate) told_rotated: u64,
    /// Whether its turns open only under what the control plane says.
    pub(crate) managed: bool,
    /// The latest that it was told of the control plane, and of that what its kernel had to take.
    pub(crate) passed_on: Option<Fetched>,
    pub(crate) bundle: Option<Fetched>,
    pub(crate) bundle_version: u64,
    /// Whether its latest intent waits for a bundle.
    pub(crate) waits_for_bundle: bool,
}

impl Agent {
    pub(crate) fn new(worker: WorkerId, call: CallId, pauses: u32) -> Self {
        Self {
            worker,
            call,
            phase: Phase::Asking,
            kernel: None,
            twin: None,
            journal: Journal::new(),
            epoch: 0,
            resumed: false,
            deadline_us: 0,
            lost: false,
            releasing: false,
            asks: 0,
            pending: None,
            answered: 0,
            failing_since_us: None,
            in_room: false,
            open: None,
            open_epoch: 0,
            held: false,
            hold_saw_cough: false,
            hold_saw_reconnect: false,
            barge_in_lost: false,
            cancelled: 0,
            ended: 0,
            utterance: 0,
            revision: 0,
            voice: None,
            flush: 0,
            queued: 0,
            pump: 0,
            tick_us: u64::MAX,
            stuck_until_us: 0,
            pauses,
            shed: 0,
            bad_provider: false,
            draining: false,
            drain_turn: None,
            moving: false,
            moved_to: None,
            told_rotated: 0,
            managed: false,
            passed_on: None,
            bundle: None,
            bundle_version: 0,
            waits_for_bundle: false,
        }
    }

    /// Whether it holds or seeks the call.
    pub(crate) const fn active(&self) -> bool {
        !matches!(self.phase, Phase::Left | Phase::Dead)
    }

    /// Whether it has a kernel that holds the call.
    pub(crate) const fn has_begun(&self) -> bool {
        matches!(self.phase, Phase::Joining | Phase::Removing | Phase::Live)
    }

    /// Takes back what the native queue had not played.
    pub(crate) fn clear_queue(&mut self) {
        self.flush += 1;
        let queued = std::mem::take(&mut self.queued);
        if let Some(voice) = &mut self.voice {
            voice.frames_left += queued;
        }
    }
}

/// A kernel with a policy drawn for it, its twin, and whether it needs the control plane.
pub(crate) fn kernel(rng: &mut Rng, call: CallId, local_us: u64) -> (SessionKernel, Twin, bool) {
    let policy = TurnPolicy {
        interruptions: !rng.one_in(12),
        failure_notice: !rng.one_in(4),
        greeting: rng.one_in(2),
        takeover_notice: rng.one_in(2),
        confirm_words: rng.range(2, 4),
        incomplete_wait_ms: rng.range(400, 1501),
        stall_budget_ms: rng.range(800, 3001),
        needs_bundle: !rng.one_in(6),
        snapshot_failure: draw_refusal(rng),
        plan_failure: draw_refusal(rng),
        max_utterance_ms: if rng.one_in(4) { 2_500 } else { 30_000 },
        ..TurnPolicy::default()
    };
    let plan = PlanTemplate::new(PIPELINE, "graph/voice", "simple", r#"{"budgets":{}}"#);
    let providers = [(Modality::Llm, "first"), (Modality::Llm, "second"), (Modality::Llm, "third")];
    let session_id = format!("call-{call}");
    let mut kernel = SessionKernel::new(Settings {
        session_id: session_id.clone(),
        policy,
        plan: plan.unwrap_or_else(|error| unreachable!("{error:?}")),
        now_us: local_us,
        wall_clock_ms: WALL_CLOCK_MS,
        evidence_capacity: if rng.one_in(3) { 256 } else { 1024 },
    });
    kernel.use_providers(InvocationPolicy::default(), &providers[..=rng.index(3)]);
    let context = Context::new(&session_id, PIPELINE, local_us, WALL_CLOCK_MS);
    let twin = Twin::new(&kernel, context);
    (kernel, twin, policy.needs_bundle)
}

fn draw_refusal(rng: &mut Rng) -> WhenRefused {
    if rng.one_in(4) {
        WhenRefused::Reject
    } else {
        WhenRefused::Defer
    }
}
