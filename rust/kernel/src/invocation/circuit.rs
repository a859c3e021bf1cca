//! The circuit of one provider: left alone after failures in a row, then tried once.
//!
//! | from     | on          | to       |
//! |----------|-------------|----------|
//! | Closed   | `trip`      | Open     |
//! | Open     | `probe`     | Probing  |
//! | Probing  | `succeed`   | Closed   |
//! | Probing  | `fail`      | Open     |
//! | Probing  | `cancel`    | Open     |
//!
//! Every failure counts one, a failure that the contract marks as opening the circuit (429, 5xx)
//! counts two; at three the circuit trips. Success in Closed forgets all failures. A probe that fails
//! doubles the rest, a probe that was cancelled tells nothing and may be repeated at once.

use crate::names::named_enum;

named_enum! {
    /// State of a circuit.
    pub enum State {
        Closed => "Closed", Open => "Open", Probing => "Probing",
    }
}

named_enum! {
    /// What moves a circuit.
    pub enum Trigger {
        Trip => "trip", Probe => "probe", Succeed => "succeed", Fail => "fail", Cancel => "cancel",
    }
}

/// The whole table.
pub const TRANSITIONS: [(State, Trigger, State); 5] = [
    (State::Closed, Trigger::Trip, State::Open),
    (State::Open, Trigger::Probe, State::Probing),
    (State::Probing, Trigger::Succeed, State::Closed),
    (State::Probing, Trigger::Fail, State::Open),
    (State::Probing, Trigger::Cancel, State::Open),
];

/// Failure points at which a circuit trips.
pub const TRIP_POINTS: u32 = 3;
/// First rest of a provider.
pub const REST_US: u64 = 5_000_000;
/// Longest rest of a provider.
pub const MAX_REST_US: u64 = 60_000_000;

/// One circuit; time is an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    state: State,
    points: u32,
    rest_us: u64,
    until_us: u64,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: State::Closed, points: 0, rest_us: REST_US, until_us: 0 }
    }
}

impl Circuit {
    /// The present state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When a resting provider may be tried again.
    #[must_use]
    pub const fn until_us(&self) -> u64 {
        self.until_us
    }

    /// Whether the provider may be called now; one probe at a time.
    #[must_use]
    pub const fn allows(&self, now_us: u64) -> bool {
        match self.state {
            State::Closed => true,
            State::Open => now_us >= self.until_us,
            State::Probing => false,
        }
    }

    fn fire(&mut self, trigger: Trigger) -> Option<State> {
        let row = TRANSITIONS.iter().find(|row| row.0 == self.state && row.1 == trigger)?;
        self.state = row.2;
        Some(row.2)
    }

    /// The provider is called, resting or not; returns the new state if it changed.
    pub fn call(&mut self) -> Option<State> {
        self.fire(Trigger::Probe)
    }

    /// A call succeeded.
    pub fn succeed(&mut self) -> Option<State> {
        self.points = 0;
        self.rest_us = REST_US;
        self.fire(Trigger::Succeed)
    }

    /// A call failed; `marked` when the contract lets the failure open the circuit.
    pub fn fail(&mut self, now_us: u64, marked: bool) -> Option<State> {
        self.points = (self.points + if marked { 2 } else { 1 }).min(TRIP_POINTS);
        let trigger = match self.state {
            State::Probing => {
                self.rest_us = (self.rest_us * 2).min(MAX_REST_US);
                Trigger::Fail
            }
            State::Closed if self.points >= TRIP_POINTS => Trigger::Trip,
            State::Closed | State::Open => return None,
        };
        self.until_us = now_us.saturating_add(self.rest_us);
        self.fire(trigger)
    }

    /// A call was cancelled or refused for a reason that tells nothing of the provider's health.
    pub fn cancel(&mut self, now_us: u64) -> Option<State> {
        if self.state == State::Probing {
            self.until_us = now_us;
        }
        self.fire(Trigger::Cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_trigger_is_decided_by_the_table() {
        for state in State::ALL {
            for trigger in Trigger::ALL {
                let mut circuit = Circuit { state: *state, ..Circuit::default() };
                let row = TRANSITIONS.iter().find(|row| row.0 == *state && row.1 == *trigger);
                assert_eq!(circuit.fire(*trigger), row.map(|row| row.2));
                assert_eq!(circuit.state(), row.map_or(*state, |row| row.2));
            }
        }
    }

    #[test]
    fn two_marked_or_three_plain_failures_trip_and_a_success_between_forgets() {
        let mut circuit = Circuit::default();
        assert_eq!(circuit.fail(0, true), None);
        assert_eq!(circuit.fail(0, true), Some(State::Open));
        let mut circuit = Circuit::default();
        assert_eq!((circuit.fail(0, false), circuit.fail(0, false)), (None, None));
        assert_eq!(circuit.succeed(), None);
        assert_eq!((circuit.fail(0, false), circuit.fail(0, false)), (None, None));
        assert_eq!(circuit.fail(7, false), Some(State::Open));
        assert_eq!(circuit.until_us(), 7 + REST_US);
    }

    #[test]
    fn a_resting_provider_is_probed_once_and_rests_twice_as_long_after_it_failed() {
        let mut circuit = Circuit::default();
        circuit.fail(0, true);
        circuit.fail(0, true);
        assert!(!circuit.allows(REST_US - 1) && circuit.allows(REST_US));
        assert_eq!(circuit.call(), Some(State::Probing));
        assert!(!circuit.allows(u64::MAX));
        assert_eq!(circuit.fail(REST_US, false), Some(State::Open));
        assert_eq!(circuit.until_us(), 3 * REST_US);
        circuit.call();
        assert_eq!(circuit.succeed(), Some(State::Closed));
        assert!(circuit.allows(0));
    }

    #[test]
    fn rests_are_bounded_and_a_cancelled_probe_costs_nothing() {
        let mut circuit = Circuit::default();
        circuit.fail(0, true);
        circuit.fail(0, true);
        for _ in 0..70 {
            circuit.call();
            circuit.fail(0, true);
        }
        assert_eq!(circuit.until_us(), MAX_REST_US);
        circuit.call();
        assert_eq!(circuit.cancel(9), Some(State::Open));
        assert!(circuit.allows(9) && !circuit.allows(8));
        assert_eq!(circuit.cancel(9), None);
    }
}
