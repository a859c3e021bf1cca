//! The evidence record: small and copyable, so that appending never allocates.

use crate::admission::Place;
use crate::bundle::TurnStart;
use crate::cancellation::CancelScope;
use crate::decision::Decision;
use crate::edge::notice::What;
use crate::effect::AgentState;
use crate::event::{EventScope, Lane};
use crate::fence::Verdict;
use crate::input::{Event, Modality, ProviderOutcome};
use crate::invocation::outcome::Ending;
use crate::invocation::policy::RetryDecision;
use crate::names::named_enum;
use crate::plan::ResolvedTurnPlan;
use crate::reason::{Label, Reason};
use crate::signal::{Emitter, Signal};
use crate::turn::Transition;

named_enum! {
    /// A point in time worth keeping that is neither a signal nor a decision.
    pub enum Marker {
        OutputHeld => "output_held", OutputReleased => "output_released",
        FirstOutput => "first_output", LeaseGranted => "lease_granted",
        LeaseRenewed => "lease_renewed", GateClosed => "gate_closed", PlanFrozen => "plan_frozen",
        FramesPassed => "frames_passed", UtteranceStarted => "utterance_started",
        UtteranceProbed => "utterance_probed", UtteranceContinued => "utterance_continued",
        UtteranceEnded => "utterance_ended", UtteranceDiscarded => "utterance_discarded",
        AgentState => "agent_state", CancelAccepted => "cancel_accepted",
        FenceApplied => "fence_applied", CancelIgnored => "cancel_ignored",
        LateEvent => "late_event", PlanFailed => "plan_failed",
        CancelSentAt => "cancel_sent_at", CancelAckAt => "cancel_ack_at",
        LateOutputDropped => "late_provider_output_dropped_count",
        LateEventRemapped => "late_event_remapped", LateBy => "late_by_us",
        IntentQueued => "intent_queued", EpochEnriched => "epoch_enriched",
        ViewBehind => "routing_view_behind", ViewRefreshed => "routing_view_refreshed",
        ViewSupersedes => "routing_view_supersedes", StateReattached => "state_reattached",
        MigrationRefused => "migration_step_refused",
        BundleRefused => "turn_start_bundle_refused",
    }
}

/// What may be shed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Shed while less than a quarter of the ring is free.
    Detail,
    /// Kept until only the reserve is left.
    Baseline,
    /// May use the reserve.
    Terminal,
}

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A control signal.
    Signal {
        /// Which.
        signal: Signal,
        /// By whom.
        emitter: Emitter,
        /// In which scope.
        scope: EventScope,
        /// Why; may be empty where the registry allows it.
        reason: Label,
        /// How far it reaches, where the registry has it.
        reach: Option<CancelScope>,
        /// The provider invocation it is about, 0 when none.
        invocation: u32,
    },
    /// A decision outcome.
    Decision(Decision),
    /// A transition of the turn machine.
    Transition(Transition),
    /// A marker with a number.
    Marker {
        /// Which.
        name: Marker,
        /// Its number.
        value: u64,
    },
    /// The marker of a frozen plan.
    Plan(ResolvedTurnPlan),
    /// The marker of a new agent state.
    AgentState(AgentState),
    /// An input of the kernel.
    Input(Event<Label>),
    /// A frame at the gate; the turn of the record is the frame's.
    Frame {
        /// Place of the frame in its turn.
        sequence: u64,
        /// Its length.
        samples: u64,
        /// Epoch it was made under.
        epoch: u64,
        /// What the gate said.
        verdict: Verdict,
    },
    /// A call of the kernel beside `step` and `frame`.
    Call(Call),
    /// The outcome of a provider invocation.
    Provider {
        /// Whether the shell reported it; otherwise it follows from the end of an attempt.
        reported: bool,
        /// What the provider does.
        modality: Modality,
        /// How the invocation ended.
        outcome: ProviderOutcome,
        /// How long it took, microseconds.
        latency_us: u64,
    },
    /// One attempt of a provider invocation.
    Attempt(AttemptRecord),
    /// A control signal of an edge.
    Edge(EdgeRecord),
}

