"""How telemetry is set up: the ``RSPP_TELEMETRY_…`` variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

QUEUE_CAPACITY = 256
DROP_SAMPLE_RATE = 1
EXPORT_TIMEOUT_MS = 200
LARGEST = 1_000_000
"""Upper bound of every number: a typing error must not become an unbounded queue or an endless wait."""

_SWITCH = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a process exports telemetry (appendix A of the contracts).

    Attributes:
        enabled: whether there is any.
        otlp_http_endpoint: base address of an OTLP/HTTP collector; ``/v1/traces``, ``/v1/metrics`` and
            ``/v1/logs`` are added. Empty sends nothing and leaves the metrics to a Prometheus server.
        queue_capacity: batches of evidence that wait for the telemetry thread, and batches that wait for
            the collector.
        drop_sample_rate: of the debug logs the first is kept, then every one of this number.
        export_timeout_ms: longest wait for the collector, milliseconds for each request.
    """

    enabled: bool = True
    otlp_http_endpoint: str = ""
    queue_capacity: int = QUEUE_CAPACITY
    drop_sample_rate: int = DROP_SAMPLE_RATE
    export_timeout_ms: int = EXPORT_TIMEOUT_MS


def telemetry_settings(environment: Mapping[str, str] | None = None) -> TelemetrySettings:
    """Return the settings of the environment.

    Args:
        environment: ``os.environ`` when absent.

    Raises:
        ConfigurationError: a number is none or below 1, the switch is neither on nor off, or the endpoint
            is no address.
    """
    given = os.environ if environment is None else environment
    return TelemetrySettings(
        enabled=_switch(given, "RSPP_TELEMETRY_ENABLED"),
        otlp_http_endpoint=_endpoint(given, "RSPP_TELEMETRY_OTLP_HTTP_ENDPOINT"),
        queue_capacity=_number(given, "RSPP_TELEMETRY_QUEUE_CAPACITY", QUEUE_CAPACITY),
        drop_sample_rate=_number(given, "RSPP_TELEMETRY_DROP_SAMPLE_RATE", DROP_SAMPLE_RATE),
        export_timeout_ms=_number(given, "RSPP_TELEMETRY_EXPORT_TIMEOUT_MS", EXPORT_TIMEOUT_MS),
    )


def _switch(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").strip().lower()
    if not text:
        return True
    if text not in _SWITCH:
        raise ConfigurationError(f"{name} {text!r} is neither on nor off", hint="write true or false")
    return _SWITCH[text]


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    # ``int`` alone would take "1_0" and digits of other scripts.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)) else 0
    if not 1 <= number <= LARGEST:
        raise ConfigurationError(
            f"{name} {text!r} is no number from 1 to {LARGEST}",
            hint=f"write a whole number, or leave it out for {default}",
        )
    return number


def _endpoint(environment: Mapping[str, str], name: str) -> str:
    text = environment.get(name, "").strip().rstrip("/")
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        secret = "@" in parts.netloc
    except ValueError:
        sound = secret = False
    if secret:
        raise ConfigurationError(
            f"{name} holds a user or password",
            hint="put credentials of the collector into OTEL_EXPORTER_OTLP_HEADERS",
        )
    if not sound or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{name} {text!r} is no address", hint="write it as http://host:4318, without /v1/traces"
        )
    return text
