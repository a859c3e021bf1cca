"""``python -m rspp.tooling.bench_room``: the figures of a call, many times over, in a real room.

At least 20 interruptions and 20 answers, backchannels, coughs and clicks, with the defaults of the example
pipeline; the floor is measured in the same run. Everything is measured from the caller's recording. Exit
status 1 when a gate fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from rspp import _kernel
from rspp.contracts.errors import ConfigurationError
from rspp.terminal import run_command
from rspp.tooling.call_judge import Judged, figures_of, judge, wait_figure
from rspp.tooling.call_scripts import backchannels_script, interruptions_script
from rspp.tooling.demo import call_in_room, measure_floor
from rspp.tooling.figures import Figure, machine, print_figures
from rspp.tooling.livekit_server import LiveKitServer, ensure_server
from rspp.tooling.measure import summarise
from rspp.tooling.presentation import run_async
from rspp.tooling.report import figures_section, write_page
from rspp.tooling.room_call import write_json
from rspp.tooling.story import Story

NEEDED = 20
INTERRUPTIONS = 20
LONG_ANSWERS = 4
FLOOR_TONES = 20


async def measure(folder: Path, console: Console, interruptions: int, long_answers: int) -> list[Figure]:
    """Make the calls and return the figures, the floor first.

    Raises:
        TransportError: a call could not be made.
    """
    program = await asyncio.to_thread(ensure_server, lambda line: console.print(line, markup=False))
    judged, stories = Judged(), []
    calls = (
        ("interruptions", interruptions_script(interruptions)),
        ("backchannels", backchannels_script(long_answers)),
    )
    async with LiveKitServer(program, log_path=folder / "server.log") as server:
        trips: list[float] = []
        for place in ("before", "after"):
            console.print(f"floor, {place} the calls: {FLOOR_TONES // 2} tones through the room and an echo")
            trips += await measure_floor(server, folder / f"floor-{place}", FLOOR_TONES // 2)
            if place == "after":
                break
            for name, script in calls:
                seconds = _expected_seconds(name, interruptions, long_answers)
                console.print(f"call {name}: about {seconds} s")
                call, story = await call_in_room(server, folder / name, script, None, room=f"bench-{name}")
                found = judge(call)
                if call.outcome != "completed":
                    found.miss("answer", f"the call {name} ended early: {call.outcome}")
                judged.add(found)
                stories.append(story)
    middle = summarise(trips)
    floor = middle.median if middle is not None else 0.0
    story = _together(stories)
    figures = figures_of(judged, story, floor, "floor", needed=NEEDED)
    heard = Figure(
        "backchannel_heard", 'Silence around "mhm", as heard', judged.backchannel_silences,
    )  # fmt: skip
    return [
        Figure("floor", "Floor: there and back through a bare echo", trips, needed=FLOOR_TONES // 2),
        *figures,
        heard,
        wait_figure(story),
    ]


def _expected_seconds(name: str, interruptions: int, long_answers: int) -> int:
    return 15 + (interruptions * 11 if name == "interruptions" else long_answers * 23)


def _together(stories: list[Story]) -> Story:
    """Put the turns of several calls into one story; only their latencies and holds are read."""
    whole = Story()
    for story in stories:
        base = max(whole.turns, default=0)
        for number, turn in story.turns.items():
            whole.turns[base + number] = turn
    return whole


async def _bench(target: Path, console: Console, *, as_json: bool, interruptions: int, answers: int) -> int:
    if _kernel.BUILD_PROFILE != "release":
        raise ConfigurationError(
            f"the kernel is a {_kernel.BUILD_PROFILE} build, whose figures say nothing",
            hint="run make setup, which builds it in release mode",
        )
    with tempfile.TemporaryDirectory(prefix="rspp-bench-") as name:
        figures = await measure(Path(name), console, interruptions, answers)
    failures = [failure for figure in figures for failure in figure.failures()]
    made_on = machine()
    document: dict[str, Any] = {
        "bench": "room",
        "passed": not failures,
        "failures": failures,
        "figures": [figure.document() for figure in figures],
        "machine": made_on,
    }
    write_json(target / "figures.json", document)
    write_page(
        target / "report.html",
        title="RSPP in a real room",
        lead="An independent caller interrupts, asks, murmurs and coughs in a real LiveKit room; every value "
        "is measured from its recording. The other frameworks were measured with the same recogniser, rules "
        "and voice in the same kind of room.",
        passed=not failures,
        sections=[figures_section(figures, [], plots=True)],
        machine=made_on,
        data=document,
    )
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print_figures(console, figures, rivals=True)
        made = f"{made_on['processor']}, {made_on['cores']} cores, {made_on['date']}, RSPP {made_on['rspp']}"
        console.print(f"{made}\npage: {target / 'report.html'}", highlight=False)
    for failure in failures:
        console.print(f"[red]failed[/]: {failure}", soft_wrap=True)
    return 1 if failures else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rspp.tooling.bench_room", description="Measure a call's latencies in a real room."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("artifacts/bench-room"), help="folder for the results"
    )
    parser.add_argument(
        "--interruptions", type=int, default=INTERRUPTIONS, help="how many; fewer than 20 fail"
    )
    parser.add_argument("--answers", type=int, default=LONG_ANSWERS, help="long answers with murmurs in them")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.json)
    return run_command(
        lambda: run_async(
            _bench(
                options.out,
                console,
                as_json=options.json,
                interruptions=options.interruptions,
                answers=options.answers,
            )
        )
    )


if __name__ == "__main__":
    sys.exit(main())
