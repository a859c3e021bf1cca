//! The lane router as a Python class.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use rspp_kernel::admission::{Point, Verdict};
use rspp_kernel::decision::Scope;
use rspp_kernel::edge::bounds::{BoundsError, EdgeSettings, Strategy};
use rspp_kernel::edge::item::Offer;
use rspp_kernel::edge::notice::Notice;
use rspp_kernel::event::Lane;
use rspp_kernel::lane;

use crate::admission::{Admission, Places};
use crate::edge::{choose, fields, EdgeBuffer, Quotas};
use crate::policy::count;

type Marks = (i64, i64, i64);

/// Three bounded queues in strict priority: control before data before telemetry.
#[pyclass(generic, module = "rspp._kernel")]
pub(crate) struct LaneRouter {
    router_id: String,
    sync_domain: String,
    quotas: Option<[Quotas; 3]>,
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

impl LaneRouter {
    fn made(router_id: &str, sync_domain: &str, lanes: &[EdgeSettings; 3]) -> PyResult<Self> {
        let [control, data, telemetry] = *lanes;
        let inner = lane::LaneRouter::new(control, data, telemetry).map_err(|error| refused(&error))?;
        let (router_id, sync_domain) = (router_id.to_owned(), sync_domain.to_owned());
        Ok(Self { router_id, sync_domain, quotas: None, inner })
    }

    pub(crate) fn take_notice(&mut self) -> Option<(Lane, Notice)> {
        self.inner.take_notice()
    }

    /// Why admission refused on a lane at the point of a notice, and whose places are asked for.
    pub(crate) fn refusal(&self, lane: Lane, scope: Scope) -> Option<(&Places, Point, Verdict)> {
        self.quotas.as_ref()?[lane as usize].refused_at(scope)
    }

    /// Id of the router, domain that losses of its data break.
    pub(crate) fn names(&self) -> (&str, &str) {
        (&self.router_id, &self.sync_domain)
    }

    /// Gives back the places of items that wait no longer.
    fn settle(&mut self, py: Python<'_>) {
        let Some(quotas) = &mut self.quotas else { return };
        for (lane, quotas) in Lane::ALL.iter().zip(quotas) {
            quotas.settle(py, self.inner.lane(*lane));
        }
    }
}

fn telemetry_strategy(name: &str) -> PyResult<Strategy> {
    choose("telemetry_strategy", name, Strategy::NAMES, Strategy::ALL)
}

#[pymethods]
impl LaneRouter {
    #[new]
    #[pyo3(signature = (
        *, router_id, control = (64, 20, 10), data = (128, 100, 50), telemetry = (256, 200, 100),
        data_strategy = "drop", telemetry_strategy = "sample"
    ))]
    fn new(
        router_id: &str,
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
        let lanes = [
            settings(Lane::Control, Strategy::NonBlockingPriority, control)?,
            settings(Lane::Data, data_strategy, data)?,
            settings(Lane::Telemetry, self::telemetry_strategy(telemetry_strategy)?, telemetry)?,
        ];
        Self::made(router_id, "", &lanes)
    }

    /// Three lanes, of which data has the settings of an edge of the plan and the router its name.
    #[staticmethod]
    #[pyo3(signature = (
        edge, *, control = (64, 20, 10), telemetry = (256, 200, 100), telemetry_strategy = "sample"
    ))]
    fn over(edge: &EdgeBuffer, control: Marks, telemetry: Marks, telemetry_strategy: &str) -> PyResult<Self> {
        let (edge_id, _, sync_domain) = edge.names();
        let lanes = [
            settings(Lane::Control, Strategy::NonBlockingPriority, control)?,
            edge.settings(),
            settings(Lane::Telemetry, self::telemetry_strategy(telemetry_strategy)?, telemetry)?,
        ];
        Self::made(edge_id, sync_domain, &lanes)
    }

    /// Let every item pass the quotas of ``admission`` as it comes and as it goes.
    fn admit_by(&mut self, admission: &Bound<'_, Admission>, key: &str) {
        self.quotas =
            Some([Lane::Control, Lane::Data, Lane::Telemetry].map(|lane| Quotas::new(admission, key, lane)));
    }

    /// Give back every place and ask for none any more.
    fn leave_admission(&mut self) {
        self.quotas = None;
    }

    /// Enqueue on a lane; false when the item was refused or shed. Control is never shed.
    #[pyo3(signature = (lane, item, turn, duration_us, size, now_us = 0))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    fn put(
        &mut self,
        py: Python<'_>,
        lane: &str,
        item: Py<PyAny>,
        turn: u32,
        duration_us: u64,
        size: u64,
        now_us: u64,
    ) -> PyResult<bool> {
        let lane = choose("lane", lane, Lane::NAMES, Lane::ALL)?;
        let offer = self.inner.numbered(Offer { now_us, ..Offer::new(item, turn, duration_us, size) });
        let buffer = self.inner.lane_mut(lane);
        let put = match &mut self.quotas {
            Some(quotas) => quotas[lane as usize].offer(py, buffer, offer),
            None => buffer.offer(offer),
        };
        self.settle(py);
        Ok(put.kept())
    }

    /// Dequeue the oldest item of the first lane that holds one, with its lane; or none.
    #[pyo3(signature = (now_us = 0))]
    fn get(&mut self, py: Python<'_>, now_us: u64) -> Option<(&'static str, Py<PyAny>)> {
        let quotas = &mut self.quotas;
        let taken = self.inner.take_by(|lane, buffer| match quotas {
            Some(quotas) => quotas[lane as usize].take(py, buffer, now_us),
            None => buffer.take(now_us),
        });
        self.settle(py);
        taken.map(|(lane, taken)| (lane.name(), taken.item))
    }

    /// Shed the telemetry of ``turn`` and of earlier turns; returns how many items.
    fn overtake(&mut self, py: Python<'_>, turn: u32, now_us: u64) -> usize {
        let removed = self.inner.overtake(turn, now_us);
        self.settle(py);
        removed
    }

    /// Remove every data item of ``turn`` and of earlier turns; returns how many.
    fn fence(&mut self, py: Python<'_>, turn: u32) -> usize {
        let removed = self.inner.fence(turn);
        self.settle(py);
        removed
    }

    /// Take the decisions since the last call, control's first, as fields of control signals.
    fn poll_signals<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        std::iter::from_fn(|| self.inner.take_notice())
            .map(|(lane, notice)| fields(py, &notice, &self.router_id, lane, &self.sync_domain))
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

    /// Name of the router.
    #[getter]
    fn router_id(&self) -> &str {
        &self.router_id
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
