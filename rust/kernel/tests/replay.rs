//! A call run again from its evidence: nothing differs, and whatever was changed is found in its place.

mod calls;
mod common;

use calls::call;
use common::{kernel, kernel_with, Model, Operation};
use proptest::prelude::*;
use rspp_kernel::evidence::codec::Entry;
use rspp_kernel::evidence::record::{Body, Marker, Record};
use rspp_kernel::evidence::ring::Gap;
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{Event, Input};
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::reason::Label;
use rspp_kernel::replay::divergence::{Class, Found, MAX_LISTED};
use rspp_kernel::replay::Replay;
use rspp_kernel::session::SessionKernel;
use rspp_kernel::signal::Signal;

/// What was recorded of a call, with its words.
struct Recording {
    entries: Vec<Entry>,
    model: Model,
}

impl Recording {
    fn of(mut model: Model, call: &[(u64, Operation)], every: usize) -> Self {
        let mut entries = Vec::new();
        for (index, (wait_us, operation)) in call.iter().enumerate() {
            if !matches!(operation, Operation::Drain) {
                model.perform(*wait_us, *operation);
            }
            if index % every == every - 1 {
                model.take_entries(&mut entries);
            }
        }
        model.take_entries(&mut entries);
        Self { entries, model }
    }

    fn replay(&self, kernel: SessionKernel) -> Replay {
        let mut replay = Replay::new(kernel);
        replay
            .feed(
                self.entries.iter().copied(),
                |label| self.model.word(label),
                |place| self.model.provenance(place),
            )
            .expect("room");
        replay.finish();
        replay
    }

    fn record(&mut self, wanted: impl Fn(&Record) -> bool) -> (u64, &mut Record) {
        let records = self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Record(record) => Some(record),
            Entry::Gap(_) => None,
        });
        let (index, record) = records.enumerate().find(|(_, record)| wanted(record)).expect("such a record");
        (index as u64, record)
    }
}

fn unchanged(replay: &Replay) -> bool {
    replay.found() == Found::default()
}

/// The words in which the tests speak of a divergence.
fn short(replay: &Replay) -> Vec<(Class, u64, String)> {
    let found = replay.found();
    found.listed().iter().map(|found| (found.class, found.index, found.scope.clone())).collect()
}

fn told(class: Class, index: u64, scope: &str) -> (Class, u64, String) {
    (class, index, scope.to_owned())
}

fn ordinary_kernel() -> SessionKernel {
    kernel(true, true, true)
}

fn ordinary() -> Recording {
    Recording::of(Model::of(ordinary_kernel()), &ordinary_call(), 1)
}

/// A greeting, an answer that the caller interrupts, and a cancelled answer.
fn ordinary_call() -> Vec<(u64, Operation)> {
    let mut call = vec![
        (0, Operation::Lease { epoch: 1, length_us: 60_000_000 }),
        (1_000, Operation::Start(false)),
        (1_000, Operation::Invoke(2)),
    ];
    call.extend([(20_000, Operation::Frame); 10]);
    call.extend([
        (10, Operation::HandOn),
        (10, Operation::Attempt { class: 0, retryable: false, idle_us: 10 }),
        (20_000, Operation::Finish),
        (10_000, Operation::Text(1)),
        (10_000, Operation::Invoke(1)),
        (10_000, Operation::Attempt { class: 1, retryable: true, idle_us: 0 }),
        (10_000, Operation::Edge { what: 1, turn: 2 }),
    ]);
    call.extend([(20_000, Operation::Frame); 5]);
    call.extend([(32_000, Operation::Window(900)); 30]);
    call.extend([(32_000, Operation::Window(10)); 12]);
    call.extend([
        (10_000, Operation::Text(2)),
        (10_000, Operation::Frame),
        (10_000, Operation::Cancel(true)),
    ]);
    call
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn or_03_every_call_replays_to_the_identical_trace(
        call in call(), interruptions in any::<bool>(), notice in any::<bool>(), plan in any::<bool>(),
    ) {
        let recording = Recording::of(Model::new(interruptions, notice, plan), &call, 1);
        let replay = recording.replay(kernel(interruptions, notice, plan));
        prop_assert!(unchanged(&replay), "{:?}", replay.found());
        prop_assert_eq!(replay.gap(), None);
        prop_assert_eq!(replay.compared(), recording.entries.len() as u64);
        prop_assert_eq!(replay.position(), recording.entries.len() as u64);
        prop_assert_eq!(replay.kernel().turn_state(), recording.model.turn_state());
    }

    #[test]
    fn or_03_a_call_that_lost_evidence_replays_up_to_the_loss(call in call(), every in 20usize..200) {
        // Nobody empties Stage A for a while, so that it sheds and loses.
        let long: Vec<_> = call.iter().copied().cycle().take(600).collect();
        let recording = Recording::of(Model::new(true, true, true), &long, every);
        let replay = recording.replay(kernel(true, true, true));
        prop_assert!(unchanged(&replay), "{:?}", replay.found());
        let lost = recording.entries.iter().any(|entry| matches!(entry, Entry::Gap(_)));
        prop_assert!(replay.gap().is_some() || !lost);
    }

    #[test]
    fn or_03_the_cursor_finds_the_same_whatever_the_steps(
        call in call(), steps in prop::collection::vec(0u64..9, 1..40), other in any::<bool>(),
    ) {
        let recording = Recording::of(Model::new(true, true, true), &call, 1);
        let whole = recording.replay(kernel(other, true, true));
        let mut replay = Replay::new(kernel(other, true, true));
        let mut fed = recording.entries.iter().copied();
        for step in steps {
            let some = usize::try_from(step).expect("small");
            replay.feed(fed.by_ref().take(some), |label| recording.model.word(label), |place| recording.model.provenance(place)).expect("room");
            let waiting = replay.pending() as u64;
            prop_assert_eq!(replay.advance(step / 2), waiting.min(step / 2));
        }
        replay.feed(fed, |label| recording.model.word(label), |place| recording.model.provenance(place)).expect("room");
        replay.finish();
        prop_assert_eq!(replay.found(), whole.found());
        prop_assert_eq!(replay.position(), whole.position());
    }
}

