"""The bench of many calls: they share what those of a runtime share, and what they asked of it is told."""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import profile_of
from rspp.pipeline.quotas import admission_of
from rspp.session.pool import PoolUse, WorkPool
from rspp.session.virtual_time import VirtualClock, run_virtual
from rspp.tooling import bench_sessions
from rspp.tooling.bench_sessions import PoolMeter, Shared, pool_lines, with_workers
from rspp.tooling.faults import _sounds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rspp.pipeline.spec import PipelineSpec
    from rspp.session.pool import SessionWork

CALL = {
    "name": "short",
    "limit_ms": 20_000,
    "timeout_ms": 10_000,
    "steps": [
        {"do": "wait_agent_speaking", "ms": 300},
        {"do": "wait_agent_silent", "ms": 900},
        {"do": "say", "name": "question", "text": "what are your opening hours"},
        {"do": "wait_agent_speaking", "ms": 300},
        {"do": "hang_up"},
    ],
}


class FakeCountingPool(WorkPool):
    """Counts the sessions that share it, and remembers whether one of them closed it."""

    sessions = 0
    closed = False

    def session(self, budgets: Mapping[str, tuple[int, int]] | None = None) -> SessionWork:
        self.sessions += 1
        return super().session(budgets)

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture(scope="module")
def spec() -> PipelineSpec:
    return load_pipeline(Path(str(resources.files("rspp.pipeline") / "examples" / "front-desk.yaml")))


def test_two_calls_share_the_pool_and_leave_it_open_and_the_meter_adds_up_both(spec: PipelineSpec) -> None:
    script, sounds = _sounds(json.dumps(CALL))

    async def hold(calls: int) -> tuple[FakeCountingPool, PoolMeter, list[str]]:
        pool = FakeCountingPool(profile_of(spec), VirtualClock(), inline=True)
        shared = Shared(pool, admission_of(profile_of(spec)), PoolMeter())
        held = [bench_sessions._call(one, spec, script, list(sounds), shared) for one in range(calls)]
        callers = await asyncio.gather(*held)
        for caller in callers:
            caller.close()
        return pool, shared.meter, [caller.outcome for caller in callers]

    one = run_virtual(hold(1))[1].uses
    pool, meter, outcomes = run_virtual(hold(2))
    assert outcomes == ["completed", "completed"]
    assert (pool.sessions, pool.closed) == (2, False)
    assert set(meter.uses) == {"stt", "tts"}
    assert all(meter.uses[node].tasks > 1.5 * one[node].tasks > 0 for node in one)


def test_the_meter_adds_up_waits_and_keeps_the_longest() -> None:
    meter = PoolMeter()
    first = {"kind": "pool", "node": "stt", "tasks": 2, "queue_us": 3_000, "longest_queue_us": 2_000}
    second = {"kind": "pool", "node": "stt", "tasks": 1, "queue_us": 1_000, "longest_queue_us": 1_000}
    refused = {"kind": "pool", "node": "stt", "turn": 3, "refused": {"rejected": 2}}
    for record in (first, {"kind": "latency", "name": "stt_final"}, second, refused):
        meter.write(b"", [json.dumps(record).encode()])
    assert meter.uses == {
        "stt": PoolUse(tasks=3, queue_us=4_000, longest_queue_us=2_000, refused={"rejected": 2})
    }
    assert pool_lines(meter.uses) == [
        "      pool, stt: 3 pieces; waited 1.3 ms, 2.0 ms at most; ran 0.0 ms, 0.0 ms at most"
    ]


def test_workers_are_the_profiles_unless_they_are_named(spec: PipelineSpec) -> None:
    assert with_workers(spec, 0) is spec
    more = profile_of(with_workers(spec, 4))
    assert (more.pool.workers, more.pool.queue) == (4, profile_of(spec).pool.queue)
    assert more.budgets == profile_of(spec).budgets


def test_separate_calls_share_nothing(spec: PipelineSpec) -> None:
    apart, together = (Shared.of(profile_of(spec), separate=separate) for separate in (True, False))
    assert (apart.pool, apart.admission) == (None, None)
    assert together.pool is not None
    assert together.admission is not None
    together.pool.close()