impl Body {
    /// Whether it refers to a provenance that is only lent to it.
    #[inline]
    #[must_use]
    pub const fn borrows(&self) -> bool {
        matches!(self, Self::Call(Call::TurnStart(TurnStart { provenance: Some(_), .. })))
    }
}

/// A call that changes the kernel without being a `step`.
///
/// With the inputs, the frames, the reported provider outcomes and what the edges decided these are all
/// that a kernel was given, so it can be run again from its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A provider invocation was asked for, for the turn of the record.
    Invoke {
        /// What the provider shall do.
        modality: Modality,
    },
    /// Output of an attempt was about to be handed on: the first of it, or one that came too late.
    OutputHandedOn {
        /// Number of the invocation.
        invocation: u32,
    },
    /// An attempt ended.
    AttemptFinished {
        /// Number of the invocation.
        invocation: u32,
        /// How it ended.
        ending: Ending,
        /// How long the provider waited for its listener, microseconds.
        idle_us: u64,
    },
    /// An event from outside asked to come in and did not pass unremarked.
    Ingress {
        /// Epoch that it carried.
        carrier: Option<i64>,
    },
    /// Some call found that the lease had run out.
    DeadlinePassed,
    /// An event from outside asked to come in.
    Arrival {
        /// How many had asked before, and this one.
        number: u32,
        /// Fingerprint of the id that the transport gave it.
        event: u64,
        /// Its size.
        bytes: u64,
        /// Epoch that it carried.
        carrier: Option<i64>,
    },
    /// What the runtime's admission says at one point has changed.
    Admission(Place<Label>),
    /// Durable state of an earlier placement came with the session.
    Reattach {
        /// Turns that were opened before.
        turns: u32,
        /// Messages of the conversation whose words came along.
        messages: u32,
    },
    /// The recording goes on at a lower level.
    LevelLowered {
        /// Why.
        reason: Reason,
    },
    /// What the control plane says about the next turns.
    TurnStart(TurnStart<Label>),
}

impl Call {
    /// The name in the evidence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invoke { .. } => "invoke",
            Self::OutputHandedOn { .. } => "output_handed_on",
            Self::AttemptFinished { .. } => "attempt_finished",
            Self::Ingress { .. } => "ingress",
            Self::DeadlinePassed => "deadline_passed",
            Self::Admission(_) => "admission",
            Self::Arrival { .. } => "arrival",
            Self::Reattach { .. } => "reattach",
            Self::LevelLowered { .. } => "level_lowered",
            Self::TurnStart(_) => "turn_start",
        }
    }
}

/// What an edge decided (section 7 of the contracts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeRecord {
    /// What.
    pub what: What,
    /// In which scope.
    pub scope: EventScope,
    /// Lane of the items on the edge.
    pub lane: Lane,
    /// Id of the edge; for a discontinuity the domain.
    pub name: Label,
}

/// One attempt of a provider invocation (section 8.7 of the contracts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Number of the invocation.
    pub invocation: u32,
    /// What the provider does.
    pub modality: Modality,
    /// The provider.
    pub provider: Label,
    /// Number of the attempt at this provider.
    pub attempt: u8,
    /// Outcome class.
    pub outcome: ProviderOutcome,
    /// Why; empty on success.
    pub reason: Label,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// What follows.
    pub decision: RetryDecision,
    /// The provider of the next attempt; empty when there is none.
    pub next_provider: Label,
    /// How long the attempt took, microseconds.
    pub latency_us: u64,
}

/// One evidence record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, microseconds.
    pub at_us: u64,
    /// `runtime_sequence` of signals and decisions, 0 otherwise.
    pub sequence: u64,
    /// Epoch at that time.
    pub epoch: u64,
    /// Epoch that the turn was opened under.
    pub turn_epoch: u64,
    /// The turn, 0 when none.
    pub turn: u32,
    /// What.
    pub body: Body,
}
