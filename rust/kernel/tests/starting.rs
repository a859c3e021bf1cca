//! The gate of a turn's start under what the control plane says (CT-006, G-01).

mod call;

use call::{no_terminal, Call, START_US};
use rspp_kernel::admission::{Place, Point};
use rspp_kernel::bundle::{Actions, Failure, Provenance, TurnStart, CLAIM_US};
use rspp_kernel::decision::{Outcome, Scope};
use rspp_kernel::effect::Effect;
use rspp_kernel::input::{Event, Modality, ProviderOutcome};
use rspp_kernel::invocation::outcome::Ending;
use rspp_kernel::invocation::policy::AdaptiveAction;
use rspp_kernel::policy::{TurnPolicy, WhenRefused};
use rspp_kernel::reason::Reason;

const USABLE_US: u64 = 3_000_000;
const LOOK_US: u64 = 100_000;

fn managed() -> Call {
    Call::leased_with(TurnPolicy { needs_bundle: true, ..Call::policy() })
}

fn provenance(name: &str) -> Provenance {
    let own: [String; 6] = std::array::from_fn(|index| format!("{name}-{index}/v1"));
    Provenance::new(own.each_ref().map(String::as_str)).expect("references")
}

fn fine(version: u64) -> TurnStart<&'static str> {
    TurnStart {
        version,
        usable_until_us: START_US + USABLE_US,
        authority_epoch: 0,
        claim_us: 1_000_000,
        provenance: None,
        admission_reason: "",
        failure: None,
        admission: Outcome::Admit,
        admission_scope: Scope::Session,
        authority_valid: true,
        authority_authorized: true,
        actions: Actions::ALL,
    }
}

/// What the runtime's admission says at turn start.
fn place(outcome: Outcome, reason: Reason) -> Place<&'static str> {
    Place {
        point: Point::TurnStart,
        outcome,
        reason,
        snapshot: "policy",
        key: "tenant",
        in_use: 1,
        places: 1,
        key_in_use: 1,
        key_share: 1,
        claim_us: 0,
    }
}

fn tell(call: &mut Call, said: TurnStart<&str>) {
    let source = provenance("snapshot");
    call.kernel.turn_start(call.now_us, said, said.failure.is_none().then_some(&source));
}

