//! Local admission and scheduling (RK-25): every outcome is computed from a policy and counters.
//!
//! | point | lane | there is no capacity when | outcome |
//! |---|---|---|---|
//! | any scheduling point | control | never | admit |
//! | any scheduling point | data | the point or the key's quota is full, or there is pressure and the key has its share | shed |
//! | any scheduling point | telemetry | there is pressure, or as for data | shed |
//! | turn start | - | the policy is missing or no longer valid | reject |
//! | turn start | - | as for data, or what is free is claimed by those deferred earlier | defer, reject when too many wait |
//!
//! A scheduling point inside a turn goes on under the policy that the turn was admitted under, even
//! when that has run out: a turn that was accepted is not stopped by a silent control plane.

use std::collections::BTreeMap;

use crate::decision::{Decider, Decision, Outcome, Phase, Scope};
use crate::event::Lane;
use crate::names::named_enum;
use crate::reason::Reason;

named_enum! {
    /// Where admission is asked for.
    pub enum Point {
        TurnStart => "turn_start", EdgeEnqueue => "edge_enqueue", EdgeDequeue => "edge_dequeue",
        NodeDispatch => "node_dispatch",
    }
}

/// Places at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Places of all keys together.
    pub places: u64,
    /// Places of one fairness key.
    pub per_key: u64,
    /// Places taken from which there is pressure: telemetry goes, and no key gets more than its share.
    pub pressure: u64,
}

impl Quota {
    /// Whether the numbers make sense together.
    #[must_use]
    pub const fn valid(&self) -> bool {
        self.places >= 1
            && self.per_key >= 1
            && self.per_key <= self.places
            && self.pressure >= 1
            && self.pressure <= self.places
    }
}

/// A snapshot of the admission policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionPolicy {
    /// Its reference.
    pub snapshot_ref: String,
    /// Until when it may open turns, microseconds.
    pub valid_until_us: u64,
    /// Places by point, in the order of [`Point::ALL`].
    pub quotas: [Quota; 4],
    /// Keys that may wait for a turn.
    pub max_deferred: usize,
    /// How long a deferred key's claim on the next free place holds, microseconds.
    pub claim_us: u64,
}

/// What was decided and the counters it was computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// Places taken at the point before it.
    pub in_use: u64,
    /// Places of the point.
    pub places: u64,
    /// Places that the key had taken before it.
    pub key_in_use: u64,
    /// What the key may have under pressure.
    pub key_share: u64,
}

impl Verdict {
    /// Whether a place was taken.
    #[must_use]
    pub const fn admitted(&self) -> bool {
        matches!(self.decision.outcome, Outcome::Admit)
    }
}

/// What the runtime's admission says at one point, and the counters that it was computed from; `R` is
/// how a foreign word is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<R> {
    /// Where.
    pub point: Point,
    /// What it would decide.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Reference of the policy.
    pub snapshot: R,
    /// The fairness key.
    pub key: R,
    /// Places taken there.
    pub in_use: u32,
    /// Places there.
    pub places: u32,
    /// Places that the key has taken.
    pub key_in_use: u32,
    /// What the key may have under pressure.
    pub key_share: u32,
    /// How long the claim of a deferred turn holds, microseconds.
    pub claim_us: u64,
}

impl<'a> Place<&'a str> {
    /// What `verdict` says at a point, under the policy `snapshot` and for the fairness key `key`.
    #[must_use]
    pub fn new(point: Point, verdict: &Verdict, snapshot: &'a str, key: &'a str, claim_us: u64) -> Self {
        let short = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            point,
            outcome: verdict.decision.outcome,
            reason: verdict.decision.reason,
            snapshot,
            key,
            in_use: short(verdict.in_use),
            places: short(verdict.places),
            key_in_use: short(verdict.key_in_use),
            key_share: short(verdict.key_share),
            claim_us,
        }
    }
}

impl<R> Place<R> {
    /// The same with its foreign words held another way.
    pub fn map<S>(self, mut hold: impl FnMut(R) -> S) -> Place<S> {
        let Self { point, outcome, reason, snapshot, key, in_use, places, key_in_use, key_share, claim_us } =
            self;
        let (snapshot, key) = (hold(snapshot), hold(key));
        Place { point, outcome, reason, snapshot, key, in_use, places, key_in_use, key_share, claim_us }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    taken: [u64; 4],
    claim_until_us: Option<u64>,
}

impl Use {
    const fn claims(&self, now_us: u64) -> bool {
        matches!(self.claim_until_us, Some(until_us) if until_us > now_us)
    }

    fn idle(&self) -> bool {
        self.taken == [0; 4] && self.claim_until_us.is_none()
    }
}

/// The enforcer of one runtime.
///
/// Only keys that hold a place or a claim are kept, so the quotas bound its memory.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    policy: Option<AdmissionPolicy>,
    taken: [u64; 4],
    keys_at: [u64; 4],
    keys: BTreeMap<String, Use>,
    claims: usize,
}

