//! Writing evidence: records, signals, decisions and markers of a session.

use crate::cancellation::CancelScope;
use crate::decision::Decision;
use crate::effect::{AgentState, Effect};
use crate::event::EventScope;
use crate::evidence::codec::{Encoder, Entry, MAX_BLOCK_BYTES};
use crate::evidence::json::Context;
use crate::evidence::record::{Body, Call, Class, Marker, Record};
use crate::evidence::ring::Appended;
use crate::input::Event;
use crate::reason::{Label, Reason};
use crate::session::SessionKernel;
use crate::signal::{Emitter, Signal};

impl SessionKernel {
    pub(super) fn note(&mut self, event: Event<&str>) {
        let event = event.map(|word| self.interner.label(word));
        let (class, body) = match event {
            // A tick that finds nothing to do changes nothing, so a replay does not miss it.
            Event::Tick
                if !self.evidence.losing() && self.next_deadline_us().is_none_or(|due| due > self.now_us) =>
            {
                return
            }
            Event::VoiceActivity { .. } | Event::Transcript(_) => (Class::Detail, Body::Input(event)),
            Event::Lease { epoch, .. } if epoch == self.authority.epoch() => {
                (Class::Detail, Body::Input(event))
            }
            _ => (Class::Baseline, Body::Input(event)),
        };
        self.record(class, self.open_turn(), 0, body);
    }

    /// Records a call before its consequences.
    pub(super) fn note_call(&mut self, class: Class, turn: u32, call: Call) {
        self.record(class, turn, 0, Body::Call(call));
    }

    #[inline]
    pub(super) fn record(&mut self, class: Class, turn: u32, sequence: u64, body: Body) {
        let record = Record {
            at_us: self.now_us,
            sequence,
            epoch: self.authority.epoch(),
            turn_epoch: self.epoch_of(turn),
            turn,
            body,
        };
        match self.evidence.append(record, class) {
            Appended::Stored | Appended::Lost => {}
            Appended::Shed => self.downgrade(),
        }
    }

    /// Says once per turn, or once while none is open, that details are being shed.
    #[cold]
    pub(super) fn downgrade(&mut self) {
        let turn = self.open_turn();
        if self.downgraded == Some(turn) {
            return;
        }
        self.downgraded = Some(turn);
        let reason = Label::Known(Reason::StageADetailOverflow);
        let (signal, emitter) = (Signal::RecordingLevelDowngraded, Emitter::Or02);
        if turn == 0 {
            self.signal_session(Class::Baseline, signal, emitter, reason);
        } else {
            self.signal_turn(Class::Baseline, turn, signal, emitter, reason);
        }
    }

    /// The shell keeps less from now on; says so as the recorder.
    pub fn level_lowered(&mut self, now_us: u64, reason: Reason) {
        self.enter(now_us);
        self.note_call(Class::Baseline, self.open_turn(), Call::LevelLowered { reason });
        if self.authority.drained() {
            return;
        }
        let (signal, emitter, reason) =
            (Signal::RecordingLevelDowngraded, Emitter::Or02, Label::Known(reason));
        match self.open_turn() {
            0 => self.signal_session(Class::Baseline, signal, emitter, reason),
            turn => self.signal_turn(Class::Baseline, turn, signal, emitter, reason),
        }
    }

    pub(super) fn epoch_of(&self, turn: u32) -> u64 {
        self.turn_epochs
            .iter()
            .rev()
            .find(|(first, _)| *first <= turn)
            .map_or(self.authority.epoch(), |(_, epoch)| *epoch)
    }

    pub(super) fn marker(&mut self, class: Class, turn: u32, name: Marker, value: u64) {
        self.record(class, turn, 0, Body::Marker { name, value });
    }

    pub(super) fn signal_turn(
        &mut self,
        class: Class,
        turn: u32,
        signal: Signal,
        emitter: Emitter,
        reason: Label,
    ) {
        self.signal(class, turn, EventScope::Turn, signal, emitter, reason);
    }

    pub(super) fn signal_session(&mut self, class: Class, signal: Signal, emitter: Emitter, reason: Label) {
        self.signal(class, 0, EventScope::Session, signal, emitter, reason);
    }

