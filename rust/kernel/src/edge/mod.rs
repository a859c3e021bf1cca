//! Edges between nodes: four bounds, hysteresis watermarks, a named strategy under pressure.
//!
//! A buffer decides and says what it decided as [`notice::Notice`] values, which a shell records; it
//! never waits and never calls anybody.

pub mod bounds;
pub mod buffer;
pub mod flow;
pub mod item;
pub mod lineage;
pub mod notice;
pub mod sync;
pub mod watermark;

#[cfg(test)]
mod tests;
