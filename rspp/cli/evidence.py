"""``rspp-cli evidence``: read recorded evidence, turn tokens back, delete, and check the audit log.

For files on this machine there is no token to show: who may read the evidence folder is settled by its
permissions. These commands add the tenant's policy and the audit log on top, for whoever goes through them.
"""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter, validators

from rspp.terminal import print_json, show_error, style_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.evidence.access import AccessPolicy, AccessRequest
    from rspp.evidence.answers import EvidenceReader

TurnNumber = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**31 - 1))]
REMEDIES = {
    "invalid_request_attributes": "give --role and --purpose, and a --fidelity of L0, L1 or L2",
    "invalid_requested_classes": "--classes are metadata, derived_summary, text_raw, audio_raw, PII and PHI",
    "audit_sink_unavailable": "the audit log cannot be written, so nothing may be read; check where it goes",
}
"""What to do about a denial that is not the tenant's policy's."""

evidence_app = App(name="evidence", help="Read, delete and audit recorded evidence.")
audit_app = App(name="audit", help="Check the log of who asked for evidence.")
evidence_app.command(audit_app)


@evidence_app.command
def read(
    session: str,
    *,
    evidence: Path,
    role: str = "",
    purpose: str = "",
    turn: TurnNumber = 0,
    tenant: str = "",
    principal: str = "",
    fidelity: str = "L0",
    classes: str = "metadata",
    policy: Path | None = None,
) -> int:
    """Answer one request for a recording as JSON: decision, records, payloads; the request is logged.

    Args:
        session: the session.
        evidence: the evidence folder.
        role: in which role, such as oncall, operator or compliance.
        purpose: what for, such as debug, incident, eval or compliance.
        turn: one turn only.
        tenant: whose evidence; RSPP_TENANT, else default.
        principal: who asks; the name of this user by default.
        fidelity: L0 no words and no sound, L1 masked words, L2 what the policy shows.
        classes: with commas between: metadata, derived_summary, text_raw, audio_raw, PII, PHI.
        policy: JSON file with the tenant's policy; access.json in the tenant's folder by default.

    Returns:
        0 when answered, 2 when denied.
    """
    _ask_elsewhere(evidence, tenant, session, principal, role, purpose)
    scope = f"turn:{session}/{turn}" if turn else f"session:{session}"
    request, reader = _asked(evidence, tenant, principal, role, purpose, scope, fidelity, classes, policy)
    answer = reader.read(request)
    print_json(answer)
    return _status(answer["decision"])


@evidence_app.command(name="list")
def list_sessions(
    *,
    evidence: Path,
    tenant: str = "",
    session: str = "",
    outcome: Literal["commit", "abort"] | None = None,
    reason: str = "",
    principal: str = "",
    role: str = "",
    purpose: str = "",
    json: bool = False,
) -> int:
    """List recorded sessions and their turns, from the index; no words and no sound are in it.

    Args:
        evidence: the evidence folder.
        tenant: whose sessions; RSPP_TENANT, else default.
        session: the turns of this session only.
        outcome: only turns that ended so: commit or abort.
        reason: only turns that were aborted for this reason, such as cancelled.
        principal: who asks; the name of this user by default.
        role: in which role you ask; needed where the tenant's evidence has access rules.
        purpose: what for; needed where the tenant's evidence has access rules.
        json: print one JSON object instead of tables.
    """
    import msgspec

    from rspp.evidence.index import refreshed
    from rspp.evidence.permission import Asker, permit, permit_listing
    from rspp.runtime.environment import tenant_name

    root, owner = _folder(evidence), tenant_name(tenant)
    asker = Asker(principal or getpass.getuser(), role, purpose, owner)
    if session:
        permit(root / owner / session, asker)
    else:
        permit_listing(root / owner, asker)
    with refreshed(root) as index:
        rows = [row for row in index.sessions(owner) if session in ("", row.session)]
        for row in rows:
            permit(root / owner / row.session, asker, answered=root / owner)
        found = [
            (
                row,
                [
                    turn
                    for turn in index.turns(row.tenant, row.session)
                    if outcome in (None, turn.outcome) and reason in ("", turn.reason)
                ],
            )
            for row in rows
        ]
    if outcome or reason:
        found = [(row, turns) for row, turns in found if turns]
    if json:
        document = [msgspec.to_builtins(row) | {"listed": msgspec.to_builtins(turns)} for row, turns in found]
        print_json({"sessions": document})
        return 0
    from rspp.cli.evidence_tables import show_sessions

    show_sessions(found, with_turns=bool(session or outcome or reason))
    return 0


