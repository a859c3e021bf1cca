//! What a failed attempt may be followed by, within the adaptive actions that the plan allows.

use crate::budget::BudgetPolicy;
use crate::bundle::Actions;
use crate::input::{Modality, ProviderOutcome};
use crate::invocation::outcome::Ending;
use crate::names::named_enum;

named_enum! {
    /// An adaptive action of a plan.
    pub enum AdaptiveAction {
        Retry => "retry", ProviderSwitch => "provider_switch", Degrade => "degrade",
        Fallback => "fallback",
    }
}

named_enum! {
    /// What follows an attempt.
    pub enum RetryDecision {
        None => "none", Retry => "retry", ProviderSwitch => "provider_switch", Fallback => "fallback",
    }
}

/// Most attempts at one provider.
pub const MAX_ATTEMPTS: u8 = 2;
/// Most providers of one modality.
pub const MAX_CANDIDATES: u8 = 5;
/// A retry that needs a longer wait than this goes to the next provider instead, if there is one.
pub const PATIENT_WAIT_MS: u64 = 250;
/// A retry that needs a longer wait than this is not made: the caller would sit in silence.
pub const LONGEST_WAIT_MS: u64 = 2000;

/// Limits of the attempts that one node makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// As [`InvocationPolicy::attempt_ms`].
    pub attempt_ms: u64,
    /// As [`InvocationPolicy::warn_ms`].
    pub warn_ms: u64,
}

/// Bounds and allowed actions, frozen with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one for each adaptive action of the contract
pub struct InvocationPolicy {
    /// Whether the same provider may be tried again.
    pub retry: bool,
    /// Whether the next provider may be switched to.
    pub provider_switch: bool,
    /// Whether the next provider may serve as a fallback.
    pub fallback: bool,
    /// Whether a node may go on in its lesser form.
    pub degrade: bool,
    /// Attempts at one provider, 1 to [`MAX_ATTEMPTS`].
    pub max_attempts: u8,
    /// Providers of one modality, 1 to [`MAX_CANDIDATES`].
    pub max_candidates: u8,
    /// How long an attempt may take to its first result while another provider is left.
    pub attempt_ms: u64,
    /// When a node that has handed nothing on is warned; 0 gives nodes no budget.
    pub warn_ms: u64,
    /// Limits of the nodes that have their own, by modality.
    pub nodes: [Option<NodeLimits>; 3],
}

impl Default for InvocationPolicy {
    fn default() -> Self {
        Self {
            retry: true,
            provider_switch: true,
            fallback: true,
            degrade: false,
            max_attempts: MAX_ATTEMPTS,
            max_candidates: MAX_CANDIDATES,
            attempt_ms: 1500,
            warn_ms: 0,
            nodes: [None; 3],
        }
    }
}

impl InvocationPolicy {
    /// Keeps what is allowed; `degrade` concerns nodes, and what follows an attempt passes it over.
    #[must_use]
    pub fn allowing(self, actions: &[AdaptiveAction]) -> Self {
        Self {
            retry: actions.contains(&AdaptiveAction::Retry),
            provider_switch: actions.contains(&AdaptiveAction::ProviderSwitch),
            fallback: actions.contains(&AdaptiveAction::Fallback),
            degrade: actions.contains(&AdaptiveAction::Degrade),
            ..self
        }
    }

    /// Keeps of what is allowed only what is in the set.
    #[must_use]
    pub const fn within(self, actions: Actions) -> Self {
        Self {
            retry: self.retry && actions.has(AdaptiveAction::Retry),
            provider_switch: self.provider_switch && actions.has(AdaptiveAction::ProviderSwitch),
            fallback: self.fallback && actions.has(AdaptiveAction::Fallback),
            degrade: self.degrade && actions.has(AdaptiveAction::Degrade),
            ..self
        }
    }

    /// Whether another provider may be called at all.
    #[must_use]
    pub const fn moves_on(&self) -> bool {
        self.provider_switch || self.fallback
    }

