//! The preallocated ring of Stage A, with a reserve for terminal markers.

use std::collections::VecDeque;

use crate::evidence::record::{Class, Record};

/// Records kept free for terminal markers.
pub const RESERVE: usize = 16;
/// Smallest ring.
pub const MIN_CAPACITY: usize = 256;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is stored.
    Stored,
    /// It was a detail and was shed.
    Shed,
    /// It was baseline evidence and there was no room: the turn must not go on.
    Lost,
}

/// Records that were lost in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first of them was lost, microseconds.
    pub at_us: u64,
    /// How many they are.
    pub records: u64,
    /// Stored records that come before the place.
    before: usize,
}

impl Gap {
    /// The note as it was read back.
    #[must_use]
    pub const fn noted(at_us: u64, records: u64) -> Self {
        Self { at_us, records, before: 0 }
    }
}

/// Stage A.
#[derive(Clone, Debug)]
pub struct StageA {
    records: VecDeque<Record>,
    capacity: usize,
    shed: u64,
    lost: u64,
    lost_known: u64,
    gap: Option<Gap>,
    borrowing: usize,
}

impl StageA {
    /// A ring of `capacity` records, at least [`MIN_CAPACITY`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(MIN_CAPACITY);
        Self {
            records: VecDeque::with_capacity(capacity),
            capacity,
            shed: 0,
            lost: 0,
            lost_known: 0,
            gap: None,
            borrowing: 0,
        }
    }

    /// Free places.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity - self.records.len()
    }

    /// Whether a record of this class would be stored.
    #[inline]
    #[must_use]
    pub fn takes(&self, class: Class) -> bool {
        let free = self.free();
        match class {
            Class::Detail => free * 4 >= self.capacity,
            Class::Baseline => free > RESERVE,
            Class::Terminal => free > 0,
        }
    }

    /// Appends, sheds or refuses; never waits and never allocates.
    #[inline]
    pub fn append(&mut self, record: Record, class: Class) -> Appended {
        if self.takes(class) {
            self.borrowing += usize::from(record.body.borrows());
            self.records.push_back(record);
            return Appended::Stored;
        }
        if class == Class::Detail {
            self.shed += 1;
            Appended::Shed
        } else {
            self.lose(record.at_us);
            Appended::Lost
        }
    }

    /// Takes note of a record for which there was no room, here or for the words that it needs.
    pub fn lose(&mut self, at_us: u64) {
        self.lost += 1;
        let gap = Gap { at_us, records: 0, before: self.records.len() };
        self.gap.get_or_insert(gap).records += 1;
    }

    /// Stored records that refer to words which are only lent to them.
    #[must_use]
    pub const fn borrowing(&self) -> usize {
        self.borrowing
    }

    /// Takes the note of lost records out, when all that was stored before them is out.
    ///
    /// Whatever else is lost until then is counted in it.
    pub fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take_if(|gap| gap.before == 0)
    }

    /// Takes the oldest record out.
    pub fn pop(&mut self) -> Option<Record> {
        if let Some(gap) = &mut self.gap {
            gap.before = gap.before.saturating_sub(1);
        }
        let record = self.records.pop_front()?;
        self.borrowing -= usize::from(record.body.borrows());
        Some(record)
    }

    /// Detail records shed so far.
    #[must_use]
    pub const fn shed(&self) -> u64 {
        self.shed
    }

    /// Baseline and terminal records that found no room.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether a record was lost since [`StageA::take_loss`] was last asked.
    #[must_use]
    pub const fn losing(&self) -> bool {
        self.lost > self.lost_known
    }

    /// Takes note of the losses so far; true when there was one since the last time.
    pub fn take_loss(&mut self) -> bool {
        let losing = self.losing();
        self.lost_known = self.lost;
        losing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::record::{Body, Marker};

    fn record(value: u64) -> Record {
        let body = Body::Marker { name: Marker::LateEvent, value };
        Record { at_us: value, sequence: 0, epoch: 1, turn_epoch: 1, turn: 0, body }
    }

    #[test]
    fn details_go_first_then_baseline_and_terminal_markers_last() {
        let mut stage = StageA::new(0);
        assert_eq!(stage.free(), MIN_CAPACITY);
        let mut details = 0;
        while stage.append(record(details), Class::Detail) == Appended::Stored {
            details += 1;
        }
        assert_eq!(details, 193);
        assert_eq!((stage.shed(), stage.lost()), (1, 0));
        while stage.append(record(0), Class::Baseline) == Appended::Stored {}
        assert_eq!((stage.free(), stage.lost()), (RESERVE, 1));
        assert!(stage.losing() && stage.take_loss() && !stage.take_loss());
        for value in 0..16 {
            assert_eq!(stage.append(record(value), Class::Terminal), Appended::Stored);
        }
        assert_eq!(stage.append(record(0), Class::Terminal), Appended::Lost);
        assert_eq!(stage.pop(), Some(record(0)));
        assert_eq!(stage.append(record(0), Class::Terminal), Appended::Stored);
    }

    #[test]
    fn a_loss_is_noted_where_it_happened() {
        let mut stage = StageA::new(256);
        while stage.append(record(1), Class::Baseline) == Appended::Stored {}
        stage.append(record(2), Class::Baseline);
        for _ in 0..240 {
            assert_eq!(stage.take_gap(), None);
            assert!(stage.pop().is_some());
        }
        assert_eq!(stage.append(record(3), Class::Baseline), Appended::Stored);
        assert_eq!(stage.take_gap(), Some(Gap { at_us: 1, records: 2, before: 0 }));
        assert_eq!((stage.take_gap(), stage.pop()), (None, Some(record(3))));
    }

    #[test]
    fn a_record_stays_small_and_the_ring_never_grows() {
        assert!(std::mem::size_of::<Record>() <= 96, "{}", std::mem::size_of::<Record>());
        let mut stage = StageA::new(256);
        let allocated = stage.records.capacity();
        for value in 0..10_000 {
            stage.append(record(value), Class::Terminal);
            if value % 3 == 0 {
                stage.pop();
            }
        }
        assert_eq!(stage.records.capacity(), allocated);
    }
}
