//! Replay: the same kernel run again over what it was given, and judged by what it made of it then.
//!
//! Every recorded input is given again at its recorded time. What the kernel writes about it is one
//! group, and is compared with what was recorded up to the next input; after a difference the replay
//! goes on with the recorded inputs. Where inputs are missing the replay ends: nothing after such a
//! gap is judged, because it may follow from what nobody knows.

pub mod align;
pub mod compare;
pub mod divergence;
pub mod drift;
mod perform;
mod words;

use std::collections::VecDeque;

use crate::bundle::Provenance;
use crate::evidence::codec::Entry;
use crate::evidence::json::Context;
use crate::evidence::record::{Body, Record};
use crate::evidence::ring::Gap;
use crate::reason::{Interner, Label, Reason};
use crate::session::SessionKernel;

use compare::{Group, Judge, Place};
use divergence::{Class, Found};
use perform::{give, given};
use words::{relabel, told};

/// Most records that wait to be replayed.
pub const MAX_PENDING: usize = 1 << 20;

/// Too much was fed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

impl std::fmt::Display for TooMuch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "more than {MAX_PENDING} records wait: advance the replay before feeding more")
    }
}

impl std::error::Error for TooMuch {}

/// A kernel that is run again over a recording.
#[derive(Clone, Debug)]
pub struct Replay {
    kernel: SessionKernel,
    context: Context,
    /// The words of the recording and of the replay in one numbering.
    words: Interner,
    pending: VecDeque<Entry>,
    recorded: Vec<Record>,
    places: Vec<u64>,
    replayed: Vec<Record>,
    group_given: bool,
    judge: Judge,
    position: u64,
    inputs: u64,
    at_us: u64,
    given_us: u64,
    backwards: bool,
    gap: Option<Gap>,
}

impl Replay {
    /// A replay by this kernel, which must be as new as the recorded one was.
    ///
    /// Its Stage A is emptied after every input and therefore never sheds.
    #[must_use]
    pub fn new(kernel: SessionKernel) -> Self {
        let context = kernel.context().clone();
        let at_us = kernel.now_us();
        Self {
            kernel,
            context,
            words: Interner::default(),
            pending: VecDeque::new(),
            recorded: Vec::with_capacity(64),
            places: Vec::with_capacity(64),
            replayed: Vec::with_capacity(64),
            group_given: false,
            judge: Judge::default(),
            position: 0,
            inputs: 0,
            at_us,
            given_us: at_us,
            backwards: false,
            gap: None,
        }
    }

