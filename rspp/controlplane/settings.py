"""Where snapshots come from and how long they hold: ``--control-plane`` and the environment (appendix A)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from rspp.contracts.errors import ConfigurationError
from rspp.contracts.turn_start import FailureOutcome
from rspp.controlplane.signature import PUBLIC_KEY_VARIABLE, public_key
from rspp.controlplane.sources import EnvironmentSource, FileSource, HttpSource
from rspp.endpoints import endpoint_addresses, header_setting, number_setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from rspp.controlplane.sources import Source

PREFIX = "RSPP_CP_DISTRIBUTION_"
FLAG = "--control-plane"
ENVIRONMENT = "env:"
"""``env:NAME`` takes the artifact out of the environment variable itself."""


class ControlPlaneSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How snapshots are received.

    Attributes:
        sources: endpoints in the order in which they are asked.
        cache_ttl_ms: how often they are asked.
        max_staleness_ms: how long after that the latest snapshot still serves when they do not answer.
        attempts: rounds over the endpoints that failed, in one refresh.
        backoff_ms: wait before the second round; doubles with each further one.
        max_backoff_ms: longest such wait.
        key: who must have signed; none takes unsigned artifacts.
        snapshot_failure: outcome of a turn whose snapshot is invalid, stale or missing.
        plan_failure: outcome of a turn whose bundle cannot be resolved.
    """

    sources: tuple[Source, ...]
    cache_ttl_ms: int = 2000
    max_staleness_ms: int = 10_000
    attempts: int = 2
    backoff_ms: int = 100
    max_backoff_ms: int = 1000
    key: Ed25519PublicKey | None = None
    snapshot_failure: FailureOutcome = "defer"
    plan_failure: FailureOutcome = "defer"


DEFAULTS = ControlPlaneSettings(sources=())


def control_plane_settings(
    given: str = "", environment: Mapping[str, str] | None = None
) -> ControlPlaneSettings | None:
    """Return how snapshots are received; none when nothing names a source.

    Args:
        given: ``FILE``, ``env:NAME``, or ``URL[,URL…]``; empty leaves it to the environment, where addresses
            beat a file.
        environment: ``os.environ`` when absent.

    Raises:
        ConfigurationError: a source or a variable is wrong.
    """
    values = os.environ if environment is None else environment
    sources = _sources(given.strip(), values)
    if not sources:
        return None
    key = values.get(PUBLIC_KEY_VARIABLE, "").strip()
    return ControlPlaneSettings(
        sources=sources,
        cache_ttl_ms=number_setting(values, f"{PREFIX}HTTP_CACHE_TTL_MS", DEFAULTS.cache_ttl_ms),
        max_staleness_ms=number_setting(values, f"{PREFIX}HTTP_MAX_STALENESS_MS", DEFAULTS.max_staleness_ms),
        attempts=number_setting(values, f"{PREFIX}HTTP_RETRY_MAX_ATTEMPTS", DEFAULTS.attempts),
        backoff_ms=number_setting(values, f"{PREFIX}HTTP_RETRY_BACKOFF_MS", DEFAULTS.backoff_ms),
        max_backoff_ms=number_setting(values, f"{PREFIX}HTTP_RETRY_MAX_BACKOFF_MS", DEFAULTS.max_backoff_ms),
        key=public_key(key) if key else None,
        snapshot_failure=_outcome(values, "SNAPSHOT_FAILURE"),
        plan_failure=_outcome(values, "PLAN_FAILURE"),
    )


def _sources(given: str, values: Mapping[str, str]) -> tuple[Source, ...]:
    if given.startswith(ENVIRONMENT):
        return (EnvironmentSource(given.removeprefix(ENVIRONMENT), values),)
    if "://" in given:
        return _http_sources(given, FLAG, values)
    if given:
        return (FileSource(Path(given)),)
    for name in ("HTTP_URLS", "HTTP_URL"):
        if values.get(PREFIX + name, "").strip():
            return _http_sources(values[PREFIX + name], PREFIX + name, values)
    path = values.get(f"{PREFIX}PATH", "").strip()
    return (FileSource(Path(path)),) if path else ()


def _http_sources(listed: str, field: str, values: Mapping[str, str]) -> tuple[Source, ...]:
    token = f"{PREFIX}HTTP_AUTH_BEARER_TOKEN"
    return tuple(
        HttpSource(
            url,
            timeout_ms=number_setting(values, f"{PREFIX}HTTP_TIMEOUT_MS", 2000),
            bearer_token=header_setting(values, token),
            client_id=header_setting(values, f"{PREFIX}HTTP_CLIENT_ID")
            or header_setting(values, f"{PREFIX}CLIENT_ID"),
        )
        for url in endpoint_addresses(listed, field=field, token_variable=token)
    )


def _outcome(values: Mapping[str, str], name: str) -> FailureOutcome:
    text = values.get(PREFIX + name, "").strip() or "defer"
    for outcome in get_args(FailureOutcome):
        if text == outcome:
            return outcome  # type: ignore[no-any-return]
    raise ConfigurationError(
        f"{PREFIX}{name} {json.dumps(text[:40])} is neither defer nor reject", hint="write one of them"
    )
