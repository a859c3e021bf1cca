//! Execution pools (RK-26): slots, a bounded queue in strict lane priority, deadlines.
//!
//! A task waits, then runs; both times are kept apart, because a slow pool is no slow node.
//!
//! | state | by | becomes |
//! |---|---|---|
//! | - | `submit` with a slot free | running |
//! | - | `submit` with room in the queue | waiting |
//! | - | `submit` otherwise | rejected |
//! | waiting | `next` with a slot free | running |
//! | waiting | `next` after its deadline, or displaced by control | gone |
//! | running | `finish` | gone |

use std::collections::{BTreeMap, VecDeque};

use crate::event::Lane;

/// Work to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number, unique while it is known here.
    pub id: u64,
    /// Its lane.
    pub lane: Lane,
    /// When it must be over, microseconds.
    pub deadline_us: u64,
}

/// What became of a submitted task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It runs.
    Slot,
    /// It waits behind so many.
    Queued {
        /// Tasks that go before it.
        ahead: usize,
        /// A task of a lower lane that lost its place to it.
        displaced: Option<u64>,
    },
    /// There is no room for it.
    Rejected,
    /// A task of that number is here already.
    Duplicate,
}

/// What `next` found in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this task.
    Run {
        /// Its number.
        id: u64,
        /// How long it waited, microseconds.
        queue_us: u64,
    },
    /// Its deadline passed while it waited.
    Expired {
        /// Its number.
        id: u64,
        /// How long it waited, microseconds.
        queue_us: u64,
    },
}

/// How long a task took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// In the queue, microseconds.
    pub queue_us: u64,
    /// In its slot, microseconds.
    pub run_us: u64,
    /// Whether it ended after its deadline.
    pub late: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    task: Task,
    since_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    task: Task,
    queue_us: u64,
    since_us: u64,
    told: bool,
}

/// One pool.
#[derive(Clone, Debug)]
pub struct ExecutionPool {
    slots: usize,
    max_queue: usize,
    queues: [VecDeque<Waiting>; 3],
    running: BTreeMap<u64, Running>,
    now_us: u64,
}

/// Slots beyond the others that only control may take: it never waits for data or telemetry.
pub const CONTROL_SLOTS: usize = 1;

impl ExecutionPool {
    /// An idle pool; it has at least one slot.
    #[must_use]
    pub fn new(slots: usize, max_queue: usize) -> Self {
        let queues = [VecDeque::new(), VecDeque::new(), VecDeque::new()];
        Self { slots: slots.max(1), max_queue, queues, running: BTreeMap::new(), now_us: 0 }
    }

    fn free(&self, lane: Lane) -> bool {
        let control = self.running.values().filter(|running| running.task.lane == Lane::Control).count();
        let others = self.running.len() - control;
        match lane {
            Lane::Control => self.running.len() < self.slots + CONTROL_SLOTS,
            Lane::Data | Lane::Telemetry => {
                others < self.slots && self.running.len() < self.slots + CONTROL_SLOTS
            }
        }
    }

    fn knows(&self, id: u64) -> bool {
        self.running.contains_key(&id) || self.queues.iter().flatten().any(|waiting| waiting.task.id == id)
    }

    /// Tasks that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Tasks that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Takes a task.
    pub fn submit(&mut self, now_us: u64, task: Task) -> Placement {
        self.now_us = self.now_us.max(now_us);
        if self.knows(task.id) {
            return Placement::Duplicate;
        }
        let lane = task.lane as usize;
        let ahead = self.queues[..=lane].iter().map(VecDeque::len).sum();
        if ahead == 0 && self.free(task.lane) {
            self.run(Waiting { task, since_us: self.now_us });
            return Placement::Slot;
        }
        let mut displaced = None;
        if self.waiting() >= self.max_queue {
            let lower = self.queues[lane + 1..].iter_mut().rev().find_map(VecDeque::pop_back);
            match lower {
                Some(waiting) if task.lane == Lane::Control => displaced = Some(waiting.task.id),
                Some(waiting) => {
                    self.queues[waiting.task.lane as usize].push_back(waiting);
                    return Placement::Rejected;
                }
                None => return Placement::Rejected,
            }
        }
        self.queues[lane].push_back(Waiting { task, since_us: self.now_us });
        Placement::Queued { ahead, displaced }
    }

    fn run(&mut self, waiting: Waiting) -> u64 {
        let queue_us = self.now_us - waiting.since_us;
        let (task, since_us) = (waiting.task, self.now_us);
        self.running.insert(task.id, Running { task, queue_us, since_us, told: false });
        queue_us
    }

    /// Takes the next task that may run, or that has waited for too long; call it until it has none.
    pub fn next(&mut self, now_us: u64) -> Option<Next> {
        self.now_us = self.now_us.max(now_us);
        for lane in Lane::ALL {
            let free = self.free(*lane);
            let queue = &mut self.queues[*lane as usize];
            let Some(first) = queue.front() else { continue };
            if first.task.deadline_us <= self.now_us {
                let (id, queue_us) = (first.task.id, self.now_us - first.since_us);
                queue.pop_front();
                return Some(Next::Expired { id, queue_us });
            }
            if free {
                let waiting = queue.pop_front()?;
                let queue_us = self.run(waiting);
                return Some(Next::Run { id: waiting.task.id, queue_us });
            }
        }
        None
    }

    /// A running task is over; none when no such task runs.
    pub fn finish(&mut self, now_us: u64, id: u64) -> Option<Timing> {
        self.now_us = self.now_us.max(now_us);
        let running = self.running.remove(&id)?;
        let run_us = self.now_us - running.since_us;
        Some(Timing { queue_us: running.queue_us, run_us, late: self.now_us > running.task.deadline_us })
    }

