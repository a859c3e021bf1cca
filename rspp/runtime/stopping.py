"""SIGTERM and SIGINT: the first lets the running turn finish, the second ends the call now."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """What the signals have asked for so far.

    Attributes:
        asked: set by the first signal.
        forced: set by the second.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()
        self.signal = 0

    @property
    def exit_status(self) -> int:
        """128 plus the number of the first signal, as shells expect; 0 without one."""
        return 128 + self.signal if self.signal else 0

    def take(self, number: int) -> None:
        """Note a signal."""
        if self.asked.is_set():
            self.forced.set()
        else:
            self.signal = number
            self.asked.set()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Listen to the signals for the length of a ``with`` block."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.take, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
