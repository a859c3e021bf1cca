"""``GET /metrics`` beside the health endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from rspp.runtime.health import health_endpoint
from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from tests.telemetry.evidence import ANSWERED, context, lines
from tests.telemetry.scraping import sample, samples_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def well() -> Mapping[str, object]:
    return {"healthy": True}


async def get(port: int, path: str, authorization: str = "") -> tuple[int, str, bytes]:
    headers = {"Authorization": authorization} if authorization else {}
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.read()


async def test_metrics_can_be_scraped_and_parsed() -> None:
    sink = TelemetrySink(TelemetrySettings())
    sink.begin(context())
    sink.offer(context(), lines(*ANSWERED))
    assert sink.flush()
    async with health_endpoint("127.0.0.1", 0, well, sink.scrape) as port:
        status, kind, text = await get(port, "/metrics")
        assert (await get(port, "/healthz"))[0] == 200
    sink.close()
    assert status == 200
    assert kind.startswith("text/plain")
    found = samples_of(text)
    assert sample(found, "rspp_turns_total", pipeline="desk@v3", outcome="commit", reason="none") == 1
    assert sample(found, "rspp_active_sessions") == 1


async def test_scrapes_that_follow_at_once_cost_nothing() -> None:
    rendered = 0

    def render() -> tuple[bytes, str]:
        nonlocal rendered
        rendered += 1
        return b"x 1\n", "text/plain"

    async with health_endpoint("127.0.0.1", 0, well, render) as port:
        answers = [await get(port, "/metrics") for _ in range(5)]
    assert answers == [(200, "text/plain", b"x 1\n")] * 5
    assert rendered == 1


async def test_without_telemetry_there_are_no_metrics() -> None:
    async with health_endpoint("127.0.0.1", 0, well) as port:
        assert (await get(port, "/metrics"))[0] == 404


async def test_a_scrape_from_elsewhere_needs_the_token() -> None:
    def render() -> tuple[bytes, str]:
        return b"x 1\n", "text/plain"

    async with health_endpoint("127.0.0.1", 0, well, render, "s3cret") as port:
        assert (await get(port, "/metrics"))[0] == 401
        for wrong in ("Bearer s3cre", "Bearer ", "s3cret", "Basic s3cret"):
            assert (await get(port, "/metrics", authorization=wrong))[0] == 401
        assert (await get(port, "/metrics", authorization="Bearer s3cret"))[2] == b"x 1\n"
        assert (await get(port, "/healthz"))[0] == 200
    async with health_endpoint("0.0.0.0", 0, well, render) as port:
        status, _, text = await get(port, "/metrics")
        assert (status, b"RSPP_METRICS_TOKEN" in text) == (403, True)
        assert (await get(port, "/healthz"))[0] == 200
