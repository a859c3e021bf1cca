//! Nodes under cancels, budgets and failures.

use super::*;

fn declaration(responsiveness: Responsiveness) -> NodeDeclaration {
    NodeDeclaration {
        node_id: String::from("tts"),
        scope: EventScope::Turn,
        responsiveness,
        buffers: true,
        hooks: Hook::ALL.to_vec(),
        inputs: vec![PayloadClass::TextRaw, PayloadClass::Pii],
        transforms: vec![(PayloadClass::TextRaw, PayloadClass::AudioRaw)],
    }
}

fn host(responsiveness: Responsiveness, degrade: bool, fallback: bool) -> NodeHost {
    let policy = BudgetPolicy::new(1200, 1500, degrade, fallback).expect("a budget");
    let mut host = NodeHost::new(declaration(responsiveness), policy).expect("a node");
    let context = ExecutionContext { turn: Some(1), turn_state: true, seed: Some(7) };
    assert_eq!(host.dispatch(0, Some((1, 7))), Ok(vec![HostEffect::Run(context)]));
    host
}

#[test]
fn a_class_changes_only_by_a_declared_transform() {
    let node = declaration(Responsiveness::Preemptible);
    assert_eq!(node.check_output(PayloadClass::TextRaw, PayloadClass::AudioRaw), Ok(()));
    assert_eq!(node.check_output(PayloadClass::Pii, PayloadClass::Pii), Ok(()));
    let changed = node.check_output(PayloadClass::Pii, PayloadClass::Metadata).expect_err("refused");
    let taken = node.check_output(PayloadClass::Phi, PayloadClass::Phi).expect_err("refused");
    assert_eq!((changed.field, taken.field), ("transforms", "inputs"));
}

#[test]
fn a_node_that_buffers_needs_every_hook() {
    let complete = declaration(Responsiveness::Preemptible);
    for missing in Hook::ALL {
        let hooks = Hook::ALL.iter().copied().filter(|hook| hook != missing).collect();
        let node = NodeDeclaration { hooks, ..complete.clone() };
        assert_eq!(node.validate().expect_err("refused").field, "hooks");
        assert_eq!(NodeDeclaration { buffers: false, ..node }.validate(), Ok(()));
    }
    let transforms = vec![(PayloadClass::Phi, PayloadClass::TextRaw)];
    let stray = NodeDeclaration { transforms, ..complete.clone() };
    assert_eq!(stray.validate().expect_err("refused").field, "transforms");
    let nameless = NodeDeclaration { node_id: String::new(), ..complete };
    assert_eq!(nameless.validate().expect_err("refused").field, "node_id");
}

#[test]
fn the_context_follows_the_scope() {
    let session = ExecutionContext { turn: None, turn_state: false, seed: None };
    assert_eq!(ExecutionContext::of(EventScope::Session, Some((1, 7))), Ok(session));
    assert_eq!(ExecutionContext::of(EventScope::Turn, None), Err(NoTurn));
}

#[test]
fn g13_a_node_within_its_budget_goes_on() {
    let mut host = host(Responsiveness::Preemptible, true, true);
    assert_eq!((host.tick(10_000), host.state()), (vec![], HostState::Running));
}

#[test]
fn g13_a_failure_within_the_budget_takes_the_way_out_that_is_allowed() {
    let reason = Reason::NodeTimeoutOrFailure;
    for (degrade, fallback, effect) in [
        (true, true, HostEffect::Emit(Signal::Degrade, reason)),
        (false, true, HostEffect::Emit(Signal::Fallback, reason)),
        (false, false, HostEffect::EndTurn(reason)),
    ] {
        let mut host = host(Responsiveness::Preemptible, degrade, fallback);
        assert_eq!((host.fail(), host.state()), (vec![effect], HostState::Idle));
        assert_eq!(host.fail(), []);
    }
}

#[test]
fn a_timeout_warns_exhausts_and_then_takes_the_way_out() {
    let mut host = host(Responsiveness::Cooperative, false, false);
    assert_eq!(host.due_us(), Some(1_200_000));
    assert_eq!(host.tick(1_200_000), [HostEffect::Emit(Signal::BudgetWarning, Reason::BudgetWarning)]);
    let told = host.tick(1_500_000);
    assert_eq!(
        told,
        [
            HostEffect::Emit(Signal::BudgetExhausted, Reason::BudgetExhausted),
            HostEffect::Call(Hook::OnBudgetExhausted),
            HostEffect::EndTurn(Reason::NodeTimeoutOrFailure)
        ]
    );
    assert_eq!((host.state(), host.tick(9_000_000), host.fail()), (HostState::Stopping, vec![], vec![]));
}

#[test]
fn a_cancel_preempts_or_waits_as_declared() {
    let mut host = host(Responsiveness::Preemptible, false, false);
    assert_eq!(host.cancel(), [HostEffect::Call(Hook::OnCancel), HostEffect::Preempt]);
    assert_eq!((host.state(), host.cancel(), host.barge_in()), (HostState::Idle, vec![], vec![]));
    let mut host = super::tests::host(Responsiveness::Cooperative, false, false);
    assert_eq!(host.barge_in(), [HostEffect::Call(Hook::OnBargeIn)]);
    assert_eq!((host.state(), host.dispatch(5, Some((2, 1)))), (HostState::Stopping, Ok(vec![])));
    host.finish();
    assert_eq!(host.state(), HostState::Idle);
}

#[test]
fn a_node_of_the_session_listens_on_when_the_caller_interrupts() {
    let policy = BudgetPolicy::new(0, 1000, false, false).expect("a budget");
    let vad = NodeDeclaration { scope: EventScope::Session, ..declaration(Responsiveness::Preemptible) };
    let mut host = NodeHost::new(vad, policy).expect("a node");
    assert!(host.dispatch(0, None).is_ok_and(|effects| effects.len() == 1));
    assert_eq!(host.barge_in(), [HostEffect::Call(Hook::OnBargeIn)]);
    assert_eq!(host.state(), HostState::Running);
}
