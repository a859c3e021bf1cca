"""The endpoint of health, 200 while the server knows this worker and 503 otherwise, and of metrics."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import time
from typing import TYPE_CHECKING

from aiohttp import web

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping


TOKEN_VARIABLE = "RSPP_METRICS_TOKEN"
"""Environment variable with the token that a scrape must carry."""
SCRAPE_AGE_S = 1.0
"""Scrapes closer to each other than this get the same answer: whoever asks often costs no more."""


@contextlib.asynccontextmanager
async def health_endpoint(
    host: str,
    port: int,
    report: Callable[[], Mapping[str, object]],
    metrics: Callable[[], tuple[bytes, str]] | None = None,
    token: str = "",
) -> AsyncIterator[int]:
    """Answer ``GET /``, ``GET /healthz`` and ``GET /metrics`` for the length of an ``async with`` block.

    Args:
        host: address to listen on.
        port: port; 0 takes a free one.
        report: returns what is shown; ``healthy`` decides between 200 and 503.
        metrics: returns all metrics in Prometheus' format and its content type, from any thread; without
            it ``/metrics`` is not there.
        token: bearer token that a scrape must carry; without one only this machine's own addresses may be
            listened on for metrics, and beyond them ``/metrics`` is refused.

    Yields:
        The port listened on.

    Raises:
        ConfigurationError: the port is taken or may not be used.
    """

    async def answer(_: web.Request) -> web.Response:
        shown = dict(report())
        return web.json_response(shown, status=200 if shown.get("healthy") else 503)

    application = web.Application()
    application.router.add_get("/", answer)
    application.router.add_get("/healthz", answer)
    if metrics is not None:
        application.router.add_get("/metrics", _scraping(metrics, token, local=_is_local(host)))
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except (OSError, UnicodeError) as error:
            # A host that is none fails while its letters are encoded.
            raise ConfigurationError(
                f"--port {port} on {host} cannot be used: {_cause(error)}",
                hint="choose another with --port, or end the program that listens there; 0 takes a free one",
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _scraping(
    metrics: Callable[[], tuple[bytes, str]], token: str, *, local: bool
) -> Callable[[web.Request], Awaitable[web.Response]]:
    one_at_a_time = asyncio.Lock()
    latest: tuple[float, bytes, str] | None = None
    expected = f"Bearer {token}".encode()

    async def scrape(request: web.Request) -> web.Response:
        nonlocal latest
        if token:
            given = request.headers.get("Authorization", "").encode(errors="replace")
            if not hmac.compare_digest(given, expected):
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        elif not local:
            raise web.HTTPForbidden(text=f"set {TOKEN_VARIABLE} to let metrics be read from elsewhere\n")
        async with one_at_a_time:
            if latest is None or time.monotonic() - latest[0] > SCRAPE_AGE_S:
                # In a thread: rendering takes milliseconds, which a call's audio would miss.
                text, kind = await asyncio.to_thread(metrics)
                latest = (time.monotonic(), text, kind)
        return web.Response(body=latest[1], headers={"Content-Type": latest[2]})

    return scrape


def _cause(error: OSError | UnicodeError) -> str:
    import errno

    if isinstance(error, UnicodeError):
        return "it is no name of a host"
    if error.errno == errno.EADDRINUSE:
        return "it is in use"
    if error.errno == errno.EACCES:
        return "this user may not listen there"
    return error.strerror or str(error)
