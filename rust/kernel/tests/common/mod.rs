//! A shell reduced to bookkeeping: it performs operations on a kernel and checks every rule it can see.

#![allow(dead_code)] // each test file uses its own part

use std::collections::{BTreeMap, BTreeSet};

use rspp_kernel::authority::Ingress;
use rspp_kernel::bundle::{Actions, Failure, Provenance, TurnStart};
use rspp_kernel::cancellation::CancelScope;
use rspp_kernel::decision::{Outcome, Scope};
use rspp_kernel::edge::notice::{Notice, What};
use rspp_kernel::effect::{Effect, Intent, TurnOutcome};
use rspp_kernel::event::{EventScope, Lane};
use rspp_kernel::evidence::codec::{self, Entry};
use rspp_kernel::evidence::json::Context;
use rspp_kernel::evidence::record::{Body, Call, Record};
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{
    CancelSignal, ConnectionState, Event, Input, Modality, PlaybackEvent, ProviderOutcome, Transcript,
};
use rspp_kernel::invocation::outcome::Ending;
use rspp_kernel::invocation::policy::{AdaptiveAction, InvocationPolicy};
use rspp_kernel::invocation::MAX_LIVE;
use rspp_kernel::migration::Step;
use rspp_kernel::plan::PlanTemplate;
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::reason::{Label, Reason};
use rspp_kernel::session::{SessionKernel, Settings};
use rspp_kernel::signal::{Emitter, Signal};
use rspp_kernel::turn::State;
use serde_json::Value;

const SESSION: &str = "call/1 %";
const START_US: u64 = 5_000_000;
const WALL_MS: u64 = 1_700_000_000_000;

/// One thing that a shell or the world does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Window(u16),
    Frame,
    Transcript {
        words: u32,
        backchannel: bool,
        complete: bool,
        probe: bool,
    },
    Tick,
    TickWhenDue,
    Renew,
    Lease {
        epoch: u64,
        length_us: u64,
    },
    Start(bool),
    Text(u32),
    Cancel(bool),
    Finish,
    Fail,
    LateFinish(u32),
    Playback {
        event: usize,
        turn: u32,
    },
    Connection(usize),
    StrayFrame {
        turn: u32,
        epoch: u64,
        sequence: u64,
    },
    Provider,
    RoutingView(u64),
    Ingress(i64),
    CancelWithin {
        scope: usize,
        target: u32,
    },
    Migration {
        step: usize,
        epoch: u64,
    },
    Invoke(usize),
    Attempt {
        class: usize,
        retryable: bool,
        idle_us: u64,
    },
    HandOn,
    Edge {
        what: usize,
        turn: u32,
    },
    /// What the control plane says: `kind` counts through its answers, `usable_us` from now.
    Bundle {
        version: u64,
        usable_us: u64,
        kind: usize,
        source: usize,
    },
    Drain,
    Leave,
}

/// The bundle in force, as the evidence tells it.
#[derive(Default)]
struct Bundle {
    said: Value,
    version: u64,
}

impl Bundle {
    fn take(&mut self, record: &Value) {
        let (version, failed) = (record["version"].as_u64().expect("a version"), record["failure"] != "");
        if failed || version >= self.version {
            self.version = if failed { self.version } else { version };
            self.said = record.clone();
        }
    }

    /// The rule of G-01: a turn opens only under what was really received and is within its limit.
    fn check(&self, opened: &Value, needed: bool) {
        let said = &self.said;
        if said.is_null() {
            assert!(!needed, "CT-006: a turn opened without a bundle");
            return;
        }
        let (at_us, until_us) = (opened["at_us"].as_u64(), said["usable_until_us"].as_u64());
        assert!(said["failure"] == "" && at_us <= until_us, "G-01: {opened} under {said}");
        assert!(said["admission"] == "admit", "CP-05: {opened} under {said}");
        let lets = said["authority_valid"] == true && said["authority_authorized"] == true;
        let own = &opened["event"]["authority_epoch"];
        let epoch = said["authority_epoch"] == 0 || said["authority_epoch"] == *own;
        assert!(lets && epoch, "CP-07: {opened} under {said}");
    }
}

#[derive(Default)]
struct Seen {
    open: Option<u32>,
    held: bool,
    ended: BTreeSet<u32>,
    opened: u64,
    aborted: u64,
    /// Turns that ended because their evidence had no room.
    unrecorded: u64,
    left: u64,
    leaving: bool,
    utterance: u32,
    utterance_open: bool,
    revision: u32,
}

