//! Thresholds and the plan template.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rspp_kernel::input::Modality;
use rspp_kernel::invocation::policy::{
    AdaptiveAction, InvocationPolicy, NodeLimits, MAX_ATTEMPTS, MAX_CANDIDATES,
};
use rspp_kernel::plan;
use rspp_kernel::policy;

/// Frozen thresholds of turn taking for one session; all durations in ms.
#[pyclass(frozen, module = "rspp._kernel")]
pub(crate) struct TurnPolicy {
    pub(crate) inner: policy::TurnPolicy,
}

#[pymethods]
impl TurnPolicy {
    #[new]
    #[pyo3(signature = (
        *, speech_permille = 500, silence_permille = 350, interruptions = true, confirm_ms = 700,
        confirm_words = 3, release_ms = 150, short_burst_ms = 250, short_release_ms = 100,
        probe_ms = 90, complete_wait_ms = 160, incomplete_wait_ms = 1500, max_utterance_ms = 30000,
        first_output_budget_ms = 5000, stall_budget_ms = 3000, failure_notice = true,
        greeting = false, takeover_notice = false, overlap = "preempt", late_event = "drop",
        late_grace_ms = 0, needs_bundle = false, snapshot_failure = "defer", plan_failure = "defer"
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // fixed by the stub
    fn new(
        speech_permille: i64,
        silence_permille: i64,
        interruptions: bool,
        confirm_ms: i64,
        confirm_words: i64,
        release_ms: i64,
        short_burst_ms: i64,
        short_release_ms: i64,
        probe_ms: i64,
        complete_wait_ms: i64,
        incomplete_wait_ms: i64,
        max_utterance_ms: i64,
        first_output_budget_ms: i64,
        stall_budget_ms: i64,
        failure_notice: bool,
        greeting: bool,
        takeover_notice: bool,
        overlap: &str,
        late_event: &str,
        late_grace_ms: i64,
        needs_bundle: bool,
        snapshot_failure: &str,
        plan_failure: &str,
    ) -> PyResult<Self> {
        let inner = policy::TurnPolicy {
            speech_permille: count("speech_permille", speech_permille)?,
            silence_permille: count("silence_permille", silence_permille)?,
            interruptions,
            confirm_ms: count("confirm_ms", confirm_ms)?,
            confirm_words: count("confirm_words", confirm_words)?,
            release_ms: count("release_ms", release_ms)?,
            short_burst_ms: count("short_burst_ms", short_burst_ms)?,
            short_release_ms: count("short_release_ms", short_release_ms)?,
            probe_ms: count("probe_ms", probe_ms)?,
            complete_wait_ms: count("complete_wait_ms", complete_wait_ms)?,
            incomplete_wait_ms: count("incomplete_wait_ms", incomplete_wait_ms)?,
            max_utterance_ms: count("max_utterance_ms", max_utterance_ms)?,
            first_output_budget_ms: count("first_output_budget_ms", first_output_budget_ms)?,
            stall_budget_ms: count("stall_budget_ms", stall_budget_ms)?,
            failure_notice,
            greeting,
            takeover_notice,
            overlap: choice("overlap", overlap, policy::Overlap::parse(overlap), policy::Overlap::NAMES)?,
            late_event: choice(
                "late_event",
                late_event,
                policy::LateAction::parse(late_event),
                policy::LateAction::NAMES,
            )?,
            late_grace_ms: count("late_grace_ms", late_grace_ms)?,
            needs_bundle,
            snapshot_failure: when_refused("snapshot_failure", snapshot_failure)?,
            plan_failure: when_refused("plan_failure", plan_failure)?,
        };
        inner.validate().map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { inner })
    }
}

fn when_refused(field: &str, value: &str) -> PyResult<policy::WhenRefused> {
    choice(field, value, policy::WhenRefused::parse(value), policy::WhenRefused::NAMES)
}

/// What every turn plan of the session shares; the kernel adds turn id, epoch, hash and seed.
#[pyclass(frozen, module = "rspp._kernel")]
pub(crate) struct PlanTemplate {
    pub(crate) inner: plan::PlanTemplate,
}

#[pymethods]
impl PlanTemplate {
    #[new]
    #[pyo3(signature = (*, pipeline_version, graph_definition_ref, execution_profile, policy_json))]
    fn new(
        pipeline_version: &str,
        graph_definition_ref: &str,
        execution_profile: &str,
        policy_json: &str,
    ) -> PyResult<Self> {
        let inner =
            plan::PlanTemplate::new(pipeline_version, graph_definition_ref, execution_profile, policy_json)
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { inner })
    }
}

