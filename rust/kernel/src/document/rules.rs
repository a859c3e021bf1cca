//! Every rule of the contract documents and of a recorded stream, in one table.

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name on the wire, in fixtures and reports.
    pub id: &'static str,
    /// Where the contracts say so.
    pub source: &'static str,
    /// Whether JSON Schema can say it.
    pub in_schema: bool,
    /// The rule in one sentence.
    pub text: &'static str,
}

macro_rules! rules {
    ( $( $Variant:ident, $id:literal, $source:literal, $in_schema:literal, $text:literal; )+ ) => {
        /// A rule of the contracts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $( #[doc = concat!("`", $id, "`.")] $Variant ),+
        }

        impl Rule {
            /// Every rule in table order.
            pub const ALL: &'static [Self] = &[ $( Self::$Variant ),+ ];

            /// The row of the table.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $( Self::$Variant => Row {
                        id: $id, source: $source, in_schema: $in_schema, text: $text,
                    } ),+
                }
            }
        }
    };
}

rules! {
    JsonSize, "json.size", "1.9", false, "An envelope, transition or decision has at most 64 KiB, a plan 1 MiB, a bundle both together.";
    JsonSyntax, "json.syntax", "0.4", false, "A document is one JSON value in UTF-8 whose numbers are finite and whose texts are whole.";
    JsonDepth, "json.depth", "1.9", false, "A document nests at most 16 levels deep.";
    JsonDuplicateKey, "json.duplicate_key", "0.4", false, "No key occurs twice in one object.";
    JsonWholeNumber, "json.whole_number", "5.3", false, "Whole numbers are written without a fraction point and without an exponent.";
    ShapeType, "shape.type", "1.1, 3.1, 4.2, 5.1", true, "A field holds a value of its type; only transport_sequence may be null.";
    ShapeRequired, "shape.required", "1.1, 3.1, 4.2, 5.1", true, "Every required field is present.";
    ShapeUnknown, "shape.unknown_field", "0.4", true, "No unknown field is present, at any level.";
    ShapeEmpty, "shape.empty_text", "1.1, 3.1, 5.1", true, "Names, ids and references are not empty.";
    ShapeRange, "shape.range", "1.1, 3.1, 5.1", true, "An integer is not below its least value and at most 2^63 - 1.";
    ShapeWord, "shape.word", "1.3, 2.3, 3.1, 4.1, 5.1", true, "A field with a closed vocabulary holds one of its words.";
    ShapeFormat, "shape.format", "1.1, 5.1", true, "Versions look like v1.0 or v1.0.3; a plan hash has exactly 64 hexadecimal digits.";
    ShapeCount, "shape.count", "1.1, 1.12, 5.1", true, "A list or map has at least and at most as many entries as its contract says.";
    ShapeUnique, "shape.unique", "1.1, 5.6", true, "A list that stands for a set has no item twice.";
    EnvelopeTurnId, "envelope.turn_id", "1.2", true, "An event of turn scope names its turn.";
    EnvelopeTurnEpoch, "envelope.turn_epoch", "1.2", true, "An event of turn scope carries the authority epoch.";
    EnvelopeMediaTime, "envelope.media_time", "1.2", true, "Raw audio carries media time.";
    EnvelopeMediaTimeOne, "envelope.media_time_one", "1.1, 1.12", true, "Media time is a sample index or a presentation time, exactly one of them.";
    EnvelopeMergeGroup, "envelope.merge_group", "1.2", true, "An event merged from others names its merge group.";
    EnvelopeSyncDomain, "envelope.sync_domain", "1.2", true, "A discontinuity names its sync domain.";
    EnvelopeLateScope, "envelope.late_scope", "1.2", true, "Output that is late after a cancel is of turn scope.";
    EnvelopeRangeOrder, "envelope.range_order", "1.12, W-01", false, "A sequence range does not end before it starts.";
    EnvelopeMinorVersion, "envelope.minor_version", "W-03", true, "tenant_id, trace_id and payload_ref exist from v1.1 on.";
    VersionMajor, "version.major", "1.9", false, "An event is of a major version that can be read here.";
    VersionRetired, "version.retired", "1.9", false, "An event is not of a version whose deadline has passed.";
    EventNoSignal, "event.no_signal", "1.2", true, "An event record carries no signal.";
    EventLane, "event.lane", "1.1", true, "An event record is not on the ControlLane.";
    ControlLane, "control.lane", "1.2", true, "A control signal is on the ControlLane.";
    ControlPayload, "control.payload", "1.2", true, "The payload class of a control signal is metadata.";
    ControlEmitter, "control.emitter", "2.1, G-18", true, "A control signal is emitted by a module that the registry names for it.";
    ControlScope, "control.event_scope", "2.1, G-19", true, "A control signal has an event scope that the registry allows for it.";
    ControlRequired, "control.required", "2.1, 2.2", true, "A control signal carries the fields that the registry asks for.";
    ControlReason, "control.reason", "2.5, W-09", true, "The reason of a control signal is in the vocabulary of that signal.";
    TransitionFinal, "transition.final", "4.2", true, "Nothing leaves Closed.";
    TransitionTrigger, "transition.trigger", "4.2", true, "A state is left by one of its own triggers.";
    TransitionTarget, "transition.target", "4.2", true, "A trigger leads to the state that the table names.";
    TransitionDeterministic, "transition.deterministic", "4.2", true, "A transition is deterministic.";
    DecisionEmitter, "decision.emitter", "3.2", true, "An outcome is decided by a module that the matrix names for it.";
    DecisionPhase, "decision.phase", "3.2, W-06", true, "An outcome is decided in a phase that the matrix names for its module.";
    DecisionScope, "decision.scope", "3.2", true, "An outcome has a scope that the matrix names for its module and phase.";
    DecisionTurnId, "decision.turn_id", "3.1", true, "A decision of turn scope or inside a turn names the turn.";
    DecisionEpoch, "decision.epoch", "3.1", true, "An authority outcome carries the authority epoch.";
    DecisionReason, "decision.reason", "2.5, W-09", true, "The reason of a decision is in the vocabulary of its outcome.";
    PlanBlockTime, "plan.block_time", "5.2, W-07", true, "An edge that blocks, by its strategy or on the DataLane, says for how long.";
    PlanWatermarks, "plan.watermarks", "5.2", true, "An edge has a watermark on items or on time.";
    PlanWatermarkOrder, "plan.watermark_order", "1.12, W-01", false, "The low watermark lies below the high one.";
    PlanControlHandling, "plan.control_handling", "5.2", true, "The ControlLane is handled as non_blocking_priority on every edge.";
    PlanControlShedding, "plan.control_shedding", "7.4", true, "The ControlLane is never shed.";
    PlanGroupBy, "plan.group_by", "7.3", true, "A policy that drops whole groups, or marks a discontinuity, says by what it groups.";
    PlanSyncDomain, "plan.sync_domain", "7.3", true, "Dropping with a discontinuity names the sync domain.";
    StreamSequence, "stream.sequence", "1.5, W-08", false, "runtime_sequence rises strictly within a session, and begins anew only with a runtime that takes over.";
    StreamEventId, "stream.event_id", "1.11, W-08, G-21", false, "No event id occurs twice.";
    StreamEpoch, "stream.epoch", "1.8, W-08", false, "The authority epoch of a session never goes down; a stale_epoch_reject may report an older one, and a runtime that was taken over may still say that it stops.";
    StreamTurnOpen, "stream.turn_open", "4.2", false, "A turn is opened once, and not after its end.";
    StreamTerminal, "stream.terminal", "4.3, 4.6 A1 A3", false, "An open turn has exactly one commit or abort; a turn that was not opened has none.";
    StreamClose, "stream.close", "2.1, 4.6 A2", false, "close follows the commit or abort of its turn at once, and every opened turn is closed unless its runtime died and another took over.";
    StreamControlFirst, "stream.control_first", "1.5, 4.7", false, "Output of a turn comes after its turn_open.";
    StreamOutputAfterEnd, "stream.output_after_end", "2.1, 4.7", false, "No DataLane output of a turn comes after its commit or abort, unless marked late_after_cancel.";
    StreamCancelFence, "stream.cancel_fence", "2.1, 4.8", false, "After an accepted cancel nothing of its scope is accepted for output or starts to play.";
    StreamCancelReason, "stream.cancel_reason", "4.3, 4.6 A10", false, "A turn whose cancel was accepted ends in abort(cancelled), one whose authority was revoked in abort(authority_loss).";
    StreamFlowPairing, "stream.flow_pairing", "7.2, 7.4", false, "On one lane of one edge flow_xoff and flow_xon take turns, flow_xoff first.";
    StreamTransition, "stream.transition", "4.2", false, "The transitions of a turn follow each other.";
    StreamPlan, "stream.plan", "0.3 C1", false, "A turn has one plan that does not change.";
    StreamRecord, "stream.record", "0.4", false, "Every line of a stream is a timeline record or a contract document.";
}

impl Rule {
    /// The name on the wire.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.row().id
    }
}