/// A kernel with what its shell knows.
pub(crate) struct Model {
    kernel: SessionKernel,
    now_us: u64,
    deadline_us: Option<u64>,
    epoch: u64,
    view: u64,
    invocations: Vec<u32>,
    sequence: BTreeMap<u32, u64>,
    seen: Seen,
    transcript: Vec<String>,
    evidence: Vec<String>,
    needs_bundle: bool,
    provenances: Vec<Provenance>,
}

/// A block as the JSON lines that the kernel would have given.
fn rendered(block: &[u8]) -> Vec<String> {
    let context = Context::new(SESSION, "shop@v1", START_US, WALL_MS);
    let decoded = codec::decode(block).expect("what was written");
    let render = |entry: &codec::Entry| {
        let mut line = String::new();
        match entry {
            codec::Entry::Record(record) => context.render(record, &decoded.words, &mut line),
            codec::Entry::Gap(gap) => context.render_gap(*gap, &mut line),
        }
        line
    };
    decoded.entries.iter().map(render).collect()
}

/// A kernel of these settings, at rest.
pub(crate) fn kernel(interruptions: bool, failure_notice: bool, plan: bool) -> SessionKernel {
    let policy = TurnPolicy { interruptions, failure_notice, greeting: true, ..TurnPolicy::default() };
    kernel_with(policy, if plan { "graph/voice" } else { "" })
}

