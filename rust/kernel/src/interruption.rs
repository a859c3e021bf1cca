//! Two-stage interruption: hold at the onset, then confirm or release.
//!
//! The rules work on one *burst*: the caller's speech since it last began from quiet or since a hold
//! was released. Bursts within a hold that is not released are one burst, so that a broken sentence
//! confirms as a whole.

use crate::policy::TurnPolicy;
use crate::prelude::{Answer, Hypothesis};

/// How much longer a hold may last while words are still expected.
pub const WORDS_GRACE_US: u64 = 100_000;

/// The present burst of speech.
#[derive(Clone, Copy, Debug, Default)]
pub struct Burst {
    onset_us: u64,
}

impl Burst {
    /// A new burst begins.
    pub fn begin(&mut self, now_us: u64) {
        self.onset_us = now_us;
    }

    /// Its length up to the last speech.
    #[must_use]
    pub const fn length_us(&self, last_speech_us: u64) -> u64 {
        last_speech_us.saturating_sub(self.onset_us)
    }

    /// Whether it has lasted long enough to interrupt.
    #[must_use]
    pub const fn confirms(&self, last_speech_us: u64, policy: &TurnPolicy) -> bool {
        self.length_us(last_speech_us) >= policy.confirm_ms * 1000
    }

    /// When silence releases the hold.
    ///
    /// A cough is released sooner than speech. Words that were asked for, or that may yet make a
    /// sentence, are waited for a little longer; after a listener's word the release is early if `early`.
    #[must_use]
    pub fn release_due_us(
        &self,
        last_speech_us: u64,
        answer: Answer,
        policy: &TurnPolicy,
        early: bool,
    ) -> u64 {
        let short = self.length_us(last_speech_us) <= policy.short_burst_ms * 1000;
        let wait_ms = if short { policy.short_release_ms } else { policy.release_ms };
        let wait_ms = match answer {
            // A listener's word is known for what it is: nothing is waited for any more.
            Answer::Given(words) if early && words.backchannel => wait_ms.min(policy.short_release_ms),
            _ => wait_ms,
        };
        let grace_us = match answer {
            Answer::Awaited => WORDS_GRACE_US,
            Answer::Given(words) if words.promising() => WORDS_GRACE_US,
            Answer::NotAsked | Answer::Given(_) => 0,
        };
        last_speech_us + wait_ms * 1000 + grace_us
    }
}

/// Whether these words interrupt: enough of them, or a finished sentence, and not a listener's.
#[must_use]
pub fn words_confirm(words: Hypothesis, probe: bool, policy: &TurnPolicy) -> bool {
    let enough = u64::from(words.words) >= policy.confirm_words;
    let sentence = probe && words.complete && words.words >= 1;
    !words.backchannel && (enough || sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> TurnPolicy {
        TurnPolicy { confirm_words: 2, release_ms: 200, ..TurnPolicy::default() }
    }

    fn words(words: u32, backchannel: bool, complete: bool) -> Hypothesis {
        Hypothesis { words, backchannel, complete }
    }

    #[test]
    fn a_cough_is_released_sooner_than_speech() {
        let mut burst = Burst::default();
        burst.begin(1_000_000);
        let cough = burst.release_due_us(1_250_000, Answer::NotAsked, &policy(), true);
        let speech = burst.release_due_us(1_250_001, Answer::NotAsked, &policy(), true);
        assert_eq!((cough, speech), (1_350_000, 1_450_001));
    }

    #[test]
    fn expected_words_are_waited_for() {
        let mut burst = Burst::default();
        burst.begin(0);
        let due = |answer| burst.release_due_us(400_000, answer, &policy(), true);
        assert_eq!(due(Answer::Awaited), 700_000);
        assert_eq!(due(Answer::Given(words(1, false, false))), 700_000);
        assert_eq!(due(Answer::Given(words(1, true, false))), 500_000);
        assert_eq!(due(Answer::Given(words(0, false, false))), 600_000);
    }

    #[test]
    fn before_early_release_a_listeners_word_was_waited_out_like_speech() {
        let mut burst = Burst::default();
        burst.begin(0);
        let due = |words| burst.release_due_us(400_000, Answer::Given(words), &policy(), false);
        assert_eq!(due(words(1, true, false)), 600_000);
        assert_eq!(due(words(1, false, false)), 700_000);
    }

    #[test]
    fn lasting_speech_confirms_at_the_threshold() {
        let mut burst = Burst::default();
        burst.begin(100_000);
        assert!(!burst.confirms(799_999, &policy()));
        assert!(burst.confirms(800_000, &policy()));
    }

    #[test]
    fn words_confirm_unless_they_are_a_listeners() {
        assert!(words_confirm(words(2, false, false), false, &policy()));
        assert!(!words_confirm(words(1, false, true), false, &policy()));
        assert!(words_confirm(words(1, false, true), true, &policy()));
        assert!(!words_confirm(words(1, false, false), true, &policy()));
        assert!(!words_confirm(words(3, true, true), true, &policy()));
    }
}
