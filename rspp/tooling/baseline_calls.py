"""The calls behind the runtime baseline: real sessions that give every service gate its samples.

Some are held in virtual time, because their faults must hit the same moment each time; the others run at
once in real time, so that the latencies of the gates are measured and not those of a clock that stands
still while work is done.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rspp.evidence.memory import MemoryRecorder
from rspp.pipeline.spec import PipelineSpec
from rspp.runtime.loopback_call import loopback_call
from rspp.tooling.caller.script import parse_script
from rspp.tooling.caller.sound import prepare
from rspp.tooling.fault_call import FaultCall
from rspp.tooling.faults import SPEECH_PROGRAM, Record
from rspp.tooling.golden_calls import CALLS
from rspp.tooling.loopback_caller import ScriptedLoopbackCaller
from rspp.tooling.slo_gates import (
    AUTHORITY_SAFETY,
    BASELINE_COMPLETENESS,
    CANCEL_FENCE,
    FIRST_OUTPUT,
    TERMINAL_CORRECTNESS,
    TURN_OPEN_DECISION,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.tooling.caller.script import Script
    from rspp.tooling.caller.sound import Samples

REAL_CALLS = 6
STAGGER_S = 0.37
"""Time between two calls' beginnings, so that callers do not speak in step."""
REAL_PIPELINE: dict[str, Any] = {
    "name": "baseline",
    "greeting": "Hello, how can I help?",
    "llm": {
        "provider": "rules",
        "rules": [
            {"hear": "opening hours", "say": "We are open from nine to five."},
            {
                "hear": "tell me about the house",
                "say": "The house was built by a captain who was tired of the sea. "
                "For forty years it was a store for ropes. Then his daughter put a stove into the hall.",
            },
            {"hear": "address", "say": "We are at the harbour."},
        ],
    },
}
REAL_SCRIPT: dict[str, Any] = {
    "name": "baseline",
    "limit_ms": 45_000,
    "timeout_ms": 15_000,
    "steps": [
        {"do": "wait_agent_speaking", "ms": 300},
        {"do": "wait_agent_silent", "ms": 700},
        {"do": "say", "name": "question", "text": "what are your opening hours"},
        {"do": "wait_agent_speaking", "ms": 300},
        {"do": "wait_agent_silent", "ms": 700},
        {"do": "say", "name": "question", "text": "tell me about the house"},
        {"do": "wait_agent_speaking", "ms": 900},
        {"do": "say", "name": "interruption", "text": "what is your address"},
        {"do": "wait_agent_speaking", "ms": 300},
        {"do": "wait_agent_silent", "ms": 700},
        {"do": "hang_up"},
    ],
}


@dataclass(frozen=True, slots=True)
class HeldScenario:
    """One scenario that was held.

    Attributes:
        id: its name.
        clock: ``real`` or ``virtual``.
        exercises: gates that it gives samples to.
        records: its evidence in order.
        headers: the whole headers of its stints in order.
        problem: why it does not count; empty when it closed as it should.
    """

    id: str
    clock: Literal["real", "virtual"]
    exercises: tuple[str, ...]
    records: list[Record]
    headers: list[Record]
    problem: str = ""


_ALWAYS = (BASELINE_COMPLETENESS, TERMINAL_CORRECTNESS)
VIRTUAL: dict[str, tuple[str, ...]] = {
    "rd-001-smoke": _ALWAYS,
    "cf-001-cancel-fence": _ALWAYS,
    "ae-002-revoke-and-cancel": _ALWAYS,
    "ae-003-old-placement": (*_ALWAYS, AUTHORITY_SAFETY),
    "f1-admission-shed": _ALWAYS,
    "f2-node-failure": _ALWAYS,
    "f3-provider-failure": _ALWAYS,
    "f3-provider-failure-abort": _ALWAYS,
    "f6-transport-lost": _ALWAYS,
    "f7-authority-conflict": _ALWAYS,
    "f8-failover": (*_ALWAYS, AUTHORITY_SAFETY),
}
"""Scenarios in virtual time, by their ids among the golden calls, with the gates they give samples to."""
REAL = (*_ALWAYS, TURN_OPEN_DECISION, FIRST_OUTPUT, CANCEL_FENCE)


def hold_virtual() -> list[HeldScenario]:
    """Hold the scenarios in virtual time."""
    return [_hold_virtual(name, exercises) for name, exercises in VIRTUAL.items()]


def hold_real(count: int = REAL_CALLS) -> list[HeldScenario]:
    """Hold ``count`` calls at once in real time, each with an answer, a barge-in and another answer."""
    script = parse_script(REAL_SCRIPT)
    sounds = asyncio.run(prepare(script, SPEECH_PROGRAM, Path()))
    return asyncio.run(hold_scripted(count, script, sounds))


async def hold_scripted(count: int, script: Script, sounds: Sequence[Samples]) -> list[HeldScenario]:
    """Hold ``count`` calls of one script at once, in the time of the running loop."""
    spec = msgspec.convert(REAL_PIPELINE, PipelineSpec)
    calls = (_real_call(number, spec, script, sounds) for number in range(count))
    return list(await asyncio.gather(*calls))


def open_turns(records: Sequence[Record]) -> list[str]:
    """Return the turns that opened and did not close."""
    opened: dict[str, bool] = {}
    for record in records:
        if record["kind"] != "signal":
            continue
        event = record["event"]
        if event["signal"] == "turn_open":
            opened[event["turn_id"]] = False
        elif event["signal"] == "close":
            opened[event["turn_id"]] = True
    return [turn for turn, closed in opened.items() if not closed]


def _hold_virtual(name: str, exercises: tuple[str, ...]) -> HeldScenario:
    held = CALLS[name].make(f"baseline-{name}").hold()
    calls = [held] if isinstance(held, FaultCall) else [held.first, held.second]
    records = [record for call in calls for record in call.records]
    problems = [problem for call in calls for problem in call.problems()]
    headers = [header for call in calls for header in call.timeline.headers]
    problem = "; ".join(problems) or _unfinished(records)
    return HeldScenario(name, "virtual", exercises, records, headers, problem)


async def _real_call(
    number: int, spec: PipelineSpec, script: Script, sounds: Sequence[Samples]
) -> HeldScenario:
    await asyncio.sleep(number * STAGGER_S)
    caller = ScriptedLoopbackCaller(script, sounds)
    recorder = MemoryRecorder()
    name = f"baseline-real-{number}"
    try:
        await loopback_call(caller, spec, session_id=name, recorder=recorder)
    finally:
        caller.close()
    records = recorder.records
    problem = "" if caller.outcome == "completed" else f"the caller's script ended with: {caller.outcome}"
    return HeldScenario(
        f"real-{number}", "real", REAL, records, recorder.headers, problem or _unfinished(records)
    )


def _unfinished(records: Sequence[Record]) -> str:
    left = open_turns(records)
    if left:
        return f"turns did not close: {', '.join(left)}"
    opened = any(
        record["kind"] == "signal" and record["event"]["signal"] == "turn_open" for record in records
    )
    return "" if opened else "no turn opened"
