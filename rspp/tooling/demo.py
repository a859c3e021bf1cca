"""``python -m rspp.tooling.demo``: the main job, end to end, for somebody who sees it the first time.

It starts a real LiveKit server, the runtime with the example pipeline, and a caller in a process of its
own; holds the scripted call; and judges it from the caller's recording. Exit status is 0 only if the call
went as scripted, every gate held, and the recorded call replays to the same decisions.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import ConfigurationError, RsppError, TransportError
from rspp.evidence.export import write_lines
from rspp.evidence.permission import POLICY_FILE
from rspp.evidence.reader import open_recording
from rspp.evidence.words import records_for
from rspp.replay.engine import recompute
from rspp.terminal import run_command
from rspp.tooling.call_judge import TYPICAL_FLOOR_MS, check_demo, figures_of, floor_of, judge
from rspp.tooling.call_page.page import call_page, write_whole
from rspp.tooling.call_page.replayed import replay_words
from rspp.tooling.call_page.source import model_of
from rspp.tooling.call_scripts import demo_script, tones_script
from rspp.tooling.figures import Check, machine, print_checks, print_figures
from rspp.tooling.live_view import LiveView
from rspp.tooling.livekit_server import LiveKitServer, ensure_server
from rspp.tooling.measure import summarise
from rspp.tooling.presentation import run_async
from rspp.tooling.report import call_section, figures_section, heard_waits
from rspp.tooling.report_parts import facts
from rspp.tooling.room_call import echo_process, make_call, runtime_process, write_json
from rspp.tooling.story import Story, read_story

if TYPE_CHECKING:
    from rspp.tooling.figures import Figure
    from rspp.tooling.room_call import CallResult

ROOM = "demo"
FLOOR_TONES = 8
LEAVE_LIMIT_SECONDS = 15.0


@dataclass(slots=True)
class Outcome:
    """A judged call."""

    call: CallResult
    story: Story
    figures: list[Figure]
    checks: list[Check]
    floor: float
    transport: str

    @property
    def failures(self) -> list[str]:
        """Everything that is wrong; empty when the call went as scripted."""
        wrong = [failure for figure in self.figures for failure in figure.failures()]
        return wrong + [f"{check.title}: {check.detail}" for check in self.checks if not check.passed]


def example_pipeline() -> Path:
    """Return the pipeline that ships with the project."""
    return Path(str(resources.files("rspp.pipeline"))) / "examples" / "front-desk.yaml"


def recording_folder(evidence: Path, session_id: str) -> Path:
    """Return where a call of the default tenant is recorded."""
    return evidence / DEFAULT_TENANT / session_id


def demo_pipeline(folder: Path) -> Path:
    """Write the example's pipeline with the sound kept as well, so that the recorded call can be heard."""
    example = example_pipeline().read_text("utf-8")
    path = folder / "front-desk.yaml"
    path.write_text(example.replace("allow: [text_raw]", "allow: [text_raw, audio_raw]"), "utf-8")
    return path


def let_read(evidence: Path) -> None:
    """Write the access policy of the demo's tenant: operators may read words and hear sound."""
    policy = {
        "tenant_id": DEFAULT_TENANT,
        "roles": ["operator"],
        "purposes": ["eval"],
        "fidelities": ["L0", "L1", "L2"],
        "actions": {"text_raw": "allow", "audio_raw": "allow"},
    }
    write_json(evidence / DEFAULT_TENANT / POLICY_FILE, policy)


async def measure_floor(server: LiveKitServer, folder: Path, tones: int) -> list[float]:
    """Measure the room's own round trip through a bare echo participant.

    Raises:
        TransportError: no echo came back.
    """
    async with echo_process(server, "floor", folder):
        call = await make_call(server, "floor", tones_script(tones), folder / "caller")
    trips = floor_of(call)
    if not trips:
        raise TransportError("no echo came back through the room", hint=f"see the logs in {folder}")
    return trips


async def call_in_room(
    server: LiveKitServer,
    folder: Path,
    script: dict[str, Any],
    view: LiveView | None,
    room: str = ROOM,
    pipeline: Path | None = None,
) -> tuple[CallResult, Story]:
    """Hold one scripted call with the runtime in a real room.

    Raises:
        TransportError: the runtime or the caller could not take part.
    """
    recorded = recording_folder(folder / "evidence", room)
    let_read(folder / "evidence")
    runtime = runtime_process(server, room, pipeline or example_pipeline(), folder, extra=("--session", room))
    async with runtime:
        following = asyncio.create_task(view.follow(recorded)) if view is not None else None
        try:
            call = await make_call(
                server, room, script, folder / "caller", on_event=view.on_event if view is not None else None
            )
            with contextlib.suppress(TimeoutError):
                await runtime.wait(LEAVE_LIMIT_SECONDS)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        if runtime.returncode != 0:
            state = "did not leave" if runtime.returncode is None else f"ended with {runtime.returncode}"
            raise TransportError(
                f"the runtime {state}: {runtime.log_tail(2) or 'no message'}", hint=f"see {runtime.log_path}"
            )
    if not recorded.is_dir():
        raise TransportError("the runtime left no recording", hint=f"see {runtime.log_path}")
    return call, read_story(spoken_records(recorded))


