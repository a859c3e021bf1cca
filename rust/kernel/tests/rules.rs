//! What else the contracts ask of the session: weaknesses G, conformance AE and CF, scopes, migration.

mod call;

use call::{signals, Call, LEASE_US, START_US};
use rspp_kernel::authority::Ingress;
use rspp_kernel::behaviour::Behaviours;
use rspp_kernel::cancellation::CancelScope;
use rspp_kernel::effect::Effect;
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{CancelSignal, ConnectionState, Event, Modality};
use rspp_kernel::invocation::outcome::Ending;
use rspp_kernel::migration::Step;
use rspp_kernel::policy::{Overlap, TurnPolicy};
use rspp_kernel::reason::Reason;
use rspp_kernel::turn::State;

#[test]
fn ae_004_a_missing_epoch_is_enriched_from_the_view_and_then_held_against_the_lease() {
    let mut call = Call::open();
    assert_eq!(call.kernel.ingress(call.now_us, None), (Ingress::Enriched, 3));
    assert_eq!(call.kernel.ingress(call.now_us, Some(3)), (Ingress::Accepted, 3));
    assert_eq!(call.kernel.ingress(call.now_us, Some(-1)), (Ingress::Invalid, 3));
    assert_eq!(call.kernel.ingress(call.now_us, Some(4)), (Ingress::Refresh, 3));
    call.give(Event::RoutingView { epoch: 4 });
    assert_eq!(call.kernel.ingress(call.now_us, Some(4)), (Ingress::Stale, 4));
    assert_eq!(call.kernel.ingress(call.now_us, None), (Ingress::Stale, 4));
    // Nothing of the superseded placement is heard, yet only a revocation ends its turn.
    assert_eq!(call.frame(3, 0), Verdict::StaleEpoch);
    assert_eq!(call.kernel.turn_state(), State::Active);
}

#[test]
fn g_05_the_arbiter_commits_no_turn_that_was_never_opened() {
    let mut call = Call::leased();
    call.give(Event::GenerationFinished { turn: 1 });
    call.give(Event::GenerationFailed { turn: 0, reason: "" });
    assert!(signals(&call.said()).is_empty());
}

#[test]
fn g_06_g_07_a_provider_with_an_open_circuit_leaves_rising_sequences_and_a_terminal_reason() {
    let mut call = Call::open();
    let mut attempt = call.kernel.invoke(call.now_us, 1, Modality::Llm).ok();
    let mut count = 0;
    while let Some(next) = attempt {
        call.now_us += 40_000 + next.wait_us;
        let failed = Ending::of_http(503, None);
        attempt = call.kernel.attempt_finished(call.now_us, next.invocation, failed, 0);
        count += 1;
    }
    assert_eq!(count, 4);
    call.give(Event::GenerationFailed { turn: 1, reason: "provider_server_error" });
    let records = call.records();
    let sequences: Vec<u64> =
        records.iter().filter_map(|record| record["event"]["runtime_sequence"].as_u64()).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
    let of = |name: &str| records.iter().filter(|record| record["event"]["signal"] == name).count();
    assert_eq!((of("provider_error"), of("circuit_event"), of("provider_switch")), (4, 2, 1));
    assert_eq!((of("abort"), of("close")), (1, 1));
    let error = records.iter().find(|record| record["event"]["signal"] == "provider_error").expect("one");
    assert_eq!(error["event"]["scope"], "provider_invocation");
    assert_eq!(error["event"]["provider_invocation_id"], "pvi/a%2Fb/3/1/000001");
    let total = records.iter().find(|record| record["kind"] == "provider").expect("one");
    let last = records.iter().rev().find(|record| record["kind"] == "provider_attempt").expect("one");
    assert!(total["latency_us"].as_u64() > last["attempt_latency_us"].as_u64());
}

#[test]
fn g_08_what_changes_during_a_turn_does_not_change_its_plan() {
    let mut call = Call::leased();
    let effects = call.text();
    let Effect::OpenTurn { plan_hash, .. } = effects[0] else { panic!("no turn") };
    call.give(Event::Connection { state: ConnectionState::Silence, reason: "" });
    call.give(Event::RoutingView { epoch: 2 });
    call.give(Event::Lease { epoch: 3, deadline_us: START_US + 2 * LEASE_US });
    call.give(Event::GenerationFinished { turn: 1 });
    let records = call.records();
    let plans: Vec<_> = records.iter().filter(|record| record["name"] == "plan_frozen").collect();
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0]["plan_hash"], plan_hash.hex());
    assert!(records.iter().any(|record| record["event"]["signal"] == "commit"));
}

