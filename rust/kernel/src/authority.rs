//! The lease as the runtime knows it: epoch, local deadline, and whether authority is gone for good.
//!
//! Beside the lease stands the routing view: the epoch under which the control plane says that the
//! session is served. A lease below the view is superseded: it opens no turn and lets no frame pass,
//! though only a revocation ends what is running.

use crate::names::named_enum;

named_enum! {
    /// What became of an event that came in with or without an epoch.
    pub enum Ingress {
        Accepted => "accepted", Enriched => "enriched", Stale => "stale", Refresh => "refresh",
        Invalid => "invalid",
    }
}

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
    view: u64,
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
        if epoch < self.epoch || epoch < self.view {
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
        self.view = epoch;
        self.held = true;
        grant
    }

    /// Takes a refreshed routing view; true when it supersedes the lease that is held.
    ///
    /// A view that is older than what is known is a late copy and changes nothing.
    pub fn route(&mut self, epoch: u64) -> bool {
        let newer = epoch > self.view;
        self.view = self.view.max(epoch);
        newer && self.held && self.superseded()
    }

    /// Whether the routing view names a higher epoch than the lease.
    #[inline]
    #[must_use]
    pub const fn superseded(&self) -> bool {
        self.epoch < self.view
    }

    /// Epoch of the routing view.
    #[must_use]
    pub const fn view(&self) -> u64 {
        self.view
    }

    /// Decides about an event from outside by the epoch that it carries, if any (section 9.2).
    ///
    /// Enrichment is no validation: an event without an epoch gets the one of the view and is then
    /// held against the lease like every other. A higher epoch than the view's means that the view is
    /// behind: refresh it and ask again.
    #[must_use]
    pub const fn ingress(&self, carrier: Option<i64>) -> Ingress {
        let Some(carrier) = carrier else {
            return if self.superseded() { Ingress::Stale } else { Ingress::Enriched };
        };
        if carrier < 0 {
            return Ingress::Invalid;
        }
        let carrier = carrier.unsigned_abs();
        if carrier > self.view {
            Ingress::Refresh
        } else if carrier < self.view || self.superseded() {
            Ingress::Stale
        } else {
            Ingress::Accepted
        }
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

    #[test]
    fn a_carrier_is_held_against_the_view_and_enrichment_is_no_validation() {
        let mut authority = Authority::default();
        authority.grant(3, 100);
        let decide = |authority: &Authority, carrier| authority.ingress(carrier);
        assert_eq!(decide(&authority, None), Ingress::Enriched);
        assert_eq!(decide(&authority, Some(-1)), Ingress::Invalid);
        assert_eq!(decide(&authority, Some(2)), Ingress::Stale);
        assert_eq!(decide(&authority, Some(3)), Ingress::Accepted);
        assert_eq!(decide(&authority, Some(4)), Ingress::Refresh);
        assert!(!authority.route(2) && !authority.route(3) && authority.route(4) && !authority.route(4));
        assert_eq!(decide(&authority, Some(4)), Ingress::Stale);
        assert_eq!(decide(&authority, None), Ingress::Stale);
        assert_eq!(authority.grant(3, 900), Grant::Stale);
        assert_eq!(authority.grant(4, 900), Grant::Rotated);
        assert_eq!(decide(&authority, Some(4)), Ingress::Accepted);
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
