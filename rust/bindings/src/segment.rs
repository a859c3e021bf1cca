//! The file format of evidence: framing, scanning and verifying the bytes of a segment.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rspp_kernel::evidence::segment::{scan, BlockKind, Chain, DamageCode, Link, Scan, LINK, MAGIC, MAX_BODY};

fn link_of(bytes: &[u8]) -> PyResult<Link> {
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("a link has {LINK} bytes, this one {}", bytes.len())))
}

/// The writing end of the chain of one segment.
#[pyclass(module = "rspp._kernel")]
struct SegmentChain(Chain);

#[pymethods]
impl SegmentChain {
    #[new]
    #[pyo3(signature = (previous, blocks = 0))]
    fn new(previous: &[u8], blocks: u64) -> PyResult<Self> {
        Ok(Self(Chain::resumed(link_of(previous)?, blocks)))
    }

    /// Return the block of `body`, which the next one follows.
    fn frame<'py>(&mut self, py: Python<'py>, kind: u8, body: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let known = BlockKind::of(kind)
            .ok_or_else(|| PyValueError::new_err(format!("block kind {kind} is not 1, 2 or 3")))?;
        let mut block = Vec::new();
        self.0.frame(known, body, &mut block).map_err(|error| {
            PyValueError::new_err(format!("body of {} bytes is longer than {MAX_BODY}", error.0))
        })?;
        Ok(PyBytes::new(py, &block))
    }

    /// The latest link.
    #[getter]
    fn link<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.link())
    }

    /// Blocks framed so far.
    #[getter]
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }
}

type BlockRow = (usize, u8, usize, usize, bool);
type DamageRow = (&'static str, usize, usize);

/// What a segment holds, and what is wrong with it.
#[pyclass(module = "rspp._kernel", frozen)]
struct SegmentScan(Scan);

#[pymethods]
impl SegmentScan {
    #[getter]
    fn blocks(&self) -> Vec<BlockRow> {
        let row = |block: &rspp_kernel::evidence::segment::Block| {
            (block.offset, block.kind, block.body_start, block.body_end, block.sound)
        };
        self.0.blocks.iter().map(row).collect()
    }

    #[getter]
    fn damage(&self) -> Vec<DamageRow> {
        self.0.damage.iter().map(|damage| (damage.code.name(), damage.offset, damage.block)).collect()
    }

    #[getter]
    fn link<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.link)
    }

    #[getter]
    fn whole(&self) -> usize {
        self.0.whole
    }

    #[getter]
    fn sealed(&self) -> bool {
        self.0.sealed
    }
}

fn scanned(py: Python<'_>, data: &[u8], previous: Option<&[u8]>, keep: bool) -> PyResult<SegmentScan> {
    let previous = previous.map(link_of).transpose()?;
    Ok(SegmentScan(py.detach(|| scan(data, previous, keep))))
}

/// Find the blocks of a segment and what is wrong with it.
#[pyfunction]
#[pyo3(signature = (data, previous = None))]
fn scan_segment(py: Python<'_>, data: &[u8], previous: Option<&[u8]>) -> PyResult<SegmentScan> {
    scanned(py, data, previous, true)
}

/// Find what is wrong with a segment, without the list of its blocks.
#[pyfunction]
#[pyo3(signature = (data, previous = None))]
fn verify_segment(py: Python<'_>, data: &[u8], previous: Option<&[u8]>) -> PyResult<SegmentScan> {
    scanned(py, data, previous, false)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SEGMENT_MAGIC", PyBytes::new(module.py(), &MAGIC))?;
    module.add("DAMAGE_CODES", DamageCode::NAMES.to_vec())?;
    module.add_class::<SegmentChain>()?;
    module.add_class::<SegmentScan>()?;
    module.add_function(wrap_pyfunction!(scan_segment, module)?)?;
    module.add_function(wrap_pyfunction!(verify_segment, module)?)
}
