//! Provider invocations: which provider is called, and what follows when it fails.
//!
//! | from      | on       | to        |
//! |-----------|----------|-----------|
//! | Running   | `again`  | Running   |
//! | Running   | `finish` | Done      |
//! | Running   | `cancel` | Cancelled |
//! | Cancelled | `finish` | Done      |
//!
//! `again` is a retry of the same provider, a switch to the next one, or a fallback to it, each only
//! when the plan allows it. An attempt whose output was already handed on is not followed by another:
//! the caller would hear the same words twice. Whatever a cancelled invocation still gives is counted
//! and dropped.
//!
//! Where the plan allows `degrade` and a lesser form is at hand, that ends an invocation whose budget is
//! used up, or that nothing else can save: recognition goes on with what was heard in part, speech with a
//! lesser voice for the rest of the turn.

pub mod circuit;
pub mod outcome;
pub mod policy;

use crate::budget::{Action, Budget, BudgetDecision};
use crate::bundle::Actions;
use crate::cancellation::CancelToken;
use crate::input::{Modality, ProviderOutcome};
use crate::names::named_enum;
use crate::reason::{Label, Reason};
use crate::signal::Signal;

use circuit::Circuit;
use outcome::Ending;
use policy::{InvocationPolicy, RetryDecision};

named_enum! {
    /// State of one invocation.
    pub enum State {
        Running => "Running", Cancelled => "Cancelled", Done => "Done",
    }
}

named_enum! {
    /// What moves an invocation.
    pub enum Trigger {
        Again => "again", Finish => "finish", Cancel => "cancel",
    }
}

/// The whole table.
pub const TRANSITIONS: [(State, Trigger, State); 4] = [
    (State::Running, Trigger::Again, State::Running),
    (State::Running, Trigger::Finish, State::Done),
    (State::Running, Trigger::Cancel, State::Cancelled),
    (State::Cancelled, Trigger::Finish, State::Done),
];

/// Most invocations that run at once in one session.
pub const MAX_LIVE: usize = 8;

/// One attempt that the shell must make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Number of the invocation, unique in the session.
    pub invocation: u32,
    /// Index of the provider among the candidates of its modality.
    pub candidate: u8,
    /// Number of the attempt at this provider, from 1.
    pub attempt: u8,
    /// How long to wait before it.
    pub wait_us: u64,
    /// When to give up waiting for its first result; none leaves that to the turn's budget.
    pub limit_us: Option<u64>,
}

/// What the end of an attempt meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Turn of the invocation, 0 when it belongs to the session.
    pub turn: u32,
    /// What the provider does.
    pub modality: Modality,
    /// The provider.
    pub provider: Label,
    /// Number of the attempt at this provider.
    pub attempt: u8,
    /// How it ended.
    pub ending: Ending,
    /// What follows.
    pub decision: RetryDecision,
    /// From its start to its end.
    pub attempt_us: u64,
    /// From the start of the first attempt to the end of this one.
    pub total_us: u64,
    /// The next attempt.
    pub next: Option<Attempt>,
    /// Its provider.
    pub next_provider: Label,
    /// New state of the provider's circuit, if it changed.
    pub circuit: Option<circuit::State>,
    /// New state of the next provider's circuit, if it changed.
    pub next_circuit: Option<circuit::State>,
    /// Whether the invocation had been cancelled.
    pub cancelled: bool,
    /// Outputs that came after the cancel and were dropped.
    pub dropped: u32,
    /// Whether its budget was used up.
    pub budget_spent: bool,
    /// Whether the node goes on in its lesser form.
    pub degraded: bool,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    provider: Label,
    circuit: Circuit,
}

#[derive(Clone, Copy, Debug)]
struct Invocation {
    number: u32,
    turn: u32,
    modality: Modality,
    state: State,
    tried: u8,
    candidate: u8,
    attempt: u8,
    started_us: u64,
    attempt_us: u64,
    delivered: bool,
    dropped: u32,
    budget: Option<Budget>,
}

/// A budget of which something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetDue {
    /// Number of the invocation.
    pub invocation: u32,
    /// Its turn.
    pub turn: u32,
    /// What its provider does.
    pub modality: Modality,
    /// What was decided.
    pub decision: BudgetDecision,
    /// What must be told.
    pub told: [Option<(Signal, Reason)>; 3],
}

impl Invocation {
    fn fire(&mut self, trigger: Trigger) -> bool {
        let row = TRANSITIONS.iter().find(|row| row.0 == self.state && row.1 == trigger);
        if let Some(row) = row {
            self.state = row.2;
        }
        row.is_some()
    }
}

