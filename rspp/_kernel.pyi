"""Typed face of the Rust kernel: every decision of a session is made behind these names.

Time is always an argument: ``now_us`` is microseconds of the host's boot-time clock (virtual time
on the loopback transport). It must not go backwards; an earlier value is taken as the latest seen.
"""

from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, final

VERSION: Final[str]
"""Version of the kernel crate, such as ``0.1.0``."""

BUILD_PROFILE: Final[str]
"""``release`` or ``debug``; a debug build refuses to be benchmarked."""

MERGE_RULE_ID: Final[str]
MERGE_RULE_VERSION: Final[str]
"""The one rule by which events of several edges are put in order: lane, then ``ORDERING_MARKERS``."""

ORDERING_MARKERS: Final[list[str]]
"""``runtime_sequence`` and ``event_id``."""

def reason_codes() -> list[tuple[str, str, str]]:
    """Return the one table of reason codes as ``(code, area, meaning)`` rows."""

def transition_table() -> list[tuple[str, str, str]]:
    """Return the legal turn transitions as ``(from_state, trigger, to_state)`` rows."""

def signal_registry() -> list[tuple[str, tuple[str, ...], str, tuple[str, ...]]]:
    """Return the control signals as ``(signal, emitters, event_scope, required_fields)`` rows.

    ``event_scope`` is ``session``, ``turn`` or ``either``.
    """

# ------------------------------------------------------------------------------------ documents

# A fault is ``(rule, field, message)``: the rule that is broken, the path of the field, what is wrong.

def validate_document(kind: str, document: bytes) -> tuple[str, str, str] | None:
    """Validate one contract document against its own kind; return its first fault or none.

    Args:
        kind: one of ``document_kinds``.
        document: JSON in UTF-8.

    Raises:
        ValueError: ``kind`` is unknown.
    """

def document_structure(kind: str) -> str:
    """Return the structure of a kind as JSON Schema text, without the rules that tie fields together.

    Raises:
        ValueError: ``kind`` is unknown.
    """

def document_kinds() -> list[tuple[str, int]]:
    """Return the kinds of document with their largest sizes in bytes."""

def contract_rules() -> list[tuple[str, str, bool, str]]:
    """Return every rule as ``(id, source, in_schema, text)``.

    ``source`` names sections of the contracts, ``in_schema`` tells whether JSON Schema can say the rule.
    """

def signal_reasons() -> list[tuple[str, tuple[str, ...]]]:
    """Return the closed vocabulary of reasons of every signal; empty when it carries none."""

def decision_matrix() -> list[tuple[str, str, str, str, bool, bool]]:
    """Return the legal cells as ``(outcome, emitter, phase, scope, needs_turn_id, needs_epoch)``."""

def negotiate_version(
    version: str, *, retired: Sequence[tuple[str, int]], now_ms: int, skew_ms: int
) -> tuple[str, str, str] | None:
    """Decide whether an event of ``version`` may still be taken; return the fault or none.

    Args:
        version: schema version of the event.
        retired: versions with the wall clock after which they are refused, ms since the epoch.
        now_ms: wall clock, ms since the epoch.
        skew_ms: how far the clocks of two hosts may be apart.

    Raises:
        ValueError: a retired version is no version.
    """

@final
class StreamValidator:
    """Checks the order across documents: a timeline, line by line, or plain contract documents."""

    def __new__(cls) -> StreamValidator: ...
    def push(self, line: bytes) -> tuple[str, str, str] | None:
        """Take the next line; return its first fault or none.

        A document that is faulty by itself is reported and otherwise left out of account.
        """
    def finish(self) -> list[tuple[str, str, str]]:
        """Return what is still missing at the end of the recording."""

# --------------------------------------------------------------------------------------- policies

@final
class TurnPolicy:
    """Frozen thresholds of turn taking for one session; all durations in ms.

    Probabilities are integers from 0 to 1000 so that the plan hash covers exact values.
    ``overlap`` tells what becomes of a chat text while a turn runs: ``preempt`` ends that turn, ``queue``
    lets the latest text wait for its end, ``defer`` refuses. ``late_event`` tells what becomes of events
    of a turn or utterance that is over: ``drop``, ``diagnostics``, or ``remap``, by which an unanswered
    utterance's late words become a proposal of their own for ``late_grace_ms`` after its end.
    ``needs_bundle`` lets turns open only under what ``SessionKernel.turn_start`` told;
    ``snapshot_failure`` and ``plan_failure`` tell what becomes of a turn whose snapshots are not usable, and
    of one whose bundle or plan cannot be made: ``defer`` waits, ``reject`` does not.

    Raises:
        ValueError: a value is out of range; the message names field, value and remedy.
    """

    def __new__(
        cls,
        *,
        speech_permille: int = 500,
        silence_permille: int = 350,
        interruptions: bool = True,
        confirm_ms: int = 700,
        confirm_words: int = 3,
        release_ms: int = 150,
        short_burst_ms: int = 250,
        short_release_ms: int = 100,
        probe_ms: int = 90,
        complete_wait_ms: int = 160,
        incomplete_wait_ms: int = 1500,
        max_utterance_ms: int = 30000,
        first_output_budget_ms: int = 5000,
        stall_budget_ms: int = 3000,
        failure_notice: bool = True,
        greeting: bool = False,
        takeover_notice: bool = False,
        overlap: str = "preempt",
        late_event: str = "drop",
        late_grace_ms: int = 0,
        needs_bundle: bool = False,
        snapshot_failure: str = "defer",
        plan_failure: str = "defer",
    ) -> TurnPolicy: ...

@final
class PlanTemplate:
    """What every turn plan of the session shares; the kernel adds turn id, epoch, hash and seed.

    ``policy_json`` is a canonical JSON object (sorted keys, no blanks, integers only) with the
    budgets, provider bindings, buffers, flow control, adaptive actions, provenance, recording and
    determinism sections; it is hashed as given.

    Raises:
        ValueError: ``policy_json`` is not a JSON object.
    """

    def __new__(
        cls,
        *,
        pipeline_version: str,
        graph_definition_ref: str,
        execution_profile: str,
        policy_json: str,
    ) -> PlanTemplate: ...

