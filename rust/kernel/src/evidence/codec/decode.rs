//! Reading a block: whatever the bytes are, either the records that were written or where it fails.

use crate::admission::Place;
use crate::bundle::{Actions, Provenance, TurnStart};
use crate::decision::Decision;
use crate::edge::notice::What;
use crate::evidence::codec::numbers::{member_at, Kind, Notice, Numbered};
use crate::evidence::codec::{
    unzigzag, Entry, Expected, CHANGED, EPOCH, FORMAT, MAX_BLOCK_BYTES, SEQUENCE, TURN, TURN_EPOCH,
};
use crate::evidence::record::{AttemptRecord, Body, Call, EdgeRecord, Record};
use crate::evidence::ring::Gap;
use crate::fence::Verdict;
use crate::input::{Event, Transcript};
use crate::invocation::outcome::Ending;
use crate::plan::{PlanHash, ResolvedTurnPlan};
use crate::reason::{Interner, Label, Reason};
use crate::turn::Transition;

/// Where a block cannot be read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// First byte at fault.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "byte {}: {}", self.offset, self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// What a block holds.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// Records and gaps, oldest first.
    pub entries: Vec<Entry>,
    /// The words of the block, which the labels of its records refer to.
    pub words: Interner,
}

/// Reads a block.
///
/// # Errors
/// The block was not written by an [`Encoder`](super::Encoder) of this format, or was cut or changed.
pub fn decode(block: &[u8]) -> Result<Decoded, DecodeError> {
    let mut decoded = Decoded::default();
    if block.is_empty() {
        return Ok(decoded);
    }
    if block.len() > MAX_BLOCK_BYTES {
        return Err(DecodeError { offset: MAX_BLOCK_BYTES, reason: "the block is too long" });
    }
    let mut reader = Reader { block, place: 0, expected: Expected::default(), words: Interner::default() };
    if reader.byte()? != FORMAT {
        return Err(DecodeError { offset: 0, reason: "the format is not known" });
    }
    while reader.place < block.len() {
        if let Some(entry) = reader.entry()? {
            decoded.entries.push(entry);
        }
    }
    decoded.words = reader.words;
    Ok(decoded)
}

struct Reader<'block> {
    block: &'block [u8],
    place: usize,
    expected: Expected,
    words: Interner,
}

type Read<T> = Result<T, DecodeError>;

impl<'block> Reader<'block> {
    fn entry(&mut self) -> Read<Option<Entry>> {
        let offset = self.place;
        let tag = self.byte()?;
        let number = u64::from(tag & !CHANGED);
        let kind =
            member_at(number).ok_or(DecodeError { offset, reason: "the kind of entry is not known" })?;
        match kind {
            Kind::Word | Kind::Gap if tag & CHANGED != 0 => {
                Err(DecodeError { offset, reason: "this entry has no changes" })
            }
            Kind::Word => self.word().map(|()| None),
            Kind::Gap => {
                let at_us = unzigzag(self.number()?, self.expected.at_us);
                self.expected.at_us = at_us;
                Ok(Some(Entry::Gap(Gap::noted(at_us, self.number()?))))
            }
            _ => {
                let record = self.record(kind, tag & CHANGED != 0)?;
                self.expected.take(&record);
                Ok(Some(Entry::Record(record)))
            }
        }
    }

    fn word(&mut self) -> Read<()> {
        let offset = self.place;
        let text = self.text()?;
        if self.words.keep(text) {
            Ok(())
        } else {
            Err(DecodeError { offset, reason: "this word needs no telling, or there are too many" })
        }
    }

