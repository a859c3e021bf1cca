//! Telling the nodes of the graph what becomes of them, and what they are given when they run.

use crate::effect::Effect;
use crate::event::EventScope;
use crate::node::{ExecutionContext, Fate, HostedNode, NoTurn, NodeError};
use crate::session::SessionKernel;

/// Most nodes of one session.
pub const MAX_NODES: usize = 64;

impl SessionKernel {
    /// Names the nodes of the graph, each after those that it takes content from; those beyond
    /// [`MAX_NODES`] are told nothing.
    ///
    /// What they are told follows from decisions and is none itself, so a replay needs no nodes.
    ///
    /// # Errors
    /// A declaration is wrong.
    pub fn host(&mut self, mut nodes: Vec<HostedNode>) -> Result<(), NodeError> {
        for node in &nodes {
            node.declaration.validate()?;
        }
        nodes.truncate(MAX_NODES);
        self.nodes = nodes;
        Ok(())
    }

    /// What a node is given for a turn, or for the session with turn 0.
    ///
    /// # Errors
    /// The turn is not the open one.
    pub fn execution_context(&self, turn: u32) -> Result<ExecutionContext, NoTurn> {
        let scope = if turn == 0 { EventScope::Session } else { EventScope::Turn };
        let open = self.turn.filter(|open| open.number == turn);
        ExecutionContext::of(scope, open.map(|open| (open.number, open.seed)))
    }

    /// Tells every node that it concerns, the last of the graph first: what is nearest to the caller's ear
    /// holds most that must not be heard.
    pub(super) fn tell_nodes(&mut self, turn: u32, fate: Fate) {
        for (index, hosted) in self.nodes.iter().enumerate().rev() {
            let bit = 1 << index;
            if self.nodes_ended & bit != 0 {
                continue;
            }
            if let (Some(told), Ok(node)) = (hosted.told(fate), u8::try_from(index)) {
                if turn != 0 && matches!(fate, Fate::NodeCancelled(_)) {
                    self.nodes_ended |= bit;
                }
                self.effects.push(Effect::TellNode { node, turn, told });
            }
        }
    }
}
