"""Whether something waits, told without a clock: a busy machine is slow, and slowness is no wait."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_wait() -> Iterator[None]:
    """Fail when this thread waits for another one, however short.

    Conditions are what events, queues and futures of the standard library wait with. Other threads may
    wait as they please, and so may this one for a lock, which nobody here holds as he waits.
    """
    own, wait, sleep = threading.get_ident(), threading.Condition.wait, time.sleep

    def watched_wait(condition: threading.Condition, timeout: float | None = None) -> bool:
        assert threading.get_ident() != own, "waited for another thread"
        return wait(condition, timeout)

    def watched_sleep(seconds: float) -> None:
        assert threading.get_ident() != own, "slept"
        sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Condition, "wait", watched_wait)
        patch.setattr(time, "sleep", watched_sleep)
        yield
