//! Edges under every strategy, flow mode and sync policy.

use proptest::prelude::*;

use super::bounds::{Bounds, EdgeSettings, Strategy};
use super::buffer::EdgeBuffer;
use super::flow::FlowMode;
use super::item::{Offer, Put, MAX_PARTS};
use super::notice::What;
use super::sync::{SyncMode, SyncPolicy, SyncScope};
use super::watermark::Domain;
use crate::event::Lane;
use crate::reason::Reason;

const BOUNDS: Bounds = Bounds {
    max_items: 4,
    max_ms: 100,
    max_bytes: 1000,
    max_latency_ms: 500,
    high_items: 3,
    low_items: 1,
    high_ms: 0,
    low_ms: 0,
    max_block_ms: Some(50),
};

fn settings(strategy: Strategy) -> EdgeSettings {
    let lane = *Lane::ALL.iter().rev().find(|lane| strategy.serves(**lane)).expect("a lane");
    let lane = if strategy.serves(Lane::Data) { Lane::Data } else { lane };
    EdgeSettings { lane, ..EdgeSettings::data(strategy, BOUNDS) }
}

fn edge(settings: EdgeSettings) -> EdgeBuffer<u64> {
    EdgeBuffer::new(settings).expect("valid settings")
}

fn told(edge: &mut EdgeBuffer<u64>) -> Vec<What> {
    std::iter::from_fn(|| edge.take_notice()).map(|notice| notice.what).collect()
}

fn offer(item: u64, group: u64, now_us: u64) -> Offer<u64> {
    Offer { now_us, group, ..Offer::new(item, 1, 1000, 10) }
}

const fn pressure(first: u64, last: u64) -> What {
    What::DropNotice { reason: Reason::QueuePressureDrop, first, last }
}

const fn group_loss(first: u64, last: u64) -> What {
    What::DropNotice { reason: Reason::SyncAtomicDrop, first, last }
}

#[test]
fn block_refuses_for_its_time_and_then_sheds() {
    let mut edge = edge(settings(Strategy::Block));
    for item in 0..4 {
        assert_eq!(edge.offer(offer(item, 0, 0)), Put::Queued);
    }
    assert_eq!(edge.offer(offer(4, 0, 10_000)), Put::Refused);
    assert_eq!(edge.blocked_until_us(), Some(60_000));
    assert_eq!(edge.offer(offer(4, 0, 59_999)), Put::Refused);
    assert_eq!(edge.offer(offer(4, 0, 60_000)), Put::Shed);
    assert_eq!(edge.offer(offer(5, 0, 60_000)), Put::Shed);
    assert_eq!(told(&mut edge), [What::Watermark(Domain::Items), What::FlowXoff, pressure(4, 5)]);
    for item in 0..3 {
        assert_eq!(edge.get(), Some(item));
    }
    assert_eq!((edge.blocked_until_us(), edge.shed()), (None, 2));
    assert_eq!(told(&mut edge), [What::FlowXon]);
}

#[test]
fn one_signal_per_crossing_in_the_order_of_the_contract() {
    let marks = Bounds { high_ms: 90, low_ms: 30, ..BOUNDS };
    let mut edge = edge(EdgeSettings::data(Strategy::Drop, marks));
    let mut put = |item| edge.offer(Offer { duration_us: 30_000, ..offer(item, 0, 0) });
    assert_eq!(
        [put(0), put(1), put(2), put(3), put(4)],
        [Put::Queued, Put::Queued, Put::Queued, Put::Shed, Put::Shed]
    );
    let high = [What::Watermark(Domain::Items), What::Watermark(Domain::Ms), What::FlowXoff, pressure(3, 4)];
    assert_eq!(told(&mut edge), high);
    edge.get();
    assert_eq!((told(&mut edge), edge.flowing()), (vec![], false));
    edge.get();
    assert_eq!((told(&mut edge), edge.flowing()), (vec![What::FlowXon], true));
}

