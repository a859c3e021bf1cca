"""Several candidates for one part of a pipeline: the first serves, the others take over when it fails.

In a file, ``llm`` and ``tts`` are one provider or a list of them. The types keep the first one where a
single one stands, and the rest under ``alternatives``, so that everything that asks for the provider of a
part finds the preferred one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.pipeline.normalise import plan_policy, provider_bindings

if TYPE_CHECKING:
    from rspp.pipeline.spec import PipelineSpec


def provider_policy(spec: PipelineSpec, responders: int, synthesizers: int) -> dict[str, Any]:
    """Return the keyword arguments of ``rspp._kernel.ProviderPolicy``.

    Args:
        spec: the pipeline.
        responders: how many candidates are open for replies.
        synthesizers: how many candidates are open for speech.
    """
    plan = plan_policy(spec)
    counts = {"llm": responders, "tts": synthesizers}
    return {
        "candidates": [
            (modality, name) for modality, count in counts.items() for name in _names(spec, modality, count)
        ],
        "adaptive_actions": plan["allowed_adaptive_actions"],
        "attempt_ms": plan["budgets"]["node_budget_ms_default"],
    }


def _names(spec: PipelineSpec, modality: str, count: int) -> list[str]:
    bindings = provider_bindings(spec)
    keys = [modality, *(f"{modality}.{index}" for index in range(1, count))]
    return [bindings.get(key, key) for key in keys]
