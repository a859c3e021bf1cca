//! Every interleaving of the turn machine with authority, cancel, full evidence and provider faults, to a
//! stated depth: from each state each operation is tried, and a state seen before is not entered again.

use std::collections::BTreeMap;

use rspp_kernel::bundle::{Actions, Failure, Provenance, TurnStart};
use rspp_kernel::cancellation::CancelScope;
use rspp_kernel::decision::{Outcome, Scope};
use rspp_kernel::effect::{Effect, Intent, TurnOutcome};
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{
    CancelSignal, ConnectionState, Event, Input, Modality, PlaybackEvent, ProviderOutcome, Transcript,
};
use rspp_kernel::invocation::outcome::Ending;
use rspp_kernel::invocation::policy::InvocationPolicy;
use rspp_kernel::migration::Step as Move;
use rspp_kernel::plan::PlanTemplate;
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::session::{SessionKernel, Settings};

use crate::fingerprint::fingerprint;
use crate::monitor::{ensure, Monitor, Step};

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// What may happen next.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Operation { $($name),* }

        const OPERATIONS: &[Operation] = &[$(Operation::$name),*];
    };
}

operations! {
    Text, Frame, Finish, Speech, Silence, Words, Sentence, Due,
    Stop, CancelSession, StopAtDeadline, FrameAtDeadline,
    Renew, Rotate, View, MoveRotates, MoveStarts, StaleLease, LeaseLost, Expire, StaleIngress, ForeignFrame,
    Fail, Invoke, AttemptFails, LateAttempt, LateFinish, LateFrame, LatePlayback,
    Reconnecting, Connected, Ended, Drain, Heard,
    EvidenceFills, EvidenceDrains,
    BundleFine, BundleFails, BundleRejects, BundleOlder, BundleAges,
}

/// What only a call under a control plane has.
const MANAGED: [Operation; 5] = [
    Operation::BundleFine,
    Operation::BundleFails,
    Operation::BundleRejects,
    Operation::BundleOlder,
    Operation::BundleAges,
];

/// For how long a bundle is usable: longer than a turn's budgets, shorter than the lease.
const USABLE_US: u64 = 3_000_000;
const EPOCH: u64 = 5;
const TTL_US: u64 = 4_000_000;
const CAPACITY: u64 = 256;
/// Places left in a ring that is as good as full: less than a turn needs, more than none.
const LEFT: u64 = 22;

/// What the explorer knows of a drain.
#[derive(Clone, Copy, Debug, Default)]
struct Leaving {
    /// The runtime leaves.
    asked: bool,
    /// A turn was committed with sound that has not been played to its end.
    unheard: bool,
}

/// One state on the way.
#[derive(Clone)]
struct Node {
    kernel: SessionKernel,
    monitor: Monitor,
    now_us: u64,
    deadline_us: u64,
    epoch: u64,
    sequence: u64,
    invocation: u32,
    plans: bool,
    managed: bool,
    /// Until when turns may open under what the control plane said last; 0 when they may not.
    usable_us: u64,
    /// Highest version of what it said.
    version: u64,
    /// Epoch of the move that was announced, 0 for none.
    moves_to: u64,
    leaving: Leaving,
    /// Lines taken from a full ring so far; none while it is emptied after every step.
    full: Option<usize>,
}

/// What an exploration came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Visited {
    pub(crate) states: u64,
    pub(crate) transitions: u64,
}

impl Node {
    fn new(plans: bool, managed: bool) -> Self {
        let policy = TurnPolicy {
            confirm_ms: 60,
            release_ms: 40,
            greeting: true,
            needs_bundle: managed,
            ..TurnPolicy::default()
        };
        let graph = if plans { "graph/voice" } else { "" };
        let plan = PlanTemplate::new("x@v1", graph, "simple", "{}");
        let mut kernel = SessionKernel::new(Settings {
            session_id: String::from("x"),
            policy,
            plan: plan.unwrap_or_else(|error| unreachable!("{error:?}")),
            now_us: 1_000_000,
            wall_clock_ms: 0,
            evidence_capacity: 256,
        });
        kernel.use_providers(InvocationPolicy::default(), &[(Modality::Llm, "one"), (Modality::Llm, "two")]);
        Self {
            kernel,
            monitor: Monitor::new(),
            now_us: 1_000_000,
            deadline_us: u64::MAX,
            epoch: 0,
            sequence: 0,
            invocation: 0,
            plans,
            managed,
            usable_us: 0,
            version: 0,
            moves_to: 0,
            leaving: Leaving::default(),
            full: None,
        }
    }

