# pipecat is in the interpreter that runs this, not in ours, so its types are unknown here.
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"
"""What one more pass-through stage of pipecat costs; run by ``edge_hop`` with pipecat's interpreter.

Prints one JSON object: the version and, for each number of stages, the times of single frames in
nanoseconds, one frame in flight at a time.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
import time
from typing import Any

from loguru import logger
from pipecat.frames.frames import EndFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

STAGES = (1, 8)


class Pass(FrameProcessor):
    """Hands every frame on."""

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class Last(Pass):
    """Tells when a frame of audio has come through."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputAudioRawFrame):
            self.arrived.set()


async def measure(stages: int, frames: int) -> list[int]:
    """Send frames one after another through the stages; return the time of each, ns."""
    first, last = Pass(), Last()
    pipeline = Pipeline([first, *(Pass() for _ in range(stages)), last])
    worker = PipelineWorker(
        pipeline, cancel_on_idle_timeout=False, enable_rtvi=False, params=PipelineParams()
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(_worker: Any, _frame: Any) -> None:
        started.set()

    times: list[int] = []

    async def send() -> None:
        await asyncio.wait_for(started.wait(), 10)
        audio = bytes(960)
        for _ in range(frames):
            last.arrived.clear()
            frame = OutputAudioRawFrame(audio=audio, sample_rate=24_000, num_channels=1)
            before = time.perf_counter_ns()
            await first.push_frame(frame)
            await last.arrived.wait()
            times.append(time.perf_counter_ns() - before)
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), send())
    return times


async def main(frames: int) -> None:
    """Measure each number of stages and print the times."""
    times = {str(stages): await measure(stages, frames) for stages in STAGES}
    print(json.dumps({"version": importlib.metadata.version("pipecat-ai"), "times_ns": times}))


if __name__ == "__main__":
    logger.remove()
    asyncio.run(main(int(sys.argv[1])))
