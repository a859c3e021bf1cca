"""``python -m rspp.tooling.bench_sessions``: many calls at once in one process, in real time.

Every session has its own kernel, detector and recogniser and talks with a scripted caller on the
loopback transport, where the floor is zero: what is measured is RSPP and its embedded providers. As in
``rspp-runtime serve``, all of them share one pool for blocking work and one set of quotas;
``--separate`` gives each call its own, to see what sharing costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from rspp import _kernel
from rspp.authority.clock import BootClock
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import profile_of
from rspp.pipeline.quotas import admission_of
from rspp.runtime.loopback_call import loopback_call
from rspp.session.pool import PoolUse, WorkPool
from rspp.tooling.caller.script import parse_script
from rspp.tooling.caller.sound import prepare
from rspp.tooling.loopback_caller import ScriptedLoopbackCaller
from rspp.tooling.measure import answer_delay, silence_delay, stretches, summarise

if TYPE_CHECKING:
    from rspp._kernel import Admission
    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.redaction import Action
    from rspp.pipeline.profile import ExecutionProfile
    from rspp.pipeline.profile import RecordingLevel as Level
    from rspp.pipeline.spec import PipelineSpec
    from rspp.tooling.caller.script import Script
    from rspp.tooling.caller.sound import Samples

STAGGER_S = 0.37
"""Time between two calls' beginnings, so that callers do not speak in step."""
ONSET_MEDIAN_MS, ONSET_MAXIMUM_MS, ANSWER_MEDIAN_MS = 85.0, 200.0, 330.0
FIRST_MEMORY_MB, FURTHER_MEMORY_MB = 120.0, 20.0

CALL = {
    "name": "bench-sessions",
    "limit_ms": 120_000,
    "timeout_ms": 30_000,
    "steps": [
        {"do": "wait_agent_speaking", "ms": 300},
        {"do": "wait_agent_silent", "ms": 900},
        *(
            step
            for _ in range(2)
            for step in (
                {"do": "say", "name": "question", "text": "what are your opening hours"},
                {"do": "wait_agent_speaking", "ms": 300},
                {"do": "wait_agent_silent", "ms": 900},
                {"do": "say", "name": "question", "text": "tell me about your restaurant"},
                {"do": "wait_agent_speaking", "ms": 2500},
                {"do": "say", "name": "interruption", "text": "what is your address"},
                {"do": "wait_agent_speaking", "ms": 300},
                {"do": "wait_agent_silent", "ms": 900},
            )
        ),
        {"do": "hang_up"},
    ],
}


def memory_mb() -> float:
    """Resident memory of this process and its children, MiB (proportional share of shared pages)."""
    import psutil

    process = psutil.Process()
    return float(
        sum(part.memory_full_info().pss for part in (process, *process.children(recursive=True))) / (1 << 20)
    )


class PoolMeter:
    """A recorder that keeps what calls asked of the pool, and nothing else.

    Attributes:
        uses: what each node asked, all calls together.
    """

    level: Level = "L0"
    payload_failure = ""

    def __init__(self) -> None:
        self.uses: dict[str, PoolUse] = {}

    def begin(self, header: dict[str, object]) -> None:
        """Take nothing of a header."""

    def write(self, block: bytes, records: list[bytes], *, durable: bool = False) -> None:
        """Add up what the records say of the pool."""
        for record in map(json.loads, records):
            if record["kind"] == "pool":
                self._add(record["node"], msgspec.convert(record, PoolUse))

    def payload(
        self,
        payload_class: PayloadClass,
        turn: int,
        at_us: int,
        data: bytes,
        *,
        action: Action = "drop",
        **details: object,
    ) -> None:
        """Take no content."""

    def _add(self, node: str, use: PoolUse) -> None:
        total = self.uses.setdefault(node, PoolUse())
        total.tasks += use.tasks
        total.queue_us += use.queue_us
        total.run_us += use.run_us
        total.longest_queue_us = max(total.longest_queue_us, use.longest_queue_us)
        total.longest_run_us = max(total.longest_run_us, use.longest_run_us)
        for why, count in use.refused.items():
            total.refused[why] = total.refused.get(why, 0) + count


