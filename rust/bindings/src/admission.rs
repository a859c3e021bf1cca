//! Local admission as a Python class.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rspp_kernel::admission::{self, AdmissionPolicy, Point, Quota, Verdict};
use rspp_kernel::event::Lane;

use crate::edge::choose;
use crate::policy::count;

/// Local admission and scheduling: outcomes computed from a policy and counters.
#[pyclass(module = "rspp._kernel")]
pub(crate) struct Admission {
    inner: admission::Admission,
}

/// What one session or edge holds at one point; it is given back when its holder goes.
pub(crate) struct Places {
    admission: Py<Admission>,
    pub(crate) key: String,
    point: Point,
    lane: Lane,
    taken: u64,
}

impl Places {
    pub(crate) fn new(admission: &Bound<'_, Admission>, key: &str, point: Point, lane: Lane) -> Self {
        Self { admission: admission.clone().unbind(), key: key.to_owned(), point, lane, taken: 0 }
    }

    /// What would be decided for one more place, or instead of those held when `instead`.
    pub(crate) fn peek(&self, py: Python<'_>, now_us: u64, instead: bool) -> Verdict {
        let own = if instead { self.taken } else { 0 };
        self.admission.borrow(py).inner.peek(now_us, self.point, self.lane, &self.key, own)
    }

    /// Asks for one more place.
    pub(crate) fn ask(&mut self, py: Python<'_>, now_us: u64) -> Verdict {
        let mut admission = self.admission.borrow_mut(py);
        let verdict = admission.inner.ask(now_us, self.point, self.lane, &self.key, true);
        self.taken += u64::from(verdict.admitted());
        verdict
    }

    /// Gives places back until no more than `wanted` are held.
    pub(crate) fn keep(&mut self, py: Python<'_>, wanted: u64) {
        while self.taken > wanted {
            self.taken -= 1;
            self.admission.borrow_mut(py).inner.done(self.point, self.lane, &self.key);
        }
    }

    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Reference of the policy, and how long the claim of a deferred turn holds.
    pub(crate) fn policy(&self, py: Python<'_>) -> (String, u64) {
        let admission = &self.admission.borrow(py).inner;
        (admission.snapshot_ref().unwrap_or_default().to_owned(), admission.claim_us())
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if self.taken > 0 {
            Python::attach(|py| self.keep(py, 0));
        }
    }
}

/// One outcome of admission and the counters it was computed from.
#[pyclass(frozen, get_all, module = "rspp._kernel")]
pub(crate) struct AdmissionVerdict {
    /// Whether a place was taken.
    admitted: bool,
    outcome: &'static str,
    phase: &'static str,
    scope: &'static str,
    reason: &'static str,
    in_use: u64,
    places: u64,
    key_in_use: u64,
    key_share: u64,
}

fn quota(field: &str, (places, per_key, pressure): (i64, i64, i64)) -> PyResult<Quota> {
    let quota = Quota {
        places: count(field, places)?,
        per_key: count(field, per_key)?,
        pressure: count(field, pressure)?,
    };
    if quota.valid() {
        return Ok(quota);
    }
    Err(PyValueError::new_err(format!(
        "{field} is ({places}, {per_key}, {pressure}): choose places from 1, and per_key and pressure from 1 \
         to places"
    )))
}

#[pymethods]
impl Admission {
    #[new]
    fn new() -> Self {
        Self { inner: admission::Admission::new() }
    }

    /// Take a policy snapshot; each point's quota is ``(places, per_key, pressure)``.
    #[pyo3(signature = (
        *, snapshot_ref, valid_until_us, turn_start, edge_enqueue, edge_dequeue, node_dispatch,
        max_deferred = 0, claim_us = 1_000_000
    ))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    fn adopt(
        &mut self,
        snapshot_ref: String,
        valid_until_us: u64,
        turn_start: (i64, i64, i64),
        edge_enqueue: (i64, i64, i64),
        edge_dequeue: (i64, i64, i64),
        node_dispatch: (i64, i64, i64),
        max_deferred: usize,
        claim_us: u64,
    ) -> PyResult<()> {
        let quotas = [
            quota("turn_start", turn_start)?,
            quota("edge_enqueue", edge_enqueue)?,
            quota("edge_dequeue", edge_dequeue)?,
            quota("node_dispatch", node_dispatch)?,
        ];
        let policy = AdmissionPolicy { snapshot_ref, valid_until_us, quotas, max_deferred, claim_us };
        if self.inner.adopt(policy) {
            return Ok(());
        }
        Err(PyValueError::new_err("snapshot_ref is empty: name the snapshot"))
    }

    /// Ask for a place at ``point`` for a fairness key.
    #[pyo3(signature = (now_us, point, lane, key, turn_known = false))]
    fn ask(
        &mut self,
        now_us: u64,
        point: &str,
        lane: &str,
        key: &str,
        turn_known: bool,
    ) -> PyResult<AdmissionVerdict> {
        let point = choose("point", point, Point::NAMES, Point::ALL)?;
        let lane = choose("lane", lane, Lane::NAMES, Lane::ALL)?;
        let verdict = self.inner.ask(now_us, point, lane, key, turn_known);
        Ok(AdmissionVerdict {
            admitted: verdict.admitted(),
            outcome: verdict.decision.outcome.name(),
            phase: verdict.decision.phase.name(),
            scope: verdict.decision.scope.name(),
            reason: verdict.decision.reason.code(),
            in_use: verdict.in_use,
            places: verdict.places,
            key_in_use: verdict.key_in_use,
            key_share: verdict.key_share,
        })
    }

    /// Give a place back; false when the key holds none there.
    fn done(&mut self, point: &str, lane: &str, key: &str) -> PyResult<bool> {
        let point = choose("point", point, Point::NAMES, Point::ALL)?;
        let lane = choose("lane", lane, Lane::NAMES, Lane::ALL)?;
        Ok(self.inner.done(point, lane, key))
    }

    /// Reference of the policy that decides now.
    #[getter]
    fn snapshot_ref(&self) -> Option<String> {
        self.inner.snapshot_ref().map(str::to_owned)
    }

    /// Places taken at ``point``.
    fn in_use(&self, point: &str) -> PyResult<u64> {
        let point = choose("point", point, Point::NAMES, Point::ALL)?;
        Ok(self.inner.in_use(point))
    }

    /// Keys that hold a place or a claim.
    #[getter]
    fn keys(&self) -> usize {
        self.inner.keys()
    }
}
