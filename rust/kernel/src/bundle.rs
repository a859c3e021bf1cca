//! The turn-start bundle: what the control plane says about the next turns (section 13 of the contracts).
//!
//! It is fetched, checked and resolved off the path of a turn; a kernel is told when it changed and keeps
//! the latest. Whether a turn opens under it is decided when the turn is proposed.

use std::collections::BTreeMap;

use crate::decision::{Outcome, Scope};
use crate::invocation::policy::AdaptiveAction;
use crate::names::named_enum;
use crate::reason::Reason;

/// The references of a provenance, in the order in which they are kept.
pub const REFERENCES: [&str; 6] = [
    "abi_compatibility_snapshot",
    "admission_policy_snapshot",
    "policy_resolution_snapshot",
    "provider_health_snapshot",
    "routing_view_snapshot",
    "version_resolution_snapshot",
];
/// Longest reference, bytes.
pub const MAX_REFERENCE_BYTES: usize = 256;
/// How long a deferred turn waits when no bundle has said it, microseconds: as long as a source that
/// cannot be reached may be served from memory (section 13.4).
pub const CLAIM_US: u64 = 10_000_000;

named_enum! {
    /// Why there is no bundle under which a turn may open.
    pub enum Failure {
        SnapshotInvalid => "snapshot_invalid_or_missing",
        ResolutionFailed => "turn_start_bundle_resolution_failed",
    }
}

impl Failure {
    /// The reason of the decisions that follow from it.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::SnapshotInvalid => Reason::SnapshotInvalidOrMissing,
            Self::ResolutionFailed => Reason::TurnStartBundleResolutionFailed,
        }
    }
}

/// A set of adaptive actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    /// Every action.
    pub const ALL: Self = Self(0b1111);

    /// The set of these.
    #[must_use]
    pub fn of(actions: &[AdaptiveAction]) -> Self {
        Self(actions.iter().fold(0, |set, action| set | 1 << *action as u8))
    }

    /// The set with this number; none when a bit belongs to no action.
    #[must_use]
    pub const fn numbered(number: u8) -> Option<Self> {
        if number <= Self::ALL.0 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number: one bit for each action, in the order of the vocabulary.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether the action is in it.
    #[must_use]
    pub const fn has(self, action: AdaptiveAction) -> bool {
        self.0 & (1 << action as u8) != 0
    }

    /// Its names, in the order of the vocabulary.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        AdaptiveAction::ALL.iter().filter(move |action| self.has(**action)).map(|action| action.name())
    }
}

/// What is wrong with a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceError {
    /// Which.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for ReferenceError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.field, self.message)
    }
}

impl std::error::Error for ReferenceError {}

/// The six references of a plan's provenance, in the order of [`REFERENCES`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Provenance([Box<str>; 6]);

impl Provenance {
    /// The provenance with these references.
    ///
    /// # Errors
    /// The first reference that is empty or longer than [`MAX_REFERENCE_BYTES`].
    pub fn new(references: [&str; 6]) -> Result<Self, ReferenceError> {
        for (field, reference) in REFERENCES.into_iter().zip(references) {
            let length = reference.len();
            if length == 0 || length > MAX_REFERENCE_BYTES {
                let message = format!("is of {length} bytes: name it in 1 to {MAX_REFERENCE_BYTES} bytes");
                return Err(ReferenceError { field, message });
            }
        }
        Ok(Self(references.map(Box::from)))
    }

    /// Names and references.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        REFERENCES.into_iter().zip(self.0.iter().map(|reference| &**reference))
    }

    /// The canonical form: one JSON object with sorted keys and no blanks.
    #[must_use]
    pub fn canonical(&self) -> String {
        let members: Vec<String> = self
            .pairs()
            .map(|(name, reference)| format!("\"{name}\":{}", serde_json::Value::from(reference)))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

/// What the control plane says; `R` is how its word is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnStart<R> {
    /// Version of the snapshots; never goes down.
    pub version: u64,
    /// Until when a turn may open under it, microseconds.
    pub usable_until_us: u64,
    /// Epoch under which the control plane lets the session be served; 0 when it says nothing.
    pub authority_epoch: u64,
    /// How long a turn that is deferred waits, microseconds.
    pub claim_us: u64,
    /// Number of the provenance in a record; none when it is as told before.
    pub provenance: Option<u32>,
    /// Why CP-05 decided so, in its own word.
    pub admission_reason: R,
    /// Why there is no bundle, if so.
    pub failure: Option<Failure>,
    /// What CP-05 decided.
    pub admission: Outcome,
    /// What that covers.
    pub admission_scope: Scope,
    /// Whether CP-07 takes the session's epoch for the valid one.
    pub authority_valid: bool,
    /// Whether CP-07 lets the session be served at all.
    pub authority_authorized: bool,
    /// Adaptive actions that CP-04 allows.
    pub actions: Actions,
}

