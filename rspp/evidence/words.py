"""Puts the words that a reader may see back into the transcript records they belong to.

On disk a transcript record counts words and its text is a payload, so that text can be encrypted, masked
and deleted without touching the evidence.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

import msgspec

from rspp.contracts.errors import EvidenceError
from rspp.evidence.access import AccessPolicy, AccessRequest, authorise, load_policy
from rspp.evidence.answers import EvidenceReader, shown_record
from rspp.evidence.audit_http import audit_sink
from rspp.evidence.permission import POLICY_FILE
from rspp.evidence.reader import open_recording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


def join_words(
    records: Iterable[dict[str, Any]], payloads: Iterable[Mapping[str, Any]], stints: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the records with the text of each transcript that has one.

    Args:
        records: of a recording, in order, with the header of each stint before its records.
        payloads: as an ``EvidenceReader`` shows them. The n-th text of a party in a turn of a stint belongs
            to its n-th transcript there: each stint counts its turns from 1 and has a clock of its own.
        stints: ids of the stints, in the order of their headers; one stint without an id when empty.
    """
    texts: dict[tuple[str, int, str], deque[str]] = defaultdict(deque)
    for payload in sorted(payloads, key=lambda payload: int(payload["at_us"])):
        details = payload["details"]
        if payload["payload_class"] == "text_raw" and details.get("final"):
            stint = str(details.get("stint", "")) if stints else ""
            texts[stint, int(payload["turn"]), str(details["party"])].append(str(payload["content"]))
    following = iter(stints)
    stint = ""
    for record in records:
        if record["kind"] == "header":
            stint = next(following, "")
        elif record["kind"] == "transcript" and record["words"] and not record["text"]:
            waiting = texts[stint, int(record["turn"]), str(record["party"])]
            if waiting:
                record = record | {"text": waiting.popleft()}
        yield record


def records_for(
    folder: Path, *, principal: str, role: str, purpose: str, fidelity: str = "L2", tenant: str = ""
) -> Iterator[dict[str, Any]]:
    """Ask for a recording with its words and return its records; the request is logged before this returns.

    However long the call was, its records are read one after the other.

    Args:
        folder: the session's folder, ``EVIDENCE/TENANT/SESSION``.
        principal: who asks.
        role: in which role.
        purpose: what for.
        fidelity: L0 shows no words, L1 masked ones, L2 what the tenant's policy says.
        tenant: of which tenant who asks is; the one whose recording it is when empty.

    Raises:
        EvidenceError: the request is denied, or the recording cannot be read.
        ConfigurationError: the tenant's policy or key is not usable.
    """
    folder = _session_folder(folder)
    root = folder.parent.parent
    request = _request(folder, principal, role, purpose, fidelity, ("metadata", "text_raw"))
    if tenant:
        request = msgspec.structs.replace(request, tenant_id=tenant)
    reader = EvidenceReader(
        root,
        _policy(folder),
        audit_sink(root),
        lambda path, turn: (),
    )
    answer = reader.read(request)
    decision = answer["decision"]
    if not decision["allowed"]:
        raise _denied(folder, decision["deny_reason"])
    recording = open_recording(folder)
    stints = [str(stint.header.get("stint", "")) for stint in recording.stints]
    actions = {marker["payload_class"]: marker["action"] for marker in decision["redaction_markers"]}
    shown = (shown_record(record, actions["text_raw"]) for record in recording.records())
    return join_words(shown, answer["payloads"], stints)


def permit_sound(folder: Path, *, principal: str, role: str, purpose: str) -> None:
    """Ask whether the sound of a recording may be heard; the request is logged.

    Args:
        folder: the session's folder, ``EVIDENCE/TENANT/SESSION``.
        principal: who asks.
        role: in which role.
        purpose: what for.

    Raises:
        EvidenceError: it may not.
        ConfigurationError: the tenant's policy is not usable.
    """
    folder = _session_folder(folder)
    request = _request(folder, principal, role, purpose, "L2", ("audio_raw",))
    decision = authorise(
        request, _policy(folder), audit_sink(folder.parent.parent), now_ms=time.time_ns() // 1_000_000
    )
    if not decision.allowed:
        raise _denied(folder, decision.deny_reason)
    if any(marker.action != "allow" for marker in decision.redaction_markers):
        raise _denied(folder, "requested_classes_not_authorized")


def _session_folder(place: Path) -> Path:
    """Return the folder of a session, once it is sure that policy and log of its tenant are those beside it.

    Raises:
        EvidenceError: it lies in no evidence folder, or in that of another tenant.
    """
    folder = place.resolve()
    folder = folder if folder.is_dir() else folder.parent
    tenant = open_recording(folder, content=False).tenant
    if tenant != folder.parent.name:
        raise EvidenceError(
            f"{place}: a recording of tenant {tenant or '(unknown)'} in the folder of {folder.parent.name}",
            hint="words and sound are shown from where they were recorded, EVIDENCE/TENANT/SESSION",
        )
    return folder


def _policy(folder: Path) -> AccessPolicy:
    own = folder.parent / POLICY_FILE
    return load_policy(own) if own.is_file() else AccessPolicy(tenant_id=folder.parent.name)


def _request(
    folder: Path, principal: str, role: str, purpose: str, fidelity: str, classes: tuple[str, ...]
) -> AccessRequest:
    return AccessRequest(
        tenant_id=folder.parent.name,
        principal_id=principal,
        role=role,
        purpose=purpose,
        requested_scope=f"session:{folder.name}",
        requested_fidelity=fidelity,
        requested_classes=classes,
    )


def _denied(folder: Path, reason: str) -> EvidenceError:
    policy = folder.parent / POLICY_FILE
    hint = f"what may be read, and by whom, stands in {policy}"
    if not policy.is_file():
        hint = f"there is no {policy}, so nobody is shown words or sound; see docs/evidence-access.md"
    return EvidenceError(
        f"session {folder.name}: the request was denied: {reason}",
        hint=hint,
        reason=reason,
    )
