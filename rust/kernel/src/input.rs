//! Everything that may enter a session kernel, apart from frames at the gate.

use crate::cancellation::CancelScope;
use crate::migration::Step;
use crate::names::named_enum;

named_enum! {
    /// A stop or cancel that was accepted for the running turn.
    pub enum CancelSignal {
        Stop => "stop", Cancel => "cancel",
    }
}

named_enum! {
    /// What the transport delivered.
    pub enum PlaybackEvent {
        Started => "started", Completed => "completed", Cancelled => "cancelled",
    }
}

named_enum! {
    /// State of the connection or of the caller's track.
    pub enum ConnectionState {
        Connected => "connected", Reconnecting => "reconnecting", Disconnected => "disconnected",
        Ended => "ended", Silence => "silence", Stall => "stall", Muted => "muted",
    }
}

named_enum! {
    /// What a provider does.
    pub enum Modality {
        Stt => "stt", Llm => "llm", Tts => "tts",
    }
}

named_enum! {
    /// How a provider invocation ended.
    pub enum ProviderOutcome {
        Success => "success", Timeout => "timeout", Overload => "overload", Blocked => "blocked",
        InfrastructureFailure => "infrastructure_failure", Cancelled => "cancelled",
    }
}

/// One input of a session; `R` is how a foreign word is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<R> {
    /// When it happened, microseconds.
    pub now_us: u64,
    /// What happened.
    pub event: Event<R>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<R> {
    /// A lease was granted or renewed.
    Lease {
        /// Its epoch.
        epoch: u64,
        /// When it runs out here, microseconds.
        deadline_us: u64,
    },
    /// The store says that the lease is gone.
    LeaseLost {
        /// Why.
        reason: R,
    },
    /// The transport is usable and the caller is there.
    Start {
        /// Whether another runtime had the call before.
        resumed: bool,
    },
    /// Nothing but time.
    Tick,
    /// One window of the voice activity detector.
    VoiceActivity {
        /// Index of its first sample at 16 kHz.
        media_sample: u64,
        /// Speech probability, 0 to 1000.
        permille: u16,
    },
    /// A hypothesis of the recogniser.
    Transcript(Transcript),
    /// A chat text.
    TextMessage {
        /// Number of the text.
        reference: u32,
    },
    /// An accepted stop or cancel.
    Cancel {
        /// Which of the two.
        signal: CancelSignal,
    },
    /// The turn's last frame has passed the gate.
    GenerationFinished {
        /// The turn.
        turn: u32,
    },
    /// A provider or node of the turn failed.
    GenerationFailed {
        /// The turn.
        turn: u32,
        /// Why.
        reason: R,
    },
    /// The transport delivered.
    Playback {
        /// The turn.
        turn: u32,
        /// What it delivered.
        event: PlaybackEvent,
        /// Samples heard of the turn.
        samples: u64,
    },
    /// The connection or the caller's track changed.
    Connection {
        /// The new state.
        state: ConnectionState,
        /// Why.
        reason: R,
    },
    /// A cancel of something other than the running turn.
    CancelWithin {
        /// How far it reaches.
        scope: CancelScope,
        /// Turn or invocation number; the index of the modality for a node; 0 for the session.
        target: u32,
    },
    /// The control plane's routing view was refreshed.
    RoutingView {
        /// Epoch under which the session is served.
        epoch: u64,
    },
    /// A step of a migration.
    Migration {
        /// Which step.
        step: Step,
        /// Epoch that the session is moved to.
        epoch: u64,
    },
    /// The runtime leaves: the running turn may end, and no further one opens.
    Drain,
}

/// A hypothesis of the recogniser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Number of the utterance.
    pub utterance: u32,
    /// How many continuations the recogniser had seen.
    pub revision: u32,
    /// Recognised words.
    pub words: u32,
    /// Whether all of them are a listener's.
    pub backchannel: bool,
    /// Whether the sentence is finished.
    pub complete: bool,
    /// Whether it answers a probe.
    pub probe: bool,
}

impl<R> Event<R> {
    /// The name in the evidence.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lease { .. } => "lease",
            Self::LeaseLost { .. } => "lease_lost",
            Self::Start { .. } => "start",
            Self::Tick => "tick",
            Self::VoiceActivity { .. } => "voice_activity",
            Self::Transcript(_) => "transcript",
            Self::TextMessage { .. } => "text_message",
            Self::Cancel { .. } => "cancel",
            Self::GenerationFinished { .. } => "generation_finished",
            Self::GenerationFailed { .. } => "generation_failed",
            Self::Playback { .. } => "playback",
            Self::Connection { .. } => "connection",
            Self::CancelWithin { .. } => "cancel_within",
            Self::RoutingView { .. } => "routing_view",
            Self::Migration { .. } => "migration",
            Self::Drain => "drain",
        }
    }

    /// The same event with its foreign word held another way.
    pub fn map<S>(self, hold: impl FnOnce(R) -> S) -> Event<S> {
        match self {
            Self::LeaseLost { reason } => Event::LeaseLost { reason: hold(reason) },
            Self::GenerationFailed { turn, reason } => Event::GenerationFailed { turn, reason: hold(reason) },
            Self::Connection { state, reason } => Event::Connection { state, reason: hold(reason) },
            Self::Lease { epoch, deadline_us } => Event::Lease { epoch, deadline_us },
            Self::Start { resumed } => Event::Start { resumed },
            Self::Tick => Event::Tick,
            Self::VoiceActivity { media_sample, permille } => Event::VoiceActivity { media_sample, permille },
            Self::Transcript(transcript) => Event::Transcript(transcript),
            Self::TextMessage { reference } => Event::TextMessage { reference },
            Self::Cancel { signal } => Event::Cancel { signal },
            Self::GenerationFinished { turn } => Event::GenerationFinished { turn },
            Self::Playback { turn, event, samples } => Event::Playback { turn, event, samples },
            Self::CancelWithin { scope, target } => Event::CancelWithin { scope, target },
            Self::RoutingView { epoch } => Event::RoutingView { epoch },
            Self::Migration { step, epoch } => Event::Migration { step, epoch },
            Self::Drain => Event::Drain,
        }
    }
}
