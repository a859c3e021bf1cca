//! A runtime that leaves drains its sessions: what runs may end, and nothing else begins.
//!
//! | while it drains           | becomes of it                                                      |
//! |---------------------------|--------------------------------------------------------------------|
//! | the running turn          | goes on to its own end, at most its budgets and the shell's patience |
//! | its failure, its rotation | the caller is told, as at any other time                           |
//! | any other intent          | `reject`, `admission_capacity_reject`; it interrupts nothing       |
//! | what waited for a place   | the same, at once                                                  |
//!
//! With no turn open and the last one played to its end, the call ends: `ended` with the reason `drained`.

use crate::effect::Intent;
use crate::evidence::record::Class;
use crate::reason::{Label, Reason};
use crate::session::SessionKernel;
use crate::signal::{Emitter, Signal};

/// How far a session is from leaving.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leaving {
    /// The runtime leaves.
    pub(super) asked: bool,
    /// The latest turn that was committed with sound which has not been played to its end, 0 for none.
    pub(super) unheard: u32,
}

impl SessionKernel {
    /// The runtime leaves.
    pub(super) fn drain(&mut self) {
        if self.drained.is_none() && !std::mem::replace(&mut self.leaving.asked, true) {
            self.give_up_deferred();
        }
    }

    /// Whether an intent comes too late: what the running turn owes its caller belongs to that turn.
    pub(super) fn comes_too_late(&self, intent: Intent) -> bool {
        self.leaving.asked && intent != Intent::FailureNotice
    }

    /// Ends the call of a session that drains, once there is nothing left to wait for.
    pub(super) fn leave_when_done(&mut self) {
        let done = self.turn.is_none() && self.leaving.unheard == 0;
        if self.leaving.asked && self.drained.is_none() && done {
            let reason = Reason::Drained;
            self.signal_session(Class::Baseline, Signal::Ended, Emitter::Rk23, Label::Known(reason));
            self.end_call(reason.code());
        }
    }
}
