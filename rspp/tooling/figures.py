"""Measured figures beside their gates: what is printed, written to figures.json and drawn.

A figure is a list of values measured from the caller's recording. A gate bounds one statistic of it.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rspp.tooling.measure import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

Statistic = Literal["median", "p95", "maximum"]


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on one statistic of a figure.

    Attributes:
        statistic: which one.
        limit: highest value that passes, in the figure's unit.
        source: how the limit came about, such as ``floor 90 + 85``.
    """

    statistic: Statistic
    limit: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class Rival:
    """What another framework was measured at, in the same kind of room with the same providers.

    Attributes:
        name: framework, version and settings.
        median: its median; none when it was not measured.
        low: lowest value.
        high: highest value.
        note: what is not a number.
    """

    name: str
    median: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(slots=True)
class Figure:
    """One measured figure.

    Attributes:
        key: stable name in figures.json.
        title: for people.
        values: measured at the caller, in the order of the call.
        gates: bounds.
        runtime: the runtime's own figure beside it, if it has one.
        runtime_title: what that own figure counts.
        rivals: what others reach.
        needed: least number of values; fewer fail.
        missed: attempts that gave no value, each with its reason; any of them fails the figure.
        unit: of the values.
    """

    key: str
    title: str
    values: list[float] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    runtime: list[float] = field(default_factory=list)
    runtime_title: str = ""
    rivals: list[Rival] = field(default_factory=list)
    needed: int = 1
    missed: list[str] = field(default_factory=list)
    unit: str = "ms"

    def statistic(self, name: Statistic) -> float | None:
        """Return one statistic of the values; none without values."""
        summary = summarise(self.values)
        return None if summary is None else float(getattr(summary, name))

    def failures(self) -> list[str]:
        """Say what is wrong with this figure; empty when every gate holds."""
        wrong = [f"{self.title}: {reason}" for reason in self.missed]
        if len(self.values) < self.needed:
            wrong.append(f"{self.title}: {len(self.values)} values, {self.needed} are needed")
        for gate in self.gates:
            value = self.statistic(gate.statistic)
            if value is not None and value > gate.limit:
                bound = f"over {gate.limit:.0f} {self.unit}"
                wrong.append(
                    f"{self.title}: {gate.statistic} {value:.0f} {self.unit}, {bound} ({gate.source})"
                )
        return wrong

    @property
    def passed(self) -> bool:
        """Whether every gate holds and nothing is missing."""
        return not self.failures()

    def document(self) -> dict[str, Any]:
        """Return what figures.json holds of it."""
        summary = summarise(self.values)
        own = summarise(self.runtime)
        return {
            "key": self.key,
            "title": self.title,
            "unit": self.unit,
            "count": len(self.values),
            "needed": self.needed,
            "median": None if summary is None else round(summary.median, 1),
            "p95": None if summary is None else round(summary.p95, 1),
            "minimum": None if summary is None else round(summary.minimum, 1),
            "maximum": None if summary is None else round(summary.maximum, 1),
            "values": [round(value, 1) for value in self.values],
            "gates": [
                {"statistic": gate.statistic, "limit": round(gate.limit, 1), "source": gate.source}
                for gate in self.gates
            ],
            "runtime": None
            if own is None
            else {
                "title": self.runtime_title,
                "median": round(own.median, 3),
                "p95": round(own.p95, 3),
                "maximum": round(own.maximum, 3),
                "values": [round(value, 3) for value in self.runtime],
            },
            "rivals": [
                {"name": r.name, "median": r.median, "low": r.low, "high": r.high, "note": r.note}
                for r in self.rivals
            ],
            "missed": self.missed,
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must have happened, beside the figures.

    Attributes:
        title: what was expected, for people.
        passed: whether it happened.
        detail: what was found.
    """

    title: str
    passed: bool
    detail: str = ""

    def document(self) -> dict[str, Any]:
        """Return what figures.json holds of it."""
        return {"title": self.title, "passed": self.passed, "detail": self.detail}


def machine() -> dict[str, Any]:
    """Describe the machine, the date and the versions that a report was made with."""
    import os

    from rspp import _kernel
    from rspp.tooling.livekit_server import VERSION as SERVER_VERSION

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "rspp": _kernel.VERSION,
        "build": _kernel.BUILD_PROFILE,
        "livekit_sdk": _version("livekit"),
        "livekit_server": SERVER_VERSION,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _memory_gib() -> float | None:
    try:
        text = Path("/proc/meminfo").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"^MemTotal:\s+(\d+) kB", text)
    return round(int(found.group(1)) / 1_048_576, 1) if found else None


def _verdict(figure: Figure) -> str:
    if not figure.passed:
        return "[red]FAIL[/]"
    return "[green]pass[/]" if figure.gates else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def print_figures(
    console: Console,
    figures: Sequence[Figure],
    *,
    rivals: bool,
    title: str = "Measured from the caller's recording, ms",
) -> None:
    """Print a table: statistics from the caller's recording, gates, the runtime's own figures."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("figure", overflow="fold")
    for name in ("n", "median", "p95", "max"):
        table.add_column(name, justify="right")
    table.add_column("gate")
    table.add_column("runtime's own")
    table.add_column("")
    for figure in figures:
        gates = "\n".join(
            f"{'max' if gate.statistic == 'maximum' else gate.statistic} ≤ {gate.limit:.0f}"
            for gate in figure.gates
        )
        own = summarise(figure.runtime)
        table.add_row(
            figure.title,
            str(len(figure.values)),
            _number(figure.statistic("median")),
            _number(figure.statistic("p95")),
            _number(figure.statistic("maximum")),
            gates or "-",
            "" if own is None else f"{own.median:.0f} [dim]{figure.runtime_title}[/]",
            _verdict(figure),
        )
        for rival in figure.rivals if rivals else ():
            spread = "" if rival.low is None else f"{_number(rival.low)}-{_number(rival.high)}"
            table.add_row(
                f"  [dim]{rival.name}[/]", "", f"[dim]{_number(rival.median)}[/]", "", "",
                f"[dim]{rival.note or spread}[/]", "", "",
            )  # fmt: skip
    console.print(table)


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print what had to happen and whether it did."""
    for check in checks:
        mark = "[green]✓[/]" if check.passed else "[red]✗[/]"
        console.print(f" {mark} {check.title}" + (f" [dim]{check.detail}[/]" if check.detail else ""))