impl<R> TurnStart<R> {
    /// The same with its word held another way.
    pub fn map<S>(self, word: impl FnOnce(R) -> S) -> TurnStart<S> {
        TurnStart {
            version: self.version,
            usable_until_us: self.usable_until_us,
            authority_epoch: self.authority_epoch,
            claim_us: self.claim_us,
            provenance: self.provenance,
            admission_reason: word(self.admission_reason),
            failure: self.failure,
            admission: self.admission,
            admission_scope: self.admission_scope,
            authority_valid: self.authority_valid,
            authority_authorized: self.authority_authorized,
            actions: self.actions,
        }
    }

    /// What CP-05 decided, of the three outcomes that it has: whatever is no other is a rejection.
    #[must_use]
    pub const fn admitted(&self) -> Outcome {
        match self.admission {
            Outcome::Admit => Outcome::Admit,
            Outcome::Defer => Outcome::Defer,
            _ => Outcome::Reject,
        }
    }
}

/// Provenances that evidence records refer to by number.
#[derive(Clone, Debug, Default)]
pub struct Provenances {
    kept: Vec<Provenance>,
    places: BTreeMap<Provenance, u32>,
}

/// Provenances that Stage A may hold at once.
pub const MAX_LENT: usize = 64;

impl Provenances {
    /// Keeps one until `MAX_LENT` more were lent; `number` counts them from 0.
    pub fn lend(&mut self, provenance: &Provenance, number: u64) -> u32 {
        let place = usize::try_from(number % MAX_LENT as u64).unwrap_or_default();
        match self.kept.get_mut(place) {
            Some(kept) => kept.clone_from(provenance),
            None => self.kept.push(provenance.clone()),
        }
        u32::try_from(place).unwrap_or_default()
    }

    /// Keeps one for good, each only once: for whoever reads records, whose number bounds these.
    pub fn hold(&mut self, provenance: Provenance) -> u32 {
        let next = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(provenance.clone()).or_insert(next);
        if place == next {
            self.kept.push(provenance);
        }
        place
    }

    /// The provenance behind a number.
    #[must_use]
    pub fn at(&self, place: u32) -> Option<&Provenance> {
        usize::try_from(place).ok().and_then(|place| self.kept.get(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance(version: u32) -> Provenance {
        let own: [String; 6] = std::array::from_fn(|index| format!("ref-{index}/v{version}"));
        Provenance::new(own.each_ref().map(String::as_str)).expect("a provenance")
    }

    #[test]
    fn a_provenance_is_whole_and_sorted() {
        let error = Provenance::new(["a", "b", "c", "", "e", "f"]).expect_err("refused");
        assert_eq!(error.field, "provider_health_snapshot");
        let long = "x".repeat(MAX_REFERENCE_BYTES + 1);
        assert!(Provenance::new([&long, "b", "c", "d", "e", "f"]).is_err());
        assert!(REFERENCES.is_sorted());
        let text = Provenance::new(["a\"", "b", "c", "d", "e", "f"]).expect("a provenance").canonical();
        let read: BTreeMap<String, String> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read.keys().map(String::as_str).collect::<Vec<_>>(), REFERENCES);
        assert_eq!(read["abi_compatibility_snapshot"], "a\"");
    }

    #[test]
    fn lent_provenances_take_turns_and_held_ones_stay() {
        let mut table = Provenances::default();
        let count = MAX_LENT as u64;
        let first = table.lend(&provenance(0), 0);
        for number in 1..count {
            table.lend(&provenance(u32::try_from(number).expect("small")), number);
        }
        assert_eq!(table.at(first), Some(&provenance(0)));
        assert_eq!(table.lend(&provenance(9999), count), first);
        assert_eq!((table.at(first), table.kept.len()), (Some(&provenance(9999)), MAX_LENT));
        let mut table = Provenances::default();
        assert_eq!([1, 2, 1].map(|version| table.hold(provenance(version))), [0, 1, 0]);
        assert_eq!((table.at(1), table.at(2)), (Some(&provenance(2)), None));
    }

    #[test]
    fn actions_are_a_set_by_name_and_number() {
        let some = Actions::of(&[AdaptiveAction::Fallback, AdaptiveAction::Retry]);
        assert_eq!(some.names().collect::<Vec<_>>(), ["retry", "fallback"]);
        assert_eq!(Actions::numbered(some.number()), Some(some));
        assert_eq!(Actions::numbered(16), None);
        assert_eq!(Actions::of(AdaptiveAction::ALL), Actions::ALL);
    }
}
