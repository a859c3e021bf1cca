"""Permission to read the records of a session where its tenant has access rules.

Whatever lies below a folder with an ``access.json`` is shown on request only, however it is named: through
links, from within, by one of its segments. Recordings elsewhere are files like others.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rspp.contracts.errors import EvidenceError
from rspp.evidence.access import ALL_SESSIONS, AccessRequest, authorise, load_policy
from rspp.evidence.audit_http import audit_sink
from rspp.evidence.reader import open_recording
from rspp.evidence.segment_file import segment_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.evidence.reader import Recording

POLICY_FILE = "access.json"
"""A tenant's access rules, in its folder."""
SOUND = "audio_raw"
_CLOSED = "the audit log cannot be written, so nothing may be read; check where it goes"
_INCOMPLETE = "this evidence has access rules: give --role and --purpose, such as oncall and incident"


class Asker(NamedTuple):
    """Who asks.

    Attributes:
        principal: who it is.
        role: in which role.
        purpose: what for.
        tenant: of which tenant; the one whose evidence it is when empty.
    """

    principal: str
    role: str
    purpose: str
    tenant: str = ""


class Rules(NamedTuple):
    """Access rules that hold for a place: the tenant's folder, and the session that it is of."""

    folder: Path
    session: str


def rules_over(place: Path) -> list[Rules]:
    """Return the access rules that hold for a recording; none when it may be read without asking.

    Those of the folder that was named come first, then those of where it and its segments really lie.
    """
    found: dict[Rules, None] = {}
    for way in dict.fromkeys(_ways(place)):
        for folder in (way, *way.parents):
            # A link that leads nowhere closes too: the rules are there and cannot be read.
            if os.path.lexists(folder / POLICY_FILE):
                parts = way.relative_to(folder).parts
                found[Rules(folder.resolve(), parts[0] if parts else "")] = None
                break
    return list(found)


def of_place(asker: Asker, place: Path) -> Asker:
    """Return who asks, as one of the tenant under whose rules the recording was named if of none."""
    rules = [] if asker.tenant else rules_over(place)
    return _of(asker, rules[0].folder.name) if rules else asker


def permit(
    place: Path,
    asker: Asker,
    *,
    fidelity: str = "L0",
    classes: tuple[str, ...] = ("metadata",),
    answered: Path | None = None,
) -> bool:
    """Ask whether a recording may be read; each request is logged before this returns.

    Args:
        place: folder of a session, or a file in it.
        asker: who asks.
        fidelity: L0, L1 or L2.
        classes: payload classes that are read; with ``audio_raw`` the rules must show sound as it is.
        answered: folder of a tenant whose rules are asked elsewhere.

    Returns:
        Whether there are rules.

    Raises:
        EvidenceError: the request is denied.
        ConfigurationError: the rules cannot be read.
    """
    rules = rules_over(place)
    asker = of_place(asker, place)
    for rule in rules:
        if answered is None or rule.folder != answered.resolve():
            scope = f"session:{rule.session}"
            _ask(rule.folder, asker, scope, fidelity, classes)
    return bool(rules)


def permit_listing(folder: Path, asker: Asker) -> bool:
    """Ask whether all sessions of a tenant may be listed; logged.

    Args:
        folder: the tenant's folder.
        asker: who asks.

    Returns:
        Whether there are rules.

    Raises:
        EvidenceError: the request is denied.
        ConfigurationError: the rules cannot be read.
    """
    rules = rules_over(folder)
    for rule in rules:
        _ask(rule.folder, _of(asker, folder.name), ALL_SESSIONS, "L0", ("metadata",))
    return bool(rules)


def open_permitted(
    place: Path,
    asker: Asker,
    *,
    fidelity: str = "L0",
    classes: tuple[str, ...] = ("metadata",),
    answered: Path | None = None,
) -> Recording:
    """Open a recording that may be read; where there are rules its records come without words.

    Args:
        place: folder of a session, or a file in it.
        asker: who asks.
        fidelity: as for ``permit``.
        classes: as for ``permit``.
        answered: as for ``permit``.

    Raises:
        EvidenceError: the request is denied, or there is nothing to read.
        ConfigurationError: the rules cannot be read.
    """
    governed = permit(place, asker, fidelity=fidelity, classes=classes, answered=answered)
    recording = open_recording(place)
    recording.wordless = governed
    homes = {rule.folder.name for rule in rules_over(place)}
    session = place.resolve() if place.is_dir() else place.resolve().parent
    for owner in sorted({str(stint.header.get("tenant", "")) for stint in recording.stints} - {""}):
        if owner in homes:
            continue
        # Moved beside its tenant's folder a recording is still that tenant's.
        folder = session.parent.parent / Path(owner).name
        if owner == folder.name and os.path.lexists(folder / POLICY_FILE):
            asked = _of(asker, session.parent.name)
            _ask(folder.resolve(), asked, f"session:{session.name}", fidelity, classes)
        elif homes:
            raise EvidenceError(
                f"{place}: a recording of tenant {owner} in the folder of {', '.join(sorted(homes))}",
                hint="where there are access rules evidence is shown from EVIDENCE/TENANT/SESSION only",
            )
    return recording


def _ways(place: Path) -> Iterator[Path]:
    """Yield where a recording lies: as it was named, in truth, and each segment that is a link."""
    yield Path(os.path.abspath(place))  # noqa: PTH100 - links must stay for the first look
    real = place.resolve()
    yield real
    # What is no folder, or cannot be read as one, holds no segment that could be a link.
    with suppress(OSError):
        yield from [segment.resolve() for segment in segment_files(real) if segment.is_symlink()]


def _of(asker: Asker, tenant: str) -> Asker:
    return asker if asker.tenant else asker._replace(tenant=tenant)


def _ask(folder: Path, asker: Asker, scope: str, fidelity: str, classes: tuple[str, ...]) -> None:
    policy = load_policy(folder / POLICY_FILE)
    request = AccessRequest(
        tenant_id=asker.tenant,
        principal_id=asker.principal,
        role=asker.role,
        purpose=asker.purpose,
        requested_scope=scope,
        requested_fidelity=fidelity,
        requested_classes=classes,
    )
    decision = authorise(
        request,
        policy,
        audit_sink(folder.parent),
        now_ms=time.time_ns() // 1_000_000,
        listing=scope == ALL_SESSIONS,
    )
    if not decision.allowed:
        raise _denied(folder, scope, decision.deny_reason)
    if any(
        marker.payload_class == SOUND and marker.action != "allow" for marker in decision.redaction_markers
    ):
        raise _denied(folder, scope, "requested_classes_not_authorized")


def _denied(folder: Path, scope: str, reason: str) -> EvidenceError:
    hint = f"what may be read, and by whom, stands in {folder / POLICY_FILE}; the request was logged"
    if reason.startswith("audit_"):
        hint = _CLOSED
    elif reason == "invalid_request_attributes":
        hint = _INCOMPLETE
    return EvidenceError(
        f"{scope} of tenant {folder.name}: the request was denied: {reason}", hint=hint, reason=reason
    )
