//! The turns of one recorded session: opened, ended, closed, and fenced in between.
//!
//! | phase  | on                | to     |
//! |--------|-------------------|--------|
//! | none   | `turn_open`       | Open   |
//! | Open   | `commit`, `abort` | Ended  |
//! | Ended  | `close`           | Closed |

use std::collections::BTreeMap;

use super::super::envelope::EffectScope;
use super::super::read::Node;
use super::super::{Fault, Rule};
use crate::event::EventScope;
use crate::reason::Reason;
use crate::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Ended,
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    phase: Phase,
    cancelled: bool,
    revoked: bool,
}

impl Turn {
    const fn fenced(self) -> bool {
        self.cancelled || self.revoked
    }
}

/// The turns of one session by their id.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    turns: BTreeMap<String, Turn>,
}

fn refuse(rule: Rule, field: &str, message: impl Into<String>) -> Result<(), Fault> {
    Err(Fault::new(rule, field, message))
}

impl Turns {
    /// Turns that were opened and never closed.
    pub(super) fn unfinished(&self) -> Vec<Fault> {
        let left = self.turns.iter().filter(|(_, turn)| turn.phase != Phase::Closed);
        left.map(|(id, _)| Fault::new(Rule::StreamClose, "turn_id", format!("{id} is never closed")))
            .collect()
    }

    /// Takes an event on the `DataLane`.
    pub(super) fn data(&self, node: &Node) -> Result<(), Fault> {
        let id = node.text("turn_id").unwrap_or_default();
        let in_turn = node.text("event_scope") == Some(EventScope::Turn.name());
        let late = node.get("late_after_cancel") == Some(&Node::Flag(true));
        match self.turns.get(id) {
            None if in_turn => refuse(Rule::StreamControlFirst, "turn_id", format!("{id} is not open yet")),
            Some(turn) if turn.phase != Phase::Open && !late => {
                refuse(Rule::StreamOutputAfterEnd, "turn_id", format!("{id} has ended"))
            }
            Some(turn) if turn.fenced() && !late => {
                refuse(Rule::StreamCancelFence, "turn_id", format!("{id} is behind a closed fence"))
            }
            _ => Ok(()),
        }
    }

    /// Takes a control signal.
    pub(super) fn signal(&mut self, node: &Node, signal: Signal) -> Result<(), Fault> {
        let id = node.text("turn_id").unwrap_or_default();
        let in_turn = node.text("event_scope") == Some(EventScope::Turn.name());
        let ended = self.turns.get(id).is_some_and(|turn| turn.phase == Phase::Ended);
        let lifecycle = matches!(signal, Signal::Close | Signal::Commit | Signal::Abort | Signal::TurnOpen);
        if in_turn && ended && !lifecycle {
            return refuse(
                Rule::StreamClose,
                "signal",
                format!("{} before the close of {id}", signal.name()),
            );
        }
        match signal {
            Signal::TurnOpen => self.open(id),
            Signal::Commit | Signal::Abort => self.end(id, signal, node.text("reason")),
            Signal::Close => self.close(id),
            Signal::BargeIn | Signal::Stop => {
                self.each_open(in_turn.then_some(id), |turn| turn.cancelled = true);
                Ok(())
            }
            Signal::Cancel => {
                let scope = node.text("scope").and_then(EffectScope::parse);
                match scope {
                    Some(EffectScope::Session) => self.each_open(None, |turn| turn.cancelled = true),
                    Some(EffectScope::Turn) => {
                        self.each_open(in_turn.then_some(id), |turn| turn.cancelled = true);
                    }
                    _ => {}
                }
                Ok(())
            }
            Signal::DeauthorizedDrain if in_turn => {
                self.each_open(Some(id), |turn| turn.revoked = true);
                Ok(())
            }
            Signal::OutputAccepted
            | Signal::PlaybackStarted
            | Signal::PlaybackCompleted
            | Signal::PlaybackCancelled => self.delivery(id, signal),
            _ => Ok(()),
        }
    }

    fn each_open(&mut self, id: Option<&str>, mut change: impl FnMut(&mut Turn)) {
        let named = |key: &String| id.is_none_or(|id| key == id);
        let open = self.turns.iter_mut().filter(|(key, turn)| turn.phase == Phase::Open && named(key));
        open.for_each(|(_, turn)| change(turn));
    }

    fn open(&mut self, id: &str) -> Result<(), Fault> {
        if self.turns.contains_key(id) {
            return refuse(Rule::StreamTurnOpen, "turn_id", format!("{id} was opened before"));
        }
        let turn = Turn { phase: Phase::Open, cancelled: false, revoked: false };
        self.turns.insert(id.to_owned(), turn);
        Ok(())
    }

    fn end(&mut self, id: &str, signal: Signal, reason: Option<&str>) -> Result<(), Fault> {
        let Some(turn) = self.turns.get_mut(id) else {
            return refuse(Rule::StreamTerminal, "turn_id", format!("{id} was never opened"));
        };
        if turn.phase != Phase::Open {
            return refuse(Rule::StreamTerminal, "signal", format!("{id} has ended already"));
        }
        turn.phase = Phase::Ended;
        let (cancelled, revoked) = (turn.cancelled, turn.revoked);
        turn.cancelled |= signal == Signal::Abort;
        let lost = reason == Some(Reason::AuthorityLoss.code());
        let stopped = reason == Some(Reason::Cancelled.code()) || lost;
        let fits = signal == Signal::Abort && if revoked { lost } else { stopped };
        if (cancelled || revoked) && !fits {
            let field = if signal == Signal::Abort { "reason" } else { "signal" };
            return refuse(Rule::StreamCancelReason, field, format!("not how {id} had to end"));
        }
        Ok(())
    }

    fn close(&mut self, id: &str) -> Result<(), Fault> {
        match self.turns.get_mut(id) {
            Some(turn) if turn.phase == Phase::Ended => {
                turn.phase = Phase::Closed;
                Ok(())
            }
            _ => refuse(Rule::StreamClose, "signal", format!("{id} has no commit or abort to close")),
        }
    }

    fn delivery(&self, id: &str, signal: Signal) -> Result<(), Fault> {
        let Some(turn) = self.turns.get(id) else {
            return refuse(Rule::StreamControlFirst, "turn_id", format!("{id} is not open yet"));
        };
        let opens = matches!(signal, Signal::OutputAccepted | Signal::PlaybackStarted);
        if opens && turn.fenced() {
            return refuse(Rule::StreamCancelFence, "signal", format!("{id} is behind a closed fence"));
        }
        Ok(())
    }
}