async def demo_in_room(program: Path, folder: Path, console: Console) -> Outcome:
    """The demo in a real room."""
    async with LiveKitServer(program, log_path=folder / "server.log") as server:
        console.print(f"LiveKit server on {server.url}")
        console.print(f"floor: the round trip of {FLOOR_TONES} tones through the room and a bare echo …")
        trips = await measure_floor(server, folder / "floor", FLOOR_TONES)
        middle = summarise(trips)
        floor = middle.median if middle is not None else TYPICAL_FLOOR_MS
        console.print(f"floor: {floor:.0f} ms")
        console.print("the call: rspp-runtime with front-desk.yaml, and a caller in a process of its own")
        recorded = recording_folder(folder / "evidence", ROOM)
        with LiveView(console, "a call in a real LiveKit room", lambda: spoken_records(recorded)) as view:
            call, story = await call_in_room(
                server, folder, demo_script(), view, pipeline=demo_pipeline(folder)
            )
    judged = judge(call)
    figures = figures_of(judged, story, floor, "floor", needed=1)
    return Outcome(call, story, figures, check_demo(call, story), floor, "a real LiveKit room")


def spoken_records(recorded: Path) -> list[dict[str, Any]]:
    """Return the records of a call with its words, as far as its level and its tenant's policy allow."""
    try:
        return list(records_for(recorded, principal="demo", role="operator", purpose="eval"))
    except RsppError:
        return list(open_recording(recorded).records())


def check_replay(recorded: Path) -> Check:
    """Run the recorded call's kernel once more and compare every record."""
    result = recompute(open_recording(recorded))
    records = sum(stint.compared for stint in result.stints)
    seconds = sum(stint.recorded_ms for stint in result.stints) / 1000
    took_ms = sum(stint.took_ms for stint in result.stints)
    return Check(
        f"the recorded call replays to the identical trace: {records} records, {seconds:.0f} s "
        f"in {took_ms:.0f} ms",
        result.identical,
        f"{len(result.divergences)} divergences, {len(result.damage)} damaged places",
    )


def leave_results(outcome: Outcome, target: Path, recorded: Path) -> None:
    """Put what the demo leaves in place.

    Args:
        outcome: the judged call.
        target: where to.
        recorded: folder of the call's recording; all of the evidence folder is kept.
    """
    target.mkdir(parents=True, exist_ok=True)
    made_on = machine()
    document: dict[str, Any] = {
        "call": "demo",
        "transport": outcome.transport,
        "passed": not outcome.failures,
        "failures": outcome.failures,
        "floor_ms": outcome.floor,
        "figures": [figure.document() for figure in outcome.figures],
        "checks": [check.document() for check in outcome.checks],
        "machine": made_on,
    }
    temporary = target / "call.wav.part"
    shutil.copyfile(outcome.call.folder / "call.wav", temporary)
    temporary.replace(target / "call.wav")
    evidence = target / "evidence"
    shutil.rmtree(evidence, ignore_errors=True)
    shutil.copytree(recorded.parent.parent, evidence)
    kept = evidence / recorded.parent.name / recorded.name
    write_lines(open_recording(kept).records(), target / "timeline.jsonl")
    write_json(target / "figures.json", document)
    kept_recording = open_recording(kept)
    page = call_page(
        model_of(kept_recording, spoken_records(recorded)),
        title="A call with RSPP",
        lead=f"A scripted caller talks with the example front desk in {outcome.transport}. What the caller's "
        "process sent and heard is drawn below with what the runtime decided. The figures come from the "
        f"recording alone; the room itself takes {outcome.floor:.0f} ms there and back.",
        verdict=(not outcome.failures, "failed" if outcome.failures else "passed"),
        replay=replay_words(kept_recording),
        before=[figures_section(outcome.figures, outcome.checks, plots=False)],
        after=[
            call_section(outcome.call, outcome.story, turns=False),
            f"<h2>Made on</h2>\n{facts(made_on)}",
        ],
        heard_ms={
            f"turn-1-{number}": wait for number, wait in heard_waits(outcome.call, outcome.story).items()
        },
        extra=document,
    )
    write_whole(target / "report.html", page)


async def _demo(target: Path, console: Console) -> int:
    try:
        program: Path | None = await asyncio.to_thread(
            ensure_server, lambda line: console.print(line, markup=False, highlight=False)
        )
    except ConfigurationError as error:
        console.print(f"{error.message}; {error.hint}", markup=False, soft_wrap=True)
        console.print("holding the same call over the loopback transport instead")
        program = None
    with tempfile.TemporaryDirectory(prefix="rspp-demo-") as name:
        folder = Path(name)
        try:
            if program is not None:
                outcome = await demo_in_room(program, folder, console)
            else:
                from rspp.tooling.demo_loopback import demo_over_loopback

                outcome = await asyncio.to_thread(demo_over_loopback, folder)
        except RsppError:
            _keep_logs(folder, target)
            raise
        recorded = recording_folder(folder / "evidence", ROOM)
        outcome.checks.append(check_replay(recorded))
        leave_results(outcome, target, recorded)
        if outcome.failures:
            _keep_logs(folder, target)
    console.print()
    print_figures(console, outcome.figures, rivals=False)
    print_checks(console, outcome.checks)
    console.print(f"\nlisten: {target / 'call.wav'}   read: {target / 'report.html'}", highlight=False)
    asking = "--role operator --purpose eval"
    again = f"rspp-cli replay {ROOM} --evidence {target / 'evidence'} {asking}"
    # Whole on one line, however narrow the terminal, so that it can be copied.
    console.print(f"again:  {again}", highlight=False, soft_wrap=True)
    for failure in outcome.failures:
        console.print(f"[red]failed[/]: {failure}", soft_wrap=True)
    return 1 if outcome.failures else 0


def _keep_logs(folder: Path, target: Path) -> None:
    logs = target / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*.log"):
        shutil.copyfile(path, logs / path.name)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rspp.tooling.demo", description="Hold the scripted call and judge it."
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts/demo"), help="folder for the results")
    options = parser.parse_args(arguments)
    return run_command(lambda: run_async(_demo(options.out, Console())))


if __name__ == "__main__":
    sys.exit(main())
