//! What the control plane says about the next turns, as Python words it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyMapping;
use rspp_kernel::bundle::{Actions, Failure, Provenance, TurnStart, REFERENCES};
use rspp_kernel::decision::{Outcome, Scope};
use rspp_kernel::invocation::policy::AdaptiveAction;

use crate::policy::{choice, count};

const OUTCOMES: [&str; 3] = ["admit", "reject", "defer"];
const SCOPES: [&str; 2] = ["tenant", "session"];

/// The arguments of ``SessionKernel.turn_start``.
pub(crate) struct Said<'a> {
    pub(crate) version: i64,
    pub(crate) usable_until_us: i64,
    pub(crate) failure: &'a str,
    pub(crate) adaptive_actions: Vec<String>,
    pub(crate) admission: &'a str,
    pub(crate) admission_scope: &'a str,
    pub(crate) admission_reason: &'a str,
    pub(crate) authority_epoch: i64,
    pub(crate) authority_valid: bool,
    pub(crate) authority_authorized: bool,
    pub(crate) claim_us: i64,
}

impl<'a> Said<'a> {
    /// The same as the kernel takes it.
    pub(crate) fn checked(&self) -> PyResult<TurnStart<&'a str>> {
        let action = |name: &String| {
            choice("adaptive_actions", name, AdaptiveAction::parse(name), AdaptiveAction::NAMES)
        };
        let actions = self.adaptive_actions.iter().map(action).collect::<PyResult<Vec<_>>>()?;
        let failure = match self.failure {
            "" => None,
            named => Some(choice("failure", named, Failure::parse(named), Failure::NAMES)?),
        };
        Ok(TurnStart {
            version: count("version", self.version)?,
            usable_until_us: count("usable_until_us", self.usable_until_us)?,
            authority_epoch: count("authority_epoch", self.authority_epoch)?,
            claim_us: count("claim_us", self.claim_us)?,
            provenance: None,
            admission_reason: self.admission_reason,
            failure,
            admission: one_of("admission", self.admission, Outcome::parse(self.admission), &OUTCOMES)?,
            admission_scope: one_of(
                "admission_scope",
                self.admission_scope,
                Scope::parse(self.admission_scope),
                &SCOPES,
            )?,
            authority_valid: self.authority_valid,
            authority_authorized: self.authority_authorized,
            actions: Actions::of(&actions),
        })
    }
}

/// One of those names of a vocabulary that have a meaning here.
fn one_of<T>(field: &str, value: &str, found: Option<T>, choices: &[&str]) -> PyResult<T> {
    choice(field, value, found.filter(|_| choices.contains(&value)), choices)
}

/// The references of a provenance; none for an empty one, which goes with a failure only.
pub(crate) fn provenance(given: &Bound<'_, PyMapping>, failed: bool) -> PyResult<Option<Provenance>> {
    if failed && given.is_empty()? {
        return Ok(None);
    }
    let mut references: [String; 6] = Default::default();
    for pair in given.items()?.iter() {
        let (name, reference): (String, String) = pair.extract()?;
        let place = REFERENCES.iter().position(|known| *known == name);
        references[choice("provenance", &name, place, &REFERENCES)?] = reference;
    }
    let made = Provenance::new(references.each_ref().map(String::as_str));
    made.map(Some).map_err(|error| PyValueError::new_err(format!("provenance: {error}")))
}
