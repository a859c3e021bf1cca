"""A collector for OTLP over HTTP that keeps what it is sent, or is slow, or refuses."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class FakeCollector:
    """What came in; ``status`` is what it answers, after ``delay_s``."""

    def __init__(self) -> None:
        self.status = 200
        self.delay_s = 0.0
        self.url = ""
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self.logs: list[LogRecord] = []
        self.metrics: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(self.delay_s)
        if self.status != 200:
            return web.Response(status=self.status)
        self.bodies.append(body)
        match request.path:
            case "/v1/traces":
                for traced in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.spans += [span for scope in traced.scope_spans for span in scope.spans]
            case "/v1/logs":
                for logged in ExportLogsServiceRequest.FromString(body).resource_logs:
                    self.logs += [record for scope in logged.scope_logs for record in scope.log_records]
            case "/v1/metrics":
                for metered in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    self.metrics |= {
                        metric.name for scope in metered.scope_metrics for metric in scope.metrics
                    }
        return web.Response()


@contextlib.asynccontextmanager
async def fake_collector() -> AsyncIterator[FakeCollector]:
    collector = FakeCollector()
    application = web.Application()
    application.router.add_post("/v1/{signal}", collector.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()


def told(attributes: list[KeyValue]) -> dict[str, str | int | bool]:
    """Attributes as a dict; only texts, numbers and booleans are ever sent."""
    found: dict[str, str | int | bool] = {}
    for item in attributes:
        kind = item.value.WhichOneof("value")
        assert kind in ("string_value", "int_value", "bool_value"), item
        found[item.key] = getattr(item.value, str(kind))
    return found
