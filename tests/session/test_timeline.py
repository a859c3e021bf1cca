"""Timelines of JSON lines: whole ones are read, and damage is named with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rspp.contracts.errors import EvidenceError
from rspp.evidence.timeline import read_timeline

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "content",
    [
        b'{"kind":"mar\n{"kind":"marker","value":1}\n',
        b"[1]\n",
        b"\n{}\n",
        b"\xff\xfe\n{}\n",
        b"[" * 90_000 + b"\n",
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(b"{}\n" + content)
    with pytest.raises(EvidenceError, match=r"timeline\.jsonl:2: not a timeline record"):
        list(read_timeline(path))


def test_a_missing_file_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="No such file"):
        list(read_timeline(tmp_path / "none.jsonl"))