/// What follows on a text: `outcome/scope/decider/reason` of the refusal, or nothing when a turn opens.
fn refused(call: &mut Call) -> Option<String> {
    call.records();
    call.text();
    let records = call.records();
    let made = records.iter().filter(|record| record["kind"] == "decision").map(|record| &record["decision"]);
    let made: Vec<_> = made.collect();
    assert_eq!(made.len(), 1, "one decision for each proposal");
    let word = |name: &str| made[0][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(word("phase"), "pre_turn");
    assert_eq!(word("scope") == "turn", made[0]["turn_id"].is_string(), "A7");
    if word("outcome_kind") == "admit" {
        assert_ne!(call.kernel.turn(), 0);
        return None;
    }
    assert_eq!(call.kernel.turn(), 0);
    let told = ["outcome_kind", "scope", "emitted_by", "reason"].map(word);
    let signal = records.iter().find(|record| record["event"]["signal"] == told[0].as_str());
    let signal = &signal.expect("the signal of the same name")["event"];
    assert_eq!(
        (&signal["emitted_by"], &signal["reason"]),
        (&told[2].as_str().into(), &told[3].as_str().into())
    );
    Some(told.join("/"))
}

fn shown(refusal: Option<&str>) -> Option<String> {
    refusal.map(String::from)
}

#[test]
fn ct_006_g_01_without_a_bundle_no_turn_opens_where_one_is_needed() {
    let mut call = managed();
    let told = refused(&mut call);
    assert_eq!(told, shown(Some("defer/turn/RK-25/turn_start_bundle_resolution_failed")));
    let policy = TurnPolicy { needs_bundle: true, plan_failure: WhenRefused::Reject, ..Call::policy() };
    let told = refused(&mut Call::leased_with(policy));
    assert_eq!(told, shown(Some("reject/turn/RK-25/turn_start_bundle_resolution_failed")));
    assert_eq!(refused(&mut Call::leased()), None, "nobody asked for one");
}

#[test]
fn ct_006_each_answer_of_the_control_plane_gives_its_own_refusal() {
    let good = fine(1);
    let answers = [
        (good, None),
        (TurnStart { authority_epoch: 3, ..good }, None),
        (
            TurnStart { failure: Some(Failure::SnapshotInvalid), ..good },
            Some("defer/turn/RK-25/snapshot_invalid_or_missing"),
        ),
        (
            TurnStart { failure: Some(Failure::ResolutionFailed), ..good },
            Some("defer/turn/RK-25/turn_start_bundle_resolution_failed"),
        ),
        (
            TurnStart { usable_until_us: START_US + 10, ..good },
            Some("defer/turn/RK-25/snapshot_invalid_or_missing"),
        ),
        (
            TurnStart { admission: Outcome::Reject, admission_reason: "tenant_over_quota", ..good },
            Some("reject/session/CP-05/cp_admission_reject_policy"),
        ),
        (
            TurnStart { admission: Outcome::Defer, admission_scope: Scope::Tenant, ..good },
            Some("defer/tenant/CP-05/cp_admission_defer_capacity"),
        ),
        (
            TurnStart { admission: Outcome::Shed, ..good },
            Some("reject/session/CP-05/cp_admission_reject_policy"),
        ),
        (
            TurnStart { authority_authorized: false, ..good },
            Some("deauthorized_drain/turn/RK-24/authority_revoked_before_open"),
        ),
        (
            TurnStart { authority_valid: false, authority_authorized: false, ..good },
            Some("stale_epoch_reject/turn/RK-24/authority_epoch_mismatch"),
        ),
        (
            TurnStart { authority_epoch: 2, ..good },
            Some("stale_epoch_reject/turn/RK-24/authority_epoch_mismatch"),
        ),
        (
            TurnStart { authority_epoch: 4, ..good },
            Some("stale_epoch_reject/turn/RK-24/authority_epoch_mismatch"),
        ),
    ];
    for (said, expected) in answers {
        for _ in 0..2 {
            let mut call = managed();
            tell(&mut call, said);
            assert_eq!(refused(&mut call), shown(expected), "{said:?}");
        }
    }
    let rejecting = TurnPolicy {
        needs_bundle: true,
        snapshot_failure: WhenRefused::Reject,
        plan_failure: WhenRefused::Defer,
        ..Call::policy()
    };
    let mut call = Call::leased_with(rejecting);
    tell(&mut call, TurnStart { failure: Some(Failure::SnapshotInvalid), ..good });
    assert_eq!(refused(&mut call), shown(Some("reject/turn/RK-25/snapshot_invalid_or_missing")));
}

#[test]
fn ct_006_the_first_failure_in_the_order_of_the_contract_decides() {
    // Each step of the order is mended in turn, and the next one decides.
    let everything = TurnStart {
        usable_until_us: 0,
        admission: Outcome::Reject,
        authority_epoch: 9,
        authority_authorized: false,
        ..fine(1)
    };
    let mut call = Call::with(TurnPolicy { needs_bundle: true, ..Call::policy() }, "", 4096);
    let mut said = everything;
    call.kernel.admission(call.now_us, place(Outcome::Reject, Reason::AdmissionCapacityReject));
    tell(&mut call, said);
    assert_eq!(refused(&mut call), shown(Some("defer/turn/RK-25/snapshot_invalid_or_missing")));
    said.usable_until_us = START_US + USABLE_US;
    tell(&mut call, said);
    call.records();
    assert_eq!(refused(&mut call), shown(Some("reject/turn/RK-25/admission_capacity_reject")));
    call.kernel.admission(call.now_us, place(Outcome::Admit, Reason::AdmissionCapacityAllow));
    let failed = TurnStart { failure: Some(Failure::ResolutionFailed), ..said };
    tell(&mut call, failed);
    assert_eq!(
        refused(&mut call),
        shown(Some("deauthorized_drain/turn/RK-24/authority_revoked_before_open")),
        "no lease yet"
    );
    call.give(Event::Lease { epoch: 3, deadline_us: START_US + 4_000_000 });
    assert_eq!(refused(&mut call), shown(Some("defer/turn/RK-25/turn_start_bundle_resolution_failed")));
    tell(&mut call, said);
    call.give(Event::Tick);
    assert_eq!(refused(&mut call), shown(Some("stale_epoch_reject/turn/RK-24/authority_epoch_mismatch")));
    said.authority_epoch = 3;
    tell(&mut call, said);
    assert_eq!(
        refused(&mut call),
        shown(Some("deauthorized_drain/turn/RK-24/authority_revoked_before_open"))
    );
    said.authority_authorized = true;
    tell(&mut call, said);
    assert_eq!(refused(&mut call), shown(Some("reject/session/CP-05/cp_admission_reject_policy")));
    said.admission = Outcome::Admit;
    tell(&mut call, said);
    assert_eq!(refused(&mut call), shown(Some("defer/turn/RK-25/plan_materialization_failed")), "no graph");
    assert_eq!(call.kernel.turn(), 0);
    no_terminal(&call.said());
}

#[test]
fn ct_006_a_deferred_turn_opens_on_the_first_tick_after_the_source_came_back() {
    let mut call = managed();
    refused(&mut call);
    assert!(!call.kernel.waits_for_place(), "it takes no place while it waits for a bundle");
    assert_eq!(call.kernel.next_deadline_us(), Some(call.now_us + LOOK_US));
    for _ in 0..3 {
        call.now_us += LOOK_US;
        call.give(Event::Tick);
        assert_eq!((call.kernel.turn(), call.said().len()), (0, 0), "waiting is silent");
    }
    tell(&mut call, fine(1));
    assert_eq!(call.kernel.turn(), 0, "telling opens nothing");
    assert_eq!(call.kernel.next_deadline_us(), Some(call.now_us));
    let effects = call.give(Event::Tick);
    assert!(matches!(effects[0], Effect::OpenTurn { reference: 2, .. }), "{effects:?}");
}

#[test]
fn ct_006_a_turn_that_waited_too_long_is_rejected_for_what_it_waited_for() {
    let answers = [
        (None, CLAIM_US, "turn_start_bundle_resolution_failed"),
        (
            Some(TurnStart { failure: Some(Failure::SnapshotInvalid), ..fine(1) }),
            1_000_000,
            "snapshot_invalid_or_missing",
        ),
        (Some(TurnStart { admission: Outcome::Defer, ..fine(1) }), 1_000_000, "admission_capacity_reject"),
    ];
    for (said, claim_us, reason) in answers {
        let mut call = managed();
        call.give(Event::Lease { epoch: 3, deadline_us: u64::MAX });
        if let Some(said) = said {
            tell(&mut call, TurnStart { usable_until_us: u64::MAX, ..said });
        }
        assert!(refused(&mut call).is_some_and(|told| told.starts_with("defer/")));
        let since_us = call.now_us;
        let given_up = loop {
            call.now_us = call.kernel.next_deadline_us().expect("it looks again") - 1000;
            let effects = call.give(Event::Tick);
            if let Some(Effect::RefuseIntent { outcome, reason, .. }) = effects.first() {
                break (*outcome, *reason);
            }
        };
        assert_eq!(given_up, ("reject", reason));
        assert_eq!(call.now_us - since_us, claim_us.next_multiple_of(LOOK_US));
    }
}

#[test]
fn ct_006_m_16_an_older_bundle_is_refused_and_changes_nothing() {
    let mut call = managed();
    tell(&mut call, fine(5));
    tell(&mut call, TurnStart { admission: Outcome::Reject, ..fine(4) });
    let said = call.said();
    assert_eq!(said, [".turn_start_bundle_refused"]);
    assert_eq!(refused(&mut call), None, "the later one stays in force");
    call.give(Event::GenerationFinished { turn: call.kernel.turn() });
    // A failure opens nothing, so it is taken whatever its version; what comes back must not be older.
    tell(&mut call, TurnStart { failure: Some(Failure::SnapshotInvalid), ..fine(0) });
    tell(&mut call, fine(4));
    assert_eq!(refused(&mut call), shown(Some("defer/turn/RK-25/snapshot_invalid_or_missing")));
    tell(&mut call, fine(5));
    call.give(Event::Tick);
    assert_ne!(call.kernel.turn(), 0);
}

#[test]
fn ct_006_a_running_turn_keeps_its_plan_and_its_adaptive_actions() {
    let overloaded = Ending::new(ProviderOutcome::Overload, None, true, Some(0));
    let mut call = managed();
    tell(&mut call, fine(1));
    assert_eq!(refused(&mut call), None);
    let none = TurnStart { actions: Actions::of(&[AdaptiveAction::Degrade]), ..fine(2) };
    let source = provenance("other");
    call.kernel.turn_start(call.now_us, none, Some(&source));
    let turn = call.kernel.turn();
    let first = call.kernel.invoke(call.now_us, turn, Modality::Llm).expect("an attempt");
    let again = call.kernel.attempt_finished(call.now_us, first.invocation, overloaded, 0);
    assert!(again.is_some(), "the plan of the turn allows it");
    call.text();
    let turn = call.kernel.turn();
    let first = call.kernel.invoke(call.now_us, turn, Modality::Llm).expect("an attempt");
    assert_eq!(call.kernel.attempt_finished(call.now_us, first.invocation, overloaded, 0), None);
    // Actions come back, but never more than the profile has.
    tell(&mut call, fine(3));
    call.text();
    let turn = call.kernel.turn();
    let first = call.kernel.invoke(call.now_us, turn, Modality::Llm).expect("an attempt");
    assert!(call.kernel.attempt_finished(call.now_us, first.invocation, overloaded, 0).is_some());
    let hashes: Vec<_> = call
        .records()
        .iter()
        .filter(|record| record["name"] == "plan_frozen")
        .map(|record| record["plan_hash"].clone())
        .collect();
    assert_eq!(hashes.len(), 2);
}

#[test]
fn ct_006_the_provenance_is_recorded_when_it_changes_and_enters_the_hash() {
    let hash = |name: &str| {
        let mut call = managed();
        call.kernel.turn_start(call.now_us, fine(1), Some(&provenance(name)));
        call.kernel.turn_start(call.now_us, fine(1), Some(&provenance(name)));
        call.text();
        let records = call.records();
        let told: Vec<_> = records.iter().filter(|record| record["name"] == "turn_start").collect();
        assert_eq!(told[0]["provenance"]["routing_view_snapshot"], format!("{name}-4/v1"));
        assert!(told[1]["provenance"].is_null(), "as told before");
        assert_eq!(told[0]["adaptive_actions"].as_array().map(Vec::len), Some(4));
        let frozen = records.iter().find(|record| record["name"] == "plan_frozen").expect("a plan");
        frozen["plan_hash"].clone()
    };
    assert_eq!(hash("one"), hash("one"));
    assert_ne!(hash("one"), hash("two"));
}

#[test]
fn ct_006_a_bundle_that_finds_no_room_in_the_evidence_is_in_force_and_its_loss_is_told() {
    let mut call = managed();
    for number in 0..64 {
        call.kernel.turn_start(call.now_us, fine(number), Some(&provenance(&format!("s{number}"))));
    }
    call.kernel.turn_start(call.now_us, fine(64), Some(&provenance("s64")));
    let records = call.records();
    assert_eq!(records.iter().filter(|record| record["name"] == "turn_start").count(), 64);
    for (number, record) in records.iter().filter(|record| record["name"] == "turn_start").enumerate() {
        assert_eq!(record["provenance"]["policy_resolution_snapshot"], format!("s{number}-2/v1"));
    }
    assert!(records.iter().any(|record| record["kind"] == "gap"), "the loss is told");
    call.kernel.turn_start(call.now_us, fine(63), Some(&provenance("older")));
    assert_eq!(call.said(), [".turn_start_bundle_refused"], "64 is in force");
    call.give(Event::Tick);
    call.kernel.turn_start(call.now_us, fine(64), Some(&provenance("later")));
    let records = call.records();
    let told = records.iter().find(|record| record["name"] == "turn_start").expect("there is room again");
    assert_eq!(told["provenance"]["routing_view_snapshot"], "later-4/v1");
    assert_eq!(refused(&mut call), None);
}

/// Everything that the gate looks at, each in each of its states.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts, each tried both ways
struct Case {
    failure: Option<Failure>,
    usable: bool,
    admission: Outcome,
    valid: bool,
    authorized: bool,
    stated: u64,
    place: Outcome,
    lease: usize,
    plan: bool,
    rejects: bool,
}

/// What section 4.3 and 9.3 say of a case, written down on its own: the first that fails decides.
fn expected(case: Case) -> Option<&'static str> {
    let later = |defer, reject| Some(if case.rejects { reject } else { defer });
    if case.failure == Some(Failure::SnapshotInvalid) || (case.failure.is_none() && !case.usable) {
        return later(
            "defer/turn/RK-25/snapshot_invalid_or_missing",
            "reject/turn/RK-25/snapshot_invalid_or_missing",
        );
    }
    match (case.place, case.lease) {
        (Outcome::Defer, _) => return Some("defer/turn/RK-25/admission_capacity_defer"),
        (Outcome::Reject, _) => return Some("reject/turn/RK-25/admission_capacity_reject"),
        (_, 1) => return Some("stale_epoch_reject/turn/RK-24/authority_epoch_mismatch"),
        (_, 0) => return Some("deauthorized_drain/turn/RK-24/authority_revoked_before_open"),
        _ => {}
    }
    if case.failure == Some(Failure::ResolutionFailed) {
        return later(
            "defer/turn/RK-25/turn_start_bundle_resolution_failed",
            "reject/turn/RK-25/turn_start_bundle_resolution_failed",
        );
    }
    if !case.valid || ![0, 3].contains(&case.stated) {
        return Some("stale_epoch_reject/turn/RK-24/authority_epoch_mismatch");
    }
    if !case.authorized {
        return Some("deauthorized_drain/turn/RK-24/authority_revoked_before_open");
    }
    match (case.admission, case.plan) {
        (Outcome::Reject, _) => Some("reject/session/CP-05/cp_admission_reject_policy"),
        (Outcome::Defer, _) => Some("defer/session/CP-05/cp_admission_defer_capacity"),
        (_, false) => later(
            "defer/turn/RK-25/plan_materialization_failed",
            "reject/turn/RK-25/plan_materialization_failed",
        ),
        _ => None,
    }
}

