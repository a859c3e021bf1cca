//! The kernel run again over recorded blocks.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rspp_kernel::evidence::codec;
use rspp_kernel::replay;
use rspp_kernel::replay::divergence;

use crate::policy::{PlanTemplate, ProviderPolicy, TurnPolicy};
use crate::session::SessionKernel;

/// One difference between a recording and its replay.
#[pyclass(frozen, eq, get_all, module = "rspp._kernel")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Divergence {
    class_: &'static str,
    scope: String,
    turn: u32,
    at_us: u64,
    index: u64,
    message: String,
    recorded: String,
    replayed: String,
    diff_us: Option<u64>,
    repeats: u64,
}

#[pymethods]
impl Divergence {
    fn __repr__(&self) -> String {
        format!("Divergence({} {} at {}: {})", self.class_, self.scope, self.index, self.message)
    }
}

impl From<&divergence::Divergence> for Divergence {
    fn from(found: &divergence::Divergence) -> Self {
        Self {
            class_: found.class.name(),
            scope: found.scope.clone(),
            turn: found.turn,
            at_us: found.at_us,
            index: found.index,
            message: found.message.clone(),
            recorded: found.recorded.clone(),
            replayed: found.replayed.clone(),
            diff_us: found.diff_us,
            repeats: found.repeats,
        }
    }
}

/// The same kernel once more over what it was given.
#[pyclass(module = "rspp._kernel")]
pub(crate) struct Replay {
    inner: replay::Replay,
}

#[pymethods]
impl Replay {
    #[new]
    #[pyo3(signature = (
        *, session_id, policy, plan, now_us, wall_clock_ms, evidence_capacity = 4096, providers = None,
        behaviours = None
    ))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    fn new(
        session_id: &str,
        policy: &TurnPolicy,
        plan: &PlanTemplate,
        now_us: u64,
        wall_clock_ms: u64,
        evidence_capacity: usize,
        providers: Option<&ProviderPolicy>,
        behaviours: Option<Vec<i64>>,
    ) -> PyResult<Self> {
        let kernel = SessionKernel::new(
            session_id,
            policy,
            plan,
            now_us,
            wall_clock_ms,
            evidence_capacity,
            providers,
            behaviours,
        )?;
        Ok(Self { inner: replay::Replay::new(kernel.inner) })
    }

    /// Take one recorded block, the next after those fed before.
    fn feed(&mut self, block: &[u8]) -> PyResult<()> {
        let decoded = codec::decode(block).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let words = &decoded.words;
        self.inner
            .feed(decoded.entries.iter().copied(), |label| words.text(label), |place| words.provenance(place))
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Say that records are missing between what was fed and what will be.
    fn feed_gap(&mut self, at_us: u64, records: u64) -> PyResult<()> {
        let gap = codec::Entry::Gap(rspp_kernel::evidence::ring::Gap::noted(at_us, records));
        self.inner.feed([gap], |_| "", |_| None).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Go on to the end of what was fed, which is the end of the recording.
    fn finish(&mut self, py: Python<'_>) {
        py.detach(|| self.inner.finish());
    }

    /// Go on by up to ``records`` records; returns how many it were.
    fn advance(&mut self, py: Python<'_>, records: u64) -> u64 {
        py.detach(|| self.inner.advance(records))
    }

    /// Go on to the last record that is not later than ``at_us``; returns how many it were.
    fn advance_to_us(&mut self, py: Python<'_>, at_us: u64) -> u64 {
        py.detach(|| self.inner.advance_to_us(at_us))
    }

    /// Go on until the recording speaks of that turn; false when it never does.
    fn advance_to_turn(&mut self, py: Python<'_>, turn: u32) -> bool {
        py.detach(|| self.inner.advance_to_turn(turn))
    }

    /// Index of the next record.
    #[getter]
    fn position(&self) -> u64 {
        self.inner.position()
    }

    /// Time of the latest record, microseconds.
    #[getter]
    fn at_us(&self) -> u64 {
        self.inner.at_us()
    }

    /// Number of the open turn, 0 when none is.
    #[getter]
    fn turn(&self) -> u32 {
        self.inner.kernel().turn()
    }

    /// State of the turn machine.
    #[getter]
    fn turn_state(&self) -> &'static str {
        self.inner.kernel().turn_state().name()
    }

    /// Epoch of the lease held, 0 before the first.
    #[getter]
    fn epoch(&self) -> u64 {
        self.inner.kernel().epoch()
    }

    /// Whether the voice is held.
    #[getter]
    fn held(&self) -> bool {
        self.inner.kernel().held()
    }

    /// Inputs given to the kernel.
    #[getter]
    fn inputs(&self) -> u64 {
        self.inner.inputs()
    }

    /// Recorded records that were compared.
    #[getter]
    fn compared(&self) -> u64 {
        self.inner.compared()
    }

    /// Where inputs are missing: time and number of records.
    #[getter]
    fn gap(&self) -> Option<(u64, u64)> {
        self.inner.gap().map(|gap| (gap.at_us, gap.records))
    }

    /// What differs up to the position, in order; the first 1,000.
    #[getter]
    fn divergences(&self) -> Vec<Divergence> {
        self.inner.found().listed().iter().map(Divergence::from).collect()
    }

    /// Divergences beyond those listed.
    #[getter]
    fn unlisted(&self) -> u64 {
        self.inner.found().unlisted()
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Divergence>()?;
    module.add_class::<Replay>()
}
