//! Random calls.

use proptest::prelude::*;

use crate::common::Operation;

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
        1 => (0usize..3, 0u32..4).prop_map(|(what, turn)| Operation::Edge { what, turn }),
        2 => (0u64..4, 0u64..3_000_000, 0usize..12, 0usize..4).prop_map(
            |(version, usable_us, kind, source)| Operation::Bundle { version, usable_us, kind, source }
        ),
        1 => Just(Operation::Drain),
        // Rarely, for most calls should go on for longer.
        1 => (0u8..3).prop_map(|third| if third == 0 { Operation::Leave } else { Operation::Tick }),
    ]
}

fn step() -> impl Strategy<Value = (u64, Operation)> {
    let wait = prop_oneof![6 => 0u64..40_000, 2 => 0u64..400_000, 1 => 0u64..3_000_000];
    (wait, operation())
}

/// Most calls hold a lease and are started; a few are not.
pub(crate) fn call() -> impl Strategy<Value = Vec<(u64, Operation)>> {
    let opening = prop_oneof![
        9 => Just(vec![(0, Operation::Lease { epoch: 1, length_us: 4_000_000 }), (0, Operation::Start(false))]),
        1 => Just(vec![]),
    ];
    (opening, prop::collection::vec(step(), 1..150)).prop_map(|(mut opening, rest)| {
        opening.extend(rest);
        opening
    })
}
