//! The lease store with the contract of `rspp/authority/store.py`: at most one holder, epochs that rise
//! for ever, an expiry by the store's own clock.
//!
//! | row      | on                               | becomes                                  |
//! |----------|----------------------------------|------------------------------------------|
//! | none     | acquire                          | held, epoch 1                            |
//! | held     | acquire before it runs out       | held; the asker is told so               |
//! | held     | acquire after it ran out         | held by the asker, epoch + 1, resumed    |
//! | released | acquire                          | held by the asker, epoch + 1             |
//! | held     | move to a new placement          | held by the asker, epoch + 1, resumed    |
//! | held     | rotate before it ran out         | held by the same, epoch + 1              |
//! | held     | renew by token before it ran out | held for another time to live            |
//! | held     | renew otherwise                  | held; the asker has lost it              |
//! | held     | release by token                 | released                                 |
//! | held     | revoke                           | out of time, so an orphan                |

use crate::queue::{AgentId, CallId};

/// Time to live of a grant (`TTL_MS` in `rspp/authority/store.py`).
pub(crate) const TTL_US: u64 = 4_000_000;
/// How much earlier the holder counts it as over (`MARGIN_MS` there).
pub(crate) const MARGIN_US: u64 = 250_000;

/// What a worker asks of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    Acquire,
    /// The control plane wants the session here, whoever holds it.
    Move,
    Renew,
    Release,
}

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ask {
    pub(crate) agent: AgentId,
    pub(crate) call: CallId,
    pub(crate) wish: Wish,
    pub(crate) number: u64,
    pub(crate) epoch: u64,
    /// Local time of the worker just before it asked.
    pub(crate) asked_local_us: u64,
}

/// What the store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    Granted {
        epoch: u64,
        resumed: bool,
    },
    Renewed {
        epoch: u64,
    },
    Released,
    Held,
    /// To another of this epoch, or to nobody (0).
    Lost {
        successor: u64,
    },
    Unusable,
}

/// An answer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answer {
    pub(crate) ask: Ask,
    pub(crate) said: Said,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    epoch: u64,
    holder: Option<AgentId>,
    expires_us: u64,
    released: bool,
}

/// The store; times are its own clock's.
#[derive(Debug, Default)]
pub(crate) struct Store {
    rows: Vec<Row>,
    /// Refuses every request while set.
    pub(crate) down: bool,
    /// Added to the way of every request, microseconds.
    pub(crate) slow_us: u64,
}

impl Store {
    /// A call is there that nobody has held yet.
    pub(crate) fn add_call(&mut self) {
        self.rows.push(Row::default());
    }

    pub(crate) fn answer(&mut self, now_us: u64, ask: Ask) -> Said {
        if self.down {
            return Said::Unusable;
        }
        let row = &mut self.rows[ask.call];
        let ours = row.holder == Some(ask.agent) && ask.epoch <= row.epoch;
        let lost = Said::Lost { successor: if ours { 0 } else { row.epoch } };
        match ask.wish {
            Wish::Acquire | Wish::Move => {
                let held = row.holder.is_some() && !row.released && now_us < row.expires_us;
                if held && ask.wish == Wish::Acquire {
                    return Said::Held;
                }
                let resumed = row.holder.is_some() && !row.released;
                *row = Row {
                    epoch: row.epoch + 1,
                    holder: Some(ask.agent),
                    expires_us: now_us + TTL_US,
                    released: false,
                };
                Said::Granted { epoch: row.epoch, resumed }
            }
            Wish::Renew if !ours || row.released || now_us >= row.expires_us => lost,
            Wish::Renew => {
                row.expires_us = now_us + TTL_US;
                Said::Renewed { epoch: row.epoch }
            }
            Wish::Release if ours => {
                row.released = true;
                Said::Released
            }
            Wish::Release => lost,
        }
    }

