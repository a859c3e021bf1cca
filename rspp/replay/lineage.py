"""Lineage: what became of each event on an edge, and whether a drop or nothing at all explains an absence.

An event is handed on, dropped by a notice that names it, or merged into a group. An event of the recording
that the replay neither hands on nor explains is an OUTCOME divergence, and so is one that only the replay
has (sections 7.5 and 11.2 of the contracts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rspp.replay.divergence import OUTCOME, Divergence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOSSES = ("drop_notice", "discontinuity")
_MAX_RANGE = 100_000


class LineageEntry(msgspec.Struct, frozen=True):
    """What became of one event.

    Attributes:
        dropped: whether a notice says that it was dropped.
        merge_group: group that it was merged into; empty for none.
    """

    dropped: bool = False
    merge_group: str = ""

    def __str__(self) -> str:
        if self.merge_group:
            return f"merged into {self.merge_group}"
        return "dropped" if self.dropped else "handed on"


Lineage = dict[str, LineageEntry]


def lineage_of(records: Iterable[Mapping[str, Any]]) -> Lineage:
    """Return what became of each item of an edge that a notice names, under ``<edge>/<sequence>``.

    It was dropped, or merged when the notice carries a merge group. Control signals are none of it: each of
    them is compared by its place in the trace.
    """
    lineage: Lineage = {}
    for record in records:
        if record.get("kind") != "signal":
            continue
        event = record["event"]
        if event["signal"] not in LOSSES:
            continue
        group = event.get("merge_group_id", "")
        for item in _items(event):
            lineage[item] = LineageEntry(dropped=not group, merge_group=group)
    return lineage


def compare_lineage(recorded: Lineage, replayed: Lineage) -> list[Divergence]:
    """Return where two lineages differ, by event, the recording's events first in their order."""
    found = []
    for name, entry in recorded.items():
        other = replayed.get(name)
        if other is None:
            found.append(
                _divergence(name, f"{entry} in the recording, absent without a reason in the replay")
            )
        elif other.dropped != entry.dropped or other.merge_group != entry.merge_group:
            found.append(_divergence(name, f"{entry} in the recording, {other} in the replay"))
    extra = [name for name in replayed if name not in recorded]
    return found + [
        _divergence(name, f"{replayed[name]} in the replay, not in the recording") for name in extra
    ]


def _items(event: Mapping[str, Any]) -> list[str]:
    span = event.get("seq_range")
    if span is None or "edge_id" not in event:
        return []
    end = min(span["end"], span["start"] + _MAX_RANGE - 1)
    return [f"{event['edge_id']}/{number}" for number in range(span["start"], end + 1)]


def _divergence(name: str, message: str) -> Divergence:
    return Divergence(class_=OUTCOME, scope=f"event:{name}", message=message)
