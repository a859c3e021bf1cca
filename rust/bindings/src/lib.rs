//! `rspp._kernel`: the Python face of the kernel. Conversions only; every decision is the kernel's.

mod admission;
mod bundle;
mod document;
mod edge;
mod effects;
mod lane;
mod node;
mod policy;
mod pool;
mod record_decoder;
mod replay;
mod segment;
mod session;
mod state;
mod tables;

use pyo3::prelude::*;

#[pymodule]
fn _kernel(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", rspp_kernel::VERSION)?;
    module.add("BUILD_PROFILE", rspp_kernel::BUILD_PROFILE)?;
    tables::register(module)?;
    document::register(module)?;
    policy::register(module)?;
    effects::register(module)?;
    session::register(module)?;
    segment::register(module)?;
    replay::register(module)?;
    edge::register(module)?;
    node::register(module)?;
    record_decoder::register(module)?;
    module.add_class::<lane::LaneRouter>()?;
    module.add_class::<state::SessionState>()?;
    module.add_class::<admission::Admission>()?;
    module.add_class::<admission::AdmissionVerdict>()?;
    module.add_class::<pool::ExecutionPool>()?;
    // The stub is the list of names; a second list could only disagree with it.
    module.delattr("__all__")
}
