"""Answers requests for recorded evidence: authorised, logged, and redacted when the answer is built.

What is shown is decided at read, class by class, so a recording that holds more does not widen what a reader
gets.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import msgspec

from rspp.contracts.errors import EvidenceError
from rspp.evidence.access import AccessDecision, AccessPolicy, AccessRequest, authorise, scope_of
from rspp.evidence.artifact_file import SUFFIX
from rspp.evidence.keys import tenant_keys
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.redaction import TEXT_CLASSES, apply_action, known_class, mask_text
from rspp.evidence.tokens import make_token, open_token, token_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.artifact_file import PayloadDamage, PayloadEntry
    from rspp.evidence.audit import AuditSink
    from rspp.evidence.redaction import Action

    Records = Callable[[Path, int], Iterable[dict[str, Any]]]

MAX_CONTENT_BYTES = 64 << 20
"""Most payload that one answer shows; ask turn by turn for more."""
METADATA = ("party", "final", "stint")
"""Facts about a payload that its content cannot be told from."""
MAX_RECORDS = 1_000_000
"""Most records of one answer: three hours of a call."""


class EvidenceReader:
    """Answers for one tenant.

    Args:
        root: the evidence folder.
        policy: the tenant's policy.
        sink: the audit log; without one every request is denied.
        records: yields the records of a session's folder, or of one turn of it (0 for all).
        environment: ``os.environ`` when absent; for the key.
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        policy: AccessPolicy,
        sink: AuditSink | None,
        records: Records,
        *,
        environment: Mapping[str, str] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._root = root
        self._policy = policy
        self._sink = sink
        self._records = records
        self._environment = environment
        self._now_ms = now_ms

    def read(self, request: AccessRequest) -> dict[str, Any]:
        """Answer a request.

        Returns:
            ``decision`` as logged; when it allows also ``session_id``, ``records``, ``payloads``,
            ``damage`` and ``truncated``.

        Raises:
            EvidenceError: the evidence that may be read cannot be.
            ConfigurationError: the tenant's key is not usable.
        """
        decision = authorise(request, self._policy, self._sink, now_ms=self._now_ms())
        answer: dict[str, Any] = {"decision": msgspec.to_builtins(decision)}
        scope = scope_of(request.requested_scope)
        if not decision.allowed or scope is None:
            return answer
        folder = self._root / self._policy.tenant_id / scope.session
        if not folder.is_dir():
            raise EvidenceError(
                f"session {scope.session}: tenant {self._policy.tenant_id} has no recording of it",
                hint=f"recorded sessions are the folders in {folder.parent}",
            )
        actions = {marker.payload_class: marker.action for marker in decision.redaction_markers}
        records, cut = self._shown_records(folder, scope.turn, actions)
        payloads, damage, short = self._shown_payloads(scope.session, scope.turn, actions)
        return answer | {
            "session_id": scope.session,
            "records": records,
            "payloads": payloads,
            "damage": [
                {"code": one.code, "file": one.path.name, "offset": one.offset, "entry": one.entry}
                for one in damage
            ],
            "truncated": cut or short,
        }

    def reveal(self, request: AccessRequest, token: str) -> tuple[AccessDecision, bytes]:
        """Turn a token back into what it stands for; logged as such.

        Args:
            request: who asks, with the token's session or turn as its scope.
            token: as an answer showed it.

        Returns:
            The decision, and what the token stands for; empty when denied.

        Raises:
            EvidenceError: it is no token, not of the requested scope, or its artifact was deleted.
            ConfigurationError: the tenant's key is not usable.
        """
        session, name = token_place(token.encode(errors="replace"))
        decision = authorise(request, self._policy, self._sink, now_ms=self._now_ms(), reveal=True)
        if not decision.allowed:
            return decision, b""
        store = self._store()
        scope = scope_of(request.requested_scope)
        for artifact in store.artifacts(session):
            same_scope = scope is not None and scope.session == session and scope.turn in (0, artifact.turn)
            same_class = artifact.payload_class in request.requested_classes
            if artifact.path.name == f"{name}{SUFFIX}" and same_scope and same_class:
                return decision, open_token(store.data_key(artifact), token.encode())
        raise EvidenceError(
            f"the token of {session}/{name} is of another scope or class, or its payload was deleted",
            hint="ask for the scope and the class that the token names",
        )

    def _shown_records(
        self, folder: Path, turn: int, actions: dict[PayloadClass, Action]
    ) -> tuple[list[dict[str, Any]], bool]:
        if "metadata" not in actions:
            return [], False
        shown: list[dict[str, Any]] = []
        for record in self._records(folder, turn):
            if len(shown) >= MAX_RECORDS:
                return shown, True
            shown.append(shown_record(record, actions.get(known_class("text_raw"))))
        return shown, False

    def _shown_payloads(
        self, session: str, turn: int, actions: dict[PayloadClass, Action]
    ) -> tuple[list[dict[str, Any]], list[PayloadDamage], bool]:
        store = self._store()
        wanted = [name for name, action in actions.items() if action != "drop"]
        damage: list[PayloadDamage] = []
        shown: list[dict[str, Any]] = []
        if not store.artifacts(session, turn=turn or None, classes=wanted):
            return shown, damage, False
        size = 0
        make = _Tokens(store, session)
        hash_key = tenant_keys(
            store.folder, store.tenant, create=False, environment=self._environment
        ).hash_key
        for entry in store.stream(session, damage, turn=turn or None, classes=wanted):
            left = apply_action(
                actions[entry.payload_class],
                entry.payload_class,
                entry.data,
                hash_key=hash_key,
                tokenize=make.of(entry),
            )
            size += len(left.data)
            if size > MAX_CONTENT_BYTES:
                return shown, damage, True
            shown.append(_shown(entry, left.action, left.data))
        return shown, damage, False

    def _store(self) -> PayloadStore:
        return PayloadStore(self._root, self._policy.tenant_id, environment=self._environment)


