"""The policy of a stint's plans, as what the control plane said changes it from turn to turn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

INPUT = "turn_start"


class BoundPlan:
    """Follows a stint's records, as its kernel did.

    Args:
        header: of the stint.
    """

    def __init__(self, header: Mapping[str, Any]) -> None:
        self.template: dict[str, Any] = header.get("settings", {}).get("plan", {})
        self.policy: dict[str, Any] = json.loads(self.template["policy_json"]) if self.template else {}
        """What the next turn's plan holds besides its own; empty when the header has no plan."""
        self._profile: list[str] = self.policy.get("allowed_adaptive_actions", [])
        self._provenance: dict[str, str] = {}
        self._version = 0

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a ``turn_start`` input; a failure, or a bundle older than one before, binds nothing."""
        self._provenance = record["provenance"] or self._provenance
        if record["failure"] or record["version"] < self._version or not self.template:
            return
        self._version = record["version"]
        allowed = [action for action in self._profile if action in record["adaptive_actions"]]
        self.policy = {**self.policy, "allowed_adaptive_actions": allowed}
        if self._provenance:
            self.policy["snapshot_provenance"] = self._provenance

    @property
    def provenance(self) -> dict[str, str]:
        """The six references of the next turn's plan."""
        found: dict[str, str] = self.policy.get("snapshot_provenance", {})
        return found
