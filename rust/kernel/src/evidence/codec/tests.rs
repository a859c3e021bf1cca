//! Round trips of whatever may be recorded, and blocks that were cut or changed.

#![allow(clippy::cast_possible_truncation)] // drawn numbers are cut on purpose

use std::fmt::Write as _;

use proptest::prelude::*;

use super::numbers::{member_at, Numbered};
use super::*;
use crate::admission::Place;
use crate::bundle::{Actions, Provenance, TurnStart};
use crate::decision::Decision;
use crate::edge::notice::What;
use crate::evidence::record::{AttemptRecord, Call, EdgeRecord, Marker};
use crate::input::Transcript;
use crate::invocation::outcome::Ending;
use crate::plan::{PlanHash, ResolvedTurnPlan};
use crate::reason::{Interner, Label};
use crate::turn::Transition;

/// Values out of a list of numbers, for ever.
struct Draw<'numbers> {
    numbers: &'numbers [u64],
    place: usize,
}

impl Draw<'_> {
    fn number(&mut self) -> u64 {
        self.place += 1;
        // What comes again is told apart, so that a short list does not make all records alike.
        self.numbers[self.place % self.numbers.len()].rotate_left((self.place / self.numbers.len()) as u32)
    }

    fn small(&mut self) -> u32 {
        (self.number() & u64::from(u32::MAX)) as u32
    }

    fn flag(&mut self) -> bool {
        self.number() & 1 == 1
    }

    fn member<T: Numbered>(&mut self) -> T {
        member_at(self.number() % T::ALL.len() as u64).expect("a member")
    }

    fn label(&mut self, interner: &mut Interner) -> Label {
        match self.number() % 3 {
            0 => Label::Empty,
            1 => Label::Known(self.member()),
            _ => interner.label(&format!("word {} é", self.number() % 80)),
        }
    }

    fn event(&mut self, interner: &mut Interner) -> Event<Label> {
        match self.number() % 16 {
            0 => Event::Lease { epoch: self.number(), deadline_us: self.number() },
            1 => Event::LeaseLost { reason: self.label(interner) },
            2 => Event::Start { resumed: self.flag() },
            3 => Event::Tick,
            4 => {
                Event::VoiceActivity { media_sample: self.number(), permille: (self.number() % 1001) as u16 }
            }
            5 => Event::Transcript(Transcript {
                utterance: self.small(),
                revision: self.small(),
                words: self.small(),
                backchannel: self.flag(),
                complete: self.flag(),
                probe: self.flag(),
            }),
            6 => Event::TextMessage { reference: self.small() },
            7 => Event::Cancel { signal: self.member() },
            8 => Event::GenerationFinished { turn: self.small() },
            9 => Event::GenerationFailed { turn: self.small(), reason: self.label(interner) },
            10 => Event::Playback { turn: self.small(), event: self.member(), samples: self.number() },
            11 => Event::Connection { state: self.member(), reason: self.label(interner) },
            12 => Event::CancelWithin { scope: self.member(), target: self.small() },
            13 => Event::RoutingView { epoch: self.number() },
            14 => Event::Drain,
            _ => Event::Migration { step: self.member(), epoch: self.number() },
        }
    }

    fn call(&mut self, interner: &mut Interner) -> Call {
        match self.number() % 10 {
            8 => Call::TurnStart(self.turn_start(interner)),
            0 => Call::Invoke { modality: self.member() },
            1 => Call::OutputHandedOn { invocation: self.small() },
            2 => Call::AttemptFinished {
                invocation: self.small(),
                ending: Ending {
                    class: self.member(),
                    reason: if self.flag() { Some(self.member()) } else { None },
                    retryable: self.flag(),
                    opens_circuit: self.flag(),
                    backoff_ms: self.number(),
                },
                idle_us: self.number(),
            },
            3 => Call::Ingress { carrier: self.flag().then(|| self.number().cast_signed()) },
            4 => Call::Admission(Place {
                point: self.member(),
                outcome: self.member(),
                reason: self.member(),
                snapshot: self.label(interner),
                key: self.label(interner),
                in_use: self.small(),
                places: self.small(),
                key_in_use: self.small(),
                key_share: self.small(),
                claim_us: self.number(),
            }),
            5 => Call::Arrival {
                number: self.small(),
                event: self.number(),
                bytes: self.number(),
                carrier: self.flag().then(|| self.number().cast_signed()),
            },
            6 => Call::Reattach { turns: self.small(), messages: self.small() },
            7 => Call::LevelLowered { reason: self.member() },
            _ => Call::DeadlinePassed,
        }
    }

    fn turn_start(&mut self, interner: &mut Interner) -> TurnStart<Label> {
        let provenance = self.flag().then(|| {
            let own: [String; 6] = std::array::from_fn(|index| format!("é{index}/{}", self.number() % 5));
            Provenance::new(own.each_ref().map(String::as_str)).expect("references")
        });
        TurnStart {
            version: self.number(),
            usable_until_us: self.number(),
            authority_epoch: self.number(),
            claim_us: self.number(),
            provenance: provenance.map(|provenance| interner.hold(provenance)),
            admission_reason: self.label(interner),
            failure: if self.flag() { Some(self.member()) } else { None },
            admission: self.member(),
            admission_scope: self.member(),
            authority_valid: self.flag(),
            authority_authorized: self.flag(),
            actions: Actions::numbered((self.number() % 16) as u8).expect("a set"),
        }
    }

    fn what(&mut self) -> What {
        match self.number() % 7 {
            0 => What::Watermark(self.member()),
            1 => What::FlowXoff,
            2 => What::FlowXon,
            3 => What::CreditGrant(self.number()),
            4 => What::DropNotice { reason: self.member(), first: self.number(), last: self.number() },
            5 => What::Shed(self.member()),
            _ => What::Discontinuity(self.number()),
        }
    }

    fn body(&mut self, interner: &mut Interner) -> Body {
        match self.number() % 12 {
            0 => Body::Signal {
                signal: self.member(),
                emitter: self.member(),
                scope: self.member(),
                reason: self.label(interner),
                reach: if self.flag() { Some(self.member()) } else { None },
                invocation: self.small(),
            },
            1 => Body::Decision(Decision {
                outcome: self.member(),
                phase: self.member(),
                scope: self.member(),
                decider: self.member(),
                reason: self.member(),
            }),
            2 => Body::Transition(Transition {
                from: self.member(),
                trigger: self.member(),
                to: self.member(),
            }),
            3 => Body::Marker { name: self.member(), value: self.number() },
            4 => {
                let mut hash = [0; 32];
                hash[..8].copy_from_slice(&self.number().to_le_bytes());
                Body::Plan(ResolvedTurnPlan { hash: PlanHash(hash), seed: self.number() })
            }
            5 => Body::AgentState(self.member()),
            6 => Body::Frame {
                sequence: self.number(),
                samples: self.number(),
                epoch: self.number(),
                verdict: self.member(),
            },
            7 => Body::Call(self.call(interner)),
            8 => Body::Provider {
                reported: self.flag(),
                modality: self.member(),
                outcome: self.member(),
                latency_us: self.number(),
            },
            9 => Body::Attempt(AttemptRecord {
                invocation: self.small(),
                modality: self.member(),
                provider: self.label(interner),
                attempt: (self.number() % 256) as u8,
                outcome: self.member(),
                reason: self.label(interner),
                retryable: self.flag(),
                decision: self.member(),
                next_provider: self.label(interner),
                latency_us: self.number(),
            }),
            10 => Body::Edge(EdgeRecord {
                what: self.what(),
                scope: self.member(),
                lane: self.member(),
                name: self.label(interner),
            }),
            _ => Body::Input(self.event(interner)),
        }
    }

    fn entry(&mut self, interner: &mut Interner) -> Entry {
        if self.number().is_multiple_of(16) {
            return Entry::Gap(Gap::noted(self.number(), self.number()));
        }
        Entry::Record(Record {
            at_us: self.number(),
            sequence: if self.flag() { self.number() } else { 0 },
            epoch: self.number() % 3,
            turn_epoch: self.number() % 3,
            turn: self.small() % 3,
            body: self.body(interner),
        })
    }
}

