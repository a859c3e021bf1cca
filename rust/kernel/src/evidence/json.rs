//! Evidence records as JSON lines, in the words of the contracts.

use std::fmt::Write as _;

use crate::admission::Place;
use crate::bundle::{Failure, Provenance, TurnStart};
use crate::decision::{Decision, Outcome};
use crate::edge::notice::What;
use crate::event::{self, EventScope, Lane, PayloadClass};
use crate::evidence::record::{AttemptRecord, Body, Call, EdgeRecord, Marker, Record};
use crate::evidence::ring::Gap;
use crate::input::Event;
use crate::reason::{Interner, Label};
use crate::signal::Signal;

/// What every record of a session shares.
#[derive(Clone, Debug)]
pub struct Context {
    session: String,
    session_escaped: String,
    pipeline_version: String,
    created_us: u64,
    created_wall_ms: u64,
}

impl Context {
    /// Fixes the shared parts.
    #[must_use]
    pub fn new(session_id: &str, pipeline_version: &str, now_us: u64, wall_clock_ms: u64) -> Self {
        let mut session_escaped = String::new();
        event::escape_into(&mut session_escaped, session_id);
        Self {
            session: quote(session_id),
            session_escaped,
            pipeline_version: quote(pipeline_version),
            created_us: now_us,
            created_wall_ms: wall_clock_ms.min(1 << 62),
        }
    }

    /// The session's id.
    #[must_use]
    pub fn session_id(&self) -> String {
        // It was quoted here, so it can be read again.
        serde_json::from_str(&self.session).unwrap_or_default()
    }

    /// Wall clock at `at_us`, derived from the one at creation.
    #[must_use]
    pub fn wall_ms(&self, at_us: u64) -> u64 {
        self.created_wall_ms + at_us.saturating_sub(self.created_us) / 1000
    }

