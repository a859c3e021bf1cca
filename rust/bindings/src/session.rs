//! The session kernel: each method builds an input and calls `step`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyTuple};
use rspp_kernel::admission::{self, Place, Point};
use rspp_kernel::behaviour::{Behaviour, Behaviours};
use rspp_kernel::budget::Action;
use rspp_kernel::cancellation::CancelScope;
use rspp_kernel::decision::Outcome;
use rspp_kernel::edge::notice::What;
use rspp_kernel::event::{self, Lane};
use rspp_kernel::evidence::ring;
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{
    CancelSignal, ConnectionState, Event, Input, Modality, PlaybackEvent, ProviderOutcome, Transcript,
};
use rspp_kernel::invocation::{self, outcome::Ending};
use rspp_kernel::migration::Step;
use rspp_kernel::reason::Reason;
use rspp_kernel::session as kernel;
use rspp_kernel::signal::Signal;

use crate::admission::{Admission, Places};
use crate::bundle;
use crate::edge::{fields, EdgeBuffer};
use crate::effects;
use crate::lane::LaneRouter;
use crate::node::{hosted, Hosted};
use crate::policy::{choice, PlanTemplate, ProviderPolicy, TurnPolicy};

const VERDICTS: [(&str, Verdict); 5] = [
    ("PASS", Verdict::Pass),
    ("HELD", Verdict::Held),
    ("FENCED", Verdict::Fenced),
    ("STALE_EPOCH", Verdict::StaleEpoch),
    ("LEASE_EXPIRED", Verdict::LeaseExpired),
];

/// One session's decisions: pure, single-threaded, driven only by the inputs below.
#[pyclass(module = "rspp._kernel")]
pub(crate) struct SessionKernel {
    pub(crate) inner: kernel::SessionKernel,
    quotas: Option<Quotas>,
}

/// Places of a session: of its turn, and of its provider invocations.
struct Quotas {
    turn: Places,
    nodes: Places,
    /// What the kernel was told last at turn start, at node dispatch and at both ends of an edge.
    told: [Option<(Outcome, Reason)>; 4],
    claimed: bool,
}

impl SessionKernel {
    fn step<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        event: Event<&str>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.tell(py, now_us, Point::TurnStart);
        let effects = effects::tuple(py, self.inner.step(Input { now_us, event }));
        self.settle(py, now_us);
        effects
    }

    /// Tells the kernel what admission says at a point, if that has changed.
    fn tell(&mut self, py: Python<'_>, now_us: u64, point: Point) {
        let Some(quotas) = &mut self.quotas else { return };
        let turn = point == Point::TurnStart;
        let places = if turn { &quotas.turn } else { &quotas.nodes };
        let verdict = places.peek(py, now_us, turn);
        let said = Some((verdict.decision.outcome, verdict.decision.reason));
        let told = &mut quotas.told[point as usize];
        if *told != said && (told.is_some() || !verdict.admitted()) {
            *told = said;
            let (snapshot, claim_us) = places.policy(py);
            let place = Place::new(point, &verdict, &snapshot, &places.key, claim_us);
            self.inner.admission(now_us, place);
        }
    }

    /// Tells the kernel why admission refused an item of an edge.
    fn tell_refusal(
        &mut self,
        py: Python<'_>,
        now_us: u64,
        refused: Option<(&Places, Point, admission::Verdict)>,
    ) {
        let Some((places, point, verdict)) = refused else { return };
        let (snapshot, claim_us) = places.policy(py);
        let place = Place::new(point, &verdict, &snapshot, &places.key, claim_us);
        self.inner.admission(now_us, place);
    }

    /// Takes and gives back places as the kernel has decided; nobody else asked meanwhile.
    fn settle(&mut self, py: Python<'_>, now_us: u64) {
        let Some(quotas) = &mut self.quotas else { return };
        let open = self.inner.turn() != 0;
        let waits = self.inner.waits_for_place();
        if !open {
            quotas.turn.keep(py, 0);
        }
        if (open && quotas.turn.taken() == 0) || (waits && !quotas.claimed) {
            quotas.turn.ask(py, now_us);
        }
        quotas.claimed = waits;
        let live = self.inner.live_invocations() as u64;
        while quotas.nodes.taken() < live && quotas.nodes.ask(py, now_us).admitted() {}
        quotas.nodes.keep(py, live);
    }
}

