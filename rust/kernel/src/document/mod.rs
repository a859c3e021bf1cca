//! The contract documents: one JSON document of a known kind is accepted or refused with its first fault.
//!
//! A document is always validated against its own kind, never against the union of all (W-02). The
//! order of the checks is fixed: size, syntax, nesting, repeated keys, numbers, then fields from the
//! outside in, then the rules that tie fields together.

mod decision;
pub mod envelope;
pub mod plan;
mod read;
pub mod rules;
mod shape;
pub mod stream;
mod transition;
pub mod version;

pub use rules::Rule;

use crate::names::named_enum;
use read::Node;

named_enum! {
    /// The kinds of document that the contracts know.
    pub enum Kind {
        EventRecord => "event_record", ControlSignal => "control_signal",
        TurnTransition => "turn_transition", ResolvedTurnPlan => "resolved_turn_plan",
        DecisionOutcome => "decision_outcome", ArtifactBundle => "artifact_bundle",
    }
}

/// Most bytes of an envelope, a transition or a decision.
pub const ENVELOPE_BYTES: usize = 64 * 1024;
/// Most bytes of a plan.
pub const PLAN_BYTES: usize = 1024 * 1024;
/// Most bytes of a bundle: a plan and its four companions.
pub const BUNDLE_BYTES: usize = PLAN_BYTES + 4 * ENVELOPE_BYTES;

impl Kind {
    /// Most bytes that a document of this kind may have.
    #[must_use]
    pub const fn limit_bytes(self) -> usize {
        match self {
            Self::ResolvedTurnPlan => PLAN_BYTES,
            Self::ArtifactBundle => BUNDLE_BYTES,
            Self::EventRecord | Self::ControlSignal | Self::TurnTransition | Self::DecisionOutcome => {
                ENVELOPE_BYTES
            }
        }
    }
}

/// The first rule that a document breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which rule.
    pub rule: Rule,
    /// Path of the field at fault, such as `budgets.turn_budget_ms`; empty for the whole document.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(rule: Rule, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule, field: field.into(), message: message.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} at {:?}: {}", self.rule.row().id, self.field, self.message)
    }
}

impl std::error::Error for Fault {}

type Checked = Result<(), Fault>;

/// Validates one document against its own kind.
///
/// # Errors
/// The first fault.
pub fn validate(kind: Kind, document: &[u8]) -> Checked {
    let node = read::read(document, kind.limit_bytes())?;
    check(kind, &node, "")
}

/// The structure of a kind as a JSON Schema fragment, without the rules that tie fields together.
#[must_use]
pub fn structure(kind: Kind) -> serde_json::Value {
    match kind {
        Kind::EventRecord => envelope::EVENT.schema(),
        Kind::ControlSignal => envelope::CONTROL.schema(),
        Kind::TurnTransition => transition::TRANSITION.schema(),
        Kind::ResolvedTurnPlan => plan::PLAN.schema(),
        Kind::DecisionOutcome => decision::DECISION.schema(),
        Kind::ArtifactBundle => BUNDLE.schema(),
    }
}

const BUNDLE: shape::Shape = shape::Shape::Record(&[
    shape::required("event", shape::Shape::Document),
    shape::required("control_signal", shape::Shape::Document),
    shape::required("turn_transition", shape::Shape::Document),
    shape::required("resolved_turn_plan", shape::Shape::Document),
    shape::required("decision_outcome", shape::Shape::Document),
]);

fn check(kind: Kind, node: &Node, path: &str) -> Checked {
    match kind {
        Kind::EventRecord => envelope::check_event(node, path),
        Kind::ControlSignal => envelope::check_control(node, path),
        Kind::TurnTransition => transition::check(node, path),
        Kind::ResolvedTurnPlan => plan::check(node, path),
        Kind::DecisionOutcome => decision::check(node, path),
        Kind::ArtifactBundle => check_bundle(node, path),
    }
}

/// Every part of a bundle is held to its own kind; `event` may be any envelope.
fn check_bundle(node: &Node, path: &str) -> Checked {
    BUNDLE.check(node, path)?;
    let control = node.get("event").is_some_and(envelope::is_control);
    let event = if control { Kind::ControlSignal } else { Kind::EventRecord };
    for (name, kind) in [
        ("event", event),
        ("control_signal", Kind::ControlSignal),
        ("turn_transition", Kind::TurnTransition),
        ("resolved_turn_plan", Kind::ResolvedTurnPlan),
        ("decision_outcome", Kind::DecisionOutcome),
    ] {
        if let Some(part) = node.get(name) {
            check(kind, part, &read::join(path, name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
