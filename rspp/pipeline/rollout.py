"""How a pipeline version is released: the rollout configuration (section 12.5 of the contracts)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.base import Name, Strict
from rspp.pipeline.document import compose
from rspp.pipeline.loader import PipelineError, describe, typed_document

Strategy: TypeAlias = Literal["immediate", "phased", "canary"]
RollbackMode: TypeAlias = Literal["automatic", "manual"]

_LEAST = (
    "a rollout needs `pipeline_version:`, `strategy:` and `rollback_posture:` with `mode:` and `trigger:`"
)


class RollbackPosture(Strict, frozen=True, kw_only=True):
    """When and by whom a release is taken back.

    Attributes:
        mode: by the system itself, or by a person.
        trigger: what must be seen for it, in words.
    """

    mode: RollbackMode
    trigger: Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S")]


class RolloutConfig(Strict, frozen=True, kw_only=True):
    """How one pipeline version reaches its callers.

    Attributes:
        pipeline_version: what is released, as `name@version`.
        strategy: for all calls at once, in steps, or for a small part first.
        rollback_posture: when and by whom it is taken back.
    """

    pipeline_version: Name
    strategy: Strategy
    rollback_posture: RollbackPosture


def parse_rollout(text: str, source: str) -> RolloutConfig:
    """Check the text of a rollout configuration.

    Args:
        text: YAML or JSON.
        source: name of the file, for messages.

    Raises:
        ConfigurationError: invalid; the message lists every fault with line, field and value.
    """
    try:
        config, _ = typed_document(compose(text, source, _LEAST), source, RolloutConfig)
    except PipelineError as error:
        told = "; ".join(describe(source, fault) for fault in error.faults)
        remedies = dict.fromkeys(fault.hint for fault in error.faults)
        raise ConfigurationError(told, hint="; ".join(remedies)) from error
    return config
