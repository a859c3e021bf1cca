//! Which recorded record belongs to which replayed one.

use crate::evidence::record::{Body, Record};

/// Two records that belong together, by their places in the group; or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Place of the recorded one.
    pub recorded: Option<usize>,
    /// Place of the replayed one.
    pub replayed: Option<usize>,
}

/// How two groups fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// The pairs, in the order of the recording.
    pub pairs: Vec<Pair>,
    /// The first place where the same records come in another order.
    pub displaced: Option<Pair>,
}

/// Most cells of the table that finds the longest common part; larger groups are paired by place.
const MAX_CELLS: usize = 1 << 16;

/// What a record is about, without its numbers: two records with one key may belong together.
type Key = (u8, u32, u32);

/// Aligns two groups; with `given` the first recorded one is the input itself.
#[must_use]
pub fn align(recorded: &[Record], replayed: &[Record], given: bool) -> Alignment {
    let mut pairs = Vec::with_capacity(recorded.len().max(replayed.len()));
    let (mut left, mut right) = (0, 0);
    if given && !recorded.is_empty() {
        // An input that changed nothing may not have been recorded again.
        let again = replayed.first().is_some_and(|second| key(second) == key(&recorded[0]));
        pairs.push(Pair { recorded: Some(0), replayed: again.then_some(0) });
        (left, right) = (1, usize::from(again));
    }
    let was: Vec<Key> = recorded[left..].iter().map(key).collect();
    let now: Vec<Key> = replayed[right..].iter().map(key).collect();
    let displaced = reordered(&was, &now);
    let rest = if displaced.is_some() { by_occurrence(&was, &now) } else { common(&was, &now) };
    let moved = |(first, second): (Option<usize>, Option<usize>)| Pair {
        recorded: first.map(|place| place + left),
        replayed: second.map(|place| place + right),
    };
    pairs.extend(rest.into_iter().map(moved));
    Alignment { pairs, displaced: displaced.map(|place| moved((Some(place), Some(place)))) }
}

/// The first place that differs, if both hold the same keys in another order.
fn reordered(was: &[Key], now: &[Key]) -> Option<usize> {
    if was.len() != now.len() || was == now {
        return None;
    }
    let (mut left, mut right) = (was.to_vec(), now.to_vec());
    left.sort_unstable();
    right.sort_unstable();
    if left != right {
        return None;
    }
    was.iter().zip(now).position(|(first, second)| first != second)
}

type Places = Vec<(Option<usize>, Option<usize>)>;

fn by_occurrence(was: &[Key], now: &[Key]) -> Places {
    let sorted = |keys: &[Key]| {
        let mut places: Vec<usize> = (0..keys.len()).collect();
        places.sort_by_key(|place| keys[*place]);
        places
    };
    let mut pairs: Places =
        sorted(was).into_iter().zip(sorted(now)).map(|(first, second)| (Some(first), Some(second))).collect();
    pairs.sort_unstable();
    pairs
}

/// Pairs along the longest common part; what is left between two common ones is paired in order.
fn common(was: &[Key], now: &[Key]) -> Places {
    let rows = now.len() + 1;
    if (was.len() + 1).saturating_mul(rows) > MAX_CELLS {
        let longest = was.len().max(now.len());
        let place = |place: usize, of: &[Key]| (place < of.len()).then_some(place);
        return (0..longest).map(|index| (place(index, was), place(index, now))).collect();
    }
    let mut lengths = vec![0_u32; (was.len() + 1) * rows];
    for first in (0..was.len()).rev() {
        for second in (0..now.len()).rev() {
            lengths[first * rows + second] = if was[first] == now[second] {
                lengths[(first + 1) * rows + second + 1] + 1
            } else {
                lengths[(first + 1) * rows + second].max(lengths[first * rows + second + 1])
            };
        }
    }
    let (mut pairs, mut first, mut second) = (Places::new(), 0, 0);
    let (mut alone_first, mut alone_second) = (0, 0);
    while first < was.len() && second < now.len() {
        if was[first] == now[second] {
            between(&mut pairs, alone_first..first, alone_second..second);
            pairs.push((Some(first), Some(second)));
            (first, second) = (first + 1, second + 1);
            (alone_first, alone_second) = (first, second);
        } else if lengths[(first + 1) * rows + second] >= lengths[first * rows + second + 1] {
            first += 1;
        } else {
            second += 1;
        }
    }
    between(&mut pairs, alone_first..was.len(), alone_second..now.len());
    pairs
}

fn between(pairs: &mut Places, mut was: std::ops::Range<usize>, mut now: std::ops::Range<usize>) {
    loop {
        match (was.next(), now.next()) {
            (None, None) => return,
            pair => pairs.push(pair),
        }
    }
}

fn key(record: &Record) -> Key {
    match record.body {
        Body::Signal { signal, invocation, .. } => (0, signal as u32, invocation),
        Body::Decision(decision) => (1, decision.outcome as u32, 0),
        Body::Transition(transition) => (2, transition.trigger as u32, 0),
        Body::Marker { name, .. } => (3, name as u32, 0),
        Body::Plan(_) => (4, 0, 0),
        Body::AgentState(_) => (5, 0, 0),
        Body::Input(_) => (6, 0, 0),
        Body::Provider { modality, .. } => (7, modality as u32, 0),
        Body::Attempt(attempt) => (8, attempt.invocation, 0),
        Body::Edge(edge) => (9, edge.what.signal() as u32, 0),
        Body::Frame { .. } => (10, 0, 0),
        Body::Call(_) => (11, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn keys<const N: usize>(numbers: [u32; N]) -> [Key; N] {
        let mut keys = [(0, 0, 0); N];
        let mut place = 0;
        while place < N {
            keys[place] = (0, numbers[place], 0);
            place += 1;
        }
        keys
    }

    #[test]
    fn what_is_left_between_common_records_is_paired_in_order() {
        let pairs = common(&keys([1, 2, 3, 4]), &keys([1, 9, 3, 4, 5]));
        let both = |first, second| (Some(first), Some(second));
        assert_eq!(pairs, [both(0, 0), both(1, 1), both(2, 2), both(3, 3), (None, Some(4))]);
        assert_eq!(common(&keys([1, 2]), &keys([2])), [(Some(0), None), both(1, 0)]);
        assert_eq!(common(&[], &keys([7])), [(None, Some(0))]);
    }

    #[test]
    fn another_order_is_seen_and_each_record_finds_its_own() {
        let (was, now) = (keys([1, 2, 3, 2]), keys([1, 3, 2, 2]));
        assert_eq!(reordered(&was, &now), Some(1));
        let pairs: Vec<_> = by_occurrence(&was, &now).into_iter().map(|(_, second)| second).collect();
        assert_eq!(pairs, [Some(0), Some(2), Some(1), Some(3)]);
        assert_eq!(reordered(&was, &keys([1, 2, 3, 3])), None);
    }

    #[test]
    fn a_huge_group_is_paired_by_place() {
        let was = vec![(0, 1, 0); 1000];
        let pairs = common(&was, &was[..999]);
        assert_eq!((pairs.len(), pairs[999]), (1000, (Some(999), None)));
    }
}
