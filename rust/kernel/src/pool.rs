//! Execution pools (RK-26): slots, a bounded queue in strict lane priority, shares by key, deadlines.
//!
//! A task waits, then runs; both times are kept apart, because a slow pool is no slow node.
//!
//! | state | by | becomes |
//! |---|---|---|
//! | - | `submit` with a slot free | running |
//! | - | `submit` with room in the queue | waiting |
//! | - | `submit` while an overdue task of its seat has not returned | refused |
//! | - | `submit` otherwise | rejected |
//! | waiting | `next` with a slot free | running |
//! | waiting | `next` after its deadline, or displaced | gone |
//! | waiting | `withdraw` | gone |
//! | running | for longer than [`LEND_US`] | running beside the slots |
//! | running | `finish` | gone |
//!
//! Within a lane the keys take turns: a task starts when its key's share of what ran before allows it
//! (start-time fair queueing), so a key that asks for much delays itself and nobody else. A task that takes
//! long lends its slot to the next one and runs on beside the slots, so one that hangs costs the others
//! [`LEND_US`] once; at most [`MAX_LENT`] run so.

use std::collections::{BTreeMap, VecDeque};

use crate::event::Lane;

/// Work to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number, unique while it is known here.
    pub id: u64,
    /// Its lane.
    pub lane: Lane,
    /// Who shares: a session.
    pub key: u32,
    /// What asks: one node of that session, with one task at a time that may hang.
    pub seat: u32,
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
        /// Tasks that go before it as things stand.
        ahead: usize,
        /// A task of a lower lane, or of a key that has more waiting, that lost its place to it.
        displaced: Option<u64>,
    },
    /// There is no room for it.
    Rejected,
    /// An overdue task of its seat has not returned.
    Stuck,
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
    /// Its place in the order of shares.
    start: u64,
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
    /// Where the order of shares stands, and for keys that are ahead of it where their next task comes.
    share: u64,
    ahead: BTreeMap<u32, u64>,
    now_us: u64,
}

/// Slots beyond the others that only control may take: it never waits for data or telemetry.
pub const CONTROL_SLOTS: usize = 1;

/// How long a task runs before it lends its slot, microseconds: ten times what a piece of work takes.
pub const LEND_US: u64 = 100_000;

/// Most tasks that run beside the slots.
pub const MAX_LENT: usize = 16;

impl ExecutionPool {
    /// An idle pool; it has at least one slot.
    #[must_use]
    pub fn new(slots: usize, max_queue: usize) -> Self {
        let queues = [VecDeque::new(), VecDeque::new(), VecDeque::new()];
        let (running, ahead) = (BTreeMap::new(), BTreeMap::new());
        Self { slots: slots.max(1), max_queue, queues, running, share: 0, ahead, now_us: 0 }
    }

