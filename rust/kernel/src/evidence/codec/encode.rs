//! Writing a block.

use crate::bundle::{Provenance, TurnStart};
use crate::edge::notice::What;
use crate::evidence::codec::numbers::{notice, Kind, Numbered};
use crate::evidence::codec::{zigzag, Expected, CHANGED, EPOCH, FORMAT, SEQUENCE, TURN, TURN_EPOCH};
use crate::evidence::record::{Body, Call, Record};
use crate::evidence::ring::Gap;
use crate::input::Event;
use crate::reason::{Interner, Label, MAX_FOREIGN};

/// Writes the records of one block.
#[derive(Debug)]
pub struct Encoder<'words> {
    out: Vec<u8>,
    expected: Expected,
    interner: &'words Interner,
    /// Places of the session's words in this block.
    places: [Option<u8>; MAX_FOREIGN],
    words: u8,
}

impl<'words> Encoder<'words> {
    /// A block without entries, whose words are found in `interner`.
    #[must_use]
    pub fn new(interner: &'words Interner) -> Self {
        Self {
            out: Vec::with_capacity(1024),
            expected: Expected::default(),
            interner,
            places: [None; MAX_FOREIGN],
            words: 0,
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.out.len()
    }

    /// The block; empty when nothing was put in.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn begin(&mut self) {
        if self.out.is_empty() {
            self.out.push(FORMAT);
        }
    }

    /// Adds the note of records that found no room.
    pub fn gap(&mut self, gap: Gap) {
        self.begin();
        self.member(Kind::Gap);
        self.number(zigzag(gap.at_us, self.expected.at_us));
        self.number(gap.records);
        self.expected.at_us = gap.at_us;
    }

    /// Adds a record.
    pub fn record(&mut self, record: &Record) {
        self.begin();
        match record.body {
            Body::Attempt(attempt) => {
                self.word(attempt.provider);
                self.word(attempt.reason);
                self.word(attempt.next_provider);
            }
            Body::Edge(edge) => self.word(edge.name),
            Body::Call(Call::Admission(place)) => {
                self.word(place.snapshot);
                self.word(place.key);
            }
            Body::Call(Call::TurnStart(said)) => self.word(said.admission_reason),
            Body::Signal { reason, .. }
            | Body::Input(
                Event::LeaseLost { reason }
                | Event::GenerationFailed { reason, .. }
                | Event::Connection { reason, .. },
            ) => self.word(reason),
            _ => {}
        }
        let kind = self.expected.kind(record);
        self.head(kind, record);
        self.body(kind, record);
        self.expected.take(record);
    }

    fn head(&mut self, kind: Kind, record: &Record) {
        let expected = self.expected;
        let sequence = expected.sequence(kind);
        let mut changes = 0;
        for (flag, changed) in [
            (SEQUENCE, record.sequence != sequence),
            (EPOCH, record.epoch != expected.epoch),
            (TURN_EPOCH, record.turn_epoch != expected.turn_epoch),
            (TURN, record.turn != expected.turn),
        ] {
            changes |= if changed { flag } else { 0 };
        }
        let tag = kind as u8;
        if changes == 0 {
            self.out.push(tag);
        } else {
            self.out.extend([tag | CHANGED, changes]);
            for (flag, value, before) in [
                (SEQUENCE, record.sequence, sequence),
                (EPOCH, record.epoch, expected.epoch),
                (TURN_EPOCH, record.turn_epoch, expected.turn_epoch),
                (TURN, u64::from(record.turn), u64::from(expected.turn)),
            ] {
                if changes & flag != 0 {
                    self.number(zigzag(value, before));
                }
            }
        }
        self.number(zigzag(record.at_us, expected.at_us(kind)));
    }

