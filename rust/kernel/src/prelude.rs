//! The session prelude: utterances out of voice activity, and the end of the caller's turn.
//!
//! | state  | on                          | to     | what happens                                   |
//! |--------|-----------------------------|--------|------------------------------------------------|
//! | Quiet  | window at the speech mark   | Speech | a new utterance starts                         |
//! | Speech | window below the other mark | Pause  | silence counts from the last speech window     |
//! | Speech | no window for 500 ms        | Pause  | the same: lost audio is silence                |
//! | Pause  | window at the speech mark   | Speech | after a probe the utterance is continued       |
//! | Pause  | silence long enough         | Quiet  | the utterance ends                             |
//! | any    | longest utterance reached   | Quiet  | probed at once, ends with the answer or 500 ms |

use crate::input::Transcript;
use crate::policy::TurnPolicy;

/// How long an utterance that must end waits for its last words.
pub const FORCED_WAIT_US: u64 = 500_000;
/// How much longer than the longest silence an outstanding probe is waited for.
pub const PROBE_WAIT_US: u64 = 1_000_000;
/// Speech without any window for this long is taken for silence.
pub const LOST_WINDOWS_US: u64 = 500_000;

/// Whether the caller speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// No utterance is open.
    #[default]
    Quiet,
    /// The caller speaks.
    Speech,
    /// The caller pauses within an utterance.
    Pause,
}

/// What the recogniser believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hypothesis {
    /// Recognised words.
    pub words: u32,
    /// Whether all of them are a listener's.
    pub backchannel: bool,
    /// Whether the sentence is finished.
    pub complete: bool,
}

impl Hypothesis {
    /// Words that are no backchannel and not yet a sentence.
    #[must_use]
    pub const fn promising(self) -> bool {
        self.words >= 1 && !self.backchannel && !self.complete
    }
}

/// Whether the recogniser was asked in this pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Not yet.
    #[default]
    NotAsked,
    /// Asked, no answer yet.
    Awaited,
    /// Answered.
    Given(Hypothesis),
}

/// What one window meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Silence, or speech that goes on.
    Nothing,
    /// A new utterance.
    Started,
    /// Speech after a pause; `continued` when the recogniser had been probed.
    Resumed {
        /// Whether the hypothesis became void.
        continued: bool,
    },
}

/// A timer of the prelude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// No window came for too long.
    LostWindows,
    /// Ask the recogniser.
    Probe,
    /// The longest utterance is reached.
    Force,
    /// The utterance ends.
    End,
}

/// An utterance that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub utterance: u32,
    /// Its words.
    pub hypothesis: Hypothesis,
    /// Whether it interrupted a turn.
    pub confirmed: bool,
    /// How long the caller spoke, pauses left out.
    pub speech_us: u64,
}

/// The utterance machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prelude {
    activity: Activity,
    utterance: u32,
    revision: u32,
    started_us: u64,
    segment_us: u64,
    spoken_us: u64,
    last_speech_us: u64,
    last_window_us: u64,
    answer: Answer,
    hypothesis: Hypothesis,
    confirmed: bool,
    forced_us: Option<u64>,
}

impl Prelude {
    /// Whether the caller speaks.
    #[must_use]
    pub const fn activity(&self) -> Activity {
        self.activity
    }

    /// Number of the latest utterance.
    #[must_use]
    pub const fn utterance(&self) -> u32 {
        self.utterance
    }

    /// When the caller was last heard speaking.
    #[must_use]
    pub const fn last_speech_us(&self) -> u64 {
        self.last_speech_us
    }

