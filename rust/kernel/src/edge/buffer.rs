//! A bounded queue of items that carry their turn.

use std::collections::VecDeque;

use crate::edge::watermark::Watermark;
use crate::names::named_enum;

named_enum! {
    /// What an edge does when a bound would be passed.
    pub enum Strategy {
        Block => "block", Drop => "drop", LatestOnly => "latest_only",
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
    /// Items at which the producer must stop.
    pub high_items: u64,
    /// Items at which it may go on.
    pub low_items: u64,
}

/// A bound out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundsError {
    /// Name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
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

impl Bounds {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), BoundsError> {
        let ranges = [
            ("max_items", self.max_items, 1, MAX_ITEMS),
            ("max_ms", self.max_ms, 1, u64::MAX / 1000),
            ("max_bytes", self.max_bytes, 1, u64::MAX),
            ("high_items", self.high_items, 1, self.max_items),
            ("low_items", self.low_items, 0, self.high_items.saturating_sub(1)),
        ];
        for (field, value, low, high) in ranges {
            if value < low || value > high {
                let remedy = format!("choose a value from {low} to {high}");
                return Err(BoundsError { field, value, remedy });
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    turn: u32,
    duration_us: u64,
    size: u64,
}

/// The queue of one edge.
#[derive(Debug)]
pub struct EdgeBuffer<T> {
    items: VecDeque<Waiting<T>>,
    strategy: Strategy,
    max_items: usize,
    max_us: u64,
    max_bytes: u64,
    queued_us: u64,
    queued_bytes: u64,
    mark: Watermark,
    shed: u64,
    depth_peak: usize,
}

impl<T> EdgeBuffer<T> {
    /// An empty edge.
    ///
    /// # Errors
    /// A bound is out of range.
    pub fn new(strategy: Strategy, bounds: Bounds) -> Result<Self, BoundsError> {
        bounds.validate()?;
        let items = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Ok(Self {
            items: VecDeque::with_capacity(items(bounds.max_items).min(64)),
            strategy,
            max_items: items(bounds.max_items),
            max_us: bounds.max_ms * 1000,
            max_bytes: bounds.max_bytes,
            queued_us: 0,
            queued_bytes: 0,
            mark: Watermark::new(items(bounds.high_items), items(bounds.low_items)),
            shed: 0,
            depth_peak: 0,
        })
    }

    /// Enqueues; false when the item was refused or shed.
    ///
    /// An item that cannot fit even into an empty edge is shed under every strategy: making its
    /// producer wait would never end.
    pub fn put(&mut self, item: T, turn: u32, duration_us: u64, size: u64) -> bool {
        if duration_us > self.max_us || size > self.max_bytes {
            self.shed += 1;
            return false;
        }
        if !self.fits(duration_us, size) {
            match self.strategy {
                Strategy::Block => {
                    self.mark.refused(self.items.len());
                    return false;
                }
                Strategy::Drop => {
                    self.mark.refused(self.items.len());
                    self.shed += 1;
                    return false;
                }
                Strategy::LatestOnly => {
                    self.shed += self.items.len() as u64;
                    self.forget();
                }
            }
        }
        self.items.push_back(Waiting { item, turn, duration_us, size });
        self.queued_us += duration_us;
        self.queued_bytes += size;
        self.depth_peak = self.depth_peak.max(self.items.len());
        self.mark.rose(self.items.len());
        true
    }

    fn fits(&self, duration_us: u64, size: u64) -> bool {
        self.items.len() < self.max_items
            && duration_us <= self.max_us - self.queued_us
            && size <= self.max_bytes - self.queued_bytes
    }

    /// Dequeues the oldest item.
    pub fn get(&mut self) -> Option<T> {
        let waiting = self.items.pop_front()?;
        self.queued_us -= waiting.duration_us;
        self.queued_bytes -= waiting.size;
        self.mark.fell(self.items.len());
        Some(waiting.item)
    }

    /// Removes every item of `turn` and of earlier turns; returns how many.
    pub fn fence(&mut self, turn: u32) -> usize {
        let before = self.items.len();
        self.items.retain(|waiting| waiting.turn > turn);
        self.queued_us = self.items.iter().map(|waiting| waiting.duration_us).sum();
        self.queued_bytes = self.items.iter().map(|waiting| waiting.size).sum();
        self.mark.fell(self.items.len());
        before - self.items.len()
    }

    /// Removes everything; returns how many.
    pub fn clear(&mut self) -> usize {
        let before = self.items.len();
        self.forget();
        before
    }

    fn forget(&mut self) {
        self.items.clear();
        self.queued_us = 0;
        self.queued_bytes = 0;
        self.mark.fell(0);
    }

    /// The waiting items, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|waiting| &waiting.item)
    }

    /// Items waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// False between the high and the low mark: the producer must wait.
    #[must_use]
    pub const fn flowing(&self) -> bool {
        self.mark.flowing()
    }

    /// Durations waiting together, microseconds.
    #[must_use]
    pub const fn queued_us(&self) -> u64 {
        self.queued_us
    }

    /// Sizes waiting together, bytes.
    #[must_use]
    pub const fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Items shed since the start.
    #[must_use]
    pub const fn shed(&self) -> u64 {
        self.shed
    }

    /// Most items that ever waited.
    #[must_use]
    pub const fn depth_peak(&self) -> usize {
        self.depth_peak
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, EdgeBuffer, Strategy};
    use proptest::prelude::*;

    fn bounds() -> Bounds {
        Bounds { max_items: 4, max_ms: 100, max_bytes: 1000, high_items: 3, low_items: 1 }
    }

    fn edge(strategy: Strategy) -> EdgeBuffer<u32> {
        EdgeBuffer::new(strategy, bounds()).expect("valid bounds")
    }

    #[test]
    fn block_refuses_and_sheds_nothing() {
        let mut edge = edge(Strategy::Block);
        assert!(edge.put(1, 1, 60_000, 10));
        assert!(!edge.put(2, 1, 60_000, 10));
        assert!(!edge.flowing());
        assert_eq!((edge.len(), edge.shed()), (1, 0));
        assert_eq!(edge.get(), Some(1));
        assert!(edge.flowing() && edge.is_empty());
    }

    #[test]
    fn drop_sheds_the_arriving_and_latest_only_the_waiting() {
        let mut drop = edge(Strategy::Drop);
        let mut latest = edge(Strategy::LatestOnly);
        for item in 1..=4 {
            assert!(drop.put(item, 1, 20_000, 10) && latest.put(item, 1, 20_000, 10));
        }
        assert!(!drop.put(5, 1, 20_000, 10));
        assert_eq!((drop.len(), drop.shed(), drop.get()), (4, 1, Some(1)));
        assert!(latest.put(5, 1, 20_000, 10));
        assert_eq!((latest.len(), latest.shed(), latest.get()), (1, 4, Some(5)));
        assert_eq!((drop.depth_peak(), latest.queued_bytes()), (4, 0));
    }

    #[test]
    fn what_can_never_fit_is_shed_and_stops_nobody() {
        for strategy in Strategy::ALL {
            let mut edge = edge(*strategy);
            assert!(!edge.put(1, 1, 100_001, 1));
            assert!(!edge.put(1, 1, 1, 1001));
            assert!(edge.flowing());
            assert_eq!(edge.shed(), 2);
        }
    }

    #[test]
    fn a_fence_removes_a_turn_wherever_it_waits() {
        let mut edge = edge(Strategy::Block);
        for (item, turn) in [(1, 1), (2, 2), (3, 1), (4, 3)] {
            assert!(edge.put(item, turn, 10_000, 100));
        }
        assert!(!edge.flowing());
        assert_eq!(edge.fence(2), 3);
        assert!(edge.flowing());
        assert_eq!((edge.queued_us(), edge.queued_bytes()), (10_000, 100));
        assert_eq!(edge.iter().copied().collect::<Vec<_>>(), [4]);
        assert_eq!((edge.clear(), edge.get(), edge.shed()), (1, None, 0));
    }

    #[test]
    fn wrong_bounds_are_named() {
        let wrong = [
            (Bounds { max_items: 0, ..bounds() }, "max_items"),
            (Bounds { max_ms: 0, ..bounds() }, "max_ms"),
            (Bounds { max_bytes: 0, ..bounds() }, "max_bytes"),
            (Bounds { high_items: 5, ..bounds() }, "high_items"),
            (Bounds { low_items: 3, ..bounds() }, "low_items"),
        ];
        for (bounds, field) in wrong {
            let error = EdgeBuffer::<u32>::new(Strategy::Drop, bounds).expect_err("refused");
            assert_eq!(error.field, field);
        }
    }

    proptest! {
        #[test]
        fn no_bound_is_ever_passed(
            strategy in prop::sample::select(Strategy::ALL),
            operations in prop::collection::vec((0u8..5, 1u32..6, 0u64..60_000, 0u64..600), 1..200),
        ) {
            let mut edge = edge(strategy);
            let (mut put, mut out) = (0, 0);
            for (operation, turn, duration_us, size) in operations {
                let before = edge.len();
                match operation {
                    0 => out += u64::from(edge.get().is_some()),
                    1 => out += edge.fence(turn) as u64,
                    _ => {
                        put += 1;
                        let refused = !edge.put(put, turn, duration_us, size);
                        if strategy == Strategy::Block && refused {
                            out += 1;
                            prop_assert_eq!(edge.len(), before);
                        }
                    }
                }
                let bounds = bounds();
                prop_assert!(edge.len() as u64 <= bounds.max_items);
                prop_assert!(edge.queued_us() <= bounds.max_ms * 1000);
                prop_assert!(edge.queued_bytes() <= bounds.max_bytes);
                prop_assert!(edge.flowing() || !edge.is_empty());
                let accounted = out + edge.shed() + edge.len() as u64;
                prop_assert_eq!(u64::from(put), accounted - if strategy == Strategy::Block { edge.shed() } else { 0 });
            }
        }
    }
}
