"""The clock that authority is counted in."""

from __future__ import annotations

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class BootClock:
    """Time since the host booted, suspended time included.

    A lease must run out while a machine sleeps, so the monotonic clock, which stands still then, will not
    do; the wall clock, which anybody may set, will not either. Where the system has no boot-time clock
    (it is Linux's), the monotonic one takes its place.
    """

    def __init__(self) -> None:
        self._clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now_us(self) -> int:
        """Microseconds since boot."""
        return time.clock_gettime_ns(self._clock) // 1000

    def wall_clock_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


def read_boot_id() -> str:
    """Return what names this boot of this host; boot-time stamps of another one mean nothing here."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        # Without it, a restart of the host is seen only by its boot-time clock having begun anew.
        return "unknown-boot"
