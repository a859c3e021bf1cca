//! The marks of an edge: crossed at the high one, recovered only at the low one.

use crate::names::named_enum;

named_enum! {
    /// What a mark measures.
    pub enum Domain {
        Items => "queue_items", Ms => "queue_ms",
    }
}

/// High and low mark of one domain.
#[derive(Clone, Copy, Debug)]
struct Mark {
    high: u64,
    low: u64,
    above: bool,
}

impl Mark {
    #[inline]
    fn rose(&mut self, level: u64) -> bool {
        let crossed = !self.above && level >= self.high;
        self.above |= crossed;
        crossed
    }

    #[inline]
    fn fell(&mut self, level: u64) {
        self.above &= level > self.low;
    }
}

/// Both marks of an edge, and whether a bound was met between them.
#[derive(Clone, Copy, Debug)]
pub struct Watermarks {
    items: Mark,
    micros: Mark,
    bounded: bool,
}

/// Which marks one change crossed upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// The mark on items.
    pub items: bool,
    /// The mark on milliseconds.
    pub ms: bool,
}

impl Watermarks {
    /// Marks of an empty edge; each low mark is below its high one. No mark on time without `high_us`.
    #[must_use]
    pub const fn new(high_items: u64, low_items: u64, high_us: u64, low_us: u64) -> Self {
        let high_us = if high_us == 0 { u64::MAX } else { high_us };
        Self {
            items: Mark { high: high_items, low: low_items, above: false },
            micros: Mark { high: high_us, low: low_us, above: false },
            bounded: false,
        }
    }

    /// Whether no mark is crossed and no bound was met.
    #[inline]
    #[must_use]
    pub const fn calm(&self) -> bool {
        !(self.items.above || self.micros.above || self.bounded)
    }

    /// The queue grew to `items` and `micros`.
    #[inline]
    pub fn rose(&mut self, items: u64, micros: u64) -> Crossed {
        Crossed { items: self.items.rose(items), ms: self.micros.rose(micros) }
    }

    /// A bound would have been passed with `items` waiting.
    #[inline]
    pub fn refused(&mut self, items: u64) {
        self.bounded |= items > 0;
    }

    /// The queue shrank to `items` and `micros`.
    #[inline]
    pub fn fell(&mut self, items: u64, micros: u64) {
        self.items.fell(items);
        self.micros.fell(micros);
        // A bound is behind when the marks are: what met it was more than a crossing.
        self.bounded &= items > self.items.low;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_crosses_once_and_recovers_at_the_low_mark() {
        let mut marks = Watermarks::new(4, 2, 0, 0);
        assert!(!marks.rose(3, 9).items && marks.calm());
        assert_eq!(marks.rose(4, 9), Crossed { items: true, ms: false });
        assert_eq!(marks.rose(5, 9), Crossed { items: false, ms: false });
        marks.fell(3, 9);
        assert!(!marks.calm());
        assert!(!marks.rose(4, 9).items);
        marks.fell(2, 9);
        assert!(marks.calm());
        assert!(marks.rose(4, 9).items);
    }

    #[test]
    fn each_domain_recovers_by_itself() {
        let mut marks = Watermarks::new(4, 2, 100, 50);
        assert_eq!(marks.rose(4, 100), Crossed { items: true, ms: true });
        marks.fell(0, 51);
        assert!(!marks.calm());
        marks.fell(0, 50);
        assert!(marks.calm());
    }

    #[test]
    fn a_bound_met_between_the_marks_stops_the_producer_too() {
        let mut marks = Watermarks::new(4, 2, 0, 0);
        marks.refused(0);
        assert!(marks.calm());
        marks.refused(3);
        assert!(!marks.calm());
        marks.fell(3, 0);
        assert!(!marks.calm());
        marks.fell(2, 0);
        assert!(marks.calm());
    }
}
