//! What a session keeps, as a Python class.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rspp_kernel::event::EventScope;
use rspp_kernel::state::{StateClass, StateError, StateStore};

use crate::edge::choose;

/// The state of one session by class; the class says how long it lives.
#[pyclass(generic, module = "rspp._kernel")]
pub(crate) struct SessionState {
    max_entries: usize,
    inner: StateStore<Py<PyAny>>,
}

fn scope_of(name: &str) -> PyResult<EventScope> {
    choose("scope", name, EventScope::NAMES, EventScope::ALL)
}

fn class_of(name: &str) -> PyResult<StateClass> {
    choose("state_class", name, StateClass::NAMES, StateClass::ALL)
}

impl SessionState {
    fn refused(&self, error: StateError, scope: &str, state_class: &str) -> PyErr {
        PyValueError::new_err(match error {
            StateError::Forbidden => {
                format!("scope is {scope:?}: {state_class} state is not for it to write")
            }
            StateError::Full => format!("max_entries is {}: no room for another key", self.max_entries),
            StateError::NoTurn => format!("state_class is {state_class:?}: no turn is open"),
        })
    }
}

#[pymethods]
impl SessionState {
    #[new]
    #[pyo3(signature = (max_entries = 64))]
    fn new(max_entries: usize) -> Self {
        Self { max_entries, inner: StateStore::new(max_entries) }
    }

    /// A turn opens: nothing of an earlier one is left.
    fn begin_turn(&mut self, turn: u32) {
        self.inner.begin_turn(turn);
    }

    /// The turn is closed: its state is gone.
    fn end_turn(&mut self) {
        self.inner.end_turn();
    }

    /// The stint is over: what is left is what another placement may start with.
    fn end_stint(&mut self) {
        let empty = StateStore::new(self.max_entries);
        self.inner = std::mem::replace(&mut self.inner, empty).failover();
    }

    /// Read for a node of that scope; none when there is nothing or it may not.
    fn get(&self, py: Python<'_>, scope: &str, state_class: &str, key: &str) -> PyResult<Option<Py<PyAny>>> {
        let found = self.inner.get(scope_of(scope)?, class_of(state_class)?, key);
        Ok(found.map(|value| value.clone_ref(py)))
    }

    /// Write for a node of that scope.
    fn put(&mut self, scope: &str, state_class: &str, key: &str, value: Py<PyAny>) -> PyResult<()> {
        let put = self.inner.put(scope_of(scope)?, class_of(state_class)?, key, value);
        put.map_err(|error| self.refused(error, scope, state_class))
    }

    /// Take what the control plane published, or what an external store kept.
    fn attach(&mut self, state_class: &str, key: &str, value: Py<PyAny>) -> PyResult<()> {
        let attached = self.inner.attach(class_of(state_class)?, key, value);
        attached.map_err(|error| self.refused(error, "session", state_class))
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.values().try_for_each(|value| visit.call(value))
    }

    fn __clear__(&mut self) {
        self.inner = StateStore::new(self.max_entries);
    }
}
