//! The frozen plan of a turn and its hash.
//!
//! The canonical form is one JSON object with sorted keys and no blanks: every section of the policy
//! as given, and beside them `authority_epoch`, `execution_profile`, `graph_definition_ref`,
//! `pipeline_version` and `turn_id`. The hash covers all of it; hash and seed are derived from it and
//! therefore not part of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::bundle::{Actions, Provenance};
use crate::event;

/// Why a plan or its template cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.field, self.message)
    }
}

impl std::error::Error for PlanError {}

/// A SHA-256 digest of the canonical plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanHash(pub [u8; 32]);

impl PlanHash {
    /// Appends the 64 hexadecimal digits.
    pub fn hex_into(&self, out: &mut String) {
        out.extend(self.digits().map(char::from));
    }

    fn digits(&self) -> [u8; 64] {
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        digits
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut out = String::with_capacity(64);
        self.hex_into(&mut out);
        out
    }

    /// The seed of the turn: first 8 bytes, big endian, of SHA-256 of `<hash>|<turn id>`, sign bit masked.
    #[must_use]
    pub fn seed(&self, turn_id: &str) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(self.digits());
        hasher.update(b"|");
        hasher.update(turn_id);
        let digest = hasher.finalize();
        let mut first = [0_u8; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first) & (u64::MAX >> 1)
    }
}

/// A plan that cannot change within its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedTurnPlan {
    /// Hash of the canonical form.
    pub hash: PlanHash,
    /// Seed for everything in the turn that needs one.
    pub seed: u64,
}

const RESERVED: [&str; 7] = [
    "authority_epoch",
    "execution_profile",
    "graph_definition_ref",
    "pipeline_version",
    "plan_hash",
    "session_id",
    "turn_id",
];

/// What every turn plan of a session shares, rendered once.
#[derive(Clone, Debug)]
pub struct PlanTemplate {
    pipeline_version: String,
    /// Every member but those that differ from turn to turn, in canonical form.
    members: BTreeMap<String, String>,
    /// Adaptive actions that the profile allows, in its order.
    profile_actions: Vec<String>,
    before_epoch: String,
    between: String,
    after_turn: String,
    unusable: Option<PlanError>,
    /// An epoch with the hash of everything in front of the turn's id.
    ready: Option<(u64, Sha256)>,
}

const ACTIONS: &str = "allowed_adaptive_actions";
const PROVENANCE: &str = "snapshot_provenance";

impl PlanTemplate {
    /// Renders the shared parts.
    ///
    /// # Errors
    /// `policy_json` is not a JSON object, or it holds a key that the kernel itself writes. An empty
    /// name is no error here: each turn that would need it is refused with
    /// `plan_materialization_failed`, which keeps the refusal in the evidence.
    pub fn new(
        pipeline_version: &str,
        graph_definition_ref: &str,
        execution_profile: &str,
        policy_json: &str,
    ) -> Result<Self, PlanError> {
        let policy: BTreeMap<String, &RawValue> = serde_json::from_str(policy_json).map_err(|error| {
            PlanError { field: "policy_json", message: format!("must be a JSON object: {error}") }
        })?;
        if let Some(reserved) = RESERVED.iter().find(|key| policy.contains_key(**key)) {
            return Err(PlanError {
                field: "policy_json",
                message: format!("must not hold {reserved:?}, which the kernel writes itself"),
            });
        }
        let names = [
            ("pipeline_version", pipeline_version),
            ("graph_definition_ref", graph_definition_ref),
            ("execution_profile", execution_profile),
        ];
        let mut members: BTreeMap<String, String> =
            policy.iter().map(|(key, value)| (key.clone(), value.get().to_owned())).collect();
        let actions = members.get(ACTIONS).and_then(|actions| serde_json::from_str(actions).ok());
        for (key, text) in names {
            members.insert(key.to_owned(), serde_json::Value::from(text).to_string());
        }
        let unusable = names
            .into_iter()
            .find(|(_, text)| text.is_empty())
            .map(|(field, _)| PlanError { field, message: String::from("must not be empty") });
        let mut template = Self {
            pipeline_version: pipeline_version.to_owned(),
            members,
            profile_actions: actions.unwrap_or_default(),
            before_epoch: String::new(),
            between: String::new(),
            after_turn: String::new(),
            unusable,
            ready: None,
        };
        template.render();
        Ok(template)
    }