#[test]
fn or_03_an_unchanged_call_has_no_divergence_and_every_kind_of_input() {
    let recording = ordinary();
    let replay = recording.replay(ordinary_kernel());
    assert!(unchanged(&replay), "{:?}", replay.found());
    assert!(replay.inputs() > 60 && replay.compared() > replay.inputs() + 40);
}

#[test]
fn or_03_an_edited_record_is_found_at_its_index_with_its_class() {
    type Edit = fn(&mut Record);
    type Wanted = fn(&Record) -> bool;
    let signal = |record: &Record| matches!(record.body, Body::Signal { signal: Signal::Commit, .. });
    let frame = |record: &Record| matches!(record.body, Body::Frame { sequence: 4, .. });
    let plan = |record: &Record| matches!(record.body, Body::Plan(_)) && record.turn == 2;
    let lease = |record: &Record| matches!(record.body, Body::Marker { name: Marker::LeaseGranted, .. });
    let state = |record: &Record| matches!(record.body, Body::AgentState(_)) && record.turn == 2;
    let passed = |record: &Record| matches!(record.body, Body::Marker { name: Marker::FramesPassed, .. });
    let attempt = |record: &Record| matches!(record.body, Body::Attempt(_));
    let edits: [(Class, Wanted, Edit, &str); 10] = [
        (
            Class::Plan,
            plan,
            |record| {
                if let Body::Plan(plan) = &mut record.body {
                    plan.hash.0[7] ^= 1;
                }
            },
            "turn:turn-1-2",
        ),
        (
            Class::Outcome,
            signal,
            |record| {
                if let Body::Signal { signal, .. } = &mut record.body {
                    *signal = Signal::Abort;
                }
            },
            "turn:turn-1-1",
        ),
        (
            Class::Outcome,
            frame,
            |record| {
                if let Body::Frame { verdict, .. } = &mut record.body {
                    *verdict = Verdict::Held;
                }
            },
            "turn:turn-1-1",
        ),
        (
            Class::Outcome,
            passed,
            |record| {
                if let Body::Marker { value, .. } = &mut record.body {
                    *value += 1;
                }
            },
            "turn:turn-1-1",
        ),
        (Class::Outcome, state, |record| record.turn = 1, "turn:turn-1-1"),
        (Class::Ordering, signal, |record| record.sequence += 3, "turn:turn-1-1"),
        (Class::Timing, signal, |record| record.at_us += 3, "turn:turn-1-1"),
        (
            Class::Timing,
            attempt,
            |record| {
                if let Body::Attempt(attempt) = &mut record.body {
                    attempt.latency_us += 5;
                }
            },
            "turn:turn-1-1",
        ),
        (Class::Authority, signal, |record| record.epoch = 9, "turn:turn-1-1"),
        (
            Class::Authority,
            lease,
            |record| {
                if let Body::Marker { value, .. } = &mut record.body {
                    *value += 1;
                }
            },
            "session:call/1 %",
        ),
    ];
    for (class, wanted, edit, scope) in edits {
        let mut recording = ordinary();
        let (index, record) = recording.record(wanted);
        edit(record);
        let replay = recording.replay(ordinary_kernel());
        assert_eq!(short(&replay), [told(class, index, scope)], "{:?}", replay.found().listed());
        let found = &replay.found().listed()[0].clone();
        assert!(found.recorded != found.replayed && found.recorded.starts_with('{'));
        assert!(!found.message.is_empty());
        assert_eq!(found.diff_us.is_some(), class == Class::Timing);
    }
}