#[test]
fn drop_latest_only_and_best_effort_choose_whom_they_shed() {
    for (strategy, left, notice) in [
        (Strategy::Drop, vec![0, 1, 2, 3], pressure(4, 4)),
        (Strategy::LatestOnly, vec![4], pressure(0, 3)),
        (Strategy::BestEffortDrop, vec![1, 2, 3, 4], pressure(0, 0)),
    ] {
        let mut edge = edge(settings(strategy));
        for item in 0..5 {
            edge.offer(offer(item, 0, 0));
        }
        assert!(told(&mut edge).contains(&notice), "{strategy:?}");
        assert_eq!(edge.iter().copied().collect::<Vec<_>>(), left);
    }
}

#[test]
fn sample_keeps_one_of_n_above_the_mark() {
    let bounds = Bounds { max_items: 6, ..BOUNDS };
    let mut edge = edge(EdgeSettings { sample_every: 3, ..EdgeSettings::data(Strategy::Sample, bounds) });
    for item in 0..9 {
        edge.offer(offer(item, 0, 0));
    }
    assert_eq!(edge.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 5, 8]);
    assert_eq!(told(&mut edge)[2..], [pressure(3, 4), pressure(6, 7)]);
}

#[test]
fn ml002_a_merged_item_names_all_its_parts_and_its_number_of_parts_is_bounded() {
    let mut edge = edge(settings(Strategy::Merge));
    for item in 0..6 {
        edge.offer(offer(item, 0, 0));
    }
    assert_eq!((edge.len(), edge.shed(), edge.queued_us()), (4, 0, 6000));
    for item in 0..3 {
        assert!(edge.take(0).is_some_and(|taken| taken.item == item && taken.more.is_none()));
    }
    let merged = edge.take(0).expect("the merged item");
    let parts = merged.more.expect("parts");
    assert_eq!((merged.item, parts.items, parts.sequences), (3, vec![4, 5], vec![3, 4, 5]));
    for item in 0..1000 {
        edge.offer(Offer::new(item, 1, 0, 0));
    }
    assert_eq!(edge.iter().count(), 3 + MAX_PARTS);
    assert_eq!(edge.shed(), 1000 - 3 - MAX_PARTS as u64);
}

#[test]
fn items_of_two_turns_never_merge() {
    let mut edge = edge(settings(Strategy::Merge));
    for item in 0..4 {
        edge.offer(offer(item, 0, 0));
    }
    assert_eq!(edge.offer(Offer { turn: 2, ..offer(4, 0, 0) }), Put::Shed);
    assert_eq!(edge.offer(offer(5, 0, 0)), Put::Merged);
}

#[test]
fn an_edge_that_sheds_does_so_with_what_waited_too_long() {
    let mut drop = edge(settings(Strategy::Drop));
    let mut block = edge(settings(Strategy::Block));
    for item in 0..2 {
        drop.offer(offer(item, 0, item * 1000));
        block.offer(offer(item, 0, item * 1000));
    }
    let late = 500_001;
    assert!(drop.take(late).is_some_and(|taken| taken.item == 1 && taken.waited_us == 499_001));
    assert!(block.take(late).is_some_and(|taken| taken.item == 0 && taken.waited_us == late));
    assert_eq!(told(&mut drop), [pressure(0, 0)]);
}

#[test]
fn what_can_never_fit_is_shed_and_stops_nobody() {
    for strategy in Strategy::ALL.iter().filter(|strategy| **strategy != Strategy::NonBlockingPriority) {
        let mut edge = edge(settings(*strategy));
        assert!(!edge.put(1, 1, 100_001, 1) && !edge.put(1, 1, 1, 1001));
        assert_eq!((edge.flowing(), edge.shed(), told(&mut edge)), (true, 2, vec![pressure(0, 1)]));
    }
}

#[test]
fn control_is_never_shed() {
    let mut edge = edge(settings(Strategy::NonBlockingPriority));
    for item in 0..100 {
        let put = edge.offer(Offer { size: item, ..offer(item, 0, item * 1_000_000) });
        assert_eq!(put, if item < 4 { Put::Queued } else { Put::Refused });
    }
    assert_eq!(edge.offer(Offer { size: 1001, ..offer(0, 0, 0) }), Put::Refused);
    assert!(edge.take(1 << 50).is_some_and(|taken| taken.item == 0));
    assert_eq!(edge.shed(), 0);
}

