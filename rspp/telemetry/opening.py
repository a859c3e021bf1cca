"""Opens the telemetry of a process for the length of a ``with`` block."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.telemetry.settings import TelemetrySettings
    from rspp.telemetry.sink import TelemetrySink


@contextlib.contextmanager
def telemetry_opened(
    settings: TelemetrySettings, *, scraped: bool, tenant: str
) -> Iterator[TelemetrySink | None]:
    """Open telemetry; closing waits two seconds at most for what is not sent yet.

    Args:
        settings: how it is set up.
        scraped: whether somebody can read ``/metrics``.
        tenant: whose calls the process will hold.

    Yields:
        The sink; none when telemetry is off, or when neither a collector nor a scraper would take it.
    """
    if not settings.enabled or not (scraped or settings.otlp_http_endpoint):
        yield None
        return
    # Imported late: the exporters bring an HTTP library that a process without telemetry does not need.
    from rspp.telemetry.sink import TelemetrySink

    sink = TelemetrySink(settings)
    sink.expect(tenant)
    try:
        yield sink
    finally:
        sink.close()