impl Admission {
    /// An enforcer without a policy: it opens no turn and admits control alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a new snapshot; false when its numbers make no sense, which leaves the earlier one.
    pub fn adopt(&mut self, policy: AdmissionPolicy) -> bool {
        let valid = !policy.snapshot_ref.is_empty() && policy.quotas.iter().all(Quota::valid);
        if valid {
            self.policy = Some(policy);
        }
        valid
    }

    /// The reference of the policy that decides now.
    #[must_use]
    pub fn snapshot_ref(&self) -> Option<&str> {
        self.policy.as_ref().map(|policy| policy.snapshot_ref.as_str())
    }

    /// Asks for a place at a point, for a fairness key such as a session or a tenant.
    ///
    /// `turn_known` tells whether there is a candidate turn; it decides the scope at turn start.
    pub fn ask(&mut self, now_us: u64, point: Point, lane: Lane, key: &str, turn_known: bool) -> Verdict {
        self.forget_claims(now_us);
        let verdict = self.weigh(now_us, point, lane, key, 0, turn_known);
        if verdict.decision.outcome == Outcome::Defer {
            self.claim(now_us, key);
        }
        if verdict.admitted() && (point == Point::TurnStart || lane != Lane::Control) {
            self.take(point as usize, key, verdict.key_in_use == 0);
        }
        verdict
    }

    /// What `ask` would answer for a candidate turn if the asker gave back the `own` places first that it
    /// has of the key there. Nothing is taken and nothing claimed.
    #[must_use]
    pub fn peek(&self, now_us: u64, point: Point, lane: Lane, key: &str, own: u64) -> Verdict {
        self.weigh(now_us, point, lane, key, own, true)
    }

    fn weigh(&self, now_us: u64, point: Point, lane: Lane, key: &str, own: u64, turn_known: bool) -> Verdict {
        let at = point as usize;
        let used = self.keys.get(key).copied().unwrap_or_default();
        let (in_use, key_in_use) = (self.taken[at].saturating_sub(own), used.taken[at].saturating_sub(own));
        let quota = self.policy.as_ref().map(|policy| policy.quotas[at]);
        let places = quota.map_or(0, |quota| quota.places);
        let active = self.keys_at[at] + u64::from(used.taken[at] == 0);
        let key_share = (places / active.max(1)).max(1);
        let room = quota.is_some_and(|quota| {
            let pressed = in_use >= quota.pressure && (lane == Lane::Telemetry || key_in_use >= key_share);
            in_use < quota.places && key_in_use < quota.per_key && !pressed
        });
        let (outcome, reason) = match point {
            Point::TurnStart => self.turn_start(now_us, room, places.saturating_sub(in_use), used),
            _ if lane == Lane::Control || room => (Outcome::Admit, Reason::AdmissionCapacityAllow),
            _ => (Outcome::Shed, Reason::SchedulingPointShed),
        };
        let decision = decision(point, outcome, reason, turn_known);
        Verdict { decision, in_use, places, key_in_use, key_share }
    }

    fn turn_start(&self, now_us: u64, room: bool, free: u64, used: Use) -> (Outcome, Reason) {
        let Some(policy) = self.policy.as_ref().filter(|policy| now_us < policy.valid_until_us) else {
            return (Outcome::Reject, Reason::SnapshotInvalidOrMissing);
        };
        let claims =
            if self.claims == 0 { 0 } else { self.keys.values().filter(|used| used.claims(now_us)).count() };
        let waits = used.claims(now_us);
        let claimed = if waits { 0 } else { claims as u64 };
        if room && free > claimed {
            (Outcome::Admit, Reason::AdmissionCapacityAllow)
        } else if !waits && claims >= policy.max_deferred {
            (Outcome::Reject, Reason::AdmissionCapacityReject)
        } else {
            (Outcome::Defer, Reason::AdmissionCapacityDefer)
        }
    }

    fn claim(&mut self, now_us: u64, key: &str) {
        let Some(policy) = self.policy.as_ref() else { return };
        let until_us = now_us.saturating_add(policy.claim_us);
        let used = self.keys.entry(key.to_owned()).or_default();
        self.claims += usize::from(used.claim_until_us.replace(until_us).is_none());
    }

    /// How long a deferred key's claim on the next free place holds, microseconds.
    #[must_use]
    pub fn claim_us(&self) -> u64 {
        self.policy.as_ref().map_or(0, |policy| policy.claim_us)
    }