/// The providers of a session, the preferred one of each modality first, and what may follow a failure.
#[pyclass(frozen, module = "rspp._kernel")]
pub(crate) struct ProviderPolicy {
    pub(crate) inner: InvocationPolicy,
    pub(crate) candidates: Vec<(Modality, String)>,
    pub(crate) lesser: Vec<(Modality, String)>,
}

#[pymethods]
impl ProviderPolicy {
    #[new]
    #[pyo3(signature = (
        *, candidates, adaptive_actions = None, max_attempts = 2, max_candidates = 5, attempt_ms = 1500,
        warn_ms = 0, lesser = None, node_budgets = None
    ))]
    #[allow(clippy::too_many_arguments)] // fixed by the stub
    fn new(
        candidates: Vec<(String, String)>,
        adaptive_actions: Option<Vec<String>>,
        max_attempts: i64,
        max_candidates: i64,
        attempt_ms: i64,
        warn_ms: i64,
        lesser: Option<Vec<(String, String)>>,
        node_budgets: Option<Vec<(String, i64, i64)>>,
    ) -> PyResult<Self> {
        let limits = limits(attempt_ms, warn_ms)?;
        let mut inner = InvocationPolicy {
            max_attempts: within("max_attempts", max_attempts, i64::from(MAX_ATTEMPTS))?,
            max_candidates: within("max_candidates", max_candidates, i64::from(MAX_CANDIDATES))?,
            attempt_ms: limits.attempt_ms,
            warn_ms: limits.warn_ms,
            ..InvocationPolicy::default()
        };
        if let Some(actions) = adaptive_actions {
            let parse = |name: &String| {
                choice("adaptive_actions", name, AdaptiveAction::parse(name), AdaptiveAction::NAMES)
            };
            inner = inner.allowing(&actions.iter().map(parse).collect::<PyResult<Vec<_>>>()?);
        }
        for (modality, warn_ms, exhaust_ms) in node_budgets.unwrap_or_default() {
            let node = choice("modality", &modality, Modality::parse(&modality), Modality::NAMES)?;
            inner.nodes[node as usize] = Some(self::limits(exhaust_ms, warn_ms)?);
        }
        let (candidates, lesser) =
            (named("candidates", candidates)?, named("lesser", lesser.unwrap_or_default())?);
        Ok(Self { inner, candidates, lesser })
    }
}

fn limits(attempt_ms: i64, warn_ms: i64) -> PyResult<NodeLimits> {
    if warn_ms > attempt_ms {
        return Err(PyValueError::new_err(format!(
            "warn_ms is {warn_ms}: choose at most attempt_ms, which is {attempt_ms}"
        )));
    }
    let attempt_ms = u64::from(within::<u32>("attempt_ms", attempt_ms, 600_000)?);
    Ok(NodeLimits { attempt_ms, warn_ms: count("warn_ms", warn_ms)? })
}

fn named(field: &str, pairs: Vec<(String, String)>) -> PyResult<Vec<(Modality, String)>> {
    let check = |(modality, name): (String, String)| {
        let kind = choice("modality", &modality, Modality::parse(&modality), Modality::NAMES)?;
        if name.is_empty() {
            return Err(PyValueError::new_err(format!("{field} holds an empty name: name each provider")));
        }
        Ok((kind, name))
    };
    pairs.into_iter().map(check).collect()
}

fn within<T: TryFrom<i64>>(field: &str, value: i64, most: i64) -> PyResult<T> {
    let known = T::try_from(value).ok().filter(|_| (1..=most).contains(&value));
    known.ok_or_else(|| PyValueError::new_err(format!("{field} is {value}: choose a value from 1 to {most}")))
}

/// One of the names of a vocabulary, as a `ValueError` that names the field and its choices.
pub(crate) fn choice<T>(field: &str, value: &str, found: Option<T>, choices: &[&str]) -> PyResult<T> {
    found.ok_or_else(|| {
        PyValueError::new_err(format!("{field} is {value:?}: choose one of {}", choices.join(", ")))
    })
}

/// A number that may not be negative, as a `ValueError` that names field, value and remedy.
pub(crate) fn count(field: &str, value: i64) -> PyResult<u64> {
    u64::try_from(value).map_err(|_| {
        PyValueError::new_err(format!("{field} is {value}: choose a value that is not negative"))
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TurnPolicy>()?;
    module.add_class::<PlanTemplate>()?;
    module.add_class::<ProviderPolicy>()
}
