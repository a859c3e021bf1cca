//! What an edge does with an item that does not fit.
//!
//! | strategy | the arriving item | the waiting ones |
//! |---|---|---|
//! | `block` | is refused; shed once its producer was refused for `max_block_ms` | stay |
//! | `drop` | is shed | stay |
//! | `merge` | joins the newest of its turn; shed where none can take it | grow |
//! | `sample` | is shed; above a mark one of `sample_every` is kept | stay |
//! | `latest_only` | is taken | are shed |
//! | `best_effort_drop` | is taken | the oldest are shed |
//! | `non_blocking_priority` | is refused, never shed | stay |

use super::{EdgeBuffer, MAX_LOSSES};
use crate::edge::bounds::Strategy;
use crate::edge::item::{Offer, Parts, Put, Waiting, MAX_PARTS};
use crate::edge::notice::What;
use crate::edge::sync::{Loss, SyncMode, SyncScope};
use crate::reason::Reason;

impl<T> EdgeBuffer<T> {
    /// Everything but the plain case: pressure, sampling, and items that belong together.
    pub(super) fn decide(&mut self, offer: Offer<T>, sequence: u64) -> Put {
        let strategy = self.settings.strategy;
        if self.lost.contains(offer.group) {
            return self.shed_arriving(&offer, sequence, Reason::SyncAtomicDrop);
        }
        if offer.duration_us > self.max_us || offer.size > self.max_bytes {
            if strategy == Strategy::NonBlockingPriority {
                return Put::Refused;
            }
            return self.shed_arriving(&offer, sequence, Reason::QueuePressureDrop);
        }
        if strategy == Strategy::Sample && !self.marks.calm() {
            self.sampled += 1;
            if !self.sampled.is_multiple_of(self.settings.sample_every) {
                return self.shed_arriving(&offer, sequence, Reason::QueuePressureDrop);
            }
        }
        if self.fits(offer.duration_us, offer.size) {
            return self.push(offer, sequence);
        }
        match strategy {
            Strategy::Block => {
                self.press(offer.turn);
                let since_us = *self.refused_since_us.get_or_insert(self.now_us);
                let patience_us = self.settings.bounds.max_block_ms.map_or(u64::MAX, |ms| ms * 1000);
                if self.now_us - since_us < patience_us {
                    self.refused = true;
                    return Put::Refused;
                }
                self.shed_arriving(&offer, sequence, Reason::QueuePressureDrop)
            }
            Strategy::NonBlockingPriority => {
                self.press(offer.turn);
                self.refused = true;
                Put::Refused
            }
            Strategy::Merge if self.can_merge(&offer) => self.merge(offer, sequence),
            Strategy::Drop | Strategy::Sample | Strategy::Merge => {
                self.press(offer.turn);
                self.shed_arriving(&offer, sequence, Reason::QueuePressureDrop)
            }
            Strategy::LatestOnly => {
                self.shed_waiting(self.items.len());
                self.push_unless_lost(offer, sequence)
            }
            Strategy::BestEffortDrop if !self.flow.admits() => {
                self.shed_arriving(&offer, sequence, Reason::QueuePressureDrop)
            }
            Strategy::BestEffortDrop => {
                self.press(offer.turn);
                while !self.fits(offer.duration_us, offer.size) && !self.items.is_empty() {
                    self.shed_waiting(1);
                }
                self.push_unless_lost(offer, sequence)
            }
        }
    }

    /// Shedding for an item may have cost the group that it belongs to.
    fn push_unless_lost(&mut self, offer: Offer<T>, sequence: u64) -> Put {
        if self.lost.contains(offer.group) {
            return self.shed_arriving(&offer, sequence, Reason::SyncAtomicDrop);
        }
        self.push(offer, sequence)
    }

    /// A bound was met.
    fn press(&mut self, turn: u32) {
        self.marks.refused(self.items.len() as u64);
        if !self.marks.calm() {
            self.stop(turn);
        }
    }

