//! The bounded edge between two Python nodes.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit};
use rspp_kernel::admission::{Point, Verdict};
use rspp_kernel::decision::Scope;
use rspp_kernel::edge::bounds::{Bounds, EdgeSettings, Strategy};
use rspp_kernel::edge::flow::FlowMode;
use rspp_kernel::edge::item::{Offer, Put, Taken};
use rspp_kernel::edge::notice::{Notice, What};
use rspp_kernel::edge::sync::{Loss, SyncMode, SyncPolicy, SyncScope};
use rspp_kernel::edge::{buffer, lineage};
use rspp_kernel::event::Lane;

use crate::admission::{Admission, Places};
use crate::policy::count;

/// A bounded edge between two nodes: four bounds, hysteresis watermarks, a named strategy.
#[pyclass(generic, module = "rspp._kernel")]
pub(crate) struct EdgeBuffer {
    edge_id: String,
    sync_domain: String,
    merge: Option<Py<PyAny>>,
    merged_from: Vec<u64>,
    inner: buffer::EdgeBuffer<Py<PyAny>>,
    quotas: Option<Quotas>,
}

/// Places of an edge's items: those that wait, and the one that its consumer has.
pub(crate) struct Quotas {
    waiting: Places,
    handed: Places,
    /// What was answered when admission last refused at either point.
    refused: [Option<Verdict>; 2],
}

type Buffer = buffer::EdgeBuffer<Py<PyAny>>;

impl Quotas {
    pub(crate) fn new(admission: &Bound<'_, Admission>, key: &str, lane: Lane) -> Self {
        let places = |point| Places::new(admission, key, point, lane);
        let (waiting, handed) = (places(Point::EdgeEnqueue), places(Point::EdgeDequeue));
        Self { waiting, handed, refused: [None; 2] }
    }

    fn refusal(&mut self, verdict: Verdict) {
        let index = usize::from(verdict.decision.scope == Scope::EdgeDequeue);
        self.refused[index] = Some(verdict);
    }

    /// Why admission refused at the point of a notice, and whose places are asked for.
    pub(crate) fn refused_at(&self, scope: Scope) -> Option<(&Places, Point, Verdict)> {
        let (places, point, index) = match scope {
            Scope::EdgeDequeue => (&self.handed, Point::EdgeDequeue, 1),
            _ => (&self.waiting, Point::EdgeEnqueue, 0),
        };
        Some((places, point, self.refused[index]?))
    }

    /// Gives back the places of items that wait no longer.
    pub(crate) fn settle(&mut self, py: Python<'_>, buffer: &Buffer) {
        self.waiting.keep(py, buffer.len() as u64);
    }

    pub(crate) fn offer(&mut self, py: Python<'_>, buffer: &mut Buffer, offer: Offer<Py<PyAny>>) -> Put {
        let verdict = self.waiting.ask(py, offer.now_us);
        if !verdict.admitted() {
            self.refusal(verdict);
            return buffer.shed_offer(&offer);
        }
        buffer.admitted();
        buffer.offer(offer)
    }

    /// Takes the oldest item that admission lets pass.
    pub(crate) fn take(
        &mut self,
        py: Python<'_>,
        buffer: &mut Buffer,
        now_us: u64,
    ) -> Option<Taken<Py<PyAny>>> {
        self.handed.keep(py, 0);
        while !buffer.is_empty() {
            let verdict = self.handed.ask(py, now_us);
            if verdict.admitted() {
                break;
            }
            self.refusal(verdict);
            buffer.shed_oldest(now_us);
        }
        let taken = buffer.take(now_us);
        if taken.is_none() {
            self.handed.keep(py, 0);
        }
        taken
    }
}

/// The variant of that name, or a `ValueError` that lists them.
pub(crate) fn choose<T: Copy>(field: &str, value: &str, names: &[&str], all: &[T]) -> PyResult<T> {
    let index = names.iter().position(|name| *name == value);
    index.and_then(|index| all.get(index)).copied().ok_or_else(|| {
        PyValueError::new_err(format!("{field} is {value:?}: choose one of {}", names.join(", ")))
    })
}

impl EdgeBuffer {
    pub(crate) fn take_notice(&mut self) -> Option<Notice> {
        self.inner.take_notice()
    }

    /// Why admission refused at the point of a notice, and whose places are asked for.
    pub(crate) fn refusal(&self, scope: Scope) -> Option<(&Places, Point, Verdict)> {
        self.quotas.as_ref()?.refused_at(scope)
    }

    /// Gives back the places of items that wait no longer.
    fn settle(&mut self, py: Python<'_>) {
        if let Some(quotas) = &mut self.quotas {
            quotas.settle(py, &self.inner);
        }
    }

    fn offer(&mut self, py: Python<'_>, offer: Offer<Py<PyAny>>) -> Put {
        match &mut self.quotas {
            Some(quotas) => quotas.offer(py, &mut self.inner, offer),
            None => self.inner.offer(offer),
        }
    }