    /// Appends the note of records that found no room.
    pub fn render_gap(&self, gap: Gap, out: &mut String) {
        let (at_us, records, wall_ms) = (gap.at_us, gap.records, self.wall_ms(gap.at_us));
        put(out, format_args!(r#"{{"kind":"gap","at_us":{at_us},"wall_ms":{wall_ms},"records":{records}}}"#));
    }

    /// Appends one record as a JSON object.
    pub fn render(&self, record: &Record, interner: &Interner, out: &mut String) {
        let wall_ms = self.wall_ms(record.at_us);
        let at_us = record.at_us;
        let turn = record.turn;
        let kind = kind(record.body);
        put(out, format_args!(r#"{{"kind":"{kind}","at_us":{at_us},"wall_ms":{wall_ms}"#));
        match record.body {
            Body::Signal { signal, emitter, scope, reason, reach, invocation } => {
                out.push_str(r#","event":{"#);
                self.envelope(record, scope, out);
                put(out, format_args!(r#","signal":"{}","emitted_by":"{}""#, signal.name(), emitter.name()));
                if let Some(code) = signal.code_of(reason) {
                    put(out, format_args!(r#","reason":"{code}""#));
                }
                if let Some(reach) = reach {
                    put(out, format_args!(r#","scope":"{}""#, reach.name()));
                }
                if signal == Signal::AbiReject {
                    let session = &self.session_escaped;
                    put(
                        out,
                        format_args!(r#","causal_parent_id":"arr/{session}/{}/{invocation}""#, record.epoch),
                    );
                } else if invocation != 0 {
                    out.push_str(r#","provider_invocation_id":"#);
                    self.invocation_id(record, invocation, out);
                }
                out.push('}');
            }
            Body::Decision(decision) => self.decision(record, decision, out),
            Body::Transition(transition) => put(
                out,
                format_args!(
                    r#","turn":{turn},"from":"{}","trigger":"{}","to":"{}""#,
                    transition.from.name(),
                    transition.trigger.name(),
                    transition.to.name()
                ),
            ),
            Body::Marker { name, value } => marker(out, turn, name, value),
            Body::Plan(plan) => {
                marker(out, turn, Marker::PlanFrozen, plan.seed);
                put(out, format_args!(r#","plan_hash":"{}""#, plan.hash.hex()));
            }
            Body::AgentState(state) => {
                marker(out, turn, Marker::AgentState, 0);
                put(out, format_args!(r#","state":"{}""#, state.name()));
            }
            Body::Input(event) => input(event, interner, out),
            Body::Frame { sequence, samples, epoch, verdict } => put(
                out,
                format_args!(
                    concat!(
                        r#","name":"frame","turn":{},"epoch":{},"sequence":{},"#,
                        r#""samples":{},"verdict":"{}""#
                    ),
                    turn,
                    epoch,
                    sequence,
                    samples,
                    verdict.name()
                ),
            ),
            Body::Call(made) => call(made, turn, interner, out),
            Body::Provider { modality, outcome, latency_us, .. } => put(
                out,
                format_args!(
                    r#","turn":{turn},"modality":"{}","outcome":"{}","latency_us":{latency_us}"#,
                    modality.name(),
                    outcome.name()
                ),
            ),
            Body::Attempt(attempt) => self.attempt(record, attempt, interner, out),
            Body::Edge(edge) => self.edge(record, edge, interner, out),
        }
        out.push('}');
    }

    fn envelope(&self, record: &Record, scope: EventScope, out: &mut String) {
        put(
            out,
            format_args!(
                r#""schema_version":"{}","event_scope":"{}","session_id":{}"#,
                event::SCHEMA_VERSION,
                scope.name(),
                self.session
            ),
        );
        turn_id(out, record);
        put(out, format_args!(r#","pipeline_version":{},"event_id":""#, self.pipeline_version));
        self.event_id(record, out);
        put(
            out,
            format_args!(
                concat!(
                    r#"","lane":"{}","transport_sequence":null,"runtime_sequence":{},"authority_epoch":{},"#,
                    r#""runtime_timestamp_ms":{},"wall_clock_timestamp_ms":{},"payload_class":"{}""#
                ),
                Lane::Control.name(),
                record.sequence,
                record.epoch,
                record.at_us / 1000,
                self.wall_ms(record.at_us),
                PayloadClass::Metadata.name()
            ),
        );
    }

    fn edge(&self, record: &Record, edge: EdgeRecord, interner: &Interner, out: &mut String) {
        out.push_str(r#","event":{"#);
        self.envelope(record, edge.scope, out);
        let (signal, emitter) = (edge.what.signal().name(), edge.what.emitter().name());
        put(out, format_args!(r#","signal":"{signal}","emitted_by":"{emitter}""#));
        if let Some(reason) = edge.what.reason() {
            put(out, format_args!(r#","reason":"{}""#, reason.code()));
        }
        let name = interner.text(edge.name);
        if let What::Discontinuity(id) = edge.what {
            let break_id = quote(&format!("{name}/{id}"));
            put(out, format_args!(r#","sync_domain":{},"discontinuity_id":{break_id}}}"#, quote(name)));
            return;
        }
        put(out, format_args!(r#","edge_id":{},"target_lane":"{}""#, quote(name), edge.lane.name()));
        match edge.what {
            What::DropNotice { first, last, .. } => {
                put(out, format_args!(r#","seq_range":{{"start":{first},"end":{last}}}"#));
            }
            What::CreditGrant(amount) => put(out, format_args!(r#","amount":{amount}"#)),
            _ => {}
        }
        out.push('}');
    }

    fn decision(&self, record: &Record, decision: Decision, out: &mut String) {
        put(
            out,
            format_args!(
                r#","decision":{{"outcome_kind":"{}","phase":"{}","scope":"{}","session_id":{}"#,
                decision.outcome.name(),
                decision.phase.name(),
                decision.scope.name(),
                self.session
            ),
        );
        turn_id(out, record);
        out.push_str(r#","event_id":""#);
        self.event_id(record, out);
        put(
            out,
            format_args!(
                r#"","runtime_timestamp_ms":{},"wall_clock_timestamp_ms":{},"emitted_by":"{}""#,
                record.at_us / 1000,
                self.wall_ms(record.at_us),
                decision.decider.name()
            ),
        );
        if matches!(decision.outcome, Outcome::StaleEpochReject | Outcome::DeauthorizedDrain) {
            put(out, format_args!(r#","authority_epoch":{}"#, record.epoch));
        }
        put(out, format_args!(r#","reason":"{}"}}"#, decision.reason.code()));
    }

    fn attempt(&self, record: &Record, attempt: AttemptRecord, interner: &Interner, out: &mut String) {
        put(out, format_args!(r#","turn":{},"provider_invocation_id":"#, record.turn));
        self.invocation_id(record, attempt.invocation, out);
        put(
            out,
            format_args!(
                concat!(
                    r#","modality":"{}","provider_id":{},"attempt":{},"outcome":"{}","retryable":{},"#,
                    r#""retry_decision":"{}","attempt_latency_us":{},"authority_epoch":{}"#
                ),
                attempt.modality.name(),
                quote(interner.text(attempt.provider)),
                attempt.attempt,
                attempt.outcome.name(),
                attempt.retryable,
                attempt.decision.name(),
                attempt.latency_us,
                record.epoch
            ),
        );
        for (key, label) in [("reason", attempt.reason), ("next_provider_id", attempt.next_provider)] {
            if label != Label::Empty {
                put(out, format_args!(r#","{key}":{}"#, quote(interner.text(label))));
            }
        }
    }

    /// `pvi/<session>/<epoch>/<turn or "session">/<number>`: the epoch keeps takeovers apart.
    fn invocation_id(&self, record: &Record, invocation: u32, out: &mut String) {
        let (session, epoch) = (&self.session_escaped, record.turn_epoch);
        match record.turn {
            0 => put(out, format_args!(r#""pvi/{session}/{epoch}/session/{invocation:06}""#)),
            turn => put(out, format_args!(r#""pvi/{session}/{epoch}/{turn}/{invocation:06}""#)),
        }
    }

    fn event_id(&self, record: &Record, out: &mut String) {
        let turn = (record.turn != 0).then_some(record.turn);
        event::event_id_into(out, &self.session_escaped, record.epoch, turn, record.sequence);
    }
}

const fn kind(body: Body) -> &'static str {
    match body {
        Body::Signal { .. } | Body::Edge(_) => "signal",
        Body::Decision(_) => "decision",
        Body::Transition(_) => "transition",
        Body::Marker { .. } | Body::Plan(_) | Body::AgentState(_) => "marker",
        Body::Input(_) | Body::Frame { .. } | Body::Call(_) => "input",
        Body::Provider { .. } => "provider",
        Body::Attempt(_) => "provider_attempt",
    }
}

fn render_place(place: Place<Label>, interner: &Interner, out: &mut String) {
    put(
        out,
        format_args!(
            concat!(
                r#","point":"{}","outcome":"{}","reason":"{}","snapshot":{},"#,
                r#""fairness_key":{},"in_use":{},"places":{},"key_in_use":{},"key_share":{},"claim_us":{}"#
            ),
            place.point.name(),
            place.outcome.name(),
            place.reason.code(),
            quote(interner.text(place.snapshot)),
            quote(interner.text(place.key)),
            place.in_use,
            place.places,
            place.key_in_use,
            place.key_share,
            place.claim_us
        ),
    );
}

fn render_turn_start(said: TurnStart<Label>, interner: &Interner, out: &mut String) {
    let actions: Vec<String> = said.actions.names().map(quote).collect();
    let provenance = said.provenance.and_then(|place| interner.provenance(place));
    put(
        out,
        format_args!(
            concat!(
                r#","version":{},"usable_until_us":{},"failure":"{}","provenance":{},"#,
                r#""adaptive_actions":[{}],"admission":"{}","admission_scope":"{}","admission_reason":{},"#,
                r#""authority_epoch":{},"authority_valid":{},"authority_authorized":{},"claim_us":{}"#
            ),
            said.version,
            said.usable_until_us,
            said.failure.map_or("", Failure::name),
            provenance.map_or_else(|| String::from("null"), Provenance::canonical),
            actions.join(","),
            said.admission.name(),
            said.admission_scope.name(),
            quote(interner.text(said.admission_reason)),
            said.authority_epoch,
            said.authority_valid,
            said.authority_authorized,
            said.claim_us
        ),
    );
}

fn turn_id(out: &mut String, record: &Record) {
    if record.turn != 0 {
        out.push_str(r#","turn_id":""#);
        event::turn_id_into(out, record.turn_epoch, record.turn);
        out.push('"');
    }
}

fn marker(out: &mut String, turn: u32, name: Marker, value: u64) {
    put(out, format_args!(r#","turn":{turn},"name":"{}","value":{value}"#, name.name()));
}

fn input(event: Event<Label>, interner: &Interner, out: &mut String) {
    let name = event.name();
    put(out, format_args!(r#","name":"{name}""#));
    match event {
        Event::Tick | Event::Drain => {}
        Event::Lease { epoch, deadline_us } => {
            put(out, format_args!(r#","epoch":{epoch},"deadline_us":{deadline_us}"#));
        }
        Event::LeaseLost { reason } => {
            put(out, format_args!(r#","reason":{}"#, quote(interner.text(reason))));
        }
        Event::Start { resumed } => put(out, format_args!(r#","resumed":{resumed}"#)),
        Event::VoiceActivity { media_sample, permille } => {
            put(out, format_args!(r#","media_sample":{media_sample},"permille":{permille}"#));
        }
        Event::Transcript(heard) => put(
            out,
            format_args!(
                concat!(
                    r#","utterance":{},"revision":{},"words":{},"backchannel":{},"#,
                    r#""complete":{},"probe":{}"#
                ),
                heard.utterance, heard.revision, heard.words, heard.backchannel, heard.complete, heard.probe
            ),
        ),
        Event::TextMessage { reference } => put(out, format_args!(r#","reference":{reference}"#)),
        Event::Cancel { signal } => put(out, format_args!(r#","signal":"{}""#, signal.name())),
        Event::GenerationFinished { turn } => put(out, format_args!(r#","turn":{turn}"#)),
        Event::GenerationFailed { turn, reason } => {
            let reason = quote(interner.text(reason));
            put(out, format_args!(r#","turn":{turn},"reason":{reason}"#));
        }
        Event::Playback { turn, event, samples } => {
            let event = event.name();
            put(out, format_args!(r#","turn":{turn},"event":"{event}","samples":{samples}"#));
        }
        Event::Connection { state, reason } => {
            let reason = quote(interner.text(reason));
            put(out, format_args!(r#","state":"{}","reason":{reason}"#, state.name()));
        }
        Event::CancelWithin { scope, target } => {
            put(out, format_args!(r#","scope":"{}","target":{target}"#, scope.name()));
        }
        Event::RoutingView { epoch } => put(out, format_args!(r#","epoch":{epoch}"#)),
        Event::Migration { step, epoch } => {
            put(out, format_args!(r#","step":"{}","epoch":{epoch}"#, step.name()));
        }
    }
}

fn call(made: Call, turn: u32, interner: &Interner, out: &mut String) {
    put(out, format_args!(r#","name":"{}","turn":{turn}"#, made.name()));
    match made {
        Call::Invoke { modality } => put(out, format_args!(r#","modality":"{}""#, modality.name())),
        Call::OutputHandedOn { invocation } => put(out, format_args!(r#","invocation":{invocation}"#)),
        Call::AttemptFinished { invocation, ending, idle_us } => {
            put(out, format_args!(r#","invocation":{invocation},"outcome":"{}""#, ending.class.name()));
            if let Some(reason) = ending.reason {
                put(out, format_args!(r#","reason":"{}""#, reason.code()));
            }
            put(
                out,
                format_args!(
                    r#","retryable":{},"opens_circuit":{},"backoff_ms":{},"idle_us":{idle_us}"#,
                    ending.retryable, ending.opens_circuit, ending.backoff_ms
                ),
            );
        }
        Call::Ingress { carrier: None } => out.push_str(r#","carrier_epoch":null"#),
        Call::Ingress { carrier: Some(epoch) } => put(out, format_args!(r#","carrier_epoch":{epoch}"#)),
        Call::Admission(place) => render_place(place, interner, out),
        Call::Arrival { number, event, bytes, carrier } => {
            put(out, format_args!(r#","number":{number},"event":"{event:016x}","bytes":{bytes}"#));
            match carrier {
                None => out.push_str(r#","carrier_epoch":null"#),
                Some(epoch) => put(out, format_args!(r#","carrier_epoch":{epoch}"#)),
            }
        }
        Call::Reattach { turns, messages } => {
            put(out, format_args!(r#","turns":{turns},"messages":{messages}"#));
        }
        Call::LevelLowered { reason } => put(out, format_args!(r#","reason":"{}""#, reason.code())),
        Call::TurnStart(said) => render_turn_start(said, interner, out),
        Call::DeadlinePassed => {}
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
