//! The shell of each kernel: hears the caller, performs effects, and checks with every step and effect
//! that no rule was broken.

use rspp_kernel::effect::{Effect, Intent, TurnOutcome};
use rspp_kernel::input::{ConnectionState, Event as Input, Input as Timed, Modality, PlaybackEvent};

use crate::agent::{Phase, Voice};
use crate::queue::{AgentId, Button, CallId, Event, Heard};
use crate::reached::Place;
use crate::world::World;

/// A frame of 20 ms at 24 kHz.
pub(crate) const SAMPLES: u64 = 480;
const DRAIN_US: u64 = 200_000;

impl World {
    /// Whether what happens in the room reaches it.
    pub(crate) fn hears(&self, agent: AgentId) -> bool {
        let share = &self.agents[agent];
        let worker = &self.workers[share.worker];
        share.phase == Phase::Live && worker.runs() && worker.reaches_room
    }

    pub(crate) fn step(&mut self, agent: AgentId, event: Input<&str>) {
        let now_us = self.local_us(agent);
        let Some(kernel) = self.agents[agent].kernel.as_mut() else { return };
        self.outcome.steps += 1;
        let effects = kernel.step(Timed { now_us, event });
        if !effects.is_empty() {
            let effects = effects.to_vec();
            self.tell(|| format!("  agent {agent} <- {event:?}"));
            for effect in &effects {
                self.tell(|| format!("  agent {agent} -> {effect:?}"));
                self.perform(agent, effect, event);
            }
        }
        let share = &self.agents[agent];
        let Some(kernel) = share.kernel.as_ref() else { return };
        let told = share.open.unwrap_or(0);
        if kernel.turn() != told {
            let kept = kernel.turn();
            self.never(format!("agent {agent} has turn {kept} open and was told of {told}"));
            return;
        }
        if told != 0 && kernel.epoch() != share.open_epoch {
            let (was, now) = (share.open_epoch, kernel.epoch());
            self.never(format!("agent {agent}: turn {told} of epoch {was} goes on under epoch {now}"));
            return;
        }
        if now_us >= share.deadline_us && !kernel.drained() {
            self.never(format!("agent {agent} stepped past its deadline and still holds authority"));
            return;
        }
        self.plan_tick(agent);
    }

    pub(crate) fn plan_tick(&mut self, agent: AgentId) {
        let share = &self.agents[agent];
        let Some(due_us) = share.kernel.as_ref().and_then(|kernel| kernel.next_deadline_us()) else { return };
        let at_us = self.workers[share.worker].clock.world_us(due_us).max(self.now_us);
        if at_us < share.tick_us {
            self.agents[agent].tick_us = at_us;
            self.queue.plan(at_us, Event::Tick(agent, at_us));
        }
    }

    pub(crate) fn tick(&mut self, agent: AgentId, at_us: u64) {
        let share = &mut self.agents[agent];
        if share.tick_us != at_us || share.phase == Phase::Dead {
            return;
        }
        share.tick_us = u64::MAX;
        let now_us = self.local_us(agent);
        let due = self.agents[agent].kernel.as_ref().and_then(|kernel| kernel.next_deadline_us());
        match due {
            Some(due_us) if due_us <= now_us => self.step(agent, Input::Tick),
            Some(_) => self.plan_tick(agent),
            None => {}
        }
    }

