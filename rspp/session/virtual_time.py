"""An event loop whose time jumps to the next timer instead of waiting for it.

Nothing in a call over files depends on the wall clock: audio, timers and lease deadlines all follow
the loop's time. Blocking provider work runs inline (see ``InlineOffloader``), so the same files give
the same call, sample by sample, many times faster than real time.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

T = TypeVar("T")

START_S = 1_000.0
"""Virtual time at the start, seconds: away from zero, so that no difference turns negative."""


class _JumpingSelector(selectors.BaseSelector):
    """Polls real descriptors without waiting and moves virtual time by the wait it was asked for."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self.now_s = START_S

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        return self._inner.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._inner.select(None)
        ready = self._inner.select(0)
        if not ready and timeout > 0:
            self.now_s += timeout
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual time, seconds."""
        return self._jumping.now_s


class VirtualClock:
    """The clock of a virtual-time session.

    Args:
        wall_clock_ms: wall clock that the start of virtual time stands for, ms since the epoch; fixed,
            so that recordings of equal runs are equal.
    """

    def __init__(self, wall_clock_ms: int = 1_700_000_000_000) -> None:
        self._wall_clock_ms = wall_clock_ms

    def now_us(self) -> int:
        """Virtual microseconds."""
        return round(asyncio.get_running_loop().time() * 1e6)

    def wall_clock_ms(self) -> int:
        """Wall clock that belongs to the virtual time, ms since the epoch."""
        return self._wall_clock_ms + self.now_us() // 1000 - round(START_S * 1e3)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