#[test]
fn a_sequence_that_does_not_rise_is_refused() {
    let mut edge = edge(settings(Strategy::Drop));
    let at = |sequence| Offer { sequence: Some(sequence), ..offer(sequence, 0, 0) };
    assert_eq!(
        [5, 5, 4, 6].map(|sequence| edge.offer(at(sequence))),
        [Put::Queued, Put::OutOfOrder, Put::OutOfOrder, Put::Queued]
    );
}

#[test]
fn a_fence_removes_a_turn_wherever_it_waits_and_is_no_loss() {
    let mut edge = edge(settings(Strategy::Block));
    for (item, turn) in [(1, 1), (2, 2), (3, 1), (4, 3)] {
        assert!(edge.put(item, turn, 10_000, 100));
    }
    assert!(!edge.flowing());
    assert_eq!(edge.fence(2), 3);
    assert!(edge.flowing());
    assert_eq!((edge.queued_us(), edge.queued_bytes()), (10_000, 100));
    assert_eq!((edge.clear(), edge.get(), edge.shed()), (1, None, 0));
}

#[test]
fn an_atomic_drop_takes_the_whole_group_and_what_comes_of_it_later() {
    let sync = SyncPolicy { mode: SyncMode::AtomicDrop, scope: SyncScope::EdgeLocal };
    let mut edge = edge(EdgeSettings { sync, ..settings(Strategy::Drop) });
    for (item, group) in [(0, 1), (1, 2), (2, 1), (3, 2), (4, 1), (5, 1), (6, 3)] {
        edge.offer(offer(item, group, 0));
    }
    assert_eq!(edge.iter().copied().collect::<Vec<_>>(), [1, 3, 6]);
    let drops: Vec<_> =
        told(&mut edge).into_iter().filter(|what| matches!(what, What::DropNotice { .. })).collect();
    assert_eq!(drops, [pressure(4, 4), group_loss(0, 0), group_loss(2, 2), group_loss(5, 5)]);
    assert_eq!(edge.take_loss(), None);
}

#[test]
fn ml004_losses_in_a_row_make_one_discontinuity_that_reaches_the_whole_domain() {
    let sync = SyncPolicy { mode: SyncMode::DropWithDiscontinuity, scope: SyncScope::PlanWide };
    let run = || {
        let mut edges = [0; 3].map(|_| edge(EdgeSettings { sync, ..settings(Strategy::Drop) }));
        for item in 0..7 {
            edges[0].offer(offer(item, 0, 0));
        }
        edges[0].get();
        edges[0].offer(offer(7, 0, 0));
        edges[0].offer(offer(8, 0, 0));
        while let Some(loss) = edges[0].take_loss() {
            edges[1..].iter_mut().for_each(|edge| edge.apply_loss(loss));
        }
        assert!(edges[1].take_loss().is_none());
        edges.map(|mut edge| told(&mut edge))
    };
    let told = run();
    assert_eq!(told, run());
    assert_eq!(
        told[0][2..],
        [pressure(4, 4), What::Discontinuity(4), pressure(5, 6), pressure(8, 8), What::Discontinuity(8)]
    );
    assert_eq!(told[1], [What::Discontinuity(4), What::Discontinuity(8)]);
    assert_eq!(told[1], told[2]);
}

#[test]
fn g14_credit_mode_grants_and_never_signals() {
    let mut edge = edge(EdgeSettings { flow: FlowMode::Credit, ..settings(Strategy::Block) });
    let put: Vec<_> = (0..4).map(|item| edge.offer(offer(item, 0, 0))).collect();
    assert_eq!(put, [Put::Queued, Put::Queued, Put::Queued, Put::Refused]);
    assert!(!edge.flowing());
    while edge.get().is_some() {}
    let watermark = What::Watermark(Domain::Items);
    assert_eq!(
        told(&mut edge),
        [What::CreditGrant(3), watermark, What::CreditGrant(2), What::CreditGrant(1)]
    );
    assert!(edge.flowing());
}

