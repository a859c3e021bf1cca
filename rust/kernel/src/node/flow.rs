//! Which payload classes reach which node, and what may cross the border to an external one (RK-08, RK-09).
//!
//! Content has its class from where it comes in. A node keeps the class of what it is given unless it
//! declares a transform, so whatever is made of a caller's words is as sensitive as they are.
//!
//! | node | given a class | outcome |
//! |---|---|---|
//! | any | that it does not take in | the declaration is refused |
//! | local | any other | passes |
//! | external | that the border lets out | passes, and is told |
//! | external | any other | refused, and is told |

use std::collections::BTreeSet;

use crate::event::PayloadClass;
use crate::node::{NodeDeclaration, NodeError};

/// One crossing of the border: a class of content and the node outside that would be given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Index of the node.
    pub node: usize,
    /// Class of the content.
    pub class: PayloadClass,
    /// Whether it may go there.
    pub allowed: bool,
}

/// What each node is given and what it makes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Classes that come in.
    pub given: BTreeSet<PayloadClass>,
    /// Classes that go out.
    pub made: BTreeSet<PayloadClass>,
}

/// A graph as far as content flows in it.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Its nodes, each after those that it takes content from.
    pub nodes: Vec<NodeDeclaration>,
    /// Its edges that carry content, by the indices of their nodes.
    pub edges: Vec<(usize, usize)>,
    /// Content that comes in from outside: at which node, of which class.
    pub sources: Vec<(usize, PayloadClass)>,
}

impl Flow {
    /// What reaches each node.
    ///
    /// # Errors
    /// A declaration is wrong, or a node is given a class that it does not take in.
    pub fn classes(&self) -> Result<Vec<Classes>, NodeError> {
        let mut found: Vec<Classes> = vec![Classes::default(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            node.validate()?;
            let tagged = self.sources.iter().filter(|(at, _)| *at == index).map(|(_, class)| *class);
            let mut given: BTreeSet<PayloadClass> = tagged.collect();
            for (from, _) in self.edges.iter().filter(|(from, to)| *to == index && *from < index) {
                given.extend(&found[*from].made);
            }
            let mut made = BTreeSet::new();
            for class in &given {
                let transforms = node.transforms.iter().filter(|(from, _)| from == class);
                let mut outputs: Vec<PayloadClass> = transforms.map(|(_, to)| *to).collect();
                if outputs.is_empty() {
                    outputs.push(*class);
                }
                for output in outputs {
                    node.check_output(*class, output)?;
                    made.insert(output);
                }
            }
            found[index] = Classes { given, made };
        }
        Ok(found)
    }

    /// What would cross the border to the `external` nodes, in order.
    ///
    /// # Errors
    /// As [`Flow::classes`].
    pub fn crossings(
        &self,
        external: &BTreeSet<usize>,
        let_out: &BTreeSet<PayloadClass>,
    ) -> Result<Vec<Crossing>, NodeError> {
        let classes = self.classes()?;
        let outside = classes.iter().enumerate().filter(|(node, _)| external.contains(node));
        let crossing = |node, class| Crossing { node, class, allowed: let_out.contains(&class) };
        Ok(outside
            .flat_map(|(node, classes)| classes.given.iter().map(move |class| crossing(node, *class)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventScope;
    use crate::event::PayloadClass::{AudioRaw, Phi, TextRaw};
    use crate::node::Responsiveness;

    fn node(id: &str, transforms: &[(PayloadClass, PayloadClass)]) -> NodeDeclaration {
        NodeDeclaration {
            node_id: String::from(id),
            scope: EventScope::Session,
            responsiveness: Responsiveness::Cooperative,
            buffers: false,
            hooks: Vec::new(),
            inputs: vec![AudioRaw, TextRaw, Phi],
            transforms: transforms.to_vec(),
        }
    }

    fn call(source: PayloadClass) -> Flow {
        Flow {
            nodes: vec![
                node("stt", &[(AudioRaw, TextRaw)]),
                node("llm", &[]),
                node("notice", &[(Phi, TextRaw)]),
                node("tts", &[(TextRaw, AudioRaw)]),
            ],
            edges: vec![(0, 1), (0, 2), (1, 3), (2, 3)],
            sources: vec![(0, source)],
        }
    }

    fn made(flow: &Flow) -> Vec<Vec<PayloadClass>> {
        let classes = flow.classes().expect("sound");
        classes.iter().map(|classes| classes.made.iter().copied().collect()).collect()
    }

    #[test]
    fn a_class_is_kept_unless_a_transform_is_declared() {
        assert_eq!(made(&call(AudioRaw)), [[TextRaw], [TextRaw], [TextRaw], [AudioRaw]]);
        assert_eq!(made(&call(Phi)), [vec![Phi], vec![Phi], vec![TextRaw], vec![Phi, AudioRaw]]);
    }

    #[test]
    fn only_what_the_border_lets_out_may_go_to_an_external_node() {
        let external = BTreeSet::from([1, 3]);
        let crossings = |flow: &Flow, out: &[PayloadClass]| {
            flow.crossings(&external, &out.iter().copied().collect()).expect("sound")
        };
        let at = |node, class, allowed| Crossing { node, class, allowed };
        assert_eq!(crossings(&call(AudioRaw), &[TextRaw]), [at(1, TextRaw, true), at(3, TextRaw, true)]);
        let phi = [at(1, Phi, false), at(3, Phi, false), at(3, TextRaw, true)];
        assert_eq!(crossings(&call(Phi), &[TextRaw, AudioRaw]), phi);
        assert!(crossings(&call(Phi), &[TextRaw, Phi]).iter().all(|crossing| crossing.allowed));
    }

    #[test]
    fn a_node_is_given_nothing_that_it_does_not_take_in() {
        let error = call(PayloadClass::Pii).classes().expect_err("PII is not taken in");
        assert_eq!((error.node_id.as_str(), error.field), ("stt", "inputs"));
        let mut flow = call(AudioRaw);
        flow.nodes[3].buffers = true;
        assert_eq!(flow.classes().expect_err("no hooks").field, "hooks");
    }
}