    /// Takes the oldest item that admission lets pass.
    fn take(&mut self, py: Python<'_>, now_us: u64) -> Option<Taken<Py<PyAny>>> {
        match &mut self.quotas {
            Some(quotas) => quotas.take(py, &mut self.inner, now_us),
            None => self.inner.take(now_us),
        }
    }

    pub(crate) fn settings(&self) -> EdgeSettings {
        *self.inner.settings()
    }

    /// Id of the edge, lane of its items, domain that its losses break.
    pub(crate) fn names(&self) -> (&str, Lane, &str) {
        (&self.edge_id, self.inner.settings().lane, &self.sync_domain)
    }
}

#[pymethods]
impl EdgeBuffer {
    #[new]
    #[pyo3(signature = (
        *, edge_id, strategy, max_items, max_ms, max_bytes, high_items, low_items, high_ms = 0, low_ms = 0,
        max_latency_ms = None, max_block_ms = None, lane = "DataLane", flow = "signal",
        sync_policy = "no_sync", sync_scope = "edge_local", sync_domain = "", sample_every = 2, merge = None
    ))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    fn new(
        edge_id: String,
        strategy: &str,
        max_items: i64,
        max_ms: i64,
        max_bytes: i64,
        high_items: i64,
        low_items: i64,
        high_ms: i64,
        low_ms: i64,
        max_latency_ms: Option<i64>,
        max_block_ms: Option<i64>,
        lane: &str,
        flow: &str,
        sync_policy: &str,
        sync_scope: &str,
        sync_domain: &str,
        sample_every: i64,
        merge: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        if edge_id.is_empty() {
            return Err(PyValueError::new_err("edge_id is empty: give the edge a name"));
        }
        let strategy = choose("strategy", strategy, Strategy::NAMES, Strategy::ALL)?;
        let mode = choose("sync_policy", sync_policy, SyncMode::NAMES, SyncMode::ALL)?;
        if mode == SyncMode::DropWithDiscontinuity && sync_domain.is_empty() {
            return Err(PyValueError::new_err("sync_domain is empty: name the domain that is to reset"));
        }
        if (strategy == Strategy::Merge) != merge.is_some() {
            return Err(PyValueError::new_err("merge goes with strategy \"merge\": give both or neither"));
        }
        let bounds = Bounds {
            max_items: count("max_items", max_items)?,
            max_ms: count("max_ms", max_ms)?,
            max_bytes: count("max_bytes", max_bytes)?,
            max_latency_ms: count("max_latency_ms", max_latency_ms.unwrap_or(max_ms))?,
            high_items: count("high_items", high_items)?,
            low_items: count("low_items", low_items)?,
            high_ms: count("high_ms", high_ms)?,
            low_ms: count("low_ms", low_ms)?,
            max_block_ms: max_block_ms.map(|value| count("max_block_ms", value)).transpose()?,
        };
        let settings = EdgeSettings {
            lane: choose("lane", lane, Lane::NAMES, Lane::ALL)?,
            strategy,
            bounds,
            flow: choose("flow", flow, FlowMode::NAMES, FlowMode::ALL)?,
            sync: SyncPolicy {
                mode,
                scope: choose("sync_scope", sync_scope, SyncScope::NAMES, SyncScope::ALL)?,
            },
            sample_every: count("sample_every", sample_every)?,
        };
        let inner =
            buffer::EdgeBuffer::new(settings).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self {
            edge_id,
            sync_domain: sync_domain.to_owned(),
            merge,
            merged_from: Vec::new(),
            inner,
            quotas: None,
        })
    }

    /// Let every item pass the quotas of ``admission`` as it comes and as it goes.
    fn admit_by(&mut self, admission: &Bound<'_, Admission>, key: &str) {
        self.quotas = Some(Quotas::new(admission, key, self.inner.settings().lane));
    }

    /// Give back every place and ask for none any more.
    fn leave_admission(&mut self) {
        self.quotas = None;
    }

    /// Enqueue; false when the item was refused or shed.
    #[pyo3(signature = (item, turn, duration_us, size, now_us = 0, sequence = None, group = 0))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    fn put(
        &mut self,
        py: Python<'_>,
        item: Py<PyAny>,
        turn: u32,
        duration_us: u64,
        size: u64,
        now_us: u64,
        sequence: Option<u64>,
        group: u64,
    ) -> PyResult<bool> {
        let put = self.offer(py, Offer { item, turn, duration_us, size, now_us, sequence, group });
        self.settle(py);
        match put {
            Put::OutOfOrder => Err(PyValueError::new_err(format!(
                "sequence is {}: sequences on an edge rise strictly",
                sequence.unwrap_or_default()
            ))),
            put => Ok(put.kept()),
        }
    }

    /// Dequeue the oldest item, or none; a merged item is made by ``merge`` of its parts.
    #[pyo3(signature = (now_us = 0))]
    fn get(&mut self, py: Python<'_>, now_us: u64) -> PyResult<Option<Py<PyAny>>> {
        let taken = self.take(py, now_us);
        self.settle(py);
        let Some(taken) = taken else {
            return Ok(None);
        };
        let Some(more) = taken.more else {
            self.merged_from.clear();
            return Ok(Some(taken.item));
        };
        self.merged_from = more.sequences;
        let merge = self.merge.as_ref().ok_or_else(|| PyTypeError::new_err("merge is missing"))?;
        let parts = PyList::new(py, std::iter::once(taken.item).chain(more.items).collect::<Vec<_>>())?;
        merge.call1(py, (parts,)).map(Some)
    }

    /// Sequences of the parts of the item that ``get`` returned last; empty unless it was merged.
    #[getter]
    fn merged_from(&self) -> Vec<u64> {
        self.merged_from.clone()
    }

    /// Remove every item of ``turn`` and of earlier turns; returns how many.
    fn fence(&mut self, py: Python<'_>, turn: u32) -> usize {
        let removed = self.inner.fence(turn);
        self.settle(py);
        removed
    }

    /// Remove everything; returns how many.
    fn clear(&mut self, py: Python<'_>) -> usize {
        let removed = self.inner.clear();
        self.settle(py);
        removed
    }

    /// Take the decisions since the last call, oldest first, as fields of control signals.
    fn poll_signals<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let lane = self.inner.settings().lane;
        std::iter::from_fn(|| self.inner.take_notice())
            .map(|notice| fields(py, &notice, &self.edge_id, lane, &self.sync_domain))
            .collect()
    }

    /// Take the losses that the other edges of the domain must be told of.
    fn take_losses(&mut self) -> Vec<(u64, u64, u32)> {
        std::iter::from_fn(|| self.inner.take_loss())
            .map(|loss| (loss.group, loss.discontinuity, loss.turn))
            .collect()
    }

    /// Apply a loss on another edge of the domain.
    fn apply_loss(&mut self, group: u64, discontinuity: u64, turn: u32) {
        self.inner.apply_loss(Loss { group, discontinuity, turn });
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Name of the edge.
    #[getter]
    fn edge_id(&self) -> &str {
        &self.edge_id
    }

    /// False when the producer must wait: between xoff and xon, without credit, or refused.
    #[getter]
    fn flowing(&self) -> bool {
        self.inner.flowing()
    }

    /// Credits that the producer holds; 0 under signals.
    #[getter]
    fn credits(&self) -> u64 {
        self.inner.credits()
    }

    /// When the next offer of a refused producer is shed; none while it is not refused.
    #[getter]
    fn blocked_until_us(&self) -> Option<u64> {
        self.inner.blocked_until_us()
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

    /// Decisions lost because nobody polled.
    #[getter]
    fn signals_lost(&self) -> u64 {
        self.inner.notices_lost()
    }

    /// Most items that ever waited.
    #[getter]
    fn depth_peak(&self) -> usize {
        self.inner.depth_peak()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.merge)?;
        self.inner.iter().try_for_each(|item| visit.call(item))
    }

    fn __clear__(&mut self) {
        self.merge = None;
        self.inner.clear();
    }
}

