//! The egress gate: one open turn at a time, holds, and a fence that closes in the same step.

use crate::names::named_enum;

named_enum! {
    /// May a frame leave?
    pub enum Verdict {
        Pass => "pass", Held => "held", Fenced => "fenced", StaleEpoch => "stale_epoch",
        LeaseExpired => "lease_expired",
    }
}

/// Who holds the voice back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hold {
    /// The caller's voice.
    Speech = 1,
    /// The connection.
    Connection = 2,
}

/// The gate of one session. No turn may pass unless it is the open one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    turn: u32,
    holds: u8,
    next_sequence: u64,
    frames: u64,
    samples: u64,
    last_pass_us: u64,
}

impl Gate {
    /// Opens the gate for `turn`; turn numbers start at 1.
    pub fn open(&mut self, turn: u32, now_us: u64) {
        *self = Self { turn, last_pass_us: now_us, ..Self::default() };
    }

    /// Closes the fence: from now on nothing of the turn leaves. Returns the samples that had passed.
    pub fn close(&mut self) -> u64 {
        self.turn = 0;
        self.holds = 0;
        self.samples
    }

    /// Holds the voice; true when it was not held before.
    pub fn hold(&mut self, hold: Hold) -> bool {
        let before = self.holds;
        self.holds |= hold as u8;
        before == 0
    }

    /// Ends one hold; true when no other remains.
    pub fn release(&mut self, hold: Hold, now_us: u64) -> bool {
        let before = self.holds;
        self.holds &= !(hold as u8);
        let released = before != 0 && self.holds == 0;
        if released {
            self.last_pass_us = now_us;
        }
        released
    }

    /// Whether this hold is on.
    #[must_use]
    pub const fn held_by(&self, hold: Hold) -> bool {
        self.holds & hold as u8 != 0
    }

    /// Whether the voice is held.
    #[must_use]
    pub const fn held(&self) -> bool {
        self.holds != 0
    }

    /// Frames of the open turn that have passed.
    #[inline]
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// When the last frame passed, the last hold ended or the turn opened, whichever is latest.
    #[must_use]
    pub const fn waiting_since_us(&self) -> u64 {
        self.last_pass_us
    }

    /// Decides one frame whose epoch was found right.
    #[inline]
    pub fn check(&mut self, turn: u32, sequence: u64, samples: u64, now_us: u64) -> Verdict {
        if turn != self.turn || turn == 0 {
            return Verdict::Fenced;
        }
        if self.holds != 0 {
            return Verdict::Held;
        }
        if sequence < self.next_sequence || sequence == u64::MAX {
            return Verdict::Fenced;
        }
        self.next_sequence = sequence + 1;
        self.frames += 1;
        self.samples = self.samples.saturating_add(samples);
        self.last_pass_us = now_us;
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Gate {
        let mut gate = Gate::default();
        gate.open(1, 0);
        gate
    }

    #[test]
    fn only_the_open_turn_passes_and_only_forwards() {
        let mut gate = open();
        assert_eq!(gate.check(2, 0, 480, 1), Verdict::Fenced);
        assert_eq!(gate.check(1, 0, 480, 1), Verdict::Pass);
        assert_eq!(gate.check(1, 0, 480, 2), Verdict::Fenced);
        assert_eq!(gate.check(1, 7, 480, 3), Verdict::Pass);
        assert_eq!(gate.check(1, 6, 480, 4), Verdict::Fenced);
        assert_eq!(gate.check(1, u64::MAX, 480, 4), Verdict::Fenced);
        assert_eq!((gate.frames(), gate.waiting_since_us()), (2, 3));
        assert_eq!(gate.close(), 960);
        assert_eq!(gate.check(1, 8, 480, 5), Verdict::Fenced);
        assert_eq!(gate.check(0, 8, 480, 5), Verdict::Fenced);
    }

    #[test]
    fn a_held_frame_keeps_its_place() {
        let mut gate = open();
        assert!(gate.hold(Hold::Speech));
        assert_eq!(gate.check(1, 0, 480, 1), Verdict::Held);
        assert!(gate.release(Hold::Speech, 9));
        assert_eq!(gate.waiting_since_us(), 9);
        assert_eq!(gate.check(1, 0, 480, 10), Verdict::Pass);
        assert_eq!(gate.close(), 480);
    }

    #[test]
    fn two_holds_both_must_end() {
        let mut gate = open();
        assert!(gate.hold(Hold::Speech));
        assert!(!gate.hold(Hold::Connection));
        assert!(!gate.release(Hold::Speech, 1));
        assert!(gate.held() && gate.held_by(Hold::Connection) && !gate.held_by(Hold::Speech));
        assert!(gate.release(Hold::Connection, 2));
        assert!(!gate.release(Hold::Connection, 3));
    }
}
