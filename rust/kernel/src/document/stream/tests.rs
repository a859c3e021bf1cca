use super::*;
use proptest::prelude::*;

/// Writes plausible records; every test breaks one thing.
struct Script {
    validator: StreamValidator,
    sequence: u64,
    epoch: u64,
}

impl Script {
    fn new() -> Self {
        Self { validator: StreamValidator::new(), sequence: 0, epoch: 1 }
    }

    fn envelope(&mut self, scope: &str, turn: &str, rest: &str) -> String {
        self.sequence += 1;
        let turn = if turn.is_empty() { String::new() } else { format!(r#""turn_id":"{turn}","#) };
        format!(
            concat!(
                r#"{{"schema_version":"v1.0","event_scope":"{}","session_id":"s",{}"pipeline_version":"p","#,
                r#""event_id":"e{}","transport_sequence":null,"runtime_sequence":{},"authority_epoch":{},"#,
                r#""runtime_timestamp_ms":1,"wall_clock_timestamp_ms":1,{}}}"#
            ),
            scope, turn, self.sequence, self.sequence, self.epoch, rest
        )
    }

    fn push(&mut self, line: &str) -> &'static str {
        self.validator.push(line.as_bytes()).map_or("", |fault| fault.rule.id())
    }

    fn signal(&mut self, turn: &str, signal: &str, emitter: &str, rest: &str) -> &'static str {
        let scope = if turn.is_empty() { "session" } else { "turn" };
        let fields = format!(
            r#""lane":"ControlLane","payload_class":"metadata","signal":"{signal}","emitted_by":"{emitter}"{rest}"#
        );
        let event = self.envelope(scope, turn, &fields);
        self.push(&format!(r#"{{"kind":"signal","at_us":1,"event":{event}}}"#))
    }

    fn turn(&mut self, turn: &str, signal: &str) -> &'static str {
        self.signal(turn, signal, "RK-03", "")
    }

    fn abort(&mut self, turn: &str, reason: &str) -> &'static str {
        self.signal(turn, "abort", "RK-03", &format!(r#","reason":"{reason}""#))
    }

    fn played(&mut self, turn: &str, signal: &str) -> &'static str {
        self.signal(turn, signal, "RK-22", "")
    }

    fn data(&mut self, turn: &str, rest: &str) -> &'static str {
        let fields = format!(r#""lane":"DataLane","payload_class":"text_raw"{rest}"#);
        let event = self.envelope("turn", turn, &fields);
        self.push(&event)
    }

    fn flow(&mut self, signal: &str, edge: &str) -> &'static str {
        let reason = if signal == "flow_xoff" { r#","reason":"backpressure_asserted""# } else { "" };
        let rest = format!(r#","edge_id":"{edge}","target_lane":"DataLane"{reason}"#);
        self.signal("", signal, "RK-14", &rest)
    }

    fn transition(&mut self, turn: u32, from: &str, trigger: &str, to: &str) -> &'static str {
        self.push(&format!(
            r#"{{"kind":"transition","turn":{turn},"from":"{from}","trigger":"{trigger}","to":"{to}"}}"#
        ))
    }
}

#[test]
fn a_whole_turn_passes() {
    let mut script = Script::new();
    assert_eq!(script.turn("t", "turn_open"), "");
    assert_eq!(script.data("t", ""), "");
    assert_eq!(script.played("t", "output_accepted"), "");
    assert_eq!(script.turn("t", "commit"), "");
    assert_eq!(script.turn("t", "close"), "");
    assert_eq!(script.played("t", "playback_completed"), "");
    assert_eq!(script.validator.finish(), []);
}

#[test]
fn w_08_sequences_rise_and_ids_are_unique() {
    let mut script = Script::new();
    assert_eq!(script.turn("t", "turn_open"), "");
    script.sequence -= 1;
    assert_eq!(script.turn("t", "commit"), "stream.event_id");
    let again = script.envelope("session", "", r#""lane":"TelemetryLane","payload_class":"metadata""#);
    assert_eq!(
        script.push(&again.replace(r#""runtime_sequence":2"#, r#""runtime_sequence":1"#)),
        "stream.sequence"
    );
}

#[test]
fn w_08_epochs_never_go_down_but_may_be_reported_stale() {
    let mut script = Script::new();
    script.epoch = 5;
    assert_eq!(script.signal("", "lease_issued", "CP-07", ""), "");
    script.epoch = 4;
    assert_eq!(script.signal("", "connected", "RK-23", ""), "stream.epoch");
    let stale = r#","reason":"authority_epoch_mismatch""#;
    assert_eq!(script.signal("", "stale_epoch_reject", "RK-24", stale), "");
    script.epoch = 5;
    assert_eq!(script.signal("", "connected", "RK-23", ""), "");
}

#[test]
fn a_new_writer_counts_from_zero_under_a_higher_epoch_only() {
    let mut script = Script::new();
    script.sequence = 50;
    assert_eq!(script.signal("", "lease_issued", "CP-07", ""), "");
    assert_eq!(script.push(r#"{"kind":"header"}"#), "");
    script.sequence = 0;
    assert_eq!(script.signal("", "connected", "RK-23", ""), "stream.sequence");
    script.epoch = 2;
    script.sequence = 1;
    assert_eq!(script.signal("", "lease_issued", "CP-07", ""), "");
    script.epoch = 3;
    script.sequence = 0;
    script.validator.event_ids.clear();
    assert_eq!(script.signal("", "lease_rotated", "CP-07", ""), "stream.sequence");
}

#[test]
fn a_turn_that_a_dead_runtime_left_open_is_no_fault_but_stays_silent() {
    let mut script = Script::new();
    script.turn("t", "turn_open");
    script.push(r#"{"kind":"header"}"#);
    assert_eq!(script.validator.finish().len(), 1);
    script.epoch = 2;
    assert_eq!(script.signal("", "lease_issued", "CP-07", ""), "");
    assert_eq!(script.validator.finish(), []);
    assert_eq!(script.played("t", "playback_started"), "stream.control_first");
    assert_eq!(script.turn("t", "commit"), "stream.terminal");
}

#[test]
fn a_paused_runtime_may_only_drain_after_another_took_over() {
    let mut script = Script::new();
    script.turn("t", "turn_open");
    script.transition(1, "Idle", "turn_open_proposed", "Opening");
    script.transition(1, "Opening", "turn_open", "Active");
    script.push(r#"{"kind":"header"}"#);
    script.epoch = 2;
    script.sequence += 100;
    assert_eq!(script.signal("", "lease_issued", "CP-07", ""), "");
    assert_eq!(script.transition(1, "Idle", "turn_open_proposed", "Opening"), "");
    script.epoch = 1;
    script.sequence = 10;
    for signal in ["output_accepted", "playback_started"] {
        assert_eq!(script.played("t", signal), "stream.epoch");
    }
    assert_eq!(script.data("t", ""), "stream.epoch");
    assert_eq!(script.turn("t", "commit"), "stream.epoch");
    let reason = r#","reason":"authority_revoked_in_turn""#;
    assert_eq!(script.signal("t", "deauthorized_drain", "RK-24", reason), "");
    assert_eq!(script.abort("t", "authority_loss"), "");
    assert_eq!(script.transition(1, "Active", "abort", "Terminal"), "");
    assert_eq!(script.turn("t", "close"), "");
    assert_eq!(script.played("t", "playback_cancelled"), "");
    assert_eq!(script.transition(1, "Opening", "turn_open", "Active"), "");
    assert_eq!(script.transition(1, "Idle", "turn_open_proposed", "Opening"), "stream.transition");
    script.epoch = 2;
    script.sequence = 200;
    assert_eq!(script.signal("", "connected", "RK-23", ""), "");
}

#[test]
fn a_turn_ends_once_and_closes_at_once() {
    let mut script = Script::new();
    assert_eq!(script.turn("t", "commit"), "stream.terminal");
    assert_eq!(script.turn("t", "turn_open"), "");
    assert_eq!(script.turn("t", "turn_open"), "stream.turn_open");
    assert_eq!(script.turn("t", "close"), "stream.close");
    assert_eq!(script.turn("t", "commit"), "");
    assert_eq!(script.abort("t", "cancelled"), "stream.terminal");
    assert_eq!(script.played("t", "playback_completed"), "stream.close");
    assert_eq!(script.validator.finish()[0].rule, Rule::StreamClose);
    assert_eq!(script.turn("t", "close"), "");
    assert_eq!(script.turn("t", "close"), "stream.close");
    assert_eq!(script.turn("t", "turn_open"), "stream.turn_open");
    assert_eq!(script.validator.finish(), []);
}

#[test]
fn output_stays_between_open_and_end() {
    let mut script = Script::new();
    assert_eq!(script.data("t", ""), "stream.control_first");
    assert_eq!(script.played("t", "playback_started"), "stream.control_first");
    script.turn("t", "turn_open");
    assert_eq!(script.turn("t", "commit"), "");
    assert_eq!(script.data("t", ""), "stream.output_after_end");
    assert_eq!(script.data("t", r#","late_after_cancel":true"#), "");
}

#[test]
fn an_accepted_cancel_is_a_fence_and_names_the_end() {
    for (signal, rest) in [("barge_in", ""), ("stop", ""), ("cancel", r#","scope":"turn""#)] {
        let mut script = Script::new();
        script.turn("t", "turn_open");
        assert_eq!(script.signal("t", signal, "RK-06", rest), "");
        assert_eq!(script.played("t", "output_accepted"), "stream.cancel_fence");
        assert_eq!(script.played("t", "playback_started"), "stream.cancel_fence");
        assert_eq!(script.played("t", "playback_cancelled"), "");
        assert_eq!(script.data("t", ""), "stream.cancel_fence");
        assert_eq!(script.abort("t", "cancelled"), "");
    }
    let mut script = Script::new();
    script.turn("t", "turn_open");
    script.turn("u", "turn_open");
    assert_eq!(script.signal("", "cancel", "RK-16", r#","scope":"session""#), "");
    assert_eq!(script.turn("t", "commit"), "stream.cancel_reason");
    assert_eq!(script.abort("u", "provider_failure"), "stream.cancel_reason");
    script.turn("v", "turn_open");
    assert_eq!(script.signal("v", "cancel", "RK-16", r#","scope":"node""#), "");
    assert_eq!(script.played("v", "playback_started"), "");
}

#[test]
fn a_revoke_beats_a_cancel() {
    let mut script = Script::new();
    script.turn("t", "turn_open");
    script.signal("t", "barge_in", "RK-06", "");
    let reason = r#","reason":"authority_revoked_in_turn""#;
    assert_eq!(script.signal("t", "deauthorized_drain", "RK-24", reason), "");
    assert_eq!(script.abort("t", "cancelled"), "stream.cancel_reason");
    let mut script = Script::new();
    script.turn("t", "turn_open");
    script.signal("t", "deauthorized_drain", "RK-24", reason);
    assert_eq!(script.abort("t", "authority_loss"), "");
}

#[test]
fn flow_signals_take_turns_per_edge() {
    let mut script = Script::new();
    assert_eq!(script.flow("flow_xon", "a"), "stream.flow_pairing");
    assert_eq!(script.flow("flow_xoff", "a"), "");
    assert_eq!(script.flow("flow_xoff", "b"), "");
    assert_eq!(script.flow("flow_xoff", "a"), "stream.flow_pairing");
    assert_eq!(script.flow("flow_xon", "a"), "");
    assert_eq!(script.flow("flow_xon", "a"), "stream.flow_pairing");
}

#[test]
fn the_edges_of_a_new_runtime_begin_anew_once() {
    let mut script = Script::new();
    assert_eq!(script.flow("flow_xoff", "a"), "");
    assert_eq!(script.flow("flow_xoff", "b"), "");
    script.epoch = 2;
    assert_eq!(script.signal("", "lease_issued", "CP-07", ""), "");
    let mark = r#","edge_id":"a","target_lane":"DataLane","reason":"edge_watermark_high""#;
    assert_eq!(script.signal("", "watermark", "RK-13", mark), "");
    assert_eq!(script.flow("flow_xoff", "a"), "");
    assert_eq!(script.flow("flow_xoff", "a"), "stream.flow_pairing");
    assert_eq!(script.flow("flow_xon", "b"), "");
    assert_eq!(script.flow("flow_xon", "b"), "stream.flow_pairing");
}

#[test]
fn transitions_follow_each_other() {
    let mut script = Script::new();
    assert_eq!(script.transition(1, "Idle", "turn_open_proposed", "Opening"), "");
    assert_eq!(script.transition(2, "Opening", "turn_open", "Active"), "stream.transition");
    assert_eq!(script.transition(1, "Opening", "reject", "Idle"), "");
    assert_eq!(script.transition(1, "Idle", "commit", "Terminal"), "transition.trigger");
    assert_eq!(
        script.push(r#"{"kind":"transition","from":"Idle","trigger":"turn_open_proposed","to":"Opening"}"#),
        "stream.record"
    );
}

#[test]
fn a_plan_does_not_change_within_its_turn() {
    let mut script = Script::new();
    assert_eq!(script.push(r#"{"kind":"marker","turn":1,"name":"plan_frozen","plan_hash":"ab"}"#), "");
    assert_eq!(script.push(r#"{"kind":"marker","turn":1,"name":"plan_frozen","plan_hash":"AB"}"#), "");
    assert_eq!(
        script.push(r#"{"kind":"marker","turn":1,"name":"plan_frozen","plan_hash":"cd"}"#),
        "stream.plan"
    );
    assert_eq!(script.push(r#"{"kind":"header"}"#), "");
    assert_eq!(script.push(r#"{"kind":"marker","turn":1,"name":"plan_frozen","plan_hash":"cd"}"#), "");
}

#[test]
fn lines_that_are_no_records_are_told_and_others_passed_over() {
    let mut script = Script::new();
    for (line, rule) in [
        ("[]", "stream.record"),
        ("{", "json.syntax"),
        (r#"{"kind":7}"#, "stream.record"),
        (r#"{"kind":"signal"}"#, "stream.record"),
        (r#"{"kind":"pressure","edge":"x"}"#, ""),
    ] {
        assert_eq!(script.push(line), rule, "{line}");
    }
    let fault = script.validator.push(br#"{"kind":"signal","event":{"lane":1}}"#).expect("a fault");
    assert!(fault.field.starts_with("event."), "{}", fault.field);
}

proptest! {
    #[test]
    fn no_line_can_break_the_validator(lines in proptest::collection::vec("[\\{\\}\\[\\]\":,a-z0-9]{0,40}", 0..8)) {
        let mut validator = StreamValidator::new();
        for line in lines {
            let _ = validator.push(line.as_bytes());
        }
        prop_assert_eq!(validator.finish(), vec![]);
    }

    #[test]
    fn a_repeated_line_is_always_a_fault(count in 1_usize..20, again in any::<prop::sample::Index>()) {
        let mut script = Script::new();
        let fields = r#""lane":"TelemetryLane","payload_class":"metadata""#;
        let lines: Vec<String> = (0..count).map(|_| script.envelope("session", "", fields)).collect();
        for line in &lines {
            prop_assert_eq!(script.push(line), "");
        }
        prop_assert_eq!(script.push(again.get::<String>(&lines)), "stream.event_id");
    }
}
