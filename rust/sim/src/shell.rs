//! The shell of each kernel: hears the caller, runs providers that misbehave, plays frames through the
//! gate, performs effects, and checks with every effect and frame that no rule was broken.

use rspp_kernel::effect::{Effect, Intent, TurnOutcome};
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{
    ConnectionState, Event as Input, Input as Timed, Modality, PlaybackEvent, ProviderOutcome,
};

use crate::agent::{Phase, Voice};
use crate::queue::{AgentId, Button, CallId, Event, Heard};
use crate::reached::Place;
use crate::world::World;

const FRAME_US: u64 = 20_000;
const SAMPLES: u64 = 480;
/// Frames behind the gate: 40 ms.
const QUEUE: u32 = 2;
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
        if now_us >= share.deadline_us && !kernel.drained() {
            self.never(format!("agent {agent} stepped past its deadline and still holds authority"));
            return;
        }
        self.plan_tick(agent);
    }

    fn plan_tick(&mut self, agent: AgentId) {
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
            Effect::RefuseIntent { reason, .. } => {
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
            Effect::EndUtterance { .. } | Effect::AgentState { .. } | Effect::CancelInvocation { .. } => {}
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
        self.outcome.turns += 1;
        match intent {
            Intent::FailureNotice => self.hit(Place::FailureNotice),
            Intent::TakeoverNotice => self.hit(Place::TakeoverNotice),
            Intent::Unrecognised => self.hit(Place::Unrecognised),
            Intent::Greeting | Intent::Utterance | Intent::Text => {}
        }
        let frames_left = self.rng.small(20, 350);
        let stalls_at = self.chance(25).then(|| self.rng.small(0, frames_left));
        let share = &mut self.agents[agent];
        share.open = Some(turn);
        share.held = false;
        share.voice = Some(Voice { turn, frames_left, sequence: 0, ready: false, started: false, stalls_at });
        let first_us = self.rng.range(80_000, 1_200_000);
        if !self.chance(30) {
            self.plan_in(first_us, Event::FirstAudio(agent, turn));
        }
        if self.chance(20) {
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
        let sequence = share.voice.map_or(0, |voice| voice.sequence);
        let speaking = share.held && share.voice.is_some();
        share.clear_queue();
        let (call, worker) = (share.call, share.worker);
        let (pauses, wakes) = (share.pauses, self.workers[worker].pauses);
        match (reason, event) {
            ("authority_loss", Input::LeaseLost { .. }) => {}
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
        if self.faults && self.rng.one_in(3) {
            let wait_us = self.rng.range(1_000, 400_000);
            self.plan_in(wait_us, Event::LateOutput(agent, turn, sequence));
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

    pub(crate) fn first_audio(&mut self, agent: AgentId, turn: u32) {
        let now_us = self.local_us(agent);
        let share = &mut self.agents[agent];
        let Some(voice) = share.voice.as_mut().filter(|voice| voice.turn == turn) else { return };
        voice.ready = true;
        if share.phase == Phase::Dead {
            return;
        }
        if let Some(kernel) = share.kernel.as_mut() {
            kernel.provider_outcome(now_us, turn, Modality::Llm, ProviderOutcome::Success, 1000);
        }
        self.play(agent);
    }

    pub(crate) fn provider_fails(&mut self, agent: AgentId, turn: u32) {
        if self.agents[agent].phase != Phase::Live {
            return;
        }
        if self.agents[agent].open == Some(turn) {
            self.hit(Place::ProviderFailed);
        }
        self.step(agent, Input::GenerationFailed { turn, reason: "provider_failure" });
    }

    fn play(&mut self, agent: AgentId) {
        let share = &mut self.agents[agent];
        share.pump += 1;
        let pump = share.pump;
        self.frame(agent, pump);
    }

    pub(crate) fn frame(&mut self, agent: AgentId, pump: u32) {
        let share = &self.agents[agent];
        let Some(voice) = share.voice.filter(|voice| voice.ready) else { return };
        let stalled = voice.stalls_at.is_some_and(|at| voice.frames_left <= at);
        if share.pump != pump || share.phase == Phase::Dead || voice.frames_left == 0 || stalled {
            return;
        }
        if share.queued >= QUEUE {
            self.plan_in(FRAME_US, Event::Frame(agent, pump));
            return;
        }
        let epoch = share.epoch;
        match self.offer(agent, voice.turn, epoch, voice.sequence) {
            Verdict::Pass => {
                let share = &mut self.agents[agent];
                share.queued += 1;
                let (flush, turn) = (share.flush, voice.turn);
                if let Some(voice) = &mut share.voice {
                    voice.frames_left -= 1;
                    voice.sequence += 1;
                }
                let finishes = voice.frames_left == 1;
                self.plan_in(u64::from(QUEUE) * FRAME_US, Event::FrameOut { agent, flush, turn, finishes });
                self.plan_in(FRAME_US, Event::Frame(agent, pump));
            }
            Verdict::Held => self.hit(Place::HeldFrame),
            Verdict::LeaseExpired => self.hit(Place::GateClosedByFrame),
            Verdict::Fenced | Verdict::StaleEpoch => {}
        }
        self.plan_tick(agent);
    }

    /// Offers a frame to the gate and holds the verdict against what the world knows.
    fn offer(&mut self, agent: AgentId, turn: u32, epoch: u64, sequence: u64) -> Verdict {
        let now_us = self.local_us(agent);
        let share = &mut self.agents[agent];
        let Some(kernel) = share.kernel.as_mut() else { return Verdict::Fenced };
        let verdict = kernel.frame(now_us, turn, epoch, sequence, SAMPLES);
        if verdict != Verdict::Pass {
            return verdict;
        }
        self.outcome.frames += 1;
        let share = &self.agents[agent];
        let caller = &self.callers[share.call];
        let broken = if now_us >= share.deadline_us {
            "a frame passed after the deadline"
        } else if share.open != Some(turn) || turn <= share.cancelled {
            "a frame passed a fence"
        } else if share.held {
            "a frame passed a hold"
        } else if share.phase != Phase::Live {
            "a frame passed before the older identities were removed, or after leaving"
        } else if epoch < self.store.epoch(share.call) && epoch > caller.revoked_epoch {
            "a frame passed although the store had given the call to another"
        } else {
            return verdict;
        };
        self.never(format!("agent {agent}, epoch {epoch}, turn {turn}: {broken}"));
        verdict
    }

    /// A provider that was cancelled goes on: none of it may leave.
    pub(crate) fn late_output(&mut self, agent: AgentId, turn: u32, sequence: u64) {
        if self.agents[agent].phase == Phase::Dead {
            return;
        }
        let epoch = self.agents[agent].epoch;
        if self.offer(agent, turn, epoch, sequence) == Verdict::Fenced {
            self.hit(Place::LateFrameFenced);
        }
        self.plan_tick(agent);
    }

    pub(crate) fn frame_out(&mut self, agent: AgentId, flush: u32, turn: u32, finishes: bool) {
        let share = &mut self.agents[agent];
        if share.flush != flush || share.phase == Phase::Dead {
            return;
        }
        share.queued -= 1;
        if turn <= share.cancelled {
            self.never(format!("agent {agent}: a frame of turn {turn} left after its fence"));
            return;
        }
        let (call, epoch) = (share.call, share.epoch);
        let first = share.voice.as_mut().is_some_and(|voice| !std::mem::replace(&mut voice.started, true));
        let reaches = self.workers[share.worker].reaches_room && !self.callers[call].reconnecting;
        if share.in_room && reaches {
            let wait_us = self.rng.range(8_000, if self.faults { 120_000 } else { 40_000 });
            let sent_us = self.now_us;
            self.plan_in(wait_us, Event::Heard { call, epoch, sent_us });
        }
        if first {
            self.step(agent, Input::Playback { turn, event: PlaybackEvent::Started, samples: SAMPLES });
            if self.chance(20) {
                self.plan_in(50_000, Event::Repeated(agent, turn));
            }
        }
        if finishes && self.agents[agent].open == Some(turn) {
            self.step(agent, Input::GenerationFinished { turn });
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
        let Some(kernel) = share.kernel.as_mut() else { return };
        let journal = &mut share.journal;
        let (noted, lines) = (journal.noted, journal.lines);
        let mut fault = None;
        kernel.drain_evidence(usize::MAX, |line| {
            fault = fault.take().or_else(|| journal.take(line));
        });
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
        if let Some(fault) = fault {
            self.never(format!("agent {agent}: {fault}"));
        }
    }
}
