use super::*;
use proptest::prelude::*;

fn invocations(count: usize, policy: InvocationPolicy) -> Invocations {
    let mut invocations = Invocations::default();
    invocations.set_policy(policy);
    let labels: Vec<_> = (0..count).map(|index| Label::Foreign(u8::try_from(index).expect("few"))).collect();
    invocations.candidates(Modality::Llm, &labels);
    invocations
}

fn begin(invocations: &mut Invocations, now_us: u64) -> Attempt {
    invocations.begin(now_us, 1, Modality::Llm).expect("a provider").0
}

#[test]
fn every_state_and_trigger_is_decided_by_the_table() {
    let mut invocations = invocations(1, InvocationPolicy::default());
    begin(&mut invocations, 0);
    for state in State::ALL {
        for trigger in Trigger::ALL {
            let mut invocation = Invocation { state: *state, ..invocations.live[0] };
            let row = TRANSITIONS.iter().find(|row| row.0 == *state && row.1 == *trigger);
            assert_eq!(invocation.fire(*trigger), row.is_some());
            assert_eq!(invocation.state, row.map_or(*state, |row| row.2));
        }
    }
}

#[test]
fn a_failure_is_retried_then_switched_and_attempts_start_over() {
    let mut invocations = invocations(2, InvocationPolicy::default());
    let first = begin(&mut invocations, 1000);
    assert_eq!((first.candidate, first.attempt, first.limit_us), (0, 1, Some(1_500_000)));
    let failed = Ending::of_http(500, None);
    let one = invocations.finish(2000, 1, failed, 0, false).expect("live");
    assert_eq!((one.decision, one.circuit), (RetryDecision::Retry, None));
    assert_eq!(one.next.map(|next| (next.candidate, next.attempt, next.wait_us)), Some((0, 2, 100_000)));
    let two = invocations.finish(200_000, 1, failed, 0, false).expect("live");
    assert_eq!((two.decision, two.circuit), (RetryDecision::ProviderSwitch, Some(circuit::State::Open)));
    let next = two.next.expect("another");
    assert_eq!((next.candidate, next.attempt, next.limit_us), (1, 1, None));
    let three = invocations.finish(300_000, 1, Ending::SUCCESS, 0, false).expect("live");
    assert_eq!((three.decision, three.total_us, three.attempt_us), (RetryDecision::None, 299_000, 100_000));
    assert_eq!(invocations.live(), 0);
    // The first provider rests, so the next invocation does not call it.
    assert_eq!(begin(&mut invocations, 400_000).candidate, 1);
}

#[test]
fn g_06_total_latency_runs_from_the_first_start_to_the_last_end() {
    let mut invocations = invocations(1, InvocationPolicy::default());
    begin(&mut invocations, 5000);
    let finished = invocations.finish(305_000, 1, Ending::SUCCESS, 100_000, false).expect("live");
    assert_eq!((finished.attempt_us, finished.total_us), (200_000, 200_000));
}

#[test]
fn g_17_the_bound_on_candidates_holds_with_a_preferred_one() {
    let policy = InvocationPolicy { max_candidates: 1, max_attempts: 1, ..InvocationPolicy::default() };
    let mut invocations = invocations(3, policy);
    assert_eq!(begin(&mut invocations, 0).limit_us, None);
    let finished = invocations.finish(1, 1, Ending::of_http(500, None), 0, false).expect("live");
    assert_eq!(finished.decision, RetryDecision::None);
}

#[test]
fn what_was_handed_on_is_not_said_again() {
    let mut invocations = invocations(2, InvocationPolicy::default());
    begin(&mut invocations, 0);
    assert!(invocations.deliver(1));
    let finished = invocations.finish(1, 1, Ending::of_http(500, None), 0, false).expect("live");
    assert_eq!((finished.decision, finished.next), (RetryDecision::None, None));
}

