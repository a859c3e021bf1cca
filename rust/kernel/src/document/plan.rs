//! The frozen plan of a turn as a document (sections 5 and 7).

use super::read::{join, Node};
use super::shape::{holds, optional, required, Shape};
use super::{Checked, Fault, Rule};
use crate::names::named_enum;

named_enum! {
    /// What an edge does when it is full.
    pub enum Strategy {
        Block => "block", Drop => "drop", Merge => "merge", Sample => "sample", LatestOnly => "latest_only",
    }
}

/// How the `ControlLane` is handled on every edge.
pub(crate) const CONTROL_HANDLING: &str = "non_blocking_priority";
/// How the `ControlLane` is shed: never.
pub(crate) const CONTROL_SHEDDING: &str = "none";

const MODE: Shape = Shape::Word(&["signal", "credit", "hybrid"]);
const WATERMARK: Shape =
    Shape::Record(&[required("high", Shape::Integer(1)), required("low", Shape::Integer(0))]);

const BUDGETS: Shape = Shape::Record(&[
    required("turn_budget_ms", Shape::Integer(1)),
    required("node_budget_ms_default", Shape::Integer(1)),
    required("path_budget_ms_default", Shape::Integer(1)),
    required("edge_budget_ms_default", Shape::Integer(1)),
]);

const SYNC_DROP: Shape = Shape::Record(&[
    required("policy", Shape::Word(&["atomic_drop", "drop_with_discontinuity", "no_sync"])),
    required("scope", Shape::Word(&["edge_local", "plan_wide"])),
    optional("group_by", Shape::Word(&["sync_id", "event_id", "custom"])),
    optional("sync_domain", Shape::Text),
]);

const EDGE: Shape = Shape::Record(&[
    required("strategy", Shape::Word(Strategy::NAMES)),
    required("max_queue_items", Shape::Integer(1)),
    required("max_queue_ms", Shape::Integer(1)),
    required("max_queue_bytes", Shape::Integer(1)),
    required("max_latency_contribution_ms", Shape::Integer(1)),
    optional("max_block_time_ms", Shape::Integer(1)),
    required(
        "watermarks",
        Shape::Record(&[optional("queue_items", WATERMARK), optional("queue_ms", WATERMARK)]),
    ),
    required(
        "lane_handling",
        Shape::Record(&[
            required("DataLane", Shape::Word(Strategy::NAMES)),
            required("ControlLane", Shape::Text),
            required("TelemetryLane", Shape::Word(&["drop", "sample", "best_effort_drop"])),
        ]),
    ),
    optional("fairness_key", Shape::Text),
    required("defaulting_source", Shape::Word(&["explicit_edge_config", "execution_profile_default"])),
    optional("sync_drop_policy", SYNC_DROP),
]);

const FLOW: Shape = Shape::Record(&[
    required(
        "mode_by_lane",
        Shape::Record(&[
            required("DataLane", MODE),
            required("ControlLane", MODE),
            required("TelemetryLane", MODE),
        ]),
    ),
    required(
        "watermarks",
        Shape::Record(&[
            required("DataLane", WATERMARK),
            required("ControlLane", WATERMARK),
            required("TelemetryLane", WATERMARK),
        ]),
    ),
    required(
        "shedding_strategy_by_lane",
        Shape::Record(&[
            required("DataLane", Shape::Word(&["drop", "merge", "latest_only", "degrade", "fallback"])),
            required("ControlLane", Shape::Text),
            required("TelemetryLane", Shape::Word(&["drop", "sample"])),
        ]),
    ),
]);

const PROVENANCE: Shape = Shape::Record(&[
    required("routing_view_snapshot", Shape::Text),
    required("admission_policy_snapshot", Shape::Text),
    required("abi_compatibility_snapshot", Shape::Text),
    required("version_resolution_snapshot", Shape::Text),
    required("policy_resolution_snapshot", Shape::Text),
    required("provider_health_snapshot", Shape::Text),
]);

const RECORDING: Shape = Shape::Record(&[
    required("recording_level", Shape::Word(&["L0", "L1", "L2"])),
    required(
        "allowed_replay_modes",
        Shape::Set(
            &Shape::Word(&[
                "re_simulate_nodes",
                "playback_recorded_provider_outputs",
                "replay_decisions",
                "recompute_decisions",
            ]),
            1,
            None,
        ),
    ),
]);

