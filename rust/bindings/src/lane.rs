//! The lane router as a Python class.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use rspp_kernel::edge::bounds::{BoundsError, EdgeSettings, Strategy};
use rspp_kernel::edge::item::Offer;
use rspp_kernel::event::Lane;
use rspp_kernel::lane;

use crate::edge::{choose, fields};
use crate::policy::count;

type Marks = (i64, i64, i64);

/// Three bounded queues in strict priority: control before data before telemetry.
#[pyclass(generic, module = "rspp._kernel")]
pub(crate) struct LaneRouter {
    router_id: String,
    inner: lane::LaneRouter<Py<PyAny>>,
}

fn refused(error: &BoundsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn settings(lane: Lane, strategy: Strategy, marks: Marks) -> PyResult<EdgeSettings> {
    let mut settings = EdgeSettings { strategy, ..lane::simple(lane) };
    settings.bounds.max_items = count("max_items", marks.0)?;
    settings.bounds.high_items = count("high_items", marks.1)?;
    settings.bounds.low_items = count("low_items", marks.2)?;
    Ok(settings)
}

#[pymethods]
impl LaneRouter {
    #[new]
    #[pyo3(signature = (
        *, router_id, control = (64, 20, 10), data = (128, 100, 50), telemetry = (256, 200, 100),
        data_strategy = "drop", telemetry_strategy = "sample"
    ))]
    fn new(
        router_id: String,
        control: Marks,
        data: Marks,
        telemetry: Marks,
        data_strategy: &str,
        telemetry_strategy: &str,
    ) -> PyResult<Self> {
        if router_id.is_empty() {
            return Err(PyValueError::new_err("router_id is empty: give the router a name"));
        }
        let lossy = [Strategy::Drop, Strategy::Sample, Strategy::LatestOnly];
        let data_strategy = choose("data_strategy", data_strategy, &lossy.map(Strategy::name), &lossy)?;
        let telemetry_strategy =
            choose("telemetry_strategy", telemetry_strategy, Strategy::NAMES, Strategy::ALL)?;
        let inner = lane::LaneRouter::new(
            settings(Lane::Control, Strategy::NonBlockingPriority, control)?,
            settings(Lane::Data, data_strategy, data)?,
            settings(Lane::Telemetry, telemetry_strategy, telemetry)?,
        )
        .map_err(|error| refused(&error))?;
        Ok(Self { router_id, inner })
    }

    /// Enqueue on a lane; false when the item was refused or shed. Control is never shed.
    #[pyo3(signature = (lane, item, turn, duration_us, size, now_us = 0))]
    fn put(
        &mut self,
        lane: &str,
        item: Py<PyAny>,
        turn: u32,
        duration_us: u64,
        size: u64,
        now_us: u64,
    ) -> PyResult<bool> {
        let lane = choose("lane", lane, Lane::NAMES, Lane::ALL)?;
        let offer = Offer { now_us, ..Offer::new(item, turn, duration_us, size) };
        Ok(self.inner.offer(lane, offer).kept())
    }

    /// Dequeue the oldest item of the first lane that holds one, with its lane; or none.
    #[pyo3(signature = (now_us = 0))]
    fn get(&mut self, now_us: u64) -> Option<(&'static str, Py<PyAny>)> {
        self.inner.take(now_us).map(|(lane, taken)| (lane.name(), taken.item))
    }

    /// Remove every data item of ``turn`` and of earlier turns; returns how many.
    fn fence(&mut self, turn: u32) -> usize {
        self.inner.fence(turn)
    }

    /// Take the decisions since the last call, control's first, as fields of control signals.
    fn poll_signals<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        std::iter::from_fn(|| self.inner.take_notice())
            .map(|(lane, notice)| fields(py, &notice, &self.router_id, lane, ""))
            .collect()
    }

    /// Items waiting on a lane.
    fn waiting(&self, lane: &str) -> PyResult<usize> {
        Ok(self.inner.lane(choose("lane", lane, Lane::NAMES, Lane::ALL)?).len())
    }

    /// Items shed on a lane since the start.
    fn shed(&self, lane: &str) -> PyResult<u64> {
        Ok(self.inner.lane(choose("lane", lane, Lane::NAMES, Lane::ALL)?).shed())
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.iter().try_for_each(|item| visit.call(item))
    }

    fn __clear__(&mut self) {
        self.inner.clear();
    }
}