#[test]
fn or_03_a_removed_an_added_and_an_exchanged_record_are_found() {
    let mut recording = ordinary();
    let (index, record) = recording.record(|record| matches!(record.body, Body::Plan(_)));
    let place = usize::try_from(index).expect("small");
    let copy = *record;
    recording.entries.remove(place);
    let replay = recording.replay(ordinary_kernel());
    assert_eq!(short(&replay), [told(Class::Plan, index, "turn:turn-1-1")]);
    assert!(replay.found().listed()[0].recorded.is_empty());

    recording.entries.insert(place, Entry::Record(copy));
    recording.entries.insert(place, Entry::Record(copy));
    let replay = recording.replay(ordinary_kernel());
    assert_eq!(replay.found().listed().len(), 1);
    assert!(replay.found().listed()[0].replayed.is_empty());
    recording.entries.remove(place);

    recording.entries.swap(place, place + 1);
    let replay = recording.replay(ordinary_kernel());
    assert_eq!(short(&replay), [told(Class::Ordering, index, "turn:turn-1-1")]);
}

#[test]
fn or_03_a_removed_signal_does_not_make_every_later_sequence_a_divergence() {
    let mut recording = ordinary();
    let wanted = |record: &Record| matches!(record.body, Body::Signal { signal: Signal::OutputAccepted, .. });
    let (index, _) = recording.record(wanted);
    let place = usize::try_from(index).expect("small");
    recording.entries.remove(place);
    for entry in &mut recording.entries[place..] {
        if let Entry::Record(record) = entry {
            record.sequence = record.sequence.saturating_sub(1);
        }
    }
    let replay = recording.replay(ordinary_kernel());
    assert_eq!(short(&replay), [told(Class::Outcome, index, "turn:turn-1-1")]);
}

#[test]
fn or_03_a_lost_input_shows_in_what_followed_from_it() {
    let mut recording = ordinary();
    let wanted = |record: &Record| matches!(record.body, Body::Input(Event::GenerationFinished { turn: 1 }));
    let (index, _) = recording.record(wanted);
    recording.entries.remove(usize::try_from(index).expect("small"));
    let replay = recording.replay(ordinary_kernel());
    let first = &replay.found().listed()[0].clone();
    assert_eq!((first.class, first.index, first.turn), (Class::Outcome, index, 1));
}

#[test]
fn or_03_records_that_changed_places_are_an_ordering_of_the_trace() {
    let mut recording = ordinary();
    let wanted = |record: &Record| matches!(record.body, Body::Frame { sequence: 3, .. });
    let (index, _) = recording.record(wanted);
    let place = usize::try_from(index).expect("small");
    recording.entries.swap(place, place + 1);
    let replay = recording.replay(ordinary_kernel());
    assert!(short(&replay).contains(&told(Class::Ordering, index + 1, "trace")));
}

#[test]
fn or_03_a_recording_without_its_beginning_is_said_to_be_one() {
    let mut recording = ordinary();
    recording.entries.remove(0);
    let replay = recording.replay(ordinary_kernel());
    assert_eq!(short(&replay)[0], told(Class::Outcome, 0, "trace"));
}

#[test]
fn or_03_another_plan_diverges_in_each_turn_and_another_threshold_in_its_turn() {
    let recording = ordinary();
    let policy = TurnPolicy { greeting: true, ..TurnPolicy::default() };
    let replay = recording.replay(kernel_with(policy, "graph/other"));
    let classes = short(&replay);
    assert!(classes.iter().all(|(class, ..)| *class == Class::Plan), "{classes:?}");
    let scopes: Vec<_> = classes.iter().map(|(.., scope)| scope.as_str()).collect();
    assert_eq!(scopes, ["turn:turn-1-1", "turn:turn-1-2", "turn:turn-1-3"]);

    let patient = TurnPolicy { confirm_ms: 2_000, ..policy };
    let replay = recording.replay(kernel_with(patient, "graph/voice"));
    let first = &replay.found().listed()[0].clone();
    assert_eq!((first.class, first.turn), (Class::Outcome, 2));
    assert!(first.recorded.contains("barge_in") && first.replayed.is_empty(), "{first:?}");
}

#[test]
fn or_03_nothing_is_judged_behind_a_gap() {
    let mut recording = ordinary();
    let (index, record) = recording.record(|record| record.turn == 2 && matches!(record.body, Body::Plan(_)));
    if let Body::Plan(plan) = &mut record.body {
        plan.seed += 1;
    }
    let place = usize::try_from(index).expect("small");
    let missing = Gap::noted(5_300_000, 4);
    recording.entries.insert(place, Entry::Gap(missing));
    let replay = recording.replay(ordinary_kernel());
    assert!(unchanged(&replay));
    assert_eq!(replay.gap(), Some(missing));
    assert_eq!(replay.compared(), index);
    assert_eq!(replay.position(), recording.entries.len() as u64 - 1);
}

