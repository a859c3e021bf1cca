//! The lease as the runtime knows it: epoch, local deadline, and whether authority is gone for good.

/// What a granted or renewed lease meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The first lease of this session.
    Issued,
    /// The same epoch, a later deadline.
    Renewed,
    /// A higher epoch while one was held.
    Rotated,
    /// A lower epoch: refused.
    Stale,
    /// Authority was lost before; nothing brings it back.
    TooLate,
}

/// Authority of one session. The epoch never goes down and a drained session never comes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Authority {
    epoch: u64,
    deadline_us: u64,
    held: bool,
    drained: bool,
}

impl Authority {
    /// Takes a lease.
    ///
    /// A renewal never shortens the deadline: each was promised by the store, and answers may overtake
    /// one another.
    pub fn grant(&mut self, epoch: u64, deadline_us: u64) -> Grant {
        if self.drained {
            return Grant::TooLate;
        }
        if epoch < self.epoch {
            return Grant::Stale;
        }
        let grant = match (self.held, epoch == self.epoch) {
            (false, _) => Grant::Issued,
            (true, true) => Grant::Renewed,
            (true, false) => Grant::Rotated,
        };
        self.deadline_us =
            if grant == Grant::Renewed { self.deadline_us.max(deadline_us) } else { deadline_us };
        self.epoch = epoch;
        self.held = true;
        grant
    }

    /// Gives authority up for good; true the first time.
    pub fn drain(&mut self) -> bool {
        self.held = false;
        !std::mem::replace(&mut self.drained, true)
    }

    /// Whether a held lease has run out.
    #[inline]
    #[must_use]
    pub const fn expired(&self, now_us: u64) -> bool {
        self.held && now_us >= self.deadline_us
    }

    /// Whether turns may open.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.held
    }

    /// Whether authority or the call is gone for good.
    #[inline]
    #[must_use]
    pub const fn drained(&self) -> bool {
        self.drained
    }

    /// Epoch of the latest lease, 0 before the first.
    #[inline]
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When the held lease runs out.
    #[must_use]
    pub const fn deadline_us(&self) -> Option<u64> {
        if self.held {
            Some(self.deadline_us)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lease_is_issued_renewed_and_rotated() {
        let mut authority = Authority::default();
        assert!(!authority.holds() && !authority.expired(u64::MAX));
        assert_eq!(authority.grant(3, 100), Grant::Issued);
        assert_eq!(authority.grant(3, 200), Grant::Renewed);
        assert_eq!(authority.grant(3, 150), Grant::Renewed);
        assert_eq!(authority.deadline_us(), Some(200));
        assert_eq!(authority.grant(2, 900), Grant::Stale);
        assert_eq!(authority.grant(4, 180), Grant::Rotated);
        assert_eq!((authority.epoch(), authority.deadline_us()), (4, Some(180)));
        assert!(!authority.expired(179) && authority.expired(180));
    }

    #[test]
    fn nothing_comes_back_after_a_drain() {
        let mut authority = Authority::default();
        authority.grant(1, 100);
        assert!(authority.drain());
        assert!(!authority.drain());
        assert_eq!(authority.grant(9, 900), Grant::TooLate);
        assert_eq!((authority.epoch(), authority.deadline_us()), (1, None));
    }

    proptest! {
        #[test]
        fn epochs_never_go_down(grants in proptest::collection::vec((0u64..6, 0u64..100), 1..40)) {
            let mut authority = Authority::default();
            for (epoch, deadline) in grants {
                let before = authority.epoch();
                authority.grant(epoch, deadline);
                prop_assert!(authority.epoch() >= before);
            }
        }
    }
}