    fn perform(&mut self, agent: AgentId, effect: &Effect, event: Input<&str>) {
        match effect {
            Effect::OpenTurn { turn, epoch, intent, .. } => self.open_turn(agent, *turn, *epoch, *intent),
            Effect::HoldOutput { .. } => {
                let call = self.agents[agent].call;
                let reconnecting = self.callers[call].reconnecting;
                let share = &mut self.agents[agent];
                share.held = true;
                share.hold_saw_reconnect = reconnecting;
                share.hold_saw_cough = false;
                share.clear_queue();
                let cough = crate::caller::Utterance::Cough;
                if self.callers[call].speech.is_some_and(|speech| speech.kind == cough) {
                    self.agents[agent].hold_saw_cough = self.callers[call].sounds(self.now_us);
                }
            }
            Effect::ResumeOutput { .. } => self.resume(agent),
            Effect::CancelTurn { turn, reason } => self.cancelled(agent, *turn, reason, event),
            Effect::CloseTurn { turn, outcome, .. } => self.closed(agent, *turn, *outcome),
            Effect::RefuseIntent { outcome, reason, .. } => {
                self.refused(agent, outcome, reason);
                if self.agents[agent].draining && *reason == "admission_capacity_reject" {
                    self.hit(Place::RefusedInDrain);
                }
                if *reason == "recording_evidence_unavailable" {
                    self.hit(Place::EvidenceRefusal);
                }
            }
            Effect::StartUtterance { utterance, .. } => {
                let share = &mut self.agents[agent];
                (share.utterance, share.revision) = (*utterance, 0);
            }
            Effect::ContinueUtterance { .. } => {
                self.agents[agent].revision += 1;
                self.hit(Place::ContinuedUtterance);
            }
            Effect::ProbeUtterance { .. } => self.probe(agent),
            Effect::LeaveRoom { .. } => self.leave(agent),
            Effect::EndUtterance { .. }
            | Effect::AgentState { .. }
            | Effect::CancelInvocation { .. }
            | Effect::TellNode { .. } => {}
        }
    }

    fn open_turn(&mut self, agent: AgentId, turn: u32, epoch: u64, intent: Intent) {
        let local_us = self.local_us(agent);
        let share = &self.agents[agent];
        if share.open.is_some() || turn <= share.ended {
            let beside = share.open;
            self.never(format!("agent {agent} opened turn {turn} beside {beside:?}"));
        }
        let share = &self.agents[agent];
        if epoch != share.epoch || local_us >= share.deadline_us || share.phase != Phase::Live {
            self.never(format!("A4: agent {agent} opened turn {turn} without authority"));
        }
        self.check_bundle(agent, turn);
        self.outcome.turns += 1;
        match intent {
            Intent::FailureNotice => self.hit(Place::FailureNotice),
            Intent::TakeoverNotice => self.hit(Place::TakeoverNotice),
            Intent::Unrecognised => self.hit(Place::Unrecognised),
            Intent::Greeting | Intent::Utterance | Intent::Text => {}
        }
        if self.agents[agent].draining && intent != Intent::FailureNotice {
            self.never(format!("agent {agent}: turn {turn} opened for {intent:?} while its worker drains"));
        }
        let frames_left = self.rng.small(20, 350);
        let stalls_at = self.chance(25).then(|| self.rng.small(0, frames_left));
        let share = &mut self.agents[agent];
        let attempt = share.kernel.as_mut().map(|kernel| kernel.invoke(local_us, turn, Modality::Llm));
        let invocation = attempt.and_then(Result::ok).map_or(0, |attempt| attempt.invocation);
        share.open = Some(turn);
        share.open_epoch = epoch;
        share.held = false;
        share.voice = Some(Voice {
            turn,
            frames_left,
            sequence: 0,
            ready: false,
            invocation,
            started: false,
            stalls_at,
        });
        let first_us = self.rng.range(80_000, 1_200_000);
        if invocation == 0 {
            // Every circuit is open.
            self.plan_in(1_000, Event::ProviderFails(agent, turn));
        } else if !self.chance(30) {
            self.plan_in(first_us, Event::FirstAudio(agent, turn));
        }
        let fails_once_in = if self.agents[agent].bad_provider { 2 } else { 12 };
        if self.chance(fails_once_in) {
            let wait_us = self.rng.range(10_000, 4_000_000);
            self.plan_in(wait_us, Event::ProviderFails(agent, turn));
        }
    }

    fn resume(&mut self, agent: AgentId) {
        let share = &mut self.agents[agent];
        share.held = false;
        let cough_in_reconnect = share.hold_saw_cough && share.hold_saw_reconnect;
        self.hit(Place::HoldReleased);
        if cough_in_reconnect {
            self.hit(Place::CoughReleasedInReconnect);
        }
        self.play(agent);
    }

