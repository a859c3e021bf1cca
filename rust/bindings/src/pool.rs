//! The execution pool as a Python class.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rspp_kernel::event::Lane;
use rspp_kernel::pool::{self, Next, Placement, Task};

use crate::edge::choose;

/// Slots and a bounded queue for blocking work; it runs nothing by itself.
#[pyclass(module = "rspp._kernel")]
pub(crate) struct ExecutionPool {
    inner: pool::ExecutionPool,
}

#[pymethods]
impl ExecutionPool {
    #[new]
    fn new(slots: usize, max_queue: usize) -> PyResult<Self> {
        if slots == 0 {
            return Err(PyValueError::new_err("slots is 0: a pool needs at least one"));
        }
        Ok(Self { inner: pool::ExecutionPool::new(slots, max_queue) })
    }

    /// Hand in a task; returns what became of it and the task that lost its place to it.
    #[pyo3(signature = (now_us, task, *, key, seat, deadline_us, lane = "DataLane"))]
    fn submit(
        &mut self,
        now_us: u64,
        task: u64,
        key: u32,
        seat: u32,
        deadline_us: u64,
        lane: &str,
    ) -> PyResult<(&'static str, Option<u64>)> {
        let lane = choose("lane", lane, Lane::NAMES, Lane::ALL)?;
        match self.inner.submit(now_us, Task { id: task, lane, key, seat, deadline_us }) {
            Placement::Slot => Ok(("slot", None)),
            Placement::Queued { displaced, .. } => Ok(("queued", displaced)),
            Placement::Rejected => Ok(("rejected", None)),
            Placement::Stuck => Ok(("stuck", None)),
            Placement::Duplicate => {
                Err(PyValueError::new_err(format!("task {task} is here already: number tasks once")))
            }
        }
    }

    /// Take the next task that may run or has waited for too long; or none.
    fn next(&mut self, now_us: u64) -> Option<(&'static str, u64, u64)> {
        Some(match self.inner.next(now_us)? {
            Next::Run { id, queue_us } => ("run", id, queue_us),
            Next::Expired { id, queue_us } => ("expired", id, queue_us),
        })
    }

    /// Say that a running task is over; returns how long it waited and ran, or none when it did not run.
    fn finish(&mut self, now_us: u64, task: u64) -> Option<(u64, u64, bool)> {
        self.inner.finish(now_us, task).map(|timing| (timing.queue_us, timing.run_us, timing.late))
    }

    /// Take a task back that waits; false when it does not wait.
    fn withdraw(&mut self, task: u64) -> bool {
        self.inner.withdraw(task)
    }

    /// Take the next running task whose deadline has passed; each is told once.
    fn overdue(&mut self, now_us: u64) -> Option<u64> {
        self.inner.overdue(now_us)
    }

    /// When ``next`` and ``overdue`` are to be asked again if nothing ends before.
    #[getter]
    fn due_us(&self) -> Option<u64> {
        self.inner.due_us()
    }

    /// Tasks that wait.
    #[getter]
    fn waiting(&self) -> usize {
        self.inner.waiting()
    }

    /// Tasks that run.
    #[getter]
    fn running(&self) -> usize {
        self.inner.running()
    }

    /// Most tasks that ever run at once.
    #[getter]
    fn most(&self) -> usize {
        self.inner.most()
    }
}
