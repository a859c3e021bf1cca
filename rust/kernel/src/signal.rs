//! The control-signal registry: who may emit what, in which scope, with which fields.
//!
//! The rows follow section 2.1 of the contracts; `abi_reject` and `muted` are the two signals that
//! section 2.6 asks for beyond them.

use crate::event::EventScope;
use crate::names::named_enum;

named_enum! {
    /// A module that may emit a control signal.
    pub enum Emitter {
        Rk02 => "RK-02", Rk03 => "RK-03", Rk05 => "RK-05", Rk06 => "RK-06", Rk11 => "RK-11",
        Rk12 => "RK-12", Rk13 => "RK-13", Rk14 => "RK-14", Rk15 => "RK-15", Rk16 => "RK-16",
        Rk17 => "RK-17", Rk22 => "RK-22", Rk23 => "RK-23", Rk24 => "RK-24", Rk25 => "RK-25",
        Or02 => "OR-02", Cp05 => "CP-05", Cp07 => "CP-07", Cp08 => "CP-08",
    }
}

named_enum! {
    /// A control signal.
    pub enum Signal {
        TurnOpenProposed => "turn_open_proposed", TurnOpen => "turn_open", Commit => "commit",
        Abort => "abort", Close => "close", BargeIn => "barge_in", Stop => "stop", Cancel => "cancel",
        Watermark => "watermark", BudgetWarning => "budget_warning",
        BudgetExhausted => "budget_exhausted", Degrade => "degrade", Fallback => "fallback",
        Discontinuity => "discontinuity", DropNotice => "drop_notice", FlowXoff => "flow_xoff",
        FlowXon => "flow_xon", CreditGrant => "credit_grant", ProviderError => "provider_error",
        CircuitEvent => "circuit_event", ProviderSwitch => "provider_switch",
        LeaseIssued => "lease_issued", LeaseRotated => "lease_rotated",
        MigrationStart => "migration_start", MigrationFinish => "migration_finish",
        SessionHandoff => "session_handoff", Admit => "admit", Reject => "reject", Defer => "defer",
        Shed => "shed", StaleEpochReject => "stale_epoch_reject",
        DeauthorizedDrain => "deauthorized_drain", Connected => "connected",
        Reconnecting => "reconnecting", Disconnected => "disconnected", Ended => "ended",
        Silence => "silence", Stall => "stall", OutputAccepted => "output_accepted",
        PlaybackStarted => "playback_started", PlaybackCompleted => "playback_completed",
        PlaybackCancelled => "playback_cancelled",
        RecordingLevelDowngraded => "recording_level_downgraded", AbiReject => "abi_reject",
        Muted => "muted",
    }
}

/// The event scopes in which a signal is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeRule {
    /// Session scope only.
    Session,
    /// Turn scope only.
    Turn,
    /// Session or turn scope.
    Either,
}

impl ScopeRule {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Turn => "turn",
            Self::Either => "either",
        }
    }

    /// Whether the scope is legal.
    #[must_use]
    pub const fn allows(self, scope: EventScope) -> bool {
        matches!(
            (self, scope),
            (Self::Either, _) | (Self::Session, EventScope::Session) | (Self::Turn, EventScope::Turn)
        )
    }
}

/// One row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Who may emit the signal.
    pub emitters: &'static [Emitter],
    /// In which event scope.
    pub scope: ScopeRule,
    /// Fields required beyond the common set.
    pub required: &'static [&'static str],
}

const TURN_ID: &[&str] = &["turn_id"];
const REASON: &[&str] = &["reason"];
const EDGE: &[&str] = &["edge_id", "target_lane"];
const EDGE_REASON: &[&str] = &["edge_id", "target_lane", "reason"];
const LEASE: &[Emitter] = &[Emitter::Cp07, Emitter::Cp08];
const CANCEL: &[Emitter] = &[Emitter::Rk06, Emitter::Rk16];
const ADMISSION: &[Emitter] = &[Emitter::Rk25, Emitter::Cp05];
const DELIVERY: &[Emitter] = &[Emitter::Rk22, Emitter::Rk23];

