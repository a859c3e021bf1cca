//! Every row of the truth table T1 to T12 (section 4.4 of the contracts), by its id.

mod call;

use call::{no_terminal, signals, Call, LEASE_US, START_US};
use rspp_kernel::authority::Ingress;
use rspp_kernel::effect::Effect;
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{CancelSignal, ConnectionState, Event, Modality, PlaybackEvent, Transcript};
use rspp_kernel::invocation::outcome::Ending;
use rspp_kernel::policy::{LateAction, Overlap, TurnPolicy};
use rspp_kernel::turn::State;

#[test]
fn t1_an_intent_makes_a_candidate_and_no_turn() {
    let mut call = Call::with(Call::policy(), "graph/voice", 4096);
    call.text();
    let said = call.said();
    assert_eq!(said[..2], ["turn_open_proposed:session_turn_intent", "Idle>Opening"]);
    assert_eq!(call.kernel.turn(), 0);
}

#[test]
fn t2_a_full_recorder_refuses_and_a_busy_session_defers() {
    let mut call = Call::with(Call::policy(), "graph/voice", 256);
    call.give(Event::Lease { epoch: 3, deadline_us: START_US + LEASE_US });
    // Two records each: less room is left than a turn needs, and more than the reserve.
    for _ in 0..110 {
        call.give(Event::Cancel { signal: CancelSignal::Stop });
    }
    call.text();
    let said = call.said();
    assert!(
        said.ends_with(&[
            String::from("=reject/pre_turn/turn"),
            String::from("reject:recording_evidence_unavailable"),
            String::from("Opening>Idle"),
        ]),
        "{:?}",
        &said[said.len() - 4..]
    );
    let mut call = Call::leased_with(TurnPolicy { overlap: Overlap::Defer, ..Call::policy() });
    call.text();
    call.said();
    let effects = call.text();
    assert!(matches!(effects[..], [Effect::RefuseIntent { outcome: "defer", reference: 2, .. }]));
    let said = call.said();
    no_terminal(&said);
    assert!(said.contains(&String::from("=defer/pre_turn/turn")));
    assert_eq!(call.kernel.turn(), 1, "the running turn is untouched");
}

#[test]
fn t3_ae_001_a_stale_epoch_before_the_turn_is_refused_and_nothing_else() {
    let mut call = Call::leased();
    call.give(Event::RoutingView { epoch: 4 });
    call.said();
    call.text();
    let said = call.said();
    no_terminal(&said);
    assert_eq!(
        said[1..],
        [
            "Idle>Opening",
            "=stale_epoch_reject/pre_turn/turn",
            "stale_epoch_reject:authority_epoch_mismatch",
            "Opening>Idle"
        ]
    );
}

#[test]
fn t4_ae_005_no_lease_before_the_turn_drains_and_opens_nothing() {
    let mut call = Call::with(Call::policy(), "graph/voice", 4096);
    call.text();
    let said = call.said();
    no_terminal(&said);
    assert_eq!(said[2], "=deauthorized_drain/pre_turn/turn");
    assert_eq!(said[3], "deauthorized_drain:authority_revoked_before_open");
}

#[test]
fn t5_a4_g_20_a_turn_opens_under_authority_and_a_plan_and_says_so() {
    let mut call = Call::leased();
    let effects = call.text();
    assert!(matches!(effects[0], Effect::OpenTurn { turn: 1, epoch: 3, .. }));
    assert_eq!(
        call.said(),
        [
            "turn_open_proposed:session_turn_intent",
            "Idle>Opening",
            "=admit/pre_turn/turn",
            "admit:admission_capacity_allow",
            ".plan_frozen",
            "turn_open",
            "Opening>Active"
        ]
    );
}

#[test]
fn t5a_a11_a_plan_that_fails_refuses_before_the_turn() {
    let mut call = Call::with(Call::policy(), "", 4096);
    call.give(Event::Lease { epoch: 3, deadline_us: START_US + LEASE_US });
    call.said();
    call.text();
    let said = call.said();
    no_terminal(&said);
    assert!(said.contains(&String::from(".plan_failed")));
    assert!(said.contains(&String::from("reject:plan_materialization_failed")));
}

