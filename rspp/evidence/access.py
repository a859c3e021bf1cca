"""Who may read recorded evidence: the request, the tenant's policy, and the decision, which is audited.

Denied unless allowed. The checks have a fixed order, so that the same request always gets the same reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rspp.contracts.envelope import PayloadClass  # noqa: TC001 - msgspec reads the annotations
from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence.audit import AuditEvent, audit_faults
from rspp.evidence.redaction import FULL_AT_L2, PAYLOAD_CLASSES, RESPONSE, Action

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.evidence.audit import AuditSink

DenyReason: TypeAlias = Literal[
    "invalid_request_attributes",
    "policy_tenant_scope_missing",
    "cross_tenant_denied",
    "role_not_authorized",
    "purpose_not_authorized",
    "requested_fidelity_not_authorized",
    "invalid_requested_classes",
    "requested_scope_not_authorized",
    "requested_classes_not_authorized",
    "token_reveal_not_authorized",
    "audit_sink_unavailable",
    "audit_event_invalid",
    "audit_sink_write_failed",
]
"""Why a request is denied, in the order of the checks."""
Fidelity: TypeAlias = Literal["L0", "L1", "L2"]
FIDELITIES: tuple[Fidelity, ...] = ("L0", "L1", "L2")
MARKER_REASON = "default_or03_policy"
ALL_SESSIONS = "session:*"
"""Scope of a request for the list of a tenant's sessions."""
NO_TENANT = "~unattributed"
"""Log of requests that came under no policy at all; no tenant can have that name."""
MAX_POLICY_BYTES = 256 << 10
SHOWN = 200
"""Most characters of an attribute that the log keeps."""

_SCOPE = re.compile(
    r"(?:session:([A-Za-z0-9][A-Za-z0-9._-]{0,99})|turn:([A-Za-z0-9][A-Za-z0-9._-]{0,99})/(\d{1,9}))"
)
_ATTRIBUTES = ("tenant_id", "principal_id", "role", "purpose", "requested_scope")

Words: TypeAlias = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=100)
]


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what; nothing of it is checked before ``authorise``.

    Attributes:
        tenant_id: tenant of whoever asks.
        principal_id: who asks.
        role: in which role.
        purpose: what for.
        requested_scope: ``session:ID`` or ``turn:SESSION/NUMBER``.
        requested_fidelity: L0, L1 or L2.
        requested_classes: payload classes; metadata when empty.
    """

    tenant_id: str
    principal_id: str
    role: str
    purpose: str
    requested_scope: str
    requested_fidelity: str = "L0"
    requested_classes: tuple[str, ...] = ("metadata",)


class Scope(msgspec.Struct, frozen=True):
    """What a request is about: a session, or one turn of it (0 for the whole session)."""

    session: str
    turn: int = 0


class AccessPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tenant lets be read, and by whom.

    Attributes:
        tenant_id: whose evidence it is.
        roles: roles that may read.
        purposes: purposes that justify it.
        fidelities: levels of detail; L0 gives no words and no sound, L1 masked words at most, L2 what
            ``actions`` says.
        scopes: ``session:*``, ``turn:*``, or single ones written out.
        classes: payload classes that may be asked for.
        actions: what is shown of a class instead of the default; PII and PHI can be shown masked, hashed
            or as tokens, never in full.
        reveal_roles: roles that may turn tokens back into what they stand for.
        reveal_purposes: purposes that justify that.
    """

    tenant_id: str
    roles: Words = ("oncall", "operator", "compliance")
    purposes: Words = ("debug", "incident", "eval", "compliance")
    fidelities: tuple[Fidelity, ...] = ("L0",)
    scopes: Words = ("session:*", "turn:*")
    classes: tuple[PayloadClass, ...] = PAYLOAD_CLASSES
    actions: dict[PayloadClass, Action] = {}
    reveal_roles: Words = ("compliance",)
    reveal_purposes: Words = ("compliance",)

    def action(self, payload_class: PayloadClass, fidelity: str) -> Action:
        """Return what a reader is shown of a class at a level of detail."""
        action = self.actions.get(payload_class, RESPONSE[payload_class])
        if payload_class in FULL_AT_L2 and fidelity == "L0":
            return "drop"
        if payload_class in FULL_AT_L2 and fidelity == "L1" and action == "allow":
            return "mask"
        return action


class RedactionMarker(msgspec.Struct, frozen=True):
    """What an answer did with one class, and why."""

    payload_class: PayloadClass
    action: Action
    reason: str


class AccessDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request.

    Attributes:
        allowed: whether it may be answered.
        deny_reason: why not; empty when it may.
        redaction_markers: what the answer does with each requested class; empty when denied.
    """

    allowed: bool
    deny_reason: DenyReason | Literal[""] = ""
    redaction_markers: tuple[RedactionMarker, ...] = ()


def load_policy(path: Path) -> AccessPolicy:
    """Read a tenant's policy from a JSON file.

    Raises:
        ConfigurationError: it cannot be read, is not valid, or would show PII or PHI in full.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"access policy {path} cannot be read: {error.strerror}", hint="check the path"
        ) from error
    try:
        if len(content) > MAX_POLICY_BYTES:
            raise msgspec.ValidationError(f"longer than {MAX_POLICY_BYTES} bytes")
        policy = msgspec.json.decode(content, type=AccessPolicy)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"access policy {path}: {error}", hint='the least it needs is {"tenant_id": "NAME"}'
        ) from error
    for name in ("PII", "PHI"):
        if any(key == name and action == "allow" for key, action in policy.actions.items()):
            raise ConfigurationError(
                f"access policy {path}: actions.{name} is allow", hint="use tokenize, mask, hash or drop"
            )
    return policy


