//! The closed vocabulary of reasons, one list per control signal (section 2.5 and W-09 of the contracts).
//!
//! A signal whose list is empty carries no reason. Words that come from outside and are in no list are
//! written as `unlisted_reason`; the input record beside the signal keeps the word itself.

use crate::decision::Outcome;
use crate::reason::{Label, Reason};
use crate::signal::Signal;

use Reason::{
    AbiDuplicateEvent, AbiEnvelopeInvalid, AbiSequenceRegression, AbiSizeExceeded, AbiVersionRetired,
    AbiVersionUnsupported, AdapterInvokeError, AdmissionCapacityAllow, AdmissionCapacityDefer,
    AdmissionCapacityReject, AudioResumed, AuthoritativeHandoff, AuthorityEpochMismatch,
    AuthorityEpochRotation, AuthorityLoss, AuthorityRevokedBeforeOpen, AuthorityRevokedInTurn,
    BackpressureAsserted, BudgetExhausted, BudgetWarning, CallerAbsent, CallerLeft, CallerRejected,
    CallerRemoved, CallerReturned, CallerUnavailable, CallerVanished, CancelFenceApplied,
    CancelRequestedBeforeInvoke, Cancelled, CircuitClosed, CircuitHalfOpened, CircuitOpened,
    ConfigurationInvalid, CpAdmissionAllowed, CpAdmissionDeferCapacity, CpAdmissionRejectPolicy, Drained,
    DuplicateIdentity, EdgeWatermarkHigh, ExecutionPlanDenied, Forced, HangUp, InternalError,
    LeaseDeauthorized, LeaseExpired, LeaseInvalidInput, LeaseStaleEpoch, LeftRoom, LevelTimeOver,
    NodeBudgetThresholdExceeded, NodeTimeoutOrFailure, OperatorRequest, OutputAccepted,
    PayloadStoreUnavailable, PlanMaterializationFailed, ProviderAuthOrPolicyBlock, ProviderCancelled,
    ProviderClientError, ProviderEmptyAudio, ProviderEndpointMissing, ProviderFailure, ProviderOverload,
    ProviderServerError, ProviderTimeout, ProviderTransportError, QueuePressureDrop, Reconnected,
    RecordingEvidenceUnavailable, RegionFailoverComplete, RegionFailoverStart, RemovedFromRoom, RoomClosed,
    RoomDeleted, SchedulingPointShed, ServerShutdown, SessionClosed, SessionTurnIntent,
    SnapshotInvalidOrMissing, StageADetailOverflow, Superseded, SyncAtomicDrop, SyncDomainPartialLoss,
    TrackMuted, TrackUnmuted, TrackUnpublished, TransportDisconnectOrStall, TurnStartBundleResolutionFailed,
    UnlistedReason,
};

const PROVIDER: &[Reason] = &[
    ProviderFailure,
    ProviderTimeout,
    ProviderOverload,
    ProviderAuthOrPolicyBlock,
    ProviderClientError,
    ProviderServerError,
    ProviderTransportError,
    ProviderEndpointMissing,
    ProviderEmptyAudio,
    ProviderCancelled,
    AdapterInvokeError,
    CancelRequestedBeforeInvoke,
];

const ABORT: &[Reason] = &[
    Cancelled,
    AuthorityLoss,
    RecordingEvidenceUnavailable,
    NodeTimeoutOrFailure,
    BudgetExhausted,
    ExecutionPlanDenied,
    TransportDisconnectOrStall,
    ProviderFailure,
    ProviderTimeout,
    ProviderOverload,
    ProviderAuthOrPolicyBlock,
    ProviderClientError,
    ProviderServerError,
    ProviderTransportError,
    ProviderEndpointMissing,
    ProviderEmptyAudio,
    ProviderCancelled,
    AdapterInvokeError,
    CancelRequestedBeforeInvoke,
    ConfigurationInvalid,
    InternalError,
    UnlistedReason,
];

const REFUSED: &[Reason] = &[
    AdmissionCapacityReject,
    SnapshotInvalidOrMissing,
    TurnStartBundleResolutionFailed,
    PlanMaterializationFailed,
    CpAdmissionRejectPolicy,
    TransportDisconnectOrStall,
    RecordingEvidenceUnavailable,
];

const DEFERRED: &[Reason] = &[
    AdmissionCapacityDefer,
    SnapshotInvalidOrMissing,
    TurnStartBundleResolutionFailed,
    PlanMaterializationFailed,
    CpAdmissionDeferCapacity,
];

const ENDED: &[Reason] = &[
    TransportDisconnectOrStall,
    RoomDeleted,
    RoomClosed,
    RemovedFromRoom,
    DuplicateIdentity,
    ServerShutdown,
    LeftRoom,
    Superseded,
    CallerLeft,
    CallerRemoved,
    CallerRejected,
    CallerUnavailable,
    CallerVanished,
    HangUp,
    Drained,
    Forced,
    SessionClosed,
    InternalError,
    UnlistedReason,
];

