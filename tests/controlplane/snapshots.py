"""Artifacts, endpoints of known behaviour and a real HTTP server for the tests of the control plane."""

from __future__ import annotations

import datetime
import http.server
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from rspp.controlplane.artifact import SnapshotError, decode_artifact
from rspp.controlplane.settings import ControlPlaneSettings
from rspp.controlplane.template import artifact_template
from rspp.pipeline.spec import PipelineSpec
from rspp.pipeline.turn_start import turn_start_request
from rspp.session.virtual_time import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.controlplane.artifact import Artifact
    from rspp.controlplane.sources import Source

Document = dict[str, Any]
Change = Callable[[Document], None]

ISSUED_MS = 1_700_000_000_000
"""Where virtual time begins."""
SPEC = msgspec.convert(
    {"name": "desk", "llm": {"provider": "rules", "rules": [{"hear": "hello", "say": "hi"}]}}, PipelineSpec
)
REQUEST = turn_start_request(SPEC, "default")


def document(
    *changes: Change, spec: PipelineSpec = SPEC, version: int = 1, valid_s: float = 86_400.0
) -> Document:
    issued = datetime.datetime.fromtimestamp(ISSUED_MS / 1000 - 1, datetime.UTC)
    made = artifact_template(spec, issued=issued, valid=datetime.timedelta(seconds=valid_s), version=version)
    for change in changes:
        change(made)
    return made


def encoded(
    *changes: Change, spec: PipelineSpec = SPEC, version: int = 1, valid_s: float = 86_400.0
) -> bytes:
    return msgspec.json.encode(document(*changes, spec=spec, version=version, valid_s=valid_s))


def artifact(*changes: Change, version: int = 1, valid_s: float = 86_400.0) -> Artifact:
    return decode_artifact(encoded(*changes, version=version, valid_s=valid_s))


def put(path: str, value: object) -> Change:
    """A change that sets what is at a path such as ``lease/default/authority_authorized``."""
    *folders, name = path.split("/")

    def change(made: Document) -> None:
        for folder in folders:
            made = made.setdefault(folder, {})
        made[name] = value

    return change


def drop(path: str) -> Change:
    *folders, name = path.split("/")

    def change(made: Document) -> None:
        for folder in folders:
            made = made[folder]
        del made[name]

    return change


class FakeSource:
    """An endpoint that gives what it is told to; a failure is raised."""

    def __init__(self, answer: bytes | SnapshotError = b"", name: str = "fake") -> None:
        self.answer = answer
        self.name = self.identity = name
        self.asked = 0

    def read(self) -> bytes:
        self.asked += 1
        if isinstance(self.answer, SnapshotError):
            raise self.answer
        return self.answer


class FakeSleep:
    """Notes waits and waits none of them."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


def unreachable(*, retryable: bool = True) -> SnapshotError:
    return SnapshotError("artifact_read_failed", "does not answer", retryable=retryable)


def settings_of(*sources: Source, **others: Any) -> ControlPlaneSettings:
    return ControlPlaneSettings(sources=sources, **others)


def virtual_clock() -> VirtualClock:
    return VirtualClock(ISSUED_MS)


class Server:
    """What a real HTTP server on this machine answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.announced: int | None = None
        self.headers: dict[str, str] = {}
        self.requests: list[dict[str, str]] = []
        self.url = ""


@contextmanager
def serving(body: bytes = b"") -> Iterator[Server]:
    told = Server()
    told.body = body

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.requests.append(
                {"path": self.path, **{key.lower(): value for key, value in self.headers.items()}}
            )
            self.send_response(told.status)
            length = len(told.body) if told.announced is None else told.announced
            self.send_header("Content-Length", str(length))
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}/snapshots"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