@evidence_app.command
def reveal(
    token: str,
    *,
    evidence: Path,
    role: str = "",
    purpose: str = "",
    tenant: str = "",
    principal: str = "",
    classes: str = "PII,PHI",
    policy: Path | None = None,
) -> int:
    """Print what a token of an answer stands for; who may is said by the tenant's policy, and it is logged.

    Args:
        token: as an answer showed it.
        evidence: the evidence folder.
        role: in which role; compliance by the default policy.
        purpose: what for; compliance by the default policy.
        tenant: whose evidence; RSPP_TENANT, else default.
        principal: who asks; the name of this user by default.
        classes: payload classes that the token may be of, with commas between.
        policy: JSON file with the tenant's policy; access.json in the tenant's folder by default.

    Returns:
        0 when printed, 2 when denied.
    """
    import msgspec

    from rspp.evidence.tokens import token_place

    session, _ = token_place(token.encode(errors="replace"))
    request, reader = _asked(
        evidence, tenant, principal, role, purpose, f"session:{session}", "L0", classes, policy
    )
    decision, value = reader.reveal(request, token)
    if decision.allowed:
        print(value.decode(errors="replace"))
        return 0
    return _status(msgspec.to_builtins(decision))


@evidence_app.command
def delete(
    session: str,
    *,
    evidence: Path,
    mode: Literal["hard_delete", "crypto_inaccessible"],
    turn: TurnNumber = 0,
    tenant: str = "",
    principal: str = "",
    reason: str = "",
    json: bool = False,
) -> int:
    """Delete a recording, or the payloads of one turn; cannot be undone, and is logged.

    Args:
        session: the session.
        evidence: the evidence folder.
        mode: hard_delete removes the files; crypto_inaccessible destroys the keys of what was encrypted.
        turn: the payloads of this turn only; its records, without words and sound, stay.
        tenant: whose evidence; RSPP_TENANT, else default.
        principal: who wants it; the name of this user by default.
        reason: why.
        json: print one JSON object instead of a sentence.
    """
    import msgspec

    from rspp.evidence.audit_http import audit_sink
    from rspp.evidence.deletion import DeletionRequest, delete_evidence
    from rspp.runtime.environment import tenant_name

    request = DeletionRequest(
        tenant_id=tenant_name(tenant),
        mode=mode,
        requested_by=principal or getpass.getuser(),
        requested_at_ms=time.time_ns() // 1_000_000,
        session_id="" if turn else session,
        turn_id=f"{session}/{turn}" if turn else "",
        reason=reason,
    )
    done = delete_evidence(_folder(evidence), request, audit_sink(evidence))
    if json:
        print_json(msgspec.to_builtins(done))
        return 0
    print(f"{done.keys} keys destroyed, {done.files} files removed ({done.bytes} bytes)")
    if done.kept:
        print(f"kept, with records but no payloads: {', '.join(done.kept)}")
    return 0