@final
class ProviderPolicy:
    """The providers of one session and what may follow when one fails; frozen with every turn's plan.

    Args:
        candidates: ``(modality, provider)`` pairs, the preferred provider of each modality first.
        adaptive_actions: what the plan allows out of ``retry``, ``provider_switch``, ``degrade`` and
            ``fallback``; none allows all but ``degrade``, an empty list nothing.
        max_attempts: attempts at one provider, 1 or 2.
        max_candidates: providers of one modality that are used, 1 to 5.
        attempt_ms: longest wait for an attempt's first result while another provider is left, and the
            budget of an attempt until something of it is handed on.
        warn_ms: when an attempt is warned that its budget runs out; 0 gives attempts no budget. A budget
            that is used up ends the turn where nothing else is allowed.
        lesser: ``(modality, provider)`` pairs: what serves the rest of a turn that ``degrade`` was taken in;
            its index follows the last candidate. Recognition needs none: its lesser form is what was heard
            in part.
        node_budgets: ``(modality, warn_ms, attempt_ms)`` of the nodes that have limits of their own.

    Raises:
        ValueError: a value is out of range; the message names field, value and remedy.
    """

    def __new__(
        cls,
        *,
        candidates: Sequence[tuple[str, str]],
        adaptive_actions: Sequence[str] | None = None,
        max_attempts: int = 2,
        max_candidates: int = 5,
        attempt_ms: int = 1500,
        warn_ms: int = 0,
        lesser: Sequence[tuple[str, str]] | None = None,
        node_budgets: Sequence[tuple[str, int, int]] | None = None,
    ) -> ProviderPolicy: ...

@final
class Attempt:
    """One attempt of a provider invocation that the shell must make.

    ``candidate`` counts the providers of the modality from 0, ``attempt`` the attempts at this provider
    from 1. Wait ``wait_us`` before it; give up with outcome ``timeout`` when its first result takes longer
    than ``limit_us``, unless that is none.
    """

    invocation: int
    candidate: int
    attempt: int
    wait_us: int
    limit_us: int | None

def http_outcome(status: int, retry_after_s: int | None = None) -> tuple[str, str, bool, bool, int]:
    """Return the normalised outcome of a final HTTP status.

    It is ``(outcome, reason, retryable, opens_circuit, backoff_ms)``, by section 8.3 of the contracts.
    """

# ---------------------------------------------------------------------------------------- effects
# What the shell must do, in the order given. Each is a frozen class with ``__match_args__``.

@final
class OpenTurn:
    """A turn is open under a frozen plan: generate and speak the answer to ``intent``.

    ``intent`` is ``greeting``, ``utterance``, ``text``, ``unrecognised``, ``failure_notice`` or
    ``takeover_notice``. ``reference`` is the utterance number or the text number, 0 otherwise.
    """

    turn: int
    turn_id: str
    epoch: int
    intent: str
    reference: int
    plan_hash: str
    __match_args__ = ("turn", "turn_id", "epoch", "intent", "reference", "plan_hash")

@final
class HoldOutput:
    """The gate holds this turn's voice: clear what is queued behind it and keep the position."""

    turn: int
    __match_args__ = ("turn",)

@final
class ResumeOutput:
    """The hold is over: go on from the first sample that was not heard."""

    turn: int
    __match_args__ = ("turn",)

@final
class CancelTurn:
    """The fence is closed already: clear the queue, stop providers, keep only what was heard."""

    turn: int
    reason: str
    __match_args__ = ("turn", "reason")

@final
class TellNode:
    """Call the hook of a node, empty for none, and stop its work now if ``preempt``.

    ``node`` counts the nodes as they were given to ``host``. ``outcome`` is what follows for the node:
    ``continue``, ``degrade``, ``fallback`` or ``terminate``.
    """

    node: int
    turn: int
    hook: str
    outcome: str
    preempt: bool
    __match_args__ = ("node", "turn", "hook", "outcome", "preempt")

@final
class CancelInvocation:
    """Stop one provider call; what it still gives is dropped."""

    invocation: int
    __match_args__ = ("invocation",)

@final
class CloseTurn:
    """The turn is over; ``outcome`` is ``commit`` or ``abort``, ``reason`` is empty on commit."""

    turn: int
    outcome: str
    reason: str
    __match_args__ = ("turn", "outcome", "reason")

@final
class RefuseIntent:
    """No turn was opened; ``outcome`` is reject, defer, stale_epoch_reject or deauthorized_drain."""

    intent: str
    reference: int
    outcome: str
    reason: str
    __match_args__ = ("intent", "reference", "outcome", "reason")

@final
class StartUtterance:
    """The caller began to speak: start recognition a little before ``media_sample`` (16 kHz)."""

    utterance: int
    media_sample: int
    __match_args__ = ("utterance", "media_sample")

@final
class ProbeUtterance:
    """The caller paused: ask the recogniser now for its best whole hypothesis."""

    utterance: int
    __match_args__ = ("utterance",)

@final
class ContinueUtterance:
    """The caller went on after a probe: the same utterance grows, its hypothesis is void."""

    utterance: int
    __match_args__ = ("utterance",)

@final
class EndUtterance:
    """The utterance is over; ``used`` is false when it was noise or a listener's backchannel."""

    utterance: int
    used: bool
    __match_args__ = ("utterance", "used")

@final
class AgentState:
    """What front ends show: ``initializing``, ``listening``, ``thinking`` or ``speaking``."""

    state: str
    __match_args__ = ("state",)

@final
class LeaveRoom:
    """Authority or the call is gone, or a drain is done: leave the room at once, open no further turn."""

    reason: str
    __match_args__ = ("reason",)

Effect: TypeAlias = (
    OpenTurn
    | HoldOutput
    | ResumeOutput
    | CancelTurn
    | TellNode
    | CancelInvocation
    | CloseTurn
    | RefuseIntent
    | StartUtterance
    | ProbeUtterance
    | ContinueUtterance
    | EndUtterance
    | AgentState
    | LeaveRoom
)

