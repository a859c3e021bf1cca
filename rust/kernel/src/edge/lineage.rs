//! Where a merged item comes from (sections 1.7 and 7.5 of the contracts).

use std::fmt::Write as _;

use crate::determinism::Place;
use crate::event::{escape_into, Lane};

/// Most sources that one group names.
pub const MAX_SOURCES: usize = 64;

/// One item that was merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its runtime sequence.
    pub sequence: u64,
    /// Its event id.
    pub event_id: String,
}

impl Source {
    /// Its place among the sources of a merge: items of one edge are of one lane.
    fn place(&self) -> Place<'_> {
        Place { lane: Lane::Data, sequence: self.sequence, event_id: &self.event_id }
    }
}

/// One group of a merge: at least two sources, each named once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeGroup {
    /// Id of the group.
    pub id: String,
    /// Ids of its sources in order.
    pub from: Vec<String>,
    /// Sequence of the first source.
    pub first: u64,
    /// Sequence of the last source.
    pub last: u64,
}

/// Fewer than two different sources make no merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewSources(pub usize);

impl std::fmt::Display for TooFewSources {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "sources hold {} different ids: a merge needs two", self.0)
    }
}

impl std::error::Error for TooFewSources {}

/// The groups of one merge on the edge `edge_id`.
///
/// Sources are ordered by the merge rule; an id that comes twice counts once, with its lowest
/// sequence. More than [`MAX_SOURCES`] are split into groups of sizes as equal as possible, so that
/// no group is left with a single source.
///
/// # Errors
/// There are fewer than two different sources.
pub fn groups(edge_id: &str, mut sources: Vec<Source>) -> Result<Vec<MergeGroup>, TooFewSources> {
    sources.sort_unstable_by(|one, other| one.place().cmp(&other.place()));
    let mut seen = std::collections::BTreeSet::new();
    sources.retain(|source| seen.insert(source.event_id.clone()));
    if sources.len() < 2 {
        return Err(TooFewSources(sources.len()));
    }
    let mut edge = String::new();
    escape_into(&mut edge, edge_id);
    let count = sources.len().div_ceil(MAX_SOURCES);
    let mut rest = sources.as_slice();
    let mut groups = Vec::with_capacity(count);
    for index in 0..count {
        let (part, after) = rest.split_at(rest.len().div_ceil(count - index));
        rest = after;
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        let (first, last) = (first.sequence, last.sequence);
        let mut id = String::new();
        // Writing to a String cannot fail.
        let _ = write!(id, "merge/{edge}/{first}-{last}/{index}");
        let from = part.iter().map(|source| source.event_id.clone()).collect();
        groups.push(MergeGroup { id, from, first, last });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(sequence: u64, id: &str) -> Source {
        Source { sequence, event_id: id.to_owned() }
    }

    #[test]
    fn g16_a_hundred_sources_with_repeated_ids_make_groups_of_unique_ids() {
        let sources: Vec<_> =
            (0..100_u64).flat_map(|n| [0; 2].map(|_| source(n, &format!("e{n}")))).collect();
        let groups = groups("a/b", sources).expect("groups");
        let sizes: Vec<_> = groups.iter().map(|group| group.from.len()).collect();
        assert_eq!(sizes, [50, 50]);
        assert_eq!((groups[0].first, groups[0].last, groups[1].first, groups[1].last), (0, 49, 50, 99));
        assert_eq!(groups[0].id, "merge/a%2Fb/0-49/0");
    }

    #[test]
    fn ml002_ties_are_ordered_by_id() {
        let groups = groups("e", vec![source(2, "b"), source(2, "a"), source(1, "z")]).expect("one group");
        assert_eq!(groups[0].from, ["z", "a", "b"]);
        assert_eq!(super::groups("e", vec![source(1, "x"), source(2, "x")]), Err(TooFewSources(1)));
    }

    proptest! {
        #[test]
        fn ml002_lineage_is_complete_bounded_and_blind_to_order(
            sources in prop::collection::vec((0u64..200, 0u32..200), 2..300).prop_shuffle(),
        ) {
            let make = |list: &[(u64, u32)]| {
                groups("e", list.iter().map(|(sequence, id)| source(*sequence, &format!("e{id:03}"))).collect())
            };
            let mut reversed = sources.clone();
            reversed.reverse();
            let found = make(&sources);
            prop_assert_eq!(&found, &make(&reversed));
            if let Ok(found) = found {
                let all: Vec<_> = found.iter().flat_map(|group| group.from.clone()).collect();
                let unique: std::collections::BTreeSet<_> = all.iter().cloned().collect();
                let given: std::collections::BTreeSet<_> = sources.iter().map(|(_, id)| format!("e{id:03}")).collect();
                prop_assert_eq!(all.len(), unique.len());
                prop_assert_eq!(unique, given);
                prop_assert!(found.iter().all(|group| (2..=MAX_SOURCES).contains(&group.from.len())));
                prop_assert!(found.iter().all(|group| group.first <= group.last));
                prop_assert!(found.windows(2).all(|pair| pair[0].last <= pair[1].first));
            }
        }
    }
}
