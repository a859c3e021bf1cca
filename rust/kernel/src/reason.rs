//! The one table of reason codes, for Rust, Python and the documentation.
//!
//! A reason that a transport or a lease store words itself (such as the room's own disconnect reason)
//! is kept verbatim as evidence in an [`Interner`] of fixed size; every reason the kernel words is in
//! this table.

use std::borrow::Cow;

use crate::bundle::{Provenance, Provenances};

/// Where a reason arises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The code on the wire.
    pub code: &'static str,
    /// The part of the system that words it.
    pub area: &'static str,
    /// What it tells, in one sentence.
    pub meaning: &'static str,
}

macro_rules! reasons {
    ( $( $Variant:ident, $code:literal, $area:literal, $meaning:literal; )+ ) => {
        /// A reason code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $( #[doc = $meaning] $Variant ),+
        }

        impl Reason {
            /// Every reason in table order.
            pub const ALL: &'static [Self] = &[ $( Self::$Variant ),+ ];

            /// The row of the table.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $( Self::$Variant => Row { code: $code, area: $area, meaning: $meaning } ),+
                }
            }
        }
    };
}

reasons! {
    SessionTurnIntent, "session_turn_intent", "prelude", "The session asks for a turn.";
    AdmissionCapacityAllow, "admission_capacity_allow", "admission", "There is capacity for the turn.";
    AdmissionCapacityReject, "admission_capacity_reject", "admission", "There is no capacity; the turn is refused.";
    AdmissionCapacityDefer, "admission_capacity_defer", "admission", "There is no capacity now; try again later.";
    SnapshotInvalidOrMissing, "snapshot_invalid_or_missing", "admission", "A snapshot needed at turn start is stale, missing or incompatible.";
    TurnStartBundleResolutionFailed, "turn_start_bundle_resolution_failed", "admission", "The control-plane bundle of the turn cannot be resolved.";
    PlanMaterializationFailed, "plan_materialization_failed", "admission", "The turn's plan cannot be built.";
    SchedulingPointShed, "scheduling_point_shed", "admission", "Work was shed at a scheduling point.";
    CpAdmissionAllowed, "cp_admission_allowed", "admission", "The control plane admits the session.";
    CpAdmissionDeferCapacity, "cp_admission_defer_capacity", "admission", "The control plane has no capacity now.";
    CpAdmissionRejectPolicy, "cp_admission_reject_policy", "admission", "The control plane's policy refuses the session.";
    CpAdmissionInvalidInput, "cp_admission_invalid_input", "admission", "The control plane was asked wrongly; not an outcome.";
    AuthorityEpochMismatch, "authority_epoch_mismatch", "authority", "An event or output carries another epoch than the lease.";
    AuthorityRevokedBeforeOpen, "authority_revoked_before_open", "authority", "No valid lease was held when the turn was to open.";
    AuthorityRevokedInTurn, "authority_revoked_in_turn", "authority", "The lease was lost while the turn was running.";
    AuthorityEpochRotation, "authority_epoch_rotation", "authority", "The lease went on under a higher epoch.";
    AuthorityLoss, "authority_loss", "turn", "The turn ended because the lease was lost.";
    LeaseExpired, "lease_expired", "authority", "The local deadline of the lease passed without a renewal.";
    LeaseAuthorized, "lease_authorized", "authority", "The lease is valid.";
    LeaseStaleEpoch, "lease_stale_epoch", "authority", "Another runtime holds the session under a higher epoch.";
    LeaseDeauthorized, "lease_deauthorized", "authority", "The lease was revoked or is held by another runtime.";
    LeaseInvalidInput, "lease_invalid_input", "authority", "The lease store was asked wrongly.";
    RegionFailoverStart, "region_failover_start", "authority", "A migration to another placement begins.";
    RegionFailoverComplete, "region_failover_complete", "authority", "A migration to another placement is complete.";
    AuthoritativeHandoff, "authoritative_handoff", "authority", "The session was handed to another placement.";
    Cancelled, "cancelled", "turn", "The caller interrupted, or a stop or cancel was accepted.";
    CancelFenceApplied, "cancel_fence_applied", "turn", "Output was dropped behind a closed fence.";
    NodeTimeoutOrFailure, "node_timeout_or_failure", "turn", "A part of the turn took longer than its budget or failed.";
    NodeBudgetThresholdExceeded, "node_budget_threshold_exceeded", "turn", "A part of the turn used most of its budget.";
    DeterministicReason, "deterministic_reason", "turn", "A turn ended for a reason that has no code of its own.";
    ExecutionPlanDenied, "execution_plan_denied", "turn", "A node was refused and no other reason exists.";
    TransportDisconnectOrStall, "transport_disconnect_or_stall", "transport", "The room cannot be reached or does not deliver.";
    OutputAccepted, "output_accepted", "transport", "The transport took the first output of a turn.";
    RecordingEvidenceUnavailable, "recording_evidence_unavailable", "evidence", "Evidence can no longer be appended.";
    StageADetailOverflow, "stage_a_detail_overflow", "evidence", "Details were shed so that decisions can still be recorded.";
    QueuePressureDrop, "queue_pressure_drop", "edge", "An edge shed items because a bound was reached.";
    SyncAtomicDrop, "sync_atomic_drop", "edge", "An edge shed a whole group of items that belong together.";
    SyncDomainPartialLoss, "sync_domain_partial_loss", "edge", "Part of a sync domain was lost; downstream resets.";
    EdgeWatermarkHigh, "edge_watermark_high", "edge", "An edge reached its high watermark.";
    BackpressureAsserted, "backpressure_asserted", "edge", "The producer of an edge must wait.";
    WithinBudget, "within_budget", "budget", "The budget is not used up.";
    BudgetWarning, "budget_warning", "budget", "The warning threshold of a budget was reached.";
    BudgetExhausted, "budget_exhausted", "budget", "A budget is used up.";
    ProviderFailure, "provider_failure", "provider", "A provider did not succeed.";
    ProviderTimeout, "provider_timeout", "provider", "A provider did not answer in time.";
    ProviderOverload, "provider_overload", "provider", "A provider refused because of load or a rate limit.";
    ProviderAuthOrPolicyBlock, "provider_auth_or_policy_block", "provider", "A provider refused the key or the content.";
    ProviderClientError, "provider_client_error", "provider", "A provider refused the request as wrong.";
    ProviderServerError, "provider_server_error", "provider", "A provider failed inside.";
    ProviderTransportError, "provider_transport_error", "provider", "A provider cannot be reached.";
    ProviderEndpointMissing, "provider_endpoint_missing", "provider", "No endpoint of the provider is configured.";
    ProviderEmptyAudio, "provider_empty_audio", "provider", "A speech provider returned no audio.";
    ProviderCancelled, "provider_cancelled", "provider", "A provider call was cancelled.";
    AdapterInvokeError, "adapter_invoke_error", "provider", "The adapter of a provider failed.";
    CancelRequestedBeforeInvoke, "cancel_requested_before_invoke", "provider", "The turn was cancelled before the provider was called.";
    AbiEnvelopeInvalid, "abi_envelope_invalid", "event", "An event breaks a rule of its envelope.";
    AbiVersionUnsupported, "abi_version_unsupported", "event", "An event is of a contract version that cannot be read here.";
    AbiVersionRetired, "abi_version_retired", "event", "An event is of a contract version whose deadline has passed.";
    AbiSizeExceeded, "abi_size_exceeded", "event", "An event is larger than an envelope may be.";
    AbiSequenceRegression, "abi_sequence_regression", "event", "An event's runtime sequence does not rise.";
    AbiDuplicateEvent, "abi_duplicate_event", "event", "An event carries the id of an earlier one.";
    CircuitOpened, "circuit_opened", "provider", "A provider failed too often and is left alone for a while.";
    CircuitHalfOpened, "circuit_half_opened", "provider", "A provider that was left alone is tried again.";
    CircuitClosed, "circuit_closed", "provider", "A provider answers again.";
    Reconnected, "reconnected", "transport", "The room is reached again.";
    RoomDeleted, "room_deleted", "transport", "The room was deleted.";
    RoomClosed, "room_closed", "transport", "The room was closed.";
    RemovedFromRoom, "removed_from_room", "transport", "The server removed the agent from the room.";
    DuplicateIdentity, "duplicate_identity", "transport", "Another participant took the agent's identity.";
    ServerShutdown, "server_shutdown", "transport", "The server of the room shut down.";
    LeftRoom, "left_room", "transport", "The agent left the room by itself.";
    Superseded, "superseded", "transport", "Another runtime has taken over the call.";
    CallerLeft, "caller_left", "transport", "The caller hung up.";
    CallerRemoved, "caller_removed", "transport", "The server removed the caller from the room.";
    CallerRejected, "caller_rejected", "transport", "The caller declined the call.";
    CallerUnavailable, "caller_unavailable", "transport", "The caller could not be reached.";
    CallerAbsent, "caller_absent", "transport", "The caller is not in the room.";
    CallerVanished, "caller_vanished", "transport", "The caller was lost and did not come back.";
    CallerReturned, "caller_returned", "transport", "The caller is in the room again.";
    TrackMuted, "track_muted", "transport", "The caller muted the microphone.";
    TrackUnmuted, "track_unmuted", "transport", "The caller switched the microphone on again.";
    TrackUnpublished, "track_unpublished", "transport", "The caller took the microphone away.";
    AudioResumed, "audio_resumed", "transport", "The caller's audio arrives again.";
    HangUp, "hang_up", "session", "The agent ended the call.";
    Drained, "drained", "session", "The runtime is leaving and the running turn is over.";
    Forced, "forced", "session", "The runtime was told to stop at once.";
    SessionClosed, "session_closed", "session", "The session was closed from inside.";
    ConfigurationInvalid, "configuration_invalid", "shell", "A file, flag or environment variable is missing or wrong.";
    InternalError, "internal_error", "shell", "A defect of RSPP itself.";
    UnlistedReason, "unlisted_reason", "shell", "A reason from outside that is in no vocabulary; the input beside it keeps the word.";
    LevelTimeOver, "level_time_over", "evidence", "The window of a recording level is over.";
    PayloadStoreUnavailable, "payload_store_unavailable", "evidence", "Content cannot be kept any longer.";
    OperatorRequest, "operator_request", "evidence", "An operator asked for less to be recorded.";
}

