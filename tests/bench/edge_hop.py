"""``python -m tests.bench.edge_hop``: a hop over an edge beside a hop of pipecat, in one run.

Set PIPECAT_PYTHON to an interpreter that has pipecat-ai. Exit status 1 when a gate fails, 2 when the
build is a debug build or pipecat could not be measured although it was asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rspp import _kernel
from rspp._kernel import EdgeBuffer

HOPS = 200_000
SWITCHES = 5_000
FRAMES = 2_000
STAGES = 8
QUEUED = 500
CANCELS = 50
HOP_LIMIT_US = 1.0
CANCEL_LIMIT_US = 1_000.0
ITEM = bytes(960)


def make_edge(number: int) -> EdgeBuffer[bytes]:
    """An edge as the plan of a call has them, with room for the cancel."""
    return EdgeBuffer(
        edge_id=f"hop-{number}",
        strategy="drop",
        max_items=QUEUED,
        max_ms=20 * QUEUED,
        max_bytes=1 << 20,
        high_items=QUEUED - 1,
        low_items=QUEUED // 2,
        high_ms=20 * QUEUED,
        low_ms=10 * QUEUED,
    )


def hop_us() -> float:
    """Median of put, decide, get, in batches of 100 so that reading the clock does not count."""
    edge = make_edge(0)
    put, get, item = edge.put, edge.get, ITEM
    batches = []
    for _ in range(HOPS // 100):
        before = time.perf_counter_ns()
        for _ in range(100):
            put(item, 1, 20_000, 960)
            get()
        batches.append((time.perf_counter_ns() - before) / 100_000)
    return statistics.median(batches)


async def switched_hop_us() -> float:
    """One more stage that is a task of its own: the difference of 8 and 1 stages, one item in flight."""
    medians = {}
    for stages in (1, STAGES):
        edges = [make_edge(number) for number in range(stages + 1)]
        wakes = [asyncio.Event() for _ in edges]

        async def stage(
            number: int, edges: list[EdgeBuffer[bytes]] = edges, wakes: list[asyncio.Event] = wakes
        ) -> None:
            while True:
                item = edges[number].get()
                if item is None:
                    wakes[number].clear()
                    await wakes[number].wait()
                    continue
                edges[number + 1].put(item, 1, 20_000, 960)
                wakes[number + 1].set()

        tasks = [asyncio.create_task(stage(number)) for number in range(stages)]
        times = []
        for _ in range(SWITCHES):
            before = time.perf_counter_ns()
            edges[0].put(ITEM, 1, 20_000, 960)
            wakes[0].set()
            while edges[-1].get() is None:
                wakes[-1].clear()
                await wakes[-1].wait()
            times.append(time.perf_counter_ns() - before)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        medians[stages] = statistics.median(times) / 1_000
    return (medians[STAGES] - medians[1]) / (STAGES - 1)


def cancel_us() -> tuple[float, int]:
    """Slowest of the cancels of 8 full edges, and the stale items that came out after them."""
    slowest, stale = 0.0, 0
    for _ in range(CANCELS):
        edges = [make_edge(number) for number in range(STAGES)]
        for edge in edges:
            for _ in range(QUEUED):
                edge.put(ITEM, 1, 20_000, 960)
        before = time.perf_counter_ns()
        for edge in edges:
            edge.fence(1)
        slowest = max(slowest, (time.perf_counter_ns() - before) / 1_000)
        stale += sum(edge.get() is not None for edge in edges)
    return slowest, stale


def pipecat_hop_us(python: str) -> tuple[str, float]:
    """Version of pipecat, and the median of one more stage.

    Raises:
        subprocess.SubprocessError: the measurement failed.
    """
    script = Path(__file__).with_name("pipecat_hop.py")
    answer = subprocess.run(
        [python, str(script), str(FRAMES)], capture_output=True, check=True, text=True, timeout=120
    )
    measured = json.loads(answer.stdout.splitlines()[-1])
    one, many = (statistics.median(measured["times_ns"][str(stages)]) for stages in (1, STAGES))
    return measured["version"], (many - one) / (STAGES - 1) / 1_000


def say(what: str, figure: str, limit: str = "") -> None:
    """Print one figure."""
    print(f"{what:46} {figure:>12}" + (f"  ({limit})" if limit else ""))


def main() -> int:
    """Measure, print, and judge."""
    if _kernel.BUILD_PROFILE != "release":
        print("error: this is a debug build of the kernel\nhint: run make setup", file=sys.stderr)
        return 2
    hop = hop_us()
    switched = asyncio.run(switched_hop_us())
    slowest, stale = cancel_us()
    say("one hop over an edge: put, decide, get", f"{hop:.3f} µs", f"at most {HOP_LIMIT_US:g}")
    say("one more stage that is a task, over an edge", f"{switched:.2f} µs")
    python = os.environ.get("PIPECAT_PYTHON")
    if python is None:
        say("one more stage of pipecat", "-", "set PIPECAT_PYTHON to measure it; 9 to 30 µs elsewhere")
    else:
        try:
            version, rival = pipecat_hop_us(python)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError) as error:
            print(f"error: pipecat was not measured: {error}\nhint: check PIPECAT_PYTHON", file=sys.stderr)
            return 2
        say(f"one more stage of pipecat {version}", f"{rival:.2f} µs")
    say(
        f"cancel of {STAGES} edges, {QUEUED} items each, slowest",
        f"{slowest:.0f} µs",
        f"at most {CANCEL_LIMIT_US:g}",
    )
    say("stale items after it", str(stale), "none")
    return int(hop > HOP_LIMIT_US or slowest > CANCEL_LIMIT_US or stale > 0)


if __name__ == "__main__":
    sys.exit(main())
