//! The event envelope (section 1) and the control signals that travel in it (section 2).

use super::read::{join, Node};
use super::shape::{holds, optional, required, Shape};
use super::{version, Checked, Fault, Rule};
use crate::event::{EventScope, Lane, PayloadClass};
use crate::names::named_enum;
use crate::reason::Reason;
use crate::signal::{Emitter, Signal};

named_enum! {
    /// What a control signal acts on.
    pub enum EffectScope {
        Session => "session", Turn => "turn", Node => "node", ProviderInvocation => "provider_invocation",
    }
}

/// Most events that one event may be merged from.
pub(crate) const MAX_MERGED: usize = 64;

const SEQ_RANGE: Shape =
    Shape::Record(&[required("start", Shape::Integer(0)), required("end", Shape::Integer(0))]);
const MEDIA_TIME: Shape =
    Shape::Record(&[optional("sample_index", Shape::Integer(0)), optional("pts_ms", Shape::Integer(0))]);

/// The fields of the envelope; the two kinds differ in what they require and in four fields.
macro_rules! envelope {
    ($control:ident, $lanes:expr, $classes:expr, $scope:expr) => {
        Shape::Record(&[
            required("schema_version", Shape::Version),
            required("event_scope", Shape::Word(EventScope::NAMES)),
            required("session_id", Shape::Text),
            optional("turn_id", Shape::Text),
            required("pipeline_version", Shape::Text),
            optional("node_id", Shape::Text),
            optional("edge_id", Shape::Text),
            required("event_id", Shape::Text),
            optional("causal_parent_id", Shape::Text),
            optional("idempotency_key", Shape::Text),
            optional("provider_invocation_id", Shape::Text),
            required("lane", $lanes),
            required("transport_sequence", Shape::SequenceOrNull),
            required("runtime_sequence", Shape::Integer(0)),
            optional("sync_id", Shape::Text),
            optional("sync_domain", Shape::Text),
            optional("discontinuity_id", Shape::Text),
            optional("merge_group_id", Shape::Text),
            optional("merged_from_event_ids", Shape::Set(&Shape::Text, 1, Some(MAX_MERGED))),
            optional("late_after_cancel", Shape::Flag),
            $control("authority_epoch", Shape::Integer(0)),
            optional("lease_token", Shape::Text),
            required("runtime_timestamp_ms", Shape::Integer(0)),
            required("wall_clock_timestamp_ms", Shape::Integer(0)),
            optional("timestamp_ms", Shape::Integer(0)),
            required("payload_class", $classes),
            optional("media_time", MEDIA_TIME),
            $control("signal", Shape::Word(Signal::NAMES)),
            $control("emitted_by", Shape::Word(Emitter::NAMES)),
            optional("reason", Shape::Text),
            optional("seq_range", SEQ_RANGE),
            optional("scope", $scope),
            optional("target_lane", Shape::Word(Lane::NAMES)),
            optional("amount", Shape::Integer(1)),
            optional("tenant_id", Shape::Text),
            optional("trace_id", Shape::Text),
            optional("payload_ref", Shape::Text),
        ])
    };
}

pub(crate) const EVENT: Shape =
    envelope!(optional, Shape::Word(Lane::NAMES), Shape::Word(PayloadClass::NAMES), Shape::FreeText);
pub(crate) const CONTROL: Shape = envelope!(
    required,
    Shape::Word(Lane::NAMES),
    Shape::Word(PayloadClass::NAMES),
    Shape::Word(EffectScope::NAMES)
);

const MINOR_FIELDS: [&str; 3] = ["tenant_id", "trace_id", "payload_ref"];

/// Whether an envelope is meant as a control signal.
pub(crate) fn is_control(node: &Node) -> bool {
    node.get("signal").is_some() || node.text("lane") == Some(Lane::Control.name())
}

pub(crate) fn check_event(node: &Node, path: &str) -> Checked {
    if node.get("signal").is_some() {
        let message = "an event record is no control signal";
        return Err(Fault::new(Rule::EventNoSignal, join(path, "signal"), message));
    }
    EVENT.check(node, path)?;
    let control = node.text("lane") == Some(Lane::Control.name());
    holds(!control, Rule::EventLane, &join(path, "lane"), "only control signals travel on the ControlLane")?;
    check_common(node, path)
}

