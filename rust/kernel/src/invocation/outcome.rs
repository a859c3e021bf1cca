//! How an attempt ended: outcome classes, their reasons, and the mapping of HTTP answers (8.2, 8.3).

use crate::input::ProviderOutcome;
use crate::reason::Reason;

/// Wait after an overload without a `Retry-After`, milliseconds.
pub const OVERLOAD_BACKOFF_MS: u64 = 500;
/// Wait before a failure of the infrastructure is tried again, milliseconds.
pub const INFRASTRUCTURE_BACKOFF_MS: u64 = 100;

/// One attempt's end, normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Outcome class.
    pub class: ProviderOutcome,
    /// Why; none on success.
    pub reason: Option<Reason>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Whether the contract lets it open the circuit.
    pub opens_circuit: bool,
    /// Least wait before the next attempt at this provider, milliseconds.
    pub backoff_ms: u64,
}

impl Ending {
    /// The attempt succeeded.
    pub const SUCCESS: Self = Self {
        class: ProviderOutcome::Success,
        reason: None,
        retryable: false,
        opens_circuit: false,
        backoff_ms: 0,
    };

    /// Brings what an adapter reports into the form of the contract.
    ///
    /// Success, blocked and cancelled are never retryable, whatever the adapter says. A missing or
    /// foreign reason becomes the one of its class.
    #[must_use]
    pub fn new(
        class: ProviderOutcome,
        reason: Option<Reason>,
        retryable: bool,
        backoff_ms: Option<u64>,
    ) -> Self {
        use ProviderOutcome::{Blocked, Cancelled, InfrastructureFailure, Overload, Success, Timeout};
        let (usual, may_retry, usual_backoff_ms) = match class {
            Success => return Self::SUCCESS,
            Timeout => (Reason::ProviderTimeout, true, 0),
            Overload => (Reason::ProviderOverload, true, OVERLOAD_BACKOFF_MS),
            Blocked => (Reason::ProviderAuthOrPolicyBlock, false, 0),
            InfrastructureFailure => (Reason::ProviderFailure, true, INFRASTRUCTURE_BACKOFF_MS),
            Cancelled => (Reason::ProviderCancelled, false, 0),
        };
        let reason = reason.filter(|reason| is_provider_reason(*reason)).unwrap_or(usual);
        Self {
            class,
            reason: Some(reason),
            retryable: retryable && may_retry,
            opens_circuit: matches!(reason, Reason::ProviderOverload | Reason::ProviderServerError),
            backoff_ms: backoff_ms.unwrap_or(usual_backoff_ms),
        }
    }

    /// Maps a final HTTP status (8.3); `retry_after_s` is the header of that name.
    #[must_use]
    pub fn of_http(status: u16, retry_after_s: Option<u64>) -> Self {
        use ProviderOutcome::{Blocked, InfrastructureFailure, Overload, Timeout};
        let backoff_ms = retry_after_s.map(|seconds| seconds.saturating_mul(1000));
        match status {
            200..=299 => Self::SUCCESS,
            429 => Self::new(Overload, Some(Reason::ProviderOverload), true, backoff_ms),
            408 | 504 => Self::new(Timeout, Some(Reason::ProviderTimeout), true, None),
            401 | 403 => Self::new(Blocked, Some(Reason::ProviderAuthOrPolicyBlock), false, None),
            400..=499 => Self::new(Blocked, Some(Reason::ProviderClientError), false, None),
            500..=599 => Self::new(InfrastructureFailure, Some(Reason::ProviderServerError), true, None),
            _ => Self {
                opens_circuit: false,
                ..Self::new(InfrastructureFailure, Some(Reason::ProviderServerError), true, None)
            },
        }
    }
}

/// Whether a reason may be told of a provider.
#[must_use]
pub fn is_provider_reason(reason: Reason) -> bool {
    reason.row().area == "provider"
        && !matches!(reason, Reason::CircuitOpened | Reason::CircuitHalfOpened | Reason::CircuitClosed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_http_table_of_the_contract() {
        use ProviderOutcome::{Blocked, InfrastructureFailure, Overload, Success, Timeout};
        let rows = [
            (200, Success, false, false, ""),
            (299, Success, false, false, ""),
            (429, Overload, true, true, "provider_overload"),
            (408, Timeout, true, false, "provider_timeout"),
            (504, Timeout, true, false, "provider_timeout"),
            (401, Blocked, false, false, "provider_auth_or_policy_block"),
            (403, Blocked, false, false, "provider_auth_or_policy_block"),
            (404, Blocked, false, false, "provider_client_error"),
            (500, InfrastructureFailure, true, true, "provider_server_error"),
            (503, InfrastructureFailure, true, true, "provider_server_error"),
            (302, InfrastructureFailure, true, false, "provider_server_error"),
        ];
        for (status, class, retryable, opens, reason) in rows {
            let ending = Ending::of_http(status, None);
            assert_eq!((ending.class, ending.retryable, ending.opens_circuit), (class, retryable, opens));
            assert_eq!(ending.reason.map_or("", Reason::code), reason);
        }
        assert_eq!(Ending::of_http(429, None).backoff_ms, 500);
        assert_eq!(Ending::of_http(429, Some(3)).backoff_ms, 3000);
    }

    #[test]
    fn foreign_reasons_become_those_of_the_class() {
        let ending = Ending::new(ProviderOutcome::Timeout, Some(Reason::HangUp), true, None);
        assert_eq!(ending.reason, Some(Reason::ProviderTimeout));
        let ending = Ending::new(ProviderOutcome::Blocked, Some(Reason::CircuitOpened), true, None);
        assert_eq!((ending.reason, ending.retryable), (Some(Reason::ProviderAuthOrPolicyBlock), false));
    }

    proptest! {
        #[test]
        fn success_is_the_one_ending_without_a_reason(status in 0u16..1000, wait in proptest::option::of(0u64..)) {
            let ending = Ending::of_http(status, wait);
            prop_assert_eq!(ending.reason.is_none(), ending.class == ProviderOutcome::Success);
            prop_assert!(ending.class != ProviderOutcome::Success || !ending.opens_circuit);
        }
    }
}
