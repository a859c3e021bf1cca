"""``python -m rspp.tooling.drill_takeover``: who is heard when the speaking runtime is killed or paused.

Each case is a call in a real room. A first runtime holds the call and speaks a long answer; then it is
killed or paused, and a second runtime on the same host takes over when the lease has run out. The caller
records every agent participant into a channel of its own, and everything is judged from that recording.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rspp.authority.store import TTL_MS
from rspp.contracts.errors import RsppError
from rspp.terminal import run_command
from rspp.tooling.figures import Check, Figure, Gate, machine, print_checks, print_figures
from rspp.tooling.livekit_server import LiveKitServer
from rspp.tooling.measure import Stretch, read_channels, stretches
from rspp.tooling.presentation import run_async
from rspp.tooling.room_call import CallResult, make_call, runtime_process, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from rspp.tooling.processes import ChildProcess

HEARD_LIMIT_MS = TTL_MS + 2_000
"""From the last audible instant of the old holder to the first of the new one: lease time + 2 s."""
EXIT_LIMIT_SECONDS = 20.0
LOST_STATUS = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One way to lose a holder.

    Attributes:
        key: stable name.
        title: for people.
        paused_s: how long the holder is paused; 0 kills it.
        standby: the second runtime waits from the beginning; otherwise it is started once the lease has
            run out.
    """

    key: str
    title: str
    paused_s: float = 0.0
    standby: bool = True


CASES = (
    Case("killed", "holder killed, a standby takes over"),
    Case("restarted", "holder killed, a second runtime starts when the lease has run out", standby=False),
    Case("paused-6s", "holder paused for 6 s and continued", paused_s=6.0),
    Case("paused-30s", "holder paused for 30 s and continued", paused_s=30.0),
)


@dataclass(slots=True)
class Outcome:
    """What the caller's recording says of one case."""

    case: Case
    gap_ms: float | None = None
    checks: list[Check] = field(default_factory=list)


def script(case: Case) -> dict[str, Any]:
    """What the caller does: a question with a long answer, a wait, another question, and goodbye."""
    return {
        "name": f"takeover-{case.key}",
        "limit_ms": 120_000,
        "timeout_ms": 40_000,
        "steps": [
            {"do": "wait_agent_speaking", "ms": 300},
            {"do": "wait_agent_silent", "ms": 900},
            {"do": "say", "name": "question", "text": "tell me about your restaurant"},
            {"do": "wait_agent_speaking", "name": "cue", "ms": 1500},
            {"do": "pause", "ms": 12_000 + int(case.paused_s * 1000)},
            {"do": "say", "name": "last question", "text": "what are your opening hours"},
            {"do": "wait_agent_speaking", "ms": 500},
            {"do": "wait_agent_silent", "ms": 1_200},
            {"do": "hang_up"},
        ],
    }


async def hold_case(case: Case, server: LiveKitServer, pipeline: Path, folder: Path) -> Outcome:
    """Make the call of one case and judge it."""
    room = f"drill-{case.key}"
    first = runtime_process(server, room, pipeline, folder, log_name="first.log")
    second = runtime_process(
        server, room, pipeline, folder, log_name="second.log", extra=("--wait-for-lease",)
    )
    tasks: list[asyncio.Task[None]] = []

    async def lose_holder() -> None:
        if not case.paused_s:
            first.send_signal(signal.SIGKILL)
            if not case.standby:
                await asyncio.sleep(TTL_MS / 1000)
                await second.start()
            return
        first.send_signal(signal.SIGSTOP)
        await asyncio.sleep(case.paused_s)
        first.send_signal(signal.SIGCONT)

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["name"] == "cue":
            tasks.append(asyncio.create_task(lose_holder()))

    await first.start()
    try:
        await _first_holds(first, folder)
        if case.standby:
            await second.start()
        call = await make_call(server, room, script(case), folder, on_event=on_event, tracks=True)
        await asyncio.gather(*tasks)
        first_status = await _exit_status(first)
        second_status = await _exit_status(second)
    finally:
        for task in tasks:
            task.cancel()
        first.send_signal(signal.SIGCONT)
        await first.stop()
        await second.stop()
    return judge(case, call, folder, first_status, second_status)


async def _first_holds(first: ChildProcess, folder: Path) -> None:
    """Wait until the first runtime has begun its call, so that the second one finds the lease taken."""
    for _ in range(400):
        if "call begins" in first.log_path.read_text("utf-8", "replace"):
            return
        if first.returncode is not None:
            break
        await asyncio.sleep(0.05)
    raise RsppError(f"the first runtime did not begin its call: {first.log_tail()}", hint=f"see {folder}")