PASS: Final[int]
"""Gate verdict: the frame may leave."""
HELD: Final[int]
"""Gate verdict: the voice is held; keep the frame."""
FENCED: Final[int]
"""Gate verdict: the turn was cancelled or is closed; drop the frame."""
STALE_EPOCH: Final[int]
"""Gate verdict: the frame carries another epoch than the lease; drop it."""
LEASE_EXPIRED: Final[int]
"""Gate verdict: the local lease deadline has passed; drop it and perform ``tick``'s effects."""
BEHAVIOURS: Final[dict[int, str]]
"""Decisions that were changed after recordings existed, by number; see ``SessionKernel``."""

@final
class SessionKernel:
    """One session's decisions: pure, single-threaded, driven only by the inputs below.

    Every method is one ``step``: it appends evidence first and then returns the effects.

    Args:
        session_id: non-empty id of the logical conversation.
        wall_clock_ms: wall clock at ``now_us``, ms since the epoch; later ones are derived.
        evidence_capacity: records that Stage A keeps until they are drained; at least 256. Windows of the
            caller's audio and frames of the agent's make some 80 a second, so 4096 last about 50 s.
        providers: needed only for ``invoke``.
        behaviours: numbers out of ``BEHAVIOURS`` that the kernel behaves by; all when not given. An old
            recording is run again with those of its header.

    Raises:
        ValueError: ``session_id`` is empty, ``evidence_capacity`` is out of range, or a number in
            ``behaviours`` is not known here.
    """

    def __new__(
        cls,
        *,
        session_id: str,
        policy: TurnPolicy,
        plan: PlanTemplate,
        now_us: int,
        wall_clock_ms: int,
        evidence_capacity: int = 4096,
        providers: ProviderPolicy | None = None,
        behaviours: Sequence[int] | None = None,
    ) -> SessionKernel: ...
    def admit_by(self, admission: Admission, key: str) -> None:
        """Let every turn and every provider invocation pass the quotas of ``admission``.

        What admission says is recorded as an input when it changes, with its policy and counters.

        Args:
            admission: the enforcer that the sessions of a runtime share.
            key: fairness key, such as the session or its tenant.

        Raises:
            ValueError: ``key`` is empty.
        """
    def admission(
        self,
        now_us: int,
        *,
        point: str,
        outcome: str,
        reason: str,
        snapshot: str,
        fairness_key: str,
        in_use: int,
        places: int,
        key_in_use: int,
        key_share: int,
        claim_us: int,
    ) -> None:
        """Take what admission said at a point in a recorded call; a live one is told by ``admit_by``.

        Raises:
            ValueError: a name is unknown.
        """
    def turn_start(
        self,
        now_us: int,
        *,
        version: int,
        usable_until_us: int,
        failure: str = "",
        provenance: Mapping[str, str] | None,
        adaptive_actions: Sequence[str],
        admission: str,
        admission_scope: str,
        admission_reason: str,
        authority_epoch: int,
        authority_valid: bool,
        authority_authorized: bool,
        claim_us: int,
    ) -> None:
        """Take what the control plane says about the next turns; recorded as an input.

        It binds the turns that open after it: the running one keeps its plan and its adaptive actions. A turn
        that was deferred is looked for again at the next ``tick``, which is then due at once.

        Args:
            now_us: when it was told.
            version: of the snapshots. A lower one than was taken before is refused with the marker
                ``turn_start_bundle_refused``, and what was in force stays; a failure is always taken.
            usable_until_us: latest time at which a turn opens under it.
            failure: empty, or why there is no bundle: ``snapshot_invalid_or_missing`` (stale, missing,
                incompatible, wrong signature) or ``turn_start_bundle_resolution_failed``.
            provenance: exactly the six references of a plan's ``snapshot_provenance``, each of 1 to 256
                bytes; may be empty with a failure. None says that they are as told before.
            adaptive_actions: those that the policy allows; of them the plan allows the profile's.
            admission: outcome of CP-05: ``admit``, ``reject`` or ``defer``.
            admission_scope: what it covers: ``tenant`` or ``session``.
            admission_reason: CP-05's own word, kept with the input; decisions carry the closed code.
            authority_epoch: epoch that CP-07 names, 0 when it says nothing about it.
            authority_valid: whether CP-07 takes the epoch for valid.
            authority_authorized: whether CP-07 lets the session be served.
            claim_us: how long a deferred turn waits.

        Raises:
            ValueError: a value is wrong; the message names field, value and remedy.
        """
    def leave_admission(self) -> None:
        """Give back every place and ask for none any more."""
    def lease(self, now_us: int, epoch: int, deadline_us: int) -> Sequence[Effect]:
        """Take a granted or renewed lease; an epoch lower than the present one is refused."""
    def lease_lost(self, now_us: int, reason: str) -> Sequence[Effect]:
        """The store gave the session to somebody else or revoked it: drain at once."""
    def start(self, now_us: int, resumed: bool) -> Sequence[Effect]:
        """The transport is usable and the caller is there: greet, or say the takeover notice."""
    def tick(self, now_us: int) -> Sequence[Effect]:
        """Let timers fire; call it at ``next_deadline_us``."""
    def voice_activity(self, now_us: int, media_sample: int, permille: int) -> Sequence[Effect]:
        """One window of the voice activity detector.

        Args:
            now_us: arrival of the window's last sample.
            media_sample: index of the window's first sample at 16 kHz since the caller's audio began.
            permille: speech probability, 0 to 1000.
        """
    def transcript(
        self,
        now_us: int,
        utterance: int,
        revision: int,
        words: int,
        backchannel: bool,
        complete: bool,
        probe: bool,
    ) -> Sequence[Effect]:
        """A hypothesis for an utterance.

        Args:
            now_us: arrival.
            utterance: number from ``StartUtterance``.
            revision: how many ``ContinueUtterance`` effects the recogniser had seen; others are stale.
            words: recognised words.
            backchannel: all words are a listener's ("mhm", "uh huh").
            complete: the recogniser holds the sentence for finished.
            probe: it answers ``ProbeUtterance``; otherwise it is a partial.
        """
    def text_message(self, now_us: int, reference: int) -> Sequence[Effect]:
        """A chat text arrived: it interrupts and is answered like speech."""
    def cancel(self, now_us: int, signal: str) -> Sequence[Effect]:
        """An accepted ``stop`` or ``cancel`` for the running turn."""
    def frame(self, now_us: int, turn: int, epoch: int, sequence: int, samples: int) -> int:
        """The egress gate: may this frame of audio leave now?

        Args:
            now_us: now.
            turn: turn the frame belongs to.
            epoch: epoch the frame was made under.
            sequence: strictly increasing per turn.
            samples: length of the frame.

        Returns:
            One of ``PASS``, ``HELD``, ``FENCED``, ``STALE_EPOCH``, ``LEASE_EXPIRED``.
        """
    def generation_finished(self, now_us: int, turn: int) -> Sequence[Effect]:
        """The turn's last frame has passed the gate: commit and close."""
    def generation_failed(self, now_us: int, turn: int, reason: str) -> Sequence[Effect]:
        """A provider or node of the turn failed: abort with ``reason`` and close."""
    def playback(self, now_us: int, turn: int, event: str, samples: int) -> Sequence[Effect]:
        """Report delivery: ``started``, ``completed`` or ``cancelled`` with samples heard of the turn."""
    def connection(self, now_us: int, state: str, reason: str) -> Sequence[Effect]:
        """Report a connection signal.

        ``state`` is ``connected``, ``reconnecting``, ``disconnected``, ``ended``, ``silence``, ``stall`` or
        ``muted``.
        """
    def provider_outcome(self, now_us: int, turn: int, modality: str, outcome: str, latency_us: int) -> None:
        """Record one provider invocation: modality stt, llm or tts; outcome class of the contract."""
    def edge_decisions(self, now_us: int, edge: EdgeBuffer[Any]) -> list[dict[str, Any]]:
        """Record what ``edge`` decided since the last call as control signals of the session.

        Returns their fields, as ``EdgeBuffer.poll_signals`` does.
        """
    def lane_decisions(self, now_us: int, router: LaneRouter[Any]) -> list[dict[str, Any]]:
        """Record what the lanes of ``router`` decided since the last call, control's first.

        Returns their fields, as ``EdgeBuffer.poll_signals`` does.
        """
    def cancel_within(self, now_us: int, scope: str, target: int) -> Sequence[Effect]:
        """Cancel a ``session``, ``turn``, ``node`` or ``provider_invocation``.

        ``target`` is the turn or invocation number; for a node 0 is stt, 1 llm and 2 tts.
        """
    def routing_view(self, now_us: int, epoch: int) -> Sequence[Effect]:
        """The routing view was refreshed; a higher epoch than the lease's closes the gate."""
    def migration(self, now_us: int, step: str, epoch: int) -> Sequence[Effect]:
        """Take one step of a migration.

        ``step`` is ``rotated``, ``started``, ``reattached``, ``finished`` or ``handed_off``.
        """
    def drain(self, now_us: int) -> Sequence[Effect]:
        """The runtime leaves: the running turn may end, and no further one opens.

        The session leaves with ``LeaveRoom`` once no turn is open and the last one was played to its end.
        """
    def level_lowered(self, now_us: int, reason: str) -> None:
        """Record as the recorder that less is kept from now on, as ``recording_level_downgraded``.

        Args:
            now_us: now.
            reason: ``level_time_over``, ``payload_store_unavailable`` or ``operator_request``.

        Raises:
            ValueError: the reason is none of the signal's.
        """
    def reattach(self, now_us: int, turns: int, messages: int) -> bool:
        """Take over what survived of an earlier placement, before the first turn; false when refused.

        Turns are counted on from ``turns``; ``messages`` is how much of the conversation came along.
        """
    def arrive(self, now_us: int, event_id: str, size: int, carrier_epoch: int | None = None) -> str:
        """Let an event from outside come in.

        Args:
            now_us: now.
            event_id: id that the transport gave it; one of the last 256 that came in is a duplicate.
            size: its size in bytes; at most 16,384.
            carrier_epoch: epoch that it carries; none is enriched.

        Returns:
            The reason for which it must be dropped, which is recorded; empty when it may come in.
        """
    def ingress(self, now_us: int, carrier_epoch: int | None) -> tuple[str, int]:
        """May an event from outside come in? Returns the verdict and the epoch of the routing view.

        ``accepted``; ``enriched`` when it carried no epoch; ``stale``; ``refresh`` when the routing view
        is behind: refresh it and ask again; ``invalid``.
        """
    def host(self, nodes: Sequence[tuple[str, str, str, list[str], str | None]]) -> None:
        """Name the nodes of the graph, which are told what becomes of them in ``TellNode`` effects.

        Args:
            nodes: id, scope, cancel responsiveness and hooks of each, and what its providers do if it calls
                any; each after those that it takes content from.

        Raises:
            ValueError: a declaration is wrong.
        """
    def execution_context(self, turn: int) -> tuple[str | None, int | None]:
        """Return id and seed of the open turn; with turn 0 none of both, for a node of the session.

        Raises:
            ValueError: the turn is not open.
        """
    def exhausted(self, invocation: int) -> Literal["", "continue", "degrade", "fallback", "terminate"]:
        """What follows for an invocation whose budget the latest ``attempt_finished`` found used up."""
    def invoke(self, now_us: int, turn: int, modality: str) -> Attempt | str:
        """Begin a provider invocation of the open turn, or of the session with turn 0.

        Returns its first attempt, or the reason why nothing may be called.
        """
    def output_handed_on(self, now_us: int, invocation: int) -> bool:
        """Output of a running attempt is about to be handed on: from now on it is not repeated.

        Returns false when the invocation was cancelled; the output is counted and must be dropped.
        """
    def attempt_finished(
        self,
        now_us: int,
        invocation: int,
        outcome: str,
        *,
        reason: str = "",
        retryable: bool = False,
        backoff_ms: int | None = None,
        idle_us: int = 0,
    ) -> Attempt | None:
        """An attempt ended; returns the next one, if the plan allows one.

        Args:
            now_us: now.
            invocation: its number.
            outcome: outcome class of the contract, ``success`` included.
            reason: reason code of the failure; empty takes the one of the class.
            retryable: the same call may succeed later.
            backoff_ms: wait that the provider asked for.
            idle_us: how long the provider waited for its listener, which is not its latency.
        """
    def degraded(self, invocation: int) -> bool:
        """Whether this invocation ended so that its node goes on in a lesser form.

        Recognition then gives what it heard in part; speech begins a new invocation, which the lesser voice
        serves like the rest of the turn.
        """
    @property
    def stale_events(self) -> int:
        """Events refused at ingress because of another epoch."""
    @property
    def stale_frames(self) -> int:
        """Frames refused at the gate because of another epoch."""
    @property
    def now_us(self) -> int:
        """The latest time that an input came with, microseconds."""
    @property
    def next_deadline_us(self) -> int | None:
        """When ``tick`` is due, if no other input comes first."""
    @property
    def turn(self) -> int:
        """Number of the open turn, 0 when none is."""
    @property
    def turn_state(self) -> str:
        """State of the turn machine: ``Idle``, ``Opening``, ``Active``, ``Terminal`` or ``Closed``."""
    @property
    def epoch(self) -> int:
        """Epoch of the lease held, 0 before the first."""
    @property
    def held(self) -> bool:
        """Whether the voice is held."""
    @property
    def drained(self) -> bool:
        """Whether authority or the call is gone for good."""
    @property
    def crossings(self) -> int:
        """Number of calls into this kernel, for the test of law 8."""
    @property
    def evidence_dropped(self) -> int:
        """Detail records shed because Stage A was full."""
    def drain_evidence(self, limit: int) -> list[bytes]:
        """Take up to ``limit`` records out of Stage A, each one JSON object in UTF-8, oldest first."""
    def drain_records(self, limit: int) -> bytes:
        """Take up to ``limit`` records out of Stage A as one block for ``RecordDecoder``, oldest first.

        The block is empty when there are none, and at most 1 MiB: call again until it is empty.
        """

