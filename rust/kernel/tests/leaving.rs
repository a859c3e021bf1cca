//! A runtime that leaves, and an epoch that rotates in the middle of an answer: what the caller is left with.

mod call;

use call::{signals, Call};
use rspp_kernel::admission::{Place, Point};
use rspp_kernel::behaviour::{Behaviour, Behaviours};
use rspp_kernel::decision::Outcome;
use rspp_kernel::effect::{Effect, Intent};
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{CancelSignal, ConnectionState, Event, PlaybackEvent};
use rspp_kernel::policy::{Overlap, TurnPolicy};
use rspp_kernel::reason::Reason;
use rspp_kernel::turn::State;

fn noticing() -> TurnPolicy {
    TurnPolicy { failure_notice: true, ..TurnPolicy::default() }
}

/// A call whose first turn has been heard for a moment.
fn speaking(policy: TurnPolicy) -> Call {
    let mut call = Call::leased_with(policy);
    call.text();
    assert_eq!(call.frame(3, 0), Verdict::Pass);
    call.give(Event::Playback { turn: 1, event: PlaybackEvent::Started, samples: 480 });
    call.said();
    call
}

fn opened(effects: &[Effect]) -> Vec<(u32, u64, Intent)> {
    let turn = |effect: &Effect| match effect {
        Effect::OpenTurn { turn, epoch, intent, .. } => Some((*turn, *epoch, *intent)),
        _ => None,
    };
    effects.iter().filter_map(turn).collect()
}

fn refused(effects: &[Effect]) -> Vec<(u32, &str, &str)> {
    let intent = |effect: &Effect| match effect {
        Effect::RefuseIntent { reference, outcome, reason, .. } => Some((*reference, *outcome, *reason)),
        _ => None,
    };
    effects.iter().filter_map(intent).collect()
}

fn leaves(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::LeaveRoom { reason } if reason == "drained"))
}

/// A call whose caller waits for a place of the runtime.
fn deferred() -> Call {
    without_place(Outcome::Defer, Reason::AdmissionCapacityDefer)
}

/// A call whose caller asked while there was no place.
fn without_place(outcome: Outcome, reason: Reason) -> Call {
    let mut call = Call::leased_with(noticing());
    let place = Place {
        point: Point::TurnStart,
        outcome,
        reason,
        snapshot: "admission/1",
        key: "a/b",
        in_use: 1,
        places: 1,
        key_in_use: 0,
        key_share: 1,
        claim_us: 3_000_000,
    };
    call.kernel.admission(call.now_us, place);
    call.text();
    call
}

fn rotate(call: &mut Call) -> Vec<Effect> {
    let deadline_us = call.now_us + call::LEASE_US;
    call.give(Event::Lease { epoch: 4, deadline_us })
}

#[test]
fn ae_003_a_rotation_in_an_answer_is_told_under_the_new_epoch() {
    let mut call = speaking(noticing());
    let effects = rotate(&mut call);
    assert_eq!(opened(&effects), [(2, 4, Intent::FailureNotice)]);
    let said = call.said();
    assert_eq!(
        signals(&said),
        [
            "deauthorized_drain:authority_revoked_in_turn",
            "abort:authority_loss",
            "close",
            "lease_rotated:authority_epoch_rotation",
            "turn_open_proposed:session_turn_intent",
            "admit:admission_capacity_allow",
            "turn_open",
        ]
    );
    assert_eq!(call.frame(3, 0), Verdict::StaleEpoch);
    assert_eq!(call.frame(4, 0), Verdict::Pass);
}

#[test]
fn a_rotation_is_told_only_where_the_policy_and_the_behaviour_say_so() {
    let mut silent = speaking(Call::policy());
    assert_eq!(opened(&rotate(&mut silent)), []);
    let mut old = Call::leased_with(noticing());
    let before: Vec<u32> =
        Behaviour::ALL.iter().map(|one| one.number()).filter(|number| *number < 3).collect();
    old.kernel.behave_by(Behaviours::of(&before).expect("known numbers"));
    old.text();
    assert_eq!(opened(&rotate(&mut old)), [], "recordings of that time go on as they did");
    assert_eq!(old.kernel.turn_state(), State::Idle);
    let mut between = Call::leased_with(noticing());
    assert_eq!(opened(&rotate(&mut between)), [], "nothing was cut off");
}

