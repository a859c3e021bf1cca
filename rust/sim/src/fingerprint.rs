//! One number for everything about a kernel that can matter later.
//!
//! It is taken from the kernel's `Debug` text, so that a new field is part of it by itself: what this
//! file does not know is compared as it stands, which costs merged states and never a wrong merge.
//! Known are: instants, compared by their distance from now; the gate's counters, of which only
//! "none yet" matters to the explorer's operations; counters that decide nothing.

use std::fmt::Write as _;

/// Points in time.
const INSTANTS: [&str; 12] = [
    "deadline_us",
    "last_pass_us",
    "started_us",
    "segment_us",
    "last_speech_us",
    "last_window_us",
    "onset_us",
    "forced_us",
    "now_us",
    "usable_until_us",
    "look_us",
    "until_us",
];
/// A number and then a point in time.
const DATED: [&str; 2] = ["closed", "unanswered"];
/// Only whether they are zero matters: frames come one by one and in order, or are stale.
const FLAGS: [&str; 2] = ["next_sequence", "frames"];
/// They are recorded and decide nothing.
const IGNORED: [&str; 6] = ["crossings", "next", "samples", "shed", "stale_frames", "stale_events"];

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash(pub(crate) u64);

impl Hash {
    pub(crate) const fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }

    fn number(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.byte(byte);
        }
    }
}

/// The number of a state that its `Debug` text tells, seen at `now_us`.
///
/// `skip_to` cuts off what is the same in all states of a run.
pub(crate) fn fingerprint(text: &mut String, state: &dyn std::fmt::Debug, skip_to: &str, now_us: u64) -> u64 {
    text.clear();
    // Writing to a String cannot fail.
    let _ = write!(text, "{state:?}");
    let from = text.find(skip_to).unwrap_or(0);
    let bytes = &text.as_bytes()[from..];
    let mut hash = Hash::new();
    let (mut field, mut count, mut at) = ("", 0, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii_alphabetic() || byte == b'_' {
            let length = run(&bytes[at..], |byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if bytes.get(at + length) == Some(&b':') {
                field = std::str::from_utf8(&bytes[at..at + length]).unwrap_or("");
                count = 0;
            }
            bytes[at..at + length].iter().for_each(|byte| hash.byte(*byte));
            at += length;
        } else if byte.is_ascii_digit() {
            let length = run(&bytes[at..], |byte| byte.is_ascii_digit());
            let digits = std::str::from_utf8(&bytes[at..at + length]).unwrap_or("0");
            let value: u64 = digits.parse().unwrap_or(u64::MAX);
            count += 1;
            hash.number(normalised(field, count, value, now_us));
            at += length;
        } else {
            hash.byte(byte);
            at += 1;
        }
    }
    hash.0
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !belongs(*byte)).unwrap_or(bytes.len())
}

fn normalised(field: &str, count: u32, value: u64, now_us: u64) -> u64 {
    let dated = count == 2 && DATED.contains(&field);
    if IGNORED.contains(&field) {
        0
    } else if FLAGS.contains(&field) {
        value.min(1)
    } else if dated || INSTANTS.contains(&field) {
        value.wrapping_sub(now_us)
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code)] // read through Debug
    struct State {
        constant: u8,
        now_us: u64,
        last_pass_us: Option<u64>,
        closed: (u32, u64),
        frames: u64,
        crossings: u64,
        last_turn: u32,
    }

    fn of(state: &State) -> u64 {
        fingerprint(&mut String::new(), state, "now_us", state.now_us)
    }

    #[test]
    fn states_that_differ_in_time_alone_are_one_and_others_are_not() {
        let state = |now_us, pass_us, frames, last_turn| State {
            constant: 1,
            now_us,
            last_pass_us: pass_us,
            closed: (1, now_us - 5),
            frames,
            crossings: now_us,
            last_turn,
        };
        let one = of(&state(100, Some(90), 1, 2));
        assert_eq!(one, of(&state(200, Some(190), 7, 2)));
        assert_eq!(one, of(&State { constant: 2, ..state(100, Some(90), 1, 2) }));
        assert_ne!(one, of(&state(200, Some(191), 1, 2)));
        assert_ne!(one, of(&state(100, None, 1, 2)));
        assert_ne!(one, of(&state(100, Some(90), 0, 2)));
        assert_ne!(one, of(&state(100, Some(90), 1, 3)));
        assert_ne!(one, of(&State { closed: (2, 95), ..state(100, Some(90), 1, 2) }));
        assert_ne!(one, of(&State { closed: (1, 94), ..state(100, Some(90), 1, 2) }));
    }
}