    pub(super) fn signal(
        &mut self,
        class: Class,
        turn: u32,
        scope: EventScope,
        signal: Signal,
        emitter: Emitter,
        reason: Label,
    ) {
        let reach = (signal == Signal::Cancel).then_some(CancelScope::Turn);
        self.write_signal(class, turn, Body::Signal { signal, emitter, scope, reason, reach, invocation: 0 });
    }

    /// A signal about one provider invocation; in the scope of its turn while that is open.
    pub(super) fn signal_invocation(
        &mut self,
        turn: u32,
        invocation: u32,
        signal: Signal,
        emitter: Emitter,
        reason: Label,
    ) {
        let in_turn = turn != 0 && turn == self.open_turn();
        let scope = if in_turn { EventScope::Turn } else { EventScope::Session };
        let reach = Some(CancelScope::ProviderInvocation);
        let body = Body::Signal { signal, emitter, scope, reason, reach, invocation };
        self.write_signal(Class::Baseline, turn, body);
    }

    /// An accepted cancel of another scope than the running turn.
    pub(super) fn signal_cancel(&mut self, turn: u32, reach: CancelScope) {
        let emitter = if reach == CancelScope::Session { Emitter::Rk06 } else { Emitter::Rk16 };
        let scope = if turn == 0 { EventScope::Session } else { EventScope::Turn };
        let (signal, reason, reach) = (Signal::Cancel, Label::Empty, Some(reach));
        let body = Body::Signal { signal, emitter, scope, reason, reach, invocation: 0 };
        self.write_signal(Class::Baseline, turn, body);
    }

    fn write_signal(&mut self, class: Class, turn: u32, body: Body) {
        if let Body::Signal { signal, emitter, scope, reason, .. } = body {
            debug_assert!(signal.legal(emitter, scope, reason != Label::Empty), "{signal:?}");
        }
        let sequence = self.sequences.allocate();
        self.record(class, turn, sequence, body);
    }

    pub(super) fn decide(&mut self, class: Class, turn: u32, decision: Decision) {
        debug_assert!(decision.legal(turn != 0), "{decision:?}");
        let sequence = self.sequences.allocate();
        self.record(class, turn, sequence, Body::Decision(decision));
    }

    pub(super) fn agent_state(&mut self, state: AgentState) {
        self.record(Class::Baseline, self.open_turn(), 0, Body::AgentState(state));
        self.effects.push(Effect::AgentState { state });
    }

    /// Takes up to `limit` records out of Stage A as one block of [`codec`](crate::evidence::codec), which
    /// is empty when there are none and never longer than a block may be.
    pub fn drain_records(&mut self, limit: usize) -> Vec<u8> {
        self.crossings += 1;
        let mut block = Encoder::new(&self.interner);
        for _ in 0..limit {
            if let Some(gap) = self.evidence.take_gap() {
                block.gap(gap);
            }
            if block.size() > MAX_BLOCK_BYTES / 2 {
                break;
            }
            let Some(record) = self.evidence.pop() else {
                break;
            };
            block.record(&record);
        }
        block.finish()
    }

    /// Takes up to `limit` records out of Stage A, each passed on as one JSON object, and says where
    /// records are missing.
    pub fn drain_evidence(&mut self, limit: usize, mut take: impl FnMut(&str)) {
        self.crossings += 1;
        let mut line = String::with_capacity(512);
        for _ in 0..limit {
            if let Some(gap) = self.evidence.take_gap() {
                line.clear();
                self.context.render_gap(gap, &mut line);
                take(&line);
            }
            let Some(record) = self.evidence.pop() else {
                break;
            };
            line.clear();
            self.context.render(&record, &self.interner, &mut line);
            take(&line);
        }
    }

    /// Takes the oldest record, or the note of lost ones, out of Stage A.
    pub fn take_entry(&mut self) -> Option<Entry> {
        if let Some(gap) = self.evidence.take_gap() {
            return Some(Entry::Gap(gap));
        }
        self.evidence.pop().map(Entry::Record)
    }

    /// The word behind a label of this kernel's records.
    #[must_use]
    pub fn word(&self, label: Label) -> &str {
        self.interner.text(label)
    }

    pub(crate) const fn context(&self) -> &Context {
        &self.context
    }

    /// The latest time that an input came with; the kernel is never before it again.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }
}
