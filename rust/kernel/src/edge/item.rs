//! What enters and leaves an edge.

/// Items that one merged item may be made of: four lineage groups.
pub const MAX_PARTS: usize = 4 * super::lineage::MAX_SOURCES;

/// An item and what the edge must know of it.
#[derive(Clone, Copy, Debug)]
pub struct Offer<T> {
    /// The item.
    pub item: T,
    /// Its turn, 0 for none.
    pub turn: u32,
    /// How long it lasts, microseconds.
    pub duration_us: u64,
    /// Its size, bytes.
    pub size: u64,
    /// When it is offered, microseconds.
    pub now_us: u64,
    /// Its runtime sequence; the edge counts by itself where none is given.
    pub sequence: Option<u64>,
    /// Number of the group that it is lost with; 0 for none.
    pub group: u64,
}

impl<T> Offer<T> {
    /// An item outside of time and groups.
    pub const fn new(item: T, turn: u32, duration_us: u64, size: u64) -> Self {
        Self { item, turn, duration_us, size, now_us: 0, sequence: None, group: 0 }
    }
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It waits.
    Queued,
    /// It became part of the newest waiting item.
    Merged,
    /// It is gone, and a notice says so.
    Shed,
    /// It was not taken: its producer keeps it and offers it again.
    Refused,
    /// It was not taken: its sequence is not above that of an earlier item.
    OutOfOrder,
}

impl Put {
    /// Whether the edge has it.
    #[must_use]
    pub const fn kept(self) -> bool {
        matches!(self, Self::Queued | Self::Merged)
    }
}

/// The further parts of a merged item.
#[derive(Clone, Debug)]
pub struct Parts<T> {
    /// The items after the first, in order.
    pub items: Vec<T>,
    /// Sequences of all parts with the first.
    pub sequences: Vec<u64>,
}

/// An item that left the edge.
#[derive(Clone, Debug)]
pub struct Taken<T> {
    /// The item, or the first part of a merged one.
    pub item: T,
    /// The other parts of a merged item.
    pub more: Option<Box<Parts<T>>>,
    /// Its turn.
    pub turn: u32,
    /// Its sequence, or that of its first part.
    pub sequence: u64,
    /// How long it waited, microseconds.
    pub waited_us: u64,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) item: T,
    pub(super) more: Option<Box<Parts<T>>>,
    pub(super) turn: u32,
    pub(super) sequence: u64,
    pub(super) group: u64,
    pub(super) since_us: u64,
    pub(super) duration_us: u64,
    pub(super) size: u64,
}

impl<T> Waiting<T> {
    pub(super) fn parts(&self) -> u64 {
        self.more.as_ref().map_or(1, |more| more.sequences.len() as u64)
    }
}