    /// Lets the plans of the next turns come from these snapshots, and allow of the profile's adaptive
    /// actions only those in the set.
    pub fn bind(&mut self, provenance: &Provenance, actions: Actions) {
        let named: Vec<&str> = actions.names().collect();
        let kept = self.profile_actions.iter().filter(|action| named.contains(&action.as_str()));
        let kept: serde_json::Value = kept.cloned().collect();
        self.members.insert(ACTIONS.to_owned(), kept.to_string());
        self.members.insert(PROVENANCE.to_owned(), provenance.canonical());
        self.render();
    }

    fn render(&mut self) {
        let mut members: BTreeMap<&str, Option<&str>> =
            self.members.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
        members.extend([("authority_epoch", None), ("turn_id", None)]);
        let mut parts = [String::from("{"), String::new(), String::new()];
        let mut place = 0;
        for (index, (key, value)) in members.iter().enumerate() {
            let part = &mut parts[place];
            if index > 0 {
                part.push(',');
            }
            part.push_str(&serde_json::Value::from(*key).to_string());
            part.push(':');
            match value {
                Some(value) => part.push_str(value),
                None => place += 1,
            }
        }
        parts[2].push('}');
        [self.before_epoch, self.between, self.after_turn] = parts;
        if let Some((epoch, _)) = self.ready {
            self.prepare(epoch);
        }
    }

    /// The concrete pipeline version.
    #[must_use]
    pub fn pipeline_version(&self) -> &str {
        &self.pipeline_version
    }

    /// The canonical form of the plan of one turn.
    #[must_use]
    pub fn canonical(&self, epoch: u64, turn_id: &str) -> String {
        let mut text = String::with_capacity(
            self.before_epoch.len() + self.between.len() + self.after_turn.len() + turn_id.len() + 24,
        );
        text.push_str(&self.before_epoch);
        let _ = write!(text, "{epoch}");
        text.push_str(&self.between);
        text.push_str(&serde_json::Value::from(turn_id).to_string());
        text.push_str(&self.after_turn);
        text
    }

    /// Hashes what all turns of an epoch share, so that opening one of them need not.
    pub fn prepare(&mut self, epoch: u64) {
        self.ready = Some((epoch, self.begun(epoch)));
    }

    fn begun(&self, epoch: u64) -> Sha256 {
        let mut hasher = Sha256::new();
        hasher.update(&self.before_epoch);
        hasher.update(epoch.to_string());
        hasher.update(&self.between);
        hasher
    }

