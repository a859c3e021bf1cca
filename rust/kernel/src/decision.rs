//! Admission and authority outcomes and the matrix of what is legal (section 3.2 of the contracts).

use crate::names::named_enum;
use crate::reason::Reason;

named_enum! {
    /// What was decided.
    pub enum Outcome {
        Admit => "admit", Reject => "reject", Defer => "defer", Shed => "shed",
        StaleEpochReject => "stale_epoch_reject", DeauthorizedDrain => "deauthorized_drain",
    }
}

named_enum! {
    /// When it was decided.
    pub enum Phase {
        PreTurn => "pre_turn", SchedulingPoint => "scheduling_point", ActiveTurn => "active_turn",
    }
}

named_enum! {
    /// What the decision covers.
    pub enum Scope {
        Tenant => "tenant", Session => "session", Turn => "turn", EdgeEnqueue => "edge_enqueue",
        EdgeDequeue => "edge_dequeue", NodeDispatch => "node_dispatch",
    }
}

named_enum! {
    /// Who decided.
    pub enum Decider {
        Rk24 => "RK-24", Rk25 => "RK-25", Cp05 => "CP-05",
    }
}

/// One decision; session, turn, epoch and times are those of its evidence record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub outcome: Outcome,
    /// When.
    pub phase: Phase,
    /// What it covers.
    pub scope: Scope,
    /// Who decided.
    pub decider: Decider,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// A pre-turn admission outcome of RK-25 for a candidate turn.
    #[must_use]
    pub const fn admission(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, phase: Phase::PreTurn, scope: Scope::Turn, decider: Decider::Rk25, reason }
    }

    /// An authority outcome of RK-24.
    #[must_use]
    pub const fn authority(outcome: Outcome, phase: Phase, scope: Scope, reason: Reason) -> Self {
        Self { outcome, phase, scope, decider: Decider::Rk24, reason }
    }

    /// Whether the matrix allows this decision, with or without a turn id.
    ///
    /// Stricter than the schema in one point: admit, reject and defer have no meaning inside a turn
    /// and are refused there.
    #[must_use]
    pub const fn legal(&self, has_turn_id: bool) -> bool {
        let turn_known =
            has_turn_id || !matches!(self.scope, Scope::Turn) && !matches!(self.phase, Phase::ActiveTurn);
        let point = matches!(self.scope, Scope::EdgeEnqueue | Scope::EdgeDequeue | Scope::NodeDispatch);
        let place = match (self.outcome, self.decider, self.phase) {
            (Outcome::Admit | Outcome::Reject | Outcome::Defer, Decider::Rk25, Phase::PreTurn) => {
                matches!(self.scope, Scope::Tenant | Scope::Session | Scope::Turn)
            }
            (Outcome::Admit | Outcome::Reject | Outcome::Defer, Decider::Cp05, Phase::PreTurn) => {
                matches!(self.scope, Scope::Tenant | Scope::Session)
            }
            (
                Outcome::Admit | Outcome::Reject | Outcome::Defer | Outcome::Shed,
                Decider::Rk25,
                Phase::SchedulingPoint,
            )
            | (Outcome::StaleEpochReject, Decider::Rk24, Phase::SchedulingPoint) => point,
            (Outcome::StaleEpochReject | Outcome::DeauthorizedDrain, Decider::Rk24, Phase::PreTurn) => {
                matches!(self.scope, Scope::Session | Scope::Turn)
            }
            (Outcome::DeauthorizedDrain, Decider::Rk24, Phase::ActiveTurn) => {
                matches!(self.scope, Scope::Turn)
            }
            _ => false,
        };
        place && turn_known
    }
}

/// One legal cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What is decided.
    pub outcome: Outcome,
    /// Who decides.
    pub decider: Decider,
    /// When.
    pub phase: Phase,
    /// What it covers.
    pub scope: Scope,
    /// Whether the turn must be named.
    pub needs_turn: bool,
    /// Whether the authority epoch must be carried.
    pub needs_epoch: bool,
}

/// The legal cells of the matrix in the order of the vocabularies.
#[must_use]
pub fn matrix() -> Vec<Cell> {
    let mut cells = Vec::new();
    for &outcome in Outcome::ALL {
        for &decider in Decider::ALL {
            for &phase in Phase::ALL {
                for &scope in Scope::ALL {
                    let decision = Decision { outcome, phase, scope, decider, reason: Reason::Cancelled };
                    if decision.legal(true) {
                        let needs_turn = !decision.legal(false);
                        let needs_epoch =
                            matches!(outcome, Outcome::StaleEpochReject | Outcome::DeauthorizedDrain);
                        cells.push(Cell { outcome, decider, phase, scope, needs_turn, needs_epoch });
                    }
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(outcome: Outcome, decider: Decider, phase: Phase, scope: Scope) -> Decision {
        Decision { outcome, phase, scope, decider, reason: Reason::Cancelled }
    }

    #[test]
    fn ct_005_exactly_the_cells_of_the_matrix_are_legal() {
        let mut with_turn = 0;
        let mut without_turn = 0;
        for outcome in Outcome::ALL {
            for decider in Decider::ALL {
                for phase in Phase::ALL {
                    for scope in Scope::ALL {
                        let decision = decision(*outcome, *decider, *phase, *scope);
                        with_turn += u32::from(decision.legal(true));
                        without_turn += u32::from(decision.legal(false));
                    }
                }
            }
        }
        // Three admission outcomes x (3 + 3 + 2), shed 3, stale 2 + 3, drain 2 + 1.
        assert_eq!(with_turn, 24 + 3 + 5 + 3);
        // Without a turn id every cell of turn scope falls away.
        assert_eq!(without_turn, 24 - 3 + 3 + 5 - 1 + 3 - 2);
    }

    #[test]
    fn the_two_invalid_fixtures_of_the_contract_are_refused() {
        let admit = decision(Outcome::Admit, Decider::Rk24, Phase::PreTurn, Scope::Session);
        let shed = decision(Outcome::Shed, Decider::Rk25, Phase::PreTurn, Scope::Session);
        assert!(!admit.legal(true));
        assert!(!shed.legal(true));
    }
}