#[test]
fn g_21_ids_of_two_epochs_and_of_similar_sessions_differ() {
    let ids = |epoch: u64| {
        let mut call = Call::with(Call::policy(), "graph/voice", 4096);
        call.give(Event::Lease { epoch, deadline_us: START_US + LEASE_US });
        call.text();
        let records = call.records();
        records
            .iter()
            .filter_map(|record| record["event"]["event_id"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let (first, second) = (ids(1), ids(2));
    assert!(first.iter().all(|id| !second.contains(id)));
    assert!(first[0].starts_with("evt/a%2Fb/"));
}

#[test]
fn g_26_the_runtime_drains_itself_when_nobody_renews() {
    let mut call = Call::open();
    assert_eq!(call.kernel.next_deadline_us(), Some(START_US + LEASE_US));
    call.now_us = START_US + LEASE_US - 1000;
    let effects = call.give(Event::Tick);
    assert!(matches!(effects.last(), Some(Effect::LeaveRoom { .. })));
    assert!(call.kernel.drained());
    assert_eq!(call.frame(3, 0), Verdict::LeaseExpired);
    call.give(Event::Lease { epoch: 2, deadline_us: u64::MAX });
    call.give(Event::Lease { epoch: 9, deadline_us: u64::MAX });
    assert!(call.kernel.drained() && call.kernel.epoch() == 3);
}

#[test]
fn cancel_scopes_reach_what_lies_within_them_and_nothing_beside() {
    let mut call = Call::open();
    let writing = call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider").invocation;
    let voice = call.kernel.invoke(call.now_us, 1, Modality::Tts).expect("a provider").invocation;
    let node = Event::CancelWithin { scope: CancelScope::Node, target: 1 };
    assert_eq!(call.give(node), [Effect::CancelInvocation { invocation: writing }]);
    assert!(!call.kernel.output_handed_on(call.now_us, writing));
    assert!(call.kernel.output_handed_on(call.now_us, voice));
    assert!(call.give(node).is_empty());
    let one = Event::CancelWithin { scope: CancelScope::ProviderInvocation, target: voice };
    assert_eq!(call.give(one), [Effect::CancelInvocation { invocation: voice }]);
    assert_eq!(call.kernel.turn(), 1);
    call.kernel.attempt_finished(call.now_us, writing, Ending::SUCCESS, 0);
    let records = call.records();
    let marks: Vec<_> = records.iter().filter(|record| record["kind"] == "marker").collect();
    let named = |name: &str| marks.iter().filter(|mark| mark["name"] == name).count();
    assert_eq!((named("cancel_sent_at"), named("cancel_ack_at"), named("cancel_ignored")), (2, 1, 1));
    let dropped = marks.iter().find(|mark| mark["name"] == "late_provider_output_dropped_count");
    assert_eq!(dropped.map(|mark| mark["value"].as_u64()), Some(Some(1)));
    call.give(Event::CancelWithin { scope: CancelScope::Turn, target: 7 });
    assert_eq!(call.kernel.turn(), 1);
    call.give(Event::CancelWithin { scope: CancelScope::Session, target: 0 });
    assert_eq!(call.kernel.turn(), 0);
    assert!(signals(&call.said()).contains(&"abort:cancelled"));
}

#[test]
fn cancelled_before_the_call_means_no_attempt_and_no_signal() {
    let mut call = Call::open();
    call.give(Event::Cancel { signal: CancelSignal::Stop });
    call.said();
    let refused = call.kernel.invoke(call.now_us, 1, Modality::Llm);
    assert_eq!(refused, Err(Reason::CancelRequestedBeforeInvoke));
    assert!(call.said().is_empty());
}

#[test]
fn f8_the_old_placement_drains_and_the_new_one_finishes_in_order() {
    let mut old = Call::open();
    for (step, epoch) in [(Step::Started, 4), (Step::Rotated, 4), (Step::Finished, 4), (Step::Started, 4)] {
        old.give(Event::Migration { step, epoch });
    }
    let said = old.said();
    assert_eq!(
        signals(&said),
        [
            "lease_rotated:authority_epoch_rotation",
            "migration_start:region_failover_start",
            "deauthorized_drain:authority_revoked_in_turn",
            "abort:authority_loss",
            "close"
        ]
    );
    assert_eq!(said.iter().filter(|word| *word == ".migration_step_refused").count(), 2);
    assert_eq!(old.frame(3, 0), Verdict::LeaseExpired);
    old.text();
    assert!(signals(&old.said()).contains(&"stale_epoch_reject:authority_epoch_mismatch"));

    let mut new = Call::with(Call::policy(), "graph/voice", 4096);
    new.give(Event::Lease { epoch: 4, deadline_us: START_US + LEASE_US });
    for step in
        [Step::Rotated, Step::Started, Step::Finished, Step::Reattached, Step::Finished, Step::HandedOff]
    {
        new.give(Event::Migration { step, epoch: 4 });
    }
    let said = new.said();
    assert_eq!(
        signals(&said)[1..],
        [
            "lease_rotated:authority_epoch_rotation",
            "migration_start:region_failover_start",
            "migration_finish:region_failover_complete",
            "session_handoff:authoritative_handoff"
        ]
    );
    assert!(said.contains(&String::from(".state_reattached")));
    new.text();
    assert_eq!(new.frame(3, 0), Verdict::StaleEpoch);
    assert_eq!(new.frame(4, 0), Verdict::Pass);
}

#[test]
fn f8_the_old_placement_drains_though_its_view_was_refreshed_before() {
    for (behaviours, drains) in [(Behaviours::default(), true), (Behaviours::NONE, false)] {
        let mut old = Call::open();
        old.kernel.behave_by(behaviours);
        old.give(Event::RoutingView { epoch: 4 });
        old.give(Event::Migration { step: Step::Rotated, epoch: 4 });
        assert_eq!(old.kernel.turn_state(), State::Active, "only a revocation ends what is running");
        old.give(Event::Migration { step: Step::Started, epoch: 4 });
        assert_eq!(old.kernel.drained(), drains);
        let said = old.said();
        assert_eq!(signals(&said).ends_with(&["abort:authority_loss", "close"]), drains, "{said:?}");
    }
}

#[test]
fn a_text_may_wait_for_the_running_turn() {
    let mut call = Call::leased_with(TurnPolicy { overlap: Overlap::Queue, ..Call::policy() });
    call.give(Event::TextMessage { reference: 1 });
    call.give(Event::TextMessage { reference: 2 });
    call.give(Event::TextMessage { reference: 3 });
    assert_eq!(call.kernel.turn(), 1);
    let effects = call.give(Event::GenerationFinished { turn: 1 });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::OpenTurn { reference: 3, .. })));
    let said = call.said();
    assert_eq!(said.iter().filter(|word| *word == ".intent_queued").count(), 2);
    assert_eq!(said.iter().filter(|word| word.starts_with("defer:")).count(), 1);
}