#[pymethods]
impl SessionKernel {
    #[new]
    #[pyo3(signature = (
        *, session_id, policy, plan, now_us, wall_clock_ms, evidence_capacity = 4096, providers = None,
        behaviours = None
    ))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    pub(crate) fn new(
        session_id: &str,
        policy: &TurnPolicy,
        plan: &PlanTemplate,
        now_us: u64,
        wall_clock_ms: u64,
        evidence_capacity: usize,
        providers: Option<&ProviderPolicy>,
        behaviours: Option<Vec<i64>>,
    ) -> PyResult<Self> {
        if session_id.is_empty() {
            return Err(PyValueError::new_err("session_id is empty: give the session a name"));
        }
        if !(ring::MIN_CAPACITY..=1 << 20).contains(&evidence_capacity) {
            return Err(PyValueError::new_err(format!(
                "evidence_capacity is {evidence_capacity}: choose a value from {} to {}",
                ring::MIN_CAPACITY,
                1 << 20
            )));
        }
        let mut inner = kernel::SessionKernel::new(kernel::Settings {
            session_id: session_id.to_owned(),
            policy: policy.inner,
            plan: plan.inner.clone(),
            now_us,
            wall_clock_ms,
            evidence_capacity,
        });
        if let Some(numbers) = behaviours {
            let narrow = |number: &i64| u32::try_from(*number).map_err(|_| *number);
            let known = numbers.iter().map(narrow).collect::<Result<Vec<_>, _>>();
            let set = known.and_then(|known| Behaviours::of(&known).map_err(|error| i64::from(error.0)));
            inner.behave_by(set.map_err(|number| {
                PyValueError::new_err(format!(
                    "behaviours holds {number}, which this kernel does not have: choose numbers of BEHAVIOURS"
                ))
            })?);
        }
        if let Some(providers) = providers {
            let named: Vec<_> =
                providers.candidates.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
            inner.use_providers(providers.inner, &named);
            for (modality, name) in &providers.lesser {
                inner.use_lesser(*modality, name);
            }
        }
        Ok(Self { inner, quotas: None })
    }

    /// Let every turn and every provider invocation pass the quotas of ``admission``.
    fn admit_by(&mut self, admission: &Bound<'_, Admission>, key: &str) -> PyResult<()> {
        if key.is_empty() {
            return Err(PyValueError::new_err("key is empty: name the session or the tenant"));
        }
        let places = |point| Places::new(admission, key, point, Lane::Data);
        let (turn, nodes) = (places(Point::TurnStart), places(Point::NodeDispatch));
        self.quotas = Some(Quotas { turn, nodes, told: [None; 4], claimed: false });
        Ok(())
    }

    /// Take what admission said at a point in a recorded call.
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    #[pyo3(signature = (
        now_us, *, point, outcome, reason, snapshot, fairness_key, in_use, places, key_in_use, key_share, claim_us
    ))]
    fn admission(
        &mut self,
        now_us: u64,
        point: &str,
        outcome: &str,
        reason: &str,
        snapshot: &str,
        fairness_key: &str,
        in_use: u32,
        places: u32,
        key_in_use: u32,
        key_share: u32,
        claim_us: u64,
    ) -> PyResult<()> {
        let point = choice("point", point, Point::parse(point), Point::NAMES)?;
        let outcome = choice("outcome", outcome, Outcome::parse(outcome), Outcome::NAMES)?;
        let reason = Reason::parse(reason)
            .ok_or_else(|| PyValueError::new_err(format!("reason is {reason:?}: choose a reason code")))?;
        let (snapshot, key) = (snapshot, fairness_key);
        self.inner.admission(
            now_us,
            Place { point, outcome, reason, snapshot, key, in_use, places, key_in_use, key_share, claim_us },
        );
        Ok(())
    }

    /// Take what the control plane says about the next turns.
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    #[pyo3(signature = (
        now_us, *, version, usable_until_us, failure = "", provenance, adaptive_actions, admission,
        admission_scope, admission_reason, authority_epoch, authority_valid, authority_authorized, claim_us
    ))]
    fn turn_start(
        &mut self,
        now_us: u64,
        version: i64,
        usable_until_us: i64,
        failure: &str,
        provenance: Option<&Bound<'_, PyMapping>>,
        adaptive_actions: Vec<String>,
        admission: &str,
        admission_scope: &str,
        admission_reason: &str,
        authority_epoch: i64,
        authority_valid: bool,
        authority_authorized: bool,
        claim_us: i64,
    ) -> PyResult<()> {
        let said = bundle::Said {
            version,
            usable_until_us,
            failure,
            adaptive_actions,
            admission,
            admission_scope,
            admission_reason,
            authority_epoch,
            authority_valid,
            authority_authorized,
            claim_us,
        };
        let said = said.checked()?;
        let failed = said.failure.is_some();
        let provenance = provenance.map(|given| bundle::provenance(given, failed)).transpose()?.flatten();
        self.inner.turn_start(now_us, said, provenance.as_ref());
        Ok(())
    }

    /// Give back every place and ask for none any more.
    fn leave_admission(&mut self) {
        self.quotas = None;
    }

    /// Take a granted or renewed lease; an epoch lower than the present one is refused.
    fn lease<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        epoch: u64,
        deadline_us: u64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::Lease { epoch, deadline_us })
    }

    /// The store gave the session to somebody else or revoked it: drain at once.
    fn lease_lost<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        reason: &str,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::LeaseLost { reason })
    }

    /// The transport is usable and the caller is there: greet, or say the takeover notice.
    fn start<'py>(&mut self, py: Python<'py>, now_us: u64, resumed: bool) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::Start { resumed })
    }

    /// Let timers fire; call it at ``next_deadline_us``.
    fn tick<'py>(&mut self, py: Python<'py>, now_us: u64) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::Tick)
    }

    /// One window of the voice activity detector.
    fn voice_activity<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        media_sample: u64,
        permille: i64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let known = u16::try_from(permille).ok().filter(|permille| *permille <= 1000);
        let permille = known.ok_or_else(|| {
            PyValueError::new_err(format!("permille is {permille}: choose a value from 0 to 1000"))
        })?;
        self.step(py, now_us, Event::VoiceActivity { media_sample, permille })
    }

    /// A hypothesis for an utterance.
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // fixed by the stub
    fn transcript<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        utterance: u32,
        revision: u32,
        words: u32,
        backchannel: bool,
        complete: bool,
        probe: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let transcript = Transcript { utterance, revision, words, backchannel, complete, probe };
        self.step(py, now_us, Event::Transcript(transcript))
    }

    /// A chat text arrived: it interrupts and is answered like speech.
    fn text_message<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        reference: u32,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::TextMessage { reference })
    }

    /// An accepted ``stop`` or ``cancel`` for the running turn.
    fn cancel<'py>(&mut self, py: Python<'py>, now_us: u64, signal: &str) -> PyResult<Bound<'py, PyTuple>> {
        let signal = choice("signal", signal, CancelSignal::parse(signal), &["stop", "cancel"])?;
        self.step(py, now_us, Event::Cancel { signal })
    }

    /// The egress gate: may this frame of audio leave now?
    fn frame(&mut self, now_us: u64, turn: u32, epoch: u64, sequence: u64, samples: u64) -> u8 {
        self.inner.frame(now_us, turn, epoch, sequence, samples) as u8
    }

    /// The turn's last frame has passed the gate: commit and close.
    fn generation_finished<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        turn: u32,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::GenerationFinished { turn })
    }

    /// A provider or node of the turn failed: abort with ``reason`` and close.
    fn generation_failed<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        turn: u32,
        reason: &str,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::GenerationFailed { turn, reason })
    }

    /// Report delivery: ``started``, ``completed`` or ``cancelled`` with samples heard of the turn.
    fn playback<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        turn: u32,
        event: &str,
        samples: u64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let choices = &["started", "completed", "cancelled"];
        let event = choice("event", event, PlaybackEvent::parse(event), choices)?;
        self.step(py, now_us, Event::Playback { turn, event, samples })
    }

    /// Report ``connected``, ``reconnecting``, ``disconnected``, ``ended``, ``silence``, ``stall``
    /// or ``muted``.
    fn connection<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        state: &str,
        reason: &str,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let names: Vec<_> = ConnectionState::ALL.iter().map(|state| state.name()).collect();
        let state = choice("state", state, ConnectionState::parse(state), &names)?;
        self.step(py, now_us, Event::Connection { state, reason })
    }

    /// Record one provider invocation: modality stt, llm or tts; outcome class of the contract.
    fn provider_outcome(
        &mut self,
        now_us: u64,
        turn: u32,
        modality: &str,
        outcome: &str,
        latency_us: u64,
    ) -> PyResult<()> {
        let names: Vec<_> = ProviderOutcome::ALL.iter().map(|outcome| outcome.name()).collect();
        let modality = choice("modality", modality, Modality::parse(modality), &["stt", "llm", "tts"])?;
        let outcome = choice("outcome", outcome, ProviderOutcome::parse(outcome), &names)?;
        self.inner.provider_outcome(now_us, turn, modality, outcome, latency_us);
        Ok(())
    }

    /// Record what an edge decided since the last call, as control signals; returns their fields.
    fn edge_decisions<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        edge: &mut EdgeBuffer,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let mut told = Vec::new();
        while let Some(notice) = edge.take_notice() {
            if let What::Shed(scope) = notice.what {
                self.tell_refusal(py, now_us, edge.refusal(scope));
            }
            let (edge_id, lane, domain) = edge.names();
            self.inner.edge_decided(now_us, edge_id, lane, domain, &notice);
            told.push(fields(py, &notice, edge_id, lane, domain)?);
        }
        Ok(told)
    }

    /// Record what the lanes of a router decided since the last call, control's first.
    fn lane_decisions<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        router: &mut LaneRouter,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let mut told = Vec::new();
        while let Some((lane, notice)) = router.take_notice() {
            if let What::Shed(scope) = notice.what {
                self.tell_refusal(py, now_us, router.refusal(lane, scope));
            }
            let (router_id, domain) = router.names();
            self.inner.edge_decided(now_us, router_id, lane, domain, &notice);
            told.push(fields(py, &notice, router_id, lane, domain)?);
        }
        Ok(told)
    }

    /// The recording goes on at a lower level: say so as the recorder.
    fn level_lowered(&mut self, now_us: u64, reason: &str) -> PyResult<()> {
        let known = Signal::RecordingLevelDowngraded.reasons();
        let codes: Vec<_> = known.iter().map(|reason| reason.code()).collect();
        let chosen = Reason::parse(reason).filter(|reason| known.contains(reason));
        self.inner.level_lowered(now_us, choice("reason", reason, chosen, &codes)?);
        Ok(())
    }

    /// Take over what survived of an earlier placement, before the first turn; false when refused.
    fn reattach(&mut self, now_us: u64, turns: u32, messages: u32) -> bool {
        self.inner.reattach(now_us, turns, messages)
    }

    /// Cancel something other than the running turn.
    fn cancel_within<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        scope: &str,
        target: u32,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let scope = choice("scope", scope, CancelScope::parse(scope), CancelScope::NAMES)?;
        self.step(py, now_us, Event::CancelWithin { scope, target })
    }

    /// The control plane's routing view was refreshed.
    fn routing_view<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        epoch: u64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::RoutingView { epoch })
    }

    /// Take one step of a migration of the session to the placement with this epoch.
    fn migration<'py>(
        &mut self,
        py: Python<'py>,
        now_us: u64,
        step: &str,
        epoch: u64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let step = choice("step", step, Step::parse(step), Step::NAMES)?;
        self.step(py, now_us, Event::Migration { step, epoch })
    }

    /// The runtime leaves: the running turn may end, and no further one opens.
    fn drain<'py>(&mut self, py: Python<'py>, now_us: u64) -> PyResult<Bound<'py, PyTuple>> {
        self.step(py, now_us, Event::Drain)
    }

    /// Let an event from outside come in; the reason for which it must not, empty when it may.
    #[pyo3(signature = (now_us, event_id, size, carrier_epoch = None))]
    fn arrive(&mut self, now_us: u64, event_id: &str, size: u64, carrier_epoch: Option<i64>) -> &'static str {
        let event = rspp_kernel::event::fingerprint(event_id);
        self.inner.arrive(now_us, event, size, carrier_epoch).map_or("", Reason::code)
    }

    /// May an event from outside come in?
    fn ingress(&mut self, now_us: u64, carrier_epoch: Option<i64>) -> (&'static str, u64) {
        let (verdict, epoch) = self.inner.ingress(now_us, carrier_epoch);
        (verdict.name(), epoch)
    }

    /// Name the nodes of the graph, which are told what becomes of them.
    fn host(&mut self, nodes: Vec<Hosted>) -> PyResult<()> {
        let nodes = nodes.into_iter().map(hosted).collect::<PyResult<_>>()?;
        self.inner.host(nodes).map_err(|error| PyValueError::new_err(format!("{error}")))
    }

    /// What a node is given for a turn, or for the session with turn 0: id and seed of the turn.
    fn execution_context(&self, turn: u32) -> PyResult<(Option<String>, Option<u64>)> {
        let context = self.inner.execution_context(turn).map_err(|_| {
            PyValueError::new_err(format!("turn is {turn}: choose the open turn, or 0 for the session"))
        })?;
        Ok((context.turn.map(|turn| event::turn_id(self.inner.epoch(), turn)), context.seed))
    }

    /// What follows for an invocation whose budget was found used up only as an attempt at it ended.
    fn exhausted(&self, invocation: u32) -> &'static str {
        self.inner.exhausted(invocation).map_or("", Action::name)
    }

    /// Begin a provider invocation; the first attempt, or the reason why there is none.
    fn invoke(&mut self, py: Python<'_>, now_us: u64, turn: u32, modality: &str) -> PyResult<Py<PyAny>> {
        let modality = choice("modality", modality, Modality::parse(modality), Modality::NAMES)?;
        self.tell(py, now_us, Point::NodeDispatch);
        let answer = self.inner.invoke(now_us, turn, modality);
        self.settle(py, now_us);
        Ok(match answer {
            Ok(attempt) => Py::new(py, Attempt::from(attempt))?.into_any(),
            Err(reason) => reason.code().into_pyobject(py)?.into_any().unbind(),
        })
    }

    /// Output of a running attempt is about to be handed on; false when it must be dropped.
    fn output_handed_on(&mut self, now_us: u64, invocation: u32) -> bool {
        self.inner.output_handed_on(now_us, invocation)
    }

    /// An attempt ended; the next one, if the plan allows one.
    #[pyo3(signature = (now_us, invocation, outcome, *, reason = "", retryable = false, backoff_ms = None, idle_us = 0))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    fn attempt_finished(
        &mut self,
        py: Python<'_>,
        now_us: u64,
        invocation: u32,
        outcome: &str,
        reason: &str,
        retryable: bool,
        backoff_ms: Option<u64>,
        idle_us: u64,
    ) -> PyResult<Option<Attempt>> {
        let class = choice("outcome", outcome, ProviderOutcome::parse(outcome), ProviderOutcome::NAMES)?;
        let ending = Ending::new(class, Reason::parse(reason), retryable, backoff_ms);
        let next = self.inner.attempt_finished(now_us, invocation, ending, idle_us).map(Attempt::from);
        self.settle(py, now_us);
        Ok(next)
    }

    /// Whether this invocation ended so that its node goes on in a lesser form.
    fn degraded(&self, invocation: u32) -> bool {
        self.inner.degraded(invocation)
    }

    /// Events refused at ingress because of another epoch.
    #[getter]
    fn stale_events(&self) -> u64 {
        self.inner.stale_events()
    }

    /// Frames refused at the gate because of another epoch.
    #[getter]
    fn stale_frames(&self) -> u64 {
        self.inner.stale_frames()
    }

    /// The latest time that an input came with.
    #[getter]
    fn now_us(&self) -> u64 {
        self.inner.now_us()
    }

    /// When ``tick`` is due, if no other input comes first.
    #[getter]
    fn next_deadline_us(&self) -> Option<u64> {
        self.inner.next_deadline_us()
    }

    /// Number of the open turn, 0 when none is.
    #[getter]
    fn turn(&self) -> u32 {
        self.inner.turn()
    }

    /// State of the turn machine: ``Idle``, ``Opening``, ``Active``, ``Terminal`` or ``Closed``.
    #[getter]
    fn turn_state(&self) -> &'static str {
        self.inner.turn_state().name()
    }

    /// Epoch of the lease held, 0 before the first.
    #[getter]
    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    /// Whether the voice is held.
    #[getter]
    fn held(&self) -> bool {
        self.inner.held()
    }

    /// Whether authority or the call is gone for good.
    #[getter]
    fn drained(&self) -> bool {
        self.inner.drained()
    }

    /// Number of calls into this kernel, for the test of law 8.
    #[getter]
    fn crossings(&self) -> u64 {
        self.inner.crossings()
    }

    /// Detail records shed because Stage A was full.
    #[getter]
    fn evidence_dropped(&self) -> u64 {
        self.inner.evidence_dropped()
    }

    /// Take up to ``limit`` records out of Stage A as one block, empty when there are none.
    fn drain_records<'py>(&mut self, py: Python<'py>, limit: usize) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.drain_records(limit))
    }

    /// Take up to ``limit`` records out of Stage A, each one JSON object in UTF-8, oldest first.
    fn drain_evidence<'py>(&mut self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let mut failed = Ok(());
        self.inner.drain_evidence(limit, |line| {
            if let Err(error) = list.append(PyBytes::new(py, line.as_bytes())) {
                failed = Err(error);
            }
        });
        failed.map(|()| list)
    }
}

