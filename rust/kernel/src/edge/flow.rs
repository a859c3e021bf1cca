//! How a producer is told to stop and to go on: signals, credits, or both (RK-14).
//!
//! | mode | it may send | it is told |
//! |---|---|---|
//! | `signal` | until `flow_xoff`, again after `flow_xon` | xoff, xon |
//! | `credit` | one item for each credit held | grants |
//! | `hybrid` | freely until `flow_xoff`, then a burst of credits | all three |

use crate::names::named_enum;

named_enum! {
    /// How the flow of one lane is controlled.
    pub enum FlowMode {
        Signal => "signal", Credit => "credit", Hybrid => "hybrid",
    }
}

/// The flow control of one edge.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    mode: FlowMode,
    open: bool,
    window: u64,
    batch: u64,
    credits: u64,
    freed: u64,
}

/// What changed for the producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// It may go on.
    pub xon: bool,
    /// Credits it was given.
    pub granted: u64,
}

impl Flow {
    /// An open flow. All credits are granted at once: the whole way to the high mark in credit mode,
    /// what fits above it in hybrid mode.
    #[must_use]
    pub fn new(mode: FlowMode, max_items: u64, high_items: u64, low_items: u64) -> Self {
        let window = match mode {
            FlowMode::Signal => 0,
            FlowMode::Credit => high_items,
            FlowMode::Hybrid => (max_items - high_items).max(1),
        };
        // Fewer and larger grants: one when the queue has fallen from the high mark to the low one.
        Self { mode, open: true, window, batch: high_items - low_items, credits: window, freed: 0 }
    }

    /// Credits that the producer holds.
    #[must_use]
    pub const fn credits(&self) -> u64 {
        self.credits
    }

    /// Whether the producer may send an item now.
    #[inline]
    #[must_use]
    pub const fn may_send(&self) -> bool {
        match self.mode {
            FlowMode::Signal => self.open,
            FlowMode::Credit => self.credits > 0,
            FlowMode::Hybrid => self.open || self.credits > 0,
        }
    }

    /// Whether there is flow for one more item; under signals the bounds alone decide that, since a
    /// signal needs time to arrive.
    #[inline]
    #[must_use]
    pub const fn admits(&self) -> bool {
        matches!(self.mode, FlowMode::Signal) || self.may_send()
    }

    /// An item was taken in.
    #[inline]
    pub fn spend(&mut self) {
        let costs = match self.mode {
            FlowMode::Signal => false,
            FlowMode::Credit => true,
            FlowMode::Hybrid => !self.open,
        };
        if costs {
            self.credits = self.credits.saturating_sub(1);
        }
    }

    /// There is pressure; true when an xoff has to be sent.
    #[inline]
    pub fn stop(&mut self) -> bool {
        let sent = self.open && self.mode != FlowMode::Credit;
        self.open = false;
        sent
    }

    /// `removed` items left, `waiting` are there still, and the pressure is over when `calm`.
    #[inline]
    pub fn relieve(&mut self, removed: u64, waiting: u64, calm: bool) -> Change {
        let mut change = Change::default();
        if self.mode == FlowMode::Credit {
            self.freed += removed;
            if self.freed >= self.batch || (waiting == 0 && self.freed > 0) {
                change.granted = self.freed;
                self.credits += self.freed;
                self.freed = 0;
            }
        }
        if calm && !self.open {
            self.open = true;
            change.xon = self.mode != FlowMode::Credit;
            if self.mode == FlowMode::Hybrid {
                change.granted = self.window - self.credits;
                self.credits = self.window;
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_stop_and_go_once() {
        let mut flow = Flow::new(FlowMode::Signal, 9, 6, 3);
        assert!(flow.may_send() && flow.stop() && !flow.stop());
        assert!(!flow.may_send() && flow.admits());
        assert_eq!(flow.relieve(1, 5, false), Change::default());
        assert_eq!(flow.relieve(1, 3, true), Change { xon: true, granted: 0 });
        assert_eq!(flow.relieve(1, 2, true), Change::default());
    }

    #[test]
    fn g14_credits_never_send_a_signal() {
        let mut flow = Flow::new(FlowMode::Credit, 9, 6, 3);
        assert_eq!(flow.credits(), 6);
        for _ in 0..6 {
            assert!(flow.admits());
            flow.spend();
        }
        assert!(!flow.admits() && !flow.stop());
        assert_eq!(flow.relieve(2, 4, true), Change::default());
        assert_eq!(flow.relieve(1, 3, true), Change { xon: false, granted: 3 });
        assert_eq!(flow.relieve(1, 0, true), Change { xon: false, granted: 1 });
    }

    #[test]
    fn g14_hybrid_sends_a_burst_after_the_xoff_and_refills_it_with_the_xon() {
        let mut flow = Flow::new(FlowMode::Hybrid, 9, 7, 3);
        flow.spend();
        assert_eq!(flow.credits(), 2);
        assert!(flow.stop());
        flow.spend();
        assert!(flow.admits());
        flow.spend();
        assert!(!flow.admits() && !flow.may_send());
        assert_eq!(flow.relieve(6, 3, true), Change { xon: true, granted: 2 });
        assert!(flow.may_send() && flow.stop());
        flow.spend();
        assert_eq!(flow.relieve(6, 3, true), Change { xon: true, granted: 1 });
        assert_eq!(flow.credits(), 2);
    }
}
