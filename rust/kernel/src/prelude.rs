//! The session prelude: utterances out of voice activity, and the end of the caller's turn.
//!
//! | from   | on         | to     | what happens                                   |
//! |--------|------------|--------|------------------------------------------------|
//! | Quiet  | `speech`   | Speech | a new utterance starts                         |
//! | Speech | `silence`  | Pause  | silence counts from the last speech window     |
//! | Speech | `no_audio` | Pause  | the same: lost audio is silence                |
//! | Pause  | `speech`   | Speech | after a probe the utterance is continued       |
//! | Pause  | `end`      | Quiet  | the silence was long enough                    |
//! | Speech | `end`      | Quiet  | the longest utterance: probed, then 500 ms     |
//!
//! A window at the speech mark is `speech`, one below the other mark `silence`; what changes nothing has no row.

use crate::input::Transcript;
use crate::names::named_enum;
use crate::policy::TurnPolicy;

/// How long an utterance that must end waits for its last words.
pub const FORCED_WAIT_US: u64 = 500_000;
/// How much longer than the longest silence an outstanding probe is waited for.
pub const PROBE_WAIT_US: u64 = 1_000_000;
/// Speech without any window for this long is taken for silence.
pub const LOST_WINDOWS_US: u64 = 500_000;

named_enum! {
    /// Whether the caller speaks.
    #[derive(Default)]
    pub enum Activity {
        /// No utterance is open.
        #[default]
        Quiet => "Quiet",
        /// The caller speaks.
        Speech => "Speech",
        /// The caller pauses within an utterance.
        Pause => "Pause",
    }
}

named_enum! {
    /// What moves the caller's machine.
    pub enum Trigger {
        /// A window at the speech mark.
        Speech => "speech",
        /// A window below the silence mark.
        Silence => "silence",
        /// No window came for too long, or the transport says that none will.
        NoAudio => "no_audio",
        /// The utterance is over.
        End => "end",
    }
}

