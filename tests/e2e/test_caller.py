"""The caller's script, and the caller as a program."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from rspp.evidence.following import Follower
from rspp.evidence.writer import EvidenceWriter
from rspp.tooling import caller
from rspp.tooling.call_scripts import backchannels_script, demo_script, interruptions_script, tones_script
from rspp.tooling.caller.__main__ import main
from rspp.tooling.caller.recording import write_wav
from rspp.tooling.caller.script import ScriptError, load_script, parse_script
from rspp.tooling.caller.sound import RATE_HZ, SoundError, prepare, read_wav, tone
from rspp.tooling.live_view import LiveView
from rspp.tooling.measure import round_trips, stretches
from rspp.tooling.room_call import echo_process, make_call
from tests.e2e.fake_call import timeline

if TYPE_CHECKING:
    from rspp.tooling.livekit_server import LiveKitServer


def test_the_caller_imports_nothing_of_the_runtime() -> None:
    for path in Path(str(caller.__path__[0])).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert not name.startswith("rspp") or name.startswith("rspp.tooling.caller"), (path, name)


@pytest.mark.parametrize(
    "document", [demo_script(), interruptions_script(20), backchannels_script(4), tones_script(20)]
)
def test_the_scripts_of_the_tools_are_scripts(document: dict[str, Any]) -> None:
    script = parse_script(document)
    assert script.steps[-1].do == "hang_up"


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "list of steps"),
        ({"steps": []}, "0 of them"),
        ({"steps": [{"do": "sing"}]}, "sing"),
        ({"steps": [{"do": "say"}]}, "either text or wav"),
        ({"steps": [{"do": "say", "text": "a", "wav": "b.wav"}]}, "either text or wav"),
        ({"steps": [{"do": "pause"}]}, "0; 1 to 60000"),
        ({"steps": [{"do": "click", "level": 2}]}, "level"),
        ({"steps": [{"do": "click", "volume": 2}]}, "volume"),
        ({"steps": [7]}, "not an object"),
        ({"steps": [{"do": "click"}], "limit_ms": 0}, "limit_ms"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(document: Any, fault: str) -> None:
    with pytest.raises(ScriptError, match=fault):
        parse_script(document)


def test_a_script_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"absent\.json"):
        load_script(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ScriptError, match="not JSON"):
        load_script(tmp_path / "broken.json")


def test_bad_input_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RSPP_CALLER_TOKEN", raising=False)
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"steps": [{"do": "click"}]}))
    arguments = ["--url", "ws://127.0.0.1:1", "--script", str(script), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert (
        capsys.readouterr().err.strip() == "error: the environment variable RSPP_CALLER_TOKEN holds no token"
    )


async def test_speech_that_cannot_be_had_names_the_program(tmp_path: Path) -> None:
    script = parse_script({"steps": [{"do": "say", "text": "hello"}]})
    with pytest.raises(SoundError, match="speech program failed"):
        await prepare(script, ["/bin/false"], tmp_path)


async def test_a_wav_of_another_rate_is_said_at_the_right_pitch(tmp_path: Path) -> None:
    write_wav(tmp_path / "own.wav", [tone(400, 500, 0.5), tone(400, 500, 0.5)])
    script = parse_script({"steps": [{"do": "say", "wav": "own.wav"}, {"do": "cough", "ms": 100}]})
    said, cough = await prepare(script, [], tmp_path)
    assert said.size == pytest.approx(RATE_HZ // 2, abs=RATE_HZ // 50)
    assert cough.size == RATE_HZ // 10
    assert int(np.abs(read_wav(tmp_path / "own.wav")).max()) == pytest.approx(16383, abs=20)


# ------------------------------------------------------------------------------------ in a room
@pytest.mark.room
@pytest.mark.timeout(90)
async def test_a_tone_comes_back_from_a_bare_echo(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    seen: list[str] = []
    async with echo_process(livekit_server, "echo", tmp_path):
        call = await make_call(
            livekit_server,
            "echo",
            tones_script(4),
            tmp_path / "out",
            on_event=lambda event: seen.append(event["event"]),
            tracks=True,
        )
    assert call.outcome == "completed"
    assert seen[-1] == "ended"
    recording = call.recording
    trips = round_trips(stretches(recording.sent, RATE_HZ), stretches(recording.heard, RATE_HZ))
    assert len(trips) == 4
    assert all(30 <= trip <= 400 for trip in trips)
    assert json.loads((tmp_path / "out" / "caller.json").read_text())["heard"] == ["echo"]
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"call.wav", "tracks.wav", "caller.json", "caller.log", "events.jsonl", "script.json"}


@pytest.mark.room
async def test_a_caller_that_waits_in_vain_says_where_and_still_leaves_its_recording(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    steps = [
        {"do": "wait_agent_speaking", "ms": 100, "timeout_ms": 300, "name": "greeting"},
        {"do": "hang_up"},
    ]
    call = await make_call(livekit_server, "alone", {"steps": steps}, tmp_path)
    assert call.outcome == "step 0 (wait_agent_speaking greeting) timed out"
    assert call.recording.length_ms >= 290


# ----------------------------------------------------------------------------------- live view
def test_without_a_terminal_the_view_is_one_plain_line_for_each_thing() -> None:
    page = io.StringIO()
    with LiveView(Console(file=page), "a call") as view:
        view.on_event({"event": "step_begin", "do": "say", "text": "[bold]hello"})
        for record in timeline():
            view.on_record(record)
    lines = page.getvalue().splitlines()
    assert "[bold]hello" in lines[0]
    assert any("voice held" in line for line in lines)
    assert any("interrupted" in line for line in lines)
    assert "\x1b" not in page.getvalue()


def test_on_a_terminal_the_view_shows_states_pressure_and_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=100)
    with LiveView(console, "a call") as view:
        view.on_event({"event": "agent_audible", "at": 0})
        for record in timeline():
            view.on_record(record)
        console.print(view._draw())
    shown = page.getvalue()
    for words in (
        "turn 4",
        "heard",
        "pressure speech",
        "40 ms, 0 shed",
        "end of speech → turn open",
        "last 190 ms",
    ):
        assert words in shown


def test_a_recording_is_followed_while_its_last_block_is_still_being_written(tmp_path: Path) -> None:
    folder = tmp_path / "default" / "call-1"
    view = LiveView(Console(quiet=True), "a call")
    follower = Follower(folder)
    view.catch_up(follower)
    with EvidenceWriter(tmp_path) as writer, writer.open("call-1", epoch=1) as recorder:
        recorder.begin({"pipeline": "p@v1", "created_us": 0, "created_wall_ms": 0})
        recorder.write(b"", [b'{"kind":"transcript","party":"caller","turn":1,"words":1,"at_us":5}'])
    path = folder / "000001-e000001.segment"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    view.catch_up(follower)
    assert view.story.records == 0
    path.write_bytes(whole[:-1])
    view.catch_up(follower)
    assert view.story.session_id == "call-1"
    assert view.story.records == 2
    path.write_bytes(whole)
    view.catch_up(follower)
    assert view.story.records == 2