fn decided(case: Case) -> Option<String> {
    let when = if case.rejects { WhenRefused::Reject } else { WhenRefused::Defer };
    let (snapshot_failure, plan_failure) = (when, when);
    let policy = TurnPolicy { needs_bundle: true, snapshot_failure, plan_failure, ..Call::policy() };
    let mut call = Call::with(policy, if case.plan { "graph/voice" } else { "" }, 256);
    if case.lease > 0 {
        call.give(Event::Lease { epoch: 3, deadline_us: START_US + 4_000_000 });
    }
    if case.lease == 1 {
        call.give(Event::RoutingView { epoch: 4 });
    }
    let reason = match case.place {
        Outcome::Reject => Reason::AdmissionCapacityReject,
        Outcome::Defer => Reason::AdmissionCapacityDefer,
        _ => Reason::AdmissionCapacityAllow,
    };
    call.kernel.admission(call.now_us, place(case.place, reason));
    let said = TurnStart {
        failure: case.failure,
        usable_until_us: if case.usable { START_US + USABLE_US } else { START_US },
        admission: case.admission,
        authority_valid: case.valid,
        authority_authorized: case.authorized,
        authority_epoch: case.stated,
        ..fine(1)
    };
    tell(&mut call, said);
    refused(&mut call)
}

