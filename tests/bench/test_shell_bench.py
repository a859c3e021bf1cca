"""What users and sessions notice of the shell's speed, each figure beside its named limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from rspp import _kernel
from rspp.evidence import writer
from rspp.evidence.writer import EvidenceWriter
from rspp.telemetry.settings import TelemetrySettings
from rspp.telemetry.sink import TelemetrySink
from rspp.tooling.call_page.builder import build_call
from rspp.tooling.call_page.page import call_page
from tests.evidence.recordings import HEADER, marks
from tests.telemetry.evidence import ANSWERED, context, lines
from tests.tooling.pages import an_hour

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

VERSION_LIMIT_S = 0.3
"""From the start of a command to its version; people wait for it."""
PAGE_LIMIT_S = 10.0
"""For the page of a call of an hour."""
HAND_OVER_LIMIT_S = 100e-6
"""For one flush of a session given to somebody who does not take it: half a percent of a frame of 20 ms."""
OFFERS = 400


@pytest.fixture(autouse=True)
def release_build() -> None:
    if _kernel.BUILD_PROFILE != "release":
        pytest.fail("figures of a debug build mean nothing: build with `maturin develop --release`")


def measure(benchmark: BenchmarkFixture, limit_s: float, call: Callable[[], Any], **settings: Any) -> None:
    """Measure ``call`` and fail when its median is beyond ``limit_s``."""
    benchmark.extra_info["limit_s"] = limit_s
    benchmark.pedantic(call, **settings)  # type: ignore[no-untyped-call] # the plugin leaves it untyped
    stats = benchmark.stats
    assert stats is not None
    assert stats.stats.median <= limit_s


@pytest.mark.parametrize("module", ["rspp.cli.main", "rspp.runtime.main", "rspp.runtime.local_runner"])
def test_the_version_of_a_command(benchmark: BenchmarkFixture, module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    measure(
        benchmark,
        VERSION_LIMIT_S,
        lambda: subprocess.run(command, check=True, capture_output=True, timeout=30),
        rounds=9,
        warmup_rounds=1,
    )


def test_the_page_of_an_hour(benchmark: BenchmarkFixture) -> None:
    records = an_hour()
    measure(benchmark, PAGE_LIMIT_S, lambda: call_page(build_call(records)), rounds=3)


def test_an_offer_while_the_collector_never_answers(benchmark: BenchmarkFixture) -> None:
    batch = lines(*ANSWERED)
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        collector.listen(16)
        url = f"http://127.0.0.1:{collector.getsockname()[1]}"
        sink = TelemetrySink(
            TelemetrySettings(otlp_http_endpoint=url, queue_capacity=OFFERS, export_timeout_ms=100)
        )
        sink.begin(context())
        measure(benchmark, HAND_OVER_LIMIT_S, lambda: sink.offer(context(), batch), rounds=OFFERS)
        sink.close()


def test_a_flush_handed_over_while_the_disk_hangs(
    benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go, write = threading.Event(), threading.Event(), os.write

    def hanging(file: int, content: bytes) -> int:
        reached.set()
        go.wait(30)
        return write(file, content)

    with EvidenceWriter(tmp_path) as written:
        recorder = written.open("bench", epoch=1)
        recorder.begin(dict(HEADER))
        monkeypatch.setattr("rspp.evidence.segment_file.os.write", hanging)
        recorder.write(b"", marks(0, 1))
        assert reached.wait(30)
        flush = marks(1, 10)
        measure(
            benchmark,
            HAND_OVER_LIMIT_S,
            lambda: recorder.write(b"", flush),
            rounds=2 * writer.MAX_SESSION_BLOCKS,
        )
        assert recorder.dropped > 0
        go.set()