#[test]
fn a_notice_that_a_rotation_cuts_off_is_not_told_again() {
    let mut call = speaking(noticing());
    call.give(Event::GenerationFailed { turn: 1, reason: "provider_timeout" });
    assert_eq!(call.kernel.turn(), 2);
    assert_eq!(opened(&rotate(&mut call)), []);
}

#[test]
fn a_caller_who_speaks_as_the_epoch_rotates_is_not_talked_over() {
    let mut call = speaking(TurnPolicy { confirm_ms: 500, ..noticing() });
    // A breath between two words is no silence that would let the agent go on.
    for permille in [900, 900, 900, 0] {
        call.now_us += 31_000;
        call.give(Event::VoiceActivity { media_sample: 0, permille });
    }
    assert!(call.kernel.held());
    assert_eq!(opened(&rotate(&mut call)), [(2, 4, Intent::FailureNotice)]);
    assert!(call.kernel.held());
    assert_eq!(call.frame(4, 0), Verdict::Held);
}

#[test]
fn f8_a_drain_with_nothing_to_finish_leaves_at_once() {
    let mut call = Call::leased();
    let effects = call.give(Event::Drain);
    assert!(leaves(&effects) && call.kernel.drained(), "{effects:?}");
    assert_eq!(signals(&call.said()), ["ended:drained"]);
    assert!(call.give(Event::Drain).is_empty(), "once");
    assert!(call.said().is_empty());
}

#[test]
fn f8_a_drain_lets_the_answer_be_heard_to_its_end() {
    let mut call = speaking(Call::policy());
    assert!(call.give(Event::Drain).is_empty());
    assert_eq!(call.frame(3, 1), Verdict::Pass);
    assert!(!leaves(&call.give(Event::GenerationFinished { turn: 1 })), "its last sound is still playing");
    assert!(!leaves(&call.give(Event::Playback { turn: 7, event: PlaybackEvent::Completed, samples: 0 })));
    assert!(leaves(&call.give(Event::Playback { turn: 1, event: PlaybackEvent::Completed, samples: 960 })));
    let said = call.said();
    assert_eq!(signals(&said), ["commit", "close", "playback_completed", "ended:drained"]);
}

#[test]
fn a_drain_waits_for_the_sound_of_a_turn_that_was_over_before() {
    let mut call = speaking(Call::policy());
    call.give(Event::GenerationFinished { turn: 1 });
    assert!(!leaves(&call.give(Event::Drain)));
    assert!(!leaves(&call.give(Event::Playback { turn: 1, event: PlaybackEvent::Started, samples: 480 })));
    assert!(leaves(&call.give(Event::Playback { turn: 1, event: PlaybackEvent::Completed, samples: 480 })));
    let mut unheard = Call::open();
    unheard.give(Event::GenerationFinished { turn: 1 });
    assert!(leaves(&unheard.give(Event::Drain)), "a turn without sound leaves nothing to wait for");
}

#[test]
fn a_later_turn_that_was_played_leaves_no_earlier_one_to_wait_for() {
    let mut call = speaking(Call::policy());
    call.give(Event::GenerationFinished { turn: 1 });
    call.text();
    call.give(Event::GenerationFinished { turn: 2 });
    assert!(!leaves(&call.give(Event::Drain)));
    assert!(leaves(&call.give(Event::Playback { turn: 2, event: PlaybackEvent::Completed, samples: 0 })));
}