impl Reason {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The reason with that code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

/// A reason or a foreign word as a copyable handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Nothing was said.
    Empty,
    /// A code of the table.
    Known(Reason),
    /// A word from outside, kept by the interner.
    Foreign(u8),
}

/// Most foreign words that one session keeps.
pub const MAX_FOREIGN: usize = 64;
/// Longest foreign word in bytes; the rest is cut at a character boundary.
pub const MAX_FOREIGN_BYTES: usize = 120;

/// Keeps words from outside, so that evidence records stay small and copyable.
#[derive(Clone, Debug, Default)]
pub struct Interner {
    words: Vec<Box<str>>,
    provenances: Provenances,
}

impl Interner {
    /// Returns the handle of `word`; the table never grows past [`MAX_FOREIGN`].
    pub fn label(&mut self, word: &str) -> Label {
        if word.is_empty() {
            return Label::Empty;
        }
        if let Some(reason) = Reason::parse(word) {
            return Label::Known(reason);
        }
        let word = cut(word);
        if let Some(index) = self.words.iter().position(|known| &**known == word) {
            return Label::Foreign(u8::try_from(index).unwrap_or(u8::MAX));
        }
        if self.words.len() >= MAX_FOREIGN {
            return Label::Known(Reason::UnlistedReason);
        }
        self.words.push(word.into());
        Label::Foreign(u8::try_from(self.words.len() - 1).unwrap_or(u8::MAX))
    }

