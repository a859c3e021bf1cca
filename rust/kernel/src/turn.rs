//! The turn machine: nine legal transitions, nothing else.
//!
//! | from     | trigger              | to       |
//! |----------|----------------------|----------|
//! | Idle     | `turn_open_proposed` | Opening  |
//! | Opening  | `turn_open`          | Active   |
//! | Opening  | `reject`             | Idle     |
//! | Opening  | `defer`              | Idle     |
//! | Opening  | `stale_epoch_reject` | Idle     |
//! | Opening  | `deauthorized_drain` | Idle     |
//! | Active   | `commit`             | Terminal |
//! | Active   | `abort`              | Terminal |
//! | Terminal | `close`              | Closed   |
//!
//! Every turn has a machine of its own; Closed is final for it.

use crate::names::named_enum;

named_enum! {
    /// State of one turn.
    pub enum State {
        Idle => "Idle", Opening => "Opening", Active => "Active", Terminal => "Terminal",
        Closed => "Closed",
    }
}

named_enum! {
    /// What moves a turn.
    pub enum Trigger {
        TurnOpenProposed => "turn_open_proposed", TurnOpen => "turn_open", Reject => "reject",
        Defer => "defer", StaleEpochReject => "stale_epoch_reject",
        DeauthorizedDrain => "deauthorized_drain", Commit => "commit", Abort => "abort",
        Close => "close",
    }
}

/// One legal transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State before.
    pub from: State,
    /// What moves the turn.
    pub trigger: Trigger,
    /// State after.
    pub to: State,
}

const fn arrow(from: State, trigger: Trigger, to: State) -> Transition {
    Transition { from, trigger, to }
}

/// The whole table.
pub const TRANSITIONS: [Transition; 9] = [
    arrow(State::Idle, Trigger::TurnOpenProposed, State::Opening),
    arrow(State::Opening, Trigger::TurnOpen, State::Active),
    arrow(State::Opening, Trigger::Reject, State::Idle),
    arrow(State::Opening, Trigger::Defer, State::Idle),
    arrow(State::Opening, Trigger::StaleEpochReject, State::Idle),
    arrow(State::Opening, Trigger::DeauthorizedDrain, State::Idle),
    arrow(State::Active, Trigger::Commit, State::Terminal),
    arrow(State::Active, Trigger::Abort, State::Terminal),
    arrow(State::Terminal, Trigger::Close, State::Closed),
];

/// The machine of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    state: State,
}

impl Machine {
    /// A machine at Idle.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Idle }
    }

    /// The present state.
    #[must_use]
    pub const fn state(self) -> State {
        self.state
    }

    /// Moves along the table; an illegal trigger changes nothing and returns none.
    pub fn fire(&mut self, trigger: Trigger) -> Option<Transition> {
        let transition =
            TRANSITIONS.iter().copied().find(|row| row.from == self.state && row.trigger == trigger)?;
        self.state = transition.to;
        Some(transition)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ct_003_every_state_and_trigger_is_decided_by_the_table() {
        let mut legal = 0;
        for state in State::ALL {
            for trigger in Trigger::ALL {
                let mut machine = Machine { state: *state };
                let fired = machine.fire(*trigger);
                let row = TRANSITIONS.iter().find(|row| row.from == *state && row.trigger == *trigger);
                assert_eq!(fired.as_ref(), row);
                assert_eq!(machine.state(), row.map_or(*state, |row| row.to));
                legal += usize::from(fired.is_some());
            }
        }
        assert_eq!(legal, 9);
    }

    #[test]
    fn ct_003_nothing_leaves_closed_and_active_cannot_skip_terminal() {
        for trigger in Trigger::ALL {
            assert_eq!(Machine { state: State::Closed }.fire(*trigger), None);
        }
        assert_eq!(Machine { state: State::Active }.fire(Trigger::Close), None);
        assert_eq!(Machine { state: State::Active }.fire(Trigger::DeauthorizedDrain), None);
        assert_eq!(Machine::default().fire(Trigger::TurnOpen), None);
    }
}
