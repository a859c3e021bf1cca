//! Random calls: whatever happens in whatever order, the rules of the contracts hold.

mod calls;
mod common;

use calls::call;
use common::{Model, Operation};
use proptest::prelude::*;
use rspp_kernel::document::stream::StreamValidator;

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
    fn ct_006_g_01_no_turn_opens_but_under_a_usable_bundle(call in call(), first in any::<bool>()) {
        let mut model = Model::managed();
        if first {
            model.perform(0, Operation::Bundle { version: 1, usable_us: 2_000_000, kind: 7, source: 0 });
        }
        for (wait_us, operation) in call {
            model.perform(wait_us, operation);
            model.perform(0, Operation::Drain);
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
        // What an edge says follows rules of its own, which random words would break.
        let legal = call.into_iter().filter(|(_, operation)| !matches!(operation, Operation::Edge { .. }));
        for (wait_us, operation) in legal {
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
