//! The numbers behind the bytes: each vocabulary's positions, which never move.

use crate::admission::Point;
use crate::bundle::Failure;
use crate::cancellation::CancelScope;
use crate::decision::{Decider, Outcome, Phase, Scope};
use crate::edge::notice::What;
use crate::edge::watermark::Domain;
use crate::effect::AgentState;
use crate::event::{EventScope, Lane};
use crate::evidence::record::{Body, Call, Marker};
use crate::fence::Verdict;
use crate::input::{CancelSignal, ConnectionState, Event, Modality, PlaybackEvent, ProviderOutcome};
use crate::invocation::policy::RetryDecision;
use crate::migration::Step;
use crate::names::named_enum;
use crate::reason::Reason;
use crate::signal::{Emitter, Signal};
use crate::turn::{State, Trigger};

named_enum! {
    /// The kinds of entry.
    pub enum Kind {
        Word => "word", Gap => "gap", NextFrame => "next_frame", Frame => "frame",
        NextWindow => "next_window", VoiceActivity => "voice_activity", Signal => "signal",
        Decision => "decision", Transition => "transition", Marker => "marker", Plan => "plan",
        AgentState => "agent_state", Provider => "provider", Attempt => "attempt", Edge => "edge",
        Lease => "lease", LeaseLost => "lease_lost", Start => "start", Tick => "tick",
        Transcript => "transcript", TextMessage => "text_message", Cancel => "cancel",
        GenerationFinished => "generation_finished", GenerationFailed => "generation_failed",
        Playback => "playback", Connection => "connection", CancelWithin => "cancel_within",
        RoutingView => "routing_view", Migration => "migration", Invoke => "invoke",
        OutputHandedOn => "output_handed_on", AttemptFinished => "attempt_finished",
        Ingress => "ingress", DeadlinePassed => "deadline_passed", Admission => "admission",
        Arrival => "arrival", Reattach => "reattach", LevelLowered => "level_lowered",
        TurnStart => "turn_start", Drain => "drain",
    }
}

named_enum! {
    /// What an edge decided, without its numbers.
    pub enum Notice {
        Watermark => "watermark", FlowXoff => "flow_xoff", FlowXon => "flow_xon",
        CreditGrant => "credit_grant", DropNotice => "drop_notice", Discontinuity => "discontinuity",
        Shed => "shed",
    }
}

/// A vocabulary whose members are written as their positions.
pub(super) trait Numbered: Copy + 'static {
    /// Every member in order.
    const ALL: &'static [Self];
    /// Position of this one.
    fn number(self) -> u64;
}

macro_rules! numbered {
    ( $( $Type:ty, $name:literal, $text:ident; )+ ) => {
        $(
            impl Numbered for $Type {
                const ALL: &'static [Self] = <$Type>::ALL;
                fn number(self) -> u64 {
                    self as u64
                }
            }
        )+

        /// Every vocabulary with its members in the order of their numbers.
        #[must_use]
        pub fn numbers() -> Vec<(&'static str, Vec<&'static str>)> {
            vec![ $( ($name, <$Type>::ALL.iter().map(|member| member.$text()).collect()) ),+ ]
        }
    };
}

numbered! {
    Kind, "entry", name;
    Signal, "signal", name;
    Emitter, "emitter", name;
    EventScope, "event_scope", name;
    Reason, "reason", code;
    CancelScope, "cancel_scope", name;
    Outcome, "decision_outcome", name;
    Phase, "decision_phase", name;
    Scope, "decision_scope", name;
    Decider, "decider", name;
    State, "turn_state", name;
    Trigger, "turn_trigger", name;
    Marker, "marker", name;
    AgentState, "agent_state", name;
    Verdict, "verdict", name;
    Modality, "modality", name;
    ProviderOutcome, "provider_outcome", name;
    RetryDecision, "retry_decision", name;
    Notice, "edge_notice", name;
    Domain, "watermark_domain", name;
    Lane, "lane", name;
    CancelSignal, "cancel_signal", name;
    PlaybackEvent, "playback_event", name;
    ConnectionState, "connection_state", name;
    Step, "migration_step", name;
    Point, "admission_point", name;
    Failure, "turn_start_failure", name;
}

/// The member behind a number.
pub(super) fn member_at<T: Numbered>(number: u64) -> Option<T> {
    usize::try_from(number).ok().and_then(|index| T::ALL.get(index)).copied()
}

pub(super) const fn notice(what: What) -> Notice {
    match what {
        What::Watermark(_) => Notice::Watermark,
        What::FlowXoff => Notice::FlowXoff,
        What::FlowXon => Notice::FlowXon,
        What::CreditGrant(_) => Notice::CreditGrant,
        What::DropNotice { .. } => Notice::DropNotice,
        What::Discontinuity(_) => Notice::Discontinuity,
        What::Shed(_) => Notice::Shed,
    }
}

pub(super) const fn kind(body: Body) -> Kind {
    match body {
        Body::Signal { .. } => Kind::Signal,
        Body::Decision(_) => Kind::Decision,
        Body::Transition(_) => Kind::Transition,
        Body::Marker { .. } => Kind::Marker,
        Body::Plan(_) => Kind::Plan,
        Body::AgentState(_) => Kind::AgentState,
        Body::Frame { .. } => Kind::Frame,
        Body::Provider { .. } => Kind::Provider,
        Body::Attempt(_) => Kind::Attempt,
        Body::Edge(_) => Kind::Edge,
        Body::Call(call) => match call {
            Call::Invoke { .. } => Kind::Invoke,
            Call::OutputHandedOn { .. } => Kind::OutputHandedOn,
            Call::AttemptFinished { .. } => Kind::AttemptFinished,
            Call::Ingress { .. } => Kind::Ingress,
            Call::DeadlinePassed => Kind::DeadlinePassed,
            Call::Admission(_) => Kind::Admission,
            Call::Arrival { .. } => Kind::Arrival,
            Call::Reattach { .. } => Kind::Reattach,
            Call::LevelLowered { .. } => Kind::LevelLowered,
            Call::TurnStart(_) => Kind::TurnStart,
        },
        Body::Input(event) => match event {
            Event::Lease { .. } => Kind::Lease,
            Event::LeaseLost { .. } => Kind::LeaseLost,
            Event::Start { .. } => Kind::Start,
            Event::Tick => Kind::Tick,
            Event::VoiceActivity { .. } => Kind::VoiceActivity,
            Event::Transcript(_) => Kind::Transcript,
            Event::TextMessage { .. } => Kind::TextMessage,
            Event::Cancel { .. } => Kind::Cancel,
            Event::GenerationFinished { .. } => Kind::GenerationFinished,
            Event::GenerationFailed { .. } => Kind::GenerationFailed,
            Event::Playback { .. } => Kind::Playback,
            Event::Connection { .. } => Kind::Connection,
            Event::CancelWithin { .. } => Kind::CancelWithin,
            Event::RoutingView { .. } => Kind::RoutingView,
            Event::Migration { .. } => Kind::Migration,
            Event::Drain => Kind::Drain,
        },
    }
}