    /// Most tasks that ever run at once.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.slots.saturating_add(CONTROL_SLOTS + MAX_LENT)
    }

    fn free(&self, lane: Lane) -> bool {
        let lends = |running: &&Running| self.now_us - running.since_us >= LEND_US;
        let lent = self.running.values().filter(lends).count().min(MAX_LENT);
        let keeps = self.running.len() - lent;
        let control = self.running.values().filter(|running| running.task.lane == Lane::Control).count();
        match lane {
            Lane::Control => keeps < self.slots + CONTROL_SLOTS,
            Lane::Data | Lane::Telemetry => {
                let others = keeps.saturating_sub(control);
                others < self.slots && keeps < self.slots + CONTROL_SLOTS
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
        if self.running.values().any(|running| running.told && running.task.seat == task.seat) {
            return Placement::Stuck;
        }
        let lane = task.lane as usize;
        let start = self.ahead.get(&task.key).copied().unwrap_or(0).max(self.share);
        let waiting = Waiting { task, since_us: self.now_us, start };
        let before: usize = self.queues[..lane].iter().map(VecDeque::len).sum();
        let ahead = before + self.queues[lane].iter().filter(|other| other.start <= start).count();
        if before + self.queues[lane].len() == 0 && self.free(task.lane) {
            self.ahead.insert(task.key, start.saturating_add(1));
            self.run(waiting);
            return Placement::Slot;
        }
        let mut displaced = None;
        if self.waiting() >= self.max_queue {
            displaced = self.displace(task);
            if displaced.is_none() {
                return Placement::Rejected;
            }
        }
        self.ahead.insert(task.key, start.saturating_add(1));
        self.queues[lane].push_back(waiting);
        Placement::Queued { ahead, displaced }
    }

    /// Makes room for a task: control takes the newest of a lower lane, others the newest of the key that
    /// has most waiting in their lane, when that key keeps no less than they have.
    fn displace(&mut self, task: Task) -> Option<u64> {
        let lane = task.lane as usize;
        if task.lane == Lane::Control {
            let lower = self.queues[lane + 1..].iter_mut().rev().find_map(VecDeque::pop_back);
            return lower.map(|waiting| waiting.task.id);
        }
        let queue = &mut self.queues[lane];
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for waiting in queue.iter() {
            *counts.entry(waiting.task.key).or_default() += 1;
        }
        let own = counts.get(&task.key).copied().unwrap_or(0);
        let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        if count <= own + 1 {
            return None;
        }
        let newest = queue.iter().rposition(|waiting| waiting.task.key == most)?;
        queue.remove(newest).map(|waiting| waiting.task.id)
    }

    fn run(&mut self, waiting: Waiting) -> u64 {
        let queue_us = self.now_us - waiting.since_us;
        let (task, since_us) = (waiting.task, self.now_us);
        self.running.insert(task.id, Running { task, queue_us, since_us, told: false });
        self.share = self.share.max(waiting.start);
        let share = self.share;
        self.ahead.retain(|_, next| *next > share);
        queue_us
    }

    /// Takes the next task that may run, or that has waited for too long; call it until it has none.
    pub fn next(&mut self, now_us: u64) -> Option<Next> {
        self.now_us = self.now_us.max(now_us);
        for lane in Lane::ALL {
            let free = self.free(*lane);
            let queue = &mut self.queues[*lane as usize];
            if let Some(late) = queue.iter().position(|waiting| waiting.task.deadline_us <= self.now_us) {
                let gone = queue.remove(late)?;
                return Some(Next::Expired { id: gone.task.id, queue_us: self.now_us - gone.since_us });
            }
            if !free {
                continue;
            }
            let Some((first, _)) =
                queue.iter().enumerate().min_by_key(|(place, waiting)| (waiting.start, *place))
            else {
                continue;
            };
            let waiting = queue.remove(first)?;
            let queue_us = self.run(waiting);
            return Some(Next::Run { id: waiting.task.id, queue_us });
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

    /// Takes a task back that waits; false when it does not wait.
    pub fn withdraw(&mut self, id: u64) -> bool {
        self.queues.iter_mut().any(|queue| {
            let place = queue.iter().position(|waiting| waiting.task.id == id);
            place.is_some_and(|place| queue.remove(place).is_some())
        })
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

    /// When the next deadline passes that nobody was told of, or a slot is lent to a task that waits,
    /// microseconds.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        let waiting = self.queues.iter().flatten().map(|waiting| waiting.task.deadline_us);
        let running = self.running.values().filter(|running| !running.told);
        let deadlines = waiting.chain(running.map(|running| running.task.deadline_us));
        let lending = self
            .running
            .values()
            .map(|running| running.since_us + LEND_US)
            .filter(|lent_us| self.waiting() > 0 && *lent_us > self.now_us);
        deadlines.chain(lending).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(id: u64, lane: Lane) -> Task {
        Task { id, lane, key: 1, seat: 1, deadline_us: 1_000_000 }
    }

    fn of(key: u32, id: u64) -> Task {
        Task { key, seat: key, ..task(id, Lane::Data) }
    }

    fn order(pool: &mut ExecutionPool, now_us: u64) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(Next::Run { id, .. }) = pool.next(now_us) {
            order.push(id);
            pool.finish(now_us, id);
        }
        order
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

    #[test]
    fn keys_take_turns_however_much_one_of_them_asks_for() {
        let mut pool = ExecutionPool::new(1, 8);
        pool.submit(0, of(1, 10));
        for id in 11..15 {
            pool.submit(0, of(1, id));
        }
        assert_eq!(pool.submit(1, of(2, 20)), Placement::Queued { ahead: 0, displaced: None });
        assert_eq!(pool.submit(1, of(2, 21)), Placement::Queued { ahead: 2, displaced: None });
        pool.finish(2, 10);
        assert_eq!(order(&mut pool, 2), [20, 11, 21, 12, 13, 14]);
    }

    #[test]
    fn a_key_that_comes_back_at_once_does_not_overtake_one_that_waits() {
        let mut pool = ExecutionPool::new(1, 8);
        pool.submit(0, of(1, 10));
        pool.submit(0, of(2, 20));
        pool.submit(0, of(2, 21));
        let mut ran = vec![10];
        for next in 11..15 {
            pool.finish(1, ran[ran.len() - 1]);
            pool.submit(1, of(1, next));
            if let Some(Next::Run { id, .. }) = pool.next(1) {
                ran.push(id);
            }
        }
        assert_eq!(ran, [10, 20, 21, 11, 12]);
    }

    #[test]
    fn a_full_queue_takes_from_the_key_that_has_most_of_it() {
        let mut pool = ExecutionPool::new(1, 3);
        for id in 10..14 {
            pool.submit(0, of(1, id));
        }
        assert_eq!(pool.submit(0, of(1, 14)), Placement::Rejected);
        assert_eq!(pool.submit(0, of(2, 20)), Placement::Queued { ahead: 0, displaced: Some(13) });
        assert_eq!(pool.submit(0, of(2, 21)), Placement::Rejected);
    }

    #[test]
    fn work_that_hangs_lends_its_slot_and_its_seat_gets_no_other() {
        let mut pool = ExecutionPool::new(1, 4);
        pool.submit(0, of(1, 10));
        pool.submit(10, of(2, 20));
        assert_eq!((pool.due_us(), pool.next(LEND_US - 1)), (Some(LEND_US), None));
        assert_eq!(pool.next(LEND_US), Some(Next::Run { id: 20, queue_us: LEND_US - 10 }));
        assert_eq!((pool.overdue(1_000_000), pool.overdue(1_000_000)), (Some(10), Some(20)));
        pool.finish(1_000_001, 20);
        assert_eq!(pool.submit(1_000_002, Task { deadline_us: 3_000_000, ..of(1, 11) }), Placement::Stuck);
        assert_eq!(pool.submit(1_000_002, Task { deadline_us: 3_000_000, ..of(2, 21) }), Placement::Slot);
        pool.finish(2_000_000, 10);
        assert_eq!(pool.submit(2_000_001, Task { deadline_us: 3_000_000, ..of(1, 12) }), Placement::Slot);
    }

    #[test]
    fn no_more_slots_are_lent_than_there_are_threads_for() {
        let mut pool = ExecutionPool::new(1, 64);
        for key in 1..=40 {
            pool.submit(u64::from(key) * LEND_US, Task { deadline_us: u64::MAX, ..of(key, key.into()) });
            while pool.next(u64::from(key) * LEND_US).is_some() {}
        }
        while pool.next(100 * LEND_US).is_some() {}
        assert_eq!(pool.running(), pool.most() - CONTROL_SLOTS);
        assert_eq!(pool.submit(101 * LEND_US, task(99, Lane::Control)), Placement::Slot);
        assert_eq!(pool.running(), pool.most());
    }

    #[test]
    fn who_waits_may_go() {
        let mut pool = ExecutionPool::new(1, 4);
        pool.submit(0, of(1, 10));
        pool.submit(0, of(2, 20));
        assert_eq!((pool.withdraw(10), pool.withdraw(20), pool.withdraw(20)), (false, true, false));
        assert_eq!((pool.waiting(), pool.running()), (0, 1));
    }

    proptest! {
        #[test]
        fn every_task_is_told_of_exactly_once(
            operations in prop::collection::vec((0u8..6, 0usize..3, 0u64..300, 0u32..4), 1..200), slots in 1usize..4,
        ) {
            let mut pool = ExecutionPool::new(slots, 5);
            let (mut taken, mut gone, mut live) = (0, 0, Vec::new());
            let mut now_us = 0;
            for (id, (operation, lane, wait_us, key)) in (0_u64..).zip(operations) {
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
                    2 => { pool.overdue(now_us); },
                    _ => match pool.submit(now_us, Task { id, lane: Lane::ALL[lane], key, seat: key, deadline_us: now_us + 500 }) {
                        Placement::Slot => { taken += 1; live.push(id); }
                        Placement::Queued { displaced, .. } => { taken += 1; gone += u64::from(displaced.is_some()); }
                        Placement::Rejected | Placement::Stuck => {}
                        Placement::Duplicate => prop_assert!(false),
                    },
                }
                prop_assert!(pool.waiting() <= 5 && pool.running() <= slots + CONTROL_SLOTS);
                prop_assert_eq!(taken, gone + (pool.waiting() + pool.running()) as u64);
            }
        }
    }
}