    fn can_merge(&self, offer: &Offer<T>) -> bool {
        self.has_room(offer.duration_us, offer.size)
            && self.items.back().is_some_and(|newest| {
                newest.turn == offer.turn && newest.group == offer.group && newest.parts() < MAX_PARTS as u64
            })
    }

    fn merge(&mut self, offer: Offer<T>, sequence: u64) -> Put {
        self.next_sequence = sequence + 1;
        if let Some(newest) = self.items.back_mut() {
            let first = newest.sequence;
            let more = newest
                .more
                .get_or_insert_with(|| Box::new(Parts { items: Vec::new(), sequences: vec![first] }));
            more.items.push(offer.item);
            more.sequences.push(sequence);
            newest.duration_us += offer.duration_us;
            newest.size += offer.size;
        }
        self.grew(offer.turn, offer.duration_us, offer.size);
        self.press(offer.turn);
        Put::Merged
    }

    pub(super) fn shed_arriving(&mut self, offer: &Offer<T>, sequence: u64, reason: Reason) -> Put {
        self.next_sequence = sequence + 1;
        self.lose(offer.turn, &[sequence], offer.group, reason);
        Put::Shed
    }

    /// Sheds the oldest `count`.
    fn shed_waiting(&mut self, count: usize) {
        let mut removed = 0;
        for _ in 0..count {
            // A group that is lost with an earlier item may have taken later ones along.
            let Some(waiting) = self.remove_oldest() else { break };
            removed += 1;
            self.lose_waiting(&waiting, Reason::QueuePressureDrop);
        }
        self.relieve(removed);
    }

    pub(super) fn lose_waiting(&mut self, waiting: &Waiting<T>, reason: Reason) {
        match &waiting.more {
            None => self.lose(waiting.turn, &[waiting.sequence], waiting.group, reason),
            Some(more) => self.lose(waiting.turn, &more.sequences, waiting.group, reason),
        }
    }

    /// Items are gone: says so, and what it means for those that belong to them.
    #[cold]
    fn lose(&mut self, turn: u32, sequences: &[u64], group: u64, reason: Reason) {
        self.shed += sequences.len() as u64;
        for &sequence in sequences {
            self.note(turn, What::DropNotice { reason, first: sequence, last: sequence });
        }
        let Some(&first) = sequences.first() else { return };
        let loss = match self.settings.sync.mode {
            SyncMode::NoSync => return,
            SyncMode::AtomicDrop => {
                if !self.lose_group(group) {
                    return;
                }
                Loss { group, discontinuity: 0, turn }
            }
            SyncMode::DropWithDiscontinuity => {
                // One mark for losses in a row: downstream resets once.
                if std::mem::replace(&mut self.broken, true) {
                    return;
                }
                self.note(turn, What::Discontinuity(first));
                Loss { group, discontinuity: first, turn }
            }
        };
        if self.settings.sync.scope == SyncScope::PlanWide && self.losses.len() < MAX_LOSSES {
            self.losses.push_back(loss);
        }
    }

    fn lose_group(&mut self, group: u64) -> bool {
        if !self.lost.lose(group) {
            return false;
        }
        if self.items.iter().any(|waiting| waiting.group == group) {
            let removed = self.remove(|waiting| waiting.group == group);
            for waiting in &removed {
                self.lose_waiting(waiting, Reason::SyncAtomicDrop);
            }
            self.relieve(removed.len());
        }
        true
    }

    /// Applies a loss on another edge of the domain here, without telling it further.
    pub fn apply_loss(&mut self, loss: Loss) {
        match self.settings.sync.mode {
            SyncMode::NoSync => {}
            SyncMode::AtomicDrop => {
                self.lose_group(loss.group);
            }
            SyncMode::DropWithDiscontinuity => self.note(loss.turn, What::Discontinuity(loss.discontinuity)),
        }
    }
}
