//! Bytes that went wrong: every decoder of the kernel answers them, and answers them twice the same.
//!
//! Seeded and bounded, so a failure comes again: its message names the round. `RSPP_FUZZ_ROUNDS` asks for
//! more rounds than the thousands that every test run makes.

use std::path::Path;

use rspp_kernel::document::stream::StreamValidator;
use rspp_kernel::document::{validate, Fault, Kind};
use rspp_kernel::event::{escape_into, unescape};
use rspp_kernel::input::{CancelSignal, ConnectionState, Event, Input};
use rspp_kernel::plan::PlanTemplate;
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::session::{SessionKernel, Settings};
use serde_json::Value;

/// What parsers have stumbled over before.
const TOKENS: [&str; 24] = [
    "null",
    "true",
    "-1",
    "-0",
    "1e999",
    "1.5",
    "18446744073709551616",
    "9223372036854775808",
    "\"\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "{}",
    "[]",
    "[[[[[[[[",
    "{\"a\":{\"a\":",
    ",",
    ":",
    "\"",
    "\\",
    "\u{feff}",
    "\u{202e}",
    "\r\n",
    "\"schema_version\":\"v1.0\",",
    "NaN",
];

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    /// Up to four wounds.
    fn wound(&mut self, whole: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for _ in 0..self.below(5) {
            let at = self.below(bytes.len());
            let end = (at + self.below(24)).min(bytes.len());
            match self.below(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.truncate(at),
                3 => {
                    let from = self.below(other.len());
                    let piece = &other[from..(from + self.below(64)).min(other.len())];
                    drop(bytes.splice(at..end, piece.iter().copied()));
                }
                4 => {
                    let twice = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, twice));
                }
                5 => bytes.insert(at, self.next().to_le_bytes()[0]),
                _ => drop(bytes.splice(at..end, TOKENS[self.below(TOKENS.len())].bytes())),
            }
        }
        bytes
    }

    /// Any text, of whatever script.
    fn text(&mut self) -> String {
        let length = self.below(12);
        let bytes: Vec<u8> = (0..length).map(|_| self.next().to_le_bytes()[1]).collect();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        text.push_str(TOKENS[self.below(TOKENS.len())]);
        text
    }
}