async def _exit_status(process: ChildProcess) -> int | None:
    try:
        return await process.wait(EXIT_LIMIT_SECONDS)
    except (TimeoutError, RuntimeError):
        return None


def judge(
    case: Case, call: CallResult, folder: Path, first_status: int | None, second_status: int | None
) -> Outcome:
    """Say from the recording who was heard when."""
    channels, rate = read_channels(folder / "tracks.wav")
    identities = [str(event["identity"]) for event in call.events if event["event"] == "subscribed"]
    voices: dict[str, list[Stretch]] = {}
    for identity, channel in zip(identities, channels[1:], strict=True):
        voices.setdefault(identity, []).extend(stretches(channel, rate))
    old_name, new_name = (f"agent-drill-{case.key}-e{epoch}" for epoch in (1, 2))
    old, new = (sorted(voices.get(name, []), key=lambda voice: voice.begin) for name in (old_name, new_name))
    outcome = Outcome(case)
    check = outcome.checks.append
    check(Check("the call went as scripted", call.outcome == "completed", call.outcome))
    check(Check("both holders were heard", bool(old and new), ", ".join(sorted(voices))))
    if not (old and new):
        return outcome
    began = new[0].begin
    before = [voice for voice in old if voice.begin < began]
    after = [voice for voice in old if voice.end > began]
    outcome.gap_ms = began - before[-1].end if before else None
    check(
        Check(
            "not one frame of the old holder after the new one began",
            not after,
            ", ".join(f"{voice.begin:.0f}-{voice.end:.0f} ms" for voice in after),
        )
    )
    gone = [event for event in call.events if event["event"] == "left" and event["identity"] == new_name]
    check(Check("the new holder was never evicted", not gone, str(gone[0]["reason"]) if gone else ""))
    last = next((step for step in call.steps if step.name == "last question"), None)
    answered = last is not None and any(voice.begin > call.recording.ms(last.end) for voice in new)
    check(Check("the new holder answered the caller's next question", answered))
    if case.paused_s:
        check(
            Check(
                "the old holder left by itself and said why",
                first_status == LOST_STATUS,
                f"exit status {first_status}",
            )
        )
    check(Check("the new holder ended with the call", second_status == 0, f"exit status {second_status}"))
    return outcome


def _figure(outcomes: list[Outcome]) -> Figure:
    return Figure(
        key="takeover_gap",
        title="old holder's last sound → new holder's first",
        values=[outcome.gap_ms for outcome in outcomes if outcome.gap_ms is not None],
        gates=[Gate("maximum", HEARD_LIMIT_MS, f"lease {TTL_MS} + 2000")],
        needed=len(outcomes),
    )


async def drill(cases: list[Case], out: Path, console: Console) -> int:
    """Hold every case, print a table, write figures.json; returns the exit status."""
    shutil.rmtree(out, ignore_errors=True)
    outcomes: list[Outcome] = []
    example = resources.files("rspp.pipeline") / "examples" / "front-desk.yaml"
    with resources.as_file(example) as pipeline:
        async with LiveKitServer(log_path=out / "server.log") as server:
            for case in cases:
                console.print(f"[bold]{case.title}[/]")
                outcome = await hold_case(case, server, pipeline, out / case.key)
                print_checks(console, outcome.checks)
                if outcome.gap_ms is not None:
                    console.print(f"   heard again after {outcome.gap_ms:.0f} ms")
                outcomes.append(outcome)
    figure = _figure(outcomes)
    print_figures(console, [figure], rivals=False)
    passed = figure.passed and all(check.passed for outcome in outcomes for check in outcome.checks)
    write_json(
        out / "figures.json",
        {
            "machine": machine(),
            "figures": [figure.document()],
            "cases": [
                {
                    "key": outcome.case.key,
                    "title": outcome.case.title,
                    "gap_ms": outcome.gap_ms,
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
    """Run the drill; exit status 1 when a case fails."""
    parser = argparse.ArgumentParser(prog="drill_takeover", description="Takeover in a real room.")
    parser.add_argument("--out", type=Path, default=Path("artifacts/drill-takeover"))
    parser.add_argument("--case", action="append", choices=[case.key for case in CASES], default=[])
    options = parser.parse_args()
    from rich.console import Console

    chosen = [case for case in CASES if not options.case or case.key in options.case]
    return run_command(lambda: run_async(drill(chosen, options.out, Console(highlight=False))))


if __name__ == "__main__":
    sys.exit(main())
