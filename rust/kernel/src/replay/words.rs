//! The words of a recording and of its replay, brought into one numbering; and records in a few words.

use crate::bundle::TurnStart;
use crate::evidence::record::{Body, Call, Record};
use crate::reason::Label;

/// The number of the provenance that a record refers to.
pub(super) const fn told(body: &Body) -> Option<u32> {
    match body {
        Body::Call(Call::TurnStart(said)) => said.provenance,
        _ => None,
    }
}

/// The same body with other numbers for words from outside and for its provenance.
pub(super) fn relabel(body: Body, mut number: impl FnMut(Label) -> Label, provenance: Option<u32>) -> Body {
    let mut of = |label: Label| if matches!(label, Label::Foreign(_)) { number(label) } else { label };
    match body {
        Body::Signal { signal, emitter, scope, reason, reach, invocation } => {
            Body::Signal { signal, emitter, scope, reason: of(reason), reach, invocation }
        }
        Body::Input(event) => Body::Input(event.map(of)),
        Body::Attempt(mut attempt) => {
            attempt.provider = of(attempt.provider);
            attempt.reason = of(attempt.reason);
            attempt.next_provider = of(attempt.next_provider);
            Body::Attempt(attempt)
        }
        Body::Edge(mut edge) => {
            edge.name = of(edge.name);
            Body::Edge(edge)
        }
        Body::Call(Call::Admission(place)) => Body::Call(Call::Admission(place.map(of))),
        Body::Call(Call::TurnStart(said)) => {
            Body::Call(Call::TurnStart(TurnStart { provenance, ..said.map(of) }))
        }
        Body::Decision(_)
        | Body::Transition(_)
        | Body::Marker { .. }
        | Body::Plan(_)
        | Body::AgentState(_)
        | Body::Frame { .. }
        | Body::Call(_)
        | Body::Provider { .. } => body,
    }
}

/// What a record is, for a message.
#[must_use]
pub(super) fn describe(record: &Record) -> String {
    match record.body {
        Body::Signal { signal, .. } => format!("signal {}", signal.name()),
        Body::Decision(decision) => format!("decision {}", decision.outcome.name()),
        Body::Transition(transition) => {
            format!("transition from {} to {}", transition.from.name(), transition.to.name())
        }
        Body::Marker { name, .. } => format!("marker {}", name.name()),
        Body::Plan(_) => String::from("the frozen plan"),
        Body::AgentState(state) => format!("agent state {}", state.name()),
        Body::Input(event) => format!("input {}", event.name()),
        Body::Frame { .. } => String::from("a frame"),
        Body::Call(call) => format!("call {}", call.name()),
        Body::Provider { modality, outcome, .. } => {
            format!("outcome {} of {}", outcome.name(), modality.name())
        }
        Body::Attempt(attempt) => {
            format!("attempt {} of invocation {}", attempt.attempt, attempt.invocation)
        }
        Body::Edge(edge) => format!("edge signal {}", edge.what.signal().name()),
    }
}
