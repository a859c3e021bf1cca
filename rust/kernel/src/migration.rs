//! Moving a session to another placement, step by step (section 9.5 of the contracts).
//!
//! | from       | on           | to         |
//! |------------|--------------|------------|
//! | Settled    | `rotated`    | Rotated    |
//! | Rotated    | `started`    | Moving     |
//! | Moving     | `reattached` | Reattached |
//! | Moving     | `finished`   | Settled    |
//! | Reattached | `finished`   | Settled    |
//! | Settled    | `handed_off` | Settled    |
//!
//! Each migration has one epoch, higher than the one before it; a step of another epoch is refused. The
//! old placement drains at `started`; it takes no part in what follows and only records it. The new one
//! reattaches before it finishes.

use crate::names::named_enum;

named_enum! {
    /// Where a migration stands.
    pub enum State {
        Settled => "Settled", Rotated => "Rotated", Moving => "Moving", Reattached => "Reattached",
    }
}

named_enum! {
    /// A step of a migration.
    pub enum Step {
        Rotated => "rotated", Started => "started", Reattached => "reattached",
        Finished => "finished", HandedOff => "handed_off",
    }
}

/// The whole table.
pub const TRANSITIONS: [(State, Step, State); 6] = [
    (State::Settled, Step::Rotated, State::Rotated),
    (State::Rotated, Step::Started, State::Moving),
    (State::Moving, Step::Reattached, State::Reattached),
    (State::Moving, Step::Finished, State::Settled),
    (State::Reattached, Step::Finished, State::Settled),
    (State::Settled, Step::HandedOff, State::Settled),
];

/// The migration of one session.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    state: State,
    epoch: u64,
    handed_off: bool,
}

impl Default for Migration {
    fn default() -> Self {
        Self { state: State::Settled, epoch: 0, handed_off: true }
    }
}

impl Migration {
    /// The present state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes one step; false leaves everything as it was.
    pub fn step(&mut self, step: Step, epoch: u64) -> bool {
        let fits = match step {
            Step::Rotated => epoch > self.epoch,
            Step::HandedOff => epoch == self.epoch && !self.handed_off,
            Step::Started | Step::Reattached | Step::Finished => epoch == self.epoch,
        };
        let row = TRANSITIONS.iter().find(|row| row.0 == self.state && row.1 == step);
        let (true, Some(row)) = (fits, row) else { return false };
        self.state = row.2;
        self.epoch = epoch;
        match step {
            Step::Rotated | Step::HandedOff => self.handed_off = true,
            Step::Finished => self.handed_off = false,
            Step::Started | Step::Reattached => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_step_is_decided_by_the_table() {
        for state in State::ALL {
            for step in Step::ALL {
                let mut migration = Migration { state: *state, epoch: 3, handed_off: false };
                let row = TRANSITIONS.iter().find(|row| row.0 == *state && row.1 == *step);
                let epoch = if *step == Step::Rotated { 4 } else { 3 };
                assert_eq!(migration.step(*step, epoch), row.is_some());
                assert_eq!(migration.state(), row.map_or(*state, |row| row.2));
            }
        }
    }

    #[test]
    fn a_migration_has_one_epoch_and_one_handoff() {
        let mut migration = Migration::default();
        assert!(!migration.step(Step::HandedOff, 0), "nothing was moved yet");
        assert!(migration.step(Step::Rotated, 2));
        assert!(!migration.step(Step::Started, 3) && migration.step(Step::Started, 2));
        assert!(migration.step(Step::Finished, 2));
        assert!(migration.step(Step::HandedOff, 2) && !migration.step(Step::HandedOff, 2));
        assert!(!migration.step(Step::Rotated, 2) && migration.step(Step::Rotated, 3));
    }
}
