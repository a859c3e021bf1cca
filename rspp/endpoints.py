"""How RSPP reaches services over HTTP: their addresses, what is sent to them, and what is never done.

Endpoints are tried in order; https only, except on this machine. Redirects are not followed: they would
carry the token elsewhere.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message
    from typing import IO

LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
MAX_ENDPOINTS = 8
LARGEST = 600_000
"""Upper bound of every number, milliseconds or attempts: a typing error must not become an endless wait."""
TOO_MANY = 429


def endpoint_addresses(listed: str, *, field: str, token_variable: str) -> tuple[str, ...]:
    """Return the addresses of a list with commas, in order and each once.

    Args:
        listed: what was given.
        field: where it was given, for messages.
        token_variable: where a token belongs instead of in an address.

    Raises:
        ConfigurationError: one is no address, holds a secret or would be spoken to in clear, or there are
            too many; the message shows hosts only.
    """
    urls = tuple(dict.fromkeys(url.strip() for url in listed.split(",") if url.strip()))
    if len(urls) > MAX_ENDPOINTS:
        raise ConfigurationError(f"{field} names {len(urls)} endpoints", hint=f"name at most {MAX_ENDPOINTS}")
    for url in urls:
        _check(url, field, token_variable)
    return urls


def _check(url: str, field: str, token_variable: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"{field}: an endpoint is no address", hint="write it as https://host/path")
    if parts.username or parts.password:
        raise ConfigurationError(
            f"{field}: the endpoint at {host} holds a user name or password",
            hint=f"put the token into {token_variable}",
        )
    if parts.scheme == "http" and host not in LOCAL:
        raise ConfigurationError(
            f"{field}: the endpoint at {host} would be spoken to in clear",
            hint="use https beyond this machine",
        )


def number_setting(values: Mapping[str, str], name: str, default: int) -> int:
    """Return a number of the environment.

    Raises:
        ConfigurationError: it is none from 1 to ``LARGEST``.
    """
    text = values.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= LARGEST:
        raise ConfigurationError(
            f"{name} {json.dumps(text[:40])} is no number from 1 to {LARGEST}",
            hint=f"write a whole number, or leave it out for {default}",
        )
    return int(text)


def header_setting(values: Mapping[str, str], name: str) -> str:
    """Return a value of the environment that is sent as a header; empty for none.

    Raises:
        ConfigurationError: it cannot be sent; the message does not show it.
    """
    text = values.get(name, "").strip()
    if any(not 32 <= ord(letter) < 127 for letter in text):
        raise ConfigurationError(
            f"{name} cannot be sent (value not shown)", hint="use printable ASCII characters"
        )
    return text


def direct_opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses: certificates are checked, redirects are failures."""
    # A proxy is for https only: through it, what is meant for this machine would leave it in clear.
    proxies = {scheme: url for scheme, url in urllib.request.getproxies().items() if scheme == "https"}
    return urllib.request.build_opener(
        _NoRedirect,
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        return None
