"""Whether the segments in a session's folder are its own, all of them, and in their order.

Checksums and links tell what is wrong within a file. Files that were removed, copied or exchanged show in
what their headers say of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp.evidence.damage import MEANING, Damage
from rspp.evidence.segment_file import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rspp.evidence.reader import Segment, Stint

INDEX_FILE = "index.sqlite"
"""Name of the index beside the tenants' folders."""


def strangers(folder: str, segments: Sequence[Segment]) -> dict[str, Damage]:
    """Return the segments that do not belong into a folder, by name, with what is wrong with them.

    They are those of another session or tenant, and those that their stint has had before. A segment without
    a header that can be read is taken for one of the session.

    Args:
        folder: name of the folder.
        segments: what lies in it, in the order of the names.
    """
    told = [segment for segment in segments if segment.header]
    own = next((one for one in told if one.header.get("session_id") == folder), told[0] if told else None)
    found: dict[str, Damage] = {}
    latest: dict[str, int] = {}
    for segment in told:
        header = segment.header
        if own is not None and _owner(segment) != _owner(own):
            tenant, session = _owner(segment)
            found[segment.path.name] = _replaced(
                segment, f"it is of session {session[:100]} of tenant {tenant[:100]}"
            )
            continue
        if "stint" not in header or "segment" not in header:
            continue
        stint, number = header["stint"], header["segment"]
        if stint in latest and number <= latest[stint]:
            message = f"its stint has had segment {number} before: it is a copy, or moved"
            found[segment.path.name] = _replaced(segment, message)
            continue
        latest[stint] = number
    return found


def misplaced(folder: Path, segments: Sequence[Segment]) -> Damage | None:
    """Return what is wrong where a folder in a folder of evidence holds another session than its name says.

    Where neither the tenant's name fits nor an index tells that this is a folder of evidence, a recording may
    have any name: copies have.

    Args:
        folder: ``EVIDENCE/TENANT/SESSION``.
        segments: of its recording.
    """
    first = next((one for one in segments if one.header), None)
    if first is None:
        return None
    tenant, session = _owner(first)
    place = folder.resolve()
    kept = tenant == place.parent.name or (place.parent.parent / INDEX_FILE).is_file()
    if not kept or (tenant, session) == (place.parent.name, place.name):
        return None
    return _replaced(first, f"this is session {session[:100]} of tenant {tenant[:100]}, in another's folder")


def check_order(
    segments: Sequence[Segment], present: Sequence[Segment], stints: Mapping[str, Stint]
) -> list[Damage]:
    """Find segments that are missing or were exchanged for others.

    Args:
        segments: the session's own, in the order of their numbers.
        present: all that lie in the folder.
        stints: to which the session's own belong, by id.
    """
    damage: list[Damage] = []
    by_name = {segment.path.name: segment for segment in present}
    numbers = {_number(segment.path.name) for segment in present}

    def missing(name: str, message: str) -> None:
        damage.append(Damage("segment_missing", name, 0, 0, message))

    expected = 1
    for segment in present:
        number = _number(segment.path.name) or expected
        if number > expected:
            last = f" to {number - 1:06d}" if number > expected + 1 else ""
            missing(f"{expected:06d}{last}", MEANING["segment_missing"])
        expected = number + 1
    written = 0
    for segment in segments:
        number = _number(segment.path.name)
        previous = segment.header.get("previous")
        if isinstance(previous, dict):
            before = by_name.get(previous["file"])
            follows = _number(previous["file"])
            if before is not None and follows < number:
                if bytes.fromhex(previous["link"]) not in before.links and not before.damage:
                    told = f"({segment.path.name} names its block {previous['blocks']})"
                    message = f"{MEANING['segment_replaced']} {told}"
                    damage.append(
                        Damage("segment_replaced", before.path.name, before.size, len(before.blocks), message)
                    )
            elif before is not None or follows in numbers or follows >= number:
                named = previous["file"][:100]
                damage.append(_replaced(segment, f"it follows {named}, which is not the file before it"))
        elif segment.header and 0 < written < number:
            damage.append(_replaced(segment, "it begins a session, but stands behind other segments"))
        if not written and any(sound for *_, sound in segment.blocks):
            written = number
    for stint in stints.values():
        if stint.segments and stint.segments[-1].sealed == "rotated":
            missing(
                f"after {stint.segments[-1].path.name}", "the segment that follows was removed or never made"
            )
    return damage


def _owner(segment: Segment) -> tuple[str, str]:
    return str(segment.header.get("tenant", "")), str(segment.header.get("session_id", ""))


def _number(name: str) -> int:
    match = NAME.match(name)
    return int(match[1]) if match else 0


def _replaced(segment: Segment, message: str) -> Damage:
    return Damage("segment_replaced", segment.path.name, 0, 0, message)
