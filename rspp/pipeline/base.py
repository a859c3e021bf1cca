"""What every section of a pipeline file is made of."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

Milliseconds: TypeAlias = Annotated[int, Meta(ge=1, le=600_000)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Identifier: TypeAlias = Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,62}$")]
"""Names that become part of other names: profiles, nodes."""

Strategy: TypeAlias = Literal["block", "drop", "merge", "sample", "latest_only"]
FlowMode: TypeAlias = Literal["signal", "credit", "hybrid"]
AdaptiveAction: TypeAlias = Literal["retry", "provider_switch", "degrade", "fallback"]
ADAPTIVE_ACTIONS: tuple[AdaptiveAction, ...] = ("retry", "provider_switch", "degrade", "fallback")

DATA, CONTROL, TELEMETRY = "DataLane", "ControlLane", "TelemetryLane"
LANES = {"data": DATA, "control": CONTROL, "telemetry": TELEMETRY}


class Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every section: immutable, no unknown keys."""