/// One attempt that the shell must make.
#[pyclass(frozen, eq, get_all, module = "rspp._kernel")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // fixed by the stub
pub(crate) struct Attempt {
    invocation: u32,
    candidate: u8,
    attempt: u8,
    wait_us: u64,
    limit_us: Option<u64>,
}

impl From<invocation::Attempt> for Attempt {
    fn from(attempt: invocation::Attempt) -> Self {
        let invocation::Attempt { invocation, candidate, attempt, wait_us, limit_us } = attempt;
        Self { invocation, candidate, attempt, wait_us, limit_us }
    }
}

/// Return the normalised outcome of a final HTTP status as
/// ``(outcome, reason, retryable, opens_circuit, backoff_ms)``.
#[pyfunction]
#[pyo3(signature = (status, retry_after_s = None))]
fn http_outcome(status: u16, retry_after_s: Option<u64>) -> (&'static str, &'static str, bool, bool, u64) {
    let ending = Ending::of_http(status, retry_after_s);
    let reason = ending.reason.map_or("", Reason::code);
    (ending.class.name(), reason, ending.retryable, ending.opens_circuit, ending.backoff_ms)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for (name, verdict) in VERDICTS {
        module.add(name, verdict as u8)?;
    }
    let behaviours = PyDict::new(module.py());
    for behaviour in Behaviour::ALL {
        behaviours.set_item(behaviour.number(), behaviour.name())?;
    }
    module.add("BEHAVIOURS", behaviours)?;
    module.add_function(wrap_pyfunction!(http_outcome, module)?)?;
    module.add_class::<Attempt>()?;
    module.add_class::<SessionKernel>()
}