#[test]
fn g14_hybrid_mode_takes_a_burst_after_the_xoff() {
    let mut edge = edge(EdgeSettings { flow: FlowMode::Hybrid, ..settings(Strategy::Block) });
    let put: Vec<_> = (0..5).map(|item| edge.offer(offer(item, 0, 0))).collect();
    assert_eq!(put, [Put::Queued, Put::Queued, Put::Queued, Put::Queued, Put::Refused]);
    while edge.get().is_some() {}
    let (watermark, xoff) = (What::Watermark(Domain::Items), What::FlowXoff);
    assert_eq!(told(&mut edge), [What::CreditGrant(1), watermark, xoff, What::FlowXon, What::CreditGrant(1)]);
}

#[test]
fn a_producer_with_credits_that_meets_a_bound_waits_until_something_has_left() {
    for flow in [FlowMode::Credit, FlowMode::Hybrid] {
        let mut edge = edge(EdgeSettings { flow, ..settings(Strategy::Block) });
        let large = |item| Offer { size: 600, ..offer(item, 0, 0) };
        assert_eq!([edge.offer(large(0)), edge.offer(large(1))], [Put::Queued, Put::Refused]);
        assert!(edge.credits() > 0 && !edge.flowing());
        edge.get();
        assert!(edge.flowing());
        assert_eq!(edge.offer(large(1)), Put::Queued);
    }
}

#[test]
fn w01_w07_wrong_settings_are_named() {
    let with = |bounds| EdgeSettings::data(Strategy::Block, bounds);
    let telemetry = EdgeSettings { lane: Lane::Telemetry, ..with(BOUNDS) };
    let control = EdgeSettings { lane: Lane::Control, ..with(BOUNDS) };
    let sync = SyncPolicy { mode: SyncMode::AtomicDrop, scope: SyncScope::EdgeLocal };
    let wrong = [
        (with(Bounds { max_items: 0, ..BOUNDS }), "max_items"),
        (with(Bounds { max_ms: 0, ..BOUNDS }), "max_ms"),
        (with(Bounds { max_bytes: 0, ..BOUNDS }), "max_bytes"),
        (with(Bounds { max_latency_ms: 0, ..BOUNDS }), "max_latency_ms"),
        (with(Bounds { high_items: 5, ..BOUNDS }), "high_items"),
        (with(Bounds { low_items: 3, ..BOUNDS }), "low_items"),
        (with(Bounds { high_ms: 101, ..BOUNDS }), "high_ms"),
        (with(Bounds { high_ms: 50, low_ms: 50, ..BOUNDS }), "low_ms"),
        (with(Bounds { max_block_ms: None, ..BOUNDS }), "max_block_ms"),
        (with(Bounds { max_block_ms: Some(0), ..BOUNDS }), "max_block_ms"),
        (EdgeSettings { sample_every: 1, ..with(BOUNDS) }, "sample_every"),
        (telemetry, "strategy"),
        (control, "strategy"),
        (EdgeSettings { strategy: Strategy::NonBlockingPriority, sync, ..control }, "sync_policy"),
    ];
    for (settings, field) in wrong {
        assert_eq!(EdgeBuffer::<u32>::new(settings).expect_err("refused").field, field);
    }
}

#[test]
fn a_consumer_that_stalls_for_an_hour_costs_no_memory() {
    for strategy in Strategy::ALL {
        let mut edge = edge(settings(*strategy));
        for frame in 0..180_000 {
            edge.offer(offer(frame, 0, frame * 20_000));
        }
        assert!(edge.iter().count() <= 3 + MAX_PARTS, "{strategy:?}");
        assert!(told(&mut edge).len() <= super::notice::MAX_NOTICES);
    }
}

