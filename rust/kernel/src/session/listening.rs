//! Following the caller: utterances, interruptions and the end of the caller's turn.

use crate::behaviour::Behaviour;
use crate::effect::{Effect, Intent};
use crate::evidence::record::{Class, Marker};
use crate::fence::Hold;
use crate::input::Transcript;
use crate::interruption;
use crate::policy::LateAction;
use crate::prelude::{Activity, Heard, Timer};
use crate::session::SessionKernel;
use crate::signal::Signal;

impl SessionKernel {
    pub(super) fn window(&mut self, permille: u16, media_sample: u64) {
        if self.drained.is_some() {
            return;
        }
        match self.prelude.window(self.now_us, permille, &self.policy) {
            Heard::Nothing => {}
            Heard::Started => {
                self.onset();
                let utterance = self.prelude.utterance();
                self.utterance_marker(Marker::UtteranceStarted);
                self.effects.push(Effect::StartUtterance { utterance, media_sample });
            }
            Heard::Resumed { continued } => {
                self.onset();
                if continued {
                    let utterance = self.prelude.utterance();
                    self.utterance_marker(Marker::UtteranceContinued);
                    self.effects.push(Effect::ContinueUtterance { utterance });
                    self.charge_recognition();
                }
            }
        }
        let lasting = self.prelude.activity() == Activity::Speech
            && self.burst.confirms(self.prelude.last_speech_us(), &self.policy);
        if lasting && self.gate.held_by(Hold::Speech) {
            self.confirm();
        }
    }

    /// Speech begins: the running turn's voice is held before anything else happens.
    fn onset(&mut self) {
        if self.gate.held_by(Hold::Speech) {
            return;
        }
        self.burst.begin(self.now_us);
        if self.policy.interruptions {
            self.hold(Hold::Speech);
        }
    }

    fn confirm(&mut self) {
        self.prelude.confirm();
        self.interrupt(Signal::BargeIn);
    }

    pub(super) fn transcript(&mut self, transcript: Transcript) {
        if self.drained.is_some() {
            return;
        }
        let Some(words) = self.prelude.transcript(transcript) else {
            return self.late_words(transcript);
        };
        let may_interrupt = self.turn.is_some() && self.policy.interruptions;
        if may_interrupt && interruption::words_confirm(words, transcript.probe, &self.policy) {
            self.confirm();
        }
    }

    /// Words of an utterance that ended unanswered: within the grace window they may become a proposal.
    fn late_words(&mut self, transcript: Transcript) {
        let Some((utterance, ended_us)) = self.unanswered else { return };
        let meant = transcript.utterance == utterance && transcript.words > 0 && !transcript.backchannel;
        let in_time = self.now_us <= ended_us + self.policy.late_grace_ms * 1000;
        if meant && in_time && self.policy.late_event == LateAction::Remap {
            self.unanswered = None;
            let open = self.open_turn();
            self.marker(Class::Baseline, open, Marker::LateEventRemapped, u64::from(utterance));
            self.intend(Intent::Utterance, utterance);
        }
    }

    /// When silence releases the hold of the caller's voice.
    pub(super) fn release_due_us(&self) -> Option<u64> {
        if !self.gate.held_by(Hold::Speech) || self.prelude.activity() != Activity::Pause {
            return None;
        }
        let last_speech_us = self.prelude.last_speech_us();
        let early = self.behaviours.has(Behaviour::EarlyRelease);
        Some(self.burst.release_due_us(last_speech_us, self.prelude.answer(), &self.policy, early))
    }

    pub(super) fn release_speech(&mut self) {
        self.release(Hold::Speech);
    }

    pub(super) fn prelude_timer(&mut self, timer: Timer) {
        match timer {
            Timer::LostWindows => self.prelude.pause(),
            Timer::Probe => self.probe(),
            Timer::Force => {
                if self.prelude.force(self.now_us) {
                    self.probe();
                }
            }
            Timer::End => self.end_utterance(),
        }
    }

    fn probe(&mut self) {
        let utterance = self.prelude.probe();
        self.charge_recognition();
        self.utterance_marker(Marker::UtteranceProbed);
        self.effects.push(Effect::ProbeUtterance { utterance });
    }

    fn end_utterance(&mut self) {
        let ended = self.prelude.end();
        let active = self.turn.is_some();
        let words = ended.hypothesis;
        // A word or two that make no sentence are no reason to cut the agent off after it went on.
        let takes_turn = self.policy.interruptions && interruption::words_confirm(words, true, &self.policy);
        let used = words.words > 0 && (!active || takes_turn);
        if used && active {
            self.interrupt(Signal::BargeIn);
        }
        let marker = if used { Marker::UtteranceEnded } else { Marker::UtteranceDiscarded };
        self.utterance_marker(marker);
        self.effects.push(Effect::EndUtterance { utterance: ended.utterance, used });
        self.stop_recognition();
        self.unanswered = (!used).then_some((ended.utterance, self.now_us));
        if used {
            self.propose(Intent::Utterance, ended.utterance);
            return;
        }
        self.release(Hold::Speech);
        let meant = ended.confirmed || ended.speech_us >= self.policy.confirm_ms * 1000;
        if words.words == 0 && meant && !active {
            self.propose(Intent::Unrecognised, ended.utterance);
        }
    }

    fn utterance_marker(&mut self, name: Marker) {
        let utterance = u64::from(self.prelude.utterance());
        self.marker(Class::Baseline, self.open_turn(), name, utterance);
    }
}