#[test]
fn a_cancelled_invocation_drops_and_counts_what_comes_late() {
    let mut invocations = invocations(2, InvocationPolicy::default());
    begin(&mut invocations, 0);
    let mut told = Vec::new();
    invocations.cancel(|_, turn, _| turn == 1, |number, turn| told.push((number, turn)));
    invocations.cancel(|_, turn, _| turn == 1, |number, turn| told.push((number, turn)));
    assert_eq!(told, [(1, 1)]);
    assert!(!invocations.deliver(1) && !invocations.deliver(1) && !invocations.deliver(9));
    let finished = invocations.finish(1, 1, Ending::SUCCESS, 0, false).expect("live");
    assert_eq!((finished.cancelled, finished.dropped), (true, 2));
    assert_eq!(finished.ending.class, ProviderOutcome::Cancelled);
    assert_eq!(invocations.finish(2, 1, Ending::SUCCESS, 0, false), None);
}

#[test]
fn with_every_circuit_open_the_one_due_first_is_tried() {
    let policy = InvocationPolicy { max_attempts: 1, ..InvocationPolicy::default() };
    let mut invocations = invocations(2, policy);
    for now_us in [0, 10, 20] {
        let attempt = begin(&mut invocations, now_us);
        let failed = invocations.finish(now_us, attempt.invocation, Ending::of_http(500, None), 0, false);
        if failed.is_some_and(|failed| failed.next.is_some()) {
            invocations.finish(now_us + 5, attempt.invocation, Ending::of_http(500, None), 0, false);
        }
    }
    let (attempt, circuit) = invocations.begin(30, 1, Modality::Llm).expect("tried all the same");
    // The first one was probed in vain and rests twice as long.
    assert_eq!((attempt.candidate, circuit), (1, Some(circuit::State::Probing)));
}

#[test]
fn nothing_without_a_provider_and_not_too_many_at_once() {
    let mut invocations = invocations(1, InvocationPolicy::default());
    assert_eq!(invocations.begin(0, 1, Modality::Tts), Err(Reason::ProviderEndpointMissing));
    for _ in 0..MAX_LIVE {
        begin(&mut invocations, 0);
    }
    assert_eq!(invocations.begin(0, 1, Modality::Llm), Err(Reason::ProviderOverload));
}

fn ending() -> impl Strategy<Value = Ending> {
    (prop::sample::select(ProviderOutcome::ALL.to_vec()), any::<bool>(), proptest::option::of(0u64..5000))
        .prop_map(|(class, retryable, wait)| Ending::new(class, None, retryable, wait))
}

proptest! {
    #[test]
    fn bounds_hold_whatever_fails(
        count in 1usize..8, endings in prop::collection::vec((0u64..2_000_000, 0u64..3_000_000, ending()), 1..40),
        attempts in 1u8..=2, most in 1u8..=5,
    ) {
        let policy = InvocationPolicy { max_attempts: attempts, max_candidates: most, ..InvocationPolicy::default() };
        let mut invocations = invocations(count, policy);
        let (mut now_us, mut running, mut calls, mut seen) = (0, None, 0u32, Vec::new());
        for (wait_us, idle_us, ending) in endings {
            now_us += wait_us;
            let attempt: Attempt = *running.get_or_insert_with(|| begin(&mut invocations, now_us));
            if calls == 0 { seen.clear(); }
            calls += 1;
            seen.push((attempt.candidate, attempt.attempt));
            prop_assert!(attempt.attempt <= attempts && attempt.candidate < most);
            prop_assert!(calls <= u32::from(attempts) * u32::from(most));
            let finished = invocations.finish(now_us, attempt.invocation, ending, idle_us, false).expect("live");
            prop_assert!(finished.total_us >= finished.attempt_us);
            prop_assert_eq!(finished.next.is_some(), finished.decision != RetryDecision::None);
            running = finished.next;
            if let Some(next) = finished.next {
                now_us += next.wait_us;
                prop_assert!(!seen.contains(&(next.candidate, next.attempt)), "no attempt twice");
            } else {
                calls = 0;
            }
        }
    }
}

fn degrading() -> InvocationPolicy {
    InvocationPolicy { degrade: true, warn_ms: 1200, ..InvocationPolicy::default() }
}

