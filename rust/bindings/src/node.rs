//! The flow of payload classes through a graph, for Python.

use std::collections::BTreeSet;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rspp_kernel::event::{EventScope, PayloadClass};
use rspp_kernel::input::Modality;
use rspp_kernel::node::flow::{Classes, Flow};
use rspp_kernel::node::{Hook, HostedNode, NodeDeclaration, Responsiveness};

use crate::edge::choose;

/// Id, scope, responsiveness, hooks, classes taken in, transforms.
type Declared = (String, String, String, Vec<String>, Vec<String>, Vec<(String, String)>);
/// Given and made classes of each node, and the crossings: node, class, whether it may go there.
type Found = (Vec<(Vec<&'static str>, Vec<&'static str>)>, Vec<(usize, &'static str, bool)>);

fn class(name: &str) -> PyResult<PayloadClass> {
    choose("payload_class", name, PayloadClass::NAMES, PayloadClass::ALL)
}

fn declaration(declared: Declared) -> PyResult<NodeDeclaration> {
    let (node_id, scope, responsiveness, hooks, inputs, transforms) = declared;
    let hook = |name: &String| choose("hooks", name, Hook::NAMES, Hook::ALL);
    Ok(NodeDeclaration {
        node_id,
        scope: choose("scope", &scope, EventScope::NAMES, EventScope::ALL)?,
        responsiveness: choose("cancel", &responsiveness, Responsiveness::NAMES, Responsiveness::ALL)?,
        buffers: !hooks.is_empty(),
        hooks: hooks.iter().map(hook).collect::<PyResult<_>>()?,
        inputs: inputs.iter().map(|name| class(name)).collect::<PyResult<_>>()?,
        transforms: transforms
            .iter()
            .map(|(from, to)| Ok((class(from)?, class(to)?)))
            .collect::<PyResult<_>>()?,
    })
}

/// Id, scope, cancel responsiveness, hooks, and what the providers of a node do.
pub(crate) type Hosted = (String, String, String, Vec<String>, Option<String>);

/// A node of a session's graph; what classes it takes was checked with its pipeline.
pub(crate) fn hosted(node: Hosted) -> PyResult<HostedNode> {
    let (node_id, scope, responsiveness, hooks, modality) = node;
    let declaration = declaration((node_id, scope, responsiveness, hooks, Vec::new(), Vec::new()))?;
    let modality = modality.map(|name| choose("modality", &name, Modality::NAMES, Modality::ALL));
    Ok(HostedNode { declaration, modality: modality.transpose()? })
}

fn names(classes: &BTreeSet<PayloadClass>) -> Vec<&'static str> {
    classes.iter().map(|class| class.name()).collect()
}

/// Say which payload classes reach and leave each node, and what would cross the border.
#[pyfunction]
#[pyo3(signature = (nodes, edges, *, sources, external, let_out))]
#[allow(clippy::needless_pass_by_value)] // taken from Python
fn data_flow(
    nodes: Vec<Declared>,
    edges: Vec<(usize, usize)>,
    sources: Vec<(usize, String)>,
    external: BTreeSet<usize>,
    let_out: Vec<String>,
) -> PyResult<Found> {
    let flow = Flow {
        nodes: nodes.into_iter().map(declaration).collect::<PyResult<_>>()?,
        edges,
        sources: sources.iter().map(|(at, name)| Ok((*at, class(name)?))).collect::<PyResult<_>>()?,
    };
    let let_out = let_out.iter().map(|name| class(name)).collect::<PyResult<_>>()?;
    let refused = |error| PyValueError::new_err(format!("{error}"));
    let classes = flow.classes().map_err(refused)?;
    let crossings = flow.crossings(&external, &let_out).map_err(refused)?;
    let both = |found: &Classes| (names(&found.given), names(&found.made));
    let crossings = crossings.iter().map(|it| (it.node, it.class.name(), it.allowed));
    Ok((classes.iter().map(both).collect(), crossings.collect()))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(data_flow, module)?)
}
