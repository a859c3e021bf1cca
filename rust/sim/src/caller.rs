//! A caller: speaks sentences with pauses, coughs, says "mhm", writes, presses stop, hangs up.

use crate::rng::Rng;

/// What the caller utters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Utterance {
    Sentence,
    Unfinished,
    Cough,
    Backchannel,
    /// Long noise in which nobody finds words.
    Mumble,
}

/// One stretch of sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speech {
    pub(crate) kind: Utterance,
    from_us: u64,
    until_us: u64,
    pause: (u64, u64),
}

impl Speech {
    fn new(rng: &mut Rng, now_us: u64, kind: Utterance) -> Self {
        let length_us = 1000
            * match kind {
                Utterance::Sentence | Utterance::Unfinished => rng.range(500, 4000),
                Utterance::Mumble => rng.range(800, 1600),
                Utterance::Cough => rng.range(60, 260),
                Utterance::Backchannel => rng.range(150, 450),
            };
        let pause_us = if rng.one_in(2) { 1000 * rng.range(64, 900) } else { 0 };
        let at_us = now_us + length_us / 2;
        Self {
            kind,
            from_us: now_us,
            until_us: now_us + length_us + pause_us,
            pause: (at_us, at_us + pause_us),
        }
    }

    fn sounds(&self, now_us: u64) -> bool {
        now_us < self.until_us && !(self.pause.0..self.pause.1).contains(&now_us)
    }

    /// Words said so far: one in 300 ms.
    fn words(&self, now_us: u64) -> u32 {
        match self.kind {
            Utterance::Cough | Utterance::Mumble => 0,
            Utterance::Backchannel => 1,
            Utterance::Sentence | Utterance::Unfinished => {
                let spoken_us = now_us.clamp(self.from_us, self.until_us) - self.from_us;
                u32::try_from(spoken_us / 300_000).unwrap_or(0).max(1)
            }
        }
    }
}

/// What a recogniser makes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) count: u32,
    pub(crate) backchannel: bool,
    pub(crate) complete: bool,
}

/// One caller on one call.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) on_line: bool,
    pub(crate) began_us: u64,
    pub(crate) speech: Option<Speech>,
    pub(crate) reconnecting: bool,
    /// Tells one reconnect from the next.
    pub(crate) connection: u32,
    pub(crate) heard_epoch: u64,
    pub(crate) heard_us: u64,
    /// Latest epoch that the store ended before its lease ran out: its holder may learn of it with its next
    /// renewal only.
    pub(crate) revoked_epoch: u64,
    /// From then on nothing but one question is said.
    pub(crate) polite: bool,
}

impl Caller {
    pub(crate) const fn new(now_us: u64) -> Self {
        Self {
            on_line: true,
            began_us: now_us,
            speech: None,
            reconnecting: false,
            connection: 0,
            heard_epoch: 0,
            heard_us: 0,
            revoked_epoch: 0,
            polite: false,
        }
    }

    pub(crate) fn speak(&mut self, rng: &mut Rng, now_us: u64, kind: Utterance) {
        self.speech = Some(Speech::new(rng, now_us, kind));
    }

    /// Says one plain question of 1.5 s.
    pub(crate) fn ask(&mut self, now_us: u64) {
        let until_us = now_us + 1_500_000;
        let kind = Utterance::Sentence;
        self.speech = Some(Speech { kind, from_us: now_us, until_us, pause: (until_us, until_us) });
    }

    /// Whether sound is in the microphone, pauses left out.
    pub(crate) fn sounds(&self, now_us: u64) -> bool {
        self.speech.is_some_and(|speech| speech.sounds(now_us))
    }

    /// What the detector makes of the present window.
    pub(crate) fn permille(&self, rng: &mut Rng, now_us: u64) -> u16 {
        let permille = if self.sounds(now_us) { rng.range(550, 1000) } else { rng.range(0, 300) };
        u16::try_from(permille).unwrap_or(0)
    }

    /// What a recogniser would say now.
    pub(crate) fn words(&self, now_us: u64) -> Words {
        let Some(speech) = self.speech else {
            return Words { count: 0, backchannel: false, complete: false };
        };
        Words {
            count: speech.words(now_us),
            backchannel: speech.kind == Utterance::Backchannel,
            complete: speech.kind == Utterance::Sentence && now_us >= speech.until_us,
        }
    }
}

/// Draws what the caller says next.
pub(crate) fn draw(rng: &mut Rng) -> Utterance {
    match rng.range(0, 20) {
        0..=9 => Utterance::Sentence,
        10..=12 => Utterance::Unfinished,
        13..=15 => Utterance::Cough,
        16..=18 => Utterance::Backchannel,
        _ => Utterance::Mumble,
    }
}
