//! Comparing what one input led to, as it was recorded and as the kernel does it now.

use crate::evidence::json::Context;
use crate::evidence::record::{Body, Marker, Record};
use crate::fence::Verdict;
use crate::reason::Interner;
use crate::replay::align::{self, Pair};
use crate::replay::divergence::{class_of, rendered, scope_of, Class, Divergence, Found};
use crate::replay::drift::Drift;
use crate::replay::perform::given;
use crate::replay::words::describe;

/// One input with its consequences, twice.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// As recorded; the input in front.
    pub recorded: &'a [Record],
    /// As replayed; the input in front, if it was recorded again.
    pub replayed: &'a [Record],
    /// Index of each recorded one.
    pub places: &'a [u64],
    /// Index of the record after them.
    pub next: u64,
    /// Whether an input is in front.
    pub given: bool,
    /// Whether the recorded ones may break off early.
    pub cut: bool,
}

/// What is needed to say where a divergence is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What the records of the session share.
    pub context: &'a Context,
    /// The words in them.
    pub words: &'a Interner,
}

/// Compares group by group and keeps what it found.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    found: Found,
    turn: Drift,
    epoch: Drift,
    turn_epoch: Drift,
    sequence: Drift,
    time: Drift,
    frame: Option<(u32, Verdict, Verdict, usize)>,
    calm: bool,
    compared: u64,
}

impl Judge {
    /// What was found.
    #[must_use]
    pub fn into_found(self) -> Found {
        self.found
    }

    /// Records that were compared.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.compared
    }

    /// Compares one group.
    pub fn group(&mut self, group: &Group<'_>, place: Place<'_>) {
        let Group { recorded, places, mut replayed, .. } = *group;
        self.compared += recorded.len() as u64;
        if group.cut {
            // What would have come next was lost, so only what is there can be wrong.
            replayed = &replayed[..replayed.len().min(recorded.len())];
        }
        if recorded == replayed {
            if !self.calm {
                self.settle(recorded);
            }
            return;
        }
        self.calm = false;
        let alignment = align::align(recorded, replayed, group.given);
        if let Some(Pair { recorded: Some(first), replayed: Some(second) }) = alignment.displaced {
            let (first_record, second_record) = (&recorded[first], &replayed[second]);
            let message =
                format!("{} comes where the replay has {}", describe(first_record), describe(second_record));
            let both = (Some(first_record), Some(second_record));
            self.tell(Class::Ordering, places[first], message, None, both, place);
        }
        // What is only in the replay stands before the next recorded one.
        let mut after = 0;
        for Pair { recorded: first, replayed: second } in alignment.pairs {
            let at = places.get(first.unwrap_or(after)).copied().unwrap_or(group.next);
            after = first.map_or(after, |first| first + 1);
            match (first.map(|first| &recorded[first]), second.map(|second| &replayed[second])) {
                (Some(first), Some(second)) => {
                    self.pair(at, first, second, alignment.displaced.is_some(), place);
                }
                (Some(first), None) => {
                    self.explain();
                    let message = if given(&first.body) {
                        format!("{} changed nothing in the replay", describe(first))
                    } else {
                        format!("{} is missing in the replay", describe(first))
                    };
                    self.tell(class_of(&first.body), at, message, None, (Some(first), None), place);
                }
                (None, Some(second)) => {
                    self.explain();
                    let message = format!("{} is only in the replay", describe(second));
                    self.tell(class_of(&second.body), at, message, None, (None, Some(second)), place);
                }
                (None, None) => {}
            }
        }
    }

    /// Says something about the recording as a whole.
    pub fn whole(&mut self, class: Class, index: u64, message: String, record: &Record, place: Place<'_>) {
        let full = self.found.full();
        self.tell(class, index, message, None, (Some(record), None), place);
        if let Some(last) = self.found.last_mut().filter(|_| !full) {
            last.scope = String::from("trace");
        }
    }

    fn explain(&mut self) {
        self.turn.explain();
        self.sequence.explain();
    }

    /// The two agree again: what had shifted is back in place.
    fn settle(&mut self, records: &[Record]) {
        for record in records {
            self.turn.check(u64::from(record.turn), u64::from(record.turn));
            self.epoch.check(record.epoch, record.epoch);
            self.turn_epoch.check(record.turn_epoch, record.turn_epoch);
            self.sequence.check(record.sequence, record.sequence);
            self.time.check(record.at_us, record.at_us);
            if matches!(record.body, Body::Frame { .. }) {
                self.frame = None;
            }
        }
        let still = [self.turn, self.epoch, self.turn_epoch, self.sequence, self.time];
        self.calm = still.iter().all(Drift::calm) && self.frame.is_none();
    }

    fn pair(&mut self, at: u64, first: &Record, second: &Record, displaced: bool, place: Place<'_>) {
        let both = (Some(first), Some(second));
        if let (Body::Frame { verdict: was, .. }, Body::Frame { verdict: now, .. }) =
            (first.body, second.body)
        {
            self.verdicts(at, was, now, first, second, place);
        } else if let Some((class, message, diff_us)) = content(first, second) {
            self.tell(class, at, message, diff_us, both, place);
        }
        if self.turn.check(u64::from(first.turn), u64::from(second.turn)) {
            let message = apart(first, "turn", u64::from(first.turn), u64::from(second.turn));
            self.tell(Class::Outcome, at, message, None, both, place);
        }
        let epoch = self.epoch.check(first.epoch, second.epoch);
        let turn_epoch = self.turn_epoch.check(first.turn_epoch, second.turn_epoch);
        if epoch || turn_epoch {
            let (was, now) =
                if epoch { (first.epoch, second.epoch) } else { (first.turn_epoch, second.turn_epoch) };
            self.tell(Class::Authority, at, apart(first, "epoch", was, now), None, both, place);
        }
        if self.sequence.check(first.sequence, second.sequence) && !displaced {
            let message = apart(first, "runtime_sequence", first.sequence, second.sequence);
            self.tell(Class::Ordering, at, message, None, both, place);
        }
        if self.time.check(first.at_us, second.at_us) {
            let diff_us = Some(first.at_us.abs_diff(second.at_us));
            let message = apart(first, "at_us", first.at_us, second.at_us);
            self.tell(Class::Timing, at, message, diff_us, both, place);
        }
    }

    fn verdicts(
        &mut self,
        at: u64,
        was: Verdict,
        now: Verdict,
        first: &Record,
        second: &Record,
        place: Place<'_>,
    ) {
        if was == now {
            self.frame = None;
            return;
        }
        match self.frame {
            Some((turn, earlier_was, earlier_now, listed))
                if (turn, earlier_was, earlier_now) == (first.turn, was, now) =>
            {
                self.found.repeat(listed);
            }
            _ => {
                self.frame = Some((first.turn, was, now, self.found.listed().len()));
                let message = format!("the gate said {} to a frame and now says {}", was.name(), now.name());
                let both = (Some(first), Some(second));
                self.tell(Class::Outcome, at, message, None, both, place);
            }
        }
    }

    fn tell(
        &mut self,
        class: Class,
        index: u64,
        message: String,
        diff_us: Option<u64>,
        (recorded, replayed): (Option<&Record>, Option<&Record>),
        place: Place<'_>,
    ) {
        let Some(about) = recorded.or(replayed) else { return };
        if self.found.full() {
            // Nothing is rendered for what will not be listed.
            self.found.count();
            return;
        }
        self.found.add(Divergence {
            class,
            scope: scope_of(about, place.context),
            turn: about.turn,
            at_us: about.at_us,
            index,
            message,
            recorded: rendered(recorded, place.context, place.words),
            replayed: rendered(replayed, place.context, place.words),
            diff_us,
            repeats: 0,
        });
    }
}

