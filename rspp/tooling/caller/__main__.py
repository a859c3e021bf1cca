"""``python -m rspp.tooling.caller``: make one scripted call and leave a recording of it.

Exit status: 0 the script was carried out, 2 bad input, 3 the call did not go as scripted (a wait ran
out, or the line was cut). In every case but 2 the recording is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from livekit import rtc

from rspp.tooling.caller.line import EventLog, Line
from rspp.tooling.caller.recording import mix, place, write_wav
from rspp.tooling.caller.script import Script, ScriptError, Step, load_script
from rspp.tooling.caller.sound import RATE_HZ, Samples, SoundError, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECT_LIMIT_SECONDS = 15.0
DEFAULT_SPEECH_PROGRAM = (sys.executable, "-m", "rspp.providers.espeak_process")


def _samples(ms: int) -> int:
    return RATE_HZ * ms // 1000


async def _perform(line: Line, step: Step, sound: Samples) -> tuple[int, int]:
    """Do one step; returns the samples it began and ended at."""
    begin = line.now()
    if step.do in {"say", "cough", "click", "tone"}:
        return await line.send(sound)
    if step.do == "pause":
        await line.pause(_samples(step.ms))
    else:
        async with asyncio.timeout(step.timeout_ms / 1000):
            if step.do == "wait_agent_present":
                await line.until_present()
            elif step.do == "wait_agent_speaking":
                await line.until_speaking(_samples(step.ms))
            elif step.do == "wait_agent_silent":
                await line.until_silent(_samples(step.ms))
    return begin, line.now()


async def _converse(line: Line, log: EventLog, script: Script, sounds: list[Samples]) -> str:
    """Carry the script out; returns ``completed`` or why it was not."""
    for index, (step, sound) in enumerate(zip(script.steps, sounds, strict=True)):
        shown = {"index": index, "do": step.do, "name": step.name, "text": step.text}
        log.write("step_begin", **shown, at=line.now())
        if step.do == "hang_up":
            log.write("step", **shown, **{"from": line.now(), "to": line.now()})
            return "completed"
        try:
            begin, end = await _perform(line, step, sound)
        except TimeoutError:
            log.write("timed_out", **shown, at=line.now())
            return f"step {index} ({step.do} {step.name}".rstrip() + ") timed out"
        log.write("step", **shown, **{"from": begin, "to": end})
        if line.ended.is_set():
            return line.end_reason or "interrupted"
    return "completed"


def _write_results(line: Line, script: Script, outcome: str, out: Path, *, tracks: bool) -> None:
    sent = line.sent()
    placed = [place(track.arrivals, track.frames, sent.size) for track in line.heard]
    write_wav(out / "call.wav", [sent, mix(placed, sent.size)])
    if tracks:
        write_wav(out / "tracks.wav", [sent, *placed])
    document: dict[str, Any] = {
        "script": script.name,
        "outcome": outcome,
        "rate_hz": RATE_HZ,
        "samples": int(sent.size),
        "heard": [track.identity for track in line.heard],
        "worst_lateness_ms": round(line.worst_lateness_ms, 1),
    }
    temporary = out / "caller.json.part"
    temporary.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    temporary.replace(out / "caller.json")


async def _call(
    script: Script, url: str, token: str, sounds: list[Samples], options: argparse.Namespace
) -> int:
    out: Path = options.out
    log = EventLog(out / "events.jsonl")
    line = Line(log, _samples(script.limit_ms))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, line.ended.set)
    try:
        await line.open(url, token, CONNECT_LIMIT_SECONDS)
    except (rtc.ConnectError, TimeoutError) as error:
        log.close()
        raise SoundError(f"the caller cannot join the room at {url}: {error or 'no answer'}") from None
    try:
        outcome = await _converse(line, log, script, sounds)
    finally:
        await line.close()
    _write_results(line, script, outcome, out, tracks=options.tracks)
    log.write("ended", outcome=outcome)
    log.close()
    return 0 if outcome == "completed" else 3


async def _run(options: argparse.Namespace) -> int:
    script = load_script(options.script)
    token = os.environ.get(options.token_env, "")
    if not token:
        raise ScriptError(f"the environment variable {options.token_env} holds no token")
    options.out.mkdir(parents=True, exist_ok=True)
    program: Sequence[str] = shlex.split(options.speech_program) or DEFAULT_SPEECH_PROGRAM
    sounds = await prepare(script, program, options.script.parent)
    return await _call(script, options.url, token, sounds, options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rspp.tooling.caller", description="Make one scripted call."
    )
    parser.add_argument("--url", required=True, help="WebSocket address of the LiveKit server")
    parser.add_argument(
        "--token-env", default="RSPP_CALLER_TOKEN", help="variable that holds the access token"
    )
    parser.add_argument("--script", type=Path, required=True, help="JSON file of steps")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for call.wav, events.jsonl, caller.json"
    )
    parser.add_argument(
        "--tracks", action="store_true", help="also write tracks.wav, a channel per voice heard"
    )
    parser.add_argument("--speech-program", default="", help="command that speaks into a WAV file")
    try:
        return asyncio.run(_run(parser.parse_args(arguments)))
    except (ScriptError, SoundError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
