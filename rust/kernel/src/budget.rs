//! Budgets (RK-17, section 6.8 of the contracts): how long something may take and what follows.
//!
//! | elapsed | action | told once |
//! |---|---|---|
//! | below the warning | continue | nothing |
//! | from the warning on | continue | `budget_warning` |
//! | from exhaustion on | degrade if allowed, else fall back if allowed, else terminate | `budget_exhausted` |

use crate::edge::bounds::{within, BoundsError, MAX_MS};
use crate::names::named_enum;
use crate::reason::Reason;
use crate::signal::Signal;

named_enum! {
    /// What follows.
    pub enum Action {
        Continue => "continue", Degrade => "degrade", Fallback => "fallback", Terminate => "terminate",
    }
}

/// A budget as the plan freezes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetPolicy {
    warn_us: u64,
    exhaust_us: u64,
    degrade: bool,
    fallback: bool,
}

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetDecision {
    /// What follows.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// Whether the warning threshold is reached.
    pub warning: bool,
    /// Whether the budget is used up.
    pub exhausted: bool,
}

impl BudgetPolicy {
    /// A budget; no exhaustion means 1 ms, no warning means none before exhaustion.
    ///
    /// # Errors
    /// The warning lies above exhaustion.
    pub fn new(warn_ms: u64, exhaust_ms: u64, degrade: bool, fallback: bool) -> Result<Self, BoundsError> {
        let exhaust_ms = exhaust_ms.max(1);
        within("exhaust_ms", exhaust_ms, 1, MAX_MS)?;
        let warn_ms = if warn_ms == 0 { exhaust_ms } else { warn_ms };
        within("warn_ms", warn_ms, 1, exhaust_ms)?;
        Ok(Self { warn_us: warn_ms * 1000, exhaust_us: exhaust_ms * 1000, degrade, fallback })
    }

    /// Decides for a time elapsed.
    #[must_use]
    pub const fn decide(&self, elapsed_us: u64) -> BudgetDecision {
        let exhausted = elapsed_us >= self.exhaust_us;
        let warning = elapsed_us >= self.warn_us;
        let (action, reason) = match (exhausted, warning) {
            (true, _) => (self.way_out(), Reason::BudgetExhausted),
            (false, true) => (Action::Continue, Reason::BudgetWarning),
            (false, false) => (Action::Continue, Reason::WithinBudget),
        };
        BudgetDecision { action, reason, warning, exhausted }
    }

    /// What is allowed when there is no time left, or when the thing failed.
    #[must_use]
    pub const fn way_out(&self) -> Action {
        match (self.degrade, self.fallback) {
            (true, _) => Action::Degrade,
            (false, true) => Action::Fallback,
            (false, false) => Action::Terminate,
        }
    }
}

/// A budget that runs; time under a hold is not charged.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    policy: BudgetPolicy,
    charged_us: u64,
    running_since_us: Option<u64>,
    warned: bool,
    ended: bool,
}

impl Budget {
    /// A budget that starts now.
    #[must_use]
    pub const fn start(policy: BudgetPolicy, now_us: u64) -> Self {
        Self { policy, charged_us: 0, running_since_us: Some(now_us), warned: false, ended: false }
    }

    /// Time charged so far, microseconds.
    #[must_use]
    pub fn charged_us(&self, now_us: u64) -> u64 {
        self.charged_us + self.running_since_us.map_or(0, |since_us| now_us.saturating_sub(since_us))
    }

    /// Stops charging.
    pub fn pause(&mut self, now_us: u64) {
        self.charged_us = self.charged_us(now_us);
        self.running_since_us = None;
    }

    /// Goes on charging.
    pub fn resume(&mut self, now_us: u64) {
        self.running_since_us.get_or_insert(now_us);
    }

