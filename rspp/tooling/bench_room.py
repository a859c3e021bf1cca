"""``python -m rspp.tooling.bench_room``: the latencies of a call, heard by an independent caller.

Two calls in real rooms on one server: tones through a bare echo participant, which give the floor, and a
long scripted call with the example pipeline. Every figure is measured from the caller's recording; the
runtime's own figures stand beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rspp import _kernel
from rspp.contracts.errors import ConfigurationError
from rspp.evidence.timeline import read_timeline
from rspp.tooling.figures import Check, Figure, Gate, Rival, machine, print_checks, print_figures
from rspp.tooling.livekit_server import LiveKitServer
from rspp.tooling.measure import (
    answer_delay,
    longest_silence,
    round_trips,
    silence_delay,
    stretches,
    summarise,
)
from rspp.tooling.presentation import run_async, run_tool
from rspp.tooling.report import figures_section, write_page
from rspp.tooling.room_call import CallResult, echo_process, make_call, runtime_process, write_json
from rspp.tooling.story import Story, read_story

if TYPE_CHECKING:
    from rich.console import Console

TONES = 20
CYCLES = 20
LONG_QUESTION = "tell me about your restaurant"
INTERRUPTIONS = (
    "what are your opening hours",
    "what is your address",
    "how much is the dinner",
    "do you have a parking lot",
    "where are you",
)
BACKCHANNELS = ("uh huh", "m'hm")
"""A listener's words of 0.44 and 0.49 s as espeak-ng says them."""
ONSET_MEDIAN_MS, ONSET_MAXIMUM_MS = 85, 200
ANSWER_MEDIAN_MS = 330
BACKCHANNEL_MS, NOISE_MS = 350, 300
CANCEL_US, OPEN_US = 100, 1_000

RIVALS_ONSET = (
    Rival("livekit-agents 1.8.9, defaults", 684, 644, 784),
    Rival("livekit-agents 1.8.9, tuned", 309, 259, 389),
    Rival("pipecat 1.14.0, defaults", 487, 436, 787),
    Rival("pipecat 1.14.0, tuned", 401, 351, 551),
)
"""Measured in the same kind of room with the same recogniser, rules and voice, heard by an independent
caller on a machine of the same kind."""
RIVALS_ANSWER = (
    Rival("livekit-agents 1.8.9, defaults", 744, 724, 764),
    Rival("livekit-agents 1.8.9, tuned", 539, 499, 569),
    Rival("pipecat 1.14.0, defaults", 537, note="up to 3,600 ms for 6 of 28 sentences"),
    Rival("pipecat 1.14.0, tuned", 562, 480, 600),
)
RIVALS_BACKCHANNEL = (
    Rival("livekit-agents 1.8.9", note="silent for 2,100-2,800 ms"),
    Rival("pipecat 1.14.0", note="drops the answer, 4 of 4"),
)


def floor_script() -> dict[str, Any]:
    """Tones, far enough apart to be told from their echoes."""
    steps: list[dict[str, Any]] = [{"do": "wait_agent_present"}, {"do": "pause", "ms": 1500}]
    for _ in range(TONES):
        steps += [{"do": "tone", "name": "tone", "hz": 1000, "ms": 80}, {"do": "pause", "ms": 620}]
    return {"name": "floor", "limit_ms": 60_000, "steps": [*steps, {"do": "hang_up"}]}


