"""Where artifacts come from: a file, an environment variable, an HTTP endpoint.

Reading blocks and belongs on a thread. Whatever a source gives is bounded in size and in time.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from rspp.controlplane.artifact import MAX_BYTES, SnapshotError
from rspp.endpoints import TOO_MANY, direct_opener

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OK = 200
CHUNK_BYTES = 1 << 16


class Source(Protocol):
    """One endpoint."""

    @property
    def name(self) -> str:
        """What it is called in messages; holds no secret."""
        ...

    @property
    def identity(self) -> str:
        """What tells it from every other; may hold a secret."""
        ...

    def read(self) -> bytes:
        """Return the artifact as it is now.

        Raises:
            SnapshotError: ``artifact_read_failed``; retryable when another try may help.
        """
        ...


class FileSource:
    """A file, which somebody replaces by renaming a new one over it.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    @property
    def identity(self) -> str:
        """Its whole path."""
        return str(self._path.absolute())

    def read(self) -> bytes:
        """Return its contents.

        Raises:
            SnapshotError: it cannot be read, or is too large.
        """
        try:
            # A pipe or a device would keep the thread for as long as it likes.
            if self._path.exists() and not self._path.is_file():
                raise _read_failed(self.name, "is no file")
            with self._path.open("rb") as file:
                return _within(self.name, file.read(MAX_BYTES + 1))
        except OSError as error:
            raise _read_failed(
                self.name, f"cannot be read: {error.strerror or type(error).__name__}"
            ) from error


class EnvironmentSource:
    """An environment variable that holds the artifact itself.

    Args:
        variable: its name.
        values: ``os.environ`` when absent.
    """

    def __init__(self, variable: str, values: Mapping[str, str] | None = None) -> None:
        self._variable = variable
        self._values = os.environ if values is None else values

    @property
    def name(self) -> str:
        """``env:NAME``."""
        return f"env:{self._variable}"

    @property
    def identity(self) -> str:
        """``env:NAME``."""
        return self.name

    def read(self) -> bytes:
        """Return its value.

        Raises:
            SnapshotError: it is not set, or too large.
        """
        text = self._values.get(self._variable, "")
        if not text:
            raise _read_failed(self.name, "is not set")
        return _within(self.name, text.encode("utf-8", "surrogateescape"))


class HttpSource:
    """An HTTP endpoint that answers GET with the artifact.

    Redirects are not followed: they would carry the token elsewhere.

    Args:
        url: where it is, checked already.
        timeout_ms: longest wait for the whole answer.
        bearer_token: sent as ``Authorization: Bearer``; empty for none.
        client_id: sent as ``X-RSPP-Client-ID``; empty for none.
    """

    def __init__(self, url: str, *, timeout_ms: int, bearer_token: str = "", client_id: str = "") -> None:
        self._url = url
        self._timeout_s = timeout_ms / 1000
        self._headers = {"Accept": "application/json"}
        if bearer_token:
            self._headers["Authorization"] = f"Bearer {bearer_token}"
        if client_id:
            self._headers["X-RSPP-Client-ID"] = client_id
        self._opener = direct_opener()

    @property
    def name(self) -> str:
        """Scheme, host and port: a path or query may hold what is nobody else's business."""
        parts = urlsplit(self._url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")

    @property
    def identity(self) -> str:
        """The whole address."""
        return self._url

    def read(self) -> bytes:
        """Ask once.

        Raises:
            SnapshotError: no answer in time, another status than 200, or too large an answer; retryable for
                failures to read, 429 and 5xx.
        """
        request = urllib.request.Request(self._url, headers=self._headers, method="GET")
        deadline = time.monotonic() + self._timeout_s
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                if answer.status != OK:
                    raise _read_failed(self.name, f"answered {answer.status}")
                return _within(self.name, self._body(answer, deadline))
        except urllib.error.HTTPError as error:
            error.close()
            retryable = error.code == TOO_MANY or error.code >= 500
            raise _read_failed(self.name, f"answered {error.code}", retryable=retryable) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            said = " ".join(str(reason).split())[:200] or type(error).__name__
            raise _read_failed(self.name, f"does not answer: {said}", retryable=True) from error

    def _body(self, answer: http.client.HTTPResponse, deadline: float) -> bytes:
        """Read the answer piece by piece: the timeout of a socket begins anew with each."""
        body = bytearray()
        while piece := answer.read1(CHUNK_BYTES):
            body += piece
            if len(body) > MAX_BYTES:
                break
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
        if len(body) <= MAX_BYTES and answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        return bytes(body)


def _within(name: str, data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise _read_failed(name, f"gives more than {MAX_BYTES} bytes")
    return data


def _read_failed(name: str, problem: str, *, retryable: bool = False) -> SnapshotError:
    return SnapshotError(
        "artifact_read_failed",
        f"control plane: {name}: {problem}",
        hint="check --control-plane, or the RSPP_CP_DISTRIBUTION_… variables",
        retryable=retryable,
    )
