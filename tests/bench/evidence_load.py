"""``python -m tests.bench.evidence_load``: whether Stage B keeps up with 200 sessions, and what they cost.

The flushes of one real call over the loopback are given to 200 sessions, all at once and as fast as the
writer takes them. The figures are of this machine, with its disk; exit status 1 when a gate fails.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from rspp._kernel import verify_segment
from rspp.evidence.reader import open_recording
from rspp.evidence.segment import RECORDS, read_records
from rspp.evidence.segment_file import segment_files
from rspp.evidence.writer import EvidenceWriter
from rspp.tooling.demo import ROOM, recording_folder
from rspp.tooling.demo_loopback import demo_over_loopback

SESSIONS = 200
CORE_SHARE_LIMIT = 0.01
MINUTE_LIMIT_BYTES = 20_000
VERIFY_LIMIT_MB_S = 200.0
WAITING_LIMIT = 64
"""Flushes that wait at most: the load goes on as soon as the writer took some."""


def flushes_of(folder: Path) -> tuple[dict[str, object], list[tuple[bytes, list[bytes]]], float, int]:
    """Return header, flushes, length in seconds and bytes of a recorded call."""
    import msgspec

    stint = open_recording(folder).stints[0]
    segment = stint.segments[0]
    data = segment.path.read_bytes()
    flushes = []
    for _, kind, start, end, _ in segment.blocks:
        if kind == RECORDS:
            kernel, shell = read_records(data[start:end])
            flushes.append((kernel, [msgspec.json.encode(record) for record in shell]))
    records = list(stint.records())
    return stint.header, flushes, (records[-1]["at_us"] - records[0]["started_us"]) / 1e6, segment.size


def load(
    root: Path, header: dict[str, object], flushes: list[tuple[bytes, list[bytes]]]
) -> tuple[float, float]:
    """Record ``SESSIONS`` calls at once; returns seconds of the clock and of the processor."""
    started, used = time.perf_counter(), _processor_s()
    with EvidenceWriter(root) as writer:
        recorders = [writer.open(f"call-{number}", epoch=1) for number in range(SESSIONS)]
        for recorder in recorders:
            recorder.begin(dict(header))
        for kernel, records in flushes:
            for recorder in recorders:
                recorder.write(kernel, list(records))
            while recorders[-1].waiting > WAITING_LIMIT:
                time.sleep(0.01)
        if not all(recorder.close(timeout=120) for recorder in recorders):
            raise SystemExit("records were lost")
    return time.perf_counter() - started, _processor_s() - used


def verified(root: Path) -> tuple[float, float]:
    """Verify everything; returns megabytes and megabytes a second, reading of files left out."""
    contents = [
        path.read_bytes() for folder in (root / "default").iterdir() for path in segment_files(folder)
    ]
    size = sum(map(len, contents)) / 1e6
    started = time.perf_counter()
    damage = [found for data in contents for found in verify_segment(data).damage]
    took = time.perf_counter() - started
    if damage:
        raise SystemExit(f"damaged: {damage[0]}")
    return size, size / took


def main() -> int:
    """Print the figures; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="rspp-load-", dir=Path.cwd()) as name:
        folder = Path(name)
        demo_over_loopback(folder)
        header, flushes, length_s, size = flushes_of(recording_folder(folder / "evidence", ROOM))
        minute = size / length_s * 60
        took, used = load(folder / "load", header, flushes)
        share = used / length_s / SESSIONS
        megabytes, speed = verified(folder / "load")
    print(f"one call of {length_s:.0f} s: {size} bytes, {minute:.0f} a minute (limit {MINUTE_LIMIT_BYTES})")
    print(
        f"{SESSIONS} such calls: written in {took:.1f} s, {length_s / took:.1f} times as fast as they last; "
        f"{100 * share:.3f} % of a core each (limit {100 * CORE_SHARE_LIMIT:.0f} %)"
    )
    print(f"verified {megabytes:.1f} MB at {speed:.0f} MB/s (limit {VERIFY_LIMIT_MB_S:.0f})")
    held = (
        minute <= MINUTE_LIMIT_BYTES
        and took < length_s
        and share <= CORE_SHARE_LIMIT
        and speed >= VERIFY_LIMIT_MB_S
    )
    print("every limit held" if held else "a limit was missed")
    return 0 if held else 1


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