    /// Gives a session a higher epoch and leaves it with its holder; none when nobody holds it.
    pub(crate) fn rotate(&mut self, now_us: u64, call: CallId) -> Option<(AgentId, u64)> {
        let row = &mut self.rows[call];
        let held = !self.down && !row.released && now_us < row.expires_us;
        let holder = row.holder.filter(|_| held)?;
        row.epoch += 1;
        Some((holder, row.epoch))
    }

    /// Who had the lease last.
    pub(crate) fn holder(&self, call: CallId) -> Option<AgentId> {
        self.rows[call].holder
    }

    /// Takes the lease away from its holder; whoever looks for orphans may have it.
    pub(crate) fn revoke(&mut self, now_us: u64, call: CallId) {
        let row = &mut self.rows[call];
        row.expires_us = row.expires_us.min(now_us);
    }

    /// Whether the call's holder vanished without giving the lease back.
    pub(crate) fn orphaned(&self, now_us: u64, call: CallId) -> bool {
        let row = &self.rows[call];
        !self.down && row.holder.is_some() && !row.released && now_us >= row.expires_us
    }

    /// Whether a lease was given and not given back.
    pub(crate) fn unreleased(&self, call: CallId) -> bool {
        self.rows[call].holder.is_some() && !self.rows[call].released
    }

    pub(crate) fn epoch(&self, call: CallId) -> u64 {
        self.rows[call].epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(agent: AgentId, wish: Wish, epoch: u64) -> Ask {
        Ask { agent, call: 0, wish, number: 0, epoch, asked_local_us: 0 }
    }

    #[test]
    fn one_holder_at_a_time_and_epochs_that_rise() {
        let mut store = Store::default();
        store.add_call();
        let granted = |epoch, resumed| Said::Granted { epoch, resumed };
        assert_eq!(store.answer(0, ask(7, Wish::Acquire, 0)), granted(1, false));
        assert_eq!(store.answer(1, ask(8, Wish::Acquire, 0)), Said::Held);
        assert_eq!(store.answer(TTL_US - 1, ask(7, Wish::Renew, 1)), Said::Renewed { epoch: 1 });
        assert_eq!(store.answer(TTL_US, ask(8, Wish::Acquire, 0)), Said::Held);
        assert!(store.orphaned(2 * TTL_US, 0) && !store.orphaned(2 * TTL_US - 2, 0));
        assert_eq!(store.answer(2 * TTL_US, ask(7, Wish::Renew, 1)), Said::Lost { successor: 0 });
        assert_eq!(store.answer(2 * TTL_US, ask(8, Wish::Acquire, 0)), granted(2, true));
        assert_eq!(store.answer(2 * TTL_US, ask(7, Wish::Release, 1)), Said::Lost { successor: 2 });
        assert_eq!(store.answer(2 * TTL_US, ask(8, Wish::Release, 2)), Said::Released);
        assert_eq!(store.answer(2 * TTL_US, ask(7, Wish::Acquire, 0)), granted(3, false));
        store.revoke(5, 0);
        assert_eq!(store.answer(2 * TTL_US, ask(7, Wish::Renew, 3)), Said::Lost { successor: 0 });
        assert_eq!(store.rotate(5, 0), None);
        assert_eq!(store.answer(2 * TTL_US, ask(7, Wish::Move, 0)), granted(4, true));
        assert_eq!(store.rotate(2 * TTL_US, 0), Some((7, 5)));
        assert_eq!(store.answer(2 * TTL_US, ask(7, Wish::Renew, 4)), Said::Renewed { epoch: 5 });
        assert_eq!(store.answer(2 * TTL_US, ask(8, Wish::Move, 0)), granted(6, true));
        assert_eq!(store.answer(2 * TTL_US, ask(7, Wish::Renew, 5)), Said::Lost { successor: 6 });
        store.down = true;
        assert_eq!(store.answer(9 * TTL_US, ask(8, Wish::Acquire, 0)), Said::Unusable);
    }
}
