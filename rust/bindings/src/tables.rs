//! The kernel's tables as plain rows.

use pyo3::prelude::*;
use rspp_kernel::determinism;
use rspp_kernel::reason::Reason;
use rspp_kernel::signal::Signal;
use rspp_kernel::turn::TRANSITIONS;

type Texts = (&'static str, &'static str, &'static str);

/// Return the one table of reason codes as ``(code, area, meaning)`` rows.
#[pyfunction]
fn reason_codes() -> Vec<Texts> {
    let row = |reason: &Reason| {
        let row = reason.row();
        (row.code, row.area, row.meaning)
    };
    Reason::ALL.iter().map(row).collect()
}

/// Return the legal turn transitions as ``(from_state, trigger, to_state)`` rows.
#[pyfunction]
fn transition_table() -> Vec<Texts> {
    TRANSITIONS.iter().map(|row| (row.from.name(), row.trigger.name(), row.to.name())).collect()
}

/// Return the control signals as ``(signal, emitters, event_scope, required_fields)`` rows.
#[pyfunction]
fn signal_registry(py: Python<'_>) -> PyResult<Vec<Bound<'_, pyo3::types::PyTuple>>> {
    use pyo3::types::PyTuple;
    Signal::ALL
        .iter()
        .map(|signal| {
            let row = signal.row();
            let emitters = PyTuple::new(py, row.emitters.iter().map(|emitter| emitter.name()))?;
            let required = PyTuple::new(py, row.required)?;
            (signal.name(), emitters, row.scope.name(), required).into_pyobject(py)
        })
        .collect()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("MERGE_RULE_ID", determinism::MERGE_RULE_ID)?;
    module.add("MERGE_RULE_VERSION", determinism::MERGE_RULE_VERSION)?;
    module.add("ORDERING_MARKERS", determinism::OrderingMarker::NAMES)?;
    module.add_function(wrap_pyfunction!(reason_codes, module)?)?;
    module.add_function(wrap_pyfunction!(transition_table, module)?)?;
    module.add_function(wrap_pyfunction!(signal_registry, module)?)
}