/// The invocations of one session.
#[derive(Clone, Debug, Default)]
pub struct Invocations {
    policy: InvocationPolicy,
    /// The same before the control plane took anything away.
    profile: InvocationPolicy,
    candidates: [Vec<Candidate>; 3],
    /// What serves a turn that was degraded.
    lesser: [Option<Candidate>; 3],
    /// The latest turn that was degraded, 0 before the first.
    degraded_turn: [u32; 3],
    /// The latest invocation that ended in a lesser form, 0 before the first.
    degraded: u32,
    /// The invocation whose budget was found used up as the latest attempt ended, and what follows.
    exhausted: Option<(u32, Action)>,
    live: Vec<Invocation>,
    last: u32,
}

impl Invocations {
    /// Takes the candidates of one modality, the preferred one first; those beyond the bound are left out.
    pub fn candidates(&mut self, modality: Modality, providers: &[Label]) {
        let most = usize::from(self.policy.max_candidates);
        let taken = providers.iter().take(most);
        self.candidates[modality as usize] =
            taken.map(|provider| Candidate { provider: *provider, circuit: Circuit::default() }).collect();
    }

    /// Takes the lesser form of one modality; it serves what was degraded and is no candidate otherwise.
    pub fn lesser(&mut self, modality: Modality, provider: Label) {
        self.lesser[modality as usize] = Some(Candidate { provider, circuit: Circuit::default() });
    }

    /// Sets what is allowed; call it before the candidates are given.
    pub fn set_policy(&mut self, policy: InvocationPolicy) {
        (self.policy, self.profile) = (policy, policy);
    }

    /// Keeps of what the profile allows only what is in the set.
    pub fn allow(&mut self, actions: Actions) {
        self.policy = self.profile.within(actions);
    }

    /// Name of a candidate.
    #[must_use]
    pub fn provider(&self, modality: Modality, candidate: u8) -> Label {
        let candidates = &self.candidates[modality as usize];
        let lesser = || self.lesser[modality as usize].as_ref();
        let candidate = candidates.get(usize::from(candidate)).or_else(lesser);
        candidate.map_or(Label::Empty, |candidate| candidate.provider)
    }

    /// Index of the lesser form: it follows the candidates.
    fn lesser_index(&self, modality: Modality) -> usize {
        self.candidates[modality as usize].len()
    }

    /// Whether this invocation has a lesser form; recognition has one once it was heard in part.
    fn may_degrade(&self, now_us: u64, invocation: &Invocation, in_part: bool) -> bool {
        let lesser = self.lesser[invocation.modality as usize].as_ref();
        let at_hand = match invocation.modality {
            Modality::Stt => in_part,
            Modality::Llm | Modality::Tts => {
                let taken = usize::from(invocation.candidate) == self.lesser_index(invocation.modality);
                !taken && invocation.turn != 0 && lesser.is_some_and(|lesser| lesser.circuit.allows(now_us))
            }
        };
        self.policy.degrade && at_hand
    }

    fn budget(&self, now_us: u64, invocation: &Invocation, from_us: u64) -> Option<Budget> {
        let policy =
            self.policy.node_budget(invocation.modality, self.may_degrade(now_us, invocation, true))?;
        Some(Budget::start(policy, from_us))
    }

    /// Whether this invocation ended so that its node goes on in a lesser form.
    #[must_use]
    pub const fn degraded(&self, number: u32) -> bool {
        number != 0 && self.degraded == number
    }

    /// Keeps whose budget was found used up only as an attempt at it ended, and what follows.
    pub fn exhaust(&mut self, found: Option<(u32, Action)>) {
        self.exhausted = found;
    }

    /// What follows for an invocation whose budget was found used up as an attempt at it ended.
    #[must_use]
    pub fn exhausted(&self, number: u32) -> Option<Action> {
        self.exhausted.filter(|(latest, _)| *latest == number).map(|(_, action)| action)
    }

    /// What the provider of a live invocation does.
    #[must_use]
    pub fn modality(&self, number: u32) -> Option<Modality> {
        self.live.iter().find(|live| live.number == number).map(|live| live.modality)
    }

    /// Time in which the running invocations of a modality wait for something else is not charged.
    pub fn charge(&mut self, now_us: u64, modality: Modality, charged: bool) {
        for live in self.live.iter_mut().filter(|live| live.modality == modality) {
            match live.budget.as_mut() {
                Some(budget) if charged => budget.resume(now_us),
                Some(budget) => budget.pause(now_us),
                None => {}
            }
        }
    }