    /// Keeps a word that was read back as the next one; false when [`Interner::label`] would not have
    /// kept it.
    pub fn keep(&mut self, word: &str) -> bool {
        let known = self.words.len();
        self.label(word) == Label::Foreign(u8::try_from(known).unwrap_or(u8::MAX))
            && self.words.len() == known + 1
            && &*self.words[known] == word
    }

    /// The handle of the word at a place.
    #[must_use]
    pub fn kept(&self, place: u64) -> Option<Label> {
        let place = u8::try_from(place).ok()?;
        (usize::from(place) < self.words.len()).then_some(Label::Foreign(place))
    }

    /// Keeps a provenance until [`MAX_LENT`](crate::bundle::MAX_LENT) more were lent; `number` counts them
    /// from 0.
    pub fn lend(&mut self, provenance: &Provenance, number: u64) -> u32 {
        self.provenances.lend(provenance, number)
    }

    /// Keeps a provenance that was read back, each only once.
    pub fn hold(&mut self, provenance: Provenance) -> u32 {
        self.provenances.hold(provenance)
    }

    /// The provenance behind a number of a record.
    #[must_use]
    pub fn provenance(&self, place: u32) -> Option<&Provenance> {
        self.provenances.at(place)
    }

    /// The word behind a handle; empty for [`Label::Empty`].
    #[must_use]
    pub fn text(&self, label: Label) -> &str {
        match label {
            Label::Empty => "",
            Label::Known(reason) => reason.code(),
            Label::Foreign(index) => self.words.get(usize::from(index)).map_or("", |word| word),
        }
    }

    /// The word behind a handle, without an allocation when it is in the table.
    #[must_use]
    pub fn owned(&self, label: Label) -> Cow<'static, str> {
        match label {
            Label::Empty => Cow::Borrowed(""),
            Label::Known(reason) => Cow::Borrowed(reason.code()),
            Label::Foreign(_) => Cow::Owned(self.text(label).to_owned()),
        }
    }
}

fn cut(word: &str) -> &str {
    let mut end = word.len().min(MAX_FOREIGN_BYTES);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    &word[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_parse_back() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::parse(reason.code()), Some(*reason));
            assert!(Reason::ALL[..index].iter().all(|earlier| earlier.code() != reason.code()));
            assert!(!reason.row().meaning.is_empty());
        }
        assert_eq!(Reason::parse("no_such_reason"), None);
    }

    #[test]
    fn interner_keeps_foreign_words_and_stays_bounded() {
        let mut interner = Interner::default();
        assert_eq!(interner.label(""), Label::Empty);
        assert_eq!(interner.label("cancelled"), Label::Known(Reason::Cancelled));
        let room = interner.label("ROOM_DELETED");
        assert_eq!(interner.text(room), "ROOM_DELETED");
        assert_eq!(interner.label("ROOM_DELETED"), room);
        for number in 0..200 {
            interner.label(&format!("word {number}"));
        }
        assert_eq!(interner.label("one more"), Label::Known(Reason::UnlistedReason));
        assert_eq!(interner.text(room), "ROOM_DELETED");
    }

    #[test]
    fn a_long_foreign_word_is_cut_between_characters() {
        let mut interner = Interner::default();
        let label = interner.label(&"é".repeat(100));
        assert_eq!(interner.text(label), "é".repeat(60));
    }
}