#[test]
fn a_lesser_form_serves_the_rest_of_its_turn_and_is_no_candidate_otherwise() {
    let mut invocations = invocations(2, degrading());
    invocations.lesser(Modality::Llm, Label::Foreign(9));
    let slow = Ending::of_http(504, None);
    let first = begin(&mut invocations, 0);
    let finished = invocations.finish(1_500_000, first.invocation, slow, 0, false).expect("live");
    // Degrading wins over the other candidate once the budget is used up.
    assert_eq!((finished.degraded, finished.budget_spent), (true, true));
    assert_eq!((finished.decision, finished.next), (RetryDecision::None, None));
    assert!(invocations.degraded(first.invocation) && !invocations.degraded(0));
    let lesser = begin(&mut invocations, 1_500_000);
    assert_eq!((lesser.candidate, lesser.limit_us), (2, None));
    assert_eq!(invocations.provider(Modality::Llm, 2), Label::Foreign(9));
    // The lesser form is followed by nothing but itself.
    let retried = invocations.finish(1_600_000, lesser.invocation, Ending::of_http(500, None), 0, false);
    let retried = retried.expect("live");
    assert_eq!((retried.decision, retried.next_provider), (RetryDecision::Retry, Label::Foreign(9)));
    let gone = invocations.finish(1_700_000, lesser.invocation, Ending::of_http(500, None), 0, false);
    assert!(gone.is_some_and(|gone| gone.next.is_none() && !gone.degraded));
    let next_turn = invocations.begin(2_000_000, 2, Modality::Llm).expect("a provider").0;
    assert_eq!(next_turn.candidate, 0);
}

#[test]
fn before_its_budget_is_used_up_a_failure_goes_to_the_other_candidates_first() {
    let mut invocations = invocations(2, degrading());
    invocations.lesser(Modality::Llm, Label::Foreign(9));
    let refused = Ending::of_http(401, None);
    begin(&mut invocations, 0);
    let one = invocations.finish(10, 1, refused, 0, false).expect("live");
    assert_eq!((one.decision, one.degraded), (RetryDecision::ProviderSwitch, false));
    let two = invocations.finish(20, 1, refused, 0, false).expect("live");
    assert_eq!((two.decision, two.degraded, two.budget_spent), (RetryDecision::None, true, false));
}

#[test]
fn nothing_is_degraded_that_was_heard_cancelled_or_is_not_allowed() {
    let refused = Ending::of_http(401, None);
    for (degrade, heard, cancelled) in [(false, false, false), (true, true, false), (true, false, true)] {
        let mut invocations = invocations(1, InvocationPolicy { degrade, ..degrading() });
        invocations.lesser(Modality::Llm, Label::Foreign(9));
        begin(&mut invocations, 0);
        if heard {
            invocations.deliver(1);
        }
        if cancelled {
            invocations.cancel(|_, _, _| true, |_, _| {});
        }
        let finished = invocations.finish(2_000_000, 1, refused, 0, false).expect("live");
        assert!(!finished.degraded && !invocations.degraded(1));
    }
}

#[test]
fn recognition_degrades_to_what_was_heard_in_part_and_listening_is_not_charged() {
    for (in_part, expected) in [(true, true), (false, false)] {
        let mut invocations = invocations(1, degrading());
        invocations.candidates(Modality::Stt, &[Label::Foreign(5)]);
        invocations.begin(0, 0, Modality::Stt).expect("a provider");
        invocations.charge(0, Modality::Stt, false);
        assert_eq!(invocations.budget_due_us(), None);
        invocations.charge(9_000_000, Modality::Stt, true);
        assert_eq!(invocations.budget_due_us(), Some(10_200_000));
        let slow = Ending::new(ProviderOutcome::Timeout, None, false, None);
        let finished = invocations.finish(10_500_000, 1, slow, 0, in_part).expect("live");
        assert_eq!((finished.degraded, finished.budget_spent), (expected, true));
    }
}
