"""Finding, building and running a LiveKit server."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import stat
import sys
from pathlib import Path

import pytest

from rspp.contracts.errors import ConfigurationError, TransportError
from rspp.tooling import livekit_server
from rspp.tooling.livekit_server import LiveKitServer, cached_server_path, ensure_server, find_server
from rspp.tooling.processes import ChildProcess
from rspp.tooling.room_call import echo_process

END_LIMIT_MS = 10_000


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any server: empty PATH and cache."""
    monkeypatch.delenv("RSPP_LIVEKIT_SERVER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_without_server_and_without_go_it_says_what_to_install(bare: Path) -> None:
    assert find_server() is None
    with pytest.raises(ConfigurationError) as caught:
        ensure_server(print)
    assert "Go" in caught.value.message
    assert "livekit-server v1.13.5" in caught.value.hint


def test_the_named_server_wins_over_path_and_cache(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = program(cached_server_path(), "exit 0")
    assert find_server() == cached
    on_path = program(bare / "livekit-server", "exit 0")
    assert find_server() == on_path
    named = program(bare.parent / "own", "exit 0")
    monkeypatch.setenv("RSPP_LIVEKIT_SERVER", str(named))
    assert find_server() == named


def test_a_named_server_that_cannot_be_run_is_an_error(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSPP_LIVEKIT_SERVER", str(bare / "absent"))
    with pytest.raises(ConfigurationError, match="absent"):
        find_server()


def test_a_build_lands_in_the_cache_and_is_used_again(bare: Path) -> None:
    program(
        bare / "go",
        'echo "#!/bin/sh" > "$GOBIN/server"; /bin/chmod +x "$GOBIN/server"; echo "$@" > "$GOBIN/../asked"',
    )
    said: list[str] = []
    built = ensure_server(said.append)
    assert built == cached_server_path()
    assert (built.parent / "asked").read_text().strip() == (
        "install github.com/livekit/livekit-server/cmd/server@v1.13.5"
    )
    assert any("building" in line for line in said)
    (bare / "go").unlink()
    assert ensure_server(said.append) == built


def test_a_failed_build_leaves_nothing_in_the_cache(bare: Path) -> None:
    program(bare / "go", 'echo half > "$GOBIN/server"; echo "no space left" >&2; exit 1')
    with pytest.raises(ConfigurationError, match="no space left"):
        ensure_server(print)
    assert [path.name for path in cached_server_path().parent.iterdir()] == ["build.lock"]


async def test_a_server_that_ends_at_once_is_reported_with_its_last_words(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = program(bare / "livekit-server", 'echo "cannot bind" >&2; exit 3')
    monkeypatch.setattr(livekit_server, "START_ATTEMPTS", 1)
    with pytest.raises(TransportError, match=r"status 3: cannot bind"):
        async with LiveKitServer(broken, log_path=bare / "server.log"):
            raise AssertionError("it cannot be running")


@pytest.mark.room
async def test_a_server_runs_for_the_length_of_its_block_and_leaves_no_process(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    async with LiveKitServer(log_path=tmp_path / "server.log") as second:
        assert second.url != livekit_server.url
        assert second.api_secret != livekit_server.api_secret
        assert second.environment["LIVEKIT_URL"] == second.url
        assert second._child is not None
        pid = second._child.pid
        assert second.api_secret not in arguments_of(pid)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


@pytest.mark.room
async def test_an_echo_without_a_valid_token_says_so(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    child = echo_process(livekit_server, "room", tmp_path)
    child._environment["RSPP_ECHO_TOKEN"] = "no-token"
    async with child:
        assert await child.wait(20) == 2
    assert "cannot join the room" in child.log_tail()
    assert "Traceback" not in child.log_path.read_text()


# ------------------------------------------------------------------------------------ processes
def arguments_of(pid: int) -> str:
    """What every user of the machine can see of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text()


def ended(pid: int) -> bool:
    """Whether a process ends within the limit."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(END_LIMIT_MS))
    finally:
        os.close(handle)


async def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = f"""
import asyncio, pathlib, sys
from rspp.tooling.processes import ChildProcess
async def main():
    async with ChildProcess(["/bin/sleep", "600"], log_path=pathlib.Path({str(tmp_path / "log")!r})) as child:
        print(child.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert ended(pid)


async def test_a_stopped_child_takes_its_own_children_with_it(tmp_path: Path) -> None:
    argv = ["/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait"]
    child = ChildProcess(argv, log_path=tmp_path / "log", read_output=True)
    await child.start()
    grandchild = int(await anext(child.lines()))
    await child.stop(grace_seconds=0.1)
    assert child.returncode == -signal.SIGKILL
    assert ended(grandchild)
    await child.stop()


async def test_a_program_that_does_not_exist_is_an_error_without_an_open_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await ChildProcess([str(tmp_path / "absent")], log_path=tmp_path / "log").start()