@final
class RecordDecoder:
    """Reads blocks of ``SessionKernel.drain_records`` without the kernel that wrote them.

    Args:
        session_id: as the kernel had it.
        pipeline_version: as its plan template had it.
        created_us: its ``now_us`` at creation.
        created_wall_ms: its ``wall_clock_ms``.
    """

    def __new__(
        cls, *, session_id: str, pipeline_version: str, created_us: int, created_wall_ms: int
    ) -> RecordDecoder: ...
    def decode(self, block: bytes) -> list[bytes]:
        """Return the records of one block, byte for byte as ``drain_evidence`` would have given them.

        Raises:
            ValueError: the block was cut or changed; the message names the byte and what is wrong there.
        """

_T = TypeVar("_T")

def merge_lineage(edge_id: str, sources: Sequence[tuple[int, str]]) -> list[tuple[str, list[str], int, int]]:
    """Return the lineage of one merge as ``(merge_group_id, merged_from_event_ids, first, last)`` groups.

    Sources are ``(runtime_sequence, event_id)``. They are put in order, an id that comes twice counts
    once, and more than 64 are split into several groups.

    Raises:
        ValueError: fewer than two different ids are given.
    """

@final
class EdgeBuffer(Generic[_T]):
    """A bounded edge between two nodes: four bounds, hysteresis watermarks, a named strategy.

    Items carry their turn, so that a fence removes a turn's items wherever they wait. What the edge
    decides is fetched with ``poll_signals``; 256 decisions wait, later ones are counted.

    Args:
        edge_id: stable name of the edge.
        strategy: ``block`` (refuse, the producer waits; shed once it was refused for
            ``max_block_ms``), ``drop`` (shed the arriving item), ``merge`` (join the newest waiting one
            of the turn), ``sample`` (above a mark keep one of ``sample_every``), ``latest_only`` (shed
            the waiting ones); for telemetry also ``best_effort_drop`` (shed the oldest); for control
            alone ``non_blocking_priority`` (never shed).
        max_items: bound on items.
        max_ms: bound on the sum of item durations, ms.
        max_bytes: bound on the sum of item sizes, bytes.
        high_items: xoff at this many items, or when a bound would be passed.
        low_items: xon at or below this many items, after an xoff.
        high_ms: xoff at this many ms of items too; 0 for no such mark.
        low_ms: xon at or below it.
        max_latency_ms: longest wait of an item; a later one is shed when its turn comes, except on
            edges that block. ``max_ms`` when not given.
        max_block_ms: needed by ``block``.
        lane: lane of the items.
        flow: ``signal``, ``credit`` or ``hybrid``.
        sync_policy: ``no_sync``, ``atomic_drop`` or ``drop_with_discontinuity``.
        sync_scope: ``edge_local`` or ``plan_wide``.
        sync_domain: needed by ``drop_with_discontinuity``.
        sample_every: from 2.
        merge: makes one item of a list of them; goes with strategy ``merge``.

    Raises:
        ValueError: a value is out of range; the message names field, value and remedy.
    """

    def __new__(
        cls,
        *,
        edge_id: str,
        strategy: str,
        max_items: int,
        max_ms: int,
        max_bytes: int,
        high_items: int,
        low_items: int,
        high_ms: int = 0,
        low_ms: int = 0,
        max_latency_ms: int | None = None,
        max_block_ms: int | None = None,
        lane: str = "DataLane",
        flow: str = "signal",
        sync_policy: str = "no_sync",
        sync_scope: str = "edge_local",
        sync_domain: str = "",
        sample_every: int = 2,
        merge: Callable[[list[_T]], _T] | None = None,
    ) -> EdgeBuffer[_T]: ...
    def admit_by(self, admission: Admission, key: str) -> None:
        """Let every item pass the quotas of ``admission`` for ``key`` as it comes and as it goes.

        An item that comes has its place until it has left the edge, an item that goes until its consumer
        asks for the next one. What is refused is shed, and the edge says so.
        """
    def leave_admission(self) -> None:
        """Give back every place and ask for none any more."""
    def put(
        self,
        item: _T,
        turn: int,
        duration_us: int,
        size: int,
        now_us: int = 0,
        sequence: int | None = None,
        group: int = 0,
    ) -> bool:
        """Enqueue; false when the item was refused or shed.

        A refused item is offered again, which ``blocked_until_us`` tells.

        Args:
            item: the item.
            turn: its turn, 0 for none.
            duration_us: how long it lasts.
            size: its size in bytes.
            now_us: now; without it no time passes on the edge.
            sequence: its runtime sequence; the edge counts by itself where none is given.
            group: number of the items it is lost with, rising with time; 0 for none.

        Raises:
            ValueError: ``sequence`` is not above that of an earlier item.
        """
    def get(self, now_us: int = 0) -> _T | None:
        """Dequeue the oldest item, or none; a merged item is made by ``merge`` of its parts."""
    @property
    def merged_from(self) -> list[int]:
        """Sequences of the parts of the item that ``get`` returned last; empty unless it was merged."""
    def poll_signals(self) -> list[dict[str, Any]]:
        """Take the decisions since the last call, oldest first, as fields of control signals.

        Each has ``signal``, ``emitted_by``, ``at_us`` and ``turn`` (0 for none), and what its signal
        needs: ``edge_id``, ``target_lane``, ``reason``, ``seq_range``, ``amount``, ``sync_domain``,
        ``discontinuity_id``.
        """
    def take_losses(self) -> list[tuple[int, int, int]]:
        """Take the plan-wide losses as ``(group, discontinuity, turn)`` for ``apply_loss``."""
    def apply_loss(self, group: int, discontinuity: int, turn: int) -> None:
        """Apply a loss on another edge of the domain; it is not told further."""
    def fence(self, turn: int) -> int:
        """Remove every item of ``turn`` and of earlier turns; returns how many."""
    def clear(self) -> int:
        """Remove everything; returns how many."""
    def __len__(self) -> int: ...
    def __class_getitem__(cls, key: object) -> GenericAlias: ...
    @property
    def edge_id(self) -> str:
        """Name of the edge."""
    @property
    def flowing(self) -> bool:
        """False when the producer must wait: between xoff and xon, without credit, or refused."""
    @property
    def credits(self) -> int:
        """Credits that the producer holds; 0 under signals."""
    @property
    def blocked_until_us(self) -> int | None:
        """When the next offer of a refused producer is shed; none while it is not refused."""
    @property
    def queued_us(self) -> int:
        """Sum of the durations waiting, microseconds."""
    @property
    def shed(self) -> int:
        """Items shed since the start."""
    @property
    def signals_lost(self) -> int:
        """Decisions lost because nobody polled."""
    @property
    def depth_peak(self) -> int:
        """Most items that ever waited."""