#[test]
fn t6_a1_a2_a_finished_turn_commits_once_and_closes() {
    let mut call = Call::open();
    call.give(Event::GenerationFinished { turn: 1 });
    call.give(Event::GenerationFinished { turn: 1 });
    call.give(Event::GenerationFailed { turn: 1, reason: "provider_timeout" });
    call.give(Event::Cancel { signal: CancelSignal::Stop });
    assert_eq!(signals(&call.said()), ["commit", "close"]);
}

#[test]
fn t7_cf_001_cf_003_cf_004_a_cancel_fences_first_and_ends_the_turn_once() {
    let mut call = Call::open();
    let attempt = call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider");
    assert_eq!(call.frame(3, 0), Verdict::Pass);
    call.said();
    call.give(Event::Cancel { signal: CancelSignal::Cancel });
    assert_eq!(call.frame(3, 1), Verdict::Fenced);
    call.give(Event::GenerationFinished { turn: 1 });
    call.kernel.attempt_finished(call.now_us, attempt.invocation, Ending::SUCCESS, 0);
    let said = call.said();
    assert_eq!(
        said,
        [
            "cancel",
            ".cancel_accepted",
            ".fence_applied",
            ".cancel_sent_at",
            ".frames_passed",
            "Active>Terminal",
            "abort:cancelled",
            "Terminal>Closed",
            "close",
            ".late_event",
            ".cancel_ack_at"
        ]
    );
}

#[test]
fn t8_a6_ae_002_a_revoked_lease_drains_aborts_and_closes() {
    let mut call = Call::open();
    call.give(Event::LeaseLost { reason: "lease_deauthorized" });
    let said = call.said();
    assert_eq!(said[1], "=deauthorized_drain/active_turn/turn");
    assert_eq!(
        signals(&said),
        ["deauthorized_drain:authority_revoked_in_turn", "abort:authority_loss", "close"]
    );
}

#[test]
fn a10_ae_002_a_revoke_wins_over_a_cancel_at_the_same_point() {
    let mut call = Call::open();
    call.now_us = START_US + LEASE_US;
    call.give(Event::Cancel { signal: CancelSignal::Stop });
    assert!(signals(&call.said()).contains(&"abort:authority_loss"));
}

#[test]
fn t9_g_23_without_room_for_evidence_the_turn_ends_and_its_end_is_kept() {
    let mut call = Call::with(Call::policy(), "graph/voice", 256);
    call.give(Event::Lease { epoch: 3, deadline_us: START_US + LEASE_US });
    call.text();
    for _ in 0..300 {
        call.give(Event::Connection { state: ConnectionState::Silence, reason: "" });
    }
    let said = call.said();
    assert_eq!(
        signals(&said).iter().rev().find(|word| word.starts_with("abort")),
        Some(&"abort:recording_evidence_unavailable")
    );
    assert!(said.contains(&String::from("close")));
    // A revocation that finds the ring full still leaves decision, signal and terminal markers.
    let mut call = Call::with(Call::policy(), "graph/voice", 256);
    call.give(Event::Lease { epoch: 3, deadline_us: START_US + LEASE_US });
    call.text();
    let mut filled = 0;
    while call.kernel.turn() != 0 && filled < 400 {
        let before = call.kernel.clone();
        call.give(Event::Connection { state: ConnectionState::Silence, reason: "" });
        filled += 1;
        if call.kernel.turn() == 0 {
            call.kernel = before;
            break;
        }
    }
    call.give(Event::LeaseLost { reason: "lease_deauthorized" });
    let said = call.said();
    for word in ["=deauthorized_drain/active_turn/turn", "abort:authority_loss", "close"] {
        assert!(said.contains(&String::from(word)), "{word} in {:?}", &said[said.len() - 8..]);
    }
}

