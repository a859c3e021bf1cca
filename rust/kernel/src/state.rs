//! State by class (RK-20, section 6.6 of the contracts).

use std::collections::BTreeMap;

use crate::event::EventScope;
use crate::names::named_enum;

named_enum! {
    /// How long state lives and who keeps it.
    pub enum StateClass {
        TurnEphemeral => "turn_ephemeral", SessionHot => "session_hot",
        SessionDurable => "session_durable", Configuration => "control_plane_configuration",
        ProviderHealth => "provider_health",
    }
}

named_enum! {
    /// What a failover leaves of it.
    pub enum Survival {
        Lost => "lost", MayReset => "may_reset", Kept => "kept", Snapshot => "snapshot",
    }
}

impl StateClass {
    /// What a failover leaves of it.
    #[must_use]
    pub const fn survival(self) -> Survival {
        match self {
            Self::TurnEphemeral => Survival::Lost,
            Self::SessionHot => Survival::MayReset,
            Self::SessionDurable | Self::Configuration => Survival::Kept,
            Self::ProviderHealth => Survival::Snapshot,
        }
    }

    /// Whether a node of that scope may read it. State of a turn has no meaning outside of one.
    #[must_use]
    pub const fn readable(self, scope: EventScope) -> bool {
        !matches!((self, scope), (Self::TurnEphemeral, EventScope::Session))
    }

    /// Whether a node of that scope may change it. Configuration and health come from the control plane.
    #[must_use]
    pub const fn writable(self, scope: EventScope) -> bool {
        self.readable(scope) && !matches!(self, Self::Configuration | Self::ProviderHealth)
    }
}

/// Why state was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// A node of this scope may not.
    Forbidden,
    /// The store is full.
    Full,
    /// State of a turn needs an open one.
    NoTurn,
}

/// The state of one session, bounded by the number of its entries.
#[derive(Clone, Debug)]
pub struct StateStore<V> {
    entries: BTreeMap<(StateClass, String), V>,
    max_entries: usize,
    turn: u32,
}

impl<V> StateStore<V> {
    /// An empty store.
    #[must_use]
    pub const fn new(max_entries: usize) -> Self {
        Self { entries: BTreeMap::new(), max_entries, turn: 0 }
    }

    /// A turn opens: nothing of an earlier one is left.
    pub fn begin_turn(&mut self, turn: u32) {
        self.end_turn();
        self.turn = turn;
    }

    /// The turn is closed.
    pub fn end_turn(&mut self) {
        self.turn = 0;
        self.entries.retain(|(class, _), _| *class != StateClass::TurnEphemeral);
    }

    /// Reads for a node of that scope.
    #[must_use]
    pub fn get(&self, scope: EventScope, class: StateClass, key: &str) -> Option<&V> {
        class.readable(scope).then(|| self.entries.get(&(class, key.to_owned())))?
    }

    /// Writes for a node of that scope.
    ///
    /// # Errors
    /// The scope may not write the class, there is no turn, or the store is full.
    pub fn put(
        &mut self,
        scope: EventScope,
        class: StateClass,
        key: &str,
        value: V,
    ) -> Result<(), StateError> {
        if !class.writable(scope) {
            return Err(StateError::Forbidden);
        }
        if class == StateClass::TurnEphemeral && self.turn == 0 {
            return Err(StateError::NoTurn);
        }
        self.insert(class, key, value)
    }

    /// Takes what the control plane published, or what an external store kept.
    ///
    /// # Errors
    /// The store is full.
    pub fn attach(&mut self, class: StateClass, key: &str, value: V) -> Result<(), StateError> {
        self.insert(class, key, value)
    }

    fn insert(&mut self, class: StateClass, key: &str, value: V) -> Result<(), StateError> {
        let place = (class, key.to_owned());
        if self.entries.len() >= self.max_entries && !self.entries.contains_key(&place) {
            return Err(StateError::Full);
        }
        self.entries.insert(place, value);
        Ok(())
    }

    /// What another placement starts with: what is kept and what is known from snapshots.
    #[must_use]
    pub fn failover(mut self) -> Self {
        self.end_turn();
        self.entries.retain(|(class, _), _| matches!(class.survival(), Survival::Kept | Survival::Snapshot));
        self
    }

    /// The values held, by class.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: EventScope = EventScope::Turn;
    const SESSION: EventScope = EventScope::Session;

    fn full() -> StateStore<u8> {
        let mut store = StateStore::new(8);
        store.begin_turn(1);
        for class in StateClass::ALL {
            store.attach(*class, "key", 1).expect("room");
        }
        store
    }

    #[test]
    fn a_failover_keeps_what_is_durable_and_nothing_hot() {
        let after = full().failover();
        let kept: Vec<_> =
            StateClass::ALL.iter().filter(|class| after.get(TURN, **class, "key").is_some()).collect();
        assert_eq!(
            kept,
            [&StateClass::SessionDurable, &StateClass::Configuration, &StateClass::ProviderHealth]
        );
    }

    #[test]
    fn state_of_a_turn_ends_with_it() {
        let mut store = full();
        assert_eq!(store.get(SESSION, StateClass::TurnEphemeral, "key"), None);
        assert_eq!(store.get(TURN, StateClass::TurnEphemeral, "key"), Some(&1));
        store.begin_turn(2);
        assert_eq!((store.get(TURN, StateClass::TurnEphemeral, "key"), store.len()), (None, 4));
        assert_eq!(store.put(TURN, StateClass::TurnEphemeral, "key", 2), Ok(()));
        store.end_turn();
        assert_eq!(store.put(TURN, StateClass::TurnEphemeral, "key", 2), Err(StateError::NoTurn));
    }

    #[test]
    fn scopes_bound_what_a_node_may_write() {
        let mut store = full();
        let forbidden = [
            (SESSION, StateClass::TurnEphemeral),
            (TURN, StateClass::Configuration),
            (SESSION, StateClass::ProviderHealth),
        ];
        for (scope, class) in forbidden {
            assert_eq!(store.put(scope, class, "key", 9), Err(StateError::Forbidden));
        }
        for number in 0..9 {
            let full = store.put(SESSION, StateClass::SessionHot, &number.to_string(), 9).is_err();
            assert_eq!(full, number >= 3);
        }
        assert_eq!(store.put(SESSION, StateClass::SessionHot, "key", 9), Ok(()), "a known key has its place");
    }
}
