"""What a session of a pipeline asks of the control plane, and what its kernel is told when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.contracts.turn_start import TurnStartRequest
from rspp.pipeline.normalise import plan_template, profile_of

if TYPE_CHECKING:
    from rspp.contracts.turn_start import FailureOutcomes
    from rspp.pipeline.spec import PipelineSpec


def turn_start_request(spec: PipelineSpec, tenant: str) -> TurnStartRequest:
    """Return for what a session of ``spec`` needs a bundle."""
    plan = plan_template(spec)
    return TurnStartRequest(
        pipeline_version=plan["pipeline_version"],
        execution_profile=plan["execution_profile"],
        graph_definition_ref=plan["graph_definition_ref"],
        tenant=tenant,
        claim_us=profile_of(spec).admission.claim_ms * 1000,
    )


def turn_start_policy(failures: FailureOutcomes | None) -> dict[str, Any]:
    """Return what ``TurnPolicy`` is told of a control plane; nothing without one."""
    if failures is None:
        return {}
    return {
        "needs_bundle": True,
        "snapshot_failure": failures.snapshot_failure,
        "plan_failure": failures.plan_failure,
    }
