//! The bounded edge between two Python nodes.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rspp_kernel::edge::buffer::{self, Bounds, Strategy};

use crate::policy::count;

/// A bounded edge between two nodes: four bounds, hysteresis watermarks, a named strategy.
#[pyclass(generic, module = "rspp._kernel")]
pub(crate) struct EdgeBuffer {
    edge_id: String,
    inner: buffer::EdgeBuffer<Py<PyAny>>,
}

#[pymethods]
impl EdgeBuffer {
    #[new]
    #[pyo3(signature = (*, edge_id, strategy, max_items, max_ms, max_bytes, high_items, low_items))]
    fn new(
        edge_id: String,
        strategy: &str,
        max_items: i64,
        max_ms: i64,
        max_bytes: i64,
        high_items: i64,
        low_items: i64,
    ) -> PyResult<Self> {
        if edge_id.is_empty() {
            return Err(PyValueError::new_err("edge_id is empty: give the edge a name"));
        }
        let strategy = Strategy::parse(strategy).ok_or_else(|| {
            PyValueError::new_err(format!("strategy is {strategy:?}: choose one of block, drop, latest_only"))
        })?;
        let bounds = Bounds {
            max_items: count("max_items", max_items)?,
            max_ms: count("max_ms", max_ms)?,
            max_bytes: count("max_bytes", max_bytes)?,
            high_items: count("high_items", high_items)?,
            low_items: count("low_items", low_items)?,
        };
        let inner = buffer::EdgeBuffer::new(strategy, bounds)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { edge_id, inner })
    }

    /// Enqueue; false when the item was refused or shed.
    fn put(&mut self, item: Py<PyAny>, turn: u32, duration_us: u64, size: u64) -> bool {
        self.inner.put(item, turn, duration_us, size)
    }

    /// Dequeue the oldest item, or none.
    fn get(&mut self) -> Option<Py<PyAny>> {
        self.inner.get()
    }

    /// Remove every item of ``turn`` and of earlier turns; returns how many.
    fn fence(&mut self, turn: u32) -> usize {
        self.inner.fence(turn)
    }

    /// Remove everything; returns how many.
    fn clear(&mut self) -> usize {
        self.inner.clear()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Name of the edge.
    #[getter]
    fn edge_id(&self) -> &str {
        &self.edge_id
    }

    /// False between xoff and xon: the producer must wait.
    #[getter]
    fn flowing(&self) -> bool {
        self.inner.flowing()
    }

    /// Sum of the durations waiting, microseconds.
    #[getter]
    fn queued_us(&self) -> u64 {
        self.inner.queued_us()
    }

    /// Items shed since the start.
    #[getter]
    fn shed(&self) -> u64 {
        self.inner.shed()
    }

    /// Most items that ever waited.
    #[getter]
    fn depth_peak(&self) -> usize {
        self.inner.depth_peak()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.iter().try_for_each(|item| visit.call(item))
    }

    fn __clear__(&mut self) {
        self.inner.clear();
    }
}
