"""Find, build and run a real LiveKit server on loopback.

``python -m rspp.tooling.livekit_server --ensure`` prints the path of a server program and builds the
pinned release when there is none. ``LiveKitServer`` runs one for the length of an ``async with``.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rspp.contracts.errors import ConfigurationError, TransportError
from rspp.terminal import run_command
from rspp.tooling.presentation import run_async
from rspp.tooling.processes import ChildProcess, dies_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

VERSION = "v1.13.5"
MODULE = "github.com/livekit/livekit-server/cmd/server"
PATH_VARIABLE = "RSPP_LIVEKIT_SERVER"
BUILD_LIMIT_SECONDS = 1200.0
"""Longest build; about 90 s on two cores once the modules are there."""
READY_LIMIT_SECONDS = 20.0
START_ATTEMPTS = 3
"""A port that was free a moment ago may be taken by the time the server binds it."""

INSTALL_HINT = (
    f"install livekit-server {VERSION} and put it on PATH, or point {PATH_VARIABLE} at it, "
    "or install Go 1.24 or later so that it can be built"
)


def cached_server_path() -> Path:
    """Return where the built server is kept, outside the work tree."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rspp" / f"livekit-server-{VERSION}"


def find_server() -> Path | None:
    """Return a server program from the environment, PATH or the cache, or none.

    Raises:
        ConfigurationError: the variable names something that cannot be run.
    """
    named = os.environ.get(PATH_VARIABLE)
    if named:
        path = Path(named)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise ConfigurationError(
                f"{PATH_VARIABLE} names {named!r}, which is no program that can be run",
                hint=f"unset {PATH_VARIABLE} or correct the path",
            )
        return path
    on_path = shutil.which("livekit-server")
    if on_path:
        return Path(on_path)
    cached = cached_server_path()
    return cached if cached.is_file() and os.access(cached, os.X_OK) else None


def ensure_server(progress: Callable[[str], None]) -> Path:
    """Return a server program; build the pinned release when none is found.

    Args:
        progress: takes one line at a time while the build runs.

    Raises:
        ConfigurationError: none is found and none can be built; the hint says what to install.
    """
    found = find_server()
    if found is not None:
        return found
    go = shutil.which("go")
    if go is None:
        raise ConfigurationError("no LiveKit server was found and Go is not installed", hint=INSTALL_HINT)
    target = cached_server_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "build.lock").open("w") as lock:
        # Two tools started together must not build twice.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_file():
            return target
        _build(go, target, progress)
    return target


def _build(go: str, target: Path, progress: Callable[[str], None]) -> None:
    began = time.monotonic()
    progress(f"building LiveKit server {VERSION} with Go (about 90 s on two cores, once)")
    with tempfile.TemporaryDirectory(prefix="livekit-build-", dir=target.parent) as folder:
        log_path = Path(folder) / "build.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [go, "install", f"{MODULE}@{VERSION}"],
                env={**os.environ, "GOBIN": folder, "GOFLAGS": ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dies_with_parent(),
            )
            try:
                _watch_build(process, log_path, began, progress)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if process.returncode != 0:
            tail = log_path.read_text("utf-8", "replace").strip().splitlines()
            raise ConfigurationError(
                f"building LiveKit server {VERSION} failed: {tail[-1] if tail else 'no output'}",
                hint=INSTALL_HINT,
            )
        # Renaming within one file system is atomic: a half-built server is never found in the cache.
        (Path(folder) / "server").replace(target)
    progress(f"LiveKit server built in {time.monotonic() - began:.0f} s: {target}")


def _watch_build(
    process: subprocess.Popen[bytes], log_path: Path, began: float, progress: Callable[[str], None]
) -> None:
    while True:
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - began
            modules = log_path.read_bytes().count(b"go: downloading")
            progress(f"  {elapsed:4.0f} s  {modules} modules fetched, compiling")
            if elapsed > BUILD_LIMIT_SECONDS:
                raise ConfigurationError(
                    f"building LiveKit server {VERSION} took longer than {BUILD_LIMIT_SECONDS:.0f} s",
                    hint=INSTALL_HINT,
                ) from None
        else:
            return


