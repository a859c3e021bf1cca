//! The assertions A1 to A11 of the contracts, held against each step's effects and evidence.
//!
//! | the latest turn | on evidence of             | becomes |
//! |-----------------|----------------------------|---------|
//! | None, Closed    | `turn_open` of a later one | Open    |
//! | Open            | `commit` or `abort`        | Ended   |
//! | Ended           | `close`                    | Closed  |
//! | any             | a gap                      | Unknown |
//! | Unknown         | `turn_open` of a later one | Open    |

use rspp_kernel::effect::{Effect, TurnOutcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    None,
    Open,
    Ended,
    Closed,
    Unknown,
}

/// What has been seen of one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    phase: Phase,
    turn: u32,
    admitted: u32,
    planned: u32,
    pub(crate) open: u32,
    pub(crate) ended: u32,
    left: bool,
    cancelling: u32,
}

/// What a step was given, as far as the assertions care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// A deadline had passed, or the store took the lease away.
    pub(crate) revoked: bool,
    /// Whether the plan can be made.
    pub(crate) plans: bool,
    /// The kernel's own answers after it.
    pub(crate) turn: u32,
    pub(crate) drained: bool,
}

impl Monitor {
    pub(crate) const fn new() -> Self {
        Self {
            phase: Phase::None,
            turn: 0,
            admitted: 0,
            planned: 0,
            open: 0,
            ended: 0,
            left: false,
            cancelling: 0,
        }
    }

    /// Takes the effects of one step.
    pub(crate) fn effects(&mut self, effects: &[Effect], step: Step) -> Result<(), String> {
        let before = self.open;
        for effect in effects {
            match effect {
                Effect::OpenTurn { turn, .. } => {
                    ensure(self.open == 0 && *turn > self.ended, || format!("turn {turn} beside another"))?;
                    ensure(!step.revoked, || format!("A4: turn {turn} opened after the authority was lost"))?;
                    ensure(step.plans, || format!("A11: turn {turn} opened without a plan"))?;
                    self.open = *turn;
                }
                Effect::CancelTurn { turn, reason } => {
                    ensure(*turn == self.open, || format!("turn {turn} cancelled, which is not open"))?;
                    let lost = step.revoked && *turn == before;
                    ensure(!lost || reason == "authority_loss", || format!("A10: turn {turn} for {reason}"))?;
                    self.cancelling = *turn;
                }
                Effect::CloseTurn { turn, outcome, .. } => {
                    ensure(*turn == self.open, || format!("A9: turn {turn} closed, which is not open"))?;
                    let aborted = *outcome == TurnOutcome::Abort;
                    ensure(aborted == (self.cancelling == *turn), || {
                        format!("A1: turn {turn} ended both ways")
                    })?;
                    (self.open, self.ended) = (0, *turn);
                }
                Effect::LeaveRoom { .. } => {
                    ensure(!self.left, || String::from("the room is left twice"))?;
                    self.left = true;
                }
                _ => {}
            }
        }
        ensure(self.open == step.turn, || {
            format!("the kernel has turn {}, told was {}", step.turn, self.open)
        })?;
        ensure(self.left == step.drained, || String::from("drained, and the room is not left"))
    }