@final
class LaneRouter(Generic[_T]):
    """Three bounded queues in strict priority: control before data before telemetry.

    Each lane has bounds of its own, so that data never takes room from control. Control is refused at
    its bound and never shed: its producer keeps what was refused.

    Args:
        router_id: stable name of the edge or router.
        control: most items, items at which the producer must stop, items at which it may go on; 64, 20
            and 10 when not given.
        data: the same for data; 128, 100 and 50.
        telemetry: the same for telemetry; 256, 200 and 100.
        data_strategy: ``drop``, ``sample`` or ``latest_only``.
        telemetry_strategy: ``drop``, ``sample`` or ``best_effort_drop``.

    Raises:
        ValueError: a value is out of range; the message names field, value and remedy.
    """

    def __new__(
        cls,
        *,
        router_id: str,
        control: tuple[int, int, int] = ...,
        data: tuple[int, int, int] = ...,
        telemetry: tuple[int, int, int] = ...,
        data_strategy: str = "drop",
        telemetry_strategy: str = "sample",
    ) -> LaneRouter[_T]: ...
    @staticmethod
    def over(
        edge: EdgeBuffer[_T],
        *,
        control: tuple[int, int, int] = ...,
        telemetry: tuple[int, int, int] = ...,
        telemetry_strategy: str = "sample",
    ) -> LaneRouter[_T]:
        """Three empty lanes: data has the settings of an edge of the plan, the router its name."""
    def admit_by(self, admission: Admission, key: str) -> None:
        """Let every item pass the quotas of ``admission``; see ``EdgeBuffer.admit_by``."""
    def leave_admission(self) -> None:
        """Give back every place and ask for none any more."""
    def put(self, lane: str, item: _T, turn: int, duration_us: int, size: int, now_us: int = 0) -> bool:
        """Enqueue on ``ControlLane``, ``DataLane`` or ``TelemetryLane``; false when refused or shed."""
    def get(self, now_us: int = 0) -> tuple[str, _T] | None:
        """Dequeue the oldest item of the first lane that holds one, with its lane; or none."""
    def overtake(self, turn: int, now_us: int) -> int:
        """Shed the telemetry of ``turn`` and of earlier turns; returns how many items."""
    def fence(self, turn: int) -> int:
        """Remove every data item of ``turn`` and of earlier turns; returns how many."""
    def poll_signals(self) -> list[dict[str, Any]]:
        """Take the decisions since the last call, control's first; see ``EdgeBuffer.poll_signals``."""
    def waiting(self, lane: str) -> int:
        """Items waiting on a lane."""
    def shed(self, lane: str) -> int:
        """Items shed on a lane since the start."""
    @property
    def router_id(self) -> str:
        """Name of the router."""
    def __len__(self) -> int: ...
    def __class_getitem__(cls, key: object) -> GenericAlias: ...