    fn step(&mut self, event: Event<&str>) -> Result<(), String> {
        let lost = matches!(event, Event::LeaseLost { .. });
        let revoked = self.now_us >= self.deadline_us || lost;
        let before = self.monitor.open;
        let effects = self.kernel.step(Input { now_us: self.now_us, event }).to_vec();
        let (turn, drained) = (self.kernel.turn(), self.kernel.drained());
        self.monitor.effects(&effects, Step { revoked, plans: self.plans, turn, drained })?;
        let opened = effects.iter().any(|effect| matches!(effect, Effect::OpenTurn { .. }));
        self.drains(&effects)?;
        ensure(!(opened && self.managed) || self.now_us <= self.usable_us, || {
            String::from("G-01: a turn opened without a usable bundle")
        })?;
        if self.monitor.open != before {
            self.sequence = 0;
        }
        ensure(!revoked || drained, || String::from("authority is lost and the kernel goes on"))
    }

    /// While the runtime leaves only a failure is told, and the session stays no longer than it must.
    fn drains(&mut self, effects: &[Effect]) -> Result<(), String> {
        let late = effects.iter().any(
            |effect| matches!(effect, Effect::OpenTurn { intent, .. } if *intent != Intent::FailureNotice),
        );
        ensure(!(late && self.leaving.asked), || String::from("a turn opened while the runtime leaves"))?;
        let commits =
            |effect: &Effect| matches!(effect, Effect::CloseTurn { outcome: TurnOutcome::Commit, .. });
        self.leaving.unheard |= self.sequence > 0 && effects.iter().any(commits);
        let waits = self.monitor.open != 0 || self.leaving.unheard;
        ensure(!self.leaving.asked || waits || self.kernel.drained(), || {
            String::from("the runtime leaves, nothing is waited for, and the session stays")
        })
    }

    fn frame(&mut self, turn: u32, epoch: u64, sequence: u64) -> Result<Verdict, String> {
        let (open, held) = (self.monitor.open, self.kernel.held());
        let state = self.kernel.turn_state();
        let verdict = self.kernel.frame(self.now_us, turn, epoch, sequence, 480);
        let foreign = verdict == Verdict::StaleEpoch;
        ensure(!foreign || self.kernel.turn_state() == state, || {
            String::from("A5, A8: a stale frame moved a turn")
        })?;
        let newest = epoch == self.epoch && epoch >= self.kernel.view();
        let lawful = turn == open && turn != 0 && !held && newest;
        let passes = lawful && self.now_us < self.deadline_us && !self.kernel.drained();
        ensure(verdict != Verdict::Pass || passes, || String::from("an unlawful frame passed"))?;
        // Effects of the gate come out with the next step, which the shell makes at once.
        self.step(Event::Tick)?;
        Ok(verdict)
    }

    fn lease(&mut self, epoch: u64) -> Result<(), String> {
        let deadline_us = self.now_us + TTL_US;
        let newest = epoch >= self.epoch && epoch >= self.kernel.view();
        let (open, rotates) = (self.monitor.open, newest && epoch > self.epoch);
        let takes = newest && !self.kernel.drained() && self.now_us < self.deadline_us;
        self.step(Event::Lease { epoch, deadline_us })?;
        ensure(open == 0 || !rotates || self.monitor.open != open, || {
            format!("turn {open} goes on under epoch {epoch}")
        })?;
        if takes {
            (self.epoch, self.deadline_us) = (epoch, deadline_us);
        }
        ensure(self.kernel.epoch() == self.epoch, || String::from("the epoch went another way"))
    }