/// The whole table.
pub const TRANSITIONS: [(Activity, Trigger, Activity); 6] = [
    (Activity::Quiet, Trigger::Speech, Activity::Speech),
    (Activity::Speech, Trigger::Silence, Activity::Pause),
    (Activity::Speech, Trigger::NoAudio, Activity::Pause),
    (Activity::Pause, Trigger::Speech, Activity::Speech),
    (Activity::Pause, Trigger::End, Activity::Quiet),
    (Activity::Speech, Trigger::End, Activity::Quiet),
];

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

    /// Whether the recogniser is being asked and words of its utterance are known in part.
    #[must_use]
    pub const fn heard_in_part(&self) -> bool {
        matches!(self.answer, Answer::Awaited) && self.hypothesis.words > 0
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
                self.fire(Trigger::Silence);
                Heard::Nothing
            }
            (Activity::Speech, true) => {
                self.last_speech_us = now_us;
                Heard::Nothing
            }
            (Activity::Quiet, true) => {
                self.fire(Trigger::Speech);
                *self = Self {
                    activity: self.activity,
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
                self.fire(Trigger::Speech);
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
        self.fire(Trigger::NoAudio);
    }

    /// Moves as the table says; what has no row changes nothing.
    fn fire(&mut self, trigger: Trigger) {
        let row = TRANSITIONS.iter().find(|row| row.0 == self.activity && row.1 == trigger);
        let Some(&(from, _, to)) = row else { return };
        if from == Activity::Speech {
            self.spoken_us += self.last_speech_us - self.segment_us;
        }
        self.activity = to;
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
        self.fire(Trigger::End);
        Ended {
            utterance: self.utterance,
            hypothesis: self.hypothesis,
            confirmed: self.confirmed,
            speech_us: self.spoken_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_US: u64 = 32_000;

    struct Caller {
        prelude: Prelude,
        policy: TurnPolicy,
        now_us: u64,
    }

    impl Caller {
        fn new() -> Self {
            let policy = TurnPolicy { complete_wait_ms: 180, ..TurnPolicy::default() };
            Self { prelude: Prelude::default(), policy, now_us: 1_000_000 }
        }

        fn hear(&mut self, permille: u16) -> Heard {
            self.now_us += WINDOW_US;
            self.prelude.window(self.now_us, permille, &self.policy)
        }

        fn due(&self) -> Option<(u64, Timer)> {
            self.prelude.due(&self.policy, false)
        }

        fn answer(&mut self, words: u32, backchannel: bool, complete: bool) -> Option<Hypothesis> {
            self.say(words, backchannel, complete, true)
        }

        fn say(&mut self, words: u32, backchannel: bool, complete: bool, probe: bool) -> Option<Hypothesis> {
            let (utterance, revision) = (self.prelude.utterance, self.prelude.revision);
            let transcript = Transcript { utterance, revision, words, backchannel, complete, probe };
            self.prelude.transcript(transcript)
        }
    }

    #[test]
    fn every_state_and_trigger_is_decided_by_the_table() {
        for activity in Activity::ALL {
            for trigger in Trigger::ALL {
                let mut prelude = Prelude {
                    activity: *activity,
                    utterance: 1,
                    segment_us: 1_000_000,
                    last_speech_us: 1_500_000,
                    ..Prelude::default()
                };
                let policy = TurnPolicy::default();
                match trigger {
                    Trigger::Speech => {
                        prelude.window(2_000_000, 1000, &policy);
                    }
                    Trigger::Silence => {
                        prelude.window(2_000_000, 0, &policy);
                    }
                    Trigger::NoAudio => prelude.pause(),
                    Trigger::End => {
                        prelude.end();
                    }
                }
                let row = TRANSITIONS.iter().find(|row| row.0 == *activity && row.1 == *trigger);
                assert_eq!(
                    prelude.activity(),
                    row.map_or(*activity, |row| row.2),
                    "{activity:?} {trigger:?}"
                );
                let spoken = *activity == Activity::Speech && row.is_some();
                assert_eq!(prelude.spoken_us, if spoken { 500_000 } else { 0 }, "{activity:?} {trigger:?}");
            }
        }
    }

    #[test]
    fn speech_starts_at_one_mark_and_ends_below_the_other() {
        let mut caller = Caller::new();
        assert_eq!(caller.hear(499), Heard::Nothing);
        assert_eq!(caller.prelude.activity(), Activity::Quiet);
        assert_eq!(caller.hear(500), Heard::Started);
        assert_eq!(caller.hear(350), Heard::Nothing);
        assert_eq!(caller.prelude.last_speech_us(), caller.now_us);
        assert_eq!(caller.hear(349), Heard::Nothing);
        assert_eq!(caller.prelude.activity(), Activity::Pause);
        assert_eq!(caller.prelude.last_speech_us(), caller.now_us - WINDOW_US);
        assert_eq!(caller.hear(499), Heard::Nothing);
        assert_eq!(caller.hear(500), Heard::Resumed { continued: false });
    }

    #[test]
    fn a_probe_follows_the_pause_and_speech_makes_its_answer_void() {
        let mut caller = Caller::new();
        caller.hear(900);
        let last = caller.now_us;
        caller.hear(0);
        assert_eq!(caller.due(), Some((last + 90_000, Timer::Probe)));
        assert_eq!(caller.answer(2, false, true), None);
        assert_eq!(caller.prelude.probe(), 1);
        assert_eq!(caller.due(), Some((last + 2_500_000, Timer::End)));
        assert!(caller.answer(2, false, false).is_some());
        assert_eq!(caller.due(), Some((last + 1_500_000, Timer::End)));
        assert_eq!(caller.hear(900), Heard::Resumed { continued: true });
        assert_eq!(caller.prelude.hypothesis, Hypothesis::default());
        let stale = Transcript {
            utterance: 1,
            revision: 0,
            words: 9,
            backchannel: false,
            complete: true,
            probe: true,
        };
        assert_eq!(caller.prelude.transcript(stale), None);
    }

    #[test]
    fn the_wait_depends_on_the_words() {
        for (words, backchannel, complete, active, wait_ms) in [
            (3, false, true, false, 180),
            (3, false, false, false, 1500),
            (0, false, false, false, 180),
            (1, true, false, true, 180),
            (1, true, false, false, 1500),
        ] {
            let mut caller = Caller::new();
            caller.hear(900);
            let last = caller.now_us;
            caller.hear(0);
            caller.prelude.probe();
            caller.answer(words, backchannel, complete);
            let due = caller.prelude.due(&caller.policy, active);
            assert_eq!(due, Some((last + wait_ms * 1000, Timer::End)), "{words} {backchannel} {complete}");
        }
    }

    #[test]
    fn a_late_partial_does_not_replace_the_whole_hypothesis() {
        let mut caller = Caller::new();
        caller.hear(900);
        assert!(caller.say(1, false, false, false).is_some());
        caller.hear(0);
        caller.prelude.probe();
        caller.answer(3, false, true);
        assert_eq!(caller.say(1, false, false, false), None);
        assert_eq!(caller.prelude.end().hypothesis.words, 3);
    }

    #[test]
    fn lost_windows_are_silence() {
        let mut caller = Caller::new();
        caller.hear(900);
        assert_eq!(caller.due(), Some((caller.now_us + LOST_WINDOWS_US, Timer::LostWindows)));
        caller.prelude.pause();
        assert_eq!(caller.due(), Some((caller.now_us + 90_000, Timer::Probe)));
    }

    #[test]
    fn the_longest_utterance_ends_with_the_answer_or_soon_after() {
        let mut caller = Caller::new();
        caller.policy.max_utterance_ms = 100;
        caller.hear(900);
        let started = caller.now_us;
        assert_eq!(caller.due(), Some((started + 100_000, Timer::Force)));
        assert!(caller.prelude.force(started + 100_000));
        caller.prelude.probe();
        assert_eq!(caller.due(), Some((started + 600_000, Timer::End)));
        assert_eq!(caller.hear(0), Heard::Nothing);
        assert_eq!(caller.hear(900), Heard::Resumed { continued: false });
        caller.answer(4, false, false);
        assert_eq!(caller.due(), Some((started + 100_000, Timer::End)));
        assert_eq!(caller.prelude.end().hypothesis.words, 4);
        assert_eq!(caller.due(), None);
    }

    #[test]
    fn only_speech_counts_as_spoken() {
        let mut caller = Caller::new();
        for permille in [900, 900, 900, 0, 0, 900, 900, 0] {
            caller.hear(permille);
        }
        caller.prelude.confirm();
        let ended = caller.prelude.end();
        assert_eq!(ended.speech_us, 3 * WINDOW_US);
        assert!(ended.confirmed);
        assert_eq!(caller.hear(900), Heard::Started);
        assert!(!caller.prelude.end().confirmed);
        assert_eq!(caller.prelude.utterance(), 2);
    }
}
