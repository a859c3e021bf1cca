//! What an edge decided, as values for the evidence.

use std::collections::VecDeque;

use crate::decision::Scope;
use crate::edge::watermark::Domain;
use crate::reason::Reason;
use crate::signal::{Emitter, Signal};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A high mark was crossed.
    Watermark(Domain),
    /// The producer must stop.
    FlowXoff,
    /// The producer may go on.
    FlowXon,
    /// The producer was given credits.
    CreditGrant(u64),
    /// Every item from the first sequence to the last was shed.
    DropNotice {
        /// Why.
        reason: Reason,
        /// First sequence.
        first: u64,
        /// Last sequence, included.
        last: u64,
    },
    /// Downstream must reset what it holds of the domain; the number is the first sequence lost.
    Discontinuity(u64),
    /// Admission refuses what comes at this scheduling point from now on; drop notices name the items.
    Shed(Scope),
}

/// One decision of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// When, microseconds; as told with the item.
    pub at_us: u64,
    /// Turn of the item that caused it, 0 for none.
    pub turn: u32,
    /// What happened.
    pub what: What,
}

impl What {
    /// The control signal that tells of it.
    #[must_use]
    pub const fn signal(self) -> Signal {
        match self {
            Self::Watermark(_) => Signal::Watermark,
            Self::FlowXoff => Signal::FlowXoff,
            Self::FlowXon => Signal::FlowXon,
            Self::CreditGrant(_) => Signal::CreditGrant,
            Self::DropNotice { .. } => Signal::DropNotice,
            Self::Discontinuity(_) => Signal::Discontinuity,
            Self::Shed(_) => Signal::Shed,
        }
    }

    /// Who emits that signal.
    #[must_use]
    pub const fn emitter(self) -> Emitter {
        match self {
            Self::Watermark(_) => Emitter::Rk13,
            Self::FlowXoff | Self::FlowXon | Self::CreditGrant(_) => Emitter::Rk14,
            Self::DropNotice { .. } => Emitter::Rk12,
            Self::Discontinuity(_) => Emitter::Rk15,
            Self::Shed(_) => Emitter::Rk25,
        }
    }

    /// Its reason, where the signal carries one.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Watermark(_) => Some(Reason::EdgeWatermarkHigh),
            Self::FlowXoff => Some(Reason::BackpressureAsserted),
            Self::FlowXon | Self::CreditGrant(_) => None,
            Self::DropNotice { reason, .. } => Some(reason),
            Self::Discontinuity(_) => Some(Reason::SyncDomainPartialLoss),
            Self::Shed(_) => Some(Reason::SchedulingPointShed),
        }
    }
}

impl Notice {
    /// The control signal that tells of it.
    #[must_use]
    pub const fn signal(&self) -> Signal {
        self.what.signal()
    }

    /// Who emits that signal.
    #[must_use]
    pub const fn emitter(&self) -> Emitter {
        self.what.emitter()
    }

    /// Its reason, where the signal carries one.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        self.what.reason()
    }
}

/// Notices that wait to be fetched.
pub const MAX_NOTICES: usize = 256;

/// The notices of one edge, oldest first; bounded, and what did not fit is counted.
#[derive(Debug, Default)]
pub struct Notices {
    waiting: VecDeque<Notice>,
    lost: u64,
}

impl Notices {
    /// Adds a notice. Neighbouring losses with one cause become one range.
    #[cold]
    pub fn push(&mut self, notice: Notice) {
        if let (
            Some(Notice { turn, what: What::DropNotice { reason, last, .. }, .. }),
            What::DropNotice { reason: next_reason, first: next, last: next_last },
        ) = (self.waiting.back_mut(), notice.what)
        {
            if *turn == notice.turn && *reason == next_reason && *last + 1 == next {
                *last = next_last;
                return;
            }
        }
        if self.waiting.len() >= MAX_NOTICES {
            self.lost += 1;
            return;
        }
        self.waiting.push_back(notice);
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Notice> {
        self.waiting.pop_front()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notices that did not fit because nobody fetched the earlier ones.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventScope;

    fn dropped(turn: u32, sequence: u64, reason: Reason) -> Notice {
        Notice { at_us: 0, turn, what: What::DropNotice { reason, first: sequence, last: sequence } }
    }

    #[test]
    fn ml001_ranges_join_only_what_was_really_dropped_for_one_cause() {
        use Reason::{QueuePressureDrop as Pressure, SyncAtomicDrop as Sync};
        let mut notices = Notices::default();
        for (turn, sequence, reason) in
            [(1, 4, Pressure), (1, 5, Pressure), (1, 7, Pressure), (2, 8, Pressure), (2, 9, Sync)]
        {
            notices.push(dropped(turn, sequence, reason));
        }
        let ranges: Vec<_> = std::iter::from_fn(|| notices.pop())
            .map(|notice| match notice.what {
                What::DropNotice { first, last, .. } => (notice.turn, first, last),
                other => unreachable!("{other:?}"),
            })
            .collect();
        assert_eq!(ranges, [(1, 4, 5), (1, 7, 7), (2, 8, 8), (2, 9, 9)]);
    }

    #[test]
    fn nobody_fetching_costs_no_memory() {
        let mut notices = Notices::default();
        for sequence in 0..1000 {
            notices.push(dropped(1, sequence * 2, Reason::QueuePressureDrop));
        }
        assert_eq!((notices.waiting.len(), notices.lost()), (MAX_NOTICES, 1000 - MAX_NOTICES as u64));
    }

    #[test]
    fn ct002_every_notice_is_legal_by_the_registry() {
        let all = [
            What::Watermark(Domain::Ms),
            What::FlowXoff,
            What::FlowXon,
            What::CreditGrant(1),
            What::DropNotice { reason: Reason::SyncAtomicDrop, first: 1, last: 1 },
            What::Discontinuity(1),
            What::Shed(Scope::EdgeEnqueue),
        ];
        for what in all {
            let notice = Notice { at_us: 0, turn: 1, what };
            for scope in EventScope::ALL {
                assert!(
                    notice.signal().legal(notice.emitter(), *scope, notice.reason().is_some()),
                    "{what:?}"
                );
            }
        }
    }
}
