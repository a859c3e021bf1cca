"""The demo's call without a LiveKit server: the same script, pipeline and kernel, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.writer import EvidenceWriter
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import recording_level
from rspp.runtime.loopback_call import loopback_call
from rspp.session.virtual_time import run_virtual
from rspp.tooling.call_judge import check_demo, figures_of, judge
from rspp.tooling.call_scripts import demo_script
from rspp.tooling.caller.recording import write_wav
from rspp.tooling.caller.script import parse_script
from rspp.tooling.caller.sound import prepare
from rspp.tooling.demo import ROOM, Outcome, demo_pipeline, let_read, recording_folder, spoken_records
from rspp.tooling.loopback_caller import ScriptedLoopbackCaller
from rspp.tooling.room_call import CallResult
from rspp.tooling.story import read_story

if TYPE_CHECKING:
    from pathlib import Path

SPEECH_PROGRAM = (sys.executable, "-m", "rspp.providers.espeak_process")


def demo_over_loopback(folder: Path) -> Outcome:
    """Hold the scripted call over the loopback transport, much faster than real time.

    Args:
        folder: takes the sound and the recording of the call.
    """
    # The runtime is in this process here, and its log lines would break into what the demo shows.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    script = parse_script(demo_script())
    sounds = asyncio.run(prepare(script, SPEECH_PROGRAM, folder))
    caller = ScriptedLoopbackCaller(script, sounds)
    root = folder / "evidence"
    let_read(root)
    spec = load_pipeline(demo_pipeline(folder))
    payloads = PayloadStore(root, DEFAULT_TENANT)
    with (
        closing(caller),
        EvidenceWriter(root, payloads=payloads) as writer,
        writer.open(ROOM, epoch=1, level=recording_level(spec)) as recorder,
    ):
        session = run_virtual(loopback_call(caller, spec, session_id=ROOM, recorder=recorder))
        recording = caller.recording
    records = spoken_records(recording_folder(root, ROOM))
    # Virtual time has no wall clock of its own; the call's first record says where it began.
    started = next((int(r["started_wall_ms"]) for r in records if r.get("kind") == "header"), 0)
    write_wav(folder / "call.wav", [recording.sent, recording.heard])
    events = ({"event": "started", "wall_ms": started or time.time_ns() // 1_000_000},)
    # Where the agent's goodbye ends the call, nothing is left for the caller to do but hang up.
    outcome = "completed" if session.reason == "hang_up" else caller.outcome or session.reason
    call = CallResult(outcome, tuple(caller.steps), events, recording, folder)
    story = read_story(records)
    figures = figures_of(judge(call), story, 0.0, "no room:", needed=1)
    return Outcome(
        call, story, figures, check_demo(call, story), 0.0, "the loopback transport, in virtual time"
    )