@dataclass(frozen=True)
class Shared:
    """What the calls share.

    Attributes:
        pool: for blocking work; none gives each call its own.
        admission: quotas; none gives each call its own.
        meter: adds up what they asked of the pool.
    """

    pool: WorkPool | None
    admission: Admission | None
    meter: PoolMeter

    @classmethod
    def of(cls, profile: ExecutionProfile, *, separate: bool) -> Shared:
        """Return what the calls of a runtime with ``profile`` share."""
        if separate:
            return cls(None, None, PoolMeter())
        return cls(WorkPool(profile, BootClock()), admission_of(profile), PoolMeter())


async def _call(
    number: int, spec: PipelineSpec, script: Script, sounds: list[Samples], shared: Shared
) -> ScriptedLoopbackCaller:
    await asyncio.sleep(number * STAGGER_S)
    caller = ScriptedLoopbackCaller(script, sounds)
    with ExitStack() as failed:
        failed.callback(caller.close)
        await loopback_call(
            caller,
            spec,
            session_id=f"bench-{number}",
            recorder=shared.meter,
            pool=shared.pool,
            admission=shared.admission,
        )
        # Of a call that was held the recording is measured.
        failed.pop_all()
    return caller


async def _watch(peaks: dict[str, float]) -> None:
    while True:
        peaks["memory_mb"] = max(peaks.get("memory_mb", 0.0), memory_mb())
        await asyncio.sleep(2.0)


async def _calls(
    count: int, spec: PipelineSpec, shared: Shared
) -> tuple[list[ScriptedLoopbackCaller], float]:
    script = parse_script(CALL)
    speech = (sys.executable, "-m", "rspp.providers.espeak_process")
    sounds = await prepare(script, speech, Path.cwd())
    peaks: dict[str, float] = {}
    watching = asyncio.create_task(_watch(peaks))
    try:
        callers = await asyncio.gather(
            *(_call(number, spec, script, sounds, shared) for number in range(count))
        )
    finally:
        watching.cancel()
        if shared.pool is not None:
            shared.pool.close()
    return list(callers), peaks["memory_mb"]


def _measure(callers: list[ScriptedLoopbackCaller]) -> dict[str, Any]:
    onsets: list[float] = []
    answers: list[float] = []
    faults: list[str] = []
    for number, caller in enumerate(callers):
        if caller.outcome != "completed":
            faults.append(f"call {number}: {caller.outcome}")
        recording = caller.recording
        voice = stretches(recording.heard, recording.rate_hz)
        for step in caller.steps:
            said = recording.caller(step.begin, step.end) if step.do == "say" else None
            if said is None:
                continue
            if step.name == "interruption":
                delay = silence_delay(voice, said.begin, said.end)
                (onsets if delay is not None else faults).append(
                    delay if delay is not None else f"call {number}: spoke over the caller"  # type: ignore[arg-type]
                )
            answer = answer_delay(voice, said.end)
            if answer is None:
                faults.append(f"call {number}: no answer to {step.text!r}")
            else:
                answers.append(answer)
    return {"onset_to_silence": onsets, "end_of_speech_to_answer": answers, "faults": faults}


def with_workers(spec: PipelineSpec, workers: int) -> PipelineSpec:
    """Return ``spec`` with a pool of so many workers; 0 leaves it as it is."""
    if not workers:
        return spec
    profile = profile_of(spec)
    limits = msgspec.structs.replace(profile.pool, workers=workers)
    own = msgspec.structs.replace(profile, name="bench", pool=limits)
    return msgspec.structs.replace(spec, profile=own.name, profiles={**spec.profiles, own.name: own})


