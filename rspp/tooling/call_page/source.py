"""Reads a recording into the model that page, terminal view and exports share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp.evidence.artifact_file import SUFFIX
from rspp.evidence.reader import open_recording
from rspp.tooling.call_page.builder import build_call
from rspp.tooling.call_page.model import Damage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rspp.evidence.reader import Recording
    from rspp.tooling.call_page.model import CallModel


def load_call(path: Path) -> CallModel:
    """Read a recording from its folder, one of its segments, or a timeline as JSON lines.

    Raises:
        EvidenceError: there is nothing to read.
    """
    return model_of(open_recording(path))


def model_of(
    recording: Recording, records: Iterable[dict[str, Any]] | None = None, *, most: int | None = None
) -> CallModel:
    """Return the model of an open recording.

    Args:
        recording: the recording.
        records: its records with the words that the reader may see; none takes them without words.
        most: evidence records that the model keeps at most; none keeps all.
    """
    model = build_call(
        recording.records() if records is None else records,
        damage=[
            Damage(found.code, f"{found.file}, byte {found.offset}, block {found.block}", found.message)
            for found in recording.damage
        ],
        sealed=all(stint.ended for stint in recording.stints) if recording.stints else None,
        most=most,
    )
    model.words_kept = records is None and bool(recording.stints) and _has_texts(recording.path)
    model.tenant = model.tenant or recording.tenant
    model.session_id = model.session_id or recording.session_id
    levels = [str(stint.header.get("level", "")) for stint in recording.stints]
    model.level = model.level or next((level for level in reversed(levels) if level), "")
    return model


def _has_texts(place: Path) -> bool:
    folder = place if place.is_dir() else place.parent
    return any((folder / "payloads").glob(f"*.text_raw{SUFFIX}"))