    fn forget_claims(&mut self, now_us: u64) {
        if self.claims == 0 {
            return;
        }
        for used in self.keys.values_mut() {
            if used.claim_until_us.is_some_and(|until_us| until_us <= now_us) {
                used.claim_until_us = None;
                self.claims -= 1;
            }
        }
        self.keys.retain(|_, used| !used.idle());
    }

    fn take(&mut self, at: usize, key: &str, first: bool) {
        self.taken[at] += 1;
        self.keys_at[at] += u64::from(first);
        if let Some(used) = self.keys.get_mut(key) {
            used.taken[at] += 1;
            if at == 0 && used.claim_until_us.take().is_some() {
                self.claims -= 1;
            }
            return;
        }
        let mut used = Use::default();
        used.taken[at] = 1;
        self.keys.insert(key.to_owned(), used);
    }

    /// Gives a place back; false when the key holds none there.
    pub fn done(&mut self, point: Point, lane: Lane, key: &str) -> bool {
        let at = point as usize;
        if point != Point::TurnStart && lane == Lane::Control {
            return true;
        }
        let Some(used) = self.keys.get_mut(key).filter(|used| used.taken[at] > 0) else {
            return false;
        };
        used.taken[at] -= 1;
        self.taken[at] -= 1;
        self.keys_at[at] -= u64::from(used.taken[at] == 0);
        if used.idle() {
            self.keys.remove(key);
        }
        true
    }

    /// Places taken at a point.
    #[must_use]
    pub const fn in_use(&self, point: Point) -> u64 {
        self.taken[point as usize]
    }

    /// Keys that hold a place or a claim.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }
}