    /// Takes one line of evidence.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with(r#"{"kind":"gap""#) {
            self.phase = Phase::Unknown;
        } else if line.starts_with(r#"{"kind":"marker""#) && line.contains(r#""name":"plan_frozen""#) {
            self.planned = number(line, r#""turn":"#).unwrap_or(0);
        } else if line.starts_with(r#"{"kind":"decision""#) {
            self.decision(line)?;
        } else if line.starts_with(r#"{"kind":"signal""#) {
            self.signal(line)?;
        }
        Ok(())
    }

    fn decision(&mut self, line: &str) -> Result<(), String> {
        let (outcome, phase) = (text(line, "outcome_kind"), text(line, "phase"));
        let (scope, turn) = (text(line, "scope"), turn_of(line));
        ensure(scope != "turn" || turn != 0, || format!("A7: {line}"))?;
        let in_turn = turn != 0 && turn == self.turn && self.phase == Phase::Open;
        let diagnostics = outcome == "stale_epoch_reject" && in_turn;
        ensure(!diagnostics || phase == "scheduling_point", || format!("A6: {line}"))?;
        let revoke = outcome == "deauthorized_drain" && in_turn;
        ensure(!revoke || (phase == "active_turn" && scope == "turn"), || format!("A6: {line}"))?;
        if outcome == "admit" {
            self.admitted = turn;
        }
        Ok(())
    }

    fn signal(&mut self, line: &str) -> Result<(), String> {
        let signal = text(line, "signal");
        let known = self.phase != Phase::Unknown;
        let turn = turn_of(line);
        match signal {
            "turn_open" => {
                let first = matches!(self.phase, Phase::None | Phase::Closed | Phase::Unknown);
                ensure(first && turn > self.turn, || format!("A2: {line}"))?;
                let ready = self.admitted == turn && self.planned == turn;
                ensure(ready || !known, || format!("A4: {line}"))?;
                (self.phase, self.turn) = (Phase::Open, turn);
            }
            "commit" | "abort" if known => {
                let own = self.phase == Phase::Open && turn == self.turn;
                ensure(own, || format!("A1, A3: {line}"))?;
                self.phase = Phase::Ended;
            }
            "close" if known => {
                ensure(self.phase == Phase::Ended && turn == self.turn, || format!("A2, A3: {line}"))?;
                self.phase = Phase::Closed;
            }
            _ => {}
        }
        Ok(())
    }

    /// All evidence of a step is in.
    pub(crate) fn settled(&self) -> Result<(), String> {
        let fits = match self.phase {
            Phase::Unknown => true,
            Phase::Open => self.open == self.turn,
            Phase::Ended => false,
            Phase::None | Phase::Closed => self.open == 0,
        };
        ensure(fits, || format!("A2: turn {} is {:?} and {} is open", self.turn, self.phase, self.open))
    }
}

pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(what())
    }
}

fn text<'line>(line: &'line str, key: &str) -> &'line str {
    let found = line
        .match_indices(key)
        .find(|(at, _)| line[..*at].ends_with('"') && line[at + key.len()..].starts_with(r#"":""#));
    let Some((at, _)) = found else { return "" };
    let value = &line[at + key.len() + 3..];
    &value[..value.find('"').unwrap_or(0)]
}

/// The number in `turn-<epoch>-<number>`, 0 when there is none.
fn turn_of(line: &str) -> u32 {
    text(line, "turn_id").rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn number(line: &str, key: &str) -> Option<u32> {
    let rest = &line[line.find(key)? + key.len()..];
    rest[..rest.find(|character: char| !character.is_ascii_digit())?].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(name: &str, turn: u32) -> String {
        format!(r#"{{"kind":"signal","event":{{"turn_id":"turn-1-{turn}","signal":"{name}"}}}}"#)
    }

    fn after(lines: &[String]) -> Result<Monitor, String> {
        let mut monitor = Monitor::new();
        lines.iter().try_for_each(|line| monitor.line(line))?;
        Ok(monitor)
    }

    fn opened() -> Vec<String> {
        let admit = r#"{"kind":"decision","decision":{"outcome_kind":"admit","scope":"session","turn_id":"turn-1-1"}}"#;
        let plan = r#"{"kind":"marker","turn":1,"name":"plan_frozen","value":7}"#;
        vec![String::from(admit), String::from(plan), signal("turn_open", 1)]
    }

    #[test]
    fn a_whole_turn_is_accepted_and_each_broken_one_refused() {
        let with = |more: &[(&str, u32)]| {
            let lines = more.iter().map(|(name, turn)| signal(name, *turn));
            after(&[opened(), lines.collect()].concat())
        };
        assert!(with(&[("commit", 1), ("close", 1)]).is_ok());
        assert!(with(&[("commit", 1), ("abort", 1)]).is_err());
        assert!(with(&[("close", 1)]).is_err());
        assert!(with(&[("turn_open", 2)]).is_err());
        assert!(with(&[("abort", 2)]).is_err());
        assert!(with(&[("abort", 1)]).is_ok_and(|monitor| monitor.settled().is_err()));
        assert!(after(&[signal("abort", 1)]).is_err());
        assert!(after(&[signal("turn_open", 1)]).is_err());
        let stale = r#"{"kind":"decision","decision":{"outcome_kind":"stale_epoch_reject","phase":"pre_turn","scope":"turn","turn_id":"turn-1-1"}}"#;
        assert!(after(&[opened(), vec![String::from(stale)]].concat()).is_err());
        let nameless = r#"{"kind":"decision","decision":{"outcome_kind":"reject","scope":"turn"}}"#;
        assert!(after(&[String::from(nameless)]).is_err());
    }
}
