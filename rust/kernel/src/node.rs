//! The node host (RK-08): what a node declares, what it is given, and what happens to it.
//!
//! | state | by | becomes | effects |
//! |---|---|---|---|
//! | idle | `dispatch` | running | run |
//! | running | `finish` | idle | - |
//! | running | `cancel`, `barge_in`, preemptible | idle | the hook, preempt |
//! | running | `cancel`, `barge_in`, cooperative | stopping | the hook |
//! | running | its budget is used up | idle or stopping as above | both budget signals, the hook, the way out |
//! | running | `fail` | idle | the way out |
//! | stopping | `finish`, `fail` | idle | - |
//!
//! The way out is degrade if allowed, else fallback if allowed, else the turn ends with
//! `node_timeout_or_failure`. A node that failed within its budget says nothing about budgets.

pub mod flow;

use crate::budget::{Action, Budget, BudgetPolicy};
use crate::event::{EventScope, PayloadClass};
use crate::names::named_enum;
use crate::reason::Reason;
use crate::signal::Signal;

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

/// What the shell must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostEffect {
    /// Run the node with this context.
    Run(ExecutionContext),
    /// Call the node's hook.
    Call(Hook),
    /// Stop the node now.
    Preempt,
    /// Record and send this signal of RK-17.
    Emit(Signal, Reason),
    /// End the turn.
    EndTurn(Reason),
}

named_enum! {
    /// Where a node is.
    pub enum HostState {
        Idle => "idle", Running => "running", Stopping => "stopping",
    }
}

/// One node and what it is doing.
#[derive(Clone, Debug)]
pub struct NodeHost {
    declaration: NodeDeclaration,
    policy: BudgetPolicy,
    budget: Option<Budget>,
    state: HostState,
}

impl NodeHost {
    /// An idle node.
    ///
    /// # Errors
    /// Its declaration is wrong.
    pub fn new(declaration: NodeDeclaration, policy: BudgetPolicy) -> Result<Self, NodeError> {
        declaration.validate()?;
        Ok(Self { declaration, policy, budget: None, state: HostState::Idle })
    }

    /// What the node declared.
    #[must_use]
    pub const fn declaration(&self) -> &NodeDeclaration {
        &self.declaration
    }

    /// Where the node is.
    #[must_use]
    pub const fn state(&self) -> HostState {
        self.state
    }

    /// Runs the node; nothing happens while it runs already.
    ///
    /// # Errors
    /// A node of a turn needs the turn and its seed.
    pub fn dispatch(&mut self, now_us: u64, turn: Option<(u32, u64)>) -> Result<Vec<HostEffect>, NoTurn> {
        let context = ExecutionContext::of(self.declaration.scope, turn)?;
        if self.state != HostState::Idle {
            return Ok(Vec::new());
        }
        self.state = HostState::Running;
        self.budget = Some(Budget::start(self.policy, now_us));
        Ok(vec![HostEffect::Run(context)])
    }

    /// The node has ended by itself.
    pub fn finish(&mut self) {
        self.state = HostState::Idle;
        self.budget = None;
    }

    fn stop(&mut self, hook: Hook) -> Vec<HostEffect> {
        let mut effects = Vec::new();
        if self.declaration.hooks.contains(&hook) {
            effects.push(HostEffect::Call(hook));
        }
        self.budget = None;
        self.state = match self.declaration.responsiveness {
            Responsiveness::Preemptible => {
                effects.push(HostEffect::Preempt);
                HostState::Idle
            }
            Responsiveness::Cooperative => HostState::Stopping,
        };
        effects
    }

    /// The node's scope was cancelled.
    pub fn cancel(&mut self) -> Vec<HostEffect> {
        if self.state == HostState::Running {
            self.stop(Hook::OnCancel)
        } else {
            Vec::new()
        }
    }

    /// The caller interrupted; a node of the session listens on.
    pub fn barge_in(&mut self) -> Vec<HostEffect> {
        if self.state != HostState::Running {
            return Vec::new();
        }
        if self.declaration.scope == EventScope::Turn {
            return self.stop(Hook::OnBargeIn);
        }
        let hooked = self.declaration.hooks.contains(&Hook::OnBargeIn);
        hooked.then_some(HostEffect::Call(Hook::OnBargeIn)).into_iter().collect()
    }

    /// When the budget is to be looked at, microseconds.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        self.budget.and_then(|budget| budget.due_us())
    }

    /// Time passes.
    pub fn tick(&mut self, now_us: u64) -> Vec<HostEffect> {
        let Some(budget) = self.budget.as_mut() else { return Vec::new() };
        let (decision, told) = budget.observe(now_us);
        let mut effects = Vec::new();
        let thresholds = told
            .into_iter()
            .flatten()
            .filter(|(signal, _)| matches!(signal, Signal::BudgetWarning | Signal::BudgetExhausted));
        effects.extend(thresholds.map(|(signal, reason)| HostEffect::Emit(signal, reason)));
        if decision.exhausted {
            effects.extend(self.stop(Hook::OnBudgetExhausted));
            effects.push(way_out(decision.action));
        }
        effects
    }

    /// The node failed.
    pub fn fail(&mut self) -> Vec<HostEffect> {
        let was = std::mem::replace(&mut self.state, HostState::Idle);
        self.budget = None;
        if was == HostState::Running {
            vec![way_out(self.policy.way_out())]
        } else {
            Vec::new()
        }
    }
}

const fn way_out(action: Action) -> HostEffect {
    let reason = Reason::NodeTimeoutOrFailure;
    match action {
        Action::Degrade => HostEffect::Emit(Signal::Degrade, reason),
        Action::Fallback => HostEffect::Emit(Signal::Fallback, reason),
        Action::Continue | Action::Terminate => HostEffect::EndTurn(reason),
    }
}

#[cfg(test)]
mod tests;