#[test]
fn ct_006_g_01_every_case_of_the_gate_is_decided_as_the_contract_orders() {
    const FLAGS: [bool; 2] = [false, true];
    const OUTCOMES: [Outcome; 3] = [Outcome::Admit, Outcome::Reject, Outcome::Defer];
    let (mut cases, mut opened) = (0, 0);
    for failure in [None, Some(Failure::SnapshotInvalid), Some(Failure::ResolutionFailed)] {
        for (usable, admission) in FLAGS.into_iter().flat_map(|usable| OUTCOMES.map(|said| (usable, said))) {
            for (valid, authorized) in FLAGS.into_iter().flat_map(|valid| FLAGS.map(|other| (valid, other))) {
                for (stated, lease) in
                    [0, 2, 3, 4].into_iter().flat_map(|stated| [(stated, 0), (stated, 1), (stated, 2)])
                {
                    for place in OUTCOMES {
                        for (plan, rejects) in
                            FLAGS.into_iter().flat_map(|plan| FLAGS.map(|other| (plan, other)))
                        {
                            let case = Case {
                                failure,
                                usable,
                                admission,
                                valid,
                                authorized,
                                stated,
                                place,
                                lease,
                                plan,
                                rejects,
                            };
                            let expected = expected(case);
                            assert_eq!(decided(case), shown(expected), "{case:?}");
                            cases += 1;
                            opened += u32::from(expected.is_none());
                        }
                    }
                }
            }
        }
    }
    assert_eq!((cases, opened), (10_368, 4));
}