@audit_app.command
def verify(log: Path | None = None, *, evidence: Path | None = None, json: bool = False) -> int:
    """Check the chain of audit logs: what was changed, removed or cut is named with its line.

    Args:
        log: one log; all of the evidence folder when absent.
        evidence: the evidence folder.
        json: print one JSON object instead of lines.

    Returns:
        0 when every chain is whole, 1 when one is not.
    """
    from rspp.contracts.errors import ConfigurationError
    from rspp.evidence.audit import SUFFIX, tenant_of_log, verify_audit

    if (log is None) == (evidence is None):
        raise ConfigurationError("name a log, or a folder with --evidence", hint="give one of the two")
    logs = [log] if log is not None else sorted((_folder(evidence or Path()) / "audit").glob(f"*{SUFFIX}"))
    if not logs:
        raise ConfigurationError(f"{evidence}: holds no audit log", hint="nobody asked for evidence yet?")
    checks = [(path, verify_audit(path)) for path in logs]
    if json:
        print_json(
            {
                "sound": not any(check.faults for _, check in checks),
                "logs": [
                    {
                        "path": str(path),
                        "tenant": tenant_of_log(path.name),
                        "events": check.events,
                        "faults": [fault._asdict() for fault in check.faults],
                    }
                    for path, check in checks
                ],
            }
        )
    else:
        style = style_of(sys.stdout)
        for path, check in checks:
            for fault in check.faults:
                print(f"{style.bad(f'{path}:{fault.line}')}: {fault.problem}")
            word = style.bad("broken") if check.faults else style.good("whole")
            print(f"{path}: {word}: {check.events} events")
    return 1 if any(check.faults for _, check in checks) else 0


def _asked(
    evidence: Path,
    tenant: str,
    principal: str,
    role: str,
    purpose: str,
    scope: str,
    fidelity: str,
    classes: str,
    policy: Path | None,
) -> tuple[AccessRequest, EvidenceReader]:
    from rspp.evidence.access import AccessRequest
    from rspp.evidence.answers import EvidenceReader
    from rspp.evidence.audit_http import audit_sink
    from rspp.runtime.environment import tenant_name

    owner = tenant_name(tenant)
    request = AccessRequest(
        tenant_id=owner,
        principal_id=principal or getpass.getuser(),
        role=role,
        purpose=purpose,
        requested_scope=scope,
        requested_fidelity=fidelity,
        requested_classes=tuple(name.strip() for name in classes.split(",") if name.strip()) or ("metadata",),
    )
    root = _folder(evidence)
    return request, EvidenceReader(root, _policy(root, owner, policy), audit_sink(root), _records)


def _ask_elsewhere(
    evidence: Path, tenant: str, session: str, principal: str, role: str, purpose: str
) -> None:
    """Ask the rules of other tenants too, when the session's folder is a link to theirs."""
    from rspp.evidence.permission import Asker, permit
    from rspp.runtime.environment import tenant_name

    owner = tenant_name(tenant)
    asker = Asker(principal or getpass.getuser(), role, purpose, owner)
    permit(evidence / owner / session, asker, answered=evidence / owner)


def _policy(root: Path, tenant: str, given: Path | None) -> AccessPolicy:
    from rspp.evidence.access import AccessPolicy, load_policy
    from rspp.evidence.permission import POLICY_FILE

    own = root / tenant / POLICY_FILE
    path = given or (own if own.is_file() else None)
    return AccessPolicy(tenant_id=tenant) if path is None else load_policy(path)


def _records(folder: Path, turn: int) -> Iterator[dict[str, Any]]:
    from rspp.evidence.reader import open_recording
    from rspp.evidence.segment_file import segment_files

    # Retention may have left payloads whose records are gone.
    if segment_files(folder):
        yield from open_recording(folder).records(turn or None)


def _folder(evidence: Path) -> Path:
    from rspp.contracts.errors import ConfigurationError

    if not evidence.is_dir():
        raise ConfigurationError(
            f"--evidence {str(evidence)!r} is no folder",
            hint="name the folder given to rspp-runtime --evidence",
        )
    return evidence


def _status(decision: dict[str, Any]) -> int:
    if decision["allowed"]:
        return 0
    reason = decision["deny_reason"]
    closed = "audit_sink_unavailable" if reason.startswith("audit_") else reason
    hint = (
        "the tenant's policy, EVIDENCE/TENANT/access.json, says who may ask for what; the request was logged"
    )
    show_error(f"denied: {reason}", REMEDIES.get(closed, hint))
    return 2
