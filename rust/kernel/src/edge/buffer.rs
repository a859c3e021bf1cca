//! A bounded queue of items that carry their turn.

mod pressure;

use std::collections::VecDeque;

use crate::decision::Scope;
use crate::edge::bounds::{BoundsError, EdgeSettings, Strategy};
use crate::edge::flow::Flow;
use crate::edge::item::{Offer, Put, Taken, Waiting};
use crate::edge::notice::{Notice, Notices, What};
use crate::edge::sync::{Loss, LostGroups};
use crate::edge::watermark::{Domain, Watermarks};
use crate::reason::Reason;

/// Losses that wait to be told to the other edges of a domain.
const MAX_LOSSES: usize = 64;

/// The queue of one edge.
#[derive(Debug)]
pub struct EdgeBuffer<T> {
    items: VecDeque<Waiting<T>>,
    settings: EdgeSettings,
    max_items: usize,
    max_us: u64,
    max_bytes: u64,
    max_latency_us: u64,
    queued_us: u64,
    queued_bytes: u64,
    now_us: u64,
    next_sequence: u64,
    marks: Watermarks,
    flow: Flow,
    notices: Notices,
    lost: LostGroups,
    losses: VecDeque<Loss>,
    broken: bool,
    /// Admission refuses items here, and that was told.
    denied: bool,
    refused_since_us: Option<u64>,
    /// A producer was refused and nothing has left since.
    refused: bool,
    sampled: u64,
    shed: u64,
    depth_peak: usize,
}