    /// The session goes elsewhere: from the second step on this placement may do nothing any more.
    fn moves(&mut self, step: Move) -> Result<(), String> {
        let epoch = self.epoch + 1;
        if step == Move::Rotated && self.moves_to == 0 {
            self.moves_to = epoch;
        }
        self.step(Event::Migration { step, epoch })?;
        let stays = step == Move::Started && epoch == self.moves_to && self.epoch != 0;
        ensure(!stays || self.kernel.drained(), || format!("the session moved to epoch {epoch} and stays"))
    }

    fn words(&mut self, words: u32, complete: bool, probe: bool) -> Result<(), String> {
        // Only hypotheses of the first utterance's first revision: others are ignored anyway.
        let heard = Transcript { utterance: 1, revision: 0, words, backchannel: false, complete, probe };
        self.step(Event::Transcript(heard))
    }

    fn perform(&mut self, operation: Operation) -> Result<(), String> {
        let (open, ended) = (self.monitor.open, self.monitor.ended);
        match operation {
            Operation::Text => self.step(Event::TextMessage { reference: 1 }),
            Operation::Frame => {
                self.now_us += 20_000;
                if self.frame(open, self.epoch, self.sequence)? == Verdict::Pass {
                    self.sequence += 1;
                }
                Ok(())
            }
            Operation::Finish => self.step(Event::GenerationFinished { turn: open }),
            Operation::Speech | Operation::Silence => {
                self.now_us += 32_000;
                let permille = if operation == Operation::Speech { 900 } else { 0 };
                self.step(Event::VoiceActivity { media_sample: 0, permille })
            }
            Operation::Words => self.words(3, false, false),
            Operation::Sentence => self.words(2, true, true),
            Operation::Due => {
                self.now_us = self.now_us.max(self.kernel.next_deadline_us().unwrap_or(0));
                self.step(Event::Tick)
            }
            Operation::Stop => self.step(Event::Cancel { signal: CancelSignal::Stop }),
            Operation::CancelSession => {
                self.step(Event::CancelWithin { scope: CancelScope::Session, target: 0 })
            }
            Operation::StopAtDeadline | Operation::FrameAtDeadline | Operation::Expire
                if self.deadline_us == u64::MAX =>
            {
                Ok(())
            }
            Operation::StopAtDeadline => {
                self.now_us = self.now_us.max(self.deadline_us);
                self.step(Event::Cancel { signal: CancelSignal::Stop })
            }
            Operation::FrameAtDeadline => {
                self.now_us = self.now_us.max(self.deadline_us);
                self.frame(open, self.epoch, self.sequence).map(drop)
            }
            Operation::Expire => {
                self.now_us = self.now_us.max(self.deadline_us);
                self.step(Event::Tick)
            }
            Operation::Renew => self.lease(self.epoch.max(EPOCH)),
            Operation::Rotate => self.lease(self.epoch + 1),
            Operation::View => self.step(Event::RoutingView { epoch: self.epoch + 1 }),
            Operation::MoveRotates => self.moves(Move::Rotated),
            Operation::MoveStarts => self.moves(Move::Started),
            Operation::StaleLease => self.lease(self.epoch.saturating_sub(1)),
            Operation::LeaseLost => self.step(Event::LeaseLost { reason: "lease_deauthorized" }),
            Operation::StaleIngress => {
                let state = self.kernel.turn_state();
                self.kernel.ingress(self.now_us, Some(0));
                ensure(self.kernel.turn_state() == state, || String::from("A5: a stale event moved a turn"))?;
                self.step(Event::Tick)
            }
            Operation::ForeignFrame => self.frame(open.max(1), self.epoch + 9, 0).map(drop),
            Operation::Fail => self.step(Event::GenerationFailed { turn: open, reason: "provider_failure" }),
            Operation::Invoke => {
                if let Ok(attempt) = self.kernel.invoke(self.now_us, open, Modality::Llm) {
                    ensure(!self.kernel.drained(), || String::from("a provider was called after the drain"))?;
                    self.invocation = attempt.invocation;
                }
                self.step(Event::Tick)
            }
            Operation::AttemptFails => self.attempt_ends(self.invocation, open),
            Operation::LateAttempt => self.attempt_ends(self.invocation.saturating_sub(1), open),
            Operation::LateFinish => self.step(Event::GenerationFinished { turn: ended }),
            Operation::LateFrame => self.frame(ended, self.epoch, self.sequence).map(drop),
            Operation::LatePlayback => {
                self.step(Event::Playback { turn: ended, event: PlaybackEvent::Started, samples: 0 })
            }
            Operation::Reconnecting => self.connection(ConnectionState::Reconnecting),
            Operation::Connected => self.connection(ConnectionState::Connected),
            Operation::Ended => self.connection(ConnectionState::Ended),
            Operation::Drain => self.drain(),
            Operation::Heard => {
                self.leaving.unheard = false;
                self.step(Event::Playback { turn: ended, event: PlaybackEvent::Completed, samples: 480 })
            }
            Operation::BundleFine => self.bundle(2, None, Outcome::Admit),
            Operation::BundleOlder => self.bundle(1, None, Outcome::Admit),
            Operation::BundleRejects => self.bundle(2, None, Outcome::Reject),
            Operation::BundleFails => self.bundle(0, Some(Failure::SnapshotInvalid), Outcome::Admit),
            Operation::BundleAges => {
                self.now_us += USABLE_US + 1;
                self.step(Event::Tick)
            }
            Operation::EvidenceFills => self.fill(),
            Operation::EvidenceDrains => {
                self.look()?;
                self.full = None;
                self.kernel.drain_evidence(usize::MAX, |_| {});
                Ok(())
            }
        }
    }

