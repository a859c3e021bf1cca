//! What the nodes of a graph are told while a whole session decides.

mod call;

use call::{signals, Call};
use rspp_kernel::budget::Action;
use rspp_kernel::cancellation::CancelScope;
use rspp_kernel::effect::Effect;
use rspp_kernel::event::{EventScope, PayloadClass};
use rspp_kernel::input::{CancelSignal, Event, Modality, ProviderOutcome};
use rspp_kernel::invocation::outcome::Ending;
use rspp_kernel::invocation::policy::{AdaptiveAction, InvocationPolicy};
use rspp_kernel::node::{ExecutionContext, Hook, HostedNode, NoTurn, NodeDeclaration, Responsiveness};
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::reason::Reason;

const NODES: [(&str, EventScope, Responsiveness, Option<Modality>); 4] = [
    ("stt", EventScope::Session, Responsiveness::Cooperative, Some(Modality::Stt)),
    ("llm", EventScope::Turn, Responsiveness::Preemptible, Some(Modality::Llm)),
    ("tts", EventScope::Turn, Responsiveness::Preemptible, Some(Modality::Tts)),
    ("playout", EventScope::Turn, Responsiveness::Cooperative, None),
];

fn nodes() -> Vec<HostedNode> {
    let node = |&(id, scope, responsiveness, modality): &(&str, _, _, _)| HostedNode {
        declaration: NodeDeclaration {
            node_id: String::from(id),
            scope,
            responsiveness,
            buffers: true,
            hooks: Hook::ALL.to_vec(),
            inputs: vec![PayloadClass::TextRaw],
            transforms: Vec::new(),
        },
        modality,
    };
    NODES.iter().map(node).collect()
}

fn hosting(mut call: Call) -> Call {
    call.kernel.host(nodes()).expect("sound declarations");
    call
}

fn allowing(actions: &[AdaptiveAction]) -> InvocationPolicy {
    InvocationPolicy { warn_ms: 1200, max_attempts: 1, ..InvocationPolicy::default() }.allowing(actions)
}

/// An open turn whose plan allows nothing but what is given.
fn under(policy: InvocationPolicy) -> Call {
    let mut call = Call::leased_with(TurnPolicy { first_output_budget_ms: 8000, ..Call::policy() });
    let providers = [(Modality::Llm, "one"), (Modality::Llm, "two"), (Modality::Tts, "voice")];
    call.kernel.use_providers(policy, &providers);
    call.text();
    call.said();
    hosting(call)
}

/// What nodes are told, as `node hook outcome`, with `!` where their work is stopped at once.
fn told(effects: &[Effect]) -> Vec<String> {
    let word = |effect: &Effect| match effect {
        Effect::TellNode { node, told, .. } => {
            let (name, hook) = (NODES[usize::from(*node)].0, told.hook.map_or("-", Hook::name));
            let stop = if told.preempt { "!" } else { "" };
            Some(format!("{name} {hook} {}{stop}", told.outcome.name()))
        }
        _ => None,
    };
    effects.iter().filter_map(word).collect()
}

fn place(effects: &[Effect], chosen: impl Fn(&Effect) -> bool) -> usize {
    effects.iter().position(chosen).expect("among the effects")
}

#[test]
fn a_barge_in_is_told_to_every_node_and_the_recogniser_listens_on() {
    let mut call = hosting(Call::open());
    let effects = call.text();
    assert_eq!(
        told(&effects),
        [
            "playout on_barge_in terminate",
            "tts on_barge_in terminate!",
            "llm on_barge_in terminate!",
            "stt on_barge_in continue"
        ]
    );
    let last = effects.iter().rposition(|effect| matches!(effect, Effect::TellNode { .. }));
    assert!(last.expect("told") < place(&effects, |effect| matches!(effect, Effect::CancelTurn { .. })));
}

#[test]
fn a_cancel_and_a_failure_are_told_to_the_nodes_of_the_turn() {
    let expected = ["playout on_cancel terminate", "tts on_cancel terminate!", "llm on_cancel terminate!"];
    let mut call = hosting(Call::open());
    assert_eq!(told(&call.give(Event::Cancel { signal: CancelSignal::Stop })), expected);
    assert_eq!(told(&call.give(Event::Cancel { signal: CancelSignal::Stop })), [""; 0]);
    let mut call = hosting(Call::open());
    assert_eq!(told(&call.give(Event::GenerationFailed { turn: 1, reason: "provider_failure" })), expected);
}

#[test]
fn a_turn_that_commits_tells_nothing() {
    let mut call = hosting(Call::open());
    call.frame(3, 1);
    assert_eq!(told(&call.give(Event::GenerationFinished { turn: 1 })), [""; 0]);
    assert!(signals(&call.said()).contains(&"commit"));
}

#[test]
fn with_the_call_its_recogniser_ends() {
    let mut call = hosting(Call::open());
    let lost = told(&call.give(Event::LeaseLost { reason: "" }));
    assert_eq!((lost.len(), lost.last().map(String::as_str)), (4, Some("stt on_cancel terminate")));
    let mut call = hosting(Call::leased());
    let state = rspp_kernel::input::ConnectionState::Ended;
    assert_eq!(told(&call.give(Event::Connection { state, reason: "" })), ["stt on_cancel terminate"]);
}

#[test]
fn a_node_that_was_cancelled_is_not_told_again_with_its_turn() {
    let mut call = hosting(Call::open());
    call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider");
    let effects = call.give(Event::CancelWithin { scope: CancelScope::Node, target: 1 });
    assert_eq!(told(&effects), ["llm on_cancel terminate!"]);
    let failed = call.give(Event::GenerationFailed { turn: 1, reason: "provider_cancelled" });
    assert_eq!(told(&failed), ["playout on_cancel terminate", "tts on_cancel terminate!"]);
    call.text();
    assert_eq!(told(&call.give(Event::Cancel { signal: CancelSignal::Cancel })).len(), 3);
}