/// One decision as the fields that its control signal carries.
pub(crate) fn fields<'py>(
    py: Python<'py>,
    notice: &Notice,
    edge_id: &str,
    lane: Lane,
    sync_domain: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("signal", notice.signal().name())?;
    fields.set_item("emitted_by", notice.emitter().name())?;
    fields.set_item("at_us", notice.at_us)?;
    fields.set_item("turn", notice.turn)?;
    if let Some(reason) = notice.reason() {
        fields.set_item("reason", reason.code())?;
    }
    if let What::Discontinuity(id) = notice.what {
        fields.set_item("sync_domain", sync_domain)?;
        fields.set_item("discontinuity_id", format!("{sync_domain}/{id}"))?;
        return Ok(fields);
    }
    fields.set_item("edge_id", edge_id)?;
    fields.set_item("target_lane", lane.name())?;
    match notice.what {
        What::DropNotice { first, last, .. } => {
            let range = PyDict::new(py);
            range.set_item("start", first)?;
            range.set_item("end", last)?;
            fields.set_item("seq_range", range)?;
        }
        What::CreditGrant(amount) => fields.set_item("amount", amount)?,
        _ => {}
    }
    Ok(fields)
}

/// Group id, event ids, first and last sequence.
type MergeGroup = (String, Vec<String>, u64, u64);

/// Return the lineage of one merge as ``(merge_group_id, merged_from_event_ids, first, last)`` groups.
#[pyfunction]
#[pyo3(signature = (edge_id, sources))]
fn merge_lineage(edge_id: &str, sources: Vec<(u64, String)>) -> PyResult<Vec<MergeGroup>> {
    let sources =
        sources.into_iter().map(|(sequence, event_id)| lineage::Source { sequence, event_id }).collect();
    let groups =
        lineage::groups(edge_id, sources).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(groups.into_iter().map(|group| (group.id, group.from, group.first, group.last)).collect())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<EdgeBuffer>()?;
    module.add_function(wrap_pyfunction!(merge_lineage, module)?)
}
