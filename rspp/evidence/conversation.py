"""What a placement left of a conversation, read from the recording for the one that takes over.

How many turns there were is in every recording. Words are there only where the level kept them in full; a
masked or hashed text is none. Reading them is an access like any other and stands in the tenant's audit log:
where that cannot be written, no words are read.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rspp.contracts.conversation import Conversation, joined
from rspp.evidence.audit import AuditEvent
from rspp.evidence.audit_http import audit_sink
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.reader import open_recording
from rspp.evidence.words import join_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rspp.contracts.ports import Message
    from rspp.evidence.audit import AuditSink

PURPOSE = "state_reattach"


def earlier_conversation(
    root: Path,
    tenant: str,
    session: str,
    epoch: int,
    *,
    environment: Mapping[str, str] | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> Conversation:
    """Return what was said in a session under epochs before ``epoch``; blocks.

    Args:
        root: evidence folder.
        tenant: whose session it is.
        session: the session.
        epoch: of whoever takes over; what was recorded under it is left out.
        environment: instead of the process's, for the tenant's key and the audit log.
        now_ms: time of day, milliseconds since 1970.

    Raises:
        EvidenceError: the recording cannot be read, or the audit log not written.
        ConfigurationError: the tenant's key is not usable.
    """
    folder = root / tenant / session
    if not folder.is_dir():
        return Conversation()
    earlier = [
        stint
        for stint in open_recording(folder, content=False).stints
        if int(stint.header.get("epoch", 0)) < epoch
    ]
    records = [record for stint in earlier for record in ({"kind": "header"}, *stint.shell_records())]
    turns = max((int(record.get("turn", 0)) for record in records), default=0)
    texts = _texts(PayloadStore(root, tenant, environment=environment), session)
    if any(text["content"] for text in texts):
        _log(audit_sink(root, environment), tenant, session, now_ms())
    history: tuple[Message, ...] = ()
    for record in join_words(records, texts, [str(stint.header.get("stint", "")) for stint in earlier]):
        # Of the caller's words those are history that a turn answers; others were a listener's "mhm".
        if record["kind"] == "transcript" and record["turn"]:
            role = "user" if record["party"] == "caller" else "assistant"
            history = joined(history, role, record["text"])
    return Conversation(turns=turns, messages=history)


def _texts(store: PayloadStore, session: str) -> list[dict[str, Any]]:
    if not store.artifacts(session, classes=["text_raw"]):
        return []
    entries = store.read(session, classes=["text_raw"]).entries
    return [
        {
            "payload_class": entry.payload_class,
            "turn": entry.turn,
            "at_us": entry.at_us,
            "details": entry.details,
            "content": entry.data.decode(errors="replace") if entry.action == "allow" else "",
        }
        for entry in entries
    ]


def _log(sink: AuditSink, tenant: str, session: str, now_ms: int) -> None:
    sink.append(
        AuditEvent(
            timestamp_ms=now_ms,
            kind="access",
            tenant_id=tenant,
            request={
                "tenant_id": tenant,
                "principal_id": "runtime",
                "role": "runtime",
                "purpose": PURPOSE,
                "requested_scope": f"session:{session}",
                "requested_fidelity": "L2",
                "requested_classes": ["text_raw"],
            },
            decision={
                "allowed": True,
                "redaction_markers": [
                    {"payload_class": "text_raw", "action": "allow", "reason": "recording_policy"}
                ],
            },
        )
    )