#[test]
fn t10_each_failure_ends_the_turn_with_its_own_reason() {
    let failures: [(Event<&str>, &str); 4] = [
        (Event::GenerationFailed { turn: 1, reason: "provider_timeout" }, "abort:provider_timeout"),
        (Event::GenerationFailed { turn: 1, reason: "" }, "abort:provider_failure"),
        (
            Event::GenerationFailed { turn: 1, reason: "node_timeout_or_failure" },
            "abort:node_timeout_or_failure",
        ),
        (
            Event::Connection { state: ConnectionState::Disconnected, reason: "" },
            "abort:transport_disconnect_or_stall",
        ),
    ];
    for (event, abort) in failures {
        let mut call = Call::open();
        call.give(event);
        let said = call.said();
        let ends = signals(&said).into_iter().filter(|word| word.starts_with("abort") || *word == "close");
        assert_eq!(ends.collect::<Vec<_>>(), [abort, "close"]);
    }
}

#[test]
fn t11_a9_late_events_follow_the_policy_and_never_reopen() {
    for action in LateAction::ALL {
        let policy = TurnPolicy { late_event: *action, ..Call::policy() };
        let mut call = Call::leased_with(policy);
        call.text();
        call.give(Event::GenerationFinished { turn: 1 });
        call.said();
        call.give(Event::GenerationFinished { turn: 1 });
        call.give(Event::GenerationFailed { turn: 1, reason: "provider_timeout" });
        call.give(Event::Playback { turn: 9, event: PlaybackEvent::Started, samples: 1 });
        let said = call.said();
        let late = if *action == LateAction::Diagnostics {
            vec![".late_event", ".late_by_us", ".late_event", ".late_by_us", ".late_event"]
        } else {
            vec![".late_event"; 3]
        };
        assert_eq!(said, late);
        assert_eq!(call.kernel.turn(), 0);
    }
}

fn late_words(action: LateAction, wait_us: u64) -> (Vec<String>, u32) {
    let policy = TurnPolicy { late_event: action, late_grace_ms: 500, ..Call::policy() };
    let mut call = Call::leased_with(policy);
    let window = |permille| Event::VoiceActivity { media_sample: 0, permille };
    call.give(window(900));
    for _ in 0..200 {
        call.give(window(10));
    }
    let probe = |utterance| {
        Event::Transcript(Transcript {
            utterance,
            revision: 0,
            words: 0,
            backchannel: false,
            complete: false,
            probe: true,
        })
    };
    call.give(probe(1));
    for _ in 0..100 {
        call.give(window(10));
    }
    assert!(call.said().contains(&String::from(".utterance_discarded")));
    call.now_us += wait_us;
    let late =
        Transcript { utterance: 1, revision: 0, words: 3, backchannel: false, complete: true, probe: true };
    call.give(Event::Transcript(late));
    call.give(Event::Transcript(late));
    (call.said(), call.kernel.turn())
}

#[test]
fn t11_a9_late_words_become_one_proposal_of_their_own_within_the_grace_window() {
    let (said, turn) = late_words(LateAction::Remap, 0);
    assert_eq!((said[0].as_str(), turn), (".late_event_remapped", 1));
    assert_eq!(said.iter().filter(|word| word.starts_with("turn_open_proposed")).count(), 1);
    assert_eq!(late_words(LateAction::Remap, 600_000).1, 0);
    assert_eq!(late_words(LateAction::Drop, 0), (vec![], 0));
}

#[test]
fn t12_a5_a8_g_11_ae_003_stale_output_and_events_are_refused_and_move_nothing() {
    let mut call = Call::open();
    assert_eq!(call.frame(2, 0), Verdict::StaleEpoch);
    assert_eq!(call.frame(4, 0), Verdict::StaleEpoch);
    assert_eq!(call.kernel.stale_frames(), 2);
    assert_eq!(call.kernel.ingress(call.now_us, Some(2)), (Ingress::Stale, 3));
    assert_eq!(call.kernel.ingress(call.now_us, Some(2)), (Ingress::Stale, 3));
    assert_eq!((call.kernel.stale_events(), call.kernel.turn_state()), (2, State::Active));
    assert_eq!(
        call.said(),
        [
            "=stale_epoch_reject/scheduling_point/node_dispatch",
            "stale_epoch_reject:authority_epoch_mismatch",
            "=stale_epoch_reject/scheduling_point/edge_enqueue",
            "stale_epoch_reject:authority_epoch_mismatch"
        ]
    );
    assert_eq!(call.frame(3, 0), Verdict::Pass);
}