    fn body(&mut self, kind: Kind, record: &Record) {
        match record.body {
            Body::Signal { signal, emitter, scope, reason, reach, invocation } => {
                self.member(signal);
                self.member(emitter);
                self.member(scope);
                self.label(reason);
                self.number(reach.map_or(0, |reach| reach.number() + 1));
                self.number(u64::from(invocation));
            }
            Body::Decision(decision) => {
                self.member(decision.outcome);
                self.member(decision.phase);
                self.member(decision.scope);
                self.member(decision.decider);
                self.member(decision.reason);
            }
            Body::Transition(transition) => {
                self.member(transition.from);
                self.member(transition.trigger);
                self.member(transition.to);
            }
            Body::Marker { name, value } => {
                self.member(name);
                self.number(value);
            }
            Body::Plan(plan) => {
                self.out.extend(plan.hash.0);
                self.out.extend(plan.seed.to_le_bytes());
            }
            Body::AgentState(state) => self.member(state),
            Body::Input(event) => self.input(kind, record, event),
            Body::Frame { .. } if kind == Kind::NextFrame => {}
            Body::Frame { sequence, samples, epoch, verdict } => {
                self.member(verdict);
                self.number(zigzag(sequence, self.expected.frame_sequence));
                self.number(samples);
                self.number(zigzag(epoch, record.epoch));
            }
            Body::Call(call) => self.call(call),
            Body::Provider { reported, modality, outcome, latency_us } => {
                self.flag(reported);
                self.member(modality);
                self.member(outcome);
                self.number(latency_us);
            }
            Body::Attempt(attempt) => {
                self.number(u64::from(attempt.invocation));
                self.member(attempt.modality);
                self.label(attempt.provider);
                self.number(u64::from(attempt.attempt));
                self.member(attempt.outcome);
                self.label(attempt.reason);
                self.flag(attempt.retryable);
                self.member(attempt.decision);
                self.label(attempt.next_provider);
                self.number(attempt.latency_us);
            }
            Body::Edge(edge) => {
                self.member(notice(edge.what));
                self.member(edge.scope);
                self.member(edge.lane);
                self.label(edge.name);
                match edge.what {
                    What::FlowXoff | What::FlowXon => {}
                    What::Watermark(domain) => self.member(domain),
                    What::Shed(point) => self.member(point),
                    What::CreditGrant(number) | What::Discontinuity(number) => self.number(number),
                    What::DropNotice { reason, first, last } => {
                        self.member(reason);
                        self.number(first);
                        self.number(zigzag(last, first));
                    }
                }
            }
        }
    }