impl<T> EdgeBuffer<T> {
    /// An empty edge.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(settings: EdgeSettings) -> Result<Self, BoundsError> {
        settings.validate()?;
        let bounds = settings.bounds;
        let max_items = usize::try_from(bounds.max_items).unwrap_or(usize::MAX);
        let mut edge = Self {
            items: VecDeque::with_capacity(max_items.min(64)),
            settings,
            max_items,
            max_us: bounds.max_ms * 1000,
            max_bytes: bounds.max_bytes,
            max_latency_us: bounds.max_latency_ms * 1000,
            queued_us: 0,
            queued_bytes: 0,
            now_us: 0,
            next_sequence: 0,
            marks: Watermarks::new(
                bounds.high_items,
                bounds.low_items,
                bounds.high_ms * 1000,
                bounds.low_ms * 1000,
            ),
            flow: Flow::new(settings.flow, bounds.max_items, bounds.high_items, bounds.low_items),
            notices: Notices::default(),
            lost: LostGroups::default(),
            losses: VecDeque::new(),
            broken: false,
            denied: false,
            refused_since_us: None,
            refused: false,
            sampled: 0,
            shed: 0,
            depth_peak: 0,
        };
        if edge.flow.credits() > 0 {
            edge.note(0, What::CreditGrant(edge.flow.credits()));
        }
        Ok(edge)
    }

    /// Offers an item outside of time and groups; whether the edge kept it.
    pub fn put(&mut self, item: T, turn: u32, duration_us: u64, size: u64) -> bool {
        self.offer(Offer::new(item, turn, duration_us, size)).kept()
    }

    /// Offers an item.
    ///
    /// One that cannot fit even into an empty edge is shed under every strategy that sheds at all, and
    /// by a blocking edge: making its producer wait would never end.
    #[inline]
    pub fn offer(&mut self, offer: Offer<T>) -> Put {
        self.now_us = self.now_us.max(offer.now_us);
        let sequence = offer.sequence.unwrap_or(self.next_sequence);
        if sequence < self.next_sequence {
            return Put::OutOfOrder;
        }
        let plain = offer.group == 0 && (self.settings.strategy != Strategy::Sample || self.marks.calm());
        if plain && self.fits(offer.duration_us, offer.size) {
            self.push(offer, sequence)
        } else {
            self.decide(offer, sequence)
        }
    }

    #[inline]
    fn fits(&self, duration_us: u64, size: u64) -> bool {
        self.items.len() < self.max_items && self.flow.admits() && self.has_room(duration_us, size)
    }

    #[inline]
    fn has_room(&self, duration_us: u64, size: u64) -> bool {
        duration_us <= self.max_us - self.queued_us && size <= self.max_bytes - self.queued_bytes
    }

    #[inline]
    fn push(&mut self, offer: Offer<T>, sequence: u64) -> Put {
        self.next_sequence = sequence + 1;
        self.items.push_back(Waiting {
            item: offer.item,
            more: None,
            turn: offer.turn,
            sequence,
            group: offer.group,
            since_us: self.now_us,
            duration_us: offer.duration_us,
            size: offer.size,
        });
        self.flow.spend();
        self.broken = false;
        self.refused_since_us = None;
        self.grew(offer.turn, offer.duration_us, offer.size);
        Put::Queued
    }

    #[inline]
    fn grew(&mut self, turn: u32, duration_us: u64, size: u64) {
        self.queued_us += duration_us;
        self.queued_bytes += size;
        self.depth_peak = self.depth_peak.max(self.items.len());
        let crossed = self.marks.rose(self.items.len() as u64, self.queued_us);
        if crossed.items || crossed.ms {
            self.cross(turn, crossed.items, crossed.ms);
        }
    }

    #[cold]
    fn cross(&mut self, turn: u32, items: bool, ms: bool) {
        for (crossed, domain) in [(items, Domain::Items), (ms, Domain::Ms)] {
            if crossed {
                self.note(turn, What::Watermark(domain));
            }
        }
        self.stop(turn);
    }

    fn stop(&mut self, turn: u32) {
        if self.flow.stop() {
            self.note(turn, What::FlowXoff);
        }
    }

    fn remove_oldest(&mut self) -> Option<Waiting<T>> {
        let waiting = self.items.pop_front()?;
        self.queued_us -= waiting.duration_us;
        self.queued_bytes -= waiting.size;
        Some(waiting)
    }

    /// Takes out what `gone` names, in order.
    fn remove(&mut self, gone: impl Fn(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let mut removed = Vec::new();
        for _ in 0..self.items.len() {
            let Some(waiting) = self.items.pop_front() else { break };
            if gone(&waiting) {
                self.queued_us -= waiting.duration_us;
                self.queued_bytes -= waiting.size;
                removed.push(waiting);
            } else {
                self.items.push_back(waiting);
            }
        }
        removed
    }

    #[inline]
    fn relieve(&mut self, removed: usize) {
        if removed == 0 {
            return;
        }
        self.refused = false;
        self.marks.fell(self.items.len() as u64, self.queued_us);
        let change = self.flow.relieve(removed as u64, self.items.len() as u64, self.marks.calm());
        if change.xon || change.granted > 0 {
            self.reopen(change.xon, change.granted);
        }
    }

    #[cold]
    fn reopen(&mut self, xon: bool, granted: u64) {
        if xon {
            self.refused_since_us = None;
            self.note(0, What::FlowXon);
        }
        if granted > 0 {
            self.note(0, What::CreditGrant(granted));
        }
    }

    #[cold]
    fn note(&mut self, turn: u32, what: What) {
        self.notices.push(Notice { at_us: self.now_us, turn, what });
    }

    /// Takes the oldest item out. An edge that sheds does so with items that waited too long.
    #[inline]
    pub fn take(&mut self, now_us: u64) -> Option<Taken<T>> {
        self.now_us = self.now_us.max(now_us);
        loop {
            let waiting = self.remove_oldest()?;
            let waited_us = self.now_us - waiting.since_us;
            if waited_us > self.max_latency_us && self.settings.strategy.sheds() {
                self.lose_waiting(&waiting, Reason::QueuePressureDrop);
                self.relieve(1);
                continue;
            }
            self.relieve(1);
            let Waiting { item, more, turn, sequence, .. } = waiting;
            return Some(Taken { item, more, turn, sequence, waited_us });
        }
    }

    /// Takes out the oldest item alone, for edges that do not merge.
    pub fn get(&mut self) -> Option<T> {
        self.take(0).map(|taken| taken.item)
    }

    /// Sheds an offer that admission refused.
    pub fn shed_offer(&mut self, offer: &Offer<T>) -> Put {
        self.now_us = self.now_us.max(offer.now_us);
        let sequence = offer.sequence.unwrap_or(self.next_sequence);
        if sequence < self.next_sequence {
            return Put::OutOfOrder;
        }
        self.deny(offer.turn, Scope::EdgeEnqueue);
        self.shed_arriving(offer, sequence, Reason::QueuePressureDrop)
    }

    /// Sheds the oldest item because admission refused its hand-over; false when none waits.
    pub fn shed_oldest(&mut self, now_us: u64) -> bool {
        self.now_us = self.now_us.max(now_us);
        let Some(waiting) = self.remove_oldest() else { return false };
        self.deny(waiting.turn, Scope::EdgeDequeue);
        self.lose_waiting(&waiting, Reason::QueuePressureDrop);
        self.relieve(1);
        true
    }

    /// Sheds every item of `turn` and of earlier turns; returns how many.
    pub fn shed_through(&mut self, turn: u32, now_us: u64) -> usize {
        self.now_us = self.now_us.max(now_us);
        let removed = self.remove(|waiting| waiting.turn <= turn);
        for waiting in &removed {
            self.lose_waiting(waiting, Reason::QueuePressureDrop);
        }
        self.relieve(removed.len());
        removed.len()
    }

    /// Admission lets items pass again.
    pub const fn admitted(&mut self) {
        self.denied = false;
    }

    /// Says once for refusals in a row that admission refuses.
    fn deny(&mut self, turn: u32, point: Scope) {
        if !std::mem::replace(&mut self.denied, true) {
            self.note(turn, What::Shed(point));
        }
    }

    /// Removes every item of `turn` and of earlier turns; returns how many.
    pub fn fence(&mut self, turn: u32) -> usize {
        let removed = self.remove(|waiting| waiting.turn <= turn).len();
        self.relieve(removed);
        removed
    }

    /// Removes everything; returns how many.
    pub fn clear(&mut self) -> usize {
        let removed = self.items.len();
        self.items.clear();
        (self.queued_us, self.queued_bytes) = (0, 0);
        self.relieve(removed);
        removed
    }

    /// Takes the oldest loss that the other edges of the domain must be told of.
    pub fn take_loss(&mut self) -> Option<Loss> {
        self.losses.pop_front()
    }

    /// Takes the oldest decision.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Decisions that were lost because nobody took the earlier ones.
    #[must_use]
    pub const fn notices_lost(&self) -> u64 {
        self.notices.lost()
    }

    /// What the edge was told.
    #[must_use]
    pub const fn settings(&self) -> &EdgeSettings {
        &self.settings
    }

    /// The waiting items with their parts, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flat_map(|waiting| {
            let more = waiting.more.as_ref().map_or(&[][..], |more| &more.items);
            std::iter::once(&waiting.item).chain(more)
        })
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

    /// False when the producer must wait: between xoff and xon, without credit, or after a refusal
    /// until something has left.
    #[must_use]
    pub const fn flowing(&self) -> bool {
        self.flow.may_send() && !self.refused
    }

    /// Credits that the producer holds; 0 under signals.
    #[must_use]
    pub const fn credits(&self) -> u64 {
        self.flow.credits()
    }

    /// When a refused producer's next offer will be shed, microseconds.
    #[must_use]
    pub fn blocked_until_us(&self) -> Option<u64> {
        let patience_us = self.settings.bounds.max_block_ms? * 1000;
        Some(self.refused_since_us? + patience_us)
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
