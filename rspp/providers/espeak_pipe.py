"""The runtime's end of the pipes to the speech process."""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from rspp.contracts.errors import ProviderError

PROGRAM: Final = Path(__file__).with_name("espeak_process.py")
HANG_S: Final = 3.0
"""A process that says nothing for this long in the middle of a request is killed and replaced."""
MOST_MESSAGE_BYTES: Final = 1 << 20

Message = tuple[bytes, bytes]
"""Kind and payload."""


class SpeechProcess:
    """One running ``espeak_process.py``; ``read`` blocks and is called by one thread at a time.

    It is started from the caller's thread, which must outlive it: the kernel ends the process together
    with the thread that started it.
    """

    def __init__(self) -> None:
        keep = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "SYSTEMROOT")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), "--serve", "--parent", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={name: os.environ[name] for name in keep if name in os.environ},
        )
        self._guard = threading.Lock()
        self._reading = False
        self._closed = False

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def write(self, document: dict[str, object]) -> None:
        """Send one request; small enough for the pipe never to fill.

        Raises:
            ProviderError: the process is gone.
        """
        payload = json.dumps(document).encode()
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(b"S" + struct.pack("<I", len(payload)) + payload)
        except (OSError, ValueError) as error:
            raise ProviderError("espeak: the speech process has ended", retryable=True) from error

    def read(self) -> Message:
        """Return the next message.

        Raises:
            ProviderError: the process ended, or said nothing for ``HANG_S``.
        """
        with self._guard:
            if self._closed:
                raise ProviderError("espeak: the speech process was stopped", retryable=True)
            self._reading = True
        try:
            deadline = time.monotonic() + HANG_S
            kind_and_size = self._exactly(5, deadline)
            size = struct.unpack("<I", kind_and_size[1:])[0]
            if size > MOST_MESSAGE_BYTES:
                raise ProviderError(f"espeak: the speech process sent a message of {size} bytes")
            return kind_and_size[:1], self._exactly(size, deadline)
        finally:
            self._end_read()

    def _end_read(self) -> None:
        with self._guard:
            self._reading = False
            if self._closed:
                self._close_pipes()

    def _exactly(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        data = bytearray()
        while len(data) < size:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise ProviderError(
                    f"espeak: the speech process said nothing for {HANG_S:g} s",
                    outcome="timeout",
                    reason="provider_timeout",
                    retryable=True,
                )
            if not (piece := os.read(descriptor, size - len(data))):
                raise ProviderError("espeak: the speech process has ended", retryable=True)
            data += piece
        return bytes(data)

    def close(self) -> None:
        """Kill the process and free its pipes; safe to call twice."""
        self._process.kill()
        self._process.wait()
        with self._guard:
            self._closed = True
            if not self._reading:
                self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