    /// Begins an invocation; with every circuit open the provider whose rest ends first is tried.
    ///
    /// # Errors
    /// The reason for which nothing may be called.
    pub fn begin(
        &mut self,
        now_us: u64,
        turn: u32,
        modality: Modality,
    ) -> Result<(Attempt, Option<circuit::State>), Reason> {
        if self.live.len() >= MAX_LIVE {
            return Err(Reason::ProviderOverload);
        }
        let candidates = &self.candidates[modality as usize];
        let open = candidates.iter().position(|candidate| candidate.circuit.allows(now_us));
        let soonest = || (0..candidates.len()).min_by_key(|index| candidates[*index].circuit.until_us());
        let degraded = turn != 0 && self.degraded_turn[modality as usize] == turn;
        let lesser = degraded.then(|| self.lesser_index(modality));
        let index = lesser.or(open).or_else(soonest).ok_or(Reason::ProviderEndpointMissing)?;
        let candidate = u8::try_from(index).unwrap_or(u8::MAX);
        self.last += 1;
        let mut invocation = Invocation {
            number: self.last,
            turn,
            modality,
            state: State::Running,
            tried: 1 << candidate,
            candidate,
            attempt: 1,
            started_us: now_us,
            attempt_us: now_us,
            delivered: false,
            dropped: 0,
            budget: None,
        };
        invocation.budget = self.budget(now_us, &invocation, now_us);
        self.live.push(invocation);
        let circuit = self.circuit(&invocation).and_then(Circuit::call);
        Ok((self.attempt(now_us, &invocation, 0), circuit))
    }

    fn attempt(&self, now_us: u64, invocation: &Invocation, wait_us: u64) -> Attempt {
        let others = self.policy.moves_on() && self.untried(now_us, invocation).is_some();
        let more = others || self.may_degrade(now_us, invocation, true);
        Attempt {
            invocation: invocation.number,
            candidate: invocation.candidate,
            attempt: invocation.attempt,
            wait_us,
            limit_us: more.then(|| self.policy.limits(invocation.modality).attempt_ms * 1000),
        }
    }

    fn untried(&self, now_us: u64, invocation: &Invocation) -> Option<u8> {
        let candidates = &self.candidates[invocation.modality as usize];
        if usize::from(invocation.candidate) == candidates.len() {
            return None;
        }
        let free = |(index, candidate): (u8, &Candidate)| {
            let tried = invocation.tried & (1 << index) != 0;
            (!tried && candidate.circuit.allows(now_us)).then_some(index)
        };
        (0..).zip(candidates).find_map(free)
    }

    /// Whether handing output on now would change the invocation: it is the first, or comes too late.
    #[must_use]
    pub fn delivery_counts(&self, number: u32) -> bool {
        let invocation = self.live.iter().find(|live| live.number == number);
        invocation.is_some_and(|live| live.state != State::Running || !live.delivered)
    }

    /// Output of the running attempt was handed on; false when it was cancelled and must be dropped.
    pub fn deliver(&mut self, number: u32) -> bool {
        let Some(invocation) = self.live.iter_mut().find(|live| live.number == number) else {
            return false;
        };
        if invocation.state == State::Running {
            invocation.delivered = true;
            invocation.budget = None;
            return true;
        }
        invocation.dropped = invocation.dropped.saturating_add(1);
        false
    }

    /// When something of a running attempt's budget is due, microseconds.
    #[must_use]
    pub fn budget_due_us(&self) -> Option<u64> {
        let running = self.live.iter().filter(|live| live.state == State::Running);
        running.filter_map(|live| live.budget?.due_us()).min()
    }

    /// Decides on the first running attempt of whose budget something is due.
    pub fn take_budget_due(&mut self, now_us: u64) -> Option<BudgetDue> {
        let running = self.live.iter_mut().filter(|live| live.state == State::Running);
        for live in running {
            let Some(budget) = live.budget.as_mut() else { continue };
            if budget.due_us().is_some_and(|due_us| due_us <= now_us) {
                let (decision, told) = budget.observe(now_us);
                let (invocation, turn, modality) = (live.number, live.turn, live.modality);
                return Some(BudgetDue { invocation, turn, modality, decision, told });
            }
        }
        None
    }

    /// Cancels every running invocation that `chosen` names; tells each number.
    pub fn cancel(&mut self, chosen: impl Fn(u32, u32, Modality) -> bool, mut each: impl FnMut(u32, u32)) {
        for invocation in &mut self.live {
            let (number, turn) = (invocation.number, invocation.turn);
            if chosen(number, turn, invocation.modality) && invocation.fire(Trigger::Cancel) {
                each(number, turn);
            }
        }
    }

