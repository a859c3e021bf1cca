//! What makes a turn repeatable (RK-19): one merge rule, one order, one seed.

use sha2::{Digest, Sha256};

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

named_enum! {
    /// Where something comes from that cannot be computed again from recorded inputs.
    pub enum NondeterministicSource {
        ExternalCall => "external_call", SystemTime => "system_time", Random => "random",
        OperatorOverride => "operator_override", Other => "other",
    }
}

/// One such input, with the record that holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NondeterministicInput {
    /// Its name.
    pub input_key: String,
    /// Where it comes from.
    pub source: NondeterministicSource,
    /// The record that holds it.
    pub evidence_ref: String,
}

/// Most such inputs that a turn keeps.
pub const MAX_INPUTS: usize = 256;

/// The determinism context of one turn.
#[derive(Clone, Debug)]
pub struct DeterminismContext {
    seed: u64,
    inputs: Vec<NondeterministicInput>,
}

impl DeterminismContext {
    /// The context of a turn whose plan has this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, inputs: Vec::new() }
    }

    /// A seed for one purpose, such as a node and its use: equal for equal turns and purposes, and
    /// without relation to those of other purposes. The sign bit is free.
    #[must_use]
    pub fn seed_for(&self, purpose: &str) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_be_bytes());
        hasher.update(purpose.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize()[..8]);
        u64::from_be_bytes(first) & (u64::MAX >> 1)
    }

    /// Notes an input that cannot be computed again; false when it is known already or there are too
    /// many, in which case the turn cannot be replayed and must be said to be so.
    pub fn note(&mut self, input: NondeterministicInput) -> bool {
        let known = self.inputs.iter().any(|known| known.input_key == input.input_key);
        if known || self.inputs.len() >= MAX_INPUTS {
            return false;
        }
        self.inputs.push(input);
        true
    }

    /// The inputs noted, in order.
    #[must_use]
    pub fn inputs(&self) -> &[NondeterministicInput] {
        &self.inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn seeds_differ_by_turn_and_purpose_and_repeat() {
        let (one, two) = (DeterminismContext::new(1), DeterminismContext::new(2));
        assert_eq!(one.seed_for("llm"), DeterminismContext::new(1).seed_for("llm"));
        assert_ne!(one.seed_for("llm"), one.seed_for("tts"));
        assert_ne!(one.seed_for("llm"), two.seed_for("llm"));
        assert!(one.seed_for("llm") <= u64::MAX >> 1);
    }

    #[test]
    fn inputs_are_noted_once_and_their_number_is_bounded() {
        let mut context = DeterminismContext::new(1);
        let input = |key: usize| NondeterministicInput {
            input_key: key.to_string(),
            source: NondeterministicSource::ExternalCall,
            evidence_ref: String::from("evt/s/1/1/000001"),
        };
        assert!(context.note(input(0)) && !context.note(input(0)));
        assert_eq!((0..1000).filter(|key| context.note(input(*key))).count(), MAX_INPUTS - 1);
        assert_eq!(context.inputs().len(), MAX_INPUTS);
    }

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