def pool_lines(uses: dict[str, PoolUse]) -> list[str]:
    """Return a line for each node on how its blocking work waited and ran."""
    lines = []
    for node, use in sorted(uses.items()):
        pieces = max(1, use.tasks) * 1000
        lines.append(
            f"      pool, {node}: {use.tasks} pieces; waited {use.queue_us / pieces:.1f} ms, "
            f"{use.longest_queue_us / 1000:.1f} ms at most; ran {use.run_us / pieces:.1f} ms, "
            f"{use.longest_run_us / 1000:.1f} ms at most"
        )
    return lines


def _memory_of_one(workers: int) -> float:
    """Peak of a fresh process with one session, MB."""
    command = [sys.executable, "-m", "rspp.tooling.bench_sessions", "--sessions", "1", "--memory-only"]
    command += ["--workers", str(workers)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(result.stdout.splitlines()[-1])


def main() -> int:
    """Run the bench; returns 1 when a figure misses its gate."""
    parser = argparse.ArgumentParser(prog="bench_sessions", description=__doc__)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench-sessions"))
    parser.add_argument(
        "--workers", type=int, default=0, help="workers of the pool, 1 to 64; 0 is as in the profile (1)"
    )
    parser.add_argument("--separate", action="store_true", help="give each call its own pool and quotas")
    parser.add_argument("--memory-only", action="store_true", help="print the peak in MB and nothing else")
    options = parser.parse_args()
    if options.sessions < 1 or not 0 <= options.workers <= 64:
        parser.error("--sessions must be at least 1 and --workers from 0 to 64")
    if _kernel.BUILD_PROFILE != "release":
        print("error: the kernel is a debug build\nhint: make setup", file=sys.stderr)
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    example = resources.files("rspp.pipeline") / "examples" / "front-desk.yaml"
    spec = with_workers(load_pipeline(Path(str(example))), options.workers)
    shared = Shared.of(profile_of(spec), separate=options.separate)
    if options.memory_only:
        held, peak = asyncio.run(_calls(options.sessions, spec, shared))
        for caller in held:
            caller.close()
        print(peak)
        return 0
    first = _memory_of_one(options.workers)
    callers, peak = asyncio.run(_calls(options.sessions, spec, shared))
    measured = _measure(callers)
    for caller in callers:
        caller.close()
    for node, use in sorted(shared.meter.uses.items()):
        measured["faults"] += [f"pool, {node}: {count} {why}" for why, count in sorted(use.refused.items())]
    onset = summarise(measured["onset_to_silence"])
    answer = summarise(measured["end_of_speech_to_answer"])
    further = (peak - first) / max(1, options.sessions - 1)
    gates = [
        ("memory with one session, MB", first, FIRST_MEMORY_MB),
        ("memory of each further session, MB", further, FURTHER_MEMORY_MB),
    ]
    if onset is not None:
        gates.append(("onset of interruption to silence, median ms", onset.median, ONSET_MEDIAN_MS))
        gates.append(("onset of interruption to silence, maximum ms", onset.maximum, ONSET_MAXIMUM_MS))
    if answer is not None:
        gates.append(("end of speech to answer, median ms", answer.median, ANSWER_MEDIAN_MS))
    for name, value, gate in gates:
        print(f"{'pass' if value <= gate else 'FAIL'}  {name:48} {value:8.1f}  gate {gate:g}")
    print("\n".join(pool_lines(shared.meter.uses)))
    for fault in measured["faults"]:
        print(f"FAIL  {fault}")
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {
        "sessions": options.sessions,
        "workers": profile_of(spec).pool.workers,
        "pool": "separate" if options.separate else "shared",
        "pool_use": msgspec.to_builtins(shared.meter.uses),
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
        "onset_to_silence_ms": asdict(onset) if onset else None,
        "end_of_speech_to_answer_ms": asdict(answer) if answer else None,
        "memory_first_mb": first,
        "memory_further_mb": further,
        "faults": measured["faults"],
    }
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    missed = onset is None or answer is None or any(value > gate for _, value, gate in gates)
    return 1 if missed or measured["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