@final
class SessionState(Generic[_T]):
    """The state of one session by class; the class says how long it lives.

    ``turn_ephemeral`` ends with its turn, ``session_hot`` with the stint; ``session_durable`` and
    ``control_plane_configuration`` survive a failover, ``provider_health`` as a snapshot.

    Args:
        max_entries: most keys of all classes together.
    """

    def __new__(cls, max_entries: int = 64) -> SessionState[_T]: ...
    def begin_turn(self, turn: int) -> None:
        """A turn opens: nothing of an earlier one is left."""
    def end_turn(self) -> None:
        """The turn is closed: its state is gone."""
    def end_stint(self) -> None:
        """The stint is over: what is left is what another placement may start with."""
    def get(self, scope: str, state_class: str, key: str) -> _T | None:
        """Read for a node of ``scope``, ``session`` or ``turn``; none when it may not or nothing is there.

        Raises:
            ValueError: scope or class is unknown.
        """
    def put(self, scope: str, state_class: str, key: str, value: _T) -> None:
        """Write for a node of ``scope``.

        Raises:
            ValueError: the scope may not write the class, no turn is open, or there is no room.
        """
    def attach(self, state_class: str, key: str, value: _T) -> None:
        """Take what the control plane published, or what an external store kept.

        Raises:
            ValueError: the class is unknown, or there is no room.
        """
    def __len__(self) -> int: ...
    def __class_getitem__(cls, key: object) -> GenericAlias: ...

