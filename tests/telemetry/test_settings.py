"""The variables that set telemetry up."""

from __future__ import annotations

import pytest

from rspp.contracts.errors import ConfigurationError
from rspp.telemetry.opening import telemetry_opened
from rspp.telemetry.settings import TelemetrySettings, telemetry_settings

NUMBERS = ("QUEUE_CAPACITY", "DROP_SAMPLE_RATE", "EXPORT_TIMEOUT_MS")


def test_defaults_are_those_of_the_contract() -> None:
    expected = TelemetrySettings(
        enabled=True, otlp_http_endpoint="", queue_capacity=256, drop_sample_rate=1, export_timeout_ms=200
    )
    assert telemetry_settings({}) == expected
    assert telemetry_settings({f"RSPP_TELEMETRY_{name}": " " for name in (*NUMBERS, "ENABLED")}) == expected


def test_every_variable_is_heeded() -> None:
    given = {
        "RSPP_TELEMETRY_ENABLED": "Off",
        "RSPP_TELEMETRY_OTLP_HTTP_ENDPOINT": "https://collector:4318/",
        "RSPP_TELEMETRY_QUEUE_CAPACITY": "12",
        "RSPP_TELEMETRY_DROP_SAMPLE_RATE": "10",
        "RSPP_TELEMETRY_EXPORT_TIMEOUT_MS": "900",
    }
    assert telemetry_settings(given) == TelemetrySettings(
        enabled=False,
        otlp_http_endpoint="https://collector:4318",
        queue_capacity=12,
        drop_sample_rate=10,
        export_timeout_ms=900,
    )


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "1_0", "٣", "1000001", "9" * 5000])
def test_a_bad_number_is_a_configuration_error_that_names_it(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"RSPP_TELEMETRY_{name}") as raised:
        telemetry_settings({f"RSPP_TELEMETRY_{name}": value})
    assert raised.value.hint


@pytest.mark.parametrize("value", ["collector:4318", "ftp://x", "http://", "http://x:port", "http://x/?a=b"])
def test_a_bad_endpoint_is_a_configuration_error(value: str) -> None:
    with pytest.raises(ConfigurationError, match="RSPP_TELEMETRY_OTLP_HTTP_ENDPOINT"):
        telemetry_settings({"RSPP_TELEMETRY_OTLP_HTTP_ENDPOINT": value})


def test_a_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as raised:
        telemetry_settings({"RSPP_TELEMETRY_OTLP_HTTP_ENDPOINT": "http://me:hunter2@collector:4318"})
    assert "hunter2" not in raised.value.message


def test_a_switch_is_on_or_off() -> None:
    with pytest.raises(ConfigurationError, match="RSPP_TELEMETRY_ENABLED"):
        telemetry_settings({"RSPP_TELEMETRY_ENABLED": "maybe"})


@pytest.mark.parametrize(
    ("settings", "scraped", "opened"),
    [
        (TelemetrySettings(), True, True),
        (TelemetrySettings(), False, False),
        (TelemetrySettings(otlp_http_endpoint="http://127.0.0.1:9"), False, True),
        (TelemetrySettings(enabled=False, otlp_http_endpoint="http://127.0.0.1:9"), True, False),
    ],
)
def test_there_is_telemetry_when_it_is_on_and_somebody_takes_it(
    settings: TelemetrySettings, *, scraped: bool, opened: bool
) -> None:
    with telemetry_opened(settings, scraped=scraped, tenant="acme") as sink:
        assert (sink is not None) == opened