pub(crate) fn kernel_with(policy: TurnPolicy, graph: &str) -> SessionKernel {
    policy.validate().expect("a valid policy");
    let settings = Settings {
        session_id: String::from(SESSION),
        policy,
        plan: PlanTemplate::new("shop@v1", graph, "simple", r#"{"budgets":{}}"#).expect("a template"),
        now_us: START_US,
        wall_clock_ms: WALL_MS,
        evidence_capacity: 256,
    };
    let mut kernel = SessionKernel::new(settings);
    let providers = [
        (Modality::Stt, "ears"),
        (Modality::Stt, "more ears"),
        (Modality::Llm, "one"),
        (Modality::Llm, "two"),
        (Modality::Tts, "voice"),
    ];
    let everything = InvocationPolicy { degrade: true, warn_ms: 1200, ..InvocationPolicy::default() };
    kernel.use_providers(everything, &providers);
    kernel.use_lesser(Modality::Tts, "lesser voice");
    kernel
}

impl Model {
    pub(crate) fn new(interruptions: bool, failure_notice: bool, plan: bool) -> Self {
        Self::of(kernel(interruptions, failure_notice, plan))
    }

    pub(crate) fn of(kernel: SessionKernel) -> Self {
        Self {
            kernel,
            now_us: START_US,
            deadline_us: None,
            epoch: 0,
            view: 0,
            invocations: Vec::new(),
            sequence: BTreeMap::new(),
            seen: Seen::default(),
            transcript: Vec::new(),
            evidence: Vec::new(),
            needs_bundle: false,
            provenances: Vec::new(),
        }
    }

    /// A call whose turns open only under a bundle.
    pub(crate) fn managed() -> Self {
        let policy = TurnPolicy { needs_bundle: true, greeting: true, ..TurnPolicy::default() };
        Self { needs_bundle: true, ..Self::of(kernel_with(policy, "graph/voice")) }
    }

    /// The provenance behind a number of the entries taken.
    pub(crate) fn provenance(&self, place: u32) -> Option<&Provenance> {
        self.provenances.get(usize::try_from(place).ok()?)
    }

    /// Takes everything out of Stage A as it is, the words numbered by the kernel; what the kernel only
    /// lends is kept and numbered anew.
    pub(crate) fn take_entries(&mut self, entries: &mut Vec<Entry>) {
        while let Some(mut entry) = self.kernel.take_entry() {
            if let Entry::Record(Record { body: Body::Call(Call::TurnStart(said)), .. }) = &mut entry {
                if let Some(place) = &mut said.provenance {
                    let lent = self.kernel.provenance(*place).expect("lent until it is taken");
                    *place = u32::try_from(self.provenances.len()).expect("few");
                    self.provenances.push(lent.clone());
                }
            }
            entries.push(entry);
        }
    }

    /// The words of the entries taken.
    pub(crate) fn word(&self, label: Label) -> &str {
        self.kernel.word(label)
    }

    pub(crate) fn turn_state(&self) -> State {
        self.kernel.turn_state()
    }

    pub(crate) fn opened(&self) -> u64 {
        self.seen.opened
    }

    pub(crate) fn opened_turn(&self) -> bool {
        self.kernel.turn() != 0
    }

    pub(crate) fn aborted(&self) -> u64 {
        self.seen.aborted
    }

    /// Forgets what was recorded, for long runs.
    pub(crate) fn forget(&mut self) {
        self.transcript.clear();
        self.evidence.clear();
        self.seen.ended.clear();
        self.sequence.clear();
    }

    pub(crate) fn into_transcript(mut self) -> (Vec<String>, Vec<String>) {
        self.drain(usize::MAX);
        (self.transcript, self.evidence)
    }

    pub(crate) fn perform(&mut self, wait_us: u64, operation: Operation) {
        self.now_us += wait_us;
        let state_before = self.kernel.turn_state();
        match operation {
            Operation::Window(permille) => {
                self.step(Event::VoiceActivity { media_sample: self.now_us / 62, permille });
            }
            Operation::Frame => self.next_frame(),
            Operation::StrayFrame { turn, epoch, sequence } => {
                self.frame(turn, epoch, sequence);
                let expiring = self.kernel.drained();
                assert!(expiring || self.kernel.turn_state() == state_before, "A5, A8");
            }
            Operation::Transcript { words, backchannel, complete, probe } => {
                let (utterance, revision) = (self.seen.utterance, self.seen.revision);
                let heard = Transcript { utterance, revision, words, backchannel, complete, probe };
                self.step(Event::Transcript(heard));
            }
            Operation::Tick => self.step(Event::Tick),
            Operation::TickWhenDue => self.tick_when_due(),
            Operation::Renew => {
                self.step(Event::Lease { epoch: self.epoch, deadline_us: self.now_us + 4_000_000 });
            }
            Operation::Lease { epoch, length_us } => {
                self.step(Event::Lease { epoch, deadline_us: self.now_us + length_us });
            }
            Operation::Start(resumed) => self.step(Event::Start { resumed }),
            Operation::Text(reference) => self.step(Event::TextMessage { reference }),
            Operation::Cancel(stop) => {
                let signal = if stop { CancelSignal::Stop } else { CancelSignal::Cancel };
                self.step(Event::Cancel { signal });
                assert_eq!(self.kernel.turn(), 0, "a cancel leaves no turn open");
            }
            Operation::Finish => self.step(Event::GenerationFinished { turn: self.kernel.turn() }),
            Operation::Fail => {
                let turn = self.kernel.turn();
                self.step(Event::GenerationFailed { turn, reason: "provider_timeout" });
            }
            Operation::LateFinish(turn) if Some(turn) == self.seen.open => {}
            Operation::LateFinish(turn) => self.step(Event::GenerationFinished { turn }),
            Operation::Playback { event, turn } => {
                let event = PlaybackEvent::ALL[event];
                self.step(Event::Playback { turn, event, samples: 480 });
            }
            Operation::Connection(state) => {
                let state = ConnectionState::ALL[state];
                self.step(Event::Connection { state, reason: "" });
            }
            Operation::Provider => {
                self.kernel.provider_outcome(self.now_us, 1, Modality::Llm, ProviderOutcome::Success, 7);
            }
            Operation::RoutingView(epoch) => self.routing_view(epoch),
            Operation::Ingress(carrier) => {
                let (verdict, _) = self.kernel.ingress(self.now_us, Some(carrier));
                let own = i64::try_from(self.kernel.epoch()) == Ok(carrier);
                assert!(verdict != Ingress::Accepted || own, "{verdict:?}");
                assert!(self.kernel.drained() || self.kernel.turn_state() == state_before, "A5, A8");
            }
            Operation::CancelWithin { scope, target } => {
                self.step(Event::CancelWithin { scope: CancelScope::ALL[scope], target });
            }
            Operation::Migration { step, epoch } => {
                let step = Step::ALL[step];
                self.step(Event::Migration { step, epoch });
                // The view moves only if the step was taken, which shows in a drain or not at all.
                self.view = self.view.max(self.kernel.view());
            }
            Operation::Invoke(modality) => {
                let modality = Modality::ALL[modality];
                let turn = if modality == Modality::Stt { 0 } else { self.kernel.turn() };
                if let Ok(attempt) = self.kernel.invoke(self.now_us, turn, modality) {
                    assert!(!self.kernel.drained() && attempt.attempt == 1);
                    self.invocations.push(attempt.invocation);
                    assert!(self.invocations.len() <= MAX_LIVE);
                }
            }
            Operation::Attempt { class, retryable, idle_us } => {
                self.finish_attempt(class, retryable, idle_us);
            }
            Operation::HandOn => {
                if let Some(&invocation) = self.invocations.last() {
                    let open = self.kernel.output_handed_on(self.now_us, invocation);
                    assert!(!open || !self.kernel.drained() || self.kernel.turn() == 0);
                }
            }
            Operation::Edge { what, turn } => self.edge(what, turn),
            Operation::Bundle { version, usable_us, kind, source } => {
                self.bundle(version, usable_us, kind, source);
            }
            Operation::Drain => self.drain(40),
            Operation::Leave => self.leave(),
        }
        assert_eq!(self.kernel.turn(), self.open_as_told(), "effects tell which turn is open");
        assert!(matches!(self.kernel.turn_state(), State::Idle | State::Active));
        assert!(self.kernel.epoch() >= self.epoch, "epochs never go down");
        self.epoch = self.kernel.epoch();
    }

    /// What the shell believes; effects of the gate wait for the next step.
    fn open_as_told(&self) -> u32 {
        if self.kernel.drained() {
            return 0;
        }
        self.seen.open.unwrap_or(0)
    }

    fn routing_view(&mut self, epoch: u64) {
        // What is due anyway comes first, so that only the view can be to blame.
        self.step(Event::Tick);
        let (before, unrecorded) = (self.kernel.turn(), self.seen.unrecorded);
        self.view = self.view.max(epoch);
        self.step(Event::RoutingView { epoch });
        assert!(self.kernel.turn() == before || self.seen.unrecorded > unrecorded, "A5");
    }

    fn leave(&mut self) {
        // What is due anyway comes first, and may still open a turn.
        self.step(Event::Tick);
        self.seen.leaving = true;
        self.step(Event::Drain);
    }

    fn edge(&mut self, what: usize, turn: u32) {
        let lost = What::DropNotice { reason: Reason::QueuePressureDrop, first: 2, last: 4 };
        let what = [What::FlowXoff, lost, What::Discontinuity(7)][what];
        let notice = Notice { at_us: self.now_us, turn, what };
        self.kernel.edge_decided(self.now_us, "llm>tts", Lane::Data, "speech", &notice);
    }

    fn bundle(&mut self, version: u64, usable_us: u64, kind: usize, source: usize) {
        let own: [String; 6] = std::array::from_fn(|index| format!("snapshot-{index}/v{source}"));
        let provenance = Provenance::new(own.each_ref().map(String::as_str)).expect("references");
        let mut said = TurnStart {
            version,
            usable_until_us: self.now_us + usable_us,
            authority_epoch: 0,
            claim_us: 700_000,
            provenance: None,
            admission_reason: "",
            failure: None,
            admission: Outcome::Admit,
            admission_scope: Scope::Session,
            authority_valid: true,
            authority_authorized: true,
            actions: Actions::of(&AdaptiveAction::ALL[source..]),
        };
        match kind {
            0 => said.failure = Some(Failure::SnapshotInvalid),
            1 => said.failure = Some(Failure::ResolutionFailed),
            2 => said.admission = Outcome::Reject,
            3 => (said.admission, said.admission_scope) = (Outcome::Defer, Scope::Tenant),
            4 => said.authority_valid = false,
            5 => said.authority_authorized = false,
            6 => said.authority_epoch = 2,
            _ => said.admission_reason = "as planned",
        }
        let before = self.kernel.turn_state();
        self.kernel.turn_start(self.now_us, said, (kind > 1).then_some(&provenance));
        let untouched = self.kernel.drained() || self.kernel.turn_state() == before;
        assert!(untouched, "a bundle only binds the turns after it");
    }

    fn finish_attempt(&mut self, class: usize, retryable: bool, idle_us: u64) {
        let Some(invocation) = self.invocations.pop() else { return };
        let ending = Ending::new(ProviderOutcome::ALL[class], None, retryable, None);
        if let Some(next) = self.kernel.attempt_finished(self.now_us, invocation, ending, idle_us) {
            assert_eq!(next.invocation, invocation);
            assert!(next.attempt <= 2 && next.candidate < 2);
            self.invocations.push(invocation);
        }
    }

    fn tick_when_due(&mut self) {
        if let Some(due) = self.kernel.next_deadline_us() {
            self.now_us = self.now_us.max(due);
            self.step(Event::Tick);
            let next = self.kernel.next_deadline_us();
            assert!(next.is_none_or(|next| next > self.now_us), "a due tick leaves nothing due");
        }
    }

    fn step(&mut self, event: Event<&str>) {
        let before = self.kernel.crossings();
        let lapsed = self.deadline_us.is_some_and(|deadline| self.now_us >= deadline);
        let effects = self.kernel.step(Input { now_us: self.now_us, event }).to_vec();
        assert_eq!(self.kernel.crossings(), before + 1);
        if lapsed && !effects.is_empty() {
            self.deadline_us = None;
        }
        for effect in effects {
            self.take(&effect, lapsed);
            self.transcript.push(format!("{} {effect:?}", self.now_us));
        }
        if let Event::Lease { epoch, deadline_us } = event {
            if !self.kernel.drained() && epoch == self.kernel.epoch() && epoch >= self.view {
                self.view = epoch;
                let kept = if epoch == self.epoch { self.deadline_us } else { None };
                self.deadline_us = Some(kept.map_or(deadline_us, |kept| kept.max(deadline_us)));
            }
        }
        let lapsed = self.deadline_us.is_some_and(|deadline| self.now_us >= deadline);
        assert!(!lapsed || self.kernel.drained(), "no step outlives the deadline");
        if self.kernel.drained() {
            assert_eq!(self.kernel.turn(), 0);
            assert_eq!(self.seen.left, 1, "the room is left once");
        } else {
            assert_eq!(self.kernel.held(), self.seen.held);
        }
    }

    fn take(&mut self, effect: &Effect, lapsed: bool) {
        let seen = &mut self.seen;
        match effect {
            Effect::OpenTurn { turn, epoch, intent, .. } => {
                assert!(!seen.leaving || *intent == Intent::FailureNotice, "{intent:?} while leaving");
                assert_eq!(seen.open.replace(*turn), None, "one turn at a time");
                assert!(!lapsed && seen.left == 0, "A4");
                assert!(*epoch <= self.kernel.epoch());
                assert!(!seen.ended.contains(turn));
                seen.opened += 1;
            }
            Effect::HoldOutput { turn } => {
                assert!(seen.open == Some(*turn) && !std::mem::replace(&mut seen.held, true));
            }
            Effect::ResumeOutput { turn } => {
                assert!(seen.open == Some(*turn) && std::mem::replace(&mut seen.held, false));
            }
            Effect::CancelTurn { turn, reason } => {
                assert!(seen.open == Some(*turn));
                assert!(!lapsed || reason == "authority_loss", "A10: {reason}");
                seen.unrecorded += u64::from(reason == "recording_evidence_unavailable");
                seen.ended.insert(*turn);
                seen.held = false;
            }
            Effect::CloseTurn { turn, outcome, reason } => {
                assert_eq!(seen.open.take(), Some(*turn));
                let aborted = *outcome == TurnOutcome::Abort;
                assert_eq!(aborted, !reason.is_empty());
                assert_eq!(aborted, seen.ended.contains(turn), "an abort cancels first");
                seen.ended.insert(*turn);
                seen.aborted += u64::from(aborted);
                seen.held = false;
            }
            Effect::StartUtterance { utterance, .. } => {
                assert!(!std::mem::replace(&mut seen.utterance_open, true));
                assert_eq!(*utterance, seen.utterance + 1);
                seen.utterance = *utterance;
                seen.revision = 0;
            }
            Effect::ContinueUtterance { utterance } => {
                assert!(seen.utterance_open && *utterance == seen.utterance);
                seen.revision += 1;
            }
            Effect::ProbeUtterance { utterance } => {
                assert!(seen.utterance_open && *utterance == seen.utterance);
            }
            Effect::EndUtterance { utterance, .. } => {
                assert!(std::mem::replace(&mut seen.utterance_open, false) && *utterance == seen.utterance);
            }
            Effect::LeaveRoom { .. } => seen.left += 1,
            Effect::RefuseIntent { .. }
            | Effect::AgentState { .. }
            | Effect::CancelInvocation { .. }
            | Effect::TellNode { .. } => {}
        }
    }

    fn next_frame(&mut self) {
        let Some(turn) = self.seen.open else { return };
        let sequence = *self.sequence.get(&turn).unwrap_or(&0);
        if self.frame(turn, self.epoch, sequence) == Verdict::Pass {
            self.sequence.insert(turn, sequence + 1);
        }
    }

    fn frame(&mut self, turn: u32, epoch: u64, sequence: u64) -> Verdict {
        let verdict = self.kernel.frame(self.now_us, turn, epoch, sequence, 480);
        if verdict == Verdict::Pass {
            assert!(self.deadline_us.is_none_or(|deadline| self.now_us < deadline), "passed late");
            assert!(!self.seen.ended.contains(&turn) && self.seen.open == Some(turn), "passed a fence");
            assert!(!self.seen.held && self.seen.left == 0 && epoch == self.kernel.epoch());
            assert!(epoch >= self.view, "passed below the routing view");
            assert!(sequence >= *self.sequence.get(&turn).unwrap_or(&0));
            self.sequence.insert(turn, sequence + 1);
        }
        if self.kernel.drained() {
            assert_eq!(verdict, Verdict::LeaseExpired);
        }
        self.transcript.push(format!("{} {verdict:?}", self.now_us));
        verdict
    }

    fn drain(&mut self, limit: usize) {
        let block = self.kernel.clone().drain_records(limit);
        let before = self.evidence.len();
        let evidence = &mut self.evidence;
        self.kernel.drain_evidence(limit, |line| evidence.push(line.to_owned()));
        assert_eq!(rendered(&block), self.evidence[before..], "bytes and lines say the same");
    }

    /// Checks everything that was recorded against the contracts.
    pub(crate) fn check_evidence(&mut self) {
        self.drain(usize::MAX);
        let mut terminals: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let (mut last_sequence, mut admitted) = (None, BTreeSet::new());
        let mut bundle = Bundle::default();
        for line in &self.evidence {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if record["kind"] == "decision" {
                let decision = &record["decision"];
                let turn = text(&decision["turn_id"]);
                assert!(decision["scope"] != "turn" || !turn.is_empty(), "A7");
                let stale = decision["outcome_kind"] == "stale_epoch_reject";
                let before = decision["phase"] == "pre_turn" && decision["scope"] == "turn";
                assert!(!stale || before || decision["phase"] == "scheduling_point", "A6");
                if decision["outcome_kind"] == "admit" {
                    admitted.insert(turn);
                }
            }
            if record["name"] == "turn_start" {
                bundle.take(&record);
            }
            if record["kind"] != "signal" {
                continue;
            }
            let event = &record["event"];
            let signal = Signal::parse(&text(&event["signal"])).expect("registered");
            let emitter = Emitter::parse(&text(&event["emitted_by"])).expect("registered");
            let scope = EventScope::parse(&text(&event["event_scope"])).expect("a scope");
            assert!(signal.legal(emitter, scope, event["reason"].is_string()), "{line}");
            for field in signal.row().required {
                assert!(!event[*field].is_null(), "{field} in {line}");
            }
            assert!(scope == EventScope::Session || event["turn_id"].is_string());
            let sequence = event["runtime_sequence"].as_u64();
            assert!(sequence > last_sequence, "sequences rise strictly");
            last_sequence = sequence;
            let turn = text(&event["turn_id"]);
            match signal {
                Signal::TurnOpen => {
                    assert!(admitted.contains(&turn), "A4");
                    bundle.check(&record, self.needs_bundle);
                    assert!(terminals.insert(turn, Vec::new()).is_none());
                }
                Signal::Commit | Signal::Abort | Signal::Close => {
                    terminals
                        .get_mut(&turn)
                        .expect("A3: only an accepted turn ends")
                        .push(text(&event["signal"]));
                }
                _ => {}
            }
        }
        let open = self.kernel.turn();
        for (turn, signals) in terminals {
            let ended = [["commit", "close"], ["abort", "close"]].iter().any(|legal| signals == legal);
            let running = turn.ends_with(&format!("-{open}")) && signals.is_empty();
            assert!(ended || running, "A1, A2: {turn} {signals:?}");
        }
    }
}
