//! Giving a kernel what was recorded as given.

use crate::edge::notice::Notice;
use crate::evidence::record::{Body, Call, Record};
use crate::input::Input;
use crate::reason::Interner;
use crate::session::SessionKernel;

/// Whether the record is something the kernel was given, and not what it made of it.
#[must_use]
pub(super) const fn given(body: &Body) -> bool {
    matches!(
        body,
        Body::Input(_)
            | Body::Frame { .. }
            | Body::Call(_)
            | Body::Provider { reported: true, .. }
            | Body::Edge(_)
    )
}

/// Gives it once more; answers and effects are for a shell, and there is none.
pub(super) fn give(kernel: &mut SessionKernel, record: &Record, words: &Interner) {
    let (at_us, turn) = (record.at_us, record.turn);
    match record.body {
        Body::Input(event) => {
            kernel.step(Input { now_us: at_us, event: event.map(|label| words.text(label)) });
        }
        Body::Frame { sequence, samples, epoch, .. } => {
            kernel.frame(at_us, turn, epoch, sequence, samples);
        }
        Body::Call(call) => match call {
            Call::Invoke { modality } => {
                // Why nothing may be called is no decision of the trace.
                let _ = kernel.invoke(at_us, turn, modality);
            }
            Call::OutputHandedOn { invocation } => {
                kernel.output_handed_on(at_us, invocation);
            }
            Call::AttemptFinished { invocation, ending, idle_us } => {
                kernel.attempt_finished(at_us, invocation, ending, idle_us);
            }
            Call::Ingress { carrier } => {
                kernel.ingress(at_us, carrier);
            }
            Call::Reattach { turns, messages } => {
                kernel.reattach(at_us, turns, messages);
            }
            Call::DeadlinePassed => kernel.deadline_passed(at_us),
            Call::LevelLowered { reason } => kernel.level_lowered(at_us, reason),
            Call::TurnStart(said) => {
                let provenance = said.provenance.and_then(|place| words.provenance(place));
                kernel.turn_start(at_us, said.map(|label| words.text(label)), provenance);
            }
            Call::Arrival { event, bytes, carrier, .. } => {
                kernel.arrive(at_us, event, bytes, carrier);
            }
            Call::Admission(place) => kernel.admission(at_us, place.map(|label| words.text(label))),
        },
        Body::Provider { modality, outcome, latency_us, .. } => {
            kernel.provider_outcome(at_us, turn, modality, outcome, latency_us);
        }
        Body::Edge(edge) => {
            let name = words.text(edge.name);
            let notice = Notice { at_us, turn, what: edge.what };
            kernel.edge_decided(at_us, name, edge.lane, name, &notice);
        }
        Body::Signal { .. }
        | Body::Decision(_)
        | Body::Transition(_)
        | Body::Marker { .. }
        | Body::Plan(_)
        | Body::AgentState(_)
        | Body::Attempt(_) => {}
    }
}
