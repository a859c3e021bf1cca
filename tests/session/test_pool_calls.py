"""Whole calls with real recognition and speech under the pool."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from rspp.tooling.fault_call import FaultCall

if TYPE_CHECKING:
    from rspp.tooling.faults import Record


@functools.cache
def pool_records() -> list[Record]:
    return [record for record in FaultCall().hold().records if record["kind"] == "pool"]


def test_a_call_records_what_its_turns_asked_of_the_pool() -> None:
    asked = {(record["turn"], record["node"]) for record in pool_records()}
    assert {(1, "stt"), (1, "tts")} <= asked
    assert all(record["tasks"] > 0 for record in pool_records())


def test_in_virtual_time_nothing_waits_and_nothing_is_written_of_it() -> None:
    assert all(
        set(record) == {"kind", "turn", "node", "tasks", "at_us", "wall_ms"} for record in pool_records()
    )