    /// Whether the recogniser was asked in this pause.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        self.answer
    }

    /// The open utterance interrupted a turn.
    pub fn confirm(&mut self) {
        self.confirmed = true;
    }

    /// Takes one window of the detector.
    pub fn window(&mut self, now_us: u64, permille: u16, policy: &TurnPolicy) -> Heard {
        let mark = match self.activity {
            Activity::Speech => policy.silence_permille,
            Activity::Quiet | Activity::Pause => policy.speech_permille,
        };
        self.last_window_us = now_us;
        let speech = u64::from(permille) >= mark;
        match (self.activity, speech) {
            (Activity::Quiet | Activity::Pause, false) => Heard::Nothing,
            (Activity::Speech, false) => {
                self.pause();
                Heard::Nothing
            }
            (Activity::Speech, true) => {
                self.last_speech_us = now_us;
                Heard::Nothing
            }
            (Activity::Quiet, true) => {
                *self = Self {
                    activity: Activity::Speech,
                    utterance: self.utterance + 1,
                    started_us: now_us,
                    segment_us: now_us,
                    last_speech_us: now_us,
                    last_window_us: now_us,
                    ..Self::default()
                };
                Heard::Started
            }
            (Activity::Pause, true) => {
                self.activity = Activity::Speech;
                self.segment_us = now_us;
                self.last_speech_us = now_us;
                let continued = self.answer != Answer::NotAsked && self.forced_us.is_none();
                if continued {
                    self.revision += 1;
                    self.answer = Answer::NotAsked;
                    self.hypothesis = Hypothesis::default();
                }
                Heard::Resumed { continued }
            }
        }
    }

    /// Takes speech for ended; the last speech window stays where it was.
    pub fn pause(&mut self) {
        if self.activity == Activity::Speech {
            self.activity = Activity::Pause;
            self.spoken_us += self.last_speech_us - self.segment_us;
        }
    }

    /// Takes a hypothesis; none when it is for another utterance or revision.
    pub fn transcript(&mut self, transcript: Transcript) -> Option<Hypothesis> {
        let current = self.activity != Activity::Quiet
            && transcript.utterance == self.utterance
            && transcript.revision == self.revision;
        if !current {
            return None;
        }
        let hypothesis = Hypothesis {
            words: transcript.words,
            backchannel: transcript.backchannel,
            complete: transcript.complete,
        };
        let answered = matches!(self.answer, Answer::Given(_));
        if transcript.probe {
            if self.answer == Answer::NotAsked {
                return None;
            }
            self.answer = Answer::Given(hypothesis);
        } else if answered {
            // A partial that was under way when the whole hypothesis came knows less.
            return None;
        }
        self.hypothesis = hypothesis;
        Some(hypothesis)
    }

    /// The earliest timer.
    #[must_use]
    pub fn due(&self, policy: &TurnPolicy, turn_active: bool) -> Option<(u64, Timer)> {
        if self.activity == Activity::Quiet {
            return None;
        }
        if let Some(forced_us) = self.forced_us {
            let wait_us = if matches!(self.answer, Answer::Given(_)) { 0 } else { FORCED_WAIT_US };
            return Some((forced_us + wait_us, Timer::End));
        }
        let force = (self.started_us + policy.max_utterance_ms * 1000, Timer::Force);
        let next = if self.activity == Activity::Speech {
            (self.last_window_us + LOST_WINDOWS_US, Timer::LostWindows)
        } else if self.answer == Answer::NotAsked {
            let wait_ms = policy.probe_ms.min(policy.incomplete_wait_ms);
            (self.last_speech_us + wait_ms * 1000, Timer::Probe)
        } else {
            (self.last_speech_us + self.end_wait_us(policy, turn_active), Timer::End)
        };
        Some(if force.0 < next.0 { force } else { next })
    }

    /// The silence that ends the utterance, as far as it is known.
    fn end_wait_us(&self, policy: &TurnPolicy, turn_active: bool) -> u64 {
        let longest_us = policy.incomplete_wait_ms * 1000;
        match self.answer {
            Answer::Given(words) => {
                let settled = words.complete || words.words == 0 || (words.backchannel && turn_active);
                if settled {
                    longest_us.min(policy.complete_wait_ms * 1000)
                } else {
                    longest_us
                }
            }
            Answer::Awaited | Answer::NotAsked => longest_us + PROBE_WAIT_US,
        }
    }

    /// The recogniser is being asked; returns the utterance.
    pub fn probe(&mut self) -> u32 {
        self.answer = Answer::Awaited;
        self.utterance
    }

    /// The longest utterance is reached; true when the recogniser must still be asked.
    pub fn force(&mut self, now_us: u64) -> bool {
        self.forced_us = Some(now_us);
        self.answer == Answer::NotAsked
    }

    /// Ends the utterance.
    pub fn end(&mut self) -> Ended {
        self.pause();
        self.activity = Activity::Quiet;
        Ended {
            utterance: self.utterance,
            hypothesis: self.hypothesis,
            confirmed: self.confirmed,
            speech_us: self.spoken_us,
        }
    }
}
