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

fn hosted(scope: EventScope, responsiveness: Responsiveness, modality: Modality) -> HostedNode {
    let declaration = NodeDeclaration { scope, ..declaration(responsiveness) };
    HostedNode { declaration, modality: Some(modality) }
}

#[test]
fn each_fate_is_told_to_those_whom_it_concerns() {
    use Action::{Continue, Fallback, Terminate};
    use Hook::{OnBargeIn, OnBudgetExhausted, OnCancel};
    use Modality::{Llm, Stt, Tts};
    let rows = [
        // What becomes of them, what a node of the turn is told and what follows for it, and one of the session.
        (Fate::BargeIn, Some((OnBargeIn, Terminate)), Some((OnBargeIn, Continue))),
        (Fate::Cancelled, Some((OnCancel, Terminate)), None),
        (Fate::TurnBudget, Some((OnBudgetExhausted, Terminate)), None),
        (Fate::NodeBudget(Tts), Some((OnBudgetExhausted, Terminate)), None),
        (Fate::NodeBudget(Llm), Some((OnCancel, Terminate)), None),
        (Fate::WayOut(Tts, Fallback), Some((OnBudgetExhausted, Fallback)), None),
        (Fate::WayOut(Stt, Fallback), None, Some((OnBudgetExhausted, Fallback))),
        (Fate::NodeCancelled(Tts), Some((OnCancel, Terminate)), None),
        (Fate::NodeCancelled(Stt), None, Some((OnCancel, Terminate))),
        (Fate::Over, None, Some((OnCancel, Terminate))),
    ];
    for (fate, of_turn, of_session) in rows {
        for responsiveness in Responsiveness::ALL {
            let told = |scope, modality, row: Option<(Hook, Action)>| {
                let preemptible = *responsiveness == Responsiveness::Preemptible;
                let expected = row.map(|(hook, outcome)| {
                    let preempt = preemptible && outcome == Terminate;
                    Told { hook: Some(hook), outcome, preempt }
                });
                assert_eq!(hosted(scope, *responsiveness, modality).told(fate), expected, "{fate:?}");
            };
            told(EventScope::Turn, Tts, of_turn);
            told(EventScope::Session, Stt, of_session);
        }
    }
}

#[test]
fn only_declared_hooks_are_called() {
    let mut node = hosted(EventScope::Turn, Responsiveness::Preemptible, Modality::Tts);
    node.declaration.buffers = false;
    node.declaration.hooks = vec![Hook::OnCancel];
    assert_eq!(
        node.told(Fate::BargeIn),
        Some(Told { hook: None, outcome: Action::Terminate, preempt: true })
    );
    node.declaration.responsiveness = Responsiveness::Cooperative;
    assert_eq!(node.told(Fate::BargeIn), None);
    let told = Told { hook: Some(Hook::OnCancel), outcome: Action::Terminate, preempt: false };
    assert_eq!(node.told(Fate::Cancelled), Some(told));
}
