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

use crate::evidence::json::Context;
use crate::evidence::record::{Body, Record};
use crate::reason::{Interner, Label, Reason};
use crate::session::SessionKernel;
use crate::signal::Signal;

use compare::{Group, Judge, Place};
use divergence::{rendered, Class, Divergence};
use perform::{give, given};
use words::relabel;

/// Most records that wait to be replayed.
pub const MAX_PENDING: usize = 1 << 20;
/// Most replayed records that wait to be taken; the replay pauses when they are not.
pub const MAX_KEPT: usize = 1 << 16;

/// Where inputs are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// From when on, microseconds.
    pub at_us: u64,
    /// How many records are known to be missing, 0 when nobody knows.
    pub records: u64,
}

/// What comes next in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record, its words numbered by the recording.
    Record(Record),
    /// Records are missing here.
    Missing(Missing),
}

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
    gap: Option<Missing>,
    own_timers: bool,
    kept: Option<VecDeque<Record>>,
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
            own_timers: false,
            kept: None,
        }
    }

    /// Lets the kernel's own timers fire when they are due, and leaves the recorded ticks out.
    ///
    /// For a kernel with other settings, whose timers were never due when the recorded ones were. A
    /// real shell is a little late for a timer, so this is not exact for a recording of one.
    pub const fn use_own_timers(&mut self) {
        self.own_timers = true;
    }

    /// Keeps what the replayed kernel writes, for [`Replay::take_replayed`].
    pub fn keep(&mut self) {
        self.kept.get_or_insert_with(VecDeque::new);
    }

    /// Takes more of the recording; `text` gives the words of its labels.
    ///
    /// # Errors
    /// Too many records wait already.
    pub fn feed<'a>(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
        text: impl Fn(Label) -> &'a str,
    ) -> Result<(), TooMuch> {
        for entry in entries {
            if self.pending.len() >= MAX_PENDING {
                return Err(TooMuch);
            }
            let entry = match entry {
                Entry::Record(mut record) => {
                    record.body = relabel(record.body, |label| self.words.label(text(label)));
                    Entry::Record(record)
                }
                Entry::Missing(_) => entry,
            };
            self.pending.push_back(entry);
        }
        Ok(())
    }

    /// The recording ends here in good order: what the last input led to is complete.
    pub fn finish(&mut self) {
        self.advance(u64::MAX);
        if self.pending.is_empty() {
            self.judge(false);
        }
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
        while self.kept.as_ref().is_none_or(|kept| kept.len() < MAX_KEPT) {
            match self.pending.front().copied() {
                Some(Entry::Record(record)) if go_on(self.position - start, &record) => {
                    self.pending.pop_front();
                    self.take(record);
                    self.position += 1;
                }
                Some(Entry::Missing(missing)) => {
                    self.pending.pop_front();
                    self.miss(missing);
                }
                Some(Entry::Record(_)) | None => break,
            }
        }
        self.position - start
    }

    fn take(&mut self, record: Record) {
        if self.gap.is_some() {
            self.at_us = self.at_us.max(record.at_us);
            return;
        }
        if let Some(missing) = incomplete(&record) {
            return self.miss(missing);
        }
        let starts = given(&record.body) && !(self.own_timers && is_tick(&record.body));
        if starts {
            if self.own_timers {
                self.fire_timers(record.at_us);
            }
            self.judge(false);
        }
        if starts {
            self.order(&record);
        }
        self.at_us = self.at_us.max(record.at_us);
        if !starts && self.recorded.is_empty() && !self.group_given && self.position == 0 {
            let message = String::from("the recording does not begin with an input");
            self.whole(Class::Outcome, message, &record);
        }
        if self.own_timers && is_tick(&record.body) {
            return;
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

    fn fire_timers(&mut self, now_us: u64) {
        let mut last_us = None;
        while let Some(due_us) = self.kernel.next_deadline_us().filter(|due_us| *due_us <= now_us) {
            // A deadline that a tick does not remove would be due for ever.
            if last_us.replace(due_us).is_some_and(|last_us| last_us >= due_us) {
                break;
            }
            let event = crate::input::Event::Tick;
            self.kernel.step(crate::input::Input { now_us: due_us, event });
            self.collect();
        }
    }

    fn collect(&mut self) {
        while let Some(Entry::Record(mut record)) = self.kernel.take_entry() {
            let (kernel, words) = (&self.kernel, &mut self.words);
            record.body = relabel(record.body, |label| words.label(kernel.word(label)));
            if let Some(kept) = &mut self.kept {
                kept.push_back(record);
            }
            if !(self.own_timers && is_tick(&record.body)) {
                self.replayed.push(record);
            }
        }
    }

    fn miss(&mut self, missing: Missing) {
        self.judge(true);
        self.gap.get_or_insert(missing);
    }

    fn judge(&mut self, cut: bool) {
        if self.recorded.is_empty() && self.replayed.is_empty() {
            return;
        }
        let (recorded, replayed, given) = (&self.recorded, &self.replayed, self.group_given);
        let (places, next) = (&self.places, self.position);
        let place = Place { context: &self.context, words: &self.words };
        self.judge.group(&Group { recorded, places, next, replayed, given, cut }, place);
        self.recorded.clear();
        self.places.clear();
        self.replayed.clear();
        self.group_given = false;
    }

    /// Takes up to `limit` of the kept records out, each as one JSON object, oldest first.
    pub fn take_replayed(&mut self, limit: usize, mut take: impl FnMut(&str)) {
        let Some(kept) = &mut self.kept else { return };
        for record in kept.drain(..limit.min(kept.len())) {
            take(&rendered(Some(&record), &self.context, &self.words));
        }
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
        self.judge.compared()
    }

    /// Records that were fed and wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Where the replay ended because inputs are missing.
    #[must_use]
    pub const fn gap(&self) -> Option<Missing> {
        self.gap
    }

    /// What differs, in the order of the recording; that of the latest input once the next one came.
    #[must_use]
    pub fn divergences(&self) -> &[Divergence] {
        self.judge.found().listed()
    }

    /// Divergences that found no room in the list.
    #[must_use]
    pub const fn unlisted(&self) -> u64 {
        self.judge.found().unlisted()
    }
}

const fn is_tick(body: &Body) -> bool {
    matches!(body, Body::Input(crate::input::Event::Tick))
}

/// Records after which what the kernel was given, or could write, is not known from the recording.
fn incomplete(record: &Record) -> Option<Missing> {
    let no_room = Reason::RecordingEvidenceUnavailable;
    let starved = match record.body {
        Body::Signal { signal: Signal::RecordingLevelDowngraded, .. } => true,
        Body::Signal { reason, .. } => reason == Label::Known(no_room),
        Body::Decision(decision) => decision.reason == no_room,
        _ => false,
    };
    starved.then_some(Missing { at_us: record.at_us, records: 0 })
}
