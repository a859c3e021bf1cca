"""One time axis for a call whose runtimes may have run on machines with clocks of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SAME_CLOCK_US = 50_000
"""Two stints whose clocks stand this near to each other, by the wall clock, share one clock."""


@dataclass(slots=True)
class _Base:
    at_us: int
    wall_ms: int

    @property
    def offset_us(self) -> int:
        return self.wall_ms * 1000 - self.at_us


class CallClock:
    """Places records on one axis: microseconds from the first record.

    A runtime's own clock orders its records exactly; the wall clock only says how the clocks of two
    runtimes lie to each other.
    """

    def __init__(self) -> None:
        self._bases: list[_Base] = []
        self._last_us = 0

    @property
    def started_wall_ms(self) -> int:
        """Wall clock at 0; 0 before the first record."""
        return self._bases[0].wall_ms if self._bases else 0

    def place(self, record: dict[str, Any]) -> int:
        """Return when a record was made; one without a time was made when the one before it was."""
        at_us = whole(record.get("at_us", record.get("started_us")))
        wall_ms = whole(record.get("wall_ms", record.get("started_wall_ms")))
        if at_us is None and wall_ms is None:
            return self._last_us
        if not self._bases:
            self._bases.append(_Base(at_us if at_us is not None else (wall_ms or 0) * 1000, wall_ms or 0))
        first = self._bases[0]
        if at_us is None:
            self._last_us = max(0, ((wall_ms or 0) - first.wall_ms) * 1000)
            return self._last_us
        base = first
        # Nearly every record is of a call on one clock, and there are millions of them in a long one.
        if wall_ms is not None and (len(self._bases) > 1 or record.get("kind") == "header"):
            base = min(self._bases, key=lambda known: abs(known.offset_us - (wall_ms * 1000 - at_us)))
            if (
                record.get("kind") == "header"
                and abs(base.offset_us - (wall_ms * 1000 - at_us)) > SAME_CLOCK_US
            ):
                base = _Base(at_us, wall_ms)
                self._bases.append(base)
        self._last_us = max(0, at_us - base.at_us + (base.wall_ms - first.wall_ms) * 1000)
        return self._last_us


def whole(value: object) -> int | None:
    """Return a number of a record as an integer; none when it is no number."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