pub(crate) fn check_control(node: &Node, path: &str) -> Checked {
    CONTROL.check(node, path)?;
    let lane = node.text("lane") == Some(Lane::Control.name());
    holds(lane, Rule::ControlLane, &join(path, "lane"), "a control signal travels on the ControlLane")?;
    let metadata = node.text("payload_class") == Some(PayloadClass::Metadata.name());
    let field = join(path, "payload_class");
    holds(metadata, Rule::ControlPayload, &field, "a control signal carries metadata only")?;
    if let Some(signal) = node.text("signal").and_then(Signal::parse) {
        check_registry(signal, node, path)?;
    }
    check_common(node, path)
}

/// The row of the registry: emitter, scope, required fields, reason, in this order.
fn check_registry(signal: Signal, node: &Node, path: &str) -> Checked {
    let (row, name) = (signal.row(), signal.name());
    let emitter = node.text("emitted_by").and_then(Emitter::parse);
    let may = emitter.is_some_and(|emitter| row.emitters.contains(&emitter));
    holds(may, Rule::ControlEmitter, &join(path, "emitted_by"), &format!("this module may not emit {name}"))?;
    let scope = node.text("event_scope").and_then(EventScope::parse);
    let allowed = scope.is_some_and(|scope| row.scope.allows(scope));
    let message = format!("{name} has {} scope", row.scope.name());
    holds(allowed, Rule::ControlScope, &join(path, "event_scope"), &message)?;
    for field in row.required {
        let present = node.get(field).is_some() || *field == "turn_id";
        holds(present, Rule::ControlRequired, &join(path, field), &format!("{name} needs it"))?;
    }
    if let Some(code) = node.text("reason") {
        let known = Reason::parse(code).is_some_and(|reason| signal.reasons().contains(&reason));
        let message = format!("{code:?} is no reason of {name}");
        holds(known, Rule::ControlReason, &join(path, "reason"), &message)?;
    }
    Ok(())
}

/// The rules that tie fields of any envelope together (sections 1.2 and 1.12).
fn check_common(node: &Node, path: &str) -> Checked {
    let need = |when: bool, field: &str, rule: Rule, message: &str| {
        holds(!when || node.get(field).is_some(), rule, &join(path, field), message)
    };
    let late = node.get("late_after_cancel") == Some(&Node::Flag(true));
    let turn = node.text("event_scope") == Some(EventScope::Turn.name());
    let field = join(path, "event_scope");
    holds(!late || turn, Rule::EnvelopeLateScope, &field, "late output belongs to a turn")?;
    need(turn, "turn_id", Rule::EnvelopeTurnId, "an event of turn scope names its turn")?;
    need(turn, "authority_epoch", Rule::EnvelopeTurnEpoch, "an event of turn scope carries the epoch")?;
    let audio = node.text("payload_class") == Some(PayloadClass::AudioRaw.name());
    need(audio, "media_time", Rule::EnvelopeMediaTime, "raw audio carries media time")?;
    if let Some(time) = node.get("media_time") {
        let one = time.get("sample_index").is_some() != time.get("pts_ms").is_some();
        let field = join(path, "media_time");
        holds(one, Rule::EnvelopeMediaTimeOne, &field, "exactly one of sample_index and pts_ms")?;
    }
    let merged = node.get("merged_from_event_ids").is_some();
    need(merged, "merge_group_id", Rule::EnvelopeMergeGroup, "a merged event names its group")?;
    let broken = node.get("discontinuity_id").is_some();
    need(broken, "sync_domain", Rule::EnvelopeSyncDomain, "a discontinuity names its sync domain")?;
    if let Some(range) = node.get("seq_range") {
        let ordered = range.integer("end") >= range.integer("start");
        let field = join(path, "seq_range");
        holds(ordered, Rule::EnvelopeRangeOrder, &field, "the range ends before it starts")?;
    }
    let minor =
        node.text("schema_version").and_then(version::parse).is_some_and(version::Version::has_minor_fields);
    let early = MINOR_FIELDS.into_iter().find(|field| !minor && node.get(field).is_some());
    early.map_or(Ok(()), |field| {
        Err(Fault::new(Rule::EnvelopeMinorVersion, join(path, field), "exists from v1.1 on"))
    })
}
