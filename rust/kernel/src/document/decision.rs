//! The record of one admission or authority outcome (section 3).

use super::read::{join, Node};
use super::shape::{holds, optional, required, Shape};
use super::{Checked, Rule};
use crate::decision::{matrix, Cell, Decider, Outcome, Phase, Scope};
use crate::reason::Reason;

pub(crate) const DECISION: Shape = Shape::Record(&[
    required("outcome_kind", Shape::Word(Outcome::NAMES)),
    required("phase", Shape::Word(Phase::NAMES)),
    required("scope", Shape::Word(Scope::NAMES)),
    required("session_id", Shape::Text),
    optional("turn_id", Shape::Text),
    required("event_id", Shape::Text),
    required("runtime_timestamp_ms", Shape::Integer(0)),
    required("wall_clock_timestamp_ms", Shape::Integer(0)),
    optional("timestamp_ms", Shape::Integer(0)),
    required("emitted_by", Shape::Word(Decider::NAMES)),
    optional("authority_epoch", Shape::Integer(0)),
    required("reason", Shape::Text),
]);

/// Outcome, module, phase, scope: the first that leaves no legal cell is at fault.
pub(crate) fn check(node: &Node, path: &str) -> Checked {
    DECISION.check(node, path)?;
    let mut cells: Vec<Cell> = matrix();
    let is = |name: &str, word: &str| node.text(name) == Some(word);
    cells.retain(|cell| is("outcome_kind", cell.outcome.name()));
    for (field, rule) in [
        ("emitted_by", Rule::DecisionEmitter),
        ("phase", Rule::DecisionPhase),
        ("scope", Rule::DecisionScope),
    ] {
        cells.retain(|cell| match rule {
            Rule::DecisionEmitter => is(field, cell.decider.name()),
            Rule::DecisionPhase => is(field, cell.phase.name()),
            _ => is(field, cell.scope.name()),
        });
        holds(!cells.is_empty(), rule, &join(path, field), "the matrix of outcomes has no such cell")?;
    }
    let (turn, epoch) = (node.get("turn_id").is_some(), node.get("authority_epoch").is_some());
    let needs_turn = cells.iter().all(|cell| cell.needs_turn);
    let needs_epoch = cells.iter().all(|cell| cell.needs_epoch);
    holds(turn || !needs_turn, Rule::DecisionTurnId, &join(path, "turn_id"), "names no turn")?;
    let field = join(path, "authority_epoch");
    holds(epoch || !needs_epoch, Rule::DecisionEpoch, &field, "an authority outcome carries the epoch")?;
    let vocabulary =
        node.text("outcome_kind").and_then(Outcome::parse).map(|outcome| outcome.signal().reasons());
    let reason = node.text("reason").and_then(Reason::parse);
    let known = vocabulary.zip(reason).is_some_and(|(reasons, reason)| reasons.contains(&reason));
    holds(known, Rule::DecisionReason, &join(path, "reason"), "is no reason of this outcome")
}