#[test]
fn eight_hops_with_five_hundred_items_hold_none_after_a_cancel() {
    let bounds = Bounds { max_items: 500, max_ms: 10_000, max_bytes: 1 << 20, high_items: 400, ..BOUNDS };
    let mut hops = [0; 8].map(|_| edge(EdgeSettings::data(Strategy::Drop, bounds)));
    for hop in &mut hops {
        for item in 0..500 {
            assert_eq!(hop.offer(offer(item, 0, 0)), Put::Queued);
        }
    }
    assert_eq!(hops.iter_mut().map(|hop| hop.fence(1)).sum::<usize>(), 4000);
    assert!(hops.iter_mut().all(|hop| hop.get().is_none()));
}

/// The sequences that the notices name as shed, in order of the notices.
fn named(notices: &[What]) -> Vec<u64> {
    let mut sequences = Vec::new();
    for notice in notices {
        if let What::DropNotice { first, last, .. } = notice {
            assert!(first <= last, "W-01: a range is never reversed");
            sequences.extend(*first..=*last);
        }
    }
    sequences
}

type Operation = (u8, u32, u64, u64, u64);

fn drive(settings: EdgeSettings, operations: &[Operation]) -> (EdgeBuffer<u64>, Vec<What>) {
    let mut edge = edge(settings);
    let (mut notices, mut fenced, mut out) = (Vec::new(), 0_u64, Vec::new());
    let mut kept = 0_u64;
    let mut now_us = 0;
    for (index, &(operation, turn, duration_us, size, group)) in operations.iter().enumerate() {
        now_us += duration_us;
        match operation {
            0 => {
                if let Some(taken) = edge.take(now_us) {
                    let more = taken.more.map_or(vec![], |parts| parts.items);
                    out.push(taken.item);
                    out.extend(more);
                }
            }
            1 => {
                let before = edge.iter().count();
                edge.fence(turn);
                fenced += (before - edge.iter().count()) as u64;
            }
            _ => {
                let offer =
                    Offer { item: index as u64, turn, duration_us, size, now_us, sequence: None, group };
                let put = edge.offer(offer);
                kept += u64::from(put.kept()) + u64::from(put == Put::Shed);
            }
        }
        notices.extend(told(&mut edge));
        let bounds = settings.bounds;
        assert!(edge.len() as u64 <= bounds.max_items);
        assert!(edge.queued_us() <= bounds.max_ms * 1000 && edge.queued_bytes() <= bounds.max_bytes);
        assert!(edge.flowing() || !edge.is_empty());
        let limit = if settings.flow == FlowMode::Credit { bounds.high_items } else { bounds.max_items };
        assert!(edge.credits() + edge.len() as u64 <= limit.max(bounds.max_items));
    }
    assert!(out.windows(2).all(|pair| pair[0] < pair[1]), "what leaves keeps its order");
    assert_eq!(kept, out.len() as u64 + fenced + edge.shed() + edge.iter().count() as u64);
    (edge, notices)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ml001_ml003_every_item_is_delivered_fenced_or_named(
        strategy in prop::sample::select(Strategy::ALL),
        flow in prop::sample::select(FlowMode::ALL),
        mode in prop::sample::select(SyncMode::ALL),
        operations in prop::collection::vec((0u8..5, 1u32..6, 0u64..60_000, 0u64..600, 0u64..9), 1..200),
    ) {
        let mode = if strategy == Strategy::NonBlockingPriority { SyncMode::NoSync } else { mode };
        let sync = SyncPolicy { mode, scope: SyncScope::PlanWide };
        let settings = EdgeSettings { flow, sync, ..settings(strategy) };
        let (edge, notices) = drive(settings, &operations);
        let mut sequences = named(&notices);
        prop_assert_eq!(sequences.len() as u64, edge.shed());
        sequences.sort_unstable();
        prop_assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(&notices, &drive(settings, &operations).1);
        let switches: Vec<_> =
            notices.iter().filter(|what| matches!(what, What::FlowXoff | What::FlowXon)).collect();
        prop_assert!(switches.iter().enumerate().all(|(index, what)| (index % 2 == 0) == (**what == What::FlowXoff)));
        prop_assert!(flow != FlowMode::Credit || switches.is_empty());
        prop_assert!(strategy != Strategy::NonBlockingPriority || edge.shed() == 0);
        prop_assert!(notices.iter().all(|what| !matches!(what, What::CreditGrant(0))));
    }
}
