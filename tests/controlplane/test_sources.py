"""Files, variables and HTTP endpoints, and which of several answers is taken."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rspp.controlplane.artifact import MAX_BYTES, SnapshotError
from rspp.controlplane.reading import ArtifactReader
from rspp.controlplane.signature import signed
from rspp.controlplane.sources import EnvironmentSource, FileSource, HttpSource
from tests.controlplane.snapshots import (
    ISSUED_MS,
    FakeSleep,
    FakeSource,
    artifact,
    document,
    encoded,
    put,
    serving,
    settings_of,
    unreachable,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.controlplane.sources import Source

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def failure(source: Source) -> SnapshotError:
    with pytest.raises(SnapshotError) as caught:
        source.read()
    assert caught.value.code == "artifact_read_failed"
    assert caught.value.hint
    return caught.value


# ------------------------------------------------------------------ file and variable


def test_a_file_gives_its_contents_as_they_are_now(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    path.write_bytes(b"one")
    source = FileSource(path)
    assert source.read() == b"one"
    path.write_bytes(b"two")
    assert source.read() == b"two"


def test_a_file_that_is_none_or_too_large_is_said_so(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    said = f"control plane: {missing}: cannot be read: No such file or directory"
    assert failure(FileSource(missing)).message == said
    assert "is no file" in failure(FileSource(tmp_path)).message
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in failure(FileSource(tmp_path / "pipe")).message
    (tmp_path / "large").write_bytes(b" " * (MAX_BYTES + 1))
    assert "more than" in failure(FileSource(tmp_path / "large")).message


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "snapshot.json"
    path.write_bytes(content)
    with pytest.raises(SnapshotError) as caught:
        ArtifactReader(settings_of(FileSource(path))).read(ISSUED_MS)
    assert caught.value.code == "artifact_decode_failed"
    assert caught.value.message == f"{path}: the artifact is no JSON: it is empty"
    assert "snapshot-template" in caught.value.hint
    assert "endpoint" not in caught.value.hint


def test_a_variable_gives_its_value() -> None:
    values = {"SNAPSHOT": "{}"}
    assert EnvironmentSource("SNAPSHOT", values).read() == b"{}"
    assert "env:OTHER: is not set" in failure(EnvironmentSource("OTHER", values)).message
    values["SNAPSHOT"] = " " * (MAX_BYTES + 1)
    assert "more than" in failure(EnvironmentSource("SNAPSHOT", values)).message


# ------------------------------------------------------------------ HTTP


def test_an_endpoint_is_asked_as_the_contracts_say() -> None:
    with serving(b"{}") as server:
        source = HttpSource(server.url, timeout_ms=2000, bearer_token="t0ken", client_id="me")
        assert source.read() == b"{}"
    asked = server.requests[0]
    assert asked["path"] == "/snapshots"
    assert (asked["accept"], asked["authorization"], asked["x-rspp-client-id"]) == (
        "application/json",
        "Bearer t0ken",
        "me",
    )


@pytest.mark.parametrize(
    ("status", "again"), [(204, False), (404, False), (401, False), (429, True), (500, True), (503, True)]
)
def test_only_200_is_an_answer(status: int, again: bool) -> None:  # noqa: FBT001
    with serving(b"") as server:
        server.status = status
        found = failure(HttpSource(server.url, timeout_ms=2000, bearer_token="t0ken"))
    assert f"answered {status}" in found.message
    assert "t0ken" not in found.message
    assert "snapshots" not in found.message
    assert found.retryable is again


def test_a_redirect_is_not_followed() -> None:
    with serving(b"{}") as elsewhere, serving(b"") as server:
        server.status, server.headers = 302, {"Location": elsewhere.url}
        assert "answered 302" in failure(HttpSource(server.url, timeout_ms=2000)).message
    assert elsewhere.requests == []


def test_an_answer_that_is_cut_short_is_none() -> None:
    with serving(b"{}") as server:
        server.announced = 100
        assert failure(HttpSource(server.url, timeout_ms=2000)).retryable


def test_an_answer_is_bounded() -> None:
    with serving(b" " * (MAX_BYTES + 1)) as server:
        assert "more than" in failure(HttpSource(server.url, timeout_ms=2000)).message


def test_an_endpoint_that_is_not_there_may_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(HttpSource(f"http://127.0.0.1:{port}/", timeout_ms=500)).retryable


def test_an_endpoint_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = HttpSource(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_ms=50)
        assert failure(source).retryable


def test_an_answer_that_drips_is_given_up_as_a_whole() -> None:
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not stop.wait(0.02):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            source = HttpSource(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_ms=100)
            assert "timed out" in failure(source).message
        finally:
            stop.set()
            thread.join()


# ------------------------------------------------------------------ several endpoints


def test_the_first_endpoint_that_answers_is_taken_and_no_other_is_asked() -> None:
    sources = [FakeSource(unreachable(), "a"), FakeSource(encoded(), "b"), FakeSource(encoded(), "c")]
    sleep = FakeSleep()
    received = ArtifactReader(settings_of(*sources), sleep).read(ISSUED_MS)
    assert (received.source, received.problems) == ("b", ("does not answer",))
    assert [source.asked for source in sources] == [1, 1, 0]
    assert sleep.waited == []


def test_only_endpoints_that_may_come_back_are_asked_again_with_growing_waits() -> None:
    sources = [
        FakeSource(unreachable(), "a"),
        FakeSource(unreachable(retryable=False), "b"),
        FakeSource(b"{", "c"),
    ]
    sleep = FakeSleep()
    with pytest.raises(SnapshotError) as caught:
        ArtifactReader(settings_of(*sources, attempts=4, max_backoff_ms=150), sleep).read(ISSUED_MS)
    assert caught.value.code == "artifact_read_failed"
    assert [source.asked for source in sources] == [4, 1, 1]
    assert sleep.waited == [0.1, 0.15, 0.15]


def test_an_endpoint_that_answers_at_the_second_time_has_no_problem() -> None:
    flaky, dead = FakeSource(unreachable(), "flaky"), FakeSource(unreachable(), "dead")

    class FakeMoment(FakeSleep):
        def __call__(self, seconds: float) -> None:
            super().__call__(seconds)
            flaky.answer = encoded()

    received = ArtifactReader(settings_of(dead, flaky), FakeMoment()).read(ISSUED_MS)
    assert (received.source, received.problems) == ("flaky", ("does not answer",))
    assert (dead.asked, flaky.asked) == (2, 2)


def test_a_stale_endpoint_is_passed_over() -> None:
    expired = FakeSource(encoded(valid_s=1.5), "expired")
    sources = [
        FakeSource(encoded(put("policy/stale", True)), "stale"),
        expired,
        FakeSource(encoded(), "good"),
    ]
    assert ArtifactReader(settings_of(*sources)).read(ISSUED_MS + 2000).source == "good"


def test_when_all_are_stale_that_is_the_answer() -> None:
    sources = [FakeSource(encoded(put("stale", True)), "a"), FakeSource(encoded(put("stale", True)), "b")]
    received = ArtifactReader(settings_of(*sources)).read(ISSUED_MS)
    assert received.source == "a"
    assert received.artifact.stale


def test_a_mixture_gives_the_first_other_error() -> None:
    sources = [FakeSource(encoded(put("stale", True)), "a"), FakeSource(b"{", "b"), FakeSource(b"[]", "c")]
    with pytest.raises(SnapshotError) as caught:
        ArtifactReader(settings_of(*sources)).read(ISSUED_MS)
    assert caught.value.code == "artifact_decode_failed"
    assert "b: " in caught.value.message


def test_nothing_older_is_taken_than_what_was_used() -> None:
    sources = [FakeSource(encoded(version=2), "a"), FakeSource(encoded(version=3), "b")]
    reader = ArtifactReader(settings_of(*sources))
    assert reader.read(ISSUED_MS, artifact(version=3)).source == "b"
    with pytest.raises(SnapshotError) as caught:
        reader.read(ISSUED_MS, artifact(version=4))
    assert caught.value.code == "snapshot_older"


def test_one_version_has_one_content_and_is_not_issued_earlier() -> None:
    reader = ArtifactReader(settings_of(FakeSource(encoded())))
    with pytest.raises(SnapshotError, match="other contents") as caught:
        reader.read(ISSUED_MS, artifact(put("lease/default/authority_authorized", False)))
    assert caught.value.code == "artifact_invalid"
    with pytest.raises(SnapshotError) as caught:
        reader.read(ISSUED_MS, artifact(put("issued_at_utc", "2023-11-14T22:14:00Z")))
    assert caught.value.code == "snapshot_older"


def test_with_a_key_only_signed_artifacts_are_taken() -> None:
    sources = [FakeSource(encoded(), "a"), FakeSource(msgspec.json.encode(signed(document(), KEY)), "b")]
    received = ArtifactReader(settings_of(*sources, key=KEY.public_key())).read(ISSUED_MS)
    assert (received.source, received.problems) == ("b", ("a: the artifact is not signed",))
