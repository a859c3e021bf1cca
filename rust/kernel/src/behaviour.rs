//! Decisions that were changed after recordings existed, by number.
//!
//! A kernel behaves by a set of these. A new recording names the whole set in its header; an old one is
//! run again by the set it was made under, so that it takes the decisions of its own time. Whoever
//! changes a decision adds a number here and keeps the earlier path for kernels without it. A number is
//! never used twice.

/// One such change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Behaviour {
    /// The voice goes on early when the probe is answered with a listener's word.
    EarlyRelease = 1,
    /// A move that starts drains the old placement although its routing view had been refreshed before.
    DrainSuperseded = 2,
    /// A turn that ended because its epoch rotated is followed by the failure notice, under the new epoch.
    RotationTold = 3,
}

impl Behaviour {
    /// Every change, in the order of its number.
    pub const ALL: &'static [Self] = &[Self::EarlyRelease, Self::DrainSuperseded, Self::RotationTold];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EarlyRelease => "early_release",
            Self::DrainSuperseded => "drain_superseded",
            Self::RotationTold => "rotation_told",
        }
    }
}

/// The number of a behaviour that this kernel does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBehaviour(pub u32);

impl std::fmt::Display for UnknownBehaviour {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "this kernel has no behaviour {}", self.0)
    }
}

impl std::error::Error for UnknownBehaviour {}

/// The set that a kernel behaves by; by default all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviours(u64);

impl Behaviours {
    /// The kernel as it was before the first change.
    pub const NONE: Self = Self(0);

    /// Whether the change is in force.
    #[must_use]
    pub const fn has(self, behaviour: Behaviour) -> bool {
        self.0 & (1 << behaviour.number()) != 0
    }

    /// The set with these numbers.
    ///
    /// # Errors
    /// A number that no change has.
    pub fn of(numbers: &[u32]) -> Result<Self, UnknownBehaviour> {
        let mut set = Self::NONE;
        for number in numbers {
            let known = Behaviour::ALL.iter().find(|behaviour| behaviour.number() == *number);
            set.0 |= 1 << known.ok_or(UnknownBehaviour(*number))?.number();
        }
        Ok(set)
    }
}

impl Default for Behaviours {
    fn default() -> Self {
        Self(Behaviour::ALL.iter().fold(0, |set, behaviour| set | 1 << behaviour.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_it_was_made_of() {
        assert_eq!(Behaviours::of(&[]), Ok(Behaviours::NONE));
        assert_eq!(Behaviours::of(&[1]).map(|set| set.has(Behaviour::EarlyRelease)), Ok(true));
        assert!(!Behaviours::NONE.has(Behaviour::EarlyRelease));
        assert_eq!(Behaviours::of(&[1, 0]), Err(UnknownBehaviour(0)));
        assert_eq!(Behaviours::of(&[4_000_000_000]), Err(UnknownBehaviour(4_000_000_000)));
        let all: Vec<u32> = Behaviour::ALL.iter().map(|behaviour| behaviour.number()).collect();
        assert_eq!(Behaviours::of(&all), Ok(Behaviours::default()));
        assert!(all.is_sorted() && all.iter().all(|number| *number < 64), "{all:?}");
    }
}
