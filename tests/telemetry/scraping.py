"""Reads what ``/metrics`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from tests.telemetry.evidence import context, lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rspp.telemetry.context import SessionContext
    from tests.telemetry.evidence import Record

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: bytes) -> Samples:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def sample(samples: Samples, name: str, **labels: str) -> float:
    """The one sample of that name; ``acme`` is the tenant where there is one."""
    with_tenant = frozenset((labels | {"tenant": "acme"}).items())
    return samples[name, with_tenant if (name, with_tenant) in samples else frozenset(labels.items())]


def read_samples(sink: TelemetrySink) -> Samples:
    """The metrics once all evidence has been read."""
    assert sink.flush(timeout=30.0)
    return samples_of(sink.scrape()[0])


def measured(records: Iterable[Record], of: SessionContext | None = None) -> Samples:
    """The metrics after one session."""
    sink = TelemetrySink(TelemetrySettings())
    session = of or context()
    sink.begin(session)
    sink.offer(session, lines(*records))
    found = read_samples(sink)
    sink.close()
    return found