def call_script(cycles: int) -> dict[str, Any]:
    """Questions, interruptions at varying moments, and sounds that must not interrupt."""
    answered = [{"do": "wait_agent_speaking", "ms": 300}, {"do": "wait_agent_silent", "ms": 900}]
    steps: list[dict[str, Any]] = list(answered)
    for number in range(cycles):
        steps += [
            {"do": "say", "name": "question", "text": LONG_QUESTION},
            {"do": "wait_agent_speaking", "ms": 1500 + 137 * (number % 8)},
            {"do": "say", "name": "interruption", "text": INTERRUPTIONS[number % len(INTERRUPTIONS)]},
            *answered,
        ]
    sounds: list[dict[str, Any]] = []
    for number in range(10):
        sounds.append({"do": "say", "name": "backchannel", "text": BACKCHANNELS[number % 2]})
        sounds.append(
            {"do": "cough", "name": "noise", "ms": 200 + 30 * (number % 3)}
            if number % 2
            else {"do": "click", "name": "noise"}
        )
    for start in range(0, len(sounds), 4):
        steps += [
            {"do": "say", "name": "question", "text": LONG_QUESTION},
            {"do": "wait_agent_speaking", "ms": 1700},
        ]
        for sound in sounds[start : start + 4]:
            steps += [sound, {"do": "pause", "ms": 2300}]
        steps.append({"do": "wait_agent_silent", "ms": 1500})
    return {
        "name": "bench-room",
        "limit_ms": 60_000 + cycles * 20_000 + 150_000,
        "timeout_ms": 40_000,
        "steps": [*steps, {"do": "hang_up"}],
    }


def measure_call(call: CallResult, floor_ms: float, story: Story) -> list[Figure]:
    """Turn the recording into figures with their gates."""
    recording = call.recording
    voice = stretches(recording.heard, recording.rate_hz)
    onset = Figure(
        "onset_to_silence",
        "onset of an interruption → silence",
        gates=[
            Gate("median", floor_ms + ONSET_MEDIAN_MS, f"floor {floor_ms:.0f} + {ONSET_MEDIAN_MS}"),
            Gate("maximum", floor_ms + ONSET_MAXIMUM_MS, f"floor {floor_ms:.0f} + {ONSET_MAXIMUM_MS}"),
        ],
        rivals=list(RIVALS_ONSET),
        needed=20,
    )
    answer = Figure(
        "end_of_speech_to_answer",
        "end of speech → first audible answer",
        gates=[Gate("median", floor_ms + ANSWER_MEDIAN_MS, f"floor {floor_ms:.0f} + {ANSWER_MEDIAN_MS}")],
        runtime=story.latencies.get("end_of_speech_to_turn_open", []),
        runtime_title="of it endpointing",
        rivals=list(RIVALS_ANSWER),
        needed=20,
    )
    backchannel = Figure(
        "backchannel",
        'silence for an "mhm" or "uh huh", beyond its length',
        gates=[Gate("maximum", BACKCHANNEL_MS, "its length + 350")],
        rivals=list(RIVALS_BACKCHANNEL),
        needed=10,
    )
    noise = Figure(
        "noise", "silence for a cough or a click", gates=[Gate("maximum", NOISE_MS, "fixed")], needed=10
    )
    for step in call.steps:
        said = recording.caller(step.begin, step.end) if step.name else None
        if said is None:
            continue
        label = step.text or step.do
        if step.name == "interruption":
            _take(onset, silence_delay(voice, said.begin, said.end), f"{label!r} was spoken over")
        if step.name in {"interruption", "question"}:
            _take(answer, answer_delay(voice, said.end), f"{label!r} was not answered")
        if step.name == "backchannel":
            silence = longest_silence(voice, said.begin, said.end + 500)
            beyond = None if silence is None else silence - said.length
            _take(backchannel, beyond, f"the answer did not go on after {label!r}")
        if step.name == "noise":
            _take(
                noise,
                longest_silence(voice, said.begin, said.end + 300),
                f"the answer did not go on after a {label}",
            )
    return [onset, answer, backchannel, noise, *_own_figures(story)]


def _take(figure: Figure, value: float | None, missed: str) -> None:
    if value is None:
        figure.missed.append(missed)
    else:
        figure.values.append(value)


def _own_figures(story: Story) -> list[Figure]:
    """What only the runtime can know, from its timeline."""

    def own(key: str, title: str, limit_us: int) -> Figure:
        values = [value * 1000 for value in story.latencies.get(key, [])]
        return Figure(
            key, title, values, [Gate("maximum", limit_us, "p99 of the issue")], needed=20, unit="µs"
        )

    return [
        own("cancel_to_gate_closed", "cancel accepted → gate closed (runtime's own)", CANCEL_US),
        own("turn_open_proposed_to_turn_open", "turn proposed → turn open (runtime's own)", OPEN_US),
    ]


