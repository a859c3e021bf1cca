//! Providers that misbehave, and the way of their frames: gate, native queue, server.

use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{Event as Input, PlaybackEvent, ProviderOutcome};
use rspp_kernel::invocation::outcome::Ending;

use crate::agent::Phase;
use crate::queue::{AgentId, Event};
use crate::reached::Place;
use crate::shell::SAMPLES;
use crate::world::World;

const FRAME_US: u64 = 20_000;
/// Frames behind the gate: 40 ms.
const QUEUE: u32 = 2;

impl World {
    pub(crate) fn first_audio(&mut self, agent: AgentId, turn: u32) {
        let share = &mut self.agents[agent];
        let Some(voice) = share.voice.as_mut().filter(|voice| voice.turn == turn) else { return };
        voice.ready = true;
        let (dead, invocation) = (share.phase == Phase::Dead, voice.invocation);
        if dead || !self.hand_on(agent, invocation) {
            return;
        }
        self.play(agent);
    }

    pub(crate) fn provider_fails(&mut self, agent: AgentId, turn: u32) {
        if self.agents[agent].phase != Phase::Live {
            return;
        }
        let voice = self.agents[agent].voice.filter(|voice| voice.turn == turn);
        if let Some(voice) = voice {
            let classes =
                [ProviderOutcome::InfrastructureFailure, ProviderOutcome::Timeout, ProviderOutcome::Overload];
            let class = classes[self.rng.index(classes.len())];
            if let Some(wait_us) = self.attempt_ends(agent, voice.invocation, class) {
                self.hit(Place::ProviderSwitched);
                self.plan_in(wait_us + 300_000, Event::FirstAudio(agent, turn));
                return;
            }
            self.hit(Place::ProviderFailed);
        }
        self.step(agent, Input::GenerationFailed { turn, reason: "provider_failure" });
    }

    /// Tells the kernel how an attempt ended; returns the wait before the next one, if there is one.
    fn attempt_ends(&mut self, agent: AgentId, invocation: u32, class: ProviderOutcome) -> Option<u64> {
        let now_us = self.local_us(agent);
        let ending = Ending::new(class, None, true, None);
        let kernel = self.agents[agent].kernel.as_mut()?;
        let next = kernel.attempt_finished(now_us, invocation, ending, 0);
        self.plan_tick(agent);
        next.map(|attempt| attempt.wait_us)
    }

    /// Asks whether a provider's output may go on; after the end of its turn it never may.
    fn hand_on(&mut self, agent: AgentId, invocation: u32) -> bool {
        let now_us = self.local_us(agent);
        let share = &mut self.agents[agent];
        let Some(kernel) = share.kernel.as_mut() else { return false };
        let passed = kernel.output_handed_on(now_us, invocation);
        let wanted = share.voice.is_some_and(|voice| voice.invocation == invocation);
        let alive = share.open.is_some() && wanted && now_us < share.deadline_us;
        self.plan_tick(agent);
        if passed && !alive {
            self.never(format!(
                "agent {agent}: output of invocation {invocation} was handed on after its turn"
            ));
        }
        passed
    }

    pub(crate) fn play(&mut self, agent: AgentId) {
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
            Verdict::StaleEpoch => self.hit(Place::SupersededFrame),
            Verdict::Fenced => {}
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
    pub(crate) fn late_output(&mut self, agent: AgentId, turn: u32, sequence: u64, invocation: u32) {
        if self.agents[agent].phase == Phase::Dead {
            return;
        }
        let epoch = self.agents[agent].epoch;
        if !self.hand_on(agent, invocation) {
            self.hit(Place::LateOutputDropped);
        }
        if self.offer(agent, turn, epoch, sequence) == Verdict::Fenced {
            self.hit(Place::LateFrameFenced);
        }
        self.attempt_ends(agent, invocation, ProviderOutcome::Cancelled);
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
            let invocation = self.agents[agent].voice.map_or(0, |voice| voice.invocation);
            self.attempt_ends(agent, invocation, ProviderOutcome::Success);
            self.step(agent, Input::GenerationFinished { turn });
        }
    }
}