    fn cancelled(&mut self, agent: AgentId, turn: u32, reason: &str, event: Input<&str>) {
        let share = &mut self.agents[agent];
        share.cancelled = share.cancelled.max(turn);
        let (sequence, invocation) = share.voice.map_or((0, 0), |voice| (voice.sequence, voice.invocation));
        let speaking = share.held && share.voice.is_some();
        share.clear_queue();
        let (call, worker) = (share.call, share.worker);
        let (pauses, wakes) = (share.pauses, self.workers[worker].pauses);
        match (reason, event) {
            ("authority_loss", Input::LeaseLost { .. }) => {}
            ("authority_loss", Input::Lease { .. }) => {
                self.hit(if speaking { Place::RotatedInBargeIn } else { Place::RotatedInTurn });
            }
            ("authority_loss", Input::Migration { .. }) => {
                self.hit(if speaking { Place::MovedInBargeIn } else { Place::MovedInTurn });
            }
            (_, Input::Drain | Input::Connection { reason: "drained", .. })
                if self.agents[agent].drain_turn == Some(turn) =>
            {
                self.never(format!("agent {agent}: a drain cut turn {turn} short"));
            }
            ("authority_loss", _) => {
                self.hit(Place::ExpiredInTurn);
                if pauses < wakes && self.store.epoch(call) > self.agents[agent].epoch {
                    self.hit(Place::PausedHolderWakes);
                }
            }
            ("recording_evidence_unavailable", _) => self.hit(Place::EvidenceAbort),
            ("node_timeout_or_failure", Input::Tick | Input::VoiceActivity { .. }) => {
                self.hit(Place::BudgetExhausted);
            }
            ("cancelled", Input::VoiceActivity { .. }) => self.hit(Place::BargeInByVoice),
            ("cancelled", Input::Transcript(_)) => self.hit(Place::BargeInByWords),
            ("cancelled", Input::TextMessage { .. }) => self.hit(Place::TextInTurn),
            ("cancelled", Input::Cancel { .. }) => self.hit(Place::StopInTurn),
            _ => {}
        }
        if reason == "authority_loss" && speaking {
            self.agents[agent].barge_in_lost = true;
        }
        if invocation != 0 {
            let wait_us = self.rng.range(1_000, 400_000);
            self.plan_in(wait_us, Event::LateOutput(agent, turn, sequence, invocation));
        }
    }

    fn closed(&mut self, agent: AgentId, turn: u32, outcome: TurnOutcome) {
        let share = &mut self.agents[agent];
        if share.open.take() != Some(turn) || turn <= share.ended {
            self.never(format!("A1, A2: agent {agent} closed turn {turn}, which was not open"));
            return;
        }
        let aborted = outcome == TurnOutcome::Abort;
        if aborted != (share.cancelled == turn) {
            self.never(format!("A1: agent {agent} ended turn {turn} both ways"));
        }
        let share = &mut self.agents[agent];
        share.ended = turn;
        share.held = false;
        share.voice = None;
        let waited_for = share.drain_turn.take() == Some(turn);
        if waited_for {
            self.hit(if aborted { Place::AbortedWhileDraining } else { Place::DrainedAfterTurn });
        }
        if !aborted {
            self.hit(Place::Committed);
            self.plan_in(40_000, Event::Repeated(agent, turn));
        }
    }

    fn leave(&mut self, agent: AgentId) {
        let share = &mut self.agents[agent];
        share.in_room = false;
        share.clear_queue();
        share.phase = Phase::Left;
        if !share.lost && self.local_us(agent) < self.agents[agent].deadline_us {
            self.give_back(agent);
        }
    }

    /// One window of the caller's audio, and now and then a partial hypothesis.
    pub(crate) fn ears(&mut self, agent: AgentId, permille: u16, partial: bool) {
        if !self.hears(agent) || !self.agents[agent].in_room {
            return;
        }
        let media_sample = self.now_us * 16 / 1000;
        self.step(agent, Input::VoiceActivity { media_sample, permille });
        if partial && self.agents[agent].phase == Phase::Live {
            let heard = self.understood(agent, false);
            self.step(agent, Input::Transcript(heard.into()));
        }
    }

    fn understood(&self, agent: AgentId, probe: bool) -> Heard {
        let share = &self.agents[agent];
        let words = self.callers[share.call].words(self.now_us);
        Heard {
            utterance: share.utterance,
            revision: share.revision,
            words: words.count,
            backchannel: words.backchannel,
            complete: words.complete && probe,
            probe,
        }
    }