    fn drain(&mut self) -> Result<(), String> {
        // What is due anyway comes first, and may still open a turn.
        self.step(Event::Tick)?;
        let running = self.monitor.open;
        self.leaving.asked = true;
        self.step(Event::Drain)?;
        let kept = self.monitor.open == running || self.full.is_some();
        ensure(kept, || format!("turn {running} was lost as the runtime left"))
    }

    fn attempt_ends(&mut self, invocation: u32, open: u32) -> Result<(), String> {
        let ending = Ending::new(ProviderOutcome::InfrastructureFailure, None, true, None);
        let next = self.kernel.attempt_finished(self.now_us, invocation, ending, 0);
        if next.is_none() && open != 0 && invocation != 0 {
            return self.step(Event::GenerationFailed { turn: open, reason: "provider_failure" });
        }
        self.step(Event::Tick)
    }

    /// The control plane says something; only the next input may make something of it.
    fn bundle(&mut self, version: u64, failure: Option<Failure>, admission: Outcome) -> Result<(), String> {
        let state = self.kernel.turn_state();
        let until_us = self.now_us + USABLE_US;
        let said = TurnStart {
            version,
            usable_until_us: until_us,
            authority_epoch: 0,
            claim_us: 1_000_000,
            provenance: None,
            admission_reason: "",
            failure,
            admission,
            admission_scope: Scope::Session,
            authority_valid: true,
            authority_authorized: true,
            actions: Actions::ALL,
        };
        let source = Provenance::new(["a", "b", "c", "d", "e", "f"]).ok();
        self.kernel.turn_start(self.now_us, said, source.as_ref());
        let untouched = self.kernel.turn_state() == state || self.kernel.drained();
        ensure(untouched, || String::from("telling a bundle moved a turn"))?;
        if failure.is_some() || version >= self.version {
            self.version = self.version.max(version);
            let lets = failure.is_none() && admission == Outcome::Admit;
            self.usable_us = if lets { until_us } else { 0 };
        }
        self.step(Event::Tick)
    }

    fn connection(&mut self, state: ConnectionState) -> Result<(), String> {
        self.step(Event::Connection { state, reason: "" })
    }