#[test]
fn the_turns_budget_is_told_to_all_of_them() {
    let policy = TurnPolicy { first_output_budget_ms: 1500, ..Call::policy() };
    let mut call = hosting(Call::leased_with(policy));
    call.text();
    call.now_us += 1_500_000;
    let effects = told(&call.give(Event::Tick));
    assert_eq!(
        effects,
        [
            "playout on_budget_exhausted terminate",
            "tts on_budget_exhausted terminate!",
            "llm on_budget_exhausted terminate!"
        ]
    );
}

#[test]
fn a_nodes_budget_without_a_way_out_is_told_to_that_node() {
    let mut call = under(allowing(&[]));
    call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider");
    call.now_us += 1_200_000;
    assert_eq!(told(&call.give(Event::Tick)), [""; 0]);
    assert_eq!(signals(&call.said()), ["budget_warning:budget_warning"]);
    call.now_us += 300_000;
    assert_eq!(
        told(&call.give(Event::Tick)),
        ["playout on_cancel terminate", "tts on_cancel terminate!", "llm on_budget_exhausted terminate!"]
    );
    let said = call.said();
    assert!(signals(&said).starts_with(&["budget_exhausted:budget_exhausted"]), "{said:?}");
    assert!(signals(&said).contains(&"abort:node_timeout_or_failure"), "{said:?}");
}

#[test]
fn a_nodes_budget_with_a_way_out_is_told_and_the_turn_goes_on() {
    let policy = allowing(&[AdaptiveAction::Fallback]);
    let mut call = under(policy);
    let attempt = call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider");
    call.now_us += 1_500_000;
    assert_eq!(told(&call.give(Event::Tick)), ["llm on_budget_exhausted fallback"]);
    assert_eq!(call.kernel.exhausted(attempt.invocation), None);
    assert_eq!(call.kernel.turn(), 1);
}

#[test]
fn a_shell_that_is_at_the_limit_before_the_timer_tells_the_node_itself() {
    let policy = allowing(&[AdaptiveAction::Fallback]);
    let mut call = under(policy);
    let attempt = call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider");
    call.now_us += 1_500_000;
    let ending = Ending::new(ProviderOutcome::Timeout, Some(Reason::ProviderTimeout), true, None);
    let next = call.kernel.attempt_finished(call.now_us, attempt.invocation, ending, 0);
    assert!(next.is_some());
    assert_eq!(call.kernel.exhausted(attempt.invocation), Some(Action::Fallback));
    assert_eq!(told(&call.give(Event::Tick)), [""; 0]);
    // The next attempt has a budget of its own, and ends within it.
    call.kernel.attempt_finished(call.now_us, attempt.invocation, Ending::SUCCESS, 0);
    assert_eq!(call.kernel.exhausted(attempt.invocation), None);
}

#[test]
fn g13_a_failure_within_the_budget_takes_the_way_out_and_says_nothing_of_budgets() {
    let policy = allowing(&[AdaptiveAction::Fallback]);
    let failed =
        Ending::new(ProviderOutcome::InfrastructureFailure, Some(Reason::ProviderFailure), false, None);
    let mut call = under(policy);
    let attempt = call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider");
    call.now_us += 10_000;
    let next = call.kernel.attempt_finished(call.now_us, attempt.invocation, failed, 0);
    assert_eq!(next.map(|next| next.candidate), Some(1));
    assert_eq!(call.kernel.exhausted(attempt.invocation), None);
    let mut alone = under(allowing(&[]));
    let attempt = alone.kernel.invoke(alone.now_us, 1, Modality::Llm).expect("a provider");
    assert!(alone.kernel.attempt_finished(alone.now_us, attempt.invocation, failed, 0).is_none());
    alone.give(Event::GenerationFailed { turn: 1, reason: Reason::NodeTimeoutOrFailure.code() });
    for mut call in [call, alone] {
        let said = call.said();
        assert!(!said.iter().any(|word| word.starts_with("budget_")), "{said:?}");
    }
}

#[test]
fn a_node_is_given_the_turn_and_its_seed_and_one_of_the_session_neither() {
    let mut call = hosting(Call::open());
    let session = ExecutionContext { turn: None, turn_state: false, seed: None };
    assert_eq!(call.kernel.execution_context(0), Ok(session));
    let first = call.kernel.execution_context(1).expect("an open turn");
    assert_eq!((first.turn, first.turn_state), (Some(1), true));
    assert_eq!(call.kernel.execution_context(2), Err(NoTurn));
    call.text();
    assert_eq!(call.kernel.execution_context(1), Err(NoTurn));
    let second = call.kernel.execution_context(2).expect("an open turn");
    assert!(first.seed.is_some() && first.seed != second.seed);
    let again = hosting(Call::open()).kernel.execution_context(1).expect("an open turn");
    assert_eq!(again.seed, first.seed);
}

#[test]
fn hosting_changes_no_record() {
    let told = |hosted: bool| {
        let mut call = Call::open();
        if hosted {
            call.kernel.host(nodes()).expect("sound declarations");
        }
        call.kernel.invoke(call.now_us, 1, Modality::Llm).expect("a provider");
        call.text();
        call.give(Event::CancelWithin { scope: CancelScope::Session, target: 0 });
        call.give(Event::LeaseLost { reason: "" });
        call.give(Event::Tick);
        call.records()
    };
    assert_eq!(told(true), told(false));
}
