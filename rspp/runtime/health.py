"""The endpoint of health, 200 while the server knows this worker and 503 otherwise, and of metrics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from aiohttp import web

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping


SCRAPE_AGE_S = 1.0
"""Scrapes closer to each other than this get the same answer: whoever asks often costs no more."""


@contextlib.asynccontextmanager
async def health_endpoint(
    host: str,
    port: int,
    report: Callable[[], Mapping[str, object]],
    metrics: Callable[[], tuple[bytes, str]] | None = None,
) -> AsyncIterator[int]:
    """Answer ``GET /``, ``GET /healthz`` and ``GET /metrics`` for the length of an ``async with`` block.

    Args:
        host: address to listen on.
        port: port; 0 takes a free one.
        report: returns what is shown; ``healthy`` decides between 200 and 503.
        metrics: returns all metrics in Prometheus' format and its content type, from any thread; without
            it ``/metrics`` is not there.

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
        application.router.add_get("/metrics", _scraping(metrics))
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"--port {port} on {host} cannot be used: {_cause(error)}",
                hint="Choose another with --port, or end the program that listens there; 0 takes a free one.",
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _scraping(metrics: Callable[[], tuple[bytes, str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    one_at_a_time = asyncio.Lock()
    latest: tuple[float, bytes, str] | None = None

    async def scrape(_: web.Request) -> web.Response:
        nonlocal latest
        async with one_at_a_time:
            if latest is None or time.monotonic() - latest[0] > SCRAPE_AGE_S:
                # In a thread: rendering takes milliseconds, which a call's audio would miss.
                text, kind = await asyncio.to_thread(metrics)
                latest = (time.monotonic(), text, kind)
        return web.Response(body=latest[1], headers={"Content-Type": latest[2]})

    return scrape


def _cause(error: OSError) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return "it is in use"
    if error.errno == errno.EACCES:
        return "this user may not listen there"
    return error.strerror or str(error)
