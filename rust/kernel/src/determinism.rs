//! What makes a turn repeatable (RK-19): one order of what meets, by one merge rule.
//!
//! The seed of a turn is derived from its plan ([`crate::plan`]) and kept with it. Nothing at run time draws
//! from it: a session has no randomness of its own, and what a provider makes up is recorded as its input.

use crate::event::Lane;
use crate::names::named_enum;

/// Id of the one rule by which events of several edges are put in order.
pub const MERGE_RULE_ID: &str = "default-merge-rule";
/// Its version.
pub const MERGE_RULE_VERSION: &str = "v1.0.0";

named_enum! {
    /// What the merge rule orders by, in this order, after the lane.
    pub enum OrderingMarker {
        RuntimeSequence => "runtime_sequence", EventId => "event_id",
    }
}

/// The place of an event in the order of the merge rule: lane, then sequence, then id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'a> {
    /// Its lane; control comes first.
    pub lane: Lane,
    /// Its runtime sequence.
    pub sequence: u64,
    /// Its id.
    pub event_id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_merge_rule_gives_one_order(
            events in prop::collection::vec((0usize..3, 0u64..5, "[ab]{1,2}"), 1..20),
            turned in any::<prop::sample::Index>(),
        ) {
            let sorted = |list: &[(usize, u64, String)]| {
                let place = |(lane, sequence, id): &(usize, u64, String)| {
                    (Lane::ALL[*lane], *sequence, id.clone())
                };
                let mut expected: Vec<_> = list.iter().map(place).collect();
                expected.sort();
                let mut places: Vec<_> = list
                    .iter()
                    .map(|(lane, sequence, id)| Place { lane: Lane::ALL[*lane], sequence: *sequence, event_id: id })
                    .collect();
                places.sort();
                let found = places.iter().map(|place| (place.lane, place.sequence, place.event_id.to_owned()));
                assert!(found.eq(expected.iter().cloned()));
                expected
            };
            let mut other = events.clone();
            other.rotate_left(turned.index(events.len()));
            prop_assert_eq!(sorted(&events), sorted(&other));
        }
    }
}
