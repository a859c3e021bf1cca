"""The health endpoint: 200 while the server knows this worker, 503 otherwise."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiohttp import web

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


@contextlib.asynccontextmanager
async def health_endpoint(
    host: str, port: int, report: Callable[[], Mapping[str, object]]
) -> AsyncIterator[int]:
    """Answer ``GET /`` and ``GET /healthz`` for the length of an ``async with`` block.

    Args:
        host: address to listen on.
        port: port; 0 takes a free one.
        report: returns what is shown; ``healthy`` decides between 200 and 503.

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


def _cause(error: OSError) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return "it is in use"
    if error.errno == errno.EACCES:
        return "this user may not listen there"
    return error.strerror or str(error)
