//! What the transport reports: delivery of output, and the connection.

use crate::effect::Effect;
use crate::evidence::record::{Class, Marker};
use crate::fence::Hold;
use crate::input::{ConnectionState, PlaybackEvent};
use crate::node::Fate;
use crate::reason::{Label, Reason};
use crate::session::{Drained, SessionKernel};
use crate::signal::{Emitter, Signal};

impl SessionKernel {
    pub(super) fn playback(&mut self, turn: u32, event: PlaybackEvent) {
        // An aborted turn is behind a closed fence: nothing of it may start to play any more.
        let taken = match self.ended_turns.iter().find(|(ended, _)| *ended == turn) {
            Some((_, committed)) => *committed || event != PlaybackEvent::Started,
            None => turn != 0 && turn == self.open_turn(),
        };
        if !taken {
            self.late_event(turn);
            return;
        }
        if event != PlaybackEvent::Started && turn >= self.leaving.unheard {
            // Turns are played one after the other: with this one every earlier one is over.
            self.leaving.unheard = 0;
        }
        let (signal, reason) = match event {
            PlaybackEvent::Started => (Signal::PlaybackStarted, Label::Empty),
            PlaybackEvent::Completed => (Signal::PlaybackCompleted, Label::Empty),
            PlaybackEvent::Cancelled => (Signal::PlaybackCancelled, Label::Known(Reason::CancelFenceApplied)),
        };
        self.signal_turn(Class::Baseline, turn, signal, Emitter::Rk22, reason);
    }

    pub(super) fn connection(&mut self, state: ConnectionState, reason: &str) {
        let label = self.interner.label(reason);
        let signal = match state {
            ConnectionState::Connected => Signal::Connected,
            ConnectionState::Reconnecting => Signal::Reconnecting,
            ConnectionState::Disconnected => Signal::Disconnected,
            ConnectionState::Ended => Signal::Ended,
            ConnectionState::Silence => Signal::Silence,
            ConnectionState::Stall => Signal::Stall,
            ConnectionState::Muted => Signal::Muted,
        };
        self.signal_session(Class::Baseline, signal, Emitter::Rk23, label);
        match state {
            ConnectionState::Connected => {
                self.connection_down = false;
                self.release(Hold::Connection);
            }
            ConnectionState::Reconnecting => {
                self.connection_down = true;
                self.hold(Hold::Connection);
            }
            ConnectionState::Silence | ConnectionState::Stall | ConnectionState::Muted => {
                self.prelude.pause();
            }
            ConnectionState::Disconnected | ConnectionState::Ended => {
                let reason = if reason.is_empty() { state.name() } else { reason };
                self.end_call(reason);
            }
        }
    }

    pub(super) fn end_call(&mut self, reason: &str) {
        if !self.authority.drain() {
            return;
        }
        self.drained = Some(Drained::Call);
        self.marker(Class::Terminal, self.open_turn(), Marker::GateClosed, self.authority.epoch());
        self.abort(Reason::TransportDisconnectOrStall);
        self.tell_nodes(0, Fate::Over);
        let label = self.interner.label(reason);
        let reason = self.interner.owned(label);
        self.effects.push(Effect::LeaveRoom { reason });
    }
}