#[test]
fn f1_an_intent_during_a_drain_is_refused_and_interrupts_nothing() {
    for overlap in [Overlap::Preempt, Overlap::Queue, Overlap::Defer] {
        let mut call = speaking(TurnPolicy { overlap, ..noticing() });
        call.give(Event::Drain);
        let effects = call.give(Event::TextMessage { reference: 9 });
        assert_eq!(refused(&effects), [(9, "reject", "admission_capacity_reject")]);
        assert_eq!(call.kernel.turn(), 1, "{overlap:?}");
        let said = call.said();
        let refusal = ["turn_open_proposed:session_turn_intent", "reject:admission_capacity_reject"];
        assert_eq!(signals(&said), refusal);
        assert!(said.contains(&String::from("=reject/pre_turn/turn")), "{said:?}");
        call.give(Event::GenerationFinished { turn: 1 });
        call.give(Event::Playback { turn: 1, event: PlaybackEvent::Completed, samples: 480 });
        let said = call.said();
        assert_eq!(signals(&said), ["commit", "close", "playback_completed", "ended:drained"]);
    }
}

#[test]
fn what_waited_for_the_running_turn_or_for_a_place_is_refused_by_a_drain() {
    let mut queued = speaking(TurnPolicy { overlap: Overlap::Queue, ..Call::policy() });
    queued.give(Event::TextMessage { reference: 5 });
    queued.give(Event::Drain);
    let effects = queued.give(Event::Cancel { signal: CancelSignal::Stop });
    assert_eq!(refused(&effects), [(5, "reject", "admission_capacity_reject")]);
    assert!(leaves(&effects));
    let mut rejected = without_place(Outcome::Reject, Reason::AdmissionCapacityReject);
    let effects = rejected.give(Event::Drain);
    assert_eq!(refused(&effects), [], "a notice that was owed is no intent of anybody");
    assert!(leaves(&effects));
    let mut deferred = deferred();
    let effects = deferred.give(Event::Drain);
    assert_eq!(refused(&effects), [(2, "reject", "admission_capacity_reject")]);
    assert!(leaves(&effects));
    assert_eq!(deferred.kernel.next_deadline_us(), None);
}

#[test]
fn a_failure_or_a_rotation_during_a_drain_is_told_before_the_session_leaves() {
    let fail = |call: &mut Call| call.give(Event::GenerationFailed { turn: 1, reason: "provider_timeout" });
    for (happens, epoch) in [(&fail as &dyn Fn(&mut Call) -> Vec<Effect>, 3), (&rotate, 4)] {
        let mut call = speaking(noticing());
        call.give(Event::Drain);
        let effects = happens(&mut call);
        assert_eq!(opened(&effects), [(2, epoch, Intent::FailureNotice)]);
        assert!(!leaves(&effects));
        assert_eq!(call.frame(epoch, 0), Verdict::Pass);
        call.give(Event::GenerationFinished { turn: 2 });
        assert!(leaves(&call.give(Event::Playback {
            turn: 2,
            event: PlaybackEvent::Completed,
            samples: 480
        })));
    }
}

#[test]
fn a_barge_in_ends_the_turn_that_a_drain_waits_for_and_the_call_with_it() {
    let mut call = speaking(noticing());
    call.give(Event::Drain);
    let mut effects = Vec::new();
    for _ in 0..40 {
        call.now_us += 31_000;
        effects.extend(call.give(Event::VoiceActivity { media_sample: 0, permille: 900 }));
    }
    assert!(leaves(&effects));
    assert!(call.said().contains(&String::from("abort:cancelled")));
}

#[test]
fn a_drain_changes_nothing_about_a_call_that_is_over() {
    for over in [
        Event::LeaseLost { reason: "lease_deauthorized" },
        Event::Connection { state: ConnectionState::Ended, reason: "caller_left" },
    ] {
        for mut call in [speaking(noticing()), deferred()] {
            call.give(over);
            call.said();
            assert!(call.give(Event::Drain).is_empty());
            assert!(call.said().is_empty());
        }
    }
}

#[test]
fn nobody_is_owed_a_notice_for_what_a_drain_refused() {
    let mut call = speaking(noticing());
    call.give(Event::GenerationFinished { turn: 1 });
    call.give(Event::Drain);
    assert_eq!(refused(&call.text()), [(2, "reject", "admission_capacity_reject")]);
    call.now_us += 500_000;
    assert_eq!(opened(&call.give(Event::Tick)), []);
    assert!(leaves(&call.give(Event::Playback { turn: 1, event: PlaybackEvent::Completed, samples: 480 })));
}
