"""``rspp-runtime join`` as a process: calls, signals, standby, and bad input."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rspp.evidence.reader import open_recording
from rspp.tooling.processes import ChildProcess
from tests.integration.rooms import Peer
from tests.integration.test_worker_serve import pipeline_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rspp.tooling.livekit_server import LiveKitServer

COMMAND = [sys.executable, "-m", "rspp.runtime.main"]
NOWHERE = {
    "LIVEKIT_URL": "ws://127.0.0.1:9",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "hidden-secret" * 3,
}
LIMIT_SECONDS = 20.0


def joining(environment: Mapping[str, str], folder: Path, *extra: str, name: str = "join") -> ChildProcess:
    """A runtime for the room ``room`` that is not started yet."""
    arguments = ["join", "--room", "room", "--pipeline", str(pipeline_file(folder))]
    arguments += ["--state", str(folder / "state"), "--evidence", str(folder / "evidence"), *extra]
    return ChildProcess([*COMMAND, *arguments], environment=environment, log_path=folder / f"{name}.log")


async def refusal(process: ChildProcess) -> str:
    """What a runtime says that refuses to start."""
    async with process:
        assert await process.wait(LIMIT_SECONDS) == 2
    text = process.log_path.read_text("utf-8")
    assert "Traceback" not in text
    assert "hidden-secret" not in text
    assert re.search(r"^error: .+\nhint: .+", text, re.MULTILINE)
    return text


@pytest.mark.conformance("M-01", "M-02")
@pytest.mark.room
async def test_a_call_from_the_greeting_to_the_end(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with joining(livekit_server.environment, tmp_path) as process:
        peer = await Peer(livekit_server, "room").join()
        await peer.hear("agent-room-e1")
        await peer.leave()
        assert await process.wait(LIMIT_SECONDS) == 0
    recording = open_recording(tmp_path / "evidence" / "default" / "room")
    assert next(recording.records())["kind"] == "header"
    assert recording.complete


@pytest.mark.room
async def test_sigterm_lets_the_turn_finish(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with joining(livekit_server.environment, tmp_path) as process:
        peer = await Peer(livekit_server, "room").join()
        await peer.hear("agent-room-e1")
        os.kill(process.pid, signal.SIGTERM)
        # The greeting goes on for seconds after the signal.
        await peer.hear("agent-room-e1", 50)
        assert await process.wait(LIMIT_SECONDS) == 128 + signal.SIGTERM
        await peer.until(lambda: "agent-room-e1" in peer.left)
        await peer.leave()


@pytest.mark.room
async def test_a_second_signal_ends_the_call_now(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with joining(livekit_server.environment, tmp_path) as process:
        peer = await Peer(livekit_server, "room").join()
        await peer.hear("agent-room-e1")
        os.kill(process.pid, signal.SIGINT)
        await peer.hear("agent-room-e1")
        os.kill(process.pid, signal.SIGINT)
        assert await process.wait(4) == 128 + signal.SIGINT
        await peer.leave()


@pytest.mark.conformance("F8", "AE-003")
@pytest.mark.room
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_standby_takes_over(
    livekit_server: LiveKitServer, tmp_path: Path, number: signal.Signals
) -> None:
    async with joining(livekit_server.environment, tmp_path) as holder:
        peer = await Peer(livekit_server, "room").join()
        await peer.hear("agent-room-e1")
        standby = joining(livekit_server.environment, tmp_path, "--wait-for-lease", name="standby")
        async with standby:
            await logged(standby, "standing by")
            os.kill(holder.pid, number)
            await peer.hear("agent-room-e2", 1)
            assert '"resumed": true' in standby.log_path.read_text("utf-8")
            if number == signal.SIGSTOP:
                # The old one continues, finds its deadline passed, and is never heard again.
                heard = peer.loud["agent-room-e1"]
                os.kill(holder.pid, signal.SIGCONT)
                assert await holder.wait(LIMIT_SECONDS) == 2
                await peer.hear("agent-room-e2")
                assert peer.loud["agent-room-e1"] == heard
            await peer.leave()
            assert await standby.wait(LIMIT_SECONDS) == 0


@pytest.mark.room
async def test_a_held_session_is_told(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with joining(livekit_server.environment, tmp_path) as holder:
        peer = await Peer(livekit_server, "room").join()
        await peer.hear("agent-room-e1")
        text = await refusal(joining(livekit_server.environment, tmp_path, name="second"))
        assert "session room is held by" in text
        assert "--wait-for-lease" in text
        assert holder.returncode is None
        await peer.leave()


@pytest.mark.room
async def test_a_deleted_room_is_told(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    from livekit import api

    from rspp.transports.livekit_access import server_api
    from tests.integration.rooms import access_to

    async with joining(livekit_server.environment, tmp_path) as process:
        peer = await Peer(livekit_server, "room").join()
        await peer.hear("agent-room-e1")
        client = server_api(access_to(livekit_server))
        await client.room.delete_room(api.DeleteRoomRequest(room="room"))
        await client.aclose()
        assert await process.wait(LIMIT_SECONDS) == 2
        await peer.leave()
    assert "error: room 'room': the room was deleted" in process.log_path.read_text("utf-8")


@pytest.mark.room
async def test_a_wrong_secret_is_told(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    environment = {**livekit_server.environment, "LIVEKIT_API_SECRET": "hidden-secret" * 3}
    assert "LIVEKIT_API_SECRET does not belong" in await refusal(joining(environment, tmp_path))


async def test_an_unreachable_server_is_told(tmp_path: Path) -> None:
    text = await refusal(joining(NOWHERE, tmp_path))
    assert "LiveKit server ws://127.0.0.1:9 cannot be reached" in text


async def logged(process: ChildProcess, words: str) -> None:
    """Wait until a process has logged something."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            if words in process.log_path.read_text("utf-8"):
                return
            await asyncio.sleep(0.05)


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder without a server in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT_")}
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["join"], "--room"),
        (["join", "--room", "r", "--pipeline", "missing.yaml"], "missing.yaml: no such pipeline file"),
        (["join", "--room", "r", "--pipeline", "pipeline.yaml"], "LIVEKIT_URL"),
        (["join", "--room", "r", "--pipeline", "pipeline.yaml", "--session", "../x"], "--session '../x'"),
        (
            ["join", "--room", "r", "--pipeline", "pipeline.yaml", "--pipeline-version", "other@v9"],
            'unknown version ("other@v9")',
        ),
        (["serve", "--pipeline", "pipeline.yaml", "--pipeline-version", "v1"], 'unknown version ("v1")'),
        (["serve", "--pipeline", "pipeline.yaml", "--port", "99999"], "99999"),
        (["serve", "--pipeline", "pipeline.yaml", "--max-sessions", "0"], "--max-sessions"),
        (["dance"], "dance"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    pipeline_file(tmp_path)
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipeline.yaml"]


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert "join" in done.stdout
    assert "serve" in done.stdout


def test_the_env_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    pipeline_file(tmp_path)
    lines = ["LIVEKIT_URL=nonsense", "LIVEKIT_API_KEY=key", "LIVEKIT_API_SECRET=hidden-secret"]
    (tmp_path / ".env").write_text("\n".join(lines), "utf-8")
    arguments = ["join", "--room", "r", "--pipeline", "pipeline.yaml"]
    assert "LIVEKIT_URL 'nonsense' is not an address" in run(tmp_path, *arguments).stderr
    done = run(tmp_path, *arguments, LIVEKIT_URL="ftp://elsewhere")
    assert "LIVEKIT_URL 'ftp://elsewhere' is not an address" in done.stderr
    assert "hidden-secret" not in done.stderr


def test_the_version_is_answered_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    done = run(tmp_path, "--version", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert re.fullmatch(r"rspp-runtime \d+\.\d+\.\d+\S*\n", done.stdout)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "rspp.terminal" in imported
    assert not {"asyncio", "cyclopts", "livekit", "msgspec", "numpy", "rich", "structlog"} & imported
