//! The order across documents, which no validator of single documents can see (W-08).
//!
//! A stream is a timeline as a runtime writes it, or a list of plain documents. The memory of the
//! validator grows with the stream; it is a tool for recordings, not part of a call.

mod turns;

use std::collections::{BTreeMap, BTreeSet};

use super::read::{read, Node};
use super::{check, envelope, Fault, Kind, Rule, PLAN_BYTES};
use crate::event::Lane;
use crate::signal::Signal;
use turns::Turns;

/// What one runtime has shown of a session.
#[derive(Clone, Debug, Default)]
struct Writer {
    sequence: Option<i128>,
    turns: Turns,
}

/// What one session has shown so far.
#[derive(Clone, Debug, Default)]
struct Session {
    epoch: i128,
    writer: Writer,
    /// A new header came: a higher epoch is now another runtime's, which counts from zero again.
    taken_over: bool,
    /// Runtimes that were taken over, by their last epoch; one that was only paused still drains.
    earlier: BTreeMap<i128, Writer>,
    stopped_flows: BTreeSet<(String, String)>,
    /// Epoch of the latest of their signals.
    flow_epoch: i128,
    /// Of the stopped ones, those that stood still when the epoch rose and were not told of since.
    earlier_flows: BTreeSet<(String, String)>,
}

/// Checks documents in the order of their recording.
#[derive(Clone, Debug, Default)]
pub struct StreamValidator {
    sessions: BTreeMap<String, Session>,
    event_ids: BTreeSet<String>,
    plans: BTreeMap<String, String>,
    /// States of the turns by number; runtimes that share a file may each have a turn of that number.
    states: BTreeMap<i128, Vec<String>>,
    writers: usize,
}

impl StreamValidator {
    /// A validator that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line; returns its first fault.
    ///
    /// A document that is faulty by itself is reported and otherwise left out of account.
    pub fn push(&mut self, line: &[u8]) -> Option<Fault> {
        self.take(line).err()
    }

    /// What is still missing at the end of the recording, in order of sessions and turns.
    #[must_use]
    pub fn finish(&self) -> Vec<Fault> {
        self.sessions.values().flat_map(|session| session.writer.turns.unfinished()).collect()
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Fault> {
        let node = read(line, PLAN_BYTES)?;
        if !matches!(node, Node::Object(_)) {
            return Err(Fault::new(Rule::StreamRecord, "", format!("{} is no record", node.type_name())));
        }
        let header = node.text("kind") == Some("header");
        self.writers = self.writers.max(usize::from(!header));
        match node.text("kind") {
            None if node.get("kind").is_none() => self.document(&node, kind_of(&node), ""),
            Some("header") => {
                self.begin();
                Ok(())
            }
            Some("signal") => self.part(&node, "event", Kind::ControlSignal),
            Some("decision") => self.part(&node, "decision", Kind::DecisionOutcome),
            Some("transition") => self.transition(&node),
            Some("marker") => self.marker(&node),
            Some(_) => Ok(()),
            None => Err(Fault::new(Rule::StreamRecord, "kind", "is no text")),
        }
    }

    /// Another runtime, or another call, begins to write.
    fn begin(&mut self) {
        self.writers += 1;
        self.plans.retain(|key, _| !key.starts_with('#'));
        for session in self.sessions.values_mut() {
            session.taken_over = true;
        }
    }

    fn part(&mut self, record: &Node, name: &str, kind: Kind) -> Result<(), Fault> {
        let Some(part) = record.get(name) else {
            return Err(Fault::new(Rule::StreamRecord, name, "the record lacks its document"));
        };
        self.document(part, kind, name)
    }

    fn document(&mut self, node: &Node, kind: Kind, path: &str) -> Result<(), Fault> {
        check(kind, node, path)?;
        let at = |fault: Fault| Fault { field: super::read::join(path, &fault.field), ..fault };
        match kind {
            Kind::EventRecord | Kind::ControlSignal => self.envelope(node, kind).map_err(at),
            Kind::DecisionOutcome => self.decision(node).map_err(at),
            Kind::ResolvedTurnPlan => {
                let turn = node.text("turn_id").unwrap_or_default().to_owned();
                self.plan(turn, node.text("plan_hash").unwrap_or_default()).map_err(at)
            }
            Kind::TurnTransition | Kind::ArtifactBundle => Ok(()),
        }
    }

    fn envelope(&mut self, node: &Node, kind: Kind) -> Result<(), Fault> {
        self.identify(node)?;
        let signal = node.text("signal").and_then(Signal::parse).filter(|_| kind == Kind::ControlSignal);
        let session = self.session(node);
        if let Some(signal) = signal {
            session.follow_flow(node, signal)?;
        }
        let writer = session.writer_of(node, signal)?;
        writer.follow_sequence(node)?;
        match signal {
            Some(signal) => writer.turns.signal(node, signal),
            None if node.text("lane") == Some(Lane::Data.name()) => writer.turns.data(node),
            None => Ok(()),
        }
    }

    fn decision(&mut self, node: &Node) -> Result<(), Fault> {
        self.identify(node)?;
        let outcome = node.text("outcome_kind").and_then(Signal::parse);
        self.session(node).writer_of(node, outcome).map(|_| ())
    }

    fn session(&mut self, node: &Node) -> &mut Session {
        self.sessions.entry(node.text("session_id").unwrap_or_default().to_owned()).or_default()
    }

    fn identify(&mut self, node: &Node) -> Result<(), Fault> {
        let id = node.text("event_id").unwrap_or_default();
        if self.event_ids.insert(id.to_owned()) {
            return Ok(());
        }
        Err(Fault::new(Rule::StreamEventId, "event_id", format!("{id:?} was the id of an earlier event")))
    }

    fn plan(&mut self, turn: String, hash: &str) -> Result<(), Fault> {
        let hash = hash.to_ascii_lowercase();
        let first = self.plans.entry(turn).or_insert_with(|| hash.clone());
        if *first == hash {
            return Ok(());
        }
        Err(Fault::new(Rule::StreamPlan, "plan_hash", "the turn had another plan before"))
    }

    fn marker(&mut self, record: &Node) -> Result<(), Fault> {
        match (record.integer("turn"), record.text("plan_hash")) {
            (Some(turn), Some(hash)) => self.plan(format!("#{turn}"), hash),
            _ => Ok(()),
        }
    }

    fn transition(&mut self, record: &Node) -> Result<(), Fault> {
        let named = |from: &str, to: &str| record.get(from).map(|value| (to.to_owned(), value.clone()));
        let mut members: Vec<(String, Node)> =
            [named("from", "from_state"), named("trigger", "trigger"), named("to", "to_state")]
                .into_iter()
                .flatten()
                .collect();
        members.push((String::from("deterministic"), Node::Flag(true)));
        let document = Node::Object(members);
        check(Kind::TurnTransition, &document, "")?;
        let Some(turn) = record.integer("turn") else {
            return Err(Fault::new(Rule::StreamRecord, "turn", "the transition names no turn"));
        };
        let from = document.text("from_state").unwrap_or_default();
        let to = document.text("to_state").unwrap_or_default().to_owned();
        let states = self.states.entry(turn).or_default();
        if from == "Idle" && states.len() < self.writers {
            states.push(String::from(from));
        }
        if let Some(state) = states.iter_mut().find(|state| *state == from) {
            *state = to;
            return Ok(());
        }
        let now = if states.is_empty() { String::from("Idle") } else { states.join(" and ") };
        // The turn goes on from where it says it is, so that one lost record is one fault.
        states.pop();
        states.push(to);
        Err(Fault::new(Rule::StreamTransition, "from", format!("turn {turn} is in {now}, not in {from}")))
    }
}

/// What a runtime that was taken over may still say: that it stops, and how far the caller heard it.
const fn drains(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::DeauthorizedDrain
            | Signal::Abort
            | Signal::Close
            | Signal::PlaybackCompleted
            | Signal::PlaybackCancelled
            | Signal::RecordingLevelDowngraded
            | Signal::Connected
            | Signal::Reconnecting
            | Signal::Disconnected
            | Signal::Ended
            | Signal::Silence
            | Signal::Stall
            | Signal::Muted
    )
}

