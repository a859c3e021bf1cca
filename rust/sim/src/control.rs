//! The control plane: what each worker fetches of it, and what it tells its kernels.
//!
//! A worker fetches every two seconds and may go on with what it has for ten more. It passes on what it
//! got, older snapshots included: to refuse those is the kernel's part.

use rspp_kernel::bundle::{Actions, Failure, Provenance, TurnStart};
use rspp_kernel::decision::{Outcome, Scope};
use rspp_kernel::invocation::policy::AdaptiveAction;
#[cfg(test)]
use rspp_kernel::session::SessionKernel;

use crate::host::DRIFT_PPM;
use crate::queue::{AgentId, Event, WorkerId};
use crate::reached::Place;
use crate::world::World;

/// How often a worker fetches.
const REFRESH_US: u64 = 2_000_000;
/// For how long after it a turn may open under what was fetched.
const SERVED_US: u64 = 12_000_000;
/// The same by a clock that runs slow, as the world sees it.
const SERVED_WORLD_US: u64 = SERVED_US + SERVED_US / 1_000_000 * (2 * DRIFT_PPM.unsigned_abs());

/// What the control plane says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Fine,
    Stale,
    Missing,
    Rejected,
    Deferred,
    Deauthorized,
    OtherEpoch,
}

const REFUSING: [Answer; 6] = [
    Answer::Stale,
    Answer::Missing,
    Answer::Rejected,
    Answer::Deferred,
    Answer::Deauthorized,
    Answer::OtherEpoch,
];

/// The control plane itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    version: u64,
    answer: Answer,
    down: bool,
    /// It serves what it had served before its latest version.
    back: bool,
}

impl Control {
    pub(crate) const fn new() -> Self {
        Self { version: 1, answer: Answer::Fine, down: false, back: false }
    }
}

/// What a worker has fetched, or a kernel was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    version: u64,
    answer: Answer,
    at_us: u64,
    local_us: u64,
}

impl Fetched {
    /// Whether turns may open under it, as the world knows it.
    fn lets(&self, now_us: u64) -> bool {
        self.answer == Answer::Fine && now_us - self.at_us <= SERVED_WORLD_US
    }
}

impl World {
    /// A worker fetches, and tells each kernel for which something has changed.
    pub(crate) fn refresh(&mut self, worker: WorkerId, life: u32) {
        if self.workers[worker].life != life || !self.workers[worker].alive {
            return;
        }
        self.plan_in(REFRESH_US, Event::Refresh(worker, life));
        if self.rng.one_in(40) && self.control.answer == Answer::Fine && !self.control.back {
            self.control.version += 1;
        }
        let now_us = self.now_us;
        let host = &mut self.workers[worker];
        if host.reaches_control && !self.control.down {
            let Control { version, answer, back, .. } = self.control;
            let (version, answer) = if back { (version - 1, Answer::Fine) } else { (version, answer) };
            let local_us = host.clock.local_us(now_us);
            host.fetched = Some(Fetched { version, answer, at_us: now_us, local_us });
        }
        for agent in 0..self.agents.len() {
            let share = &self.agents[agent];
            if share.worker == worker && share.active() {
                self.tell_bundle(agent);
            }
        }
    }

    /// Tells a kernel what its worker has, if that differs or half of its time is over.
    pub(crate) fn tell_bundle(&mut self, agent: AgentId) {
        let local_us = self.local_us(agent);
        let share = &mut self.agents[agent];
        let Some(fetched) = self.workers[share.worker].fetched else { return };
        let Some(kernel) = share.kernel.as_mut().filter(|_| share.managed) else { return };
        let same = share.passed_on.is_some_and(|before| {
            (before.version, before.answer) == (fetched.version, fetched.answer)
                && local_us < before.local_us + SERVED_US / 2
        });
        if same || share.passed_on.is_some_and(|before| before.at_us == fetched.at_us) {
            return;
        }
        share.passed_on = Some(fetched);
        kernel.turn_start(local_us, said(fetched, kernel.epoch()), source(fetched.version).as_ref());
        let failed = matches!(fetched.answer, Answer::Stale | Answer::Missing);
        if failed || fetched.version >= share.bundle_version {
            share.bundle_version = share.bundle_version.max(if failed { 0 } else { fetched.version });
            share.bundle = Some(fetched);
        } else {
            self.hit(Place::OlderBundle);
        }
        self.tell(|| format!("  agent {agent} <- bundle {fetched:?}"));
        self.plan_tick(agent);
    }

