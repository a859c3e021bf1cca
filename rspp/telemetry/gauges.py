"""What is read when somebody asks for the metrics: sessions, depths and the share of work shed."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from rspp.telemetry.vocabulary import MAX_TENANTS, BoundedNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rspp.telemetry.context import SessionContext

WINDOW_S = 60
MAX_WATCHED = 32

Labelled = tuple[float, dict[str, str]]


class Gauges:
    """Levels of one process; every method may be called from any thread.

    Args:
        now: monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.tenant = BoundedNames(MAX_TENANTS)
        self._now = now
        self._lock = threading.Lock()
        self._active: dict[SessionContext, str] = {}
        self._queued: dict[SessionContext, dict[str, float]] = {}
        self._decided: deque[tuple[int, int, int]] = deque(maxlen=WINDOW_S)
        self._watched: dict[tuple[str, str], Callable[[], float]] = {}
        self._snapshot: Callable[[], tuple[int, float]] | None = None

    def begin(self, context: SessionContext) -> None:
        """A session runs here from now on."""
        with self._lock:
            self._active[context] = self.tenant(context.tenant)

    def end(self, context: SessionContext) -> None:
        """A session has ended."""
        with self._lock:
            self._active.pop(context, None)
            self._queued.pop(context, None)

    def active(self, context: SessionContext) -> bool:
        """Whether the session runs here."""
        with self._lock:
            return context in self._active

    def queued(self, context: SessionContext, edge: str, queued_ms: float) -> None:
        """Note what waits on an edge of a session, milliseconds."""
        with self._lock:
            if context in self._active:
                self._queued.setdefault(context, {})[edge] = queued_ms

    def decided(self, *, admitted: bool) -> None:
        """Note an admission decision."""
        second = int(self._now())
        with self._lock:
            shed = 0 if admitted else 1
            if self._decided and self._decided[-1][0] == second:
                _, total, earlier = self._decided[-1]
                self._decided[-1] = (second, total + 1, earlier + shed)
            else:
                self._decided.append((second, 1, shed))

    def watch(self, queue: str, unit: str, read: Callable[[], float]) -> None:
        """Show the depth of a queue; a queue of the same name is replaced.

        Args:
            queue: name of the queue, one of few.
            unit: what is counted, such as ``batches``.
            read: returns the depth at once, from any thread.

        Raises:
            ValueError: more queues than can be watched.
        """
        with self._lock:
            if (queue, unit) not in self._watched and len(self._watched) >= MAX_WATCHED:
                raise ValueError(f"more than {MAX_WATCHED} queues are watched; {queue!r} is one too many")
            self._watched[queue, unit] = read

    def watch_snapshot(self, read: Callable[[], tuple[int, float]]) -> None:
        """Show the control plane's snapshot in force.

        Args:
            read: returns its version and its age in milliseconds at once, from any thread.
        """
        with self._lock:
            self._snapshot = read

    def snapshot_version(self) -> Iterable[Labelled]:
        """Return the version of the snapshot in force; nothing without a control plane."""
        with self._lock:
            read = self._snapshot
        return [] if read is None else [(read()[0], {})]

    def snapshot_age_ms(self) -> Iterable[Labelled]:
        """Return the age of the snapshot in force; nothing without a control plane."""
        with self._lock:
            read = self._snapshot
        return [] if read is None else [(read()[1], {})]

    def active_sessions(self) -> Iterable[Labelled]:
        """Return the number of sessions of each tenant."""
        with self._lock:
            counts = dict.fromkeys(self._active.values(), 0)
            for tenant in self._active.values():
                counts[tenant] += 1
        return [(count, {"tenant": tenant}) for tenant, count in counts.items()] or [
            (0, {"tenant": "default"})
        ]

    def queue_depth(self) -> Iterable[Labelled]:
        """Return the depth of each queue; of edges the fullest."""
        with self._lock:
            fullest: dict[str, float] = {}
            for edges in self._queued.values():
                for edge, queued_ms in edges.items():
                    fullest[edge] = max(fullest.get(edge, 0), queued_ms)
            watched = list(self._watched.items())
        found = [(depth, {"queue": edge, "unit": "ms"}) for edge, depth in fullest.items()]
        return [*found, *((read(), {"queue": queue, "unit": unit}) for (queue, unit), read in watched)]

    def shed_rate(self) -> Iterable[Labelled]:
        """Return the share of the last minute's admission decisions that did not admit."""
        oldest = int(self._now()) - WINDOW_S
        with self._lock:
            recent = [(total, shed) for second, total, shed in self._decided if second > oldest]
        total = sum(total for total, _ in recent)
        return [(sum(shed for _, shed in recent) / total if total else 0.0, {})]
