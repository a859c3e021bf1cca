//! The same kernel run again over what a runtime recorded, while the world goes on.
//!
//! Records leave Stage A as a session drains them, block by block in their compact form; each block is read
//! back and given to a second kernel, which must write the very same records. After a gap nothing is
//! judged, as in every replay.

use rspp_kernel::evidence::codec::{self, Entry};
use rspp_kernel::evidence::json::Context;
use rspp_kernel::replay::Replay;
use rspp_kernel::session::SessionKernel;

use crate::journal::Journal;

/// Records that a session takes at once (`DRAIN_LIMIT` in `rspp/session/recording.py`).
const DRAIN_LIMIT: usize = 8192;

/// The second kernel of one runtime.
#[derive(Debug)]
pub(crate) struct Twin {
    replay: Replay,
    context: Context,
    line: String,
}

impl Twin {
    /// A twin of a kernel that was given nothing yet.
    pub(crate) fn new(kernel: &SessionKernel, context: Context) -> Self {
        Self { replay: Replay::new(kernel.clone()), context, line: String::with_capacity(512) }
    }

    /// Takes what Stage A holds, into the journal and through the second kernel.
    ///
    /// # Errors
    /// What a line, a block or the replay showed to be wrong.
    pub(crate) fn collect(
        &mut self,
        kernel: &mut SessionKernel,
        journal: &mut Journal,
    ) -> Result<(), String> {
        loop {
            let block = kernel.drain_records(DRAIN_LIMIT);
            if block.is_empty() {
                return Ok(());
            }
            let decoded = codec::decode(&block).map_err(|error| format!("its records: {error}"))?;
            for entry in &decoded.entries {
                self.line.clear();
                match entry {
                    Entry::Record(record) if Journal::ignores(&record.body) => {
                        journal.lines += 1;
                        continue;
                    }
                    Entry::Record(record) => self.context.render(record, &decoded.words, &mut self.line),
                    Entry::Gap(gap) => self.context.render_gap(*gap, &mut self.line),
                }
                journal.take(&self.line)?;
            }
            let words = &decoded.words;
            let (text, provenance) = (|label| words.text(label), |place| words.provenance(place));
            let fed = self.replay.feed(decoded.entries.iter().copied(), text, provenance);
            fed.map_err(|error| error.to_string())?;
            self.replay.advance(u64::MAX);
        }
    }

    /// Whether inputs are missing, so that the rest cannot be judged.
    pub(crate) const fn cut_short(&self) -> bool {
        self.replay.gap().is_some()
    }

    /// Records that came out the same.
    pub(crate) const fn compared(&self) -> u64 {
        self.replay.compared()
    }

    /// The recording breaks off here, as after a crash; returns the first difference.
    pub(crate) fn broken_off(&self) -> Option<String> {
        let found = self.replay.found();
        found.listed().first().map(|first| {
            let (class, at_us, message) = (first.class.name(), first.at_us, &first.message);
            let (was, now) = (&first.recorded, &first.replayed);
            format!("its replay: {class} at {at_us} us of its clock: {message}\n  was {was}\n  now {now}")
        })
    }

    /// The recording is whole; returns the first difference, in the trace or in what the kernels have become.
    pub(crate) fn finished(&mut self, kernel: &SessionKernel) -> Option<String> {
        self.replay.finish();
        let told = self.broken_off();
        if told.is_some() || self.cut_short() {
            return told;
        }
        let state = |kernel: &SessionKernel| {
            let authority = (kernel.epoch(), kernel.view(), kernel.drained(), kernel.next_deadline_us());
            (kernel.turn(), kernel.turn_state(), kernel.held(), authority)
        };
        let (was, now) = (state(kernel), state(self.replay.kernel()));
        (was != now).then(|| format!("its replay ends in {now:?}, it ended in {was:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent;
    use crate::rng::Rng;
    use rspp_kernel::input::{Event, Input};

    /// A short call of one kernel, recorded and given to the twin of another.
    fn call(seed: u64, twin_seed: u64) -> (SessionKernel, Twin, Result<(), String>) {
        let (mut kernel, ..) = agent::kernel(&mut Rng::new(seed), 0, 0);
        let (_, mut twin, _) = agent::kernel(&mut Rng::new(twin_seed), 0, 0);
        crate::control::tell_fine(&mut kernel, 1);
        let mut step = |now_us, event| drop(kernel.step(Input { now_us, event }).to_vec());
        step(1, Event::Lease { epoch: 1, deadline_us: 90_000_000 });
        step(2, Event::Start { resumed: false });
        step(3, Event::TextMessage { reference: 1 });
        step(20_000_000, Event::Tick);
        step(21_000_000, Event::TextMessage { reference: 2 });
        let collected = twin.collect(&mut kernel, &mut Journal::new());
        (kernel, twin, collected)
    }

    #[test]
    fn the_same_kernel_writes_the_same_records_and_ends_in_the_same_state() {
        let (kernel, mut twin, collected) = call(1, 1);
        assert_eq!(collected, Ok(()));
        assert_eq!((twin.broken_off(), twin.finished(&kernel)), (None, None));
        assert!(twin.compared() > 50 && !twin.cut_short());
    }

    #[test]
    fn another_kernel_is_told_apart_by_its_records() {
        let differs = (2..12).filter(|seed| call(1, *seed).1.broken_off().is_some()).count();
        assert!(differs > 0, "policies with and without a greeting gave one trace");
    }

    #[test]
    fn a_kernel_that_went_on_unrecorded_is_told_apart_by_its_state() {
        let (mut kernel, mut twin, _) = call(1, 1);
        kernel.step(Input { now_us: 90_000_000, event: Event::Tick });
        assert!(twin.finished(&kernel).is_some_and(|told| told.contains("ends in")));
    }
}