def scope_of(text: str) -> Scope | None:
    """Return what a requested scope is about; none when it is not written as one."""
    match = _SCOPE.fullmatch(text)
    if match is None:
        return None
    return Scope(match[1]) if match[1] else Scope(match[2], int(match[3]))


def authorise(
    request: AccessRequest,
    policy: AccessPolicy,
    sink: AuditSink | None,
    *,
    now_ms: int,
    reveal: bool = False,
    listing: bool = False,
) -> AccessDecision:
    """Decide a request, and log it whatever the decision is; malformed requests are logged too.

    Args:
        request: who asks for what.
        policy: of the tenant whose evidence it is.
        sink: the audit log; without one nothing is allowed.
        now_ms: now, milliseconds since 1970.
        reveal: whether a token is to be turned back.
        listing: whether all sessions are to be listed, with ``ALL_SESSIONS`` as scope.

    Returns:
        The decision. Nothing may be read unless it allows.
    """
    reason = _first_denial(request, policy, reveal=reveal, listing=listing)
    decision = AccessDecision(allowed=False, deny_reason=reason)
    if not reason:
        decision = AccessDecision(allowed=True, redaction_markers=_markers(request, policy))
    if sink is None:
        return decision if reason else _denied("audit_sink_unavailable")
    event = AuditEvent(
        timestamp_ms=now_ms,
        kind="token_revealed" if reveal else "access",
        tenant_id=policy.tenant_id or NO_TENANT,
        request=logged(request),
        decision=msgspec.to_builtins(decision),
    )
    if audit_faults(event):
        return decision if reason else _denied("audit_event_invalid")
    try:
        sink.append(event)
    except EvidenceError:
        return decision if reason else _denied("audit_sink_write_failed")
    return decision


def classes_of(request: AccessRequest) -> tuple[str, ...]:
    """Return the classes that a request is about: metadata when it names none."""
    return request.requested_classes or ("metadata",)


def logged(request: AccessRequest) -> dict[str, Any]:
    """Return a request as the log keeps it: long attributes are cut, whatever somebody put there."""
    plain: dict[str, Any] = msgspec.to_builtins(request)
    kept = {name: str(value)[:SHOWN] for name, value in plain.items() if name != "requested_classes"}
    return kept | {"requested_classes": [str(name)[:SHOWN] for name in request.requested_classes[:20]]}


def _first_denial(
    request: AccessRequest, policy: AccessPolicy, *, reveal: bool, listing: bool
) -> DenyReason | Literal[""]:
    classes = classes_of(request)
    known = [name for name in classes if name in PAYLOAD_CLASSES]
    named = listing if request.requested_scope == ALL_SESSIONS else bool(scope_of(request.requested_scope))
    checks: tuple[tuple[bool, DenyReason], ...] = (
        (_sound(request), "invalid_request_attributes"),
        (bool(policy.tenant_id.strip()), "policy_tenant_scope_missing"),
        (request.tenant_id == policy.tenant_id, "cross_tenant_denied"),
        (request.role in policy.roles, "role_not_authorized"),
        (request.purpose in policy.purposes, "purpose_not_authorized"),
        (request.requested_fidelity in policy.fidelities, "requested_fidelity_not_authorized"),
        (len(known) == len(classes), "invalid_requested_classes"),
        (named and _permitted(request.requested_scope, policy), "requested_scope_not_authorized"),
        (all(name in policy.classes for name in known), "requested_classes_not_authorized"),
        (not reveal or _may_reveal(request, policy), "token_reveal_not_authorized"),
    )
    return next((reason for passed, reason in checks if not passed), "")


def _sound(request: AccessRequest) -> bool:
    given = all(getattr(request, name).strip() for name in _ATTRIBUTES)
    return given and request.requested_fidelity in FIDELITIES


def _permitted(scope: str, policy: AccessPolicy) -> bool:
    return any(
        scope.startswith(allowed[:-1]) if allowed.endswith("*") else scope == allowed
        for allowed in policy.scopes
    )


def _may_reveal(request: AccessRequest, policy: AccessPolicy) -> bool:
    return request.role in policy.reveal_roles and request.purpose in policy.reveal_purposes


def _markers(request: AccessRequest, policy: AccessPolicy) -> tuple[RedactionMarker, ...]:
    return tuple(
        RedactionMarker(
            name,
            policy.action(name, request.requested_fidelity),
            "tenant_policy" if name in policy.actions else MARKER_REASON,
        )
        for name in PAYLOAD_CLASSES
        if name in classes_of(request)
    )


def _denied(reason: DenyReason) -> AccessDecision:
    return AccessDecision(allowed=False, deny_reason=reason)