    /// The always-assertion of G-01: held against what was really fetched, not against the kernel.
    pub(crate) fn check_bundle(&mut self, agent: AgentId, turn: u32) {
        let share = &mut self.agents[agent];
        let waited = std::mem::take(&mut share.waits_for_bundle);
        if !share.managed {
            return;
        }
        let bundle = share.bundle;
        if !bundle.is_some_and(|bundle| bundle.lets(self.now_us)) {
            self.never(format!("G-01: agent {agent} opened turn {turn} under {bundle:?}"));
        }
        if waited {
            self.hit(Place::OpenedAfterOutage);
        }
    }

    /// What a kernel refused for want of a bundle, or because of what it says.
    pub(crate) fn refused(&mut self, agent: AgentId, outcome: &str, reason: &str) {
        let place = match reason {
            "turn_start_bundle_resolution_failed" => Place::BundleMissing,
            "snapshot_invalid_or_missing" => Place::SnapshotStale,
            "cp_admission_reject_policy" | "cp_admission_defer_capacity" => Place::PlaneAdmitsNot,
            "authority_epoch_mismatch" | "authority_revoked_before_open" => Place::RefusedByAuthority,
            _ => return,
        };
        self.hit(place);
        self.agents[agent].waits_for_bundle = outcome == "defer";
    }

    /// One of the faults of the control plane.
    pub(crate) fn control_fails(&mut self) {
        let wait_us = self.rng.range(1_000_000, 25_000_000);
        if self.rng.one_in(3) {
            self.control.down = true;
        } else {
            self.control.version += 1;
            self.control.answer = REFUSING[self.rng.index(REFUSING.len())];
            if self.rng.one_in(2) {
                self.plan_in(REFRESH_US * 2, Event::ControlGoesBack(self.control.version));
            }
        }
        self.plan_in(wait_us, Event::ControlHeals(self.control.version));
    }

    /// It serves again what it had served before it took something back.
    pub(crate) fn control_goes_back(&mut self, version: u64) {
        self.control.back |= self.faults && self.control.version == version;
    }

    pub(crate) fn control_heals(&mut self, version: u64) {
        if self.control.version == version {
            self.control = Control { version: version + 1, ..Control::new() };
        }
    }

    pub(crate) fn mend_control(&mut self) {
        self.control_heals(self.control.version);
        for host in &mut self.workers {
            host.reaches_control = true;
        }
    }
}

fn source(version: u64) -> Option<Provenance> {
    let own: [String; 6] = std::array::from_fn(|index| format!("snapshot-{index}/v{version}"));
    Provenance::new(own.each_ref().map(String::as_str)).ok()
}

fn said(fetched: Fetched, epoch: u64) -> TurnStart<&'static str> {
    let Fetched { version, answer, local_us, .. } = fetched;
    let retry_only = version.is_multiple_of(5);
    let actions = if retry_only { Actions::of(&[AdaptiveAction::Retry]) } else { Actions::ALL };
    TurnStart {
        version,
        usable_until_us: local_us + SERVED_US,
        authority_epoch: if answer == Answer::OtherEpoch { epoch + 7 } else { 0 },
        claim_us: 5_000_000,
        provenance: None,
        admission_reason: "",
        failure: match answer {
            Answer::Stale => Some(Failure::SnapshotInvalid),
            Answer::Missing => Some(Failure::ResolutionFailed),
            _ => None,
        },
        admission: match answer {
            Answer::Rejected => Outcome::Reject,
            Answer::Deferred => Outcome::Defer,
            _ => Outcome::Admit,
        },
        admission_scope: Scope::Session,
        authority_valid: true,
        authority_authorized: answer != Answer::Deauthorized,
        actions,
    }
}

/// A kernel alone, under a control plane that lets everything pass for as long as anybody looks.
#[cfg(test)]
pub(crate) fn tell_fine(kernel: &mut SessionKernel, local_us: u64) {
    let fetched = Fetched { version: 1, answer: Answer::Fine, at_us: 0, local_us };
    let said = TurnStart { usable_until_us: u64::MAX, ..said(fetched, 1) };
    kernel.turn_start(local_us, said, source(1).as_ref());
}