class _Tokens:
    """Makes tokens under the key of each entry's artifact; unwraps it once for a run of entries."""

    def __init__(self, store: PayloadStore, session: str) -> None:
        self._store = store
        self._session = session
        self._latest = ("", b"")

    def of(self, entry: PayloadEntry) -> Callable[[bytes], bytes]:
        return lambda value: make_token(self._key(entry.artifact), self._session, entry.artifact, value)

    def _key(self, name: str) -> bytes:
        if self._latest[0] != name:
            found = [
                one for one in self._store.artifacts(self._session) if one.path.name == f"{name}{SUFFIX}"
            ]
            if not found:
                raise EvidenceError(f"{self._session}/{name} was deleted meanwhile", hint="ask again")
            self._latest = (name, self._store.data_key(found[0]))
        return self._latest[1]


def _shown(entry: PayloadEntry, action: Action, data: bytes) -> dict[str, Any]:
    text = entry.payload_class in TEXT_CLASSES or action in ("hash", "tokenize") or entry.action == "hash"
    content = data.decode(errors="replace") if text else base64.b64encode(data).decode()
    return {
        "turn": entry.turn,
        "payload_class": entry.payload_class,
        "at_us": entry.at_us,
        "recorded_action": entry.action,
        "action": action,
        "length": entry.length,
        "encoding": "text" if text else "base64",
        "content": content,
        # What the writer said about the payload is shown only with the payload itself; who spoke is metadata.
        "details": {
            name: value for name, value in entry.details.items() if action == "allow" or name in METADATA
        },
    }


def shown_record(record: dict[str, Any], action: Action | None) -> dict[str, Any]:
    """Return a record with as much of its text as ``action`` lets a reader see; none shows nothing."""
    text = record.get("text")
    return record | {"text": _words(text, action)} if isinstance(text, str) else record


def _words(text: str, action: Action | None) -> str:
    if action == "allow":
        return text
    return mask_text(text) if action == "mask" else ""