    /// When something is to be told next, microseconds.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        let since_us = self.running_since_us.filter(|_| !self.ended)?;
        let threshold_us = if self.warned { self.policy.exhaust_us } else { self.policy.warn_us };
        Some(since_us + threshold_us.saturating_sub(self.charged_us))
    }

    /// The decision now, and the signals that are due with it; each is due once.
    pub fn observe(&mut self, now_us: u64) -> (BudgetDecision, [Option<(Signal, Reason)>; 3]) {
        let decision = self.policy.decide(self.charged_us(now_us));
        let warns = decision.warning && !self.warned;
        let ends = decision.exhausted && !self.ended;
        self.warned |= decision.warning;
        self.ended |= decision.exhausted;
        let warning = warns.then_some((Signal::BudgetWarning, Reason::BudgetWarning));
        let exhausted = ends.then_some((Signal::BudgetExhausted, Reason::BudgetExhausted));
        let taken = match decision.action {
            Action::Degrade => Some((Signal::Degrade, Reason::BudgetExhausted)),
            Action::Fallback => Some((Signal::Fallback, Reason::BudgetExhausted)),
            Action::Continue | Action::Terminate => None,
        };
        (decision, [warning, exhausted, taken.filter(|_| ends)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventScope;
    use crate::signal::Emitter;
    use proptest::prelude::*;

    fn policy(degrade: bool, fallback: bool) -> BudgetPolicy {
        BudgetPolicy::new(1200, 1500, degrade, fallback).expect("valid")
    }

    fn signals(told: [Option<(Signal, Reason)>; 3]) -> Vec<Signal> {
        told.into_iter().flatten().map(|(signal, _)| signal).collect()
    }

    #[test]
    fn g13_ten_of_1200_ms_go_on_without_a_word() {
        let mut budget = Budget::start(policy(true, true), 0);
        let (decision, told) = budget.observe(10_000);
        assert_eq!((decision.action, decision.reason), (Action::Continue, Reason::WithinBudget));
        assert!(!decision.warning && !decision.exhausted && signals(told).is_empty());
        assert_eq!(budget.due_us(), Some(1_200_000));
    }

    #[test]
    fn each_threshold_is_told_once() {
        let mut budget = Budget::start(policy(false, true), 0);
        assert_eq!(signals(budget.observe(1_200_000).1), [Signal::BudgetWarning]);
        assert_eq!((signals(budget.observe(1_499_999).1), budget.due_us()), (vec![], Some(1_500_000)));
        let (decision, told) = budget.observe(1_500_000);
        assert_eq!(
            (decision.action, signals(told)),
            (Action::Fallback, vec![Signal::BudgetExhausted, Signal::Fallback])
        );
        assert_eq!((signals(budget.observe(9_000_000).1), budget.due_us()), (vec![], None));
    }

    #[test]
    fn degrade_wins_over_fallback_and_nothing_allowed_terminates() {
        let outs = [(true, true), (true, false), (false, true), (false, false)]
            .map(|(degrade, fallback)| policy(degrade, fallback).decide(1_500_000).action);
        assert_eq!(outs, [Action::Degrade, Action::Degrade, Action::Fallback, Action::Terminate]);
    }

    #[test]
    fn missing_thresholds_have_their_meaning_and_reversed_ones_none() {
        let never = BudgetPolicy::new(0, 0, false, false).expect("valid");
        assert!(never.decide(1000).exhausted && !never.decide(999).warning);
        assert_eq!(BudgetPolicy::new(2, 1, false, false).expect_err("refused").field, "warn_ms");
    }

    #[test]
    fn a_hold_is_not_charged() {
        let mut budget = Budget::start(policy(false, false), 0);
        budget.pause(1_000_000);
        assert_eq!((budget.due_us(), budget.charged_us(60_000_000)), (None, 1_000_000));
        budget.resume(60_000_000);
        assert_eq!(budget.due_us(), Some(60_200_000));
    }

    proptest! {
        #[test]
        fn what_is_told_is_legal_and_comes_when_it_is_due(
            times in prop::collection::vec(0u64..3_000_000, 1..30), degrade in any::<bool>(), fallback in any::<bool>(),
        ) {
            let mut budget = Budget::start(policy(degrade, fallback), 0);
            let mut all = Vec::new();
            let mut now_us = 0;
            for time_us in times {
                now_us += time_us / 10;
                let due = budget.due_us().is_some_and(|due_us| due_us <= now_us);
                let told = signals(budget.observe(now_us).1);
                prop_assert_eq!(due, !told.is_empty());
                all.extend(told);
            }
            prop_assert!(all.iter().all(|signal| signal.legal(Emitter::Rk17, EventScope::Turn, true)));
            let mut unique = all.clone();
            unique.dedup();
            prop_assert_eq!(all, unique);
        }
    }
}
