"""Child processes that never outlive their parent.

Each child leads a process group of its own, so that stopping it stops its children too, and asks the
kernel for SIGKILL when its parent dies, so that a killed tool leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import IO

_PR_SET_PDEATHSIG = 1
LINE_LIMIT_BYTES = 1 << 20
"""Longest line that a child may print; a longer one is an error of the child."""


def dies_with_parent() -> Callable[[], None]:
    """Return a function for ``preexec_fn`` that ties a child's life to its parent's.

    The C library is loaded here, before the fork, because the child may only make simple calls.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


class ChildProcess:
    """A program run for the length of an ``async with``.

    Args:
        argv: program and arguments.
        environment: variables added to this process's own.
        log_path: file that takes standard error (and standard output unless ``read_output``).
        read_output: keep standard output for ``lines``.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        log_path: Path,
        read_output: bool = False,
    ) -> None:
        self._argv = list(argv)
        self._environment = {**os.environ, **(environment or {})}
        self._read_output = read_output
        self._log: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.log_path = log_path

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the program.

        Raises:
            OSError: the program cannot be started.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = self.log_path.open("ab")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._read_output else self._log,
                stderr=self._log,
                start_new_session=True,
                preexec_fn=dies_with_parent(),
                limit=LINE_LIMIT_BYTES,
            )
        except BaseException:
            self._log.close()
            self._log = None
            raise

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, none while it runs."""
        return None if self._process is None else self._process.returncode

    async def lines(self) -> AsyncIterator[str]:
        """Yield standard output line by line until it closes."""
        if self._process is None or self._process.stdout is None:
            return
        while line := await self._process.stdout.readline():
            yield line.decode("utf-8", "replace").rstrip("\n")

    async def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait for the end and return the exit status.

        Raises:
            TimeoutError: it still runs after ``timeout_seconds``.
        """
        if self._process is None:
            raise RuntimeError("the process was not started")
        async with asyncio.timeout(timeout_seconds):
            return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; a group that is gone is no error."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def stop(self, grace_seconds: float = 3.0) -> None:
        """Ask the group to end, then kill it; safe to call twice."""
        if self._process is not None and self._process.returncode is None:
            self.send_signal(signal.SIGTERM)
            try:
                await self.wait(grace_seconds)
            except TimeoutError:
                self.send_signal(signal.SIGKILL)
                await self._process.wait()
        if self._process is not None:
            # A group outlives its leader; what it left behind goes now.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            transport = getattr(self._process, "_transport", None)
            if transport is not None:
                transport.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def log_tail(self, lines: int = 3) -> str:
        """Return the last non-empty lines of the log, joined by `` | ``."""
        try:
            text = self.log_path.read_text("utf-8", "replace")
        except OSError:
            return ""
        kept = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(kept[-lines:])[-600:]
