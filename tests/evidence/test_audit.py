"""The audit log: appended only, chained, one file for each tenant, and a service before it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence.audit import (
    AuditEvent,
    FileAudit,
    audit_events,
    audit_faults,
    log_name,
    tenant_of_log,
    verify_audit,
)
from rspp.evidence.audit_http import (
    FallbackAudit,
    HttpAudit,
    HttpAuditSettings,
    audit_sink,
    http_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def event_of(number: int, tenant: str = "acme") -> AuditEvent:
    return AuditEvent(
        timestamp_ms=number,
        kind="access",
        tenant_id=tenant,
        request={"principal_id": f"person-{number}"},
        decision={"allowed": False, "deny_reason": "role_not_authorized"},
    )


def log_of(folder: Path, events: int) -> Path:
    sink = FileAudit(folder)
    for number in range(events):
        sink.append(event_of(number))
    return folder / log_name("acme")


def test_events_are_chained_and_read_back(tmp_path: Path) -> None:
    path = log_of(tmp_path / "audit", 3)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(audit_events(path)) == [event_of(number) for number in range(3)]
    assert verify_audit(path) == (3, [])


def test_every_changed_byte_of_a_log_is_found(tmp_path: Path) -> None:
    path = log_of(tmp_path, 2)
    whole = path.read_bytes()
    for place, byte in enumerate(whole[:-1]):
        path.write_bytes(whole[:place] + bytes([byte ^ 1]) + whole[place + 1 :])
        assert verify_audit(path).faults, whole[place - 10 : place + 10]


@pytest.mark.parametrize("left", [b"", b"many\n"])
def test_events_cut_off_the_end_show_though_their_count_is_gone_too(left: bytes, tmp_path: Path) -> None:
    path = log_of(tmp_path, 4)
    head = path.with_name(f"{path.name}.head")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert [fault.problem for fault in verify_audit(path).faults] == ["2 events at the end are missing"]
    if left:
        head.write_bytes(left)
    else:
        head.unlink()
    (fault,) = verify_audit(path).faults
    assert "counts the events, is missing" in fault.problem


def test_what_a_decoder_would_pass_over_is_found_too(tmp_path: Path) -> None:
    path = log_of(tmp_path, 1)
    whole = path.read_bytes()
    for added in (b'{"format":1, ', b'{"format":1,"number":7,'):
        path.write_bytes(whole.replace(b'{"format":1,', added))
        assert verify_audit(path).faults[0].line == 1


@pytest.mark.parametrize(
    ("keep", "line", "problem"),
    [
        ([0, 2, 3], 2, "1 events are missing"),
        ([0, 2, 1, 3], 2, "1 events are missing"),
        ([0, 1, 1, 2, 3], 3, "out of its place"),
        ([1, 2, 3], 1, "1 events are missing"),
        ([0, 1, 2], 0, "1 events at the end are missing"),
        ([], 0, "4 events at the end are missing"),
    ],
)
def test_removed_repeated_and_reordered_lines_are_located(
    tmp_path: Path, keep: list[int], line: int, problem: str
) -> None:
    path = log_of(tmp_path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in keep))
    first = verify_audit(path).faults[0]
    assert first.line == line
    assert problem in first.problem


def test_a_line_torn_by_a_crash_is_said_and_the_log_goes_on_after_it(tmp_path: Path) -> None:
    path = log_of(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b'{"format":1,"number":3')
    assert "torn" in verify_audit(path).faults[0].problem
    FileAudit(tmp_path).append(event_of(9))
    assert verify_audit(path) == (3, [])
    assert [one.timestamp_ms for one in audit_events(path)] == [0, 1, 9]


def test_two_writers_share_one_chain(tmp_path: Path) -> None:
    sinks = [FileAudit(tmp_path), FileAudit(tmp_path)]
    for number in range(6):
        sinks[number % 2].append(event_of(number))
    assert verify_audit(tmp_path / log_name("acme")) == (6, [])


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_s7_no_two_tenants_share_a_log_even_without_case(one: str, other: str) -> None:
    try:
        names = log_name(one), log_name(other)
    except (EvidenceError, UnicodeEncodeError):
        return
    assert (names[0].casefold() == names[1].casefold()) is (one == other)
    assert tenant_of_log(names[0]) == one
    assert "/" not in names[0]
    assert not names[0].startswith(".")


def test_a_tenant_name_that_fits_no_file_is_refused() -> None:
    with pytest.raises(EvidenceError, match="cannot name an audit log"):
        log_name("A" * 100)
    assert tenant_of_log("notes.txt") is None
    assert tenant_of_log("_FF.replay-audit.jsonl") is None


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "audit"
    if kind == "file":
        folder.write_text("in the way")
    else:
        folder.mkdir()
        (folder / log_name("acme")).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvidenceError, match="cannot be written"):
        FileAudit(folder).append(event_of(1))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"timestamp_ms": -1}, "before 1970"),
        ({"request": {}}, "request is missing"),
        ({"decision": {}}, "allowed is missing"),
        ({"decision": {"allowed": False}}, "denial has no reason"),
        ({"decision": {"allowed": True, "redaction_markers": [{"action": "mask"}]}}, "marker has no reason"),
        ({"decision": {"allowed": True}}, ""),
    ],
)
def test_what_the_contract_asks_of_an_event(change: dict[str, object], problem: str) -> None:
    fields: dict[str, object] = {
        "timestamp_ms": 1,
        "kind": "access",
        "tenant_id": "acme",
        "request": {"role": "oncall"},
        "decision": {"allowed": True},
    }
    said = audit_faults(AuditEvent(**(fields | change)))  # type: ignore[arg-type]
    assert problem in said
    assert bool(said) is bool(problem)


class Service:
    """A real server on this machine that answers as told and remembers what it was sent."""

    def __init__(self, answers: list[int]) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, object]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.requests.append(
                    ({name.lower(): value for name, value in self.headers.items()}, json.loads(body))
                )
                status = answers[min(len(service.requests), len(answers)) - 1]
                self.send_response(status)
                if status in (301, 302, 307):
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/audit"


@contextmanager
def serving(*answers: int) -> Iterator[Service]:
    service = Service(list(answers))
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        service.server.shutdown()
        thread.join()
        service.server.server_close()


def http_audit(*urls: str, waits: list[float] | None = None, attempts: int = 2) -> HttpAudit:
    settings = HttpAuditSettings(urls=urls, attempts=attempts, bearer_token="t0ken", client_id="runtime-1")
    return HttpAudit(settings, sleep=(waits if waits is not None else []).append)


def test_an_event_is_posted_with_token_client_and_tenant() -> None:
    with serving(204) as service:
        http_audit(service.url).append(event_of(7))
    ((headers, body),) = service.requests
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["x-rspp-client-id"] == "runtime-1"
    assert headers["x-rspp-tenant-id"] == "acme"
    assert body["timestamp_ms"] == 7


def test_a_busy_service_is_tried_again_with_doubling_waits_and_a_refusal_is_not() -> None:
    waits: list[float] = []
    with serving(503, 429, 500, 500, 500, 200) as service:
        http_audit(service.url, waits=waits, attempts=6).append(event_of(1))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0]
    with serving(403) as service, pytest.raises(EvidenceError, match="answered 403"):
        http_audit(service.url).append(event_of(1))
    assert len(service.requests) == 1


def test_the_next_endpoint_takes_what_the_first_cannot() -> None:
    with serving(500) as first, serving(200) as second:
        http_audit(first.url, second.url).append(event_of(1))
    assert (len(first.requests), len(second.requests)) == (2, 1)


def test_a_redirect_is_a_refusal_so_the_token_goes_nowhere_else() -> None:
    with serving(302) as service, pytest.raises(EvidenceError, match="answered 302"):
        http_audit(service.url).append(event_of(1))
    assert len(service.requests) == 1


def test_files_keep_what_the_service_does_not_and_both_failing_is_an_error(tmp_path: Path) -> None:
    with serving(500) as service:
        FallbackAudit(http_audit(service.url), FileAudit(tmp_path / "audit")).append(event_of(1))
        (tmp_path / "blocked").write_text("in the way")
        with pytest.raises(EvidenceError, match=r"answered 500 and audit log .* cannot be written"):
            FallbackAudit(http_audit(service.url), FileAudit(tmp_path / "blocked")).append(event_of(1))
    assert verify_audit(tmp_path / "audit" / log_name("acme")) == (1, [])


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("HTTP_URLS", "http://audit.example/x", "in clear"),
        ("HTTP_URLS", "ftp://audit.example/x", "no address"),
        ("HTTP_URLS", "https://me:pw@audit.example/x", "user name or password"),
        ("HTTP_URLS", ",".join(f"https://a{number}.example" for number in range(9)), "names 9 endpoints"),
        ("HTTP_TIMEOUT_MS", "0", "no number from 1"),
        ("HTTP_TIMEOUT_MS", "soon", "no number from 1"),
        ("HTTP_AUTH_BEARER_TOKEN", "a\nb", "cannot be sent"),
    ],
)
def test_settings_that_are_wrong_are_named_without_their_secrets(
    variable: str, value: str, problem: str
) -> None:
    environment = {"RSPP_REPLAY_AUDIT_HTTP_URL": "https://audit.example"}
    environment[f"RSPP_REPLAY_AUDIT_{variable}"] = value
    with pytest.raises(ConfigurationError, match=problem) as caught:
        http_settings(environment)
    assert "pw" not in caught.value.message
    assert "a\nb" not in caught.value.message


def test_without_a_service_the_local_log_is_used(tmp_path: Path) -> None:
    audit_sink(tmp_path, {}).append(event_of(1))
    assert (tmp_path / "audit" / log_name("acme")).is_file()
    elsewhere = tmp_path / "elsewhere"
    audit_sink(tmp_path, {"RSPP_REPLAY_AUDIT_JSONL_FALLBACK_ROOT": str(elsewhere)}).append(event_of(1))
    assert (elsewhere / log_name("acme")).is_file()
    urls = {"RSPP_REPLAY_AUDIT_HTTP_URLS": "https://a.example, https://b.example,https://a.example"}
    settings = http_settings(urls)
    assert settings is not None
    assert settings.urls == ("https://a.example", "https://b.example")
