"""Writes an artifact that lets the turns of given pipelines open, to start from."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from rspp.controlplane.artifact import EVENT_SCHEMA, SCHEMA_VERSION
from rspp.pipeline.normalise import adaptive_actions, pipeline_version, plan_template

if TYPE_CHECKING:
    from rspp.pipeline.spec import PipelineSpec


def artifact_template(
    spec: PipelineSpec, *, issued: datetime.datetime, valid: datetime.timedelta, version: int = 1
) -> dict[str, Any]:
    """Return an artifact under which every turn of ``spec`` opens.

    Args:
        spec: the pipeline.
        issued: when it is made.
        valid: how long it holds.
        version: its number.
    """
    name = pipeline_version(spec)
    plan = plan_template(spec)
    schema = f"v{EVENT_SCHEMA[0]}.{EVENT_SCHEMA[1]}"
    return {
        "schema_version": SCHEMA_VERSION,
        "snapshot_version": version,
        "issued_at_utc": _utc(issued),
        "expires_at_utc": _utc(issued + valid),
        "compatibility": {"schema_min": schema, "schema_max": schema},
        "registry": {
            "default_pipeline_version": name,
            "records": {
                name: {
                    "pipeline_version": name,
                    "graph_definition_ref": plan["graph_definition_ref"],
                    "execution_profile": plan["execution_profile"],
                }
            },
        },
        "rollout": {
            "default_pipeline_version": name,
            "version_resolution_snapshot": f"version-resolution/{version}",
            "by_requested_version": {name: name},
        },
        "routing_view": {
            "default": {
                "routing_view_snapshot": f"routing-view/{version}",
                "admission_policy_snapshot": f"admission-policy/{version}",
                "abi_compatibility_snapshot": f"abi-compat/{version}",
            }
        },
        "policy": {
            "default": {
                "policy_resolution_snapshot": f"policy-resolution/{version}",
                "allowed_adaptive_actions": adaptive_actions(spec),
            }
        },
        "provider_health": {"default": {"provider_health_snapshot": f"provider-health/{version}"}},
        "graph_compiler": {
            "by_pipeline": {
                name: {
                    "graph_definition_ref": plan["graph_definition_ref"],
                    "graph_compilation_snapshot": f"graph-compiler/{version}",
                    "graph_fingerprint": plan["graph_definition_ref"],
                }
            }
        },
        "admission": {
            "default": {
                "admission_policy_snapshot": f"admission-policy/{version}",
                "outcome_kind": "admit",
                "scope": "session",
                "reason": "",
            }
        },
        "lease": {
            "default": {
                "lease_resolution_snapshot": f"lease-resolution/{version}",
                "authority_epoch": 0,
                "authority_epoch_valid": True,
                "authority_authorized": True,
                "reason": "",
            }
        },
    }


def _utc(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
