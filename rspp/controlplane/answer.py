"""What a kernel answers to a turn under a control plane, asked without holding a call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from rspp._kernel import PlanTemplate, SessionKernel, TurnPolicy
from rspp.pipeline.normalise import plan_template, turn_policy
from rspp.pipeline.quotas import FOREVER_US
from rspp.pipeline.turn_start import turn_start_policy

if TYPE_CHECKING:
    from rspp.contracts.turn_start import FailureOutcomes
    from rspp.controlplane.resolution import Bundle, Unresolved
    from rspp.pipeline.spec import PipelineSpec

OPEN = "open"


class TurnAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a turn that is proposed.

    Attributes:
        outcome: ``open``, or the outcome by which it is refused.
        reason: reason code of the refusal; empty when it opens.
        decided_by: module that refuses it; empty when it opens.
    """

    outcome: str
    reason: str = ""
    decided_by: str = ""


def turn_answer(spec: PipelineSpec, resolved: Bundle | Unresolved, failures: FailureOutcomes) -> TurnAnswer:
    """Propose a turn to a kernel that was told what ``resolved`` says.

    The kernel holds a valid lease, under the epoch that the control plane states, and has room.

    Args:
        spec: the pipeline.
        resolved: what the control plane says about it.
        failures: what becomes of turns without a usable snapshot or a bundle.
    """
    told = resolved.told(usable_until_us=FOREVER_US, claim_us=0)
    kernel = SessionKernel(
        session_id="proposed",
        policy=TurnPolicy(**(turn_policy(spec) | turn_start_policy(failures))),
        plan=PlanTemplate(**plan_template(spec)),
        now_us=0,
        wall_clock_ms=0,
    )
    kernel.lease(0, max(1, told.authority_epoch), FOREVER_US)
    kernel.turn_start(0, **msgspec.structs.asdict(told))
    kernel.text_message(0, 1)
    records = [json.loads(line) for line in kernel.drain_evidence(1 << 10)]
    decision = next(record["decision"] for record in records if record["kind"] == "decision")
    if decision["outcome_kind"] == "admit":
        return TurnAnswer(outcome=OPEN)
    return TurnAnswer(
        outcome=decision["outcome_kind"], reason=decision["reason"], decided_by=decision["emitted_by"]
    )