fn apart(record: &Record, field: &str, was: u64, now: u64) -> String {
    format!("{field} of {} was {was} and now is {now}", describe(record))
}

/// What differs in the bodies of two records that belong together.
fn content(first: &Record, second: &Record) -> Option<(Class, String, Option<u64>)> {
    if first.body == second.body {
        return None;
    }
    let timing = |was: u64, now: u64| {
        let message = apart(first, "the time taken", was, now);
        Some((Class::Timing, message, Some(was.abs_diff(now))))
    };
    match (first.body, second.body) {
        (Body::Plan(was), Body::Plan(now)) => {
            let message = if was.hash == now.hash {
                apart(first, "seed", was.seed, now.seed)
            } else {
                format!("the frozen plan was {} and now is {}", was.hash.hex(), now.hash.hex())
            };
            Some((Class::Plan, message, None))
        }
        (Body::Provider { latency_us: was, .. }, Body::Provider { latency_us: now, .. })
            if sheared(first) == sheared(second) =>
        {
            timing(was, now)
        }
        (Body::Attempt(was), Body::Attempt(now)) if sheared(first) == sheared(second) => {
            timing(was.latency_us, now.latency_us)
        }
        (
            Body::Marker { name: Marker::LateBy, value: was },
            Body::Marker { name: Marker::LateBy, value: now },
        ) => timing(was, now),
        (Body::Marker { name, value: was }, Body::Marker { name: other, value: now }) if name == other => {
            Some((class_of(&first.body), apart(first, "value", was, now), None))
        }
        _ => {
            let (was, now) = (describe(first), describe(second));
            let message = if was == now {
                format!("{was} is another one in the replay")
            } else {
                format!("{was} is {now} in the replay")
            };
            Some((class_of(&first.body), message, None))
        }
    }
}

/// The body without the time that something took.
fn sheared(record: &Record) -> Body {
    let mut body = record.body;
    match &mut body {
        Body::Provider { latency_us, .. } => *latency_us = 0,
        Body::Attempt(attempt) => attempt.latency_us = 0,
        _ => {}
    }
    body
}