    /// Freezes the plan of one turn.
    ///
    /// # Errors
    /// A required name of the template is empty.
    pub fn materialize(&self, epoch: u64, turn: u32) -> Result<ResolvedTurnPlan, PlanError> {
        if let Some(error) = &self.unusable {
            return Err(error.clone());
        }
        let turn_id = event::turn_id(epoch, turn);
        let mut hasher = match &self.ready {
            Some((ready, hasher)) if *ready == epoch => hasher.clone(),
            _ => self.begun(epoch),
        };
        // The id of a turn holds nothing that JSON escapes.
        hasher.update(b"\"");
        hasher.update(&turn_id);
        hasher.update(b"\"");
        hasher.update(&self.after_turn);
        let hash = PlanHash(hasher.finalize().into());
        Ok(ResolvedTurnPlan { hash, seed: hash.seed(&turn_id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::policy::AdaptiveAction;

    fn template(policy: &str) -> PlanTemplate {
        PlanTemplate::new("shop@v1", "graph/voice", "simple", policy).expect("a valid template")
    }

    #[test]
    fn the_canonical_form_is_sorted_and_closed() {
        let template = template(r#"{"budgets":{"turn_budget_ms":5000},"zeta":[1]}"#);
        assert_eq!(
            template.canonical(3, "turn-3-1"),
            concat!(
                r#"{"authority_epoch":3,"budgets":{"turn_budget_ms":5000},"execution_profile":"simple","#,
                r#""graph_definition_ref":"graph/voice","pipeline_version":"shop@v1","#,
                r#""turn_id":"turn-3-1","zeta":[1]}"#
            )
        );
        assert_eq!(self::template("{}").canonical(0, "t").matches(',').count(), 4);
    }

    #[test]
    fn ct_004_g_09_every_frozen_field_changes_the_hash() {
        let base = template("{\"a\":1}").materialize(1, 1).expect("a plan");
        let others = [
            template("{\"a\":2}").materialize(1, 1),
            template("{\"a\":1}").materialize(2, 1),
            template("{\"a\":1}").materialize(1, 2),
            PlanTemplate::new("shop@v2", "graph/voice", "simple", "{\"a\":1}")
                .expect("a template")
                .materialize(1, 1),
        ];
        for other in others {
            assert_ne!(other.expect("a plan").hash, base.hash);
        }
        assert_eq!(template("{\"a\":1}").materialize(1, 1), Ok(base));
        assert_eq!(base.hash.hex().len(), 64);
        assert!(base.seed <= u64::MAX >> 1);
    }

    #[test]
    fn g_09_the_hash_is_that_of_the_canonical_form_whatever_was_prepared() {
        let plain = template(r#"{"budgets":{"turn_budget_ms":5000},"zeta":[1]}"#);
        for ready in [0, 3, 4] {
            let mut prepared = plain.clone();
            prepared.prepare(ready);
            for (epoch, turn) in [(3, 1), (3, 70_000), (4, 1)] {
                let turn_id = event::turn_id(epoch, turn);
                let digest: [u8; 32] = Sha256::digest(plain.canonical(epoch, &turn_id)).into();
                let frozen = prepared.materialize(epoch, turn).expect("a plan");
                assert_eq!(frozen.hash, PlanHash(digest));
                let seed = Sha256::digest(format!("{}|{turn_id}", frozen.hash.hex()));
                assert_eq!(frozen.seed.to_be_bytes()[1..], seed[1..8]);
                assert!(frozen.hash.hex().chars().eq(digest
                    .iter()
                    .flat_map(|byte| { format!("{byte:02x}").chars().collect::<Vec<_>>() })));
            }
        }
    }

    #[test]
    fn ct_006_a_bundle_binds_the_plans_that_follow_and_takes_actions_away_only() {
        let policy = concat!(
            r#"{"allowed_adaptive_actions":["fallback","retry","degrade"],"#,
            r#""snapshot_provenance":{"routing_view_snapshot":"routing-view/unmanaged"},"zeta":1}"#
        );
        let mut bound = template(policy);
        bound.prepare(3);
        let before = bound.materialize(3, 1).expect("a plan");
        let provenance = Provenance::new(["a/1", "b/1", "c/1", "d/1", "e/1", "f/1"]).expect("references");
        let actions =
            Actions::of(&[AdaptiveAction::Retry, AdaptiveAction::ProviderSwitch, AdaptiveAction::Fallback]);
        bound.bind(&provenance, actions);
        let text = bound.canonical(3, "turn-3-1");
        let plan: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(plan["allowed_adaptive_actions"], serde_json::json!(["fallback", "retry"]));
        assert_eq!(plan["snapshot_provenance"]["version_resolution_snapshot"], "f/1");
        assert_eq!(
            (&plan["zeta"], &plan["turn_id"]),
            (&serde_json::json!(1), &serde_json::json!("turn-3-1"))
        );
        let after = bound.materialize(3, 1).expect("a plan");
        assert_ne!(after.hash, before.hash);
        let turn_id = event::turn_id(3, 1);
        assert_eq!(after.hash.0, <[u8; 32]>::from(Sha256::digest(bound.canonical(3, &turn_id))));
        bound.bind(&provenance, Actions::ALL);
        let text = bound.canonical(3, "turn-3-1");
        assert!(text.contains(r#""allowed_adaptive_actions":["fallback","retry","degrade"]"#), "{text}");
    }

    #[test]
    fn wrong_policies_are_refused_with_the_field() {
        for policy in ["", "[]", "1", "{", "{\"turn_id\":\"x\"}", "{\"plan_hash\":1}"] {
            let error = PlanTemplate::new("v", "g", "p", policy).expect_err("refused");
            assert_eq!(error.field, "policy_json");
        }
    }

    #[test]
    fn an_empty_name_fails_each_plan_and_not_the_template() {
        let template = PlanTemplate::new("v", "", "p", "{}").expect("a template");
        let error = template.materialize(1, 1).expect_err("no plan");
        assert_eq!(error.field, "graph_definition_ref");
    }
}