impl Writer {
    fn follow_sequence(&mut self, node: &Node) -> Result<(), Fault> {
        let sequence = node.integer("runtime_sequence");
        let before = self.sequence;
        self.sequence = sequence.max(before);
        if sequence > before {
            return Ok(());
        }
        let message =
            format!("{} does not come after {}", sequence.unwrap_or_default(), before.unwrap_or_default());
        Err(Fault::new(Rule::StreamSequence, "runtime_sequence", message))
    }
}

impl Session {
    /// The runtime that wrote a document, by its epoch; the epoch follows.
    fn writer_of(&mut self, node: &Node, signal: Option<Signal>) -> Result<&mut Writer, Fault> {
        let epoch = node.integer("authority_epoch").unwrap_or(self.epoch);
        if epoch > self.epoch && std::mem::take(&mut self.taken_over) {
            let before = std::mem::take(&mut self.writer);
            self.earlier.insert(self.epoch, before);
        }
        if epoch >= self.epoch {
            self.epoch = epoch;
            return Ok(&mut self.writer);
        }
        match self.earlier.get_mut(&epoch) {
            Some(before) if signal.is_some_and(drains) => Ok(before),
            _ if signal == Some(Signal::StaleEpochReject) => Ok(&mut self.writer),
            _ => {
                let message = format!("epoch {epoch} after epoch {}", self.epoch);
                Err(Fault::new(Rule::StreamEpoch, "authority_epoch", message))
            }
        }
    }

    fn follow_flow(&mut self, node: &Node, signal: Signal) -> Result<(), Fault> {
        let edge = (
            node.text("edge_id").unwrap_or_default().to_owned(),
            node.text("target_lane").unwrap_or_default().to_owned(),
        );
        if !matches!(signal, Signal::FlowXoff | Signal::FlowXon) {
            return Ok(());
        }
        let epoch = node.integer("authority_epoch").unwrap_or(self.flow_epoch);
        if epoch > self.flow_epoch {
            // The edges of a new runtime are empty, whatever stood still in the old one.
            self.flow_epoch = epoch;
            self.earlier_flows.clone_from(&self.stopped_flows);
        }
        let from_earlier = self.earlier_flows.remove(&edge);
        let fine = match signal {
            Signal::FlowXoff => self.stopped_flows.insert(edge) || from_earlier,
            _ => self.stopped_flows.remove(&edge),
        };
        if fine {
            return Ok(());
        }
        let message = format!("{} twice, or without the other one before it", signal.name());
        Err(Fault::new(Rule::StreamFlowPairing, "signal", message))
    }
}

/// What a plain document is meant to be, by the field that only its kind has.
fn kind_of(node: &Node) -> Kind {
    let has = |name: &str| node.get(name).is_some();
    if has("outcome_kind") {
        Kind::DecisionOutcome
    } else if has("from_state") {
        Kind::TurnTransition
    } else if has("resolved_turn_plan") {
        Kind::ArtifactBundle
    } else if has("plan_hash") {
        Kind::ResolvedTurnPlan
    } else if envelope::is_control(node) {
        Kind::ControlSignal
    } else {
        Kind::EventRecord
    }
}

#[cfg(test)]
mod tests;
