//! What a shell must do, in the order given.

use std::borrow::Cow;

use crate::names::named_enum;
use crate::node::Told;
use crate::plan::PlanHash;

named_enum! {
    /// Why a turn opens.
    pub enum Intent {
        Greeting => "greeting", Utterance => "utterance", Text => "text",
        Unrecognised => "unrecognised", FailureNotice => "failure_notice",
        TakeoverNotice => "takeover_notice",
    }
}

named_enum! {
    /// What front ends show of the agent.
    pub enum AgentState {
        Initializing => "initializing", Listening => "listening", Thinking => "thinking",
        Speaking => "speaking",
    }
}

named_enum! {
    /// How a turn ended.
    pub enum TurnOutcome {
        Commit => "commit", Abort => "abort",
    }
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A turn is open under a frozen plan.
    OpenTurn {
        /// Number of the turn.
        turn: u32,
        /// Epoch it was opened under.
        epoch: u64,
        /// Why it opens.
        intent: Intent,
        /// Utterance or text number, 0 otherwise.
        reference: u32,
        /// Hash of its plan.
        plan_hash: PlanHash,
    },
    /// Clear what is queued and keep the position.
    HoldOutput {
        /// The turn.
        turn: u32,
    },
    /// Go on from the first sample that was not heard.
    ResumeOutput {
        /// The turn.
        turn: u32,
    },
    /// Clear the queue, stop providers.
    CancelTurn {
        /// The turn.
        turn: u32,
        /// Why.
        reason: Cow<'static, str>,
    },
    /// Call the node's hook, and stop its work where that is said.
    TellNode {
        /// Index of the node among those that the kernel was given.
        node: u8,
        /// The turn; 0 when it is about the session.
        turn: u32,
        /// What it must do.
        told: Told,
    },
    /// Stop one provider call; what it still gives is dropped.
    CancelInvocation {
        /// Number of the invocation.
        invocation: u32,
    },
    /// The turn is over.
    CloseTurn {
        /// The turn.
        turn: u32,
        /// How it ended.
        outcome: TurnOutcome,
        /// Why it was aborted; empty on commit.
        reason: Cow<'static, str>,
    },
    /// No turn was opened.
    RefuseIntent {
        /// Why it should have opened.
        intent: Intent,
        /// Utterance or text number, 0 otherwise.
        reference: u32,
        /// Name of the decision.
        outcome: &'static str,
        /// Why it was refused.
        reason: &'static str,
    },
    /// The caller began to speak.
    StartUtterance {
        /// Number of the utterance.
        utterance: u32,
        /// Where, in samples at 16 kHz.
        media_sample: u64,
    },
    /// Ask the recogniser for its best whole hypothesis.
    ProbeUtterance {
        /// Number of the utterance.
        utterance: u32,
    },
    /// The caller went on after a probe.
    ContinueUtterance {
        /// Number of the utterance.
        utterance: u32,
    },
    /// The utterance is over.
    EndUtterance {
        /// Number of the utterance.
        utterance: u32,
        /// Whether a turn answers it.
        used: bool,
    },
    /// Show this state.
    AgentState {
        /// The state.
        state: AgentState,
    },
    /// Leave the room at once.
    LeaveRoom {
        /// Why.
        reason: Cow<'static, str>,
    },
}