impl Signal {
    /// The reasons this signal may carry; empty when it carries none.
    #[must_use]
    pub const fn reasons(self) -> &'static [Reason] {
        match self {
            Self::TurnOpen
            | Self::Commit
            | Self::Close
            | Self::BargeIn
            | Self::Stop
            | Self::Cancel
            | Self::FlowXon
            | Self::CreditGrant
            | Self::LeaseIssued
            | Self::PlaybackStarted
            | Self::PlaybackCompleted => &[],
            Self::TurnOpenProposed => &[SessionTurnIntent],
            Self::Abort => ABORT,
            Self::Watermark => &[EdgeWatermarkHigh],
            Self::BudgetWarning => &[NodeBudgetThresholdExceeded, BudgetWarning],
            Self::BudgetExhausted => &[NodeTimeoutOrFailure, BudgetExhausted],
            Self::Degrade | Self::Fallback => {
                &[NodeTimeoutOrFailure, BudgetWarning, BudgetExhausted, EdgeWatermarkHigh]
            }
            Self::Discontinuity => &[SyncDomainPartialLoss],
            Self::DropNotice => &[QueuePressureDrop, SyncAtomicDrop],
            Self::FlowXoff => &[BackpressureAsserted],
            Self::ProviderError | Self::ProviderSwitch => PROVIDER,
            Self::CircuitEvent => &[CircuitOpened, CircuitHalfOpened, CircuitClosed],
            Self::LeaseRotated => &[AuthorityEpochRotation],
            Self::MigrationStart => &[RegionFailoverStart],
            Self::MigrationFinish => &[RegionFailoverComplete],
            Self::SessionHandoff => &[AuthoritativeHandoff],
            Self::Admit => &[AdmissionCapacityAllow, CpAdmissionAllowed],
            Self::Reject => REFUSED,
            Self::Defer => DEFERRED,
            Self::Shed => &[SchedulingPointShed],
            Self::StaleEpochReject => &[AuthorityEpochMismatch],
            Self::DeauthorizedDrain => &[
                AuthorityRevokedBeforeOpen,
                AuthorityRevokedInTurn,
                LeaseExpired,
                LeaseStaleEpoch,
                LeaseDeauthorized,
                LeaseInvalidInput,
                UnlistedReason,
            ],
            Self::Connected => &[Reconnected, CallerReturned, TrackUnmuted, AudioResumed, UnlistedReason],
            Self::Reconnecting | Self::Stall => &[TransportDisconnectOrStall, UnlistedReason],
            Self::Disconnected => {
                &[TransportDisconnectOrStall, RoomDeleted, CallerAbsent, CallerVanished, UnlistedReason]
            }
            Self::Ended => ENDED,
            Self::Silence => &[UnlistedReason],
            Self::Muted => &[TrackMuted, TrackUnpublished, UnlistedReason],
            Self::OutputAccepted => &[OutputAccepted],
            Self::PlaybackCancelled => &[CancelFenceApplied],
            Self::RecordingLevelDowngraded => {
                &[StageADetailOverflow, LevelTimeOver, PayloadStoreUnavailable, OperatorRequest]
            }
            Self::AbiReject => &[
                AbiEnvelopeInvalid,
                AbiVersionUnsupported,
                AbiVersionRetired,
                AbiSizeExceeded,
                AbiSequenceRegression,
                AbiDuplicateEvent,
            ],
        }
    }

    /// The code that stands for `label` on this signal; none when there is nothing to say.
    #[must_use]
    pub fn code_of(self, label: Label) -> Option<&'static str> {
        match label {
            Label::Empty => None,
            Label::Known(reason) if self.reasons().contains(&reason) => Some(reason.code()),
            Label::Known(_) | Label::Foreign(_) => Some(UnlistedReason.code()),
        }
    }
}

impl Outcome {
    /// The signal that goes with this outcome and shares its vocabulary.
    #[must_use]
    pub const fn signal(self) -> Signal {
        match self {
            Self::Admit => Signal::Admit,
            Self::Reject => Signal::Reject,
            Self::Defer => Signal::Defer,
            Self::Shed => Signal::Shed,
            Self::StaleEpochReject => Signal::StaleEpochReject,
            Self::DeauthorizedDrain => Signal::DeauthorizedDrain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w_09_every_signal_has_a_closed_vocabulary_without_repeats() {
        for signal in Signal::ALL {
            let reasons = signal.reasons();
            let required = signal.row().required.contains(&"reason");
            assert!(!required || !reasons.is_empty(), "{} needs a reason", signal.name());
            for (index, reason) in reasons.iter().enumerate() {
                assert!(!reasons[..index].contains(reason), "{}: {}", signal.name(), reason.code());
            }
        }
    }

    #[test]
    fn words_from_outside_have_one_name_on_the_wire() {
        let ended = Signal::Ended;
        assert_eq!(ended.code_of(Label::Empty), None);
        assert_eq!(ended.code_of(Label::Known(HangUp)), Some("hang_up"));
        assert_eq!(ended.code_of(Label::Foreign(3)), Some("unlisted_reason"));
        assert_eq!(ended.code_of(Label::Known(Cancelled)), Some("unlisted_reason"));
    }

    #[test]
    fn outcomes_and_their_signals_share_a_name() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.name(), outcome.signal().name());
        }
    }
}
