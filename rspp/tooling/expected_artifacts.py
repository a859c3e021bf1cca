"""``python -m rspp.tooling.expected_artifacts quick|full``: fails when a report of a run is missing.

Needs nothing but Python, so that it can speak even where the set-up failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

QUICK = (
    "contracts/contracts-report.json",
    "contracts/contracts-report.html",
    "replay/smoke-report.json",
    "replay/smoke-report.md",
    "replay/runtime-baseline.json",
    "ops/slo-gates-report.json",
    "ops/slo-gates-report.md",
)
FULL = (
    *QUICK,
    "replay/regression-report.json",
    "replay/regression-report.md",
    "replay/regression-report.html",
    "release/release-manifest.json",
    "release/release-manifest.md",
)
FIXTURES = "replay/fixtures"
"""Holds JSON and Markdown for each golden recording after a full run."""


def missing(gate: str, artifacts: Path, recordings: Path) -> list[str]:
    """Return the reports that a run of ``gate`` should have left and did not, or left empty.

    Args:
        gate: ``quick`` or ``full``.
        artifacts: folder of the reports.
        recordings: folder of the golden recordings.
    """
    names = list(FULL if gate == "full" else QUICK)
    if gate == "full":
        recorded = sorted(path.name for path in recordings.iterdir() if path.is_dir())
        names += [f"{FIXTURES}/{name}{suffix}" for name in recorded for suffix in (".json", ".md")]
    return [name for name in names if not _is_there(artifacts / name)]


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def main(arguments: list[str]) -> int:
    """Name what is missing; returns 1 when something is."""
    if arguments not in (["quick"], ["full"]):
        print("error: name the gate\nhint: quick or full", file=sys.stderr)
        return 2
    gone = missing(arguments[0], Path("artifacts"), Path("replay/recordings"))
    for name in gone:
        print(f"error: artifacts/{name} is missing", file=sys.stderr)
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