    fn text(&mut self) -> Read<&'block str> {
        let offset = self.place;
        let fault = |reason| DecodeError { offset, reason };
        let length = usize::try_from(self.number()?).map_err(|_| fault("the word is too long"))?;
        let end = self.place.checked_add(length).filter(|end| *end <= self.block.len());
        let end = end.ok_or(fault("the block ends within a word"))?;
        let text = std::str::from_utf8(&self.block[self.place..end]);
        self.place = end;
        text.map_err(|_| fault("the word is not UTF-8"))
    }

    fn turn_start(&mut self) -> Read<TurnStart<Label>> {
        Ok(TurnStart {
            version: self.number()?,
            usable_until_us: self.number()?,
            authority_epoch: self.number()?,
            claim_us: self.number()?,
            admission_reason: self.label()?,
            failure: self.optional()?,
            admission: self.member()?,
            admission_scope: self.member()?,
            authority_valid: self.flag()?,
            authority_authorized: self.flag()?,
            actions: {
                let fault = self.fault("an adaptive action is not known");
                Actions::numbered(self.byte()?).ok_or(fault)?
            },
            provenance: if self.flag()? { Some(self.provenance()?) } else { None },
        })
    }

    fn provenance(&mut self) -> Read<u32> {
        let fault = self.fault("a reference is empty or too long");
        let mut references = [""; 6];
        for reference in &mut references {
            *reference = self.text()?;
        }
        Ok(self.words.hold(Provenance::new(references).map_err(|_| fault)?))
    }

    fn record(&mut self, kind: Kind, differs: bool) -> Read<Record> {
        let expected = self.expected;
        let mut sequence = expected.sequence(kind);
        let (mut epoch, mut turn_epoch, mut turn) = (expected.epoch, expected.turn_epoch, expected.turn);
        if differs {
            let offset = self.place;
            let changes = self.byte()?;
            if changes == 0 || changes & !(SEQUENCE | EPOCH | TURN_EPOCH | TURN) != 0 {
                return Err(DecodeError { offset, reason: "the changes are not known" });
            }
            if changes & SEQUENCE != 0 {
                sequence = self.changed(sequence)?;
            }
            if changes & EPOCH != 0 {
                epoch = self.changed(epoch)?;
            }
            if changes & TURN_EPOCH != 0 {
                turn_epoch = self.changed(turn_epoch)?;
            }
            if changes & TURN != 0 {
                let offset = self.place;
                let told = u32::try_from(self.changed(u64::from(turn))?);
                turn = told.map_err(|_| DecodeError { offset, reason: "the turn is too large" })?;
            }
        }
        let at_us = unzigzag(self.number()?, expected.at_us(kind));
        let body = self.body(kind, at_us, epoch)?;
        Ok(Record { at_us, sequence, epoch, turn_epoch, turn, body })
    }

    /// A value that differs from the one before.
    fn changed(&mut self, before: u64) -> Read<u64> {
        let offset = self.place;
        match self.number()? {
            0 => Err(DecodeError { offset, reason: "a change that changes nothing" }),
            coded => Ok(unzigzag(coded, before)),
        }
    }

    fn body(&mut self, kind: Kind, at_us: u64, epoch: u64) -> Read<Body> {
        Ok(match kind {
            Kind::Signal => Body::Signal {
                signal: self.member()?,
                emitter: self.member()?,
                scope: self.member()?,
                reason: self.label()?,
                reach: self.optional()?,
                invocation: self.narrow()?,
            },
            Kind::Decision => Body::Decision(Decision {
                outcome: self.member()?,
                phase: self.member()?,
                scope: self.member()?,
                decider: self.member()?,
                reason: self.member()?,
            }),
            Kind::Transition => Body::Transition(Transition {
                from: self.member()?,
                trigger: self.member()?,
                to: self.member()?,
            }),
            Kind::Marker => Body::Marker { name: self.member()?, value: self.number()? },
            Kind::Plan => {
                let hash = PlanHash(self.bytes()?);
                Body::Plan(ResolvedTurnPlan { hash, seed: u64::from_le_bytes(self.bytes()?) })
            }
            Kind::AgentState => Body::AgentState(self.member()?),
            Kind::NextFrame => Body::Frame {
                sequence: self.expected.frame_sequence,
                samples: self.expected.frame_samples,
                epoch: self.expected.frame_epoch,
                verdict: Verdict::Pass,
            },
            Kind::Frame => Body::Frame {
                verdict: self.member()?,
                sequence: unzigzag(self.number()?, self.expected.frame_sequence),
                samples: self.number()?,
                epoch: unzigzag(self.number()?, epoch),
            },
            Kind::Provider => Body::Provider {
                reported: self.flag()?,
                modality: self.member()?,
                outcome: self.member()?,
                latency_us: self.number()?,
            },
            Kind::Attempt => Body::Attempt(AttemptRecord {
                invocation: self.narrow()?,
                modality: self.member()?,
                provider: self.label()?,
                attempt: self.narrow()?,
                outcome: self.member()?,
                reason: self.label()?,
                retryable: self.flag()?,
                decision: self.member()?,
                next_provider: self.label()?,
                latency_us: self.number()?,
            }),
            Kind::Edge => self.edge()?,
            Kind::Invoke => Body::Call(Call::Invoke { modality: self.member()? }),
            Kind::OutputHandedOn => Body::Call(Call::OutputHandedOn { invocation: self.narrow()? }),
            Kind::AttemptFinished => Body::Call(Call::AttemptFinished {
                invocation: self.narrow()?,
                ending: Ending {
                    class: self.member()?,
                    reason: self.optional()?,
                    retryable: self.flag()?,
                    opens_circuit: self.flag()?,
                    backoff_ms: self.number()?,
                },
                idle_us: self.number()?,
            }),
            Kind::Ingress => Body::Call(Call::Ingress { carrier: self.carrier()? }),
            Kind::Arrival => Body::Call(Call::Arrival {
                number: self.narrow()?,
                event: self.number()?,
                bytes: self.number()?,
                carrier: self.carrier()?,
            }),
            Kind::Reattach => Body::Call(Call::Reattach { turns: self.narrow()?, messages: self.narrow()? }),
            Kind::DeadlinePassed => Body::Call(Call::DeadlinePassed),
            Kind::LevelLowered => Body::Call(Call::LevelLowered { reason: self.member()? }),
            Kind::TurnStart => Body::Call(Call::TurnStart(self.turn_start()?)),
            Kind::Admission => Body::Call(Call::Admission(Place {
                point: self.member()?,
                outcome: self.member()?,
                reason: self.member()?,
                snapshot: self.label()?,
                key: self.label()?,
                in_use: self.narrow()?,
                places: self.narrow()?,
                key_in_use: self.narrow()?,
                key_share: self.narrow()?,
                claim_us: self.number()?,
            })),
            _ => Body::Input(self.input(kind, at_us, epoch)?),
        })
    }

    fn carrier(&mut self) -> Read<Option<i64>> {
        Ok(if self.flag()? { Some(unzigzag(self.number()?, 0).cast_signed()) } else { None })
    }

    fn edge(&mut self) -> Read<Body> {
        let notice = self.member()?;
        let (scope, lane, name) = (self.member()?, self.member()?, self.label()?);
        let what = match notice {
            Notice::Watermark => What::Watermark(self.member()?),
            Notice::FlowXoff => What::FlowXoff,
            Notice::FlowXon => What::FlowXon,
            Notice::CreditGrant => What::CreditGrant(self.number()?),
            Notice::DropNotice => {
                let (reason, first) = (self.member()?, self.number()?);
                What::DropNotice { reason, first, last: unzigzag(self.number()?, first) }
            }
            Notice::Discontinuity => What::Discontinuity(self.number()?),
            Notice::Shed => What::Shed(self.member()?),
        };
        Ok(Body::Edge(EdgeRecord { what, scope, lane, name }))
    }

    fn input(&mut self, kind: Kind, at_us: u64, epoch: u64) -> Read<Event<Label>> {
        Ok(match kind {
            Kind::Lease => Event::Lease {
                epoch: unzigzag(self.number()?, epoch),
                deadline_us: unzigzag(self.number()?, at_us),
            },
            Kind::LeaseLost => Event::LeaseLost { reason: self.label()? },
            Kind::Start => Event::Start { resumed: self.flag()? },
            Kind::Tick => Event::Tick,
            Kind::NextWindow => {
                let media_sample = self.expected.media_sample();
                Event::VoiceActivity { media_sample, permille: self.permille()? }
            }
            Kind::VoiceActivity => Event::VoiceActivity {
                media_sample: unzigzag(self.number()?, self.expected.media_sample()),
                permille: self.permille()?,
            },
            Kind::Transcript => Event::Transcript(Transcript {
                utterance: self.narrow()?,
                revision: self.narrow()?,
                words: self.narrow()?,
                backchannel: self.flag()?,
                complete: self.flag()?,
                probe: self.flag()?,
            }),
            Kind::TextMessage => Event::TextMessage { reference: self.narrow()? },
            Kind::Cancel => Event::Cancel { signal: self.member()? },
            Kind::GenerationFinished => Event::GenerationFinished { turn: self.narrow()? },
            Kind::GenerationFailed => Event::GenerationFailed { turn: self.narrow()?, reason: self.label()? },
            Kind::Playback => {
                Event::Playback { turn: self.narrow()?, event: self.member()?, samples: self.number()? }
            }
            Kind::Connection => Event::Connection { state: self.member()?, reason: self.label()? },
            Kind::CancelWithin => Event::CancelWithin { scope: self.member()?, target: self.narrow()? },
            Kind::RoutingView => Event::RoutingView { epoch: self.number()? },
            Kind::Migration => Event::Migration { step: self.member()?, epoch: self.number()? },
            Kind::Drain => Event::Drain,
            _ => return Err(self.fault("the kind of entry is no input")),
        })
    }

    const fn fault(&self, reason: &'static str) -> DecodeError {
        DecodeError { offset: self.place, reason }
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = self.block.get(self.place).ok_or(self.fault("the block ends within an entry"))?;
        self.place += 1;
        Ok(*byte)
    }

    fn bytes<const LENGTH: usize>(&mut self) -> Read<[u8; LENGTH]> {
        let bytes = self.block[self.place..].first_chunk::<LENGTH>();
        let bytes = *bytes.ok_or(self.fault("the block ends within an entry"))?;
        self.place += LENGTH;
        Ok(bytes)
    }

    fn number(&mut self) -> Read<u64> {
        let offset = self.place;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                break;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                if low == 0 && shift > 0 {
                    return Err(DecodeError { offset, reason: "a number is longer than it need be" });
                }
                return Ok(value);
            }
        }
        Err(DecodeError { offset, reason: "a number has more than 64 bits" })
    }

    fn narrow<T: TryFrom<u64>>(&mut self) -> Read<T> {
        let offset = self.place;
        T::try_from(self.number()?).map_err(|_| DecodeError { offset, reason: "a number is too large" })
    }

    fn permille(&mut self) -> Read<u16> {
        let offset = self.place;
        let permille: u16 = self.narrow()?;
        if permille > 1000 {
            return Err(DecodeError { offset, reason: "a probability is above 1000 permille" });
        }
        Ok(permille)
    }

    fn flag(&mut self) -> Read<bool> {
        let offset = self.place;
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError { offset, reason: "a flag is neither 0 nor 1" }),
        }
    }

    fn member<T: Numbered>(&mut self) -> Read<T> {
        let offset = self.place;
        member_at(self.number()?).ok_or(DecodeError { offset, reason: "a number stands for nothing known" })
    }

    fn optional<T: Numbered>(&mut self) -> Read<Option<T>> {
        let offset = self.place;
        match self.number()?.checked_sub(1) {
            None => Ok(None),
            Some(number) => member_at(number)
                .map(Some)
                .ok_or(DecodeError { offset, reason: "a number stands for nothing known" }),
        }
    }

    fn label(&mut self) -> Read<Label> {
        let offset = self.place;
        let number = self.number()?;
        let label = match number {
            0 => Some(Label::Empty),
            odd if odd % 2 == 1 => member_at::<Reason>(odd / 2).map(Label::Known),
            even => self.words.kept(even / 2 - 1),
        };
        label.ok_or(DecodeError { offset, reason: "a reason or word that is not known" })
    }
}
