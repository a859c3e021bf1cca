"""How much of a call a page carries, and what it leaves out first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_RECORDS = 60_000
"""Most evidence records that a page carries: an hour of a lively call has about 40,000."""
MAX_TURNS = 2_000
"""Most turns that a page carries: three hours of a lively call."""
MAX_RUNS = 40_000
"""Most runs of frames, and most depths of an edge, that a page carries."""
SHED_FIRST = ("lease", "pressure", "latency")
"""What a page that would carry more leaves out first; the recording still has it."""
AT_THE_END = "records at the end"


class Room:
    """Decides record by record what a page carries.

    Args:
        most: records at most.

    Attributes:
        left_out: how many were left out, by sort.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = 0
        self._sheddable: dict[str, list[int]] = {sort: [] for sort in SHED_FIRST}
        self.left_out: dict[str, int] = {}

    def take(self, place: int, record: dict[str, Any]) -> tuple[bool, Sequence[int]]:
        """Return whether a record is carried, and the places of those that are not any more for it."""
        sort = _sort(record)
        given_up: list[int] = []
        while self._kept >= self._most and self._sheddable:
            shed = next(iter(self._sheddable))
            places = self._sheddable.pop(shed)
            self.left_out[shed] = len(places)
            self._kept -= len(places)
            given_up += places
        if sort in self.left_out or self._kept >= self._most:
            name = sort if sort in self.left_out else AT_THE_END
            self.left_out[name] = self.left_out.get(name, 0) + 1
            return False, given_up
        if sort in self._sheddable:
            self._sheddable[sort].append(place)
        self._kept += 1
        return True, given_up


def _sort(record: dict[str, Any]) -> str:
    return "lease" if str(record.get("name", "")).startswith("lease") else str(record.get("kind", ""))