    fn input(&mut self, kind: Kind, record: &Record, event: Event<Label>) {
        match event {
            Event::Tick | Event::Drain => {}
            Event::Lease { epoch, deadline_us } => {
                self.number(zigzag(epoch, record.epoch));
                self.number(zigzag(deadline_us, record.at_us));
            }
            Event::LeaseLost { reason } => self.label(reason),
            Event::Start { resumed } => self.flag(resumed),
            Event::VoiceActivity { media_sample, permille } => {
                if kind != Kind::NextWindow {
                    self.number(zigzag(media_sample, self.expected.media_sample()));
                }
                self.number(u64::from(permille));
            }
            Event::Transcript(heard) => {
                self.number(u64::from(heard.utterance));
                self.number(u64::from(heard.revision));
                self.number(u64::from(heard.words));
                self.flag(heard.backchannel);
                self.flag(heard.complete);
                self.flag(heard.probe);
            }
            Event::TextMessage { reference } => self.number(u64::from(reference)),
            Event::Cancel { signal } => self.member(signal),
            Event::GenerationFinished { turn } => self.number(u64::from(turn)),
            Event::GenerationFailed { turn, reason } => {
                self.number(u64::from(turn));
                self.label(reason);
            }
            Event::Playback { turn, event, samples } => {
                self.number(u64::from(turn));
                self.member(event);
                self.number(samples);
            }
            Event::Connection { state, reason } => {
                self.member(state);
                self.label(reason);
            }
            Event::CancelWithin { scope, target } => {
                self.member(scope);
                self.number(u64::from(target));
            }
            Event::RoutingView { epoch } => self.number(epoch),
            Event::Migration { step, epoch } => {
                self.member(step);
                self.number(epoch);
            }
        }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::DeadlinePassed => {}
            Call::LevelLowered { reason } => self.member(reason),
            Call::TurnStart(said) => self.turn_start(said),
            Call::Invoke { modality } => self.member(modality),
            Call::OutputHandedOn { invocation } => self.number(u64::from(invocation)),
            Call::AttemptFinished { invocation, ending, idle_us } => {
                self.number(u64::from(invocation));
                self.member(ending.class);
                self.number(ending.reason.map_or(0, |reason| reason.number() + 1));
                self.flag(ending.retryable);
                self.flag(ending.opens_circuit);
                self.number(ending.backoff_ms);
                self.number(idle_us);
            }
            Call::Admission(place) => {
                self.member(place.point);
                self.member(place.outcome);
                self.member(place.reason);
                self.label(place.snapshot);
                self.label(place.key);
                for count in [place.in_use, place.places, place.key_in_use, place.key_share] {
                    self.number(u64::from(count));
                }
                self.number(place.claim_us);
            }
            Call::Arrival { number, event, bytes, carrier } => {
                self.number(u64::from(number));
                self.number(event);
                self.number(bytes);
                self.call(Call::Ingress { carrier });
            }
            Call::Reattach { turns, messages } => {
                self.number(u64::from(turns));
                self.number(u64::from(messages));
            }
            Call::Ingress { carrier } => {
                self.flag(carrier.is_some());
                if let Some(carrier) = carrier {
                    self.number(zigzag(carrier.cast_unsigned(), 0));
                }
            }
        }
    }

    /// The references are told in full: they come again only after they changed.
    fn turn_start(&mut self, said: TurnStart<Label>) {
        self.number(said.version);
        self.number(said.usable_until_us);
        self.number(said.authority_epoch);
        self.number(said.claim_us);
        self.label(said.admission_reason);
        self.number(said.failure.map_or(0, |failure| failure.number() + 1));
        self.member(said.admission);
        self.member(said.admission_scope);
        self.flag(said.authority_valid);
        self.flag(said.authority_authorized);
        self.out.push(said.actions.number());
        let interner = self.interner;
        let provenance = said.provenance.and_then(|place| interner.provenance(place));
        self.flag(provenance.is_some());
        for (_, reference) in provenance.into_iter().flat_map(Provenance::pairs) {
            self.number(reference.len() as u64);
            self.out.extend(reference.as_bytes());
        }
    }

    /// Tells a word from outside before the first entry that needs it.
    fn word(&mut self, label: Label) {
        let Label::Foreign(index) = label else { return };
        let Some(place) = self.places.get_mut(usize::from(index)) else { return };
        if place.is_some() {
            return;
        }
        *place = Some(self.words);
        self.words += 1;
        let text = self.interner.text(label);
        self.member(Kind::Word);
        self.number(text.len() as u64);
        self.out.extend(text.as_bytes());
    }

    /// Nothing is 0, a reason is odd, a word of the block is even.
    fn label(&mut self, label: Label) {
        let number = match label {
            Label::Empty => 0,
            Label::Known(reason) => reason.number() * 2 + 1,
            Label::Foreign(index) => {
                let place = self.places.get(usize::from(index)).copied().flatten();
                place.map_or(0, |place| u64::from(place) * 2 + 2)
            }
        };
        self.number(number);
    }

    fn member(&mut self, member: impl Numbered) {
        self.number(member.number());
    }

    fn flag(&mut self, flag: bool) {
        self.out.push(u8::from(flag));
    }

    fn number(&mut self, mut value: u64) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.out.push(low);
                return;
            }
            self.out.push(low | 0x80);
        }
    }
}
