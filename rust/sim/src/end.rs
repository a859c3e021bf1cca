//! The end of a world: after the faults stop every caller is answered, every turn closes, every lease
//! comes back.

use crate::agent::Phase;
use crate::queue::{AgentId, CallId};
use crate::world::World;

impl World {
    /// The caller asks one plain question.
    pub(crate) fn question(&mut self, call: CallId) {
        let caller = &mut self.callers[call];
        if !caller.on_line {
            return;
        }
        caller.ask(self.now_us);
        caller.heard_us = 0;
        let now_us = self.now_us;
        let holders: Vec<_> =
            self.shares[call].iter().copied().filter(|agent| self.agents[*agent].active()).collect();
        let [agent] = holders[..] else {
            self.never(format!("call {call}: {} runtimes serve it after the faults", holders.len()));
            return;
        };
        let share = &self.agents[agent];
        if share.phase != Phase::Live || share.epoch != self.store.epoch(call) || !share.in_room {
            let (phase, epoch) = (share.phase, share.epoch);
            self.never(format!("call {call} at {now_us}: agent {agent} is {phase:?} with epoch {epoch}"));
        }
    }

    /// The caller has waited long enough for the answer.
    pub(crate) fn last_hang_up(&mut self, call: CallId) {
        if self.callers[call].on_line && self.callers[call].heard_us == 0 {
            self.never(format!("call {call}: its question was not answered after the faults"));
        }
        self.hang_up(call);
    }

    /// The recording of a runtime ends, in good order or, when its process died, anywhere: run again it
    /// must have given the same records.
    pub(crate) fn judge_twin(&mut self, agent: AgentId) {
        let share = &mut self.agents[agent];
        let Some(mut twin) = share.twin.take() else { return };
        let fault = match &share.kernel {
            Some(kernel) => twin.finished(kernel),
            None => twin.broken_off(),
        };
        self.outcome.stints += 1;
        self.outcome.whole += u64::from(!twin.cut_short());
        self.outcome.compared += twin.compared();
        if let Some(fault) = fault {
            self.never(format!("agent {agent}: {fault}"));
        }
    }

    pub(crate) fn judge(&mut self) {
        for agent in 0..self.agents.len() {
            if self.agents[agent].phase == Phase::Dead {
                continue;
            }
            self.collect(agent);
            self.judge_twin(agent);
            let share = &self.agents[agent];
            let open = share.kernel.as_ref().map_or(0, |kernel| kernel.turn());
            let unfinished = share.journal.unfinished();
            if open != 0 || share.open.is_some() || share.active() {
                self.never(format!("agent {agent}: turn {open} is open at the end"));
            } else if let Some(fault) = unfinished {
                self.never(format!("agent {agent}: {fault}"));
            }
        }
        for call in 0..self.callers.len() {
            if self.store.unreleased(call) {
                self.never(format!("call {call}: its lease was never given back"));
            }
        }
    }
}
