"""A call under a control plane, heard again by the whole pipeline: its snapshots come as they came then."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp.controlplane.refreshing import control_plane_running
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.reader import open_recording
from rspp.evidence.writer import EvidenceWriter
from rspp.pipeline.spec import PipelineSpec
from rspp.replay.turn_starts import recorded_turn_starts
from rspp.runtime.loopback_call import loopback_call
from rspp.session.offload import InlineOffloader
from rspp.session.virtual_time import VirtualClock, run_virtual
from rspp.tooling.demo import let_read
from rspp.tooling.fault_call import ASK, PIPELINE
from rspp.tooling.fault_snapshots import FaultSnapshots, marked_stale
from rspp.tooling.faults import FaultCaller

if TYPE_CHECKING:
    from pathlib import Path

HEARD = PIPELINE | {
    "recording": {"level": "L2", "approval": "a test of known words", "allow": ["text_raw", "audio_raw"]}
}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A call whose first snapshot turns stale and then current again."""
    spec = msgspec.convert(HEARD, PipelineSpec)
    snapshots = FaultSnapshots(HEARD)
    steps = (
        *ASK,
        {"do": "pause", "ms": 1_200},
        {"do": "pause", "name": "fault", "ms": 3_000},
        {"do": "hang_up"},
    )
    caller = FaultCaller(steps)
    caller.on_step("question", lambda: snapshots.publish(marked_stale))
    caller.on_fault(snapshots.publish)

    async def hold() -> None:
        opened = control_plane_running(
            snapshots.settings(), VirtualClock(), InlineOffloader(), lambda _: None
        )
        async with opened as plane:
            await loopback_call(caller, spec, session_id="call", recorder=recorder, turn_starts=plane)

    let_read(tmp_path)
    payloads = PayloadStore(tmp_path, "default")
    with (
        closing(caller),
        EvidenceWriter(tmp_path, payloads=payloads) as writer,
        writer.open("call", epoch=1, level="L2") as recorder,
    ):
        run_virtual(hold())
    return tmp_path / "default" / "call"


def test_the_whole_pipeline_hears_the_call_under_the_snapshots_of_then(recorded: Path) -> None:
    command = ["replay", str(recorded), "--mode", "re_simulate_nodes", "--json"]
    command += ["--role", "operator", "--purpose", "eval"]
    done = subprocess.run(
        [sys.executable, "-c", "from rspp.cli.main import main; main()", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What the call logs as it is held again is no result.
    assert "snapshot_invalid_or_missing" in done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["differing_turns"] == 0
    assert len(answer["stints"][0]["turns"]) == 1


def test_a_recording_without_a_control_plane_has_none_to_tell(recorded: Path) -> None:
    stint = open_recording(recorded).stints[0]
    header = msgspec.json.decode(msgspec.json.encode(stint.header))
    assert recorded_turn_starts(header, stint.records()) is not None
    del header["settings"]["policy"]["needs_bundle"]
    assert recorded_turn_starts(header, stint.records()) is None
