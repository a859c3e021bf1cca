//! The event envelope: lanes, payload classes, scopes, the sequence and the identity of events.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::names::named_enum;

/// Version of the event contract that this kernel writes.
pub const SCHEMA_VERSION: &str = "v1.0";

named_enum! {
    /// Quality-of-service class; earlier ones preempt later ones.
    pub enum Lane {
        Control => "ControlLane", Data => "DataLane", Telemetry => "TelemetryLane",
    }
}

named_enum! {
    /// The one primary data class of a payload.
    pub enum PayloadClass {
        Pii => "PII", Phi => "PHI", AudioRaw => "audio_raw", TextRaw => "text_raw",
        DerivedSummary => "derived_summary", Metadata => "metadata",
    }
}

named_enum! {
    /// Lifecycle scope of an event.
    pub enum EventScope {
        Session => "session", Turn => "turn",
    }
}

/// Allocates `runtime_sequence`: one counter per session, strictly increasing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceAllocator {
    next: u64,
}

impl SequenceAllocator {
    /// The next number.
    pub fn allocate(&mut self) -> u64 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }
}

/// Appends `part` with its separators escaped, so that ids of different parts never collide.
///
/// Everything but ASCII letters, digits and `-`, `_`, `.`, `~` becomes `%XX`, per byte of UTF-8.
pub fn escape_into(out: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Reads back what [`escape_into`] wrote; none if it could not have written it.
#[must_use]
pub fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else {
                return None;
            };
            let digit = |hex: u8| char::from(hex).to_digit(16);
            let value = digit(*high)? * 16 + digit(*low)?;
            bytes.push(u8::try_from(value).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut again = String::with_capacity(escaped.len());
    escape_into(&mut again, &text);
    (again == escaped).then_some(text)
}

/// Appends the id of an event: `evt/<session>/<epoch>/<turn or "session">/<ordinal>`.
///
/// The epoch is part of it because a runtime that takes a session over counts its events from zero.
/// `session` is escaped already; a turn's part is its number, which the word `session` cannot equal.
pub fn event_id_into(out: &mut String, escaped_session: &str, epoch: u64, turn: Option<u32>, ordinal: u64) {
    let _ = match turn {
        Some(turn) => write!(out, "evt/{escaped_session}/{epoch}/{turn}/{ordinal:06}"),
        None => write!(out, "evt/{escaped_session}/{epoch}/session/{ordinal:06}"),
    };
}

/// What stands in the evidence for an id from outside: the first 8 bytes of its SHA-256, big endian.
#[must_use]
pub fn fingerprint(id: &str) -> u64 {
    let digest = Sha256::digest(id);
    digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Appends the id of a turn, unique over takeovers: `turn-<epoch>-<number>`.
pub fn turn_id_into(out: &mut String, epoch: u64, turn: u32) {
    let _ = write!(out, "turn-{epoch}-{turn}");
}

/// The id of a turn.
#[must_use]
pub fn turn_id(epoch: u64, turn: u32) -> String {
    let mut id = String::with_capacity(40);
    turn_id_into(&mut id, epoch, turn);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaping_round_trips_and_hides_separators(part in any::<String>()) {
            let mut escaped = String::new();
            escape_into(&mut escaped, &part);
            prop_assert!(!escaped.contains('/') && !escaped.contains(' '));
            prop_assert_eq!(unescape(&escaped), Some(part));
        }

        #[test]
        fn ids_of_different_events_differ(
            one in "[a/_%]{1,4}", two in "[a/_%]{1,4}", epochs in (0u64..3, 0u64..3),
            turns in (proptest::option::of(0u32..3), proptest::option::of(0u32..3)),
            ordinals in (0u64..3, 0u64..3),
        ) {
            let id = |session: &str, epoch, turn, ordinal| {
                let mut escaped = String::new();
                escape_into(&mut escaped, session);
                let mut id = String::new();
                event_id_into(&mut id, &escaped, epoch, turn, ordinal);
                id
            };
            let first = id(&one, epochs.0, turns.0, ordinals.0);
            let second = id(&two, epochs.1, turns.1, ordinals.1);
            let same = one == two && epochs.0 == epochs.1 && turns.0 == turns.1 && ordinals.0 == ordinals.1;
            prop_assert_eq!(first == second, same);
        }
    }

    #[test]
    fn sessions_that_the_old_rule_confused_keep_apart() {
        let (mut slash, mut underscore) = (String::new(), String::new());
        escape_into(&mut slash, "a/b");
        escape_into(&mut underscore, "a_b");
        assert_ne!(slash, underscore);
        assert_eq!(unescape("a%2"), None);
        assert_eq!(unescape("a b"), None);
        assert_eq!(unescape("%61"), None);
    }

    #[test]
    fn sequences_rise_strictly() {
        let mut sequences = SequenceAllocator::default();
        assert_eq!([sequences.allocate(), sequences.allocate(), sequences.allocate()], [0, 1, 2]);
    }

    #[test]
    fn control_preempts_data_and_data_telemetry() {
        assert!(Lane::Control < Lane::Data && Lane::Data < Lane::Telemetry);
        assert_eq!(PayloadClass::parse("metadata"), Some(PayloadClass::Metadata));
    }
}
