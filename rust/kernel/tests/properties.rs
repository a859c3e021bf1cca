//! Random calls: whatever happens in whatever order, the rules of the contracts hold.

mod common;

use common::{Model, Operation};
use proptest::prelude::*;
use rspp_kernel::document::stream::StreamValidator;

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => (0u16..=1000).prop_map(Operation::Window),
        6 => Just(Operation::Frame),
        3 => (0u32..5, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(words, backchannel, complete, probe)| Operation::Transcript {
                words, backchannel, complete, probe
            }),
        3 => Just(Operation::Tick),
        3 => Just(Operation::TickWhenDue),
        2 => Just(Operation::Renew),
        1 => (0u64..4, prop_oneof![Just(0), 0u64..4_000_000]).prop_map(|(epoch, length_us)| Operation::Lease { epoch, length_us }),
        1 => any::<bool>().prop_map(Operation::Start),
        1 => (0u32..9).prop_map(Operation::Text),
        1 => any::<bool>().prop_map(Operation::Cancel),
        2 => Just(Operation::Finish),
        1 => Just(Operation::Fail),
        1 => (0u32..4).prop_map(Operation::LateFinish),
        1 => (0usize..3, 0u32..4).prop_map(|(event, turn)| Operation::Playback { event, turn }),
        2 => (0usize..7).prop_map(Operation::Connection),
        1 => (0u32..4, 0u64..4, 0u64..6).prop_map(|(turn, epoch, sequence)| Operation::StrayFrame {
            turn, epoch, sequence
        }),
        1 => Just(Operation::Provider),
        1 => (0u64..5).prop_map(Operation::RoutingView),
        1 => (-1i64..5).prop_map(Operation::Ingress),
        1 => (0usize..4, 0u32..4).prop_map(|(scope, target)| Operation::CancelWithin { scope, target }),
        1 => (0usize..5, 0u64..5).prop_map(|(step, epoch)| Operation::Migration { step, epoch }),
        3 => (1usize..3).prop_map(Operation::Invoke),
        3 => (0usize..6, any::<bool>(), 0u64..2_000_000).prop_map(|(class, retryable, idle_us)| {
            Operation::Attempt { class, retryable, idle_us }
        }),
        2 => Just(Operation::HandOn),
        1 => Just(Operation::Drain),
    ]
}

fn step() -> impl Strategy<Value = (u64, Operation)> {
    let wait = prop_oneof![6 => 0u64..40_000, 2 => 0u64..400_000, 1 => 0u64..3_000_000];
    (wait, operation())
}

/// Most calls hold a lease and are started; a few are not.
fn call() -> impl Strategy<Value = Vec<(u64, Operation)>> {
    let opening = prop_oneof![
        9 => Just(vec![(0, Operation::Lease { epoch: 1, length_us: 4_000_000 }), (0, Operation::Start(false))]),
        1 => Just(vec![]),
    ];
    (opening, prop::collection::vec(step(), 1..150)).prop_map(|(mut opening, rest)| {
        opening.extend(rest);
        opening
    })
}

proptest! {
    // PROPTEST_CASES asks for more; a failing call is printed, not kept in a file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_in_every_call(call in call(), interruptions in any::<bool>(), notice in any::<bool>()) {
        let mut model = Model::new(interruptions, notice, true);
        for (wait_us, operation) in call {
            model.perform(wait_us, operation);
        }
        model.check_evidence();
    }

    #[test]
    fn without_a_plan_no_turn_ever_opens(call in call()) {
        let mut model = Model::new(true, true, false);
        for (wait_us, operation) in call {
            model.perform(wait_us, operation);
        }
        model.check_evidence();
        prop_assert_eq!(model.opened(), 0);
    }

    #[test]
    fn the_same_inputs_give_the_same_effects_and_evidence(call in call()) {
        let run = || {
            let mut model = Model::new(true, true, true);
            for (wait_us, operation) in &call {
                model.perform(*wait_us, *operation);
            }
            model.into_transcript()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn every_recording_is_a_valid_stream(call in call(), interruptions in any::<bool>(), notice in any::<bool>()) {
        let mut model = Model::new(interruptions, notice, true);
        for (wait_us, operation) in call {
            model.perform(wait_us, operation);
            // Drained all along, nothing is shed: what is missing then was never written.
            model.perform(0, Operation::Drain);
        }
        let open = model.opened_turn();
        let (_, evidence) = model.into_transcript();
        let mut validator = StreamValidator::new();
        for line in &evidence {
            prop_assert_eq!(validator.push(line.as_bytes()), None, "{}\n{}", line, evidence.join("\n"));
        }
        prop_assert_eq!(validator.finish().len(), usize::from(open));
    }
}

#[test]
fn g_02_m_18_many_turns_leave_no_turn_unrecorded() {
    let mut model = Model::new(true, false, true);
    model.perform(0, Operation::Lease { epoch: 1, length_us: 1 << 60 });
    for _ in 0..20_000 {
        model.perform(1_000, Operation::Text(1));
        model.perform(1_000, Operation::Frame);
        model.perform(1_000, Operation::Finish);
        model.perform(0, Operation::Drain);
        model.forget();
    }
    assert_eq!((model.opened(), model.aborted()), (20_000, 0));
}
