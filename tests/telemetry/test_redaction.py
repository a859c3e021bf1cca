"""What a caller said, and words that somebody else chose, never leave as telemetry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from rspp.telemetry.vocabulary import BoundedNames, name_of, reason_of
from tests.telemetry.collector import fake_collector
from tests.telemetry.evidence import (
    ANSWERED,
    attempt,
    context,
    decision,
    lines,
    marker,
    provider,
    signal,
    taken,
)

if TYPE_CHECKING:
    from tests.telemetry.evidence import Record

SECRET = "my card is 4111 1111 1111 1111"


def poisoned() -> list[Record]:
    """The secret in every place that somebody outside could write to."""
    said: Record = {
        "kind": "transcript",
        "party": "caller",
        "turn": 1,
        "text": SECRET,
        "words": 7,
        "at_us": 6_000_000,
    }
    return [
        *ANSWERED[:-5],
        said,
        taken(1100, "lease_lost", reason=SECRET),
        marker(1100, "gate_closed"),
        taken(1100, "connection", state=SECRET, reason=SECRET),
        signal(1100, "connected", reason=SECRET),
        signal(1100, "provider_switch", 1, reason=SECRET),
        signal(1100, "drop_notice", 1, reason=SECRET, edge_id=SECRET, seq_range={"start": 1, "end": 1}),
        signal(1100, "circuit_event", 1, reason=SECRET),
        signal(1100, SECRET, 1, reason=SECRET),
        decision(1100, SECRET, SECRET, SECRET, 1),
        attempt(
            1100,
            1,
            3,
            provider_id=SECRET,
            outcome=SECRET,
            reason=SECRET,
            retry_decision=SECRET,
            modality=SECRET,
        ),
        provider(1100, 1, SECRET, 5, SECRET),
        marker(1100, SECRET, 1),
        {"kind": SECRET, "at_us": 6_100_000, "text": SECRET},
        signal(1200, "abort", 1, reason=SECRET),
    ]


async def test_or_01_neither_text_nor_free_reasons_are_exported() -> None:
    async with fake_collector() as collector:
        settings = TelemetrySettings(otlp_http_endpoint=collector.url, export_timeout_ms=2_000)
        sink = TelemetrySink(settings)
        sink.begin(context())
        assert sink.offer(context(), lines(*poisoned()))
        assert await asyncio.to_thread(sink.flush)
        scraped = sink.scrape()[0]
        assert await asyncio.to_thread(sink.close)
        assert collector.spans
        assert collector.logs
        assert collector.metrics
        sent = b"".join([*collector.bodies, scraped])
    assert b"overload" in sent
    assert b"other" in sent
    assert b"4111" not in sent


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("cancelled", "cancelled"),
        (None, "none"),
        ("", "none"),
        (SECRET, "other"),
        (7, "other"),
        ("Cancelled", "other"),
    ],
)
def test_reasons_are_of_the_closed_table(given: object, shown: str) -> None:
    assert reason_of(given) == shown


@pytest.mark.parametrize("given", [SECRET, "", None, "x" * 101, "a\nb", "=evil"])
def test_a_name_that_looks_like_none_is_other(given: object) -> None:
    assert name_of(given) == "other"


def test_names_are_bounded() -> None:
    names = BoundedNames(2)
    assert [names(name) for name in ("a", "b", "c", "a", "b")] == ["a", "b", "other", "a", "b"]
