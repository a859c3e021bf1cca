//! One frozen class per effect.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rspp_kernel::effect::Effect;
use rspp_kernel::event;
use rspp_kernel::node::Hook;

macro_rules! effect_classes {
    ( $( $(#[doc = $doc:literal])* $Name:ident { $( $field:ident : $kind:ty ),+ } )+ ) => {
        $(
            $(#[doc = $doc])*
            #[pyclass(frozen, eq, get_all, module = "rspp._kernel")]
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub(crate) struct $Name {
                $( $field: $kind ),+
            }

            #[pymethods]
            impl $Name {
                #[classattr]
                #[pyo3(name = "__match_args__")]
                fn match_args(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
                    PyTuple::new(py, [$( stringify!($field) ),+])
                }

                fn __repr__(&self) -> String {
                    let fields = [$( format!(concat!(stringify!($field), "={:?}"), self.$field) ),+];
                    format!(concat!(stringify!($Name), "({})"), fields.join(", "))
                }
            }
        )+

        fn add_classes(module: &Bound<'_, PyModule>) -> PyResult<()> {
            $( module.add_class::<$Name>()?; )+
            let py = module.py();
            let classes = PyTuple::new(py, [$( py.get_type::<$Name>() ),+])?;
            let union = py.import("typing")?.getattr("Union")?.get_item(classes)?;
            module.add("Effect", union)
        }
    };
}

effect_classes! {
    /// A turn is open under a frozen plan: generate and speak the answer to ``intent``.
    OpenTurn { turn: u32, turn_id: String, epoch: u64, intent: String, reference: u32, plan_hash: String }
    /// The gate holds this turn's voice: clear what is queued behind it and keep the position.
    HoldOutput { turn: u32 }
    /// The hold is over: go on from the first sample that was not heard.
    ResumeOutput { turn: u32 }
    /// The fence is closed already: clear the queue, stop providers, keep only what was heard.
    CancelTurn { turn: u32, reason: String }
    /// Call the hook of a node, empty for none, and stop its work now if ``preempt``; ``outcome`` is what
    /// follows. Nodes are counted as they were given to ``host``.
    TellNode { node: u8, turn: u32, hook: String, outcome: String, preempt: bool }
    /// Stop one provider call; what it still gives is dropped.
    CancelInvocation { invocation: u32 }
    /// The turn is over; ``outcome`` is ``commit`` or ``abort``, ``reason`` is empty on commit.
    CloseTurn { turn: u32, outcome: String, reason: String }
    /// No turn was opened.
    RefuseIntent { intent: String, reference: u32, outcome: String, reason: String }
    /// The caller began to speak: start recognition a little before ``media_sample`` (16 kHz).
    StartUtterance { utterance: u32, media_sample: u64 }
    /// The caller paused: ask the recogniser now for its best whole hypothesis.
    ProbeUtterance { utterance: u32 }
    /// The caller went on after a probe: the same utterance grows, its hypothesis is void.
    ContinueUtterance { utterance: u32 }
    /// The utterance is over; ``used`` is false when it was noise or a listener's backchannel.
    EndUtterance { utterance: u32, used: bool }
    /// What front ends show: ``initializing``, ``listening``, ``thinking`` or ``speaking``.
    AgentState { state: String }
    /// Authority or the call is gone, or a drain is done: leave the room at once, open no further turn.
    LeaveRoom { reason: String }
}

fn one(py: Python<'_>, effect: &Effect) -> PyResult<Py<PyAny>> {
    Ok(match effect.clone() {
        Effect::OpenTurn { turn, epoch, intent, reference, plan_hash } => {
            let opened = OpenTurn {
                turn,
                turn_id: event::turn_id(epoch, turn),
                epoch,
                intent: intent.name().to_owned(),
                reference,
                plan_hash: plan_hash.hex(),
            };
            Py::new(py, opened)?.into_any()
        }
        Effect::HoldOutput { turn } => Py::new(py, HoldOutput { turn })?.into_any(),
        Effect::ResumeOutput { turn } => Py::new(py, ResumeOutput { turn })?.into_any(),
        Effect::CancelTurn { turn, reason } => {
            let reason = reason.into_owned();
            Py::new(py, CancelTurn { turn, reason })?.into_any()
        }
        Effect::TellNode { node, turn, told } => {
            let hook = told.hook.map_or("", Hook::name).to_owned();
            let (outcome, preempt) = (told.outcome.name().to_owned(), told.preempt);
            Py::new(py, TellNode { node, turn, hook, outcome, preempt })?.into_any()
        }
        Effect::CancelInvocation { invocation } => Py::new(py, CancelInvocation { invocation })?.into_any(),
        Effect::CloseTurn { turn, outcome, reason } => {
            let (outcome, reason) = (outcome.name().to_owned(), reason.into_owned());
            Py::new(py, CloseTurn { turn, outcome, reason })?.into_any()
        }
        Effect::RefuseIntent { intent, reference, outcome, reason } => {
            let intent = intent.name().to_owned();
            let (outcome, reason) = (outcome.to_owned(), reason.to_owned());
            Py::new(py, RefuseIntent { intent, reference, outcome, reason })?.into_any()
        }
        Effect::StartUtterance { utterance, media_sample } => {
            Py::new(py, StartUtterance { utterance, media_sample })?.into_any()
        }
        Effect::ProbeUtterance { utterance } => Py::new(py, ProbeUtterance { utterance })?.into_any(),
        Effect::ContinueUtterance { utterance } => Py::new(py, ContinueUtterance { utterance })?.into_any(),
        Effect::EndUtterance { utterance, used } => Py::new(py, EndUtterance { utterance, used })?.into_any(),
        Effect::AgentState { state } => {
            let state = state.name().to_owned();
            Py::new(py, AgentState { state })?.into_any()
        }
        Effect::LeaveRoom { reason } => {
            let reason = reason.into_owned();
            Py::new(py, LeaveRoom { reason })?.into_any()
        }
    })
}

/// The effects as a tuple; without any, the one empty tuple of the interpreter.
pub(crate) fn tuple<'py>(py: Python<'py>, effects: &[Effect]) -> PyResult<Bound<'py, PyTuple>> {
    if effects.is_empty() {
        return Ok(PyTuple::empty(py));
    }
    let made = effects.iter().map(|effect| one(py, effect)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, made)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_classes(module)
}
