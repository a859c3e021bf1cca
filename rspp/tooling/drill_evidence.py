"""``python -m rspp.tooling.drill_evidence``: what is left of a call when its runtime is killed.

Each run is a call in a real room whose runtime gets SIGKILL at a random moment. What it left on disk is
read back, must reach up to the last flush, and must replay to the same decisions; then one byte of a copy
is changed at random and must be found where it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rspp import _kernel
from rspp.contracts.errors import RsppError
from rspp.evidence.reader import open_recording
from rspp.evidence.writer import FLUSH_S
from rspp.replay.engine import recompute
from rspp.session.recording import DRAIN_INTERVAL_S
from rspp.terminal import run_command
from rspp.tooling.call_scripts import heard_out, listen, say, script
from rspp.tooling.figures import Check, Figure, Gate, machine, print_checks, print_figures
from rspp.tooling.livekit_server import LiveKitServer
from rspp.tooling.presentation import run_async
from rspp.tooling.room_call import make_call, runtime_process, write_json

if TYPE_CHECKING:
    from rich.console import Console

RUNS = 20
AT_ONCE = 2
EARLIEST_S, LATEST_S = 1.0, 10.0
"""When the kill comes, from the caller's first moment in the room on."""
SCHEDULING_MS = 400
"""What a busy machine may add to the two intervals: the audio that a killed process had not yet been
given, and a thread that waited for a core."""
LOST_LIMIT_MS = 1000 * (FLUSH_S + DRAIN_INTERVAL_S) + SCHEDULING_MS
START_LIMIT_S = 40.0


@dataclass(slots=True)
class Outcome:
    """What was found after one kill.

    Attributes:
        number: of the run, from 1.
        after_s: when the kill came.
        lost_ms: from the last record to the kill.
        records: how many records were read back.
        turns: highest turn in them.
        checks: what must hold.
    """

    number: int
    after_s: float
    lost_ms: float | None = None
    records: int = 0
    turns: int = 0
    checks: list[Check] = field(default_factory=list)


def call_script() -> dict[str, Any]:
    """A lively call: a question, an interruption, another question."""
    steps = [
        *heard_out(),
        say("tell me about your restaurant", "ask"),
        *listen(1500),
        say("what is your address", "interruption"),
        *heard_out(),
        say("what are your opening hours", "question"),
        *heard_out(),
    ]
    return script("killed", steps, limit_ms=60_000)


async def hold_run(
    number: int, after_s: float, server: LiveKitServer, pipeline: Path, folder: Path, seed: int
) -> Outcome:
    """Hold one call, kill its runtime, read back what it left."""
    room = f"kill-{number:02}"
    runtime = runtime_process(server, room, pipeline, folder, extra=("--session", room))
    started = asyncio.Event()

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "subscribed":
            started.set()

    async with runtime:
        call = asyncio.create_task(
            make_call(server, room, call_script(), folder / "caller", on_event=on_event)
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await started.wait()
            await asyncio.sleep(after_s)
            runtime.send_signal(signal.SIGKILL)
            killed_ms = time.time() * 1000
            await runtime.wait(START_LIMIT_S)
        except TimeoutError as error:
            raise RsppError(
                f"run {number}: the call did not begin: {runtime.log_tail()}", hint=f"see {folder}"
            ) from error
        finally:
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError, RsppError):
                await call
    outcome = Outcome(number, after_s)
    await asyncio.to_thread(judge, outcome, folder / "evidence" / "default" / room, killed_ms, seed)
    return outcome


def judge(outcome: Outcome, recorded: Path, killed_ms: float, seed: int) -> None:
    """Read a killed call back, replay it, and change one byte of a copy."""
    recording = open_recording(recorded)
    check = outcome.checks.append
    damage = [found for found in recording.damage if found.code != "torn"]
    check(Check("nothing is damaged but the torn end", not damage, ", ".join(map(str, damage))))
    records = list(recording.records())
    outcome.records = len(records)
    outcome.turns = max((int(record.get("turn", 0)) for record in records), default=0)
    last_ms = max((record["wall_ms"] for record in records if "wall_ms" in record), default=0)
    outcome.lost_ms = max(0.0, killed_ms - last_ms)
    check(Check("no gap", all(record["kind"] != "gap" for record in records)))
    result = recompute(recording)
    check(
        Check(
            "replays to the same decisions",
            bool(result.stints) and not result.divergences,
            f"{len(result.divergences)} divergences",
        )
    )
    check(Check("one changed byte is found where it is", *_edited(recorded, seed)))