    fn probe(&mut self, agent: AgentId) {
        if self.chance(25) {
            return;
        }
        let slowest_us = if self.chance(15) { 3_000_000 } else { 250_000 };
        let wait_us = self.rng.range(20_000, slowest_us);
        let heard = self.understood(agent, true);
        self.plan_in(wait_us, Event::Hypothesis(agent, heard));
    }

    pub(crate) fn hypothesis(&mut self, agent: AgentId, heard: Heard) {
        if self.agents[agent].phase == Phase::Live {
            self.step(agent, Input::Transcript(heard.into()));
        }
    }

    /// The transport says something about a turn's end, perhaps once more.
    pub(crate) fn repeated(&mut self, agent: AgentId, turn: u32) {
        let share = &self.agents[agent];
        if share.phase != Phase::Live {
            return;
        }
        let event = if share.ended >= turn { PlaybackEvent::Completed } else { PlaybackEvent::Started };
        if event == PlaybackEvent::Started || self.chance(30) {
            self.hit(Place::RepeatedMessage);
            self.plan_in(70_000, Event::Repeated(agent, turn));
        }
        self.step(agent, Input::Playback { turn, event, samples: SAMPLES });
    }

    /// The server passes a frame on, if the identity is still there.
    pub(crate) fn heard(&mut self, call: CallId, epoch: u64, sent_us: u64) {
        let sender = self.shares[call].iter().find(|agent| self.agents[**agent].epoch == epoch);
        let forwarded = sender.is_some_and(|agent| self.agents[*agent].in_room);
        let caller = &mut self.callers[call];
        if !forwarded || !caller.on_line {
            return;
        }
        let before = caller.heard_epoch;
        caller.heard_epoch = before.max(epoch);
        caller.heard_us = self.now_us;
        if epoch < before {
            self.never(format!("call {call}: epoch {epoch}, sent at {sent_us}, heard after epoch {before}"));
        }
    }

    pub(crate) fn button(&mut self, call: CallId, button: Button) {
        for place in 0..self.shares[call].len() {
            let agent = self.shares[call][place];
            if !self.hears(agent) {
                continue;
            }
            let Some(signal) = button.signal() else {
                self.step(agent, Input::TextMessage { reference: 1 });
                continue;
            };
            if self.agents[agent].open.is_none() {
                self.hit(Place::ButtonWithoutTurn);
            }
            self.step(agent, Input::Cancel { signal });
        }
    }

    pub(crate) fn tell_connection(&mut self, call: CallId, state: ConnectionState, reason: &str) {
        for place in 0..self.shares[call].len() {
            let agent = self.shares[call][place];
            if self.hears(agent) {
                self.step(agent, Input::Connection { state, reason });
            }
        }
    }

    /// Stage B takes what there is, unless its disk is stuck.
    pub(crate) fn drain(&mut self, agent: AgentId) {
        if self.agents[agent].phase == Phase::Dead {
            return;
        }
        if self.now_us >= self.agents[agent].stuck_until_us {
            self.collect(agent);
        }
        if self.agents[agent].active() {
            self.plan_in(DRAIN_US, Event::Drain(agent));
        }
    }

    pub(crate) fn collect(&mut self, agent: AgentId) {
        let share = &mut self.agents[agent];
        let (Some(kernel), Some(twin)) = (share.kernel.as_mut(), share.twin.as_mut()) else { return };
        let journal = &mut share.journal;
        let (noted, lines) = (journal.noted, journal.lines);
        let collected = twin.collect(kernel, journal);
        let shed = kernel.evidence_dropped();
        let newly_shed = shed > share.shed;
        share.shed = shed;
        let said = journal.downgrades > 0 || journal.lost + journal.noted > 0;
        let silent = journal.lost > journal.noted;
        self.outcome.records += journal.lines - lines;
        if newly_shed {
            self.hit(Place::DetailsShed);
            if !said {
                self.never(format!("agent {agent}: details were shed and nothing says so"));
            }
        }
        if silent {
            self.never(format!("agent {agent}: evidence was lost without a gap note"));
        } else if self.agents[agent].journal.noted > noted {
            self.hit(Place::BaselineLost);
        }
        if let Err(fault) = collected {
            self.never(format!("agent {agent}: {fault}"));
        }
    }
}
