"""Where snapshots come from, as the flag and the environment say."""

from __future__ import annotations

import pytest

from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.settings import control_plane_settings
from rspp.endpoints import MAX_ENDPOINTS

P = "RSPP_CP_DISTRIBUTION_"


def names(given: str, **values: str) -> list[str]:
    settings = control_plane_settings(given, {P + name: value for name, value in values.items()})
    return [] if settings is None else [source.name for source in settings.sources]


def test_without_a_name_there_is_no_control_plane() -> None:
    assert control_plane_settings("", {}) is None


def test_the_flag_beats_the_environment_and_addresses_beat_a_file() -> None:
    assert names("a.json", HTTP_URLS="https://host/x", PATH="b.json") == ["a.json"]
    assert names("env:SNAPSHOT") == ["env:SNAPSHOT"]
    assert names("", HTTP_URLS="https://a/x,https://b:8443/y", HTTP_URL="https://c", PATH="b.json") == [
        "https://a",
        "https://b:8443",
    ]
    assert names("", HTTP_URL="http://[::1]:80/x", PATH="b.json") == ["http://[::1]:80"]
    assert names("", PATH="b.json") == ["b.json"]


def test_endpoints_are_ordered_and_unique() -> None:
    assert names("https://b/1,https://a/1, https://b/1,https://b/2") == [
        "https://b",
        "https://a",
        "https://b",
    ]


@pytest.mark.parametrize(
    "urls",
    [
        "http://example.com/x",
        "ftp://example.com/x",
        "https://",
        "https://user:secret@host/x",
        "https://host:port/x",
        ",".join(f"https://host{number}" for number in range(MAX_ENDPOINTS + 1)),
    ],
)
def test_wrong_addresses_are_refused_without_their_secrets(urls: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        names(urls)
    assert "--control-plane" in caught.value.message
    assert caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint
    with pytest.raises(ConfigurationError, match="HTTP_URLS"):
        names("", HTTP_URLS=urls)


@pytest.mark.parametrize(
    "name",
    [
        "HTTP_CACHE_TTL_MS",
        "HTTP_MAX_STALENESS_MS",
        "HTTP_RETRY_MAX_ATTEMPTS",
        "HTTP_RETRY_BACKOFF_MS",
        "HTTP_RETRY_MAX_BACKOFF_MS",
        "HTTP_TIMEOUT_MS",
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "ten", "٣", "600001", "9" * 50])
def test_wrong_numbers_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        names("https://host", **{name: value})


def test_numbers_and_outcomes_are_taken() -> None:
    values = {
        f"{P}HTTP_CACHE_TTL_MS": "500",
        f"{P}HTTP_MAX_STALENESS_MS": "700",
        f"{P}PLAN_FAILURE": "reject",
    }
    settings = control_plane_settings("a.json", values)
    assert settings is not None
    assert (settings.cache_ttl_ms, settings.max_staleness_ms, settings.attempts) == (500, 700, 2)
    assert (settings.snapshot_failure, settings.plan_failure) == ("defer", "reject")


@pytest.mark.parametrize("name", ["SNAPSHOT_FAILURE", "PLAN_FAILURE"])
def test_wrong_outcomes_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        names("a.json", **{name: "open"})


def test_a_token_that_cannot_be_sent_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="AUTH_BEARER_TOKEN") as caught:
        names("https://host", HTTP_AUTH_BEARER_TOKEN="geheim\n-é")
    assert "geheim" not in caught.value.message


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="PUBLIC_KEY"):
        names("a.json", PUBLIC_KEY="AAAA")
