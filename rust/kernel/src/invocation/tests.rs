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
    let one = invocations.finish(2000, 1, failed, 0).expect("live");
    assert_eq!((one.decision, one.circuit), (RetryDecision::Retry, None));
    assert_eq!(one.next.map(|next| (next.candidate, next.attempt, next.wait_us)), Some((0, 2, 100_000)));
    let two = invocations.finish(200_000, 1, failed, 0).expect("live");
    assert_eq!((two.decision, two.circuit), (RetryDecision::ProviderSwitch, Some(circuit::State::Open)));
    let next = two.next.expect("another");
    assert_eq!((next.candidate, next.attempt, next.limit_us), (1, 1, None));
    let three = invocations.finish(300_000, 1, Ending::SUCCESS, 0).expect("live");
    assert_eq!((three.decision, three.total_us, three.attempt_us), (RetryDecision::None, 299_000, 100_000));
    assert_eq!(invocations.live(), 0);
    // The first provider rests, so the next invocation does not call it.
    assert_eq!(begin(&mut invocations, 400_000).candidate, 1);
}

#[test]
fn g_06_total_latency_runs_from_the_first_start_to_the_last_end() {
    let mut invocations = invocations(1, InvocationPolicy::default());
    begin(&mut invocations, 5000);
    let finished = invocations.finish(305_000, 1, Ending::SUCCESS, 100_000).expect("live");
    assert_eq!((finished.attempt_us, finished.total_us), (200_000, 200_000));
}

#[test]
fn g_17_the_bound_on_candidates_holds_with_a_preferred_one() {
    let policy = InvocationPolicy { max_candidates: 1, max_attempts: 1, ..InvocationPolicy::default() };
    let mut invocations = invocations(3, policy);
    assert_eq!(begin(&mut invocations, 0).limit_us, None);
    let finished = invocations.finish(1, 1, Ending::of_http(500, None), 0).expect("live");
    assert_eq!(finished.decision, RetryDecision::None);
}

#[test]
fn what_was_handed_on_is_not_said_again() {
    let mut invocations = invocations(2, InvocationPolicy::default());
    begin(&mut invocations, 0);
    assert!(invocations.deliver(1));
    let finished = invocations.finish(1, 1, Ending::of_http(500, None), 0).expect("live");
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
    let finished = invocations.finish(1, 1, Ending::SUCCESS, 0).expect("live");
    assert_eq!((finished.cancelled, finished.dropped), (true, 2));
    assert_eq!(finished.ending.class, ProviderOutcome::Cancelled);
    assert_eq!(invocations.finish(2, 1, Ending::SUCCESS, 0), None);
}

#[test]
fn with_every_circuit_open_the_one_due_first_is_tried() {
    let policy = InvocationPolicy { max_attempts: 1, ..InvocationPolicy::default() };
    let mut invocations = invocations(2, policy);
    for now_us in [0, 10, 20] {
        let attempt = begin(&mut invocations, now_us);
        let failed = invocations.finish(now_us, attempt.invocation, Ending::of_http(500, None), 0);
        if failed.is_some_and(|failed| failed.next.is_some()) {
            invocations.finish(now_us + 5, attempt.invocation, Ending::of_http(500, None), 0);
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
            let finished = invocations.finish(now_us, attempt.invocation, ending, idle_us).expect("live");
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
