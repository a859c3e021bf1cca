//! One call's kernel, told and read in short words.

#![allow(dead_code)] // each test file uses its own part

use rspp_kernel::effect::Effect;
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{Event, Input, Modality};
use rspp_kernel::invocation::policy::InvocationPolicy;
use rspp_kernel::plan::PlanTemplate;
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::session::{SessionKernel, Settings};
use rspp_kernel::turn::State;
use serde_json::Value;

pub(crate) const START_US: u64 = 1_000_000;
pub(crate) const LEASE_US: u64 = 4_000_000;

pub(crate) struct Call {
    pub(crate) kernel: SessionKernel,
    pub(crate) now_us: u64,
}

impl Call {
    pub(crate) fn with(policy: TurnPolicy, graph: &str, capacity: usize) -> Self {
        let mut kernel = SessionKernel::new(Settings {
            session_id: String::from("a/b"),
            policy,
            plan: PlanTemplate::new("shop@v1", graph, "simple", "{}").expect("a template"),
            now_us: START_US,
            wall_clock_ms: 1_700_000_000_000,
            evidence_capacity: capacity,
        });
        let providers = [(Modality::Llm, "one"), (Modality::Llm, "two"), (Modality::Tts, "voice")];
        kernel.use_providers(InvocationPolicy::default(), &providers);
        Self { kernel, now_us: START_US }
    }

    pub(crate) fn policy() -> TurnPolicy {
        TurnPolicy { failure_notice: false, ..TurnPolicy::default() }
    }

    /// A call with a lease of epoch 3.
    pub(crate) fn leased() -> Self {
        Self::leased_with(Self::policy())
    }

    pub(crate) fn leased_with(policy: TurnPolicy) -> Self {
        let mut call = Self::with(policy, "graph/voice", 4096);
        call.give(Event::Lease { epoch: 3, deadline_us: START_US + LEASE_US });
        call.said();
        call
    }

    /// A call with an open turn.
    pub(crate) fn open() -> Self {
        let mut call = Self::leased();
        call.give(Event::TextMessage { reference: 1 });
        assert_eq!(call.kernel.turn_state(), State::Active);
        call.said();
        call
    }

    pub(crate) fn give(&mut self, event: Event<&str>) -> Vec<Effect> {
        self.now_us += 1000;
        self.kernel.step(Input { now_us: self.now_us, event }).to_vec()
    }

    pub(crate) fn text(&mut self) -> Vec<Effect> {
        self.give(Event::TextMessage { reference: 2 })
    }

    pub(crate) fn frame(&mut self, epoch: u64, sequence: u64) -> Verdict {
        self.now_us += 1000;
        self.kernel.frame(self.now_us, self.kernel.turn().max(1), epoch, sequence, 480)
    }

    pub(crate) fn records(&mut self) -> Vec<Value> {
        let mut records = Vec::new();
        let take = |line: &str| records.push(serde_json::from_str(line).expect("JSON"));
        self.kernel.drain_evidence(usize::MAX, take);
        records
    }

    /// Signals as `name` or `name:reason`, decisions as `=outcome/phase/scope`, transitions as
    /// `from>to`, markers as `.name`; inputs and states left out.
    pub(crate) fn said(&mut self) -> Vec<String> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut said = Vec::new();
        for record in self.records() {
            match word(&record["kind"]).as_str() {
                "signal" => {
                    let event = &record["event"];
                    let reason = word(&event["reason"]);
                    let name = word(&event["signal"]);
                    said.push(if reason.is_empty() { name } else { format!("{name}:{reason}") });
                }
                "decision" => {
                    let made = &record["decision"];
                    let (outcome, phase) = (word(&made["outcome_kind"]), word(&made["phase"]));
                    let scope = word(&made["scope"]);
                    assert!(scope != "turn" || made["turn_id"].is_string(), "A7");
                    said.push(format!("={outcome}/{phase}/{scope}"));
                }
                "transition" => said.push(format!("{}>{}", word(&record["from"]), word(&record["to"]))),
                "marker" if record["name"] != "agent_state" => {
                    said.push(format!(".{}", word(&record["name"])));
                }
                _ => {}
            }
        }
        said
    }
}

pub(crate) fn no_terminal(said: &[String]) {
    for word in said {
        let name = word.split(':').next().unwrap_or_default();
        assert!(!["turn_open", "commit", "abort", "close"].contains(&name), "A3, A11: {said:?}");
    }
}

pub(crate) fn signals(said: &[String]) -> Vec<&str> {
    said.iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with(['.', '=']) && !word.contains('>'))
        .collect()
}