def _edited(recorded: Path, seed: int) -> tuple[bool, str]:
    segment = next(iter(sorted(recorded.glob("*.segment"))))
    content = bytearray(segment.read_bytes())
    scan = _kernel.scan_segment(bytes(content))
    whole = scan.blocks[-1][3]
    place = random.Random(seed).randrange(8, whole)
    content[place] ^= 1 << (seed % 8)
    found = _kernel.scan_segment(bytes(content)).damage
    block = next(index for index, (_, _, _, end, _) in enumerate(scan.blocks) if place < end)
    told = any(entry[2] == block for entry in found)
    return told, f"byte {place} of block {block}: {found[:1]}"


async def drill(runs: int, seed: int, out: Path, console: Console) -> int:
    """Hold all runs, print a table, write figures.json; returns the exit status."""
    shutil.rmtree(out, ignore_errors=True)
    chance = random.Random(seed)
    console.print(f"{runs} calls in real rooms, each killed at a random moment; seed {seed}")
    at_once = asyncio.Semaphore(AT_ONCE)
    example = resources.files("rspp.pipeline") / "examples" / "front-desk.yaml"
    outcomes: list[Outcome] = []
    with resources.as_file(example) as pipeline:
        async with LiveKitServer(log_path=out / "server.log") as server:

            async def run(number: int, after_s: float) -> None:
                async with at_once:
                    folder = out / f"{number:02}"
                    outcome = await hold_run(number, after_s, server, pipeline, folder, seed + number)
                outcomes.append(outcome)
                console.print(
                    f"run {number:2}: killed after {after_s:4.1f} s: {outcome.records} records, "
                    f"{outcome.turns} turns, last one {outcome.lost_ms:.0f} ms before the kill",
                    soft_wrap=True,
                )

            async with asyncio.TaskGroup() as group:
                for number in range(1, runs + 1):
                    group.create_task(run(number, chance.uniform(EARLIEST_S, LATEST_S)))
    outcomes.sort(key=lambda outcome: outcome.number)
    figure = Figure(
        key="evidence_lost",
        title="last record → kill",
        values=[outcome.lost_ms for outcome in outcomes if outcome.lost_ms is not None],
        gates=[Gate("maximum", LOST_LIMIT_MS, "flush + drain + scheduling")],
        needed=runs,
    )
    print_figures(console, [figure], rivals=False, title="Read back from disk, ms")
    failed = [check for outcome in outcomes for check in outcome.checks if not check.passed]
    print_checks(console, failed)
    passed = figure.passed and not failed and len(outcomes) == runs
    write_json(
        out / "figures.json",
        {
            "machine": machine(),
            "seed": seed,
            "figures": [figure.document()],
            "runs": [
                {
                    "number": outcome.number,
                    "killed_after_s": outcome.after_s,
                    "lost_ms": outcome.lost_ms,
                    "records": outcome.records,
                    "turns": outcome.turns,
                    "checks": [check.document() for check in outcome.checks],
                }
                for outcome in outcomes
            ],
            "passed": passed,
        },
    )
    console.print(f"{'passed' if passed else 'FAILED'}: {out / 'figures.json'}")
    return 0 if passed else 1


def main() -> int:
    """Run the drill; exit status 1 when something is lost or not found."""
    parser = argparse.ArgumentParser(prog="drill_evidence", description="Kills in real rooms.")
    parser.add_argument("--out", type=Path, default=Path("artifacts/drill-evidence"))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=None, help="a random one when left out")
    options = parser.parse_args()
    from rich.console import Console

    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    return run_command(lambda: run_async(drill(options.runs, seed, options.out, Console(highlight=False))))


if __name__ == "__main__":
    sys.exit(main())
