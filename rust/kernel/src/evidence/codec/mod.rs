//! Evidence records as bytes: small, self-contained blocks that are read back exactly.
//!
//! A block is one byte with the format's number and then entries. An entry is
//!
//! ```text
//! tag       the number of its kind; the highest bit says that changes follow
//! changes   one byte of flags, then what differs from the entry before: sequence, epoch,
//!           epoch of the turn, turn
//! time      difference to the time that was expected, zigzag
//! fields    as the kind has them; enumerations by their numbers, words by their place in the block
//! ```
//!
//! Integers are LEB128 in their shortest form. Nothing refers to another block. What was expected is
//! computed from the entries before it, by [`Expected`] for writer and reader alike: a frame that
//! follows the last one in time and sequence takes two or three bytes. The numbers of enumerations are
//! their positions, which therefore never move; `contracts/evidence-numbers.json` holds them.

mod decode;
mod encode;
mod numbers;

pub use decode::{decode, DecodeError, Decoded};
pub use encode::Encoder;
pub use numbers::{numbers, Kind, Notice};

use crate::evidence::record::{Body, Record};
use crate::evidence::ring::Gap;
use crate::fence::Verdict;
use crate::input::Event;

/// Number of the format that is written.
pub const FORMAT: u8 = 1;
/// Most bytes of a block.
pub const MAX_BLOCK_BYTES: usize = 1 << 20;
/// Set in a tag when changes follow.
const CHANGED: u8 = 0x80;
/// Flags of the changes.
const SEQUENCE: u8 = 1;
const EPOCH: u8 = 2;
const TURN_EPOCH: u8 = 4;
const TURN: u8 = 8;

/// One entry of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record(Record),
    /// A note of records that found no room.
    Gap(Gap),
}

/// A stream of entries that come at a steady pace.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    at_us: u64,
    gap_us: u64,
    seen: bool,
}

impl Pace {
    fn next_us(self, otherwise_us: u64) -> u64 {
        if self.seen {
            self.at_us.wrapping_add(self.gap_us)
        } else {
            otherwise_us
        }
    }

    fn take(&mut self, at_us: u64) {
        self.gap_us = if self.seen { at_us.wrapping_sub(self.at_us) } else { 0 };
        self.at_us = at_us;
        self.seen = true;
    }
}

/// What the next entry is expected to be, from those before it in the block.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    at_us: u64,
    /// The `runtime_sequence` that a signal or decision takes.
    sequence: u64,
    epoch: u64,
    turn_epoch: u64,
    turn: u32,
    frames: Pace,
    frame_sequence: u64,
    frame_samples: u64,
    frame_epoch: u64,
    windows: Pace,
    media_sample: u64,
    media_step: u64,
}

impl Expected {
    fn at_us(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Frame | Kind::NextFrame => self.frames.next_us(self.at_us),
            Kind::VoiceActivity | Kind::NextWindow => self.windows.next_us(self.at_us),
            _ => self.at_us,
        }
    }

    fn sequence(&self, kind: Kind) -> u64 {
        if matches!(kind, Kind::Signal | Kind::Decision | Kind::Edge) {
            self.sequence
        } else {
            0
        }
    }

    fn media_sample(&self) -> u64 {
        self.media_sample.wrapping_add(self.media_step)
    }

    /// The kind under which a record is written; the short ones say that their fields are as expected.
    fn kind(&self, record: &Record) -> Kind {
        match record.body {
            Body::Frame { sequence, samples, epoch, verdict: Verdict::Pass }
                if (sequence, samples, epoch)
                    == (self.frame_sequence, self.frame_samples, self.frame_epoch) =>
            {
                Kind::NextFrame
            }
            Body::Input(Event::VoiceActivity { media_sample, .. }) if media_sample == self.media_sample() => {
                Kind::NextWindow
            }
            body => numbers::kind(body),
        }
    }

    fn take(&mut self, record: &Record) {
        self.at_us = record.at_us;
        (self.epoch, self.turn_epoch, self.turn) = (record.epoch, record.turn_epoch, record.turn);
        match record.body {
            Body::Signal { .. } | Body::Decision(_) | Body::Edge(_) => {
                self.sequence = record.sequence.wrapping_add(1);
            }
            Body::Frame { sequence, samples, epoch, .. } => {
                self.frames.take(record.at_us);
                self.frame_sequence = sequence.wrapping_add(1);
                (self.frame_samples, self.frame_epoch) = (samples, epoch);
            }
            Body::Input(Event::VoiceActivity { media_sample, .. }) => {
                self.windows.take(record.at_us);
                self.media_step = media_sample.wrapping_sub(self.media_sample);
                self.media_sample = media_sample;
            }
            _ => {}
        }
    }
}

/// A difference as a number that is small when the difference is, whatever its sign.
const fn zigzag(value: u64, expected: u64) -> u64 {
    let difference = value.wrapping_sub(expected).cast_signed();
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

const fn unzigzag(coded: u64, expected: u64) -> u64 {
    expected.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg())
}

#[cfg(test)]
mod tests;