#[test]
fn or_03_a_recording_that_breaks_off_is_judged_as_far_as_it_goes() {
    let recording = ordinary();
    for length in 0..recording.entries.len() {
        let mut replay = Replay::new(ordinary_kernel());
        let some = recording.entries[..length].iter().copied();
        replay
            .feed(some, |label| recording.model.word(label), |place| recording.model.provenance(place))
            .expect("room");
        assert_eq!(replay.advance(u64::MAX), length as u64);
        assert!(unchanged(&replay), "{:?}", replay.found());
        assert_eq!(replay.compared(), length as u64);
    }
}

#[test]
fn or_03_the_cursor_goes_to_a_record_a_time_and_a_turn() {
    let recording = ordinary();
    let mut replay = Replay::new(ordinary_kernel());
    replay
        .feed(
            recording.entries.iter().copied(),
            |label| recording.model.word(label),
            |place| recording.model.provenance(place),
        )
        .expect("room");
    assert_eq!((replay.advance(1), replay.position(), replay.kernel().epoch()), (1, 1, 1));
    assert!(replay.advance_to_turn(2));
    assert_eq!(replay.kernel().turn(), 2);
    let at_us = replay.at_us();
    assert!(replay.advance_to_us(at_us + 100_000) > 0);
    assert!(replay.at_us() <= at_us + 100_000 && replay.at_us() > at_us);
    assert_eq!(replay.advance_to_us(0), 0);
    assert!(!replay.advance_to_turn(77));
    assert_eq!((replay.pending(), replay.position()), (0, recording.entries.len() as u64));
}

#[test]
fn or_03_frames_that_differ_alike_are_one_divergence_with_a_count() {
    let mut recording = ordinary();
    for entry in &mut recording.entries {
        if let Entry::Record(Record { turn: 1, body: Body::Frame { verdict, .. }, .. }) = entry {
            *verdict = Verdict::Held;
        }
    }
    let replay = recording.replay(ordinary_kernel());
    assert_eq!(replay.found().listed().len(), 1);
    assert_eq!(replay.found().listed()[0].repeats, 9);
}

#[test]
fn or_03_the_list_is_bounded_and_the_rest_is_counted() {
    let mut call = vec![(0, Operation::Lease { epoch: 1, length_us: 1 << 50 })];
    call.extend(vec![(1_000, Operation::Text(1)); 1_100]);
    let recording = Recording::of(Model::new(true, false, true), &call, 1);
    let policy = TurnPolicy { greeting: true, failure_notice: false, ..TurnPolicy::default() };
    let replay = recording.replay(kernel_with(policy, "graph/other"));
    assert_eq!((replay.found().listed().len(), replay.found().unlisted()), (MAX_LISTED, 100));
}

#[test]
fn or_03_words_from_outside_keep_their_meaning_in_another_numbering() {
    let mut kernel = ordinary_kernel();
    let mut entries = Vec::new();
    let mut give = |kernel: &mut SessionKernel, now_us, event| {
        kernel.step(Input { now_us, event });
        entries.extend(std::iter::from_fn(|| kernel.take_entry()));
    };
    give(&mut kernel, 6_000_000, Event::Lease { epoch: 1, deadline_us: 1 << 60 });
    let words: Vec<_> = (0..80).map(|number| format!("word {number}")).collect();
    for (number, word) in (0..).zip(&words) {
        give(&mut kernel, 6_000_001 + number, Event::TextMessage { reference: 1 });
        let turn = kernel.turn();
        give(&mut kernel, 6_000_001 + number, Event::GenerationFailed { turn, reason: word });
    }
    give(&mut kernel, 7_000_000, Event::LeaseLost { reason: "word 3" });
    let mut replay = Replay::new(ordinary_kernel());
    // The recording numbers its words from the end, as a block of its own may.
    let turned = |label| if let Label::Foreign(number) = label { Label::Foreign(63 - number) } else { label };
    let renumbered = entries.iter().map(|entry| match *entry {
        Entry::Record(Record { body: Body::Input(event), at_us, sequence, epoch, turn_epoch, turn }) => {
            let body = Body::Input(event.map(turned));
            Entry::Record(Record { at_us, sequence, epoch, turn_epoch, turn, body })
        }
        other => other,
    });
    let renumbered: Vec<_> = renumbered.collect();
    let others = |label| if let Label::Foreign(number) = label { Label::Foreign(63 - number) } else { label };
    replay.feed(renumbered, |label| kernel.word(others(label)), |_| None).expect("room");
    replay.finish();
    assert_eq!(replay.gap(), None);
    assert!(unchanged(&replay), "{:?}", replay.found());
}
