//! The record of one transition of a turn (section 4.2).

use super::read::{join, Node};
use super::shape::{holds, required, Shape};
use super::{Checked, Rule};
use crate::turn::{State, Trigger, TRANSITIONS};

pub(crate) const TRANSITION: Shape = Shape::Record(&[
    required("from_state", Shape::Word(State::NAMES)),
    required("trigger", Shape::Word(Trigger::NAMES)),
    required("to_state", Shape::Word(State::NAMES)),
    required("deterministic", Shape::Flag),
]);

pub(crate) fn check(node: &Node, path: &str) -> Checked {
    TRANSITION.check(node, path)?;
    let (from, to) = (node.text("from_state"), node.text("to_state"));
    let mut rows = TRANSITIONS.iter().filter(|row| from == Some(row.from.name())).peekable();
    holds(rows.peek().is_some(), Rule::TransitionFinal, &join(path, "from_state"), "nothing leaves Closed")?;
    let row = rows.find(|row| node.text("trigger") == Some(row.trigger.name()));
    holds(row.is_some(), Rule::TransitionTrigger, &join(path, "trigger"), "does not leave this state")?;
    let target = row.is_some_and(|row| to == Some(row.to.name()));
    holds(target, Rule::TransitionTarget, &join(path, "to_state"), "is not where this trigger leads")?;
    let sure = node.get("deterministic") == Some(&Node::Flag(true));
    holds(sure, Rule::TransitionDeterministic, &join(path, "deterministic"), "must be true")
}