    /// The running attempt ended; none when there is no such invocation.
    ///
    /// Time that the provider spent waiting for its listener, `idle_us`, is not part of its latency.
    /// `in_part` says whether recognition has words that were heard in part.
    pub fn finish(
        &mut self,
        now_us: u64,
        number: u32,
        ending: Ending,
        idle_us: u64,
        in_part: bool,
    ) -> Option<Finished> {
        let place = self.live.iter().position(|live| live.number == number)?;
        let mut invocation = self.live[place];
        let cancelled = invocation.state == State::Cancelled;
        let ending = if cancelled && ending.class != ProviderOutcome::Cancelled {
            Ending::new(ProviderOutcome::Cancelled, None, false, None)
        } else {
            ending
        };
        let modality = invocation.modality;
        let ended_us = now_us.saturating_sub(idle_us).max(invocation.attempt_us);
        let circuit = self.report(now_us, &invocation, ending);
        let mut finished = Finished {
            turn: invocation.turn,
            modality,
            provider: self.provider(modality, invocation.candidate),
            attempt: invocation.attempt,
            ending,
            decision: RetryDecision::None,
            attempt_us: ended_us - invocation.attempt_us,
            total_us: ended_us - invocation.started_us,
            next: None,
            next_provider: Label::Empty,
            circuit,
            next_circuit: None,
            cancelled,
            dropped: invocation.dropped,
            budget_spent: invocation.budget.is_some_and(|mut budget| budget.observe(now_us).0.exhausted),
            degraded: false,
        };
        let untried = self.untried(now_us, &invocation);
        if !invocation.delivered && !cancelled {
            let circuit = self.circuit(&invocation).map(|circuit| circuit.state());
            let resting = circuit == Some(circuit::State::Open);
            let failed = !matches!(ending.class, ProviderOutcome::Success | ProviderOutcome::Cancelled);
            let lesser = failed && self.may_degrade(now_us, &invocation, in_part);
            let at_once = lesser && finished.budget_spent;
            if !at_once {
                finished.decision =
                    self.policy.decide(ending, invocation.attempt, untried.is_some(), resting);
            }
            finished.degraded = lesser && finished.decision == RetryDecision::None;
        }
        if finished.degraded {
            self.degraded = number;
            self.degraded_turn[modality as usize] = invocation.turn;
        }
        if finished.decision == RetryDecision::None {
            invocation.fire(Trigger::Finish);
            self.live.remove(place);
            return Some(finished);
        }
        invocation.fire(Trigger::Again);
        let mut wait_us = 0;
        match untried {
            Some(candidate) if finished.decision != RetryDecision::Retry => {
                invocation.candidate = candidate;
                invocation.attempt = 1;
                invocation.tried |= 1 << candidate;
            }
            _ => {
                invocation.attempt += 1;
                wait_us = ending.backoff_ms * 1000;
            }
        }
        finished.next_circuit = self.circuit(&invocation).and_then(Circuit::call);
        invocation.attempt_us = now_us + wait_us;
        invocation.budget = self.budget(now_us, &invocation, now_us + wait_us);
        self.live[place] = invocation;
        finished.next_provider = self.provider(modality, invocation.candidate);
        finished.next = Some(self.attempt(now_us, &invocation, wait_us));
        Some(finished)
    }

    fn report(&mut self, now_us: u64, invocation: &Invocation, ending: Ending) -> Option<circuit::State> {
        let circuit = self.circuit(invocation)?;
        match ending.class {
            ProviderOutcome::Success => circuit.succeed(),
            ProviderOutcome::Cancelled | ProviderOutcome::Blocked => circuit.cancel(now_us),
            ProviderOutcome::Timeout | ProviderOutcome::Overload | ProviderOutcome::InfrastructureFailure => {
                circuit.fail(now_us, ending.opens_circuit)
            }
        }
    }

    fn circuit(&mut self, invocation: &Invocation) -> Option<&mut Circuit> {
        let candidates = &mut self.candidates[invocation.modality as usize];
        let lesser = self.lesser[invocation.modality as usize].as_mut();
        let candidate = candidates.get_mut(usize::from(invocation.candidate)).or(lesser);
        candidate.map(|candidate| &mut candidate.circuit)
    }

    /// Whether a cancel of `token` would reach a running invocation.
    #[must_use]
    pub fn reached(&self, token: CancelToken) -> bool {
        let running = |live: &&Invocation| live.state == State::Running;
        let reaches = |live: &Invocation| token.reaches(live.number, live.turn, live.modality);
        self.live.iter().filter(running).any(reaches)
    }

    /// Invocations that have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }
}

#[cfg(test)]
mod tests;
