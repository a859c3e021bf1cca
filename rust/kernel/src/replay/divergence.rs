//! What a replay found to be different, in the five classes of the contracts (section 11.2).

use crate::event;
use crate::evidence::json::Context;
use crate::evidence::record::{Body, Marker, Record};
use crate::names::named_enum;
use crate::reason::Interner;
use crate::signal::Signal;

named_enum! {
    /// Class of a divergence.
    pub enum Class {
        Plan => "PLAN_DIVERGENCE", Outcome => "OUTCOME_DIVERGENCE",
        Ordering => "ORDERING_DIVERGENCE", Timing => "TIMING_DIVERGENCE",
        Authority => "AUTHORITY_DIVERGENCE",
    }
}

/// One difference between what was recorded and what the kernel says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Class.
    pub class: Class,
    /// `turn:<turn id>`, `session:<session id>`, or `trace` when it is about the recording as a whole.
    pub scope: String,
    /// Turn it is about, 0 when none.
    pub turn: u32,
    /// When, microseconds.
    pub at_us: u64,
    /// Index of the recorded record, or of the one before which the replay said more.
    pub index: u64,
    /// What differs.
    pub message: String,
    /// The recorded record as JSON; empty when there is none.
    pub recorded: String,
    /// The replayed record as JSON; empty when there is none.
    pub replayed: String,
    /// How far apart the two are, microseconds, where that is what differs.
    pub diff_us: Option<u64>,
    /// How many later records differ in the very same way and are therefore not listed.
    pub repeats: u64,
}

/// Most divergences that are listed; what comes after is counted.
pub const MAX_LISTED: usize = 1000;

/// The divergences found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    listed: Vec<Divergence>,
    unlisted: u64,
}

impl Found {
    /// Lists a divergence, or counts it when the list is full.
    pub fn add(&mut self, divergence: Divergence) {
        if self.full() {
            self.count();
        } else {
            self.listed.push(divergence);
        }
    }

    /// The list, oldest first.
    #[must_use]
    pub fn listed(&self) -> &[Divergence] {
        &self.listed
    }

    /// How many found no room in the list.
    #[must_use]
    pub const fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Whether the list is full.
    #[must_use]
    pub const fn full(&self) -> bool {
        self.listed.len() >= MAX_LISTED
    }

    /// Counts one that is not listed.
    pub(super) const fn count(&mut self) {
        self.unlisted += 1;
    }

    /// The latest of the list.
    pub(super) fn last_mut(&mut self) -> Option<&mut Divergence> {
        self.listed.last_mut()
    }

    /// Counts one more of what was listed at `place`; the first that found no room is not told apart.
    pub(super) fn repeat(&mut self, place: usize) {
        match self.listed.get_mut(place) {
            Some(divergence) => divergence.repeats += 1,
            None => self.unlisted += 1,
        }
    }
}

/// The scope of a divergence about this record.
#[must_use]
pub fn scope_of(record: &Record, context: &Context) -> String {
    if record.turn == 0 {
        return format!("session:{}", context.session_id());
    }
    let mut scope = String::from("turn:");
    event::turn_id_into(&mut scope, record.turn_epoch, record.turn);
    scope
}

/// The record as JSON, or nothing.
#[must_use]
pub fn rendered(record: Option<&Record>, context: &Context, words: &Interner) -> String {
    let mut line = String::new();
    if let Some(record) = record {
        context.render(record, words, &mut line);
    }
    line
}

/// Class of a record that is only in one of the two, or another one in each.
#[must_use]
pub const fn class_of(body: &Body) -> Class {
    match body {
        Body::Plan(_) => Class::Plan,
        Body::Marker {
            name:
                Marker::LeaseGranted
                | Marker::LeaseRenewed
                | Marker::GateClosed
                | Marker::EpochEnriched
                | Marker::ViewBehind
                | Marker::ViewRefreshed
                | Marker::ViewSupersedes
                | Marker::StateReattached
                | Marker::MigrationRefused,
            ..
        }
        | Body::Signal {
            signal:
                Signal::LeaseIssued
                | Signal::LeaseRotated
                | Signal::MigrationStart
                | Signal::MigrationFinish
                | Signal::SessionHandoff,
            ..
        } => Class::Authority,
        _ => Class::Outcome,
    }
}