fn entries(numbers: &[u64]) -> (Vec<Entry>, Interner) {
    let (mut draw, mut interner) = (Draw { numbers, place: 0 }, Interner::default());
    let entries = (0..40).map(|_| draw.entry(&mut interner)).collect();
    (entries, interner)
}

fn encoded(entries: &[Entry], interner: &Interner) -> Vec<u8> {
    let mut block = Encoder::new(interner);
    for entry in entries {
        match entry {
            Entry::Record(record) => block.record(record),
            Entry::Gap(gap) => block.gap(*gap),
        }
    }
    block.finish()
}

/// The same entries with each word in place of its handle.
fn worded(entries: &[Entry], interner: &Interner) -> String {
    let mut text = String::new();
    for entry in entries {
        let _ = writeln!(text, "{entry:?}");
    }
    for place in (0..64).rev() {
        let label = Label::Foreign(place);
        text = text.replace(&format!("Foreign({place})"), &format!("Foreign {:?}", interner.text(label)));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_recorded_is_read_back(numbers in prop::collection::vec(any::<u64>(), 1..200)) {
        let (entries, interner) = entries(&numbers);
        let block = encoded(&entries, &interner);
        let decoded = decode(&block).expect("what was written");
        prop_assert_eq!(worded(&decoded.entries, &decoded.words), worded(&entries, &interner));
        let again = encoded(&decoded.entries, &decoded.words);
        prop_assert_eq!(again, block, "one spelling of each block");
    }

    #[test]
    fn a_cut_or_changed_block_is_refused_or_read_and_never_more(
        numbers in prop::collection::vec(any::<u64>(), 1..60),
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        let (entries, interner) = entries(&numbers);
        let mut block = encoded(&entries, &interner);
        for (place, byte) in changes {
            let place = usize::from(place) % block.len();
            block[place] = byte;
        }
        match decode(&block) {
            Err(error) => prop_assert!(error.offset <= block.len() && !error.reason.is_empty()),
            Ok(decoded) => prop_assert!(decoded.entries.len() < block.len()),
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut block = vec![FORMAT];
        block.extend(bytes);
        if let Err(error) = decode(&block) {
            prop_assert!(error.offset <= block.len());
        }
    }
}

#[test]
fn a_cut_at_every_byte_leaves_whole_entries_or_names_the_place() {
    let numbers: Vec<u64> = (1..90).map(|number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let (entries, interner) = entries(&numbers);
    let block = encoded(&entries, &interner);
    let mut whole = 0;
    for end in 1..block.len() {
        match decode(&block[..end]) {
            Ok(decoded) => {
                assert!(decoded.entries.len() >= whole);
                whole = decoded.entries.len();
                assert_eq!(
                    worded(&decoded.entries, &decoded.words),
                    worded(&entries[..whole], &interner),
                    "cut at {end}"
                );
            }
            Err(error) => assert!(error.offset <= end, "cut at {end}: {error}"),
        }
    }
    assert!(whole > 30, "few cuts fall between entries: {whole}");
}

#[test]
fn each_fault_is_named_where_it_is() {
    let faults: [(&[u8], usize, &str); 12] = [
        (&[2], 0, "format"),
        (&[FORMAT, 0x7f], 1, "kind"),
        (&[FORMAT, Kind::Gap as u8 | CHANGED, 1], 1, "no changes"),
        (&[FORMAT, Kind::Tick as u8 | CHANGED, 0, 0], 2, "changes are not known"),
        (&[FORMAT, Kind::Tick as u8 | CHANGED, 16, 2, 0], 2, "changes are not known"),
        (&[FORMAT, Kind::Tick as u8 | CHANGED, EPOCH, 0, 0], 3, "changes nothing"),
        (&[FORMAT, Kind::Tick as u8, 0x80, 0], 2, "longer"),
        (&[FORMAT, Kind::Tick as u8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], 2, "64 bits"),
        (&[FORMAT, Kind::Start as u8, 0, 2], 3, "flag"),
        (&[FORMAT, Kind::LeaseLost as u8, 0, 2], 3, "word"),
        (&[FORMAT, Kind::Word as u8, 2, b'o'], 2, "within a word"),
        (&[FORMAT, Kind::NextWindow as u8, 0, 0xe9, 7], 3, "permille"),
    ];
    for (block, offset, word) in faults {
        let error = decode(block).expect_err(word);
        assert_eq!(error.offset, offset, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = decode(&vec![FORMAT; MAX_BLOCK_BYTES + 1]).expect_err("too long");
    assert_eq!(error.offset, MAX_BLOCK_BYTES);
    assert_eq!(decode(&[]).expect("nothing").entries, []);
}

#[test]
fn words_that_the_kernel_would_not_keep_are_refused() {
    for word in ["", "cancelled"] {
        let mut block = vec![FORMAT, Kind::Word as u8, word.len() as u8];
        block.extend(word.as_bytes());
        assert_eq!(decode(&block).expect_err(word).offset, 2);
    }
    let mut block = vec![FORMAT];
    for _ in 0..2 {
        block.extend([Kind::Word as u8, 1, b'x']);
    }
    assert_eq!(decode(&block).expect_err("told twice").offset, 5);
}

#[test]
fn frames_and_windows_of_a_steady_call_take_a_few_bytes() {
    let interner = Interner::default();
    let mut block = Encoder::new(&interner);
    let (mut sizes, mut written) = ([0, 0], Vec::new());
    for place in 0..100_u64 {
        let (frame_us, window_us) = (place * 20_000 + place % 7 * 300, place * 32_000 + place % 5 * 500);
        let frame = Body::Frame { sequence: place, samples: 480, epoch: 1, verdict: Verdict::Pass };
        let media_sample = place * 512;
        let window = Body::Input(Event::VoiceActivity { media_sample, permille: (place * 9) as u16 });
        for (index, at_us, body) in [(0, frame_us, frame), (1, window_us, window)] {
            let before = block.size();
            let record = Record { at_us, sequence: 0, epoch: 1, turn_epoch: 1, turn: 1, body };
            block.record(&record);
            written.push(Entry::Record(record));
            if place > 1 {
                sizes[index] = sizes[index].max(block.size() - before);
            }
        }
    }
    assert_eq!(sizes, [3, 5]);
    assert_eq!(decode(&block.finish()).expect("what was written").entries, written);
}

#[test]
fn a_marker_of_the_same_moment_takes_four_bytes() {
    let interner = Interner::default();
    let mut block = Encoder::new(&interner);
    let body = Body::Marker { name: Marker::LateEvent, value: 1 };
    let record = Record { at_us: 9, sequence: 0, epoch: 1, turn_epoch: 1, turn: 1, body };
    block.record(&record);
    let before = block.size();
    block.record(&record);
    assert_eq!(block.size() - before, 4);
}

#[test]
fn numbers_never_move() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/evidence-numbers.json");
    let text = std::fs::read_to_string(path).expect("the list of numbers");
    let listed: std::collections::BTreeMap<String, Vec<String>> =
        serde_json::from_str(&text).expect("a list of names for each vocabulary");
    for (vocabulary, members) in numbers() {
        let known = listed.get(vocabulary).map_or(&[][..], Vec::as_slice);
        for (number, name) in known.iter().enumerate() {
            assert_eq!(
                members.get(number),
                Some(&name.as_str()),
                "{vocabulary} {number} is {name:?} in old recordings: new members go to the end"
            );
        }
        assert_eq!(
            known.len(),
            members.len(),
            "append {:?} to {vocabulary} in contracts/evidence-numbers.json",
            &members[known.len()..]
        );
    }
    assert_eq!(listed.len(), numbers().len(), "a vocabulary has gone");
}
