use super::*;
use crate::event::{EventScope, Lane, PayloadClass};
use crate::signal::{Emitter, Signal};
use crate::turn::{State, Trigger, TRANSITIONS};
use proptest::prelude::*;
use serde_json::{json, Value};

fn event() -> Value {
    json!({
        "schema_version": "v1.0", "event_scope": "turn", "session_id": "s", "turn_id": "t",
        "pipeline_version": "p@v1", "event_id": "e", "lane": "DataLane", "transport_sequence": null,
        "runtime_sequence": 0, "authority_epoch": 1, "runtime_timestamp_ms": 1,
        "wall_clock_timestamp_ms": 1, "payload_class": "text_raw",
    })
}

fn control(signal: Signal, emitter: Emitter, scope: EventScope) -> Value {
    let mut document = event();
    document["lane"] = json!(Lane::Control.name());
    document["payload_class"] = json!(PayloadClass::Metadata.name());
    document["signal"] = json!(signal.name());
    document["emitted_by"] = json!(emitter.name());
    document["event_scope"] = json!(scope.name());
    for field in signal.row().required {
        document[field] = match *field {
            "reason" => json!(signal.reasons()[0].code()),
            "target_lane" => json!("DataLane"),
            "scope" => json!("turn"),
            "amount" => json!(1),
            "seq_range" => json!({"start": 1, "end": 1}),
            _ => json!("x"),
        };
    }
    document
}

fn fault(kind: Kind, document: &Value) -> Option<(&'static str, String)> {
    validate(kind, document.to_string().as_bytes()).err().map(|fault| (fault.rule.id(), fault.field))
}

fn breaks(kind: Kind, document: &Value, rule: &str, field: &str) {
    let found = fault(kind, document);
    assert_eq!(
        found.as_ref().map(|(rule, field)| (*rule, field.as_str())),
        Some((rule, field)),
        "{document}"
    );
}

fn with(mut document: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        document[name] = value.clone();
    }
    document
}

#[test]
fn rule_ids_are_unique_and_every_rule_names_its_source() {
    for (index, rule) in Rule::ALL.iter().enumerate() {
        assert!(Rule::ALL[..index].iter().all(|earlier| earlier.id() != rule.id()), "{}", rule.id());
        assert!(!rule.row().source.is_empty() && rule.row().text.ends_with('.'), "{}", rule.id());
    }
}

#[test]
fn g_18_g_19_every_signal_emitter_and_scope_is_decided_by_the_registry() {
    let mut accepted = 0;
    for &signal in Signal::ALL {
        for &emitter in Emitter::ALL {
            for &scope in EventScope::ALL {
                let document = control(signal, emitter, scope);
                let found = fault(Kind::ControlSignal, &document);
                assert_eq!(found.is_none(), signal.legal(emitter, scope, true), "{document} {found:?}");
                accepted += usize::from(found.is_none());
            }
        }
    }
    assert_eq!(accepted, 107);
}

#[test]
fn w_09_every_signal_takes_its_own_reasons_only() {
    for &signal in Signal::ALL {
        let scope = if signal.row().scope.allows(EventScope::Session) {
            EventScope::Session
        } else {
            EventScope::Turn
        };
        let base = control(signal, signal.row().emitters[0], scope);
        for &reason in crate::reason::Reason::ALL {
            let document = with(base.clone(), &json!({"reason": reason.code()}));
            let found = fault(Kind::ControlSignal, &document);
            assert_eq!(found.is_none(), signal.reasons().contains(&reason), "{document} {found:?}");
        }
        for field in signal.row().required.iter().filter(|field| **field != "turn_id") {
            let mut document = base.clone();
            document.as_object_mut().expect("an object").remove(*field);
            breaks(Kind::ControlSignal, &document, "control.required", field);
        }
    }
}

#[test]
fn the_conditional_rules_of_the_envelope_hold() {
    let kind = Kind::EventRecord;
    assert_eq!(fault(kind, &event()), None);
    for (changes, rule, field) in [
        (json!({"signal": "commit"}), "event.no_signal", "signal"),
        (json!({"lane": "ControlLane"}), "event.lane", "lane"),
        (json!({"payload_class": "audio_raw"}), "envelope.media_time", "media_time"),
        (json!({"media_time": {}}), "envelope.media_time_one", "media_time"),
        (json!({"media_time": {"pts_ms": 1, "sample_index": 1}}), "envelope.media_time_one", "media_time"),
        (json!({"merged_from_event_ids": ["a"]}), "envelope.merge_group", "merge_group_id"),
        (json!({"discontinuity_id": "d"}), "envelope.sync_domain", "sync_domain"),
        (json!({"event_scope": "session", "late_after_cancel": true}), "envelope.late_scope", "event_scope"),
        (json!({"seq_range": {"start": 2, "end": 1}}), "envelope.range_order", "seq_range"),
        (json!({"tenant_id": "x"}), "envelope.minor_version", "tenant_id"),
        (json!({"transport_sequence": -1}), "shape.range", "transport_sequence"),
        (json!({"runtime_sequence": u64::MAX}), "shape.range", "runtime_sequence"),
        (json!({"node_id": ""}), "shape.empty_text", "node_id"),
        (json!({"amount": 0}), "shape.range", "amount"),
        (json!({"schema_version": "1.0"}), "shape.format", "schema_version"),
    ] {
        breaks(kind, &with(event(), &changes), rule, field);
    }
    for field in ["turn_id", "authority_epoch"] {
        let mut document = event();
        document.as_object_mut().expect("an object").remove(field);
        let rule = if field == "turn_id" { "envelope.turn_id" } else { "envelope.turn_epoch" };
        breaks(kind, &document, rule, field);
    }
    let newer = json!({"schema_version": "v1.1", "tenant_id": "x", "trace_id": "y", "payload_ref": "z"});
    assert_eq!(fault(kind, &with(event(), &newer)), None);
}