    /// Lets the ring fill with records of its own until a turn's evidence has no room any more.
    fn fill(&mut self) -> Result<(), String> {
        if self.full.is_some() {
            return Ok(());
        }
        self.full = Some(0);
        let before = self.stored();
        self.step(Event::Playback { turn: 0, event: PlaybackEvent::Started, samples: 0 })?;
        let each = self.stored() - before;
        for _ in 0..(CAPACITY - LEFT - self.stored()) / each.max(1) {
            self.step(Event::Playback { turn: 0, event: PlaybackEvent::Started, samples: 0 })?;
        }
        Ok(())
    }

    fn stored(&self) -> u64 {
        let mut stored = 0;
        self.kernel.clone().drain_evidence(usize::MAX, |_| stored += 1);
        stored
    }

    /// Looks at the evidence that came since it was looked at before.
    fn look(&mut self) -> Result<(), String> {
        let seen = self.full.unwrap_or(0);
        let (monitor, mut result, mut count) = (&mut self.monitor, Ok(()), 0);
        let mut take = |line: &str| {
            count += 1;
            if count > seen && result.is_ok() {
                result = monitor.line(line);
            }
        };
        if let Some(full) = &mut self.full {
            self.kernel.clone().drain_evidence(usize::MAX, &mut take);
            *full = count;
        } else {
            self.kernel.drain_evidence(usize::MAX, &mut take);
        }
        result?;
        self.monitor.settled()
    }

    fn fingerprint(&self, text: &mut String) -> u64 {
        let mut kernel = self.kernel.clone();
        kernel.drain_evidence(usize::MAX, |_| {});
        let numbers = (self.invocation, self.epoch, self.moves_to, self.sequence.min(1), self.leaving);
        let lets = self.usable_us.saturating_sub(self.now_us.min(self.usable_us));
        let shell = (&self.monitor, self.full, numbers, self.plans, lets, self.version);
        let whole = (kernel, shell);
        fingerprint(text, &whole, " now_us: ", self.now_us)
    }
}

/// The search.
struct Search {
    /// The most operations that were left when a state was entered.
    seen: BTreeMap<u64, u8>,
    text: String,
    path: Vec<Operation>,
    visited: Visited,
}

impl Search {
    fn enter(&mut self, node: &Node, left: u8) -> Result<(), String> {
        let state = node.fingerprint(&mut self.text);
        match self.seen.get(&state) {
            Some(known) if *known >= left => return Ok(()),
            Some(_) => {}
            None => self.visited.states += 1,
        }
        self.seen.insert(state, left);
        if left == 0 {
            return Ok(());
        }
        for operation in OPERATIONS {
            if MANAGED.contains(operation) && !node.managed {
                continue;
            }
            let mut next = node.clone();
            self.path.push(*operation);
            self.visited.transitions += 1;
            next.perform(*operation)
                .and_then(|()| next.look())
                .map_err(|fault| format!("{fault}\nafter {:?}", self.path))?;
            self.enter(&next, left - 1)?;
            self.path.pop();
        }
        Ok(())
    }
}

/// Explores from each beginning: a new call, a running one, one that speaks, one whose plans fail, and one
/// that waits for the control plane.
///
/// # Errors
/// The assertion that was broken and the operations that led there.
pub(crate) fn explore(depth: u8) -> Result<Visited, String> {
    let beginnings: [(bool, bool, &[Operation]); 5] = [
        (true, false, &[]),
        (true, false, &[Operation::Renew]),
        (true, false, &[Operation::Renew, Operation::Text, Operation::Frame]),
        (false, false, &[Operation::Renew]),
        (true, true, &[Operation::Renew, Operation::Text]),
    ];
    let mut search =
        Search { seen: BTreeMap::new(), text: String::new(), path: Vec::new(), visited: Visited::default() };
    for (plans, managed, beginning) in beginnings {
        let mut node = Node::new(plans, managed);
        for operation in beginning {
            node.perform(*operation).and_then(|()| node.look())?;
        }
        search.path = beginning.to_vec();
        search.enter(&node, depth)?;
    }
    Ok(search.visited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_to_a11_hold_in_every_interleaving() {
        let visited = explore(3).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(visited.states > 5_000, "{visited:?}");
    }
}
