//! Thresholds of turn taking, frozen for one session.

use crate::names::named_enum;

named_enum! {
    /// What becomes of a chat text that arrives while a turn runs; speech has the rules of interruption.
    pub enum Overlap {
        Preempt => "preempt", Queue => "queue", Defer => "defer",
    }
}

named_enum! {
    /// What becomes of an event that belongs to a turn or an utterance that is over.
    pub enum LateAction {
        Drop => "drop", Remap => "remap", Diagnostics => "diagnostics",
    }
}

named_enum! {
    /// What becomes of a turn that may not open now but may later.
    pub enum WhenRefused {
        Defer => "defer", Reject => "reject",
    }
}

/// A threshold out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} is {}: {}", self.field, self.value, self.remedy)
    }
}

impl std::error::Error for PolicyError {}

/// Thresholds of turn taking; durations in milliseconds, probabilities from 0 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent switches of the pipeline file
pub struct TurnPolicy {
    /// A window at or above this is speech.
    pub speech_permille: u64,
    /// In speech, a window below this is silence.
    pub silence_permille: u64,
    /// Whether the caller's voice may stop the agent's.
    pub interruptions: bool,
    /// Lasting speech that interrupts.
    pub confirm_ms: u64,
    /// Words that interrupt.
    pub confirm_words: u64,
    /// Silence that releases a hold.
    pub release_ms: u64,
    /// A burst of at most this length is a cough or a click.
    pub short_burst_ms: u64,
    /// Silence that releases a hold after a short burst.
    pub short_release_ms: u64,
    /// Silence after which the recogniser is asked.
    pub probe_ms: u64,
    /// Silence after a complete sentence.
    pub complete_wait_ms: u64,
    /// Longest silence after an incomplete one.
    pub incomplete_wait_ms: u64,
    /// Longest utterance.
    pub max_utterance_ms: u64,
    /// From `turn_open` to the first frame.
    pub first_output_budget_ms: u64,
    /// Between two frames of an unfinished answer.
    pub stall_budget_ms: u64,
    /// Whether a failed turn is followed by a notice.
    pub failure_notice: bool,
    /// Whether the session begins with a greeting.
    pub greeting: bool,
    /// Whether a resumed session begins with a notice.
    pub takeover_notice: bool,
    /// What becomes of a chat text that arrives while a turn runs.
    pub overlap: Overlap,
    /// What becomes of late events; `remap` lets late words become a proposal of their own.
    pub late_event: LateAction,
    /// How long after the end of an utterance its late words may still become a proposal.
    pub late_grace_ms: u64,
    /// Whether a turn opens only under a bundle of the control plane.
    pub needs_bundle: bool,
    /// What becomes of a turn whose snapshots are stale, missing or incompatible.
    pub snapshot_failure: WhenRefused,
    /// What becomes of a turn whose bundle or plan cannot be made.
    pub plan_failure: WhenRefused,
}

impl Default for TurnPolicy {
    fn default() -> Self {
        Self {
            speech_permille: 500,
            silence_permille: 350,
            interruptions: true,
            confirm_ms: 700,
            confirm_words: 3,
            release_ms: 150,
            short_burst_ms: 250,
            short_release_ms: 100,
            probe_ms: 90,
            complete_wait_ms: 160,
            incomplete_wait_ms: 1500,
            max_utterance_ms: 30_000,
            first_output_budget_ms: 5000,
            stall_budget_ms: 3000,
            failure_notice: true,
            greeting: false,
            takeover_notice: false,
            overlap: Overlap::Preempt,
            late_event: LateAction::Drop,
            late_grace_ms: 0,
            needs_bundle: false,
            snapshot_failure: WhenRefused::Defer,
            plan_failure: WhenRefused::Defer,
        }
    }
}

/// Longest duration that a threshold may have.
pub const MAX_MS: u64 = 600_000;
/// Most words that an interruption may need.
pub const MAX_WORDS: u64 = 100;

impl TurnPolicy {
    /// Checks every range.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let ranges = [
            ("speech_permille", self.speech_permille, 1, 1000),
            ("silence_permille", self.silence_permille, 1, 1000),
            ("confirm_ms", self.confirm_ms, 1, MAX_MS),
            ("confirm_words", self.confirm_words, 1, MAX_WORDS),
            ("release_ms", self.release_ms, 1, MAX_MS),
            ("short_burst_ms", self.short_burst_ms, 1, MAX_MS),
            ("short_release_ms", self.short_release_ms, 1, MAX_MS),
            ("probe_ms", self.probe_ms, 1, MAX_MS),
            ("complete_wait_ms", self.complete_wait_ms, 1, MAX_MS),
            ("incomplete_wait_ms", self.incomplete_wait_ms, 1, MAX_MS),
            ("max_utterance_ms", self.max_utterance_ms, 1, MAX_MS),
            ("first_output_budget_ms", self.first_output_budget_ms, 1, MAX_MS),
            ("stall_budget_ms", self.stall_budget_ms, 1, MAX_MS),
            ("late_grace_ms", self.late_grace_ms, 0, MAX_MS),
        ];
        for (field, value, low, high) in ranges {
            if value < low || value > high {
                return Err(PolicyError {
                    field,
                    value,
                    remedy: format!("choose a value from {low} to {high}"),
                });
            }
        }
        if self.silence_permille > self.speech_permille {
            return Err(PolicyError {
                field: "silence_permille",
                value: self.silence_permille,
                remedy: format!("choose at most speech_permille, which is {}", self.speech_permille),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(TurnPolicy::default().validate(), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_remedy() {
        let policy = TurnPolicy { confirm_ms: 0, ..TurnPolicy::default() };
        let error = policy.validate().expect_err("refused");
        assert_eq!(error.to_string(), "confirm_ms is 0: choose a value from 1 to 600000");
        let policy = TurnPolicy { silence_permille: 501, ..TurnPolicy::default() };
        assert_eq!(policy.validate().expect_err("refused").field, "silence_permille");
    }
}