const DETERMINISM: Shape = Shape::Record(&[
    required("seed", Shape::Integer(0)),
    required("ordering_markers", Shape::Set(&Shape::Text, 1, None)),
    optional("ordering_marker", Shape::Text),
    required("merge_rule_id", Shape::Text),
    optional("merge_rule_version", Shape::Version),
    required(
        "nondeterministic_inputs",
        Shape::List(&Shape::Record(&[
            required("input_key", Shape::Text),
            required(
                "source",
                Shape::Word(&["external_call", "system_time", "random", "operator_override", "other"]),
            ),
            required("evidence_ref", Shape::Text),
        ])),
    ),
]);

pub(crate) const PLAN: Shape = Shape::Record(&[
    required("turn_id", Shape::Text),
    required("pipeline_version", Shape::Text),
    required("plan_hash", Shape::Hash),
    required("graph_definition_ref", Shape::Text),
    required("execution_profile", Shape::Text),
    required("authority_epoch", Shape::Integer(0)),
    required("budgets", BUDGETS),
    required("provider_bindings", Shape::Map(&Shape::Text, 1)),
    required("edge_buffer_policies", Shape::Map(&EDGE, 1)),
    required("flow_control", FLOW),
    required(
        "allowed_adaptive_actions",
        Shape::Set(&Shape::Word(&["retry", "provider_switch", "degrade", "fallback"]), 0, None),
    ),
    required("snapshot_provenance", PROVENANCE),
    required("recording_policy", RECORDING),
    required("determinism", DETERMINISM),
]);

pub(crate) fn check(node: &Node, path: &str) -> Checked {
    PLAN.check(node, path)?;
    if let Some(Node::Object(edges)) = node.get("edge_buffer_policies") {
        let base = join(path, "edge_buffer_policies");
        edges.iter().try_for_each(|(name, edge)| check_edge(edge, &join(&base, name)))?;
    }
    node.get("flow_control").map_or(Ok(()), |flow| check_flow(flow, &join(path, "flow_control")))
}

fn check_edge(edge: &Node, path: &str) -> Checked {
    let lanes = edge.get("lane_handling");
    let lane = |name: &str| lanes.and_then(|lanes| lanes.text(name));
    let field = format!("{path}.lane_handling.ControlLane");
    let priority = lane("ControlLane") == Some(CONTROL_HANDLING);
    holds(priority, Rule::PlanControlHandling, &field, "must be non_blocking_priority")?;
    let block = Some(Strategy::Block.name());
    let blocks = edge.text("strategy") == block || lane("DataLane") == block;
    let timed = edge.get("max_block_time_ms").is_some();
    let field = join(path, "max_block_time_ms");
    holds(!blocks || timed, Rule::PlanBlockTime, &field, "an edge that blocks says for how long")?;
    if let Some(Node::Object(marks)) = edge.get("watermarks") {
        let field = join(path, "watermarks");
        holds(!marks.is_empty(), Rule::PlanWatermarks, &field, "at least one of queue_items and queue_ms")?;
        check_marks(marks, &field)?;
    }
    edge.get("sync_drop_policy").map_or(Ok(()), |policy| check_sync(policy, &join(path, "sync_drop_policy")))
}

fn check_sync(policy: &Node, path: &str) -> Checked {
    let need = |field: &str, rule: Rule, message: &str| {
        holds(policy.get(field).is_some(), rule, &join(path, field), message)
    };
    match policy.text("policy") {
        Some("atomic_drop") => need("group_by", Rule::PlanGroupBy, "needed to drop whole groups"),
        Some("drop_with_discontinuity") => {
            need("group_by", Rule::PlanGroupBy, "needed to mark a discontinuity")?;
            need("sync_domain", Rule::PlanSyncDomain, "needed to mark a discontinuity")
        }
        _ => Ok(()),
    }
}

fn check_flow(flow: &Node, path: &str) -> Checked {
    if let Some(Node::Object(marks)) = flow.get("watermarks") {
        check_marks(marks, &join(path, "watermarks"))?;
    }
    let never = flow.get("shedding_strategy_by_lane").and_then(|lanes| lanes.text("ControlLane"));
    let field = format!("{path}.shedding_strategy_by_lane.ControlLane");
    holds(never == Some(CONTROL_SHEDDING), Rule::PlanControlShedding, &field, "must be none")
}

fn check_marks(marks: &[(String, Node)], path: &str) -> Checked {
    let reversed = marks.iter().find(|(_, mark)| mark.integer("low") >= mark.integer("high"));
    reversed.map_or(Ok(()), |(name, _)| {
        Err(Fault::new(Rule::PlanWatermarkOrder, join(path, name), "low must lie below high"))
    })
}
