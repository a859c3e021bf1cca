//! The kernel of RSPP: every decision of a voice session as a pure state machine.
//!
//! Inputs go into [`session::SessionKernel::step`], evidence is appended, effects come out. There is
//! no clock, thread, I/O or randomness here, so the same inputs give the same effects and the same
//! evidence, byte for byte.

#![forbid(unsafe_code)]

pub mod admission;
pub mod authority;
pub mod behaviour;
pub mod budget;
pub mod bundle;
pub mod cancellation;
pub mod decision;
pub mod determinism;
pub mod document;
pub mod edge;
pub mod effect;
pub mod event;
pub mod evidence;
pub mod fence;
pub mod input;
pub mod interruption;
pub mod invocation;
pub mod lane;
pub mod migration;
mod names;
pub mod node;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod prelude;
pub mod reason;
pub mod replay;
pub mod session;
pub mod signal;
pub mod state;
pub mod turn;
pub mod vocabulary;

/// Version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `release` or `debug`.
pub const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