    /// The limits of one node's attempts: its own, or those of all nodes.
    #[must_use]
    pub fn limits(&self, modality: Modality) -> NodeLimits {
        let common = NodeLimits { attempt_ms: self.attempt_ms, warn_ms: self.warn_ms };
        self.nodes[modality as usize].unwrap_or(common)
    }

    /// The budget of each attempt until something of it is handed on; `degrade` where its node has a
    /// lesser form.
    #[must_use]
    pub fn node_budget(&self, modality: Modality, degrade: bool) -> Option<BudgetPolicy> {
        let NodeLimits { attempt_ms, warn_ms } = self.limits(modality);
        let limited = (warn_ms > 0)
            .then(|| BudgetPolicy::new(warn_ms.min(attempt_ms), attempt_ms, degrade, self.moves_on()));
        limited?.ok()
    }

    /// What follows an attempt that ended so; `more` when another provider is left, `resting` when the
    /// circuit of this one is open.
    ///
    /// A timeout, a long wait or a resting provider is not repeated while another can answer at once.
    #[must_use]
    pub fn decide(&self, ending: Ending, attempt: u8, more: bool, resting: bool) -> RetryDecision {
        if matches!(ending.class, ProviderOutcome::Success | ProviderOutcome::Cancelled) {
            return RetryDecision::None;
        }
        let more = more && self.moves_on();
        let slow = resting || ending.class == ProviderOutcome::Timeout || ending.backoff_ms > PATIENT_WAIT_MS;
        let bearable = ending.backoff_ms <= LONGEST_WAIT_MS;
        let retry = self.retry && ending.retryable && attempt < self.max_attempts && bearable;
        if retry && !(slow && more) {
            RetryDecision::Retry
        } else if !more {
            RetryDecision::None
        } else if self.provider_switch {
            RetryDecision::ProviderSwitch
        } else {
            RetryDecision::Fallback
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error() -> Ending {
        Ending::of_http(500, None)
    }

    #[test]
    fn g_15_degrade_in_a_plan_is_passed_over_by_invocations() {
        let policy = InvocationPolicy::default().allowing(&[AdaptiveAction::Degrade, AdaptiveAction::Retry]);
        assert!(policy.retry && !policy.moves_on());
        assert_eq!(policy.decide(server_error(), 1, true, false), RetryDecision::Retry);
    }

    #[test]
    fn nothing_happens_that_the_plan_does_not_allow() {
        let none = InvocationPolicy::default().allowing(&[]);
        assert_eq!(none.decide(server_error(), 1, true, false), RetryDecision::None);
        let fallback = InvocationPolicy::default().allowing(&[AdaptiveAction::Fallback]);
        assert_eq!(fallback.decide(server_error(), 1, true, false), RetryDecision::Fallback);
        assert_eq!(fallback.decide(server_error(), 1, false, false), RetryDecision::None);
    }

    #[test]
    fn waiting_is_bounded_and_timeouts_move_on() {
        let policy = InvocationPolicy::default();
        let timeout = Ending::of_http(504, None);
        let busy = Ending::of_http(429, None);
        let very_busy = Ending::of_http(429, Some(30));
        assert_eq!(policy.decide(timeout, 1, true, false), RetryDecision::ProviderSwitch);
        assert_eq!(policy.decide(timeout, 1, false, false), RetryDecision::Retry);
        assert_eq!(policy.decide(busy, 1, true, false), RetryDecision::ProviderSwitch);
        assert_eq!(policy.decide(busy, 1, false, false), RetryDecision::Retry);
        assert_eq!(policy.decide(very_busy, 1, false, false), RetryDecision::None);
        assert_eq!(policy.decide(server_error(), 2, false, false), RetryDecision::None);
        assert_eq!(policy.decide(server_error(), 1, true, true), RetryDecision::ProviderSwitch);
        assert_eq!(policy.decide(server_error(), 1, false, true), RetryDecision::Retry);
    }
}
