//! Edges between nodes: four bounds, hysteresis watermarks, a named strategy under pressure.

pub mod buffer;
pub mod watermark;
