"""The audit log at a service of its own, with the local log behind it.

Endpoints are tried in order; ``rspp.endpoints`` has what holds for all of them.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from rspp.contracts.errors import EvidenceError
from rspp.endpoints import TOO_MANY, direct_opener, endpoint_addresses, header_setting, number_setting
from rspp.evidence.audit import FileAudit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rspp.evidence.audit import AuditEvent, AuditSink

PREFIX = "RSPP_REPLAY_AUDIT_"


class HttpAuditSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how events are posted.

    Attributes:
        urls: endpoints in the order in which they are tried.
        timeout_ms: longest wait for one answer.
        attempts: tries at each endpoint.
        backoff_ms: wait before the second try; doubles with each further one.
        max_backoff_ms: longest such wait.
        bearer_token: sent as ``Authorization: Bearer``; empty for none.
        client_id: sent as ``X-RSPP-Client-ID``; empty for none.
    """

    urls: tuple[str, ...]
    timeout_ms: int = 2000
    attempts: int = 2
    backoff_ms: int = 100
    max_backoff_ms: int = 1000
    bearer_token: str = ""
    client_id: str = ""


class HttpAudit:
    """Posts each event to the first endpoint that takes it.

    Args:
        settings: where and how.
        sleep: waits that many seconds.
    """

    def __init__(self, settings: HttpAuditSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._opener = direct_opener()

    def append(self, event: AuditEvent) -> None:
        """Post an event.

        Raises:
            EvidenceError: no endpoint took it; the message says what each answered.
        """
        body = msgspec.json.encode(event)
        answers = []
        for url in self._settings.urls:
            problem = self._post(url, event.tenant_id, body)
            if not problem:
                return
            answers.append(f"{urlsplit(url).hostname}: {problem}")
        raise EvidenceError(
            f"audit service does not take events: {'; '.join(answers)}",
            hint=f"check {PREFIX}HTTP_URLS and the service",
        )

    def _post(self, url: str, tenant: str, body: bytes) -> str:
        """Post to one endpoint; returns what went wrong, empty when nothing did."""
        settings, problem = self._settings, ""
        for attempt in range(settings.attempts):
            if attempt:
                wait_ms = min(settings.backoff_ms * 2 ** (attempt - 1), settings.max_backoff_ms)
                self._sleep(wait_ms / 1000)
            status, problem = self._try(url, tenant, body)
            if not problem:
                return ""
            if status and status != TOO_MANY and status < 500:
                return problem
        return problem

    def _try(self, url: str, tenant: str, body: bytes) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", "X-RSPP-Tenant-ID": tenant}
        if self._settings.bearer_token:
            headers["Authorization"] = f"Bearer {self._settings.bearer_token}"
        if self._settings.client_id:
            headers["X-RSPP-Client-ID"] = self._settings.client_id
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._settings.timeout_ms / 1000) as answer:
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            status = error.code
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            return 0, " ".join(str(reason).split())[:200] or type(error).__name__
        return status, "" if 200 <= status < 300 else f"answered {status}"


class FallbackAudit:
    """Tries sinks in order until one keeps the event.

    Args:
        sinks: at least one.
    """

    def __init__(self, *sinks: AuditSink) -> None:
        self._sinks = sinks

    def append(self, event: AuditEvent) -> None:
        """Keep an event in the first sink that takes it.

        Raises:
            EvidenceError: none does.
        """
        problems: list[EvidenceError] = []
        for sink in self._sinks:
            try:
                sink.append(event)
            except EvidenceError as error:
                problems.append(error)
            else:
                return
        raise EvidenceError(
            " and ".join(error.message for error in problems) or "there is no audit log",
            hint=problems[-1].hint if problems else "name one",
        )


def audit_sink(root: Path, environment: Mapping[str, str] | None = None) -> AuditSink:
    """Return the audit log of an evidence folder: the service of the environment first, then local files.

    Args:
        root: the evidence folder; the local log lies in ``audit`` under it unless the environment says
            otherwise.
        environment: ``os.environ`` when absent.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    given = os.environ if environment is None else environment
    folder = given.get(f"{PREFIX}JSONL_FALLBACK_ROOT", "").strip()
    local = FileAudit(Path(folder) if folder else root / "audit")
    settings = http_settings(given)
    return local if settings is None else FallbackAudit(HttpAudit(settings), local)


def http_settings(environment: Mapping[str, str]) -> HttpAuditSettings | None:
    """Return the audit service that the environment names; none when it names none.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    listed = environment.get(f"{PREFIX}HTTP_URLS", "") or environment.get(f"{PREFIX}HTTP_URL", "")
    token = f"{PREFIX}HTTP_AUTH_BEARER_TOKEN"
    urls = endpoint_addresses(listed, field=f"{PREFIX}HTTP_URLS", token_variable=token)
    if not urls:
        return None
    return HttpAuditSettings(
        urls=urls,
        timeout_ms=number_setting(environment, f"{PREFIX}HTTP_TIMEOUT_MS", 2000),
        attempts=number_setting(environment, f"{PREFIX}HTTP_RETRY_MAX_ATTEMPTS", 2),
        backoff_ms=number_setting(environment, f"{PREFIX}HTTP_RETRY_BACKOFF_MS", 100),
        max_backoff_ms=number_setting(environment, f"{PREFIX}HTTP_RETRY_MAX_BACKOFF_MS", 1000),
        bearer_token=header_setting(environment, token),
        client_id=header_setting(environment, f"{PREFIX}HTTP_CLIENT_ID")
        or header_setting(environment, f"{PREFIX}CLIENT_ID"),
    )
