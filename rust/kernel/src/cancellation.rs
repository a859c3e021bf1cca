//! Cancellation scopes: session holds turns, a turn holds nodes, a node holds provider invocations.
//!
//! A cancel reaches everything within its scope and nothing beside it. The hard part, the fence, is
//! the gate's and closes in the same step; stopping providers is best effort and shows in the markers
//! `cancel_sent_at`, `cancel_ack_at` and `late_provider_output_dropped_count`.

use crate::input::Modality;
use crate::names::named_enum;

named_enum! {
    /// How far a cancel reaches.
    pub enum CancelScope {
        Session => "session", Turn => "turn", Node => "node",
        ProviderInvocation => "provider_invocation",
    }
}

/// What is cancelled: a scope with its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelToken {
    /// Everything of the session.
    Session,
    /// One turn by its number.
    Turn(u32),
    /// What one node does for one turn; nodes are known by what their providers do.
    Node(u32, Modality),
    /// One provider invocation by its number.
    ProviderInvocation(u32),
}

impl CancelToken {
    /// The scope of this token.
    #[must_use]
    pub const fn scope(self) -> CancelScope {
        match self {
            Self::Session => CancelScope::Session,
            Self::Turn(_) => CancelScope::Turn,
            Self::Node(..) => CancelScope::Node,
            Self::ProviderInvocation(_) => CancelScope::ProviderInvocation,
        }
    }

    /// Whether it reaches an invocation.
    #[must_use]
    pub fn reaches(self, invocation: u32, turn: u32, modality: Modality) -> bool {
        match self {
            Self::Session => true,
            Self::Turn(number) => number == turn,
            Self::Node(number, node) => number == turn && node == modality,
            Self::ProviderInvocation(number) => number == invocation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reaches_what_lies_within_it_and_nothing_beside_it() {
        let tokens = [
            (CancelToken::Session, true, true, true),
            (CancelToken::Turn(1), true, true, false),
            (CancelToken::Node(1, Modality::Llm), true, false, false),
            (CancelToken::ProviderInvocation(7), true, false, false),
        ];
        for (token, own, beside, elsewhere) in tokens {
            assert_eq!(token.reaches(7, 1, Modality::Llm), own, "{token:?}");
            assert_eq!(token.reaches(8, 1, Modality::Tts), beside, "{token:?}");
            assert_eq!(token.reaches(9, 2, Modality::Llm), elsewhere, "{token:?}");
        }
    }
}
