"""Small recordings to look at and to break."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rspp.evidence.reader import Recording, open_recording
from rspp.evidence.writer import EvidenceWriter, SessionRecorder

if TYPE_CHECKING:
    from pathlib import Path

HEADER: dict[str, Any] = {
    "pipeline": "fake@v1",
    "pipeline_version": "fake@v1",
    "created_us": 1_000,
    "created_wall_ms": 1_700_000_000_000,
    "kernel": "0.1.0",
    "settings": {"policy": {}, "plan": {}, "providers": {}, "evidence_capacity": 4096},
    "spec": {"name": "fake"},
}


def marks(first: int, count: int) -> list[bytes]:
    """Records of the shell with rising numbers."""
    return [
        msgspec.json.encode(
            {"kind": "marker", "turn": 1, "name": "n", "value": number, "at_us": 1_000 + number}
        )
        for number in range(first, first + count)
    ]


def values(recording: Recording) -> list[int]:
    """The numbers of the marks that are there."""
    return [record["value"] for record in recording.records() if record["kind"] == "marker"]


def folder_of(root: Path) -> Path:
    """Where ``begin`` records."""
    return root / "default" / "call"


def begin(writer: EvidenceWriter, epoch: int = 1) -> SessionRecorder:
    """Begin a stint of the session ``call``."""
    recorder = writer.open("call", epoch=epoch, resumed=epoch > 1)
    recorder.begin(dict(HEADER))
    return recorder


def record(root: Path, *flushes: list[bytes], epoch: int = 1) -> Path:
    """Record one stint with a block for each flush; returns the session's folder."""
    with EvidenceWriter(root, fsync="never") as writer:
        recorder = begin(writer, epoch)
        for flush in flushes:
            recorder.write(b"", flush)
        assert recorder.close()
    return folder_of(root)


def opened(root: Path) -> Recording:
    """Open the session ``call``."""
    return open_recording(folder_of(root))