const fn decision(point: Point, outcome: Outcome, reason: Reason, turn_known: bool) -> Decision {
    let (phase, scope) = match point {
        Point::TurnStart if turn_known => (Phase::PreTurn, Scope::Turn),
        Point::TurnStart => (Phase::PreTurn, Scope::Session),
        Point::EdgeEnqueue => (Phase::SchedulingPoint, Scope::EdgeEnqueue),
        Point::EdgeDequeue => (Phase::SchedulingPoint, Scope::EdgeDequeue),
        Point::NodeDispatch => (Phase::SchedulingPoint, Scope::NodeDispatch),
    };
    Decision { outcome, phase, scope, decider: Decider::Rk25, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTA: Quota = Quota { places: 4, per_key: 3, pressure: 3 };

    fn admission() -> Admission {
        let mut admission = Admission::new();
        let policy = AdmissionPolicy {
            snapshot_ref: String::from("admission-policy/v7"),
            valid_until_us: 1_000_000,
            quotas: [QUOTA; 4],
            max_deferred: 1,
            claim_us: 1000,
        };
        assert!(!admission
            .adopt(AdmissionPolicy { quotas: [Quota { pressure: 5, ..QUOTA }; 4], ..policy.clone() }));
        assert!(!admission.adopt(AdmissionPolicy { snapshot_ref: String::new(), ..policy.clone() }));
        assert!(admission.adopt(policy));
        admission
    }

    fn turn(admission: &mut Admission, now_us: u64, key: &str) -> (Outcome, Reason) {
        let verdict = admission.ask(now_us, Point::TurnStart, Lane::Control, key, true);
        (verdict.decision.outcome, verdict.decision.reason)
    }

    fn data(admission: &mut Admission, key: &str) -> Outcome {
        admission.ask(0, Point::NodeDispatch, Lane::Data, key, true).decision.outcome
    }

    #[test]
    fn g24_without_a_valid_snapshot_no_turn_opens() {
        let refused = (Outcome::Reject, Reason::SnapshotInvalidOrMissing);
        assert_eq!(turn(&mut Admission::new(), 0, "s"), refused);
        let mut admission = admission();
        assert_eq!(turn(&mut admission, 999_999, "s").0, Outcome::Admit);
        assert_eq!(turn(&mut admission, 1_000_000, "s"), refused);
        assert_eq!(data(&mut admission, "s"), Outcome::Admit, "an accepted turn goes on");
    }

    #[test]
    fn g24_capacity_is_counted_and_the_deferred_come_first() {
        let mut admission = admission();
        for key in ["a", "b", "c", "d"] {
            assert_eq!(turn(&mut admission, 0, key).0, Outcome::Admit);
        }
        assert_eq!(turn(&mut admission, 0, "e"), (Outcome::Defer, Reason::AdmissionCapacityDefer));
        assert_eq!(turn(&mut admission, 0, "f"), (Outcome::Reject, Reason::AdmissionCapacityReject));
        assert!(admission.done(Point::TurnStart, Lane::Control, "a"));
        assert!(!admission.done(Point::TurnStart, Lane::Control, "a"));
        assert_eq!(turn(&mut admission, 500, "f").0, Outcome::Reject, "the free place is e's");
        assert_eq!(turn(&mut admission, 600, "e").0, Outcome::Admit);
        assert!(admission.done(Point::TurnStart, Lane::Control, "b"));
        assert_eq!(turn(&mut admission, 700, "f").0, Outcome::Admit);
    }

    #[test]
    fn a_claim_that_nobody_comes_back_for_runs_out() {
        let mut admission = admission();
        for key in ["a", "b", "c", "d", "e"] {
            turn(&mut admission, 0, key);
        }
        admission.done(Point::TurnStart, Lane::Control, "a");
        assert_eq!(turn(&mut admission, 999, "f").0, Outcome::Reject);
        assert_eq!(turn(&mut admission, 1000, "f").0, Outcome::Admit);
        assert_eq!(admission.keys(), 4);
    }

    #[test]
    fn under_pressure_a_key_keeps_its_share_and_no_more() {
        let mut admission = admission();
        assert_eq!([0; 3].map(|_| data(&mut admission, "greedy")), [Outcome::Admit; 3]);
        assert_eq!(data(&mut admission, "greedy"), Outcome::Shed);
        assert_eq!(data(&mut admission, "modest"), Outcome::Admit);
        assert_eq!(data(&mut admission, "third"), Outcome::Shed);
        admission.done(Point::NodeDispatch, Lane::Data, "greedy");
        let verdict = admission.ask(0, Point::NodeDispatch, Lane::Data, "greedy", true);
        assert_eq!((verdict.decision.outcome, verdict.key_in_use, verdict.key_share), (Outcome::Shed, 2, 2));
        assert_eq!(data(&mut admission, "third"), Outcome::Admit);
    }

    #[test]
    fn a_peek_counts_own_places_as_free_and_changes_nothing() {
        let mut admission = admission();
        for key in ["a", "b", "c", "d"] {
            turn(&mut admission, 0, key);
        }
        let peek = |admission: &Admission, key, own| {
            admission.peek(0, Point::TurnStart, Lane::Data, key, own).decision.outcome
        };
        assert_eq!(peek(&admission, "a", 1), Outcome::Admit, "a turn may follow its own");
        assert_eq!(peek(&admission, "a", 0), Outcome::Defer);
        assert_eq!((peek(&admission, "e", 0), peek(&admission, "f", 0)), (Outcome::Defer, Outcome::Defer));
        assert_eq!(
            (turn(&mut admission, 0, "e").0, peek(&admission, "f", 0)),
            (Outcome::Defer, Outcome::Reject)
        );
        assert_eq!(admission.in_use(Point::TurnStart), 4);
    }

    #[test]
    fn telemetry_goes_first_and_control_never() {
        for point in [Point::EdgeEnqueue, Point::EdgeDequeue, Point::NodeDispatch] {
            let mut admission = admission();
            let mut ask = |lane, key| admission.ask(0, point, lane, key, false).decision.outcome;
            assert_eq!(["a", "b", "c"].map(|key| ask(Lane::Data, key)), [Outcome::Admit; 3]);
            assert_eq!(ask(Lane::Telemetry, "d"), Outcome::Shed);
            assert_eq!(ask(Lane::Data, "d"), Outcome::Admit);
            assert_eq!(ask(Lane::Data, "e"), Outcome::Shed);
            assert!((0..100).all(|_| ask(Lane::Control, "e") == Outcome::Admit));
            assert_eq!(admission.in_use(point), 4);
        }
    }

    proptest! {
        #[test]
        fn ct005_w06_every_decision_is_legal_and_no_quota_is_passed(
            asks in prop::collection::vec((0usize..4, 0usize..3, "[a-d]", any::<bool>(), any::<bool>(), 0u64..400), 1..300),
        ) {
            let mut admission = admission();
            let mut now_us = 0;
            let mut held: Vec<(Point, Lane, String)> = Vec::new();
            for (point, lane, key, turn_known, gives, wait_us) in asks {
                now_us += wait_us;
                let (point, lane) = (Point::ALL[point], Lane::ALL[lane]);
                if gives && !held.is_empty() {
                    let (point, lane, key) = held.remove(0);
                    prop_assert!(admission.done(point, lane, &key));
                    continue;
                }
                let verdict = admission.ask(now_us, point, lane, &key, turn_known);
                prop_assert!(verdict.decision.legal(turn_known));
                prop_assert!(verdict.decision.outcome.signal().reasons().contains(&verdict.decision.reason));
                prop_assert!(verdict.decision.phase != Phase::ActiveTurn);
                if verdict.admitted() {
                    held.push((point, lane, key));
                }
                for point in Point::ALL {
                    prop_assert!(admission.in_use(*point) <= QUOTA.places);
                }
            }
            for (point, lane, key) in held {
                prop_assert!(admission.done(point, lane, &key));
            }
            prop_assert!(admission.keys() <= 1, "a claim at most");
        }
    }
}