_Class: TypeAlias = Literal["PII", "PHI", "audio_raw", "text_raw", "derived_summary", "metadata"]

def data_flow(
    nodes: Sequence[tuple[str, str, str, list[str], list[str], list[tuple[str, str]]]],
    edges: Sequence[tuple[int, int]],
    *,
    sources: Sequence[tuple[int, str]],
    external: set[int],
    let_out: Sequence[str],
) -> tuple[list[tuple[list[str], list[str]]], list[tuple[int, _Class, bool]]]:
    """Say which payload classes reach and leave each node, and what would cross the border.

    Args:
        nodes: id, scope, cancel responsiveness, hooks, classes taken in, and transforms of each node, each
            after those that it takes content from.
        edges: pairs of indices of nodes between which content goes.
        sources: index of a node and class of what comes in there from outside.
        external: indices of nodes whose provider is reached over the network.
        let_out: classes that such providers may be given.

    Returns:
        Classes given to and made by each node, and each crossing: index of the node, class, whether it may.

    Raises:
        ValueError: a name is unknown, a declaration is wrong, or a node is given a class it does not take in.
    """

@final
class ExecutionPool:
    """Slots and a bounded queue for blocking work; it decides, and runs nothing by itself.

    Keys take turns. A task that runs for 100 ms lends its slot to the next one and runs on beside the
    slots; at most 16 run so.

    Args:
        slots: tasks that run at once.
        max_queue: most tasks that wait.

    Raises:
        ValueError: ``slots`` is 0.
    """

    def __new__(cls, slots: int, max_queue: int) -> ExecutionPool: ...
    def submit(
        self, now_us: int, task: int, *, key: int, seat: int, deadline_us: int, lane: str = "DataLane"
    ) -> tuple[Literal["slot", "queued", "rejected", "stuck"], int | None]:
        """Hand in a task; returns what became of it, and the waiting task that lost its place to it.

        Args:
            now_us: now.
            task: its number, unique while it is here.
            key: who shares: the number of a session.
            seat: what asks: the number of a node of that session; while an overdue task of it has not
                returned, further ones are ``stuck``.
            deadline_us: when the task must be over.
            lane: its lane.

        Raises:
            ValueError: the lane is unknown, or the task is here already.
        """
    def next(self, now_us: int) -> tuple[Literal["run", "expired"], int, int] | None:
        """Take the next task that may run or whose deadline has passed, with its wait in microseconds."""
    def finish(self, now_us: int, task: int) -> tuple[int, int, bool] | None:
        """Say that a running task is over.

        Returns:
            Microseconds waited, microseconds run, whether it was late; none when no such task ran.
        """
    def withdraw(self, task: int) -> bool:
        """Take a task back that waits; false when it does not wait."""
    def overdue(self, now_us: int) -> int | None:
        """Take the next running task whose deadline has passed; each is told once."""
    @property
    def due_us(self) -> int | None:
        """When ``next`` and ``overdue`` are to be asked again if nothing ends before, microseconds."""
    @property
    def waiting(self) -> int:
        """Tasks that wait."""
    @property
    def running(self) -> int:
        """Tasks that run."""
    @property
    def most(self) -> int:
        """Most tasks that ever run at once."""

@final
class AdmissionVerdict:
    """One outcome of admission and the counters it was computed from.

    ``outcome`` is ``admit``, ``reject``, ``defer`` or ``shed``. ``in_use`` of ``places`` were taken
    before it, ``key_in_use`` of them by the key, which may have ``key_share`` under pressure.
    """

    admitted: bool
    outcome: str
    phase: str
    scope: str
    reason: str
    in_use: int
    places: int
    key_in_use: int
    key_share: int

@final
class Admission:
    """Local admission and scheduling: outcomes computed from a policy and counters.

    Without a policy no turn opens and control alone is admitted.
    """

    def __new__(cls) -> Admission: ...
    def adopt(
        self,
        *,
        snapshot_ref: str,
        valid_until_us: int,
        turn_start: tuple[int, int, int],
        edge_enqueue: tuple[int, int, int],
        edge_dequeue: tuple[int, int, int],
        node_dispatch: tuple[int, int, int],
        max_deferred: int = 0,
        claim_us: int = 1_000_000,
    ) -> None:
        """Take a policy snapshot.

        Args:
            snapshot_ref: its reference.
            valid_until_us: until when it may open turns.
            turn_start: places of all keys, places of one key, places taken from which there is
                pressure: then telemetry is shed, and no key gets more than its share.
            edge_enqueue: the same there.
            edge_dequeue: the same there.
            node_dispatch: the same there.
            max_deferred: keys that may wait for a turn.
            claim_us: how long the claim of a deferred key on the next free place holds.

        Raises:
            ValueError: a value is out of range; the earlier policy stays.
        """
    def ask(self, now_us: int, point: str, lane: str, key: str, turn_known: bool = False) -> AdmissionVerdict:
        """Ask for a place.

        Args:
            now_us: now.
            point: ``turn_start``, ``edge_enqueue``, ``edge_dequeue`` or ``node_dispatch``.
            lane: lane of the work; control is always admitted at scheduling points.
            key: fairness key, such as a session or a tenant.
            turn_known: whether there is a candidate turn.
        """
    def in_use(self, point: str) -> int:
        """Return the places taken at ``point``."""
    def done(self, point: str, lane: str, key: str) -> bool:
        """Give a place back; false when the key holds none there."""
    @property
    def snapshot_ref(self) -> str | None:
        """Reference of the policy that decides now."""
    @property
    def keys(self) -> int:
        """Keys that hold a place or a claim."""

