//! What one runtime recorded, checked line by line against the contracts while it is written.

use rspp_kernel::document::stream::StreamValidator;
use rspp_kernel::evidence::record::Body;

/// The recording of one runtime's share in a call.
#[derive(Debug)]
pub(crate) struct Journal {
    validator: StreamValidator,
    next_sequence: u64,
    /// Signals and decisions that are missing, by their sequence.
    pub(crate) lost: u64,
    /// Records that a gap note accounts for.
    pub(crate) noted: u64,
    pub(crate) lines: u64,
    pub(crate) downgrades: u64,
    pub(crate) exhausted: u64,
    pub(crate) stale: u64,
    moves: Moves,
}

/// What was recorded of migrations so far.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    rotated: bool,
    started: bool,
    finished: bool,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            validator: StreamValidator::new(),
            next_sequence: 0,
            lost: 0,
            noted: 0,
            lines: 0,
            downgrades: 0,
            exhausted: 0,
            stale: 0,
            moves: Moves::default(),
        }
    }

    /// Whether no rule of the contracts is about records of this kind.
    pub(crate) const fn ignores(body: &Body) -> bool {
        matches!(body, Body::Input(_) | Body::Frame { .. } | Body::Call(_) | Body::Provider { .. })
    }

    /// Takes one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn take(&mut self, line: &str) -> Result<(), String> {
        self.lines += 1;
        if line.starts_with(r#"{"kind":"gap""#) {
            self.noted += number_after(line, r#""records":"#).unwrap_or(0);
            return Ok(());
        }
        if let Some(sequence) = ordinal(line) {
            if sequence < self.next_sequence {
                return Err(format!("sequence {sequence} comes again in {line}"));
            }
            self.lost += sequence - self.next_sequence;
            self.next_sequence = sequence + 1;
        }
        match signal(line) {
            "recording_level_downgraded" => self.downgrades += 1,
            "budget_exhausted" => self.exhausted += 1,
            "stale_epoch_reject" => self.stale += 1,
            signal => self.migration(signal, line)?,
        }
        let fault = self.validator.push(line.as_bytes());
        // What a lost record leaves open is no fault of the record after it.
        let fault = fault.filter(|_| self.lost + self.noted == 0);
        fault.map_or(Ok(()), |fault| Err(format!("{fault} in {line}")))
    }

    /// The steps of a migration come in their order (section 9.5); its epoch may rotate once more at any time.
    fn migration(&mut self, signal: &str, line: &str) -> Result<(), String> {
        let moves = &mut self.moves;
        let in_order = match signal {
            "lease_rotated" => {
                moves.rotated = true;
                true
            }
            "migration_start" => moves.rotated && !std::mem::replace(&mut moves.started, true),
            "migration_finish" => {
                moves.finished = true;
                std::mem::take(&mut moves.started)
            }
            "session_handoff" => std::mem::take(&mut moves.finished),
            _ => true,
        };
        if in_order || self.lost + self.noted > 0 {
            return Ok(());
        }
        Err(format!("{signal} is out of order in {line}"))
    }

    /// Faults that only the end shows.
    pub(crate) fn unfinished(&self) -> Option<String> {
        let faults = if self.lost + self.noted == 0 { self.validator.finish() } else { Vec::new() };
        faults.first().map(ToString::to_string)
    }
}

/// The name of the signal, if the line is one.
fn signal(line: &str) -> &str {
    let Some(from) = line.find(r#""signal":""#) else { return "" };
    let rest = &line[from + 10..];
    &rest[..rest.find('"').unwrap_or(0)]
}

/// The last part of an event id.
fn ordinal(line: &str) -> Option<u64> {
    let from = line.find(r#""event_id":""#)? + 12;
    let id = &line[from..from + line[from..].find('"')?];
    id.rsplit('/').next()?.parse().ok()
}

fn number_after(line: &str, key: &str) -> Option<u64> {
    let from = line.find(key)? + key.len();
    let digits = line[from..].find(|character: char| !character.is_ascii_digit())?;
    line[from..from + digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_sequence_is_seen_and_a_repeated_one_is_refused() {
        let line = |ordinal: u64| format!(r#"{{"kind":"gossip","event_id":"evt/s/1/2/{ordinal:06}"}}"#);
        let mut journal = Journal::new();
        assert_eq!(journal.take(&line(0)), Ok(()));
        assert_eq!(journal.take(&line(3)), Ok(()));
        assert_eq!(journal.lost, 2);
        assert!(journal.take(&line(3)).is_err());
        assert_eq!(journal.take(r#"{"kind":"gap","at_us":1,"records":17}"#), Ok(()));
        assert_eq!((journal.noted, journal.lines), (17, 4));
    }

    #[test]
    fn a_migration_that_skips_a_step_is_refused() {
        let line = |name: &str| format!(r#"{{"kind":"gossip","event":{{"signal":"{name}"}}}}"#);
        let taken = |names: &[&str]| {
            let mut journal = Journal::new();
            names.iter().try_for_each(|name| journal.take(&line(name)))
        };
        let whole = ["lease_rotated", "migration_start", "migration_finish", "session_handoff"];
        assert_eq!(taken(&[whole, whole].concat()), Ok(()));
        for left_out in 0..3 {
            let mut broken = whole.to_vec();
            broken.remove(left_out);
            assert!(taken(&broken).is_err(), "{broken:?}");
        }
    }
}
