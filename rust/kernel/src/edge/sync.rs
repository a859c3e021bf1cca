//! What a loss means for items that belong together (RK-15).

use std::collections::BTreeSet;

use crate::names::named_enum;

named_enum! {
    /// What the loss of one item does to the others of its group or domain.
    pub enum SyncMode {
        AtomicDrop => "atomic_drop", DropWithDiscontinuity => "drop_with_discontinuity",
        NoSync => "no_sync",
    }
}

named_enum! {
    /// How far a loss reaches.
    pub enum SyncScope {
        EdgeLocal => "edge_local", PlanWide => "plan_wide",
    }
}

/// The sync policy of an edge. Groups are numbers that rise with time; 0 belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPolicy {
    /// What a loss does.
    pub mode: SyncMode,
    /// How far it reaches.
    pub scope: SyncScope,
}

impl SyncPolicy {
    /// No coupling.
    pub const NONE: Self = Self { mode: SyncMode::NoSync, scope: SyncScope::EdgeLocal };
}

/// A loss that the other edges of the domain must be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The group that was lost; 0 when items are not grouped.
    pub group: u64,
    /// Number of the discontinuity: the sequence of the first item lost; 0 for a group.
    pub discontinuity: u64,
    /// Turn of the item lost, 0 for none.
    pub turn: u32,
}

/// Groups remembered as lost one by one.
pub const MAX_LOST: usize = 64;

/// Which groups of an edge are lost.
///
/// Its memory is bounded: a group that lies behind the oldest one remembered counts as lost, because
/// letting half a group through is the one thing that may not happen.
#[derive(Clone, Debug, Default)]
pub struct LostGroups {
    known: BTreeSet<u64>,
    floor: u64,
}

impl LostGroups {
    /// The group is lost; false if it was already.
    pub fn lose(&mut self, group: u64) -> bool {
        if group == 0 || self.contains(group) {
            return false;
        }
        self.known.insert(group);
        if self.known.len() > MAX_LOST {
            self.floor = self.known.pop_first().unwrap_or(self.floor);
        }
        true
    }

    /// Whether items of the group must not pass.
    #[inline]
    #[must_use]
    pub fn contains(&self, group: u64) -> bool {
        group != 0 && (group <= self.floor || (!self.known.is_empty() && self.known.contains(&group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_groups_stay_lost_and_their_memory_stays_small() {
        let mut lost = LostGroups::default();
        assert!(!lost.lose(0) && !lost.contains(0));
        assert!(lost.lose(5) && !lost.lose(5));
        assert!(lost.contains(5) && !lost.contains(4) && !lost.contains(6));
        for group in 6..1000 {
            assert!(lost.lose(group));
        }
        assert!((1..1000).all(|group| lost.contains(group)));
        assert!(!lost.contains(1000) && lost.known.len() == MAX_LOST);
    }
}