fn rounds(usual: u64) -> u64 {
    #[allow(clippy::disallowed_methods)] // how long to try is for whoever runs the test to say
    std::env::var("RSPP_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Every fixture, by the folder of its contract.
fn corpus(contract: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/fixtures").join(contract);
    let mut paths = Vec::new();
    for folder in ["valid", "invalid"] {
        for entry in std::fs::read_dir(root.join(folder)).expect(contract) {
            paths.push(entry.expect("an entry").path());
        }
    }
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a fixture")).collect()
}

fn sane(fault: &Fault, round: u64) {
    assert!(!fault.rule.id().is_empty() && !fault.message.is_empty(), "round {round}: {fault}");
    assert!(fault.message.len() < 4_096 && fault.field.len() < 4_096, "round {round}: a flood");
}

#[test]
fn documents() {
    for kind in Kind::ALL {
        let corpus = corpus(kind.name());
        assert!(!corpus.is_empty());
        let mut chance = Chance(7);
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..rounds(2_000) {
            let (one, two) = (chance.below(corpus.len()), chance.below(corpus.len()));
            let bytes = chance.wound(&corpus[one], &corpus[two]);
            let verdict = validate(*kind, &bytes);
            assert_eq!(verdict, validate(*kind, &bytes), "round {round}");
            match verdict {
                Ok(()) => {
                    let read: Result<Value, _> = serde_json::from_slice(&bytes);
                    assert!(
                        read.is_ok_and(|value| value.is_object()),
                        "{kind:?}, round {round}: no JSON object"
                    );
                    accepted += 1;
                }
                Err(fault) => {
                    sane(&fault, round);
                    refused += 1;
                }
            }
        }
        // Where one side is never seen nothing was tried.
        assert!(refused > 0 && accepted > 0, "{kind:?}: {accepted} accepted, {refused} refused");
    }
}

#[test]
fn streams() {
    let corpus = corpus("stream");
    let mut chance = Chance(11);
    for round in 0..rounds(1_500) {
        let (one, two) = (chance.below(corpus.len()), chance.below(corpus.len()));
        let bytes = chance.wound(&corpus[one], &corpus[two]);
        let judge = || {
            let mut validator = StreamValidator::new();
            let mut faults: Vec<Fault> =
                bytes.split(|byte| *byte == b'\n').filter_map(|line| validator.push(line)).collect();
            faults.extend(validator.finish());
            faults
        };
        let faults = judge();
        assert_eq!(faults, judge(), "round {round}");
        for fault in &faults {
            sane(fault, round);
        }
    }
}

#[test]
fn policies_of_plans() {
    let whole =
        br#"{"budgets":{"turn_budget_ms":5000},"adaptive":["retry","fallback"],"x":[1,2.5,null,"a\n"]}"#;
    let mut chance = Chance(13);
    let (mut made, mut refused) = (0, 0);
    for round in 0..rounds(4_000) {
        let bytes = chance.wound(whole, whole);
        let policy = String::from_utf8_lossy(&bytes);
        match PlanTemplate::new("p@v1", "graph/voice", "simple", &policy) {
            Ok(template) => {
                let hash = |turn| template.materialize(1, turn).map(|plan| plan.hash.hex());
                assert!(hash(1).is_ok() && hash(1) == hash(1) && hash(1) != hash(2), "round {round}");
                made += 1;
            }
            Err(error) => {
                assert!(!error.message.is_empty(), "round {round}");
                refused += 1;
            }
        }
    }
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
}

#[test]
fn escaped_ids() {
    let mut chance = Chance(17);
    for round in 0..rounds(20_000) {
        let text = chance.text();
        let mut escaped = String::new();
        escape_into(&mut escaped, &text);
        assert_eq!(unescape(&escaped).as_ref(), Some(&text), "round {round}");
        let wounded = String::from_utf8_lossy(&chance.wound(escaped.as_bytes(), b"%41%zz/%")).into_owned();
        if let Some(read) = unescape(&wounded) {
            let mut again = String::new();
            escape_into(&mut again, &read);
            assert_eq!(again, wounded, "round {round}: two spellings of one id");
        }
    }
}

#[test]
fn foreign_words_in_evidence() {
    let mut chance = Chance(19);
    for round in 0..rounds(400) {
        let session_id = chance.text();
        let plan = PlanTemplate::new("p@v1", "graph/voice", "simple", "{}").expect("a template");
        let policy = TurnPolicy { greeting: true, ..TurnPolicy::default() };
        let (now_us, wall_clock_ms, evidence_capacity) = (1, 1, 512);
        let settings = Settings { session_id, policy, plan, now_us, wall_clock_ms, evidence_capacity };
        let mut kernel = SessionKernel::new(settings);
        let words: Vec<String> = (0..4).map(|_| chance.text()).collect();
        let events = [
            Event::Lease { epoch: 1, deadline_us: 9_000_000 },
            Event::Start { resumed: false },
            Event::GenerationFailed { turn: 1, reason: words[0].as_str() },
            Event::Connection { state: ConnectionState::Stall, reason: words[1].as_str() },
            Event::Cancel { signal: CancelSignal::Stop },
            Event::LeaseLost { reason: words[2].as_str() },
            Event::Connection { state: ConnectionState::Ended, reason: words[3].as_str() },
        ];
        for event in events {
            kernel.step(Input { now_us: 2, event });
        }
        let mut validator = StreamValidator::new();
        let mut inputs = 0;
        kernel.drain_evidence(usize::MAX, |line| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            inputs += usize::from(record["kind"] == "input");
            assert!(!line.contains('\n'), "round {round}: a record is one line");
            assert_eq!(validator.push(line.as_bytes()), None, "round {round}: {line}");
        });
        assert_eq!((inputs, validator.finish()), (events.len(), Vec::new()), "round {round}");
    }
}
