//! Sometimes-assertions: places that a run must have been to, or it has shown nothing about them.

macro_rules! places {
    ($($name:ident => $text:literal),* $(,)?) => {
        /// A place worth reaching.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Place { $($name),* }

        /// Every place with its description.
        pub(crate) const PLACES: &[(Place, &str)] = &[$((Place::$name, $text)),*];
    };
}

places! {
    FailoverInBargeIn => "a failover in the middle of a barge-in",
    PausedHolderWakes => "a paused holder that wakes after its successor has spoken",
    OutageSurvived => "a store outage of a second and more that its holder survived",
    CoughReleasedInReconnect => "a release after a cough during a reconnect",
    CrashInTurn => "a crash in the middle of a turn",
    ExpiredInTurn => "a lease that ran out in the middle of a turn",
    RevokedInTurn => "a lease that was taken away in the middle of a turn",
    GateClosedByFrame => "a deadline that the gate noticed first",
    LateFrameFenced => "provider output after a cancel that the fence kept back",
    HeldFrame => "a frame that met a hold",
    BargeInByVoice => "a barge-in that lasting speech confirmed",
    BargeInByWords => "a barge-in that words confirmed",
    HoldReleased => "a hold that was released",
    BothHolds => "a hold by the caller's voice and by the connection at once",
    ProviderFailed => "a turn that a provider's failure ended",
    ProviderSwitched => "a failed provider attempt that another one followed",
    LateOutputDropped => "provider output after a cancel that was dropped before the gate",
    BudgetExhausted => "a turn that its budget ended",
    FailureNotice => "a notice after a failure",
    TakeoverNotice => "a notice after a takeover",
    Unrecognised => "speech without words that was asked about",
    DetailsShed => "evidence details that were shed",
    EvidenceAbort => "a turn that ended because its evidence found no room",
    EvidenceRefusal => "an intent refused because there was no room for its evidence",
    BaselineLost => "baseline evidence that was lost, and noted as a gap",
    ContinuedUtterance => "a caller who went on after the probe",
    RacedForOrphan => "two workers that raced for one orphan",
    GrantTooLate => "a grant whose answer came after its deadline",
    GrantAnswerLost => "a grant whose answer was lost",
    LateRenewal => "a renewal whose answer came after it was given up",
    RepeatedAnswer => "an answer of the store that came twice",
    OlderRemoved => "an older identity that was removed from the room",
    SdkRejoined => "an SDK that came back by itself for a lawful holder",
    LeftBeforeSdk => "a holder that left before its SDK came back",
    ConnectionLost => "a connection that was given up",
    TextInTurn => "a text that interrupted a turn",
    StopInTurn => "a stop or cancel in a turn",
    ButtonWithoutTurn => "a stop or cancel without a turn",
    HungUpInTurn => "a caller who hung up in the middle of an answer",
    LostWindows => "audio windows that were lost while the caller spoke",
    Committed => "a turn that was heard to its end",
    DrainedAfterTurn => "a drain that let its turn come to its end",
    AbortedWhileDraining => "a turn that was aborted while a drain waited for it",
    RefusedInDrain => "an intent refused because its runtime drains",
    DrainCut => "a drain whose turn did not end in time",
    CrashInDrain => "a crash in the middle of a drain",
    PauseInDrain => "a pause in the middle of a drain",
    CutOffInDrain => "a partition in the middle of a drain",
    RotatedInTurn => "an epoch that rotated in the middle of a turn",
    RotatedInBargeIn => "an epoch that rotated in the middle of a barge-in",
    SupersededFrame => "a frame that the routing view kept back",
    CrashInRotation => "a crash of a holder before it learned of its new epoch",
    PauseInRotation => "a pause of a holder before it learned of its new epoch",
    CutOffInRotation => "a partition of a holder before it learned of its new epoch",
    MovedInTurn => "a session that was moved in the middle of a turn",
    MovedInBargeIn => "a session that was moved in the middle of a barge-in",
    MoveFinished => "a move that came to its end",
    MoveStepRefused => "a step of a move that was refused: out of order, or before the one before it was over",
    MoveLearnedAtStore => "an old placement that learned of a move from the store",
    MoveAnswerLost => "a move whose answer was lost",
    OldCrashInMove => "a crash of the old placement in the middle of a move",
    NewCrashInMove => "a crash of the new placement in the middle of a move",
    OldPauseInMove => "a pause of the old placement in the middle of a move",
    NewPauseInMove => "a pause of the new placement in the middle of a move",
    OldCutOffInMove => "a partition of the old placement in the middle of a move",
    NewCutOffInMove => "a partition of the new placement in the middle of a move",
    RepeatedMessage => "a transport event that came twice",
    BundleMissing => "an intent refused because no bundle of the control plane was there",
    SnapshotStale => "an intent refused because its snapshots were stale",
    PlaneAdmitsNot => "an intent that the control plane did not admit",
    RefusedByAuthority => "an intent refused because of its authority",
    OlderBundle => "a bundle that was older than one taken before",
    OpenedAfterOutage => "a deferred intent that opened a turn when the control plane was back",
}

/// How often each place was reached.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    counts: Vec<u64>,
}

impl Default for Reached {
    fn default() -> Self {
        Self { counts: vec![0; PLACES.len()] }
    }
}

impl Reached {
    pub(crate) fn hit(&mut self, place: Place) {
        self.counts[place as usize] += 1;
    }

    pub(crate) fn count(&self, place: Place) -> u64 {
        self.counts[place as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }

    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let never = PLACES.iter().filter(|(place, _)| self.count(*place) == 0);
        never.map(|(_, text)| *text).collect()
    }
}
