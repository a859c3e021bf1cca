"""``python -m rspp.tooling.golden``: makes golden recordings under ``replay/recordings``.

``record ID…`` or ``record --all`` holds the calls behind the ids (``rspp.tooling.golden_calls``) and keeps
what was recorded. A recording that is there is never touched without ``--replace``: old recordings show that
a new kernel still decides as the old one did, and one that was made anew shows nothing. ``list`` names them.
``keep ID PATH`` keeps the recording of a call that was held elsewhere, such as in a real room.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence.reader import open_recording
from rspp.evidence.writer import EvidenceWriter
from rspp.replay.engine import recompute
from rspp.replay.metadata import METADATA
from rspp.terminal import run_command
from rspp.tooling.fault_call import FaultCall
from rspp.tooling.golden_calls import CALLS
from rspp.tooling.regression import RECORDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rspp.authority.store import Lease
    from rspp.session.recording import Recorder
    from rspp.tooling.golden_calls import GoldenCall, Make

ROOT = METADATA.parent / RECORDINGS
AGAIN = "again"
"""Folder of a second recording, within that of the first."""
TENANT = "golden"
MAX_BYTES = 16_000
"""Most bytes of one recording: they are kept for ever and travel with every checkout."""


def record(fixture_id: str, root: Path = ROOT, *, replace: bool = False) -> int:
    """Hold the calls behind one id and keep their recordings.

    Args:
        fixture_id: one of ``CALLS``.
        root: folder of all recordings.
        replace: whether a recording that exists may go.

    Returns:
        The size of what was kept, bytes.

    Raises:
        ConfigurationError: the id is unknown, or its recording exists.
        EvidenceError: the call broke a rule, its recording is not whole, does not replay to the identical
            trace, or is too large.
    """
    golden = CALLS.get(fixture_id)
    if golden is None:
        raise ConfigurationError(
            f"golden recording {fixture_id!r} is unknown",
            hint="python -m rspp.tooling.golden list names them",
        )
    target = root / fixture_id
    if target.exists() and not replace:
        raise ConfigurationError(
            f"{target} exists, and golden recordings are kept for ever",
            hint="add --replace if it must really go",
        )
    with tempfile.TemporaryDirectory(prefix="rspp-golden-") as folder:
        made = Path(folder) / fixture_id
        for name, make in _runs(golden):
            _hold(fixture_id, make, made / name, Path(folder) / f"evidence-{name or 'first'}")
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, target)
    return size_of(target)


def keep(fixture_id: str, source: Path, root: Path = ROOT) -> int:
    """Keep the recording of a call that was held elsewhere.

    Args:
        fixture_id: its new id.
        source: the session's folder.
        root: folder of all recordings.

    Returns:
        The size of what was kept, bytes.

    Raises:
        ConfigurationError: the id is taken.
        EvidenceError: there is no recording, it does not replay to the identical trace, or is too large.
    """
    target = root / fixture_id
    if target.exists() or fixture_id in CALLS:
        raise ConfigurationError(f"golden recording {fixture_id!r} exists", hint="give it an id of its own")
    _copy_segments(fixture_id, source, target)
    return size_of(target)


def size_of(folder: Path) -> int:
    """Return the bytes of every file of a recording."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _runs(golden: GoldenCall) -> list[tuple[str, Make]]:
    return [("", golden.make)] if golden.again is None else [("", golden.make), (AGAIN, golden.again)]


def _hold(fixture_id: str, make: Make, target: Path, evidence: Path) -> None:
    """Hold one call and copy its segments to ``target``."""
    held = make(fixture_id)
    calls = [held] if isinstance(held, FaultCall) else [held.first, held.second]
    with EvidenceWriter(evidence, TENANT, fsync="never") as writer:
        for call in calls:
            call.recorders = _opener(writer, fixture_id)
        held.hold()
        if not writer.close(30.0):
            raise EvidenceError(f"{fixture_id}: the recording is not whole", hint="try again")
    problems = [problem for call in calls for problem in call.problems()]
    if problems:
        raise EvidenceError(f"{fixture_id}: {'; '.join(problems)}", hint="the call broke a rule")
    _copy_segments(fixture_id, evidence / TENANT / fixture_id, target)


def _copy_segments(fixture_id: str, source: Path, target: Path) -> None:
    """Copy segments that replay identically; payloads and keys stay where they are."""
    paths = sorted(source.glob("*.segment"))
    if not paths:
        raise EvidenceError(f"{source}: holds no segment", hint="name the folder of a session")
    target.mkdir(parents=True)
    try:
        for path in paths:
            shutil.copyfile(path, target / path.name)
        _check(fixture_id, target)
    except BaseException:
        shutil.rmtree(target)
        raise


def _opener(writer: EvidenceWriter, session_id: str) -> Callable[[Lease, bool], Recorder]:
    return lambda lease, resumed: writer.open(session_id, epoch=lease.epoch, resumed=resumed)


def _check(fixture_id: str, folder: Path) -> None:
    result = recompute(open_recording(folder))
    if not result.identical:
        first = next(iter(result.divergences), None)
        told = f": {first.class_} {first.scope}: {first.message}" if first else ""
        raise EvidenceError(
            f"{fixture_id}: the recording does not replay to the identical trace{told}",
            hint="something that changes the kernel is not recorded",
        )
    if size_of(folder) > MAX_BYTES:
        raise EvidenceError(
            f"{fixture_id}: the recording has {size_of(folder)} bytes, more than {MAX_BYTES}",
            hint="make the call shorter",
        )


def _record_all(ids: Sequence[str], root: Path, *, replace: bool) -> int:
    for fixture_id in ids:
        print(f"{fixture_id:40} {record(fixture_id, root, replace=replace):6} bytes")
    return 0


def _list(root: Path) -> int:
    for fixture_id, golden in CALLS.items():
        there = "recorded" if (root / fixture_id).is_dir() else "missing "
        print(f"{there}  {fixture_id:40} {', '.join(golden.shows):8} {golden.about}")
    return 0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="golden", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record", help="hold calls and keep their recordings")
    recorder.add_argument("ids", nargs="*")
    recorder.add_argument("--all", action="store_true", help="every one that is not there yet")
    recorder.add_argument("--replace", action="store_true", help="throw an older recording away")
    keeper = commands.add_parser("keep", help="keep the recording of a call that was held elsewhere")
    keeper.add_argument("id")
    keeper.add_argument("source", type=Path)
    commands.add_parser("list", help="name them")
    for command in commands.choices.values():
        command.add_argument("--root", type=Path, default=ROOT, help="folder of the recordings")
    options = parser.parse_args()
    if options.command == "list":
        return _list(options.root)
    if options.command == "keep":
        print(f"{options.id:40} {keep(options.id, options.source, options.root):6} bytes")
        return 0
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    ids = list(options.ids)
    if options.all:
        ids += [name for name in CALLS if options.replace or not (options.root / name).exists()]
    if not ids and not options.all:
        raise ConfigurationError("no recording is named", hint="name ids, or --all")
    return _record_all(list(dict.fromkeys(ids)), options.root, replace=options.replace)


if __name__ == "__main__":
    sys.exit(run_command(main))
