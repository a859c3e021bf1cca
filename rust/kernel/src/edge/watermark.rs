//! The flow switch of an edge: off at the high mark, on again only at the low one.

/// High and low mark with hysteresis.
#[derive(Clone, Copy, Debug)]
pub struct Watermark {
    high: usize,
    low: usize,
    flowing: bool,
}

impl Watermark {
    /// A flowing edge; `low` is below `high`.
    #[must_use]
    pub const fn new(high: usize, low: usize) -> Self {
        Self { high, low, flowing: true }
    }

    /// Whether the producer may go on.
    #[must_use]
    pub const fn flowing(&self) -> bool {
        self.flowing
    }

    /// The queue grew to `items`.
    #[inline]
    pub fn rose(&mut self, items: usize) {
        if items >= self.high {
            self.flowing = false;
        }
    }

    /// A bound would have been passed with `items` waiting.
    #[inline]
    pub fn refused(&mut self, items: usize) {
        if items > 0 {
            self.flowing = false;
        }
    }

    /// The queue shrank to `items`.
    #[inline]
    pub fn fell(&mut self, items: usize) {
        if items <= self.low {
            self.flowing = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_switches_once_per_crossing() {
        let mut mark = Watermark::new(4, 2);
        mark.rose(3);
        assert!(mark.flowing());
        mark.rose(4);
        assert!(!mark.flowing());
        mark.fell(3);
        assert!(!mark.flowing());
        mark.fell(2);
        assert!(mark.flowing());
        mark.refused(1);
        assert!(!mark.flowing());
        mark.fell(0);
        mark.refused(0);
        assert!(mark.flowing());
    }
}