    /// The next running task whose deadline has passed; each is told once.
    pub fn overdue(&mut self, now_us: u64) -> Option<u64> {
        self.now_us = self.now_us.max(now_us);
        let now_us = self.now_us;
        let late = |running: &&mut Running| !running.told && running.task.deadline_us <= now_us;
        let running = self.running.values_mut().find(late)?;
        running.told = true;
        Some(running.task.id)
    }

    /// When the next deadline passes that nobody was told of, microseconds.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        let waiting = self.queues.iter().filter_map(VecDeque::front).map(|waiting| waiting.task.deadline_us);
        let running = self.running.values().filter(|running| !running.told);
        waiting.chain(running.map(|running| running.task.deadline_us)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(id: u64, lane: Lane) -> Task {
        Task { id, lane, deadline_us: 1_000_000 }
    }

    const QUEUED: Placement = Placement::Queued { ahead: 0, displaced: None };

    #[test]
    fn queue_time_and_run_time_are_kept_apart() {
        let mut pool = ExecutionPool::new(1, 4);
        assert_eq!(pool.submit(0, task(1, Lane::Data)), Placement::Slot);
        assert_eq!(pool.submit(10, task(2, Lane::Data)), QUEUED);
        assert_eq!((pool.submit(10, task(2, Lane::Data)), pool.next(20)), (Placement::Duplicate, None));
        assert_eq!(pool.finish(100, 1), Some(Timing { queue_us: 0, run_us: 100, late: false }));
        assert_eq!(pool.next(110), Some(Next::Run { id: 2, queue_us: 100 }));
        assert_eq!(pool.finish(2_000_000, 2), Some(Timing { queue_us: 100, run_us: 1_999_890, late: true }));
        assert_eq!(pool.finish(2_000_000, 2), None);
    }

    #[test]
    fn nobody_overtakes_a_task_that_waits_in_the_same_lane() {
        let mut pool = ExecutionPool::new(1, 4);
        pool.submit(0, task(1, Lane::Data));
        pool.submit(0, task(2, Lane::Data));
        pool.finish(5, 1);
        assert_eq!(pool.submit(6, task(3, Lane::Data)), Placement::Queued { ahead: 1, displaced: None });
        assert_eq!(pool.next(7), Some(Next::Run { id: 2, queue_us: 7 }));
    }

    #[test]
    fn control_runs_beside_a_full_pool_and_takes_the_place_of_telemetry() {
        let mut pool = ExecutionPool::new(1, 2);
        assert_eq!(pool.submit(0, task(1, Lane::Data)), Placement::Slot);
        assert_eq!(pool.submit(0, task(2, Lane::Telemetry)), QUEUED);
        assert_eq!(pool.submit(0, task(3, Lane::Data)), QUEUED);
        assert_eq!(pool.submit(0, task(4, Lane::Data)), Placement::Rejected);
        assert_eq!(pool.submit(0, task(5, Lane::Control)), Placement::Slot);
        assert_eq!(
            pool.submit(0, task(6, Lane::Control)),
            Placement::Queued { ahead: 0, displaced: Some(2) }
        );
        assert_eq!(
            pool.submit(0, task(7, Lane::Control)),
            Placement::Queued { ahead: 1, displaced: Some(3) }
        );
        assert_eq!(pool.submit(0, task(8, Lane::Control)), Placement::Rejected);
        pool.finish(1, 5);
        assert_eq!(pool.next(1), Some(Next::Run { id: 6, queue_us: 1 }));
    }

    #[test]
    fn deadlines_end_the_wait_and_are_told_once() {
        let mut pool = ExecutionPool::new(1, 4);
        pool.submit(0, Task { deadline_us: 100, ..task(1, Lane::Data) });
        pool.submit(0, Task { deadline_us: 50, ..task(2, Lane::Data) });
        assert_eq!((pool.due_us(), pool.next(49)), (Some(50), None));
        assert_eq!(pool.next(50), Some(Next::Expired { id: 2, queue_us: 50 }));
        assert_eq!((pool.overdue(99), pool.overdue(100), pool.overdue(101)), (None, Some(1), None));
        assert_eq!(pool.due_us(), None);
    }

    proptest! {
        #[test]
        fn every_task_is_told_of_exactly_once(
            operations in prop::collection::vec((0u8..5, 0usize..3, 0u64..300), 1..200), slots in 1usize..4,
        ) {
            let mut pool = ExecutionPool::new(slots, 5);
            let (mut taken, mut gone, mut live) = (0, 0, Vec::new());
            let mut now_us = 0;
            for (id, (operation, lane, wait_us)) in (0_u64..).zip(operations) {
                now_us += wait_us;
                match operation {
                    0 => if let Some(id) = live.pop() {
                        gone += u64::from(pool.finish(now_us, id).is_some());
                    },
                    1 => while let Some(next) = pool.next(now_us) {
                        match next {
                            Next::Run { id, .. } => live.push(id),
                            Next::Expired { .. } => gone += 1,
                        }
                    },
                    _ => match pool.submit(now_us, Task { id, lane: Lane::ALL[lane], deadline_us: now_us + 500 }) {
                        Placement::Slot => { taken += 1; live.push(id); }
                        Placement::Queued { displaced, .. } => { taken += 1; gone += u64::from(displaced.is_some()); }
                        Placement::Rejected => {}
                        Placement::Duplicate => prop_assert!(false),
                    },
                }
                prop_assert!(pool.waiting() <= 5 && pool.running() <= slots + CONTROL_SLOTS);
                prop_assert_eq!(taken, gone + (pool.waiting() + pool.running()) as u64);
            }
        }
    }
}
