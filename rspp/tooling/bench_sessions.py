"""``python -m rspp.tooling.bench_sessions``: many calls at once in one process, in real time.

Every session has its own kernel, detector and recogniser and talks with a scripted caller on the
loopback transport, where the floor is zero: what is measured is RSPP and its embedded providers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rspp import _kernel
from rspp.pipeline.loader import load_pipeline
from rspp.runtime.loopback_call import loopback_call
from rspp.tooling.caller.script import parse_script
from rspp.tooling.caller.sound import prepare
from rspp.tooling.loopback_caller import ScriptedLoopbackCaller
from rspp.tooling.measure import answer_delay, silence_delay, stretches, summarise

if TYPE_CHECKING:
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


async def _call(
    number: int, spec: PipelineSpec, script: Script, sounds: list[Samples]
) -> ScriptedLoopbackCaller:
    await asyncio.sleep(number * STAGGER_S)
    caller = ScriptedLoopbackCaller(script, sounds)
    await loopback_call(caller, spec, session_id=f"bench-{number}")
    return caller


async def _watch(peaks: dict[str, float]) -> None:
    while True:
        peaks["memory_mb"] = max(peaks.get("memory_mb", 0.0), memory_mb())
        await asyncio.sleep(2.0)


async def _calls(count: int, spec: PipelineSpec) -> tuple[list[ScriptedLoopbackCaller], float]:
    script = parse_script(CALL)
    speech = (sys.executable, "-m", "rspp.providers.espeak_process")
    sounds = await prepare(script, speech, Path.cwd())
    peaks: dict[str, float] = {}
    watching = asyncio.create_task(_watch(peaks))
    try:
        callers = await asyncio.gather(*(_call(number, spec, script, sounds) for number in range(count)))
    finally:
        watching.cancel()
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


def _memory_of_one() -> float:
    """Peak of a fresh process with one session, MB."""
    command = [sys.executable, "-m", "rspp.tooling.bench_sessions", "--sessions", "1", "--memory-only"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(result.stdout.splitlines()[-1])


def main() -> int:
    """Run the bench; returns 1 when a figure misses its gate."""
    parser = argparse.ArgumentParser(prog="bench_sessions", description=__doc__)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench-sessions"))
    parser.add_argument("--memory-only", action="store_true", help="print the peak in MB and nothing else")
    options = parser.parse_args()
    if _kernel.BUILD_PROFILE != "release":
        print("error: the kernel is a debug build\nhint: make setup", file=sys.stderr)
        return 2
    example = resources.files("rspp.pipeline") / "examples" / "front-desk.yaml"
    spec = load_pipeline(Path(str(example)))
    if options.memory_only:
        print(asyncio.run(_calls(options.sessions, spec))[1])
        return 0
    first = _memory_of_one()
    callers, peak = asyncio.run(_calls(options.sessions, spec))
    measured = _measure(callers)
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
    for fault in measured["faults"]:
        print(f"FAIL  {fault}")
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {
        "sessions": options.sessions,
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
