//! The gate of a turn's start: what refuses a proposal, in the order of section 4.3 of the contracts.
//!
//! | | refuses when | outcome | by |
//! |---|---|---|---|
//! | 1 | the call is over, the runtime leaves, or evidence has no room | reject | RK-25 |
//! | 2 | the snapshots are stale, missing or incompatible | as the policy says | RK-25 |
//! | 3 | there is no capacity | reject, defer | RK-25 |
//! | 4 | the routing view names a higher epoch | stale epoch | RK-24 |
//! | 5 | no lease is held | drain | RK-24 |
//! | 6 | the control-plane bundle is not resolved | as the policy says | RK-25 |
//! | 7 | CP-07 names another epoch, or takes the authority away | stale epoch, drain | RK-24 |
//! | 8 | CP-05 does not admit | reject, defer | CP-05 |
//! | 9 | the plan cannot be made | as the policy says | RK-25 |
//!
//! The bundle is an input: it was fetched and resolved before, and nothing is asked for while a turn
//! opens. A session that needs one and was never told any has none that is resolved; one that is not
//! renewed in time is stale. A bundle binds the turns that open after it; the running turn keeps its plan
//! and its adaptive actions.

use crate::bundle::{Failure, Provenance, TurnStart, CLAIM_US, MAX_LENT};
use crate::decision::{Decider, Decision, Outcome, Phase, Scope};
use crate::effect::Intent;
use crate::evidence::record::{Call, Class, Marker};
use crate::policy::WhenRefused;
use crate::reason::Reason;
use crate::session::{Drained, SessionKernel, OPENING_ROOM};

/// The bundle that is in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct InForce {
    said: TurnStart<()>,
}

/// Why a proposal does not become a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) outcome: Outcome,
    pub(super) reason: Reason,
    pub(super) decider: Decider,
    pub(super) scope: Scope,
}

impl Refusal {
    pub(super) const fn local(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason, decider: Decider::Rk25, scope: Scope::Turn }
    }

    const fn authority(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason, decider: Decider::Rk24, scope: Scope::Turn }
    }

    pub(super) const fn decision(self) -> Decision {
        let Self { outcome, reason, decider, scope } = self;
        Decision { outcome, phase: Phase::PreTurn, scope, decider, reason }
    }

    /// Whether the refused intent waits for another answer.
    pub(super) fn waits(self) -> bool {
        self.outcome == Outcome::Defer && self.reason != Reason::PlanMaterializationFailed
    }
}

impl SessionKernel {
    /// Takes what the control plane says about the next turns; without a provenance it is as told before.
    ///
    /// A bundle of a lower version than one that was taken is refused, and what was in force stays. A
    /// failure is taken whatever its version, because it opens nothing.
    pub fn turn_start(&mut self, now_us: u64, said: TurnStart<&str>, provenance: Option<&Provenance>) {
        self.enter(now_us);
        let changed = provenance.filter(|provenance| self.provenance.as_ref() != Some(*provenance));
        let reason = self.interner.label(said.admission_reason);
        if changed.is_some() && self.evidence.borrowing() >= MAX_LENT {
            // There is no room for the words of the record, which is as good as none for itself.
            self.evidence.lose(self.now_us);
        } else {
            let provenance = changed.map(|provenance| {
                let number = self.provenances;
                self.provenances += 1;
                self.interner.lend(provenance, number)
            });
            let recorded = TurnStart { provenance, ..said.map(|_| reason) };
            self.note_call(Class::Baseline, self.open_turn(), Call::TurnStart(recorded));
        }
        if let Some(provenance) = changed {
            self.provenance = Some(provenance.clone());
        }
        self.take_bundle(said.map(|_| ()));
    }

    fn take_bundle(&mut self, said: TurnStart<()>) {
        let failed = said.failure.is_some();
        if !failed && said.version < self.bundle_version {
            self.marker(Class::Baseline, self.open_turn(), Marker::BundleRefused, said.version);
            return;
        }
        self.bundle = Some(InForce { said });
        if !failed {
            self.bundle_version = said.version;
            if let Some(provenance) = &self.provenance {
                self.plan.bind(provenance, said.actions);
            }
            self.allowed = said.actions;
            if self.turn.is_none() {
                self.invocations.allow(self.allowed);
            }
        }
        self.look_now();
    }

    /// The words behind a provenance's number in this kernel's latest records.
    #[must_use]
    pub fn provenance(&self, place: u32) -> Option<&Provenance> {
        self.interner.provenance(place)
    }

    /// Why no bundle is in force, if so.
    fn bundle_failure(&self) -> Option<Failure> {
        match &self.bundle {
            Some(InForce { said }) if said.failure.is_some() => said.failure,
            Some(InForce { said }) if self.now_us > said.usable_until_us => Some(Failure::SnapshotInvalid),
            Some(_) if self.provenance.is_none() => Some(Failure::ResolutionFailed),
            None if self.policy.needs_bundle => Some(Failure::ResolutionFailed),
            Some(_) | None => None,
        }
    }

