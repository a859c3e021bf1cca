//! What happens next: events by time, and by the order of their planning where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rspp_kernel::input::{CancelSignal, Transcript};
use rspp_kernel::migration::Step;

use crate::store::{Answer, Ask};

/// Index of a call, and of its caller and room.
pub(crate) type CallId = usize;
/// Index of a runtime's share in a call.
pub(crate) type AgentId = usize;
/// Index of a worker.
pub(crate) type WorkerId = usize;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// 32 ms of the caller's audio reach the room.
    Window(CallId),
    /// The caller does the next thing.
    Caller(CallId),
    /// A worker is told of a call, by the server or by a caller who waited.
    Dispatch(CallId),
    /// The transport of a call comes back.
    Reconnected(CallId, u32),
    /// A transport that did not come back is given up.
    ConnectionLost(CallId, u32),
    /// 20 ms of voice are due.
    Frame(AgentId, u32),
    /// A frame leaves the native queue.
    FrameOut { agent: AgentId, flush: u32, turn: u32, finishes: bool },
    /// A frame is heard by the caller.
    Heard { call: CallId, epoch: u64, sent_us: u64 },
    /// A kernel's own timer.
    Tick(AgentId, u64),
    /// Stage B takes records.
    Drain(AgentId),
    /// The recogniser answers.
    Hypothesis(AgentId, Heard),
    /// A provider's first audio.
    FirstAudio(AgentId, u32),
    /// A provider fails.
    ProviderFails(AgentId, u32),
    /// A provider that was cancelled goes on all the same.
    LateOutput(AgentId, u32, u64, u32),
    /// A transport event is told once more.
    Repeated(AgentId, u32),
    /// A lease is due for renewal.
    Renew(AgentId),
    /// A request has been waited for long enough.
    AskTimeout(AgentId, u64),
    /// A request reaches the store.
    Ask(Ask),
    /// An answer reaches the worker.
    Answer(Answer),
    /// A worker looks for calls whose holder vanished.
    Scan(WorkerId, u32),
    /// A runtime has joined the room.
    Joined(AgentId),
    /// A runtime asks the server to remove older identities.
    RemoveOlder(AgentId),
    /// An SDK that lost the server comes back by itself.
    SdkRejoins(AgentId),
    /// A worker that drains waits no longer.
    DrainLimit(WorkerId, u32),
    /// The control plane refreshes a runtime's routing view.
    View(AgentId, u64),
    /// The control plane tells a placement a step of a move.
    Told(AgentId, Step, u64),
    /// Something breaks.
    Fault,
    /// Something of one worker breaks.
    Strike(WorkerId),
    /// A paused worker continues.
    Wake(WorkerId, u32),
    /// A crashed worker is started again.
    Restart(WorkerId),
    /// A worker reaches the store, or the room, again.
    Reached(WorkerId, Reach),
    /// A worker fetches what the control plane says.
    Refresh(WorkerId, u32),
    /// The control plane serves what it had served before this version.
    ControlGoesBack(u64),
    /// The control plane works again.
    ControlHeals(u64),
    /// The store works again.
    StoreHeals,
    /// After the faults the caller asks one question,
    Question(CallId),
    /// and hangs up when there was time for the answer.
    HangUp(CallId),
    /// No further faults; what is broken has been mended.
    Heal,
}

/// A hypothesis on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heard {
    pub(crate) utterance: u32,
    pub(crate) revision: u32,
    pub(crate) words: u32,
    pub(crate) backchannel: bool,
    pub(crate) complete: bool,
    pub(crate) probe: bool,
}

impl From<Heard> for Transcript {
    fn from(heard: Heard) -> Self {
        let Heard { utterance, revision, words, backchannel, complete, probe } = heard;
        Self { utterance, revision, words, backchannel, complete, probe }
    }
}

/// What a front end sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Button {
    Text,
    Stop,
    Cancel,
}

impl Button {
    pub(crate) const fn signal(self) -> Option<CancelSignal> {
        match self {
            Self::Text => None,
            Self::Stop => Some(CancelSignal::Stop),
            Self::Cancel => Some(CancelSignal::Cancel),
        }
    }
}

/// What a partition cuts a worker off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    Store,
    Room,
    Control,
}

/// The events to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    planned: u64,
}

impl Queue {
    pub(crate) fn plan(&mut self, at_us: u64, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse((at_us, self.planned, event)));
    }

    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse((at_us, _, event))| (at_us, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_planning() {
        let mut queue = Queue::default();
        queue.plan(5, Event::Window(2));
        queue.plan(5, Event::Window(1));
        queue.plan(4, Event::Heal);
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(order, [(4, Event::Heal), (5, Event::Window(2)), (5, Event::Window(1))]);
    }
}