const fn row(emitters: &'static [Emitter], scope: ScopeRule, required: &'static [&'static str]) -> Row {
    Row { emitters, scope, required }
}

impl Signal {
    /// The registry's row for this signal.
    #[must_use]
    pub const fn row(self) -> Row {
        use Emitter::{Or02, Rk02, Rk03, Rk05, Rk11, Rk12, Rk13, Rk14, Rk15, Rk17, Rk23, Rk24, Rk25};
        use ScopeRule::{Either, Session, Turn};
        match self {
            Self::TurnOpenProposed => row(&[Rk02], Session, &[]),
            Self::TurnOpen | Self::Commit | Self::Close => row(&[Rk03], Turn, TURN_ID),
            Self::Abort => row(&[Rk03], Turn, &["turn_id", "reason"]),
            Self::BargeIn | Self::Stop => row(CANCEL, Either, &[]),
            Self::Cancel => row(CANCEL, Either, &["scope"]),
            Self::Watermark => row(&[Rk13], Either, EDGE_REASON),
            Self::BudgetWarning | Self::BudgetExhausted => row(&[Rk17], Either, REASON),
            Self::Degrade | Self::Fallback => row(&[Rk13, Rk17], Either, REASON),
            Self::Discontinuity => row(&[Rk15], Either, &["sync_domain", "discontinuity_id", "reason"]),
            Self::DropNotice => {
                row(&[Rk12, Rk13], Either, &["edge_id", "target_lane", "reason", "seq_range"])
            }
            Self::FlowXoff => row(&[Rk14], Either, EDGE_REASON),
            Self::FlowXon => row(&[Rk14], Either, EDGE),
            Self::CreditGrant => row(&[Rk14], Either, &["edge_id", "target_lane", "amount"]),
            Self::ProviderError | Self::CircuitEvent | Self::ProviderSwitch => row(&[Rk11], Either, REASON),
            Self::LeaseIssued
            | Self::LeaseRotated
            | Self::MigrationStart
            | Self::MigrationFinish
            | Self::SessionHandoff => row(LEASE, Either, &[]),
            Self::Admit | Self::Reject | Self::Defer => row(ADMISSION, Session, REASON),
            Self::Shed => row(&[Rk25], Either, REASON),
            Self::StaleEpochReject | Self::DeauthorizedDrain => row(&[Rk24], Either, REASON),
            Self::Connected
            | Self::Reconnecting
            | Self::Disconnected
            | Self::Ended
            | Self::Silence
            | Self::Stall
            | Self::Muted => row(&[Rk23], Either, &[]),
            Self::OutputAccepted
            | Self::PlaybackStarted
            | Self::PlaybackCompleted
            | Self::PlaybackCancelled => row(DELIVERY, Turn, TURN_ID),
            Self::RecordingLevelDowngraded => row(&[Or02], Either, REASON),
            Self::AbiReject => row(&[Rk05], Either, &["reason", "causal_parent_id"]),
        }
    }

    /// Whether `emitter` may emit this signal in `scope`, with or without a reason.
    #[must_use]
    pub fn legal(self, emitter: Emitter, scope: EventScope, has_reason: bool) -> bool {
        let row = self.row();
        row.emitters.contains(&emitter)
            && row.scope.allows(scope)
            && (has_reason || !row.required.contains(&"reason"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_holds_the_contract_and_two_more() {
        assert_eq!(Signal::ALL.len(), 45);
        assert_eq!(Emitter::ALL.len(), 19);
        for signal in Signal::ALL {
            assert_eq!(Signal::parse(signal.name()), Some(*signal));
            assert!(!signal.row().emitters.is_empty());
        }
    }

    #[test]
    fn ct_002_every_emitter_signal_and_scope_is_decided_by_its_row() {
        let mut legal = 0;
        for signal in Signal::ALL {
            for emitter in Emitter::ALL {
                for scope in EventScope::ALL {
                    legal += usize::from(signal.legal(*emitter, *scope, true));
                }
            }
        }
        assert_eq!(legal, 107);
    }

    #[test]
    fn wrong_emitter_scope_or_missing_reason_is_refused() {
        assert!(!Signal::TurnOpenProposed.legal(Emitter::Rk02, EventScope::Turn, true));
        assert!(!Signal::BargeIn.legal(Emitter::Rk03, EventScope::Turn, true));
        assert!(!Signal::Abort.legal(Emitter::Rk03, EventScope::Turn, false));
        assert!(!Signal::LeaseRotated.legal(Emitter::Rk24, EventScope::Session, true));
        assert!(!Signal::Admit.legal(Emitter::Rk25, EventScope::Turn, true));
        assert!(Signal::Abort.legal(Emitter::Rk03, EventScope::Turn, true));
    }
}
