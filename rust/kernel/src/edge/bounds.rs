//! What an edge is told: its lane, its strategy, its bounds and marks.

use crate::edge::flow::FlowMode;
use crate::edge::sync::{SyncMode, SyncPolicy};
use crate::event::Lane;
use crate::names::named_enum;

named_enum! {
    /// What an edge does when a bound would be passed.
    pub enum Strategy {
        Block => "block", Drop => "drop", Merge => "merge", Sample => "sample",
        LatestOnly => "latest_only", BestEffortDrop => "best_effort_drop",
        NonBlockingPriority => "non_blocking_priority",
    }
}

impl Strategy {
    /// Whether items of `lane` may be handled so (section 5.2 of the contracts).
    #[must_use]
    pub const fn serves(self, lane: Lane) -> bool {
        matches!(
            (lane, self),
            (Lane::Control, Self::NonBlockingPriority)
                | (Lane::Data, Self::Block | Self::Drop | Self::Merge | Self::Sample | Self::LatestOnly)
                | (Lane::Telemetry, Self::Drop | Self::Sample | Self::BestEffortDrop)
        )
    }

    /// Whether items may be shed because of pressure before any producer was made to wait.
    #[must_use]
    pub const fn sheds(self) -> bool {
        !matches!(self, Self::Block | Self::NonBlockingPriority)
    }
}

/// Bounds and marks of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most items.
    pub max_items: u64,
    /// Most milliseconds of items together.
    pub max_ms: u64,
    /// Most bytes of items together.
    pub max_bytes: u64,
    /// Longest time an item may wait, milliseconds.
    pub max_latency_ms: u64,
    /// Items at which the producer must stop.
    pub high_items: u64,
    /// Items at which it may go on.
    pub low_items: u64,
    /// Milliseconds at which the producer must stop; 0 together with `low_ms` for no such mark.
    pub high_ms: u64,
    /// Milliseconds at which it may go on.
    pub low_ms: u64,
    /// How long a producer may be refused before items are shed; needed by a blocking edge.
    pub max_block_ms: Option<u64>,
}

/// Everything an edge is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Lane of its items.
    pub lane: Lane,
    /// What it does under pressure.
    pub strategy: Strategy,
    /// Its bounds and marks.
    pub bounds: Bounds,
    /// How its producer is told to stop and go on.
    pub flow: FlowMode,
    /// What a loss means for items that belong together.
    pub sync: SyncPolicy,
    /// Under pressure a sampling edge keeps one of this many items.
    pub sample_every: u64,
}

impl EdgeSettings {
    /// A data edge under signal flow control, without coupled items.
    #[must_use]
    pub const fn data(strategy: Strategy, bounds: Bounds) -> Self {
        let (flow, sync) = (FlowMode::Signal, SyncPolicy::NONE);
        Self { lane: Lane::Data, strategy, bounds, flow, sync, sample_every: 2 }
    }
}

/// A bound out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundsError {
    /// Name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for BoundsError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} is {}: {}", self.field, self.value, self.remedy)
    }
}

impl std::error::Error for BoundsError {}

/// Most items that any edge may be told to hold.
pub const MAX_ITEMS: u64 = 1_000_000;
/// Longest time in milliseconds that an edge may be told, in a year's range and free of overflow.
pub const MAX_MS: u64 = 1_u64 << 40;

/// Checks that `value` lies from `low` to `high`.
///
/// # Errors
/// It does not.
pub fn within(field: &'static str, value: u64, low: u64, high: u64) -> Result<(), BoundsError> {
    if value >= low && value <= high {
        return Ok(());
    }
    let remedy = format!("choose a value from {low} to {high}");
    Err(BoundsError { field, value: value.to_string(), remedy })
}

impl EdgeSettings {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), BoundsError> {
        let bounds = &self.bounds;
        if !self.strategy.serves(self.lane) {
            let serving = Strategy::ALL.iter().filter(|strategy| strategy.serves(self.lane));
            let names: Vec<_> = serving.map(|strategy| strategy.name()).collect();
            let remedy = format!("choose one of {} on the {}", names.join(", "), self.lane.name());
            return Err(BoundsError {
                field: "strategy",
                value: format!("{:?}", self.strategy.name()),
                remedy,
            });
        }
        if self.lane == Lane::Control && self.sync.mode != SyncMode::NoSync {
            let remedy = String::from("choose no_sync: nothing on the ControlLane is ever shed");
            let value = format!("{:?}", self.sync.mode.name());
            return Err(BoundsError { field: "sync_policy", value, remedy });
        }
        within("max_items", bounds.max_items, 1, MAX_ITEMS)?;
        within("max_ms", bounds.max_ms, 1, MAX_MS)?;
        within("max_bytes", bounds.max_bytes, 1, u64::MAX)?;
        within("max_latency_ms", bounds.max_latency_ms, 1, MAX_MS)?;
        within("high_items", bounds.high_items, 1, bounds.max_items)?;
        within("low_items", bounds.low_items, 0, bounds.high_items - 1)?;
        if bounds.high_ms != 0 || bounds.low_ms != 0 {
            within("high_ms", bounds.high_ms, 1, bounds.max_ms)?;
            within("low_ms", bounds.low_ms, 0, bounds.high_ms - 1)?;
        }
        within("sample_every", self.sample_every, 2, MAX_ITEMS)?;
        match bounds.max_block_ms {
            Some(value) => within("max_block_ms", value, 1, MAX_MS),
            None if self.strategy == Strategy::Block => Err(BoundsError {
                field: "max_block_ms",
                value: String::from("missing"),
                remedy: String::from("say how long the producer of a blocking edge may be made to wait"),
            }),
            None => Ok(()),
        }
    }
}
