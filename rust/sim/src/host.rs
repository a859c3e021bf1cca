//! A worker: a process on a host with a clock of its own that may crash, stop or be cut off.

use crate::control::Fetched;
use crate::queue::Event;

/// How far a worker's clock runs from the world's, in parts per million, at most: ten times what a bad
/// crystal does, and still inside the lease's margin (4 s × 1 % × 2 sides + 40 ms of queue < 250 ms).
pub(crate) const DRIFT_PPM: i64 = 10_000;

/// A clock that started at some time and runs at some rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base_us: u64,
    ppm: i64,
}

impl Clock {
    pub(crate) const fn new(base_us: u64, ppm: i64) -> Self {
        Self { base_us, ppm }
    }

    /// What it shows at a time of the world.
    pub(crate) fn local_us(self, world_us: u64) -> u64 {
        (self.base_us + world_us).saturating_add_signed(signed(world_us) * self.ppm / 1_000_000)
    }

    /// When it will show at least this.
    pub(crate) fn world_us(self, local_us: u64) -> u64 {
        let passed = signed(local_us.saturating_sub(self.base_us));
        let guess = u64::try_from(passed * 1_000_000 / (1_000_000 + self.ppm)).unwrap_or(0);
        let first = guess.saturating_sub(2);
        (first..first + 5).find(|world| self.local_us(*world) >= local_us).unwrap_or(guess + 3)
    }
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

/// One worker.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each fault strikes alone
pub(crate) struct Worker {
    pub(crate) clock: Clock,
    pub(crate) alive: bool,
    /// Rises with each start, so that what an earlier life had planned is told apart.
    pub(crate) life: u32,
    pub(crate) paused: bool,
    /// It was asked to stop and takes no further calls.
    pub(crate) draining: bool,
    pub(crate) paused_us: u64,
    pub(crate) pauses: u32,
    pub(crate) reaches_store: bool,
    pub(crate) reaches_room: bool,
    pub(crate) reaches_control: bool,
    /// What it has of the control plane.
    pub(crate) fetched: Option<Fetched>,
    pub(crate) cut_off_us: u64,
    /// What would have happened while it was paused.
    pub(crate) deferred: Vec<Event>,
}

impl Worker {
    pub(crate) const fn new(clock: Clock) -> Self {
        Self {
            clock,
            alive: true,
            life: 0,
            paused: false,
            draining: false,
            paused_us: 0,
            pauses: 0,
            reaches_store: true,
            reaches_room: true,
            reaches_control: true,
            fetched: None,
            cut_off_us: 0,
            deferred: Vec::new(),
        }
    }

    pub(crate) const fn runs(&self) -> bool {
        self.alive && !self.paused
    }

    pub(crate) const fn takes_calls(&self) -> bool {
        self.runs() && !self.draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_never_fires_before_its_local_time() {
        for ppm in [-DRIFT_PPM, -37, 0, 1, 9_999] {
            let clock = Clock::new(77, ppm);
            for local_us in [77, 1_000, 999_999, 3_750_001, 3_600_000_000] {
                let world_us = clock.world_us(local_us);
                assert!(clock.local_us(world_us) >= local_us, "{ppm} {local_us}");
                assert!(world_us == 0 || clock.local_us(world_us - 1) < local_us, "{ppm} {local_us}");
            }
        }
    }
}