    fn refused_without(&self, wanted: Failure) -> Option<Refusal> {
        let failure = self.bundle_failure().filter(|failure| *failure == wanted)?;
        let when = match failure {
            Failure::SnapshotInvalid => self.policy.snapshot_failure,
            Failure::ResolutionFailed => self.policy.plan_failure,
        };
        Some(Refusal::local(outcome(when), failure.reason()))
    }

    /// What CP-07 refuses.
    fn refused_by_authority(&self) -> Option<Refusal> {
        let InForce { said } = self.bundle?;
        let stated = said.authority_epoch != 0;
        if !said.authority_valid || (stated && said.authority_epoch != self.authority.epoch()) {
            Some(Refusal::authority(Outcome::StaleEpochReject, Reason::AuthorityEpochMismatch))
        } else if !said.authority_authorized {
            Some(Refusal::authority(Outcome::DeauthorizedDrain, Reason::AuthorityRevokedBeforeOpen))
        } else {
            None
        }
    }

    /// What CP-05 refuses; its own word stays with the input.
    fn refused_by_admission(&self) -> Option<Refusal> {
        let InForce { said } = self.bundle?;
        let (outcome, reason) = match said.admitted() {
            Outcome::Admit => return None,
            Outcome::Defer => (Outcome::Defer, Reason::CpAdmissionDeferCapacity),
            _ => (Outcome::Reject, Reason::CpAdmissionRejectPolicy),
        };
        let scope = if said.admission_scope == Scope::Tenant { Scope::Tenant } else { Scope::Session };
        Some(Refusal { outcome, reason, decider: Decider::Cp05, scope })
    }

    /// Why no turn may open now, but for its plan.
    pub(super) fn refusal(&self, intent: Intent) -> Option<Refusal> {
        if self.drained == Some(Drained::Call) {
            return Some(Refusal::local(Outcome::Reject, Reason::TransportDisconnectOrStall));
        }
        if self.comes_too_late(intent) {
            return Some(Refusal::local(Outcome::Reject, Reason::AdmissionCapacityReject));
        }
        if self.evidence.free() < OPENING_ROOM {
            return Some(Refusal::local(Outcome::Reject, Reason::RecordingEvidenceUnavailable));
        }
        self.refused_without(Failure::SnapshotInvalid)
            .or_else(|| self.start_refused().map(|(outcome, reason)| Refusal::local(outcome, reason)))
            .or_else(|| self.refused_by_lease())
            .or_else(|| self.refused_without(Failure::ResolutionFailed))
            .or_else(|| self.refused_by_authority())
            .or_else(|| self.refused_by_admission())
    }

    fn refused_by_lease(&self) -> Option<Refusal> {
        if self.authority.superseded() {
            Some(Refusal::authority(Outcome::StaleEpochReject, Reason::AuthorityEpochMismatch))
        } else if !self.authority.holds() {
            Some(Refusal::authority(Outcome::DeauthorizedDrain, Reason::AuthorityRevokedBeforeOpen))
        } else {
            None
        }
    }

    /// Whether a control plane has a say about this session.
    const fn managed(&self) -> bool {
        self.policy.needs_bundle || self.bundle.is_some()
    }

    /// Whether the caller is owed a word once turns open again; after a policy said no, nobody is.
    pub(super) fn owes_notice(&self, refusal: Refusal) -> bool {
        match refusal.reason {
            Reason::AdmissionCapacityReject => true,
            Reason::SnapshotInvalidOrMissing | Reason::TurnStartBundleResolutionFailed => self.managed(),
            _ => false,
        }
    }

    /// Why a plan could not be made, as a refusal; without a control plane it is final.
    pub(super) fn plan_refusal(&self) -> Refusal {
        let outcome = if self.managed() { outcome(self.policy.plan_failure) } else { Outcome::Reject };
        Refusal::local(outcome, Reason::PlanMaterializationFailed)
    }

    /// The reason for which what waits would have to wait on; none when it may be proposed again.
    pub(super) fn keeps_waiting(&self) -> Option<Reason> {
        if self.start_refused().is_some() {
            return Some(Reason::AdmissionCapacityReject);
        }
        let refusal = self
            .refused_without(Failure::SnapshotInvalid)
            .or_else(|| self.refused_without(Failure::ResolutionFailed))
            .or_else(|| self.refused_by_admission())?;
        let gives_up =
            if refusal.decider == Decider::Cp05 { Reason::AdmissionCapacityReject } else { refusal.reason };
        (refusal.outcome == Outcome::Defer).then_some(gives_up)
    }

    /// How long an intent that was refused so waits, microseconds.
    pub(super) fn claim_us(&self, refusal: Refusal) -> u64 {
        if refusal.reason == Reason::AdmissionCapacityDefer {
            self.turn_start.map_or(0, |place| place.claim_us)
        } else {
            self.bundle.map_or(CLAIM_US, |InForce { said }| said.claim_us)
        }
    }
}

const fn outcome(when: WhenRefused) -> Outcome {
    match when {
        WhenRefused::Defer => Outcome::Defer,
        WhenRefused::Reject => Outcome::Reject,
    }
}
