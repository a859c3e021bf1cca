"""What a control plane told a recorded session, told again at the same moments of another run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from rspp.contracts.turn_start import FailureOutcome, TurnStart
from rspp.evidence.bound_plan import INPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rspp.contracts.turn_start import TurnStartRequest


class RecordedTurnStarts:
    """Tells a session of a virtual-time loop; see ``TurnStarts``.

    Args:
        header: of the recorded stint.
        told: its ``turn_start`` inputs in order.
    """

    def __init__(self, header: Mapping[str, Any], told: Iterable[Mapping[str, Any]]) -> None:
        policy = header["settings"]["policy"]
        self.snapshot_failure: FailureOutcome = policy["snapshot_failure"]
        self.plan_failure: FailureOutcome = policy["plan_failure"]
        self._created_us = int(header["created_us"])
        self._told: list[tuple[int, TurnStart]] = []
        provenance: dict[str, str] = {}
        for record in told:
            provenance = record["provenance"] or provenance
            # As long before its end as it was then: the other run has a time of its own.
            after_us = record["at_us"] - self._created_us
            fields = {name: record[name] for name in TurnStart.__struct_fields__}
            fields["provenance"] = {} if record["failure"] else provenance
            self._told.append((after_us, msgspec.convert(fields, TurnStart)))

    def follow(self, request: TurnStartRequest, listener: Callable[[TurnStart], None]) -> Callable[[], None]:
        """Tell ``listener`` what was told then, counted from now.

        Args:
            request: not asked again.
            listener: called on the event loop.

        Returns:
            What ends it.
        """
        loop = asyncio.get_running_loop()
        began_us = round(loop.time() * 1e6)
        later_us = began_us - self._created_us
        timers = []
        for after_us, told in self._told:
            moved = msgspec.structs.replace(told, usable_until_us=told.usable_until_us + later_us)
            if after_us <= 0:
                listener(moved)
            else:
                timers.append(loop.call_later(after_us / 1e6, listener, moved))

        def leave() -> None:
            for timer in timers:
                timer.cancel()

        return leave


def recorded_turn_starts(
    header: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
) -> RecordedTurnStarts | None:
    """Return what tells the session of a stint again; none when it had no control plane."""
    if not header["settings"]["policy"].get("needs_bundle", False):
        return None
    told = (record for record in records if record["kind"] == "input" and record["name"] == INPUT)
    return RecordedTurnStarts(header, told)