def free_port(kind: socket.SocketKind) -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LiveKitServer:
    """A LiveKit server on free loopback ports with keys made for this run.

    Args:
        program: path of the server; none finds one, without building.
        log_path: file that takes what the server prints.

    Attributes:
        url: WebSocket address.
        api_key: key of this run.
        api_secret: secret of this run.
    """

    def __init__(self, program: Path | None = None, *, log_path: Path) -> None:
        self._program = program
        self._log_path = log_path
        self._child: ChildProcess | None = None
        self.api_key = f"API{secrets.token_hex(6)}"
        self.api_secret = secrets.token_urlsafe(36)
        self.url = ""

    @property
    def environment(self) -> dict[str, str]:
        """The usual variables that clients read."""
        return {
            "LIVEKIT_URL": self.url,
            "LIVEKIT_API_KEY": self.api_key,
            "LIVEKIT_API_SECRET": self.api_secret,
        }

    async def __aenter__(self) -> Self:
        program = self._program or find_server()
        if program is None:
            raise ConfigurationError("no LiveKit server was found", hint=INSTALL_HINT)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                await self._start(program)
            except TransportError:
                await self._stop()
                if attempt == START_ATTEMPTS:
                    raise
            except BaseException:
                await self._stop()
                raise
            else:
                break
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _start(self, program: Path) -> None:
        port = free_port(socket.SOCK_STREAM)
        configuration = {
            "port": port,
            "bind_addresses": ["127.0.0.1"],
            "rtc": {
                "node_ip": "127.0.0.1",
                "enable_loopback_candidate": True,
                "use_external_ip": False,
                "interfaces": {"includes": ["lo"]},
                "udp_port": free_port(socket.SOCK_DGRAM),
                "tcp_port": free_port(socket.SOCK_STREAM),
            },
            "keys": {self.api_key: self.api_secret},
            "logging": {"level": "warn", "json": False},
            "room": {"auto_create": True, "empty_timeout": 60},
        }
        # The configuration goes by the environment: arguments, and with them the secret, show in `ps`.
        self._child = ChildProcess(
            [str(program)],
            environment={"LIVEKIT_CONFIG": json.dumps(configuration)},
            log_path=self._log_path,
        )
        try:
            await self._child.start()
        except OSError as error:
            raise ConfigurationError(
                f"the LiveKit server {program} cannot be started: {error.strerror}", hint=INSTALL_HINT
            ) from None
        await self._wait_until_ready(port)
        self.url = f"ws://127.0.0.1:{port}"

    async def _wait_until_ready(self, port: int) -> None:
        assert self._child is not None
        deadline = time.monotonic() + READY_LIMIT_SECONDS
        while time.monotonic() < deadline:
            if self._child.returncode is not None:
                status, tail = self._child.returncode, self._child.log_tail()
                raise TransportError(
                    f"the LiveKit server ended with status {status}: {tail}",
                    hint=f"see {self._log_path}",
                )
            if await _answers(port):
                return
            await asyncio.sleep(0.05)
        raise TransportError(
            f"the LiveKit server did not answer on port {port} within {READY_LIMIT_SECONDS:.0f} s",
            hint=f"see {self._log_path}",
        )

    async def _stop(self) -> None:
        if self._child is not None:
            # It has no calls of its own to save, and asked politely it waits for its participants.
            await self._child.stop(grace_seconds=0.5)
            self._child = None


async def _answers(port: int) -> bool:
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _run_until_interrupted(program: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="livekit-server-") as folder:
        async with LiveKitServer(program, log_path=Path(folder) / "server.log") as server:
            for name, value in server.environment.items():
                print(f"export {name}={value}", flush=True)
            print("# running until Ctrl-C", file=sys.stderr, flush=True)
            await asyncio.Event().wait()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rspp.tooling.livekit_server", description="Find, build or run a LiveKit server."
    )
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--ensure", action="store_true", help="print a server's path; build it if needed")
    choice.add_argument("--run", action="store_true", help="run a server on loopback until Ctrl-C")
    options = parser.parse_args(arguments)

    def work() -> int:
        program = ensure_server(lambda line: print(line, file=sys.stderr, flush=True))
        if options.run:
            return run_async(_run_until_interrupted(program))
        print(program)
        return 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
