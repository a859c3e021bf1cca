//! Evidence blocks as the JSON lines that the kernel itself would have given.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rspp_kernel::evidence::codec::{self, Entry};
use rspp_kernel::evidence::json::Context;

/// Reads the blocks of one stint.
#[pyclass(frozen, module = "rspp._kernel")]
struct RecordDecoder {
    context: Context,
}

#[pymethods]
impl RecordDecoder {
    #[new]
    #[pyo3(signature = (*, session_id, pipeline_version, created_us, created_wall_ms))]
    fn new(session_id: &str, pipeline_version: &str, created_us: u64, created_wall_ms: u64) -> Self {
        Self { context: Context::new(session_id, pipeline_version, created_us, created_wall_ms) }
    }

    /// The records of one block as JSON objects in UTF-8, oldest first.
    fn decode<'py>(&self, py: Python<'py>, block: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let decoded = codec::decode(block).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let list = PyList::empty(py);
        let mut line = String::with_capacity(512);
        for entry in &decoded.entries {
            line.clear();
            match entry {
                Entry::Record(record) => self.context.render(record, &decoded.words, &mut line),
                Entry::Gap(gap) => self.context.render_gap(*gap, &mut line),
            }
            list.append(PyBytes::new(py, line.as_bytes()))?;
        }
        Ok(list)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RecordDecoder>()
}