#[test]
fn g_16_a_merge_names_at_most_64_different_sources() {
    let ids = |count: usize| (0..count).map(|id| json!(format!("e{id}"))).collect::<Vec<Value>>();
    let merged = |ids: &[Value]| with(event(), &json!({"merge_group_id": "g", "merged_from_event_ids": ids}));
    let field = "merged_from_event_ids";
    assert_eq!(fault(Kind::EventRecord, &merged(&ids(64))), None);
    breaks(Kind::EventRecord, &merged(&ids(65)), "shape.count", field);
    breaks(Kind::EventRecord, &merged(&[]), "shape.count", field);
    breaks(Kind::EventRecord, &merged(&[json!("a"), json!("a")]), "shape.unique", field);
}

#[test]
fn exactly_the_nine_transitions_are_legal() {
    for from in State::NAMES {
        for trigger in Trigger::NAMES {
            for to in State::NAMES {
                let document =
                    json!({"from_state": from, "trigger": trigger, "to_state": to, "deterministic": true});
                let row = TRANSITIONS
                    .iter()
                    .any(|row| (row.from.name(), row.trigger.name(), row.to.name()) == (from, trigger, to));
                assert_eq!(fault(Kind::TurnTransition, &document).is_none(), row, "{document}");
            }
        }
    }
    let unsure =
        json!({"from_state": "Terminal", "trigger": "close", "to_state": "Closed", "deterministic": false});
    breaks(Kind::TurnTransition, &unsure, "transition.deterministic", "deterministic");
}

#[test]
fn w_06_exactly_the_cells_of_the_matrix_are_legal() {
    use crate::decision::{matrix, Decider, Outcome, Phase, Scope};
    let mut accepted = 0;
    for &outcome in Outcome::ALL {
        for decider in Decider::NAMES {
            for phase in Phase::NAMES {
                for scope in Scope::NAMES {
                    let document = json!({
                        "outcome_kind": outcome.name(), "phase": phase, "scope": scope, "session_id": "s",
                        "turn_id": "t", "event_id": "e", "runtime_timestamp_ms": 0,
                        "wall_clock_timestamp_ms": 0, "timestamp_ms": 0, "emitted_by": decider,
                        "authority_epoch": 1, "reason": outcome.signal().reasons()[0].code(),
                    });
                    accepted += usize::from(fault(Kind::DecisionOutcome, &document).is_none());
                }
            }
        }
    }
    assert_eq!((accepted, matrix().len()), (35, 35));
}

#[test]
fn a_document_of_another_kind_does_not_pass() {
    for &kind in Kind::ALL {
        let passes = fault(kind, &event()).is_none();
        assert_eq!(passes, kind == Kind::EventRecord, "{}", kind.name());
        assert!(fault(kind, &json!([])).is_some_and(|(rule, _)| rule == "shape.type"));
        assert!(structure(kind).is_object());
    }
}

#[test]
fn documents_beyond_their_size_are_refused_unread() {
    for &kind in Kind::ALL {
        let blank = vec![b' '; kind.limit_bytes() + 1];
        assert_eq!(validate(kind, &blank).expect_err("refused").rule, Rule::JsonSize);
        assert_eq!(validate(kind, &blank[1..]).expect_err("refused").rule, Rule::JsonSyntax);
    }
}

proptest! {
    #[test]
    fn no_bytes_can_break_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for &kind in Kind::ALL {
            prop_assert!(validate(kind, &bytes).is_err());
        }
    }

    #[test]
    fn no_field_can_be_dropped_or_replaced_unnoticed(index in any::<prop::sample::Index>(), drop in any::<bool>()) {
        let mut document = control(Signal::DropNotice, Emitter::Rk12, EventScope::Turn);
        let names: Vec<String> = document.as_object().expect("an object").keys().cloned().collect();
        let name = index.get(&names).clone();
        if drop {
            document.as_object_mut().expect("an object").remove(&name);
        } else {
            document[&name] = json!([]);
        }
        let found = fault(Kind::ControlSignal, &document);
        prop_assert_eq!(found.map(|(_, field)| field), Some(name));
    }
}