# ------------------------------------------------------------------------------------- segments

SEGMENT_MAGIC: Final[bytes]
"""First bytes of every segment."""

DAMAGE_CODES: Final[list[str]]
"""Everything that can be wrong with a recording."""

@final
class SegmentChain:
    """The writing end of the chain of one segment.

    Args:
        previous: last link of the segment before, 16 bytes; zeros where nothing came before.
        blocks: blocks framed already, when the chain stands behind one of them.

    Raises:
        ValueError: ``previous`` has another length.
    """

    def __new__(cls, previous: bytes, blocks: int = 0) -> SegmentChain: ...
    def frame(self, kind: int, body: bytes) -> bytes:
        """Return the block of ``body``, which the next one follows.

        Args:
            kind: 1 header, 2 records, 3 seal.
            body: at most 1 MiB.

        Raises:
            ValueError: the kind is none or the body too long; the chain stays as it was.
        """
    @property
    def link(self) -> bytes:
        """The latest link, 16 bytes."""
    @property
    def blocks(self) -> int:
        """Blocks framed so far."""

@final
class SegmentScan:
    """What a segment holds, and what is wrong with it."""

    @property
    def blocks(self) -> list[tuple[int, int, int, int, bool]]:
        """Blocks as ``(offset, kind, body_start, body_end, sound)``; none from ``verify_segment``."""
    @property
    def damage(self) -> list[tuple[str, int, int]]:
        """What is wrong as ``(code, offset, block)``; blocks count from 0."""
    @property
    def link(self) -> bytes:
        """Link of the last block whose checksum is right."""
    @property
    def whole(self) -> int:
        """Blocks whose checksum is right."""
    @property
    def sealed(self) -> bool:
        """Whether the segment was closed in order."""

def scan_segment(data: bytes, previous: bytes | None = None) -> SegmentScan:
    """Find the blocks of a segment and what is wrong with it; any bytes will do.

    Args:
        data: the file.
        previous: link that the first block must follow; without it that one is taken as it is.

    Raises:
        ValueError: ``previous`` does not have 16 bytes.
    """

def verify_segment(data: bytes, previous: bytes | None = None) -> SegmentScan:
    """Find what is wrong with a segment as ``scan_segment`` does, without the list of its blocks."""

@final
class Divergence:
    """One difference between a recording and its replay.

    Attributes:
        class_: ``PLAN_DIVERGENCE``, ``OUTCOME_DIVERGENCE``, ``ORDERING_DIVERGENCE``,
            ``TIMING_DIVERGENCE`` or ``AUTHORITY_DIVERGENCE``.
        scope: ``turn:<turn id>``, ``session:<session id>``, or ``trace``.
        turn: number of the turn, 0 for none.
        at_us: time of the record, microseconds.
        index: of the recorded record among the kernel's records, or of the one before which the replay
            said more.
        message: what differs.
        recorded: the recorded record as JSON, empty when there is none.
        replayed: the replayed record as JSON, empty when there is none.
        diff_us: how far apart the two are, for ``TIMING_DIVERGENCE``, microseconds.
        repeats: how many later records differ in the very same way and are not listed.
    """

    class_: str
    scope: str
    turn: int
    at_us: int
    index: int
    message: str
    recorded: str
    replayed: str
    diff_us: int | None
    repeats: int

@final
class Replay:
    """The same kernel once more over what it was given.

    Every recorded input is given again at its time; what the kernel writes about it is compared with what
    was recorded up to the next input. After a difference the replay goes on with the recorded inputs.

    Args: those of ``SessionKernel``, as the header of the stint has them.

    Raises:
        ValueError: as ``SessionKernel`` does.
    """

    def __new__(
        cls,
        *,
        session_id: str,
        policy: TurnPolicy,
        plan: PlanTemplate,
        now_us: int,
        wall_clock_ms: int,
        evidence_capacity: int = 4096,
        providers: ProviderPolicy | None = None,
        behaviours: Sequence[int] | None = None,
    ) -> Replay: ...
    def feed(self, block: bytes) -> None:
        """Take one recorded block, the next after those fed before.

        Raises:
            ValueError: the block is malformed, at an offset it names; or more than a million records wait.
        """
    def feed_gap(self, at_us: int, records: int) -> None:
        """Say that records are missing between what was fed and what will be.

        Args:
            at_us: from when on.
            records: how many, 0 when nobody knows.

        Raises:
            ValueError: too many records wait.
        """
    def finish(self) -> None:
        """Go on to the end of what was fed, which is the end of the recording.

        What the last input led to is complete then; without it, it is judged as far as it goes.
        """
    def advance(self, records: int) -> int:
        """Go on by up to ``records`` records; returns how many it were."""
    def advance_to_us(self, at_us: int) -> int:
        """Go on to the last record that is not later than ``at_us``; returns how many it were."""
    def advance_to_turn(self, turn: int) -> bool:
        """Go on until the recording speaks of that turn; false when it never does."""
    @property
    def position(self) -> int:
        """Index of the next record."""
    @property
    def at_us(self) -> int:
        """Time of the latest record, microseconds."""
    @property
    def turn(self) -> int:
        """Number of the open turn, 0 when none is."""
    @property
    def turn_state(self) -> str:
        """State of the turn machine."""
    @property
    def epoch(self) -> int:
        """Epoch of the lease held, 0 before the first."""
    @property
    def held(self) -> bool:
        """Whether the voice is held."""
    @property
    def inputs(self) -> int:
        """Inputs given to the kernel."""
    @property
    def compared(self) -> int:
        """Recorded records that were compared."""
    @property
    def gap(self) -> tuple[int, int] | None:
        """Where inputs are missing: time in microseconds, and records, 0 when nobody knows how many.

        Nothing beyond is judged and the kernel's state stays as it was.
        """
    @property
    def divergences(self) -> list[Divergence]:
        """What differs up to the position, in the order of the recording; at most 1,000."""
    @property
    def unlisted(self) -> int:
        """Divergences beyond those listed."""
