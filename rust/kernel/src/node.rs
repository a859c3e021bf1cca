//! Nodes (RK-08): what one declares, what it is given, and what it is told of its fate.
//!
//! A node of the session runs as long as the session, a node of the turn as long as the turn is open.
//!
//! | fate | nodes of the turn | nodes of the session |
//! |---|---|---|
//! | the caller interrupts | `on_barge_in`, end | `on_barge_in`, go on |
//! | the turn's budget is used up | `on_budget_exhausted`, end | - |
//! | a node's budget is used up and the plan has no way out | that one `on_budget_exhausted`, others `on_cancel`, end | - |
//! | the turn ends early otherwise | `on_cancel`, end | - |
//! | a node's budget is used up and there is a way out | that one `on_budget_exhausted`, goes on | the same |
//! | a node, or one of its invocations, is cancelled | that one `on_cancel`, ends | the same |
//! | the call or the right to hold it is gone | as an early end of the turn | `on_cancel`, end |
//!
//! A preemptible node that ends is stopped at once. A cooperative one looks for itself: the fence drops what
//! it still gives. Only declared hooks are called. Dispatch, budgets and ways out are those of
//! [`crate::invocation`].

pub mod flow;

use crate::budget::Action;
use crate::event::{EventScope, PayloadClass};
use crate::input::Modality;
use crate::names::named_enum;

named_enum! {
    /// How a node follows a cancel.
    pub enum Responsiveness {
        Preemptible => "preemptible", Cooperative => "cooperative",
    }
}

named_enum! {
    /// What a node can be told.
    pub enum Hook {
        OnCancel => "on_cancel", OnBargeIn => "on_barge_in", OnBudgetExhausted => "on_budget_exhausted",
    }
}

/// What a node declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDeclaration {
    /// Its id.
    pub node_id: String,
    /// Whether it lives with the session or with a turn.
    pub scope: EventScope,
    /// How it follows a cancel.
    pub responsiveness: Responsiveness,
    /// Whether it buffers, or generates long streams.
    pub buffers: bool,
    /// What it can be told.
    pub hooks: Vec<Hook>,
    /// Classes it takes in.
    pub inputs: Vec<PayloadClass>,
    /// Pairs of classes: it makes the second out of the first.
    pub transforms: Vec<(PayloadClass, PayloadClass)>,
}

/// A declaration or an output that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeError {
    /// The node.
    pub node_id: String,
    /// The field of its declaration.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for NodeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "node {:?}: {} {}", self.node_id, self.field, self.message)
    }
}

impl std::error::Error for NodeError {}

impl NodeDeclaration {
    fn error(&self, field: &'static str, message: String) -> NodeError {
        NodeError { node_id: self.node_id.clone(), field, message }
    }

    /// Checks the declaration.
    ///
    /// # Errors
    /// The id is empty, a hook is missing that the node needs, or a transform starts from a class that
    /// the node does not take in.
    pub fn validate(&self) -> Result<(), NodeError> {
        if self.node_id.is_empty() {
            return Err(self.error("node_id", String::from("is empty: give the node a name")));
        }
        if let Some(missing) = Hook::ALL.iter().find(|hook| self.buffers && !self.hooks.contains(hook)) {
            let message = format!("lack {}: a node that buffers needs all three", missing.name());
            return Err(self.error("hooks", message));
        }
        if let Some((from, _)) = self.transforms.iter().find(|(from, _)| !self.inputs.contains(from)) {
            let message = format!("start from {}, which the node does not take in", from.name());
            return Err(self.error("transforms", message));
        }
        Ok(())
    }

    /// Checks that an output of class `to` may be made of an input of class `from`.
    ///
    /// # Errors
    /// The input is not taken in, or the class changes without a declared transform.
    pub fn check_output(&self, from: PayloadClass, to: PayloadClass) -> Result<(), NodeError> {
        if !self.inputs.contains(&from) {
            return Err(self.error("inputs", format!("lack {}: declare it", from.name())));
        }
        if from == to || self.transforms.contains(&(from, to)) {
            return Ok(());
        }
        let message = format!("lack {} to {}: a change of class is declared", from.name(), to.name());
        Err(self.error("transforms", message))
    }
}

/// What a node is given when it runs (section 6.5 of the contracts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutionContext {
    /// The turn; none for a node of the session.
    pub turn: Option<u32>,
    /// Whether state of the turn is open to it.
    pub turn_state: bool,
    /// Seed of the turn; none where no repetition is promised.
    pub seed: Option<u64>,
}

/// A node of the turn was dispatched without one, or without its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTurn;

impl ExecutionContext {
    /// The context of a node of that scope.
    ///
    /// # Errors
    /// A node of a turn needs the turn and its seed.
    pub const fn of(scope: EventScope, turn: Option<(u32, u64)>) -> Result<Self, NoTurn> {
        match (scope, turn) {
            (EventScope::Session, _) => Ok(Self { turn: None, turn_state: false, seed: None }),
            (EventScope::Turn, Some((turn, seed))) => {
                Ok(Self { turn: Some(turn), turn_state: true, seed: Some(seed) })
            }
            (EventScope::Turn, None) => Err(NoTurn),
        }
    }
}

/// What becomes of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The caller interrupted the turn.
    BargeIn,
    /// The turn ends early, for any reason but the others.
    Cancelled,
    /// The turn's own budget is used up, and the turn ends.
    TurnBudget,
    /// The budget of the node with these providers is used up, and the turn ends.
    NodeBudget(Modality),
    /// The budget of the node with these providers is used up; the node goes on, or another way is taken.
    WayOut(Modality, Action),
    /// What the node with these providers does is cancelled.
    NodeCancelled(Modality),
    /// The call, or the right to hold it, is gone.
    Over,
}

/// What a node must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The hook to call; none where the node did not declare it.
    pub hook: Option<Hook>,
    /// What follows for the node: it goes on, is helped out, or ends.
    pub outcome: Action,
    /// Whether the node is stopped at once. A cooperative one looks for itself, and what it still gives is
    /// dropped.
    pub preempt: bool,
}

/// A node of a session's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedNode {
    /// What it declares.
    pub declaration: NodeDeclaration,
    /// What its providers do, if it calls any.
    pub modality: Option<Modality>,
}

impl HostedNode {
    /// What this node is told of its fate; none when it does not concern the node.
    #[must_use]
    pub fn told(&self, fate: Fate) -> Option<Told> {
        let of_turn = self.declaration.scope == EventScope::Turn;
        let own = |modality| self.modality == Some(modality);
        let (ends, goes_on) = (Action::Terminate, Action::Continue);
        let (hook, outcome) = match fate {
            Fate::BargeIn => (Hook::OnBargeIn, if of_turn { ends } else { goes_on }),
            Fate::TurnBudget if of_turn => (Hook::OnBudgetExhausted, ends),
            Fate::NodeBudget(modality) if of_turn && own(modality) => (Hook::OnBudgetExhausted, ends),
            Fate::Cancelled | Fate::NodeBudget(_) if of_turn => (Hook::OnCancel, ends),
            Fate::WayOut(modality, action) if own(modality) => (Hook::OnBudgetExhausted, action),
            Fate::NodeCancelled(modality) if own(modality) => (Hook::OnCancel, ends),
            Fate::Over if !of_turn => (Hook::OnCancel, ends),
            _ => return None,
        };
        let hook = self.declaration.hooks.contains(&hook).then_some(hook);
        let preempt = outcome == ends && self.declaration.responsiveness == Responsiveness::Preemptible;
        (hook.is_some() || preempt).then_some(Told { hook, outcome, preempt })
    }
}

#[cfg(test)]
mod tests;