    /// Takes more of the recording; `text` gives the words of its labels, `provenance` what its numbers
    /// of provenances mean.
    ///
    /// # Errors
    /// Too many records wait already.
    pub fn feed<'a>(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
        text: impl Fn(Label) -> &'a str,
        provenance: impl Fn(u32) -> Option<&'a Provenance>,
    ) -> Result<(), TooMuch> {
        for entry in entries {
            if self.pending.len() >= MAX_PENDING {
                return Err(TooMuch);
            }
            let entry = match entry {
                Entry::Record(mut record) => {
                    let held = told(&record.body).and_then(&provenance).cloned();
                    let held = held.map(|provenance| self.words.hold(provenance));
                    record.body = relabel(record.body, |label| self.words.label(text(label)), held);
                    Entry::Record(record)
                }
                Entry::Gap(_) => entry,
            };
            self.pending.push_back(entry);
        }
        Ok(())
    }

    /// The recording ends here in good order: what the last input led to is complete.
    pub fn finish(&mut self) {
        self.advance(u64::MAX);
        self.judge(false);
    }

    /// Goes on by up to `records` records; returns how many it were.
    pub fn advance(&mut self, records: u64) -> u64 {
        self.advance_while(|replay, _| replay < records)
    }

    /// Goes on to the last record that is not later than this; returns how many it were.
    pub fn advance_to_us(&mut self, at_us: u64) -> u64 {
        self.advance_while(|_, next| next.at_us <= at_us)
    }

    /// Goes on until the recording speaks of this turn for the first time; false when it never does.
    pub fn advance_to_turn(&mut self, turn: u32) -> bool {
        let mut reached = false;
        self.advance_while(|_, next| {
            let before = reached;
            reached |= next.turn == turn && !given(&next.body);
            !before
        });
        reached
    }

    fn advance_while(&mut self, mut go_on: impl FnMut(u64, &Record) -> bool) -> u64 {
        let start = self.position;
        while let Some(entry) = self.pending.front().copied() {
            match entry {
                Entry::Record(record) if go_on(self.position - start, &record) => {
                    self.take(record);
                    self.position += 1;
                }
                Entry::Record(_) => break,
                Entry::Gap(gap) => self.miss(gap),
            }
            self.pending.pop_front();
        }
        self.position - start
    }

    fn take(&mut self, record: Record) {
        if self.gap.is_some() {
            self.at_us = self.at_us.max(record.at_us);
            return;
        }
        if let Some(gap) = incomplete(&record) {
            return self.miss(gap);
        }
        let starts = given(&record.body);
        if starts {
            self.judge(false);
            self.order(&record);
        }
        self.at_us = self.at_us.max(record.at_us);
        if !starts && self.recorded.is_empty() && !self.group_given && self.position == 0 {
            let message = String::from("the recording does not begin with an input");
            self.whole(Class::Outcome, message, &record);
        }
        self.recorded.push(record);
        self.places.push(self.position);
        if starts {
            self.group_given = true;
            self.inputs += 1;
            give(&mut self.kernel, &record, &self.words);
            self.collect();
        }
    }

    /// Time never goes back from input to input; told once for each place where it does.
    fn order(&mut self, record: &Record) {
        let backwards = record.at_us < self.given_us;
        if backwards && !self.backwards {
            let message = format!(
                "the input is of {} microseconds and follows one of {}: records have changed places",
                record.at_us, self.given_us
            );
            self.whole(Class::Ordering, message, record);
        }
        self.backwards = backwards;
        self.given_us = self.given_us.max(record.at_us);
    }

    fn whole(&mut self, class: Class, message: String, record: &Record) {
        let place = Place { context: &self.context, words: &self.words };
        self.judge.whole(class, self.position, message, record, place);
    }

    fn collect(&mut self) {
        while let Some(Entry::Record(mut record)) = self.kernel.take_entry() {
            let (kernel, words) = (&self.kernel, &mut self.words);
            let held = told(&record.body).and_then(|place| kernel.provenance(place)).cloned();
            let held = held.map(|provenance| words.hold(provenance));
            record.body = relabel(record.body, |label| words.label(kernel.word(label)), held);
            self.replayed.push(record);
        }
    }

    fn miss(&mut self, gap: Gap) {
        self.judge(true);
        self.gap.get_or_insert(gap);
    }

    fn judge(&mut self, cut: bool) {
        if self.recorded.is_empty() && self.replayed.is_empty() {
            return;
        }
        let mut judge = std::mem::take(&mut self.judge);
        self.judge_with(&mut judge, cut);
        self.judge = judge;
        self.recorded.clear();
        self.places.clear();
        self.replayed.clear();
        self.group_given = false;
    }

    fn judge_with(&self, judge: &mut Judge, cut: bool) {
        let (recorded, replayed, given) = (&self.recorded, &self.replayed, self.group_given);
        let (places, next) = (&self.places, self.position);
        let place = Place { context: &self.context, words: &self.words };
        judge.group(&Group { recorded, replayed, places, next, given, cut }, place);
    }

    /// The kernel, as the recorded one was after the record before the position.
    #[must_use]
    pub const fn kernel(&self) -> &SessionKernel {
        &self.kernel
    }

    /// Index of the next record.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Time of the latest record, microseconds.
    #[must_use]
    pub const fn at_us(&self) -> u64 {
        self.at_us
    }

    /// Inputs given.
    #[must_use]
    pub const fn inputs(&self) -> u64 {
        self.inputs
    }

    /// Recorded records that were compared.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.judge.compared() + self.recorded.len() as u64
    }

    /// Records that were fed and wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Where the replay ended because inputs are missing; 0 records when nobody knows how many.
    #[must_use]
    pub const fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// What differs up to the position, in the order of the recording.
    ///
    /// What the latest input led to is judged as far as it was recorded; only the next input, or
    /// [`Replay::finish`], shows that something is missing at its end.
    #[must_use]
    pub fn found(&self) -> Found {
        let mut judge = self.judge.clone();
        self.judge_with(&mut judge, true);
        judge.into_found()
    }
}

/// Records after which what the kernel was given, or could write, is not known from the recording.
fn incomplete(record: &Record) -> Option<Gap> {
    let no_room = Reason::RecordingEvidenceUnavailable;
    let starved = match record.body {
        Body::Signal { reason, .. } => {
            reason == Label::Known(no_room) || reason == Label::Known(Reason::StageADetailOverflow)
        }
        Body::Decision(decision) => decision.reason == no_room,
        _ => false,
    };
    starved.then(|| Gap::noted(record.at_us, 0))
}
