//! The validators of contract documents and recorded streams, and the tables behind them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rspp_kernel::decision::matrix;
use rspp_kernel::document::version::{negotiate, parse, Retirement};
use rspp_kernel::document::{stream, structure, validate, Fault, Kind, Rule};
use rspp_kernel::reason::Reason;
use rspp_kernel::signal::Signal;

type Found = (&'static str, String, String);

fn found(fault: Fault) -> Found {
    (fault.rule.id(), fault.field, fault.message)
}

fn kind_named(kind: &str) -> PyResult<Kind> {
    Kind::parse(kind)
        .ok_or_else(|| PyValueError::new_err(format!("kind {kind:?} is none of {}", Kind::NAMES.join(", "))))
}

/// Validate one document; return its first fault as ``(rule, field, message)``.
#[pyfunction]
fn validate_document(kind: &str, document: &[u8]) -> PyResult<Option<Found>> {
    Ok(validate(kind_named(kind)?, document).err().map(found))
}

/// Return the structure of a kind as JSON Schema text.
#[pyfunction]
fn document_structure(kind: &str) -> PyResult<String> {
    Ok(structure(kind_named(kind)?).to_string())
}

/// Return the kinds of document with their largest sizes in bytes.
#[pyfunction]
fn document_kinds() -> Vec<(&'static str, usize)> {
    Kind::ALL.iter().map(|kind| (kind.name(), kind.limit_bytes())).collect()
}

/// Return every rule as ``(id, source, in_schema, text)``.
#[pyfunction]
fn contract_rules() -> Vec<(&'static str, &'static str, bool, &'static str)> {
    let row = |rule: &Rule| {
        let row = rule.row();
        (row.id, row.source, row.in_schema, row.text)
    };
    Rule::ALL.iter().map(row).collect()
}

/// Return the closed vocabulary of every signal as ``(signal, reasons)``.
#[pyfunction]
fn signal_reasons(py: Python<'_>) -> PyResult<Vec<(&'static str, Bound<'_, PyTuple>)>> {
    let row = |signal: &Signal| {
        let codes = signal.reasons().iter().copied().map(Reason::code);
        Ok((signal.name(), PyTuple::new(py, codes.collect::<Vec<_>>())?))
    };
    Signal::ALL.iter().map(row).collect()
}

type MatrixRow = (&'static str, &'static str, &'static str, &'static str, bool, bool);

/// Return the legal cells of the decision matrix.
#[pyfunction]
fn decision_matrix() -> Vec<MatrixRow> {
    let row = |cell: rspp_kernel::decision::Cell| {
        let (outcome, decider) = (cell.outcome.name(), cell.decider.name());
        (outcome, decider, cell.phase.name(), cell.scope.name(), cell.needs_turn, cell.needs_epoch)
    };
    matrix().into_iter().map(row).collect()
}

/// Decide whether an event of ``version`` may still be taken.
#[pyfunction]
#[pyo3(signature = (version, *, retired, now_ms, skew_ms))]
fn negotiate_version(
    version: &str,
    retired: Vec<(String, u64)>,
    now_ms: u64,
    skew_ms: u64,
) -> PyResult<Option<Found>> {
    let retired: Vec<Retirement> = retired
        .into_iter()
        .map(|(version, deadline_ms)| {
            let parsed = parse(&version).ok_or_else(|| {
                PyValueError::new_err(format!("retired version {version:?} is no version like v1.0"))
            })?;
            Ok(Retirement { version: parsed, deadline_ms })
        })
        .collect::<PyResult<_>>()?;
    Ok(negotiate(version, &retired, now_ms, skew_ms).err().map(found))
}

/// Checks documents in the order of their recording.
#[pyclass(module = "rspp._kernel")]
pub(crate) struct StreamValidator(stream::StreamValidator);

#[pymethods]
impl StreamValidator {
    #[new]
    fn new() -> Self {
        Self(stream::StreamValidator::new())
    }

    /// Take the next line; return its first fault.
    fn push(&mut self, line: &[u8]) -> Option<Found> {
        self.0.push(line).map(found)
    }

    /// Return what is still missing at the end of the recording.
    fn finish(&self) -> Vec<Found> {
        self.0.finish().into_iter().map(found).collect()
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(validate_document, module)?)?;
    module.add_function(wrap_pyfunction!(document_structure, module)?)?;
    module.add_function(wrap_pyfunction!(document_kinds, module)?)?;
    module.add_function(wrap_pyfunction!(contract_rules, module)?)?;
    module.add_function(wrap_pyfunction!(signal_reasons, module)?)?;
    module.add_function(wrap_pyfunction!(decision_matrix, module)?)?;
    module.add_function(wrap_pyfunction!(negotiate_version, module)?)?;
    module.add_class::<StreamValidator>()
}