async def measure_floor(server: LiveKitServer, folder: Path) -> Figure:
    """Round trips of tones through a bare echo participant."""
    async with echo_process(server, "floor", folder):
        call = await make_call(server, "floor", floor_script(), folder)
    rate = call.recording.rate_hz
    trips = round_trips(stretches(call.recording.sent, rate), stretches(call.recording.heard, rate))
    return Figure("floor", "floor: tone → its echo", trips, needed=TONES * 3 // 4)


async def bench(out: Path, cycles: int, console: Console, *, as_json: bool) -> int:
    """Make both calls, print the table, write figures.json and report.html; returns the exit status."""
    example = resources.files("rspp.pipeline") / "examples" / "front-desk.yaml"
    with resources.as_file(example) as pipeline:
        async with LiveKitServer(log_path=out / "server.log") as server:
            console.print("measuring the floor: tones through a bare echo participant")
            floor = await measure_floor(server, out / "floor")
            floor_ms = summarise(floor.values)
            if floor_ms is None:
                raise ConfigurationError("no echo was heard", hint=f"see {out / 'floor'}")
            console.print(f"floor: {floor_ms.median:.0f} ms; now {cycles} questions and interruptions")
            story, call = await _call(server, pipeline, out / "call", cycles, console)
    figures = [floor, *measure_call(call, floor_ms.median, story)]
    checks = [Check("the call went as scripted", call.outcome == "completed", call.outcome)]
    passed = all(figure.passed for figure in figures) and all(check.passed for check in checks)
    made_on = machine()
    document = {
        "machine": made_on,
        "figures": [figure.document() for figure in figures],
        "checks": [check.document() for check in checks],
        "passed": passed,
    }
    write_json(out / "figures.json", document)
    write_page(
        out / "report.html",
        title="RSPP in a real room",
        lead=f"{cycles} interruptions and more than twice as many questions in a real LiveKit room, measured "
        "from the recording of an independent caller. The floor is a tone's way through the room and a bare "
        "echo participant and back.",
        passed=passed,
        sections=[figures_section(figures, checks, plots=True)],
        machine=made_on,
        data=document,
    )
    if as_json:
        print(json.dumps(document))
    print_figures(console, figures, rivals=True)
    print_checks(console, checks)
    for figure in figures:
        for failure in figure.failures():
            console.print(f"[red]{failure}[/]")
    console.print(f"{'passed' if passed else 'FAILED'}: {out / 'figures.json'} and report.html")
    return 0 if passed else 1


async def _call(
    server: LiveKitServer, pipeline: Path, folder: Path, cycles: int, console: Console
) -> tuple[Story, CallResult]:
    done = 0

    def on_event(event: dict[str, Any]) -> None:
        nonlocal done
        if event["event"] == "step" and event["name"]:
            done += 1
            if done % 10 == 0:
                console.print(f"  {done} utterances and sounds")

    room = "bench-room"
    async with runtime_process(server, room, pipeline, folder) as runtime:
        call = await make_call(server, room, call_script(cycles), folder, on_event=on_event)
        await runtime.wait(20)
    return read_story(read_timeline(folder / "evidence" / room / "timeline.jsonl")), call


def main() -> int:
    """Run the bench; exit status 1 when a gate fails."""
    parser = argparse.ArgumentParser(prog="bench_room", description="Latencies of a call in a real room.")
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench-room"))
    parser.add_argument("--cycles", type=int, default=CYCLES, help="interruptions to make")
    parser.add_argument("--json", action="store_true", help="print figures.json to standard output")
    options = parser.parse_args()
    from rich.console import Console

    if _kernel.BUILD_PROFILE != "release":
        print("error: the kernel is a debug build\nhint: make setup", file=sys.stderr)
        return 2
    console = Console(highlight=False, stderr=options.json)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    return run_tool(lambda: run_async(bench(options.out, options.cycles, console, as_json=options.json)))


if __name__ == "__main__":
    sys.exit(main())
