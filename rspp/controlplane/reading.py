"""One refresh: ask the endpoints in order, and take the first artifact that may be used."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING

import msgspec

from rspp.controlplane.artifact import SnapshotError, decode_artifact
from rspp.controlplane.signature import check_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.controlplane.artifact import Artifact
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.controlplane.sources import Source
    from rspp.controlplane.used import Earlier

NEWER = "publish what should be in force under a higher snapshot_version"


class Received(msgspec.Struct, frozen=True):
    """An artifact that was read and is authentic.

    Attributes:
        artifact: what it says; it may say that it is stale.
        source: which endpoint gave it.
        problems: what the endpoints before it answered.
    """

    artifact: Artifact
    source: str
    problems: tuple[str, ...] = ()


class ArtifactReader:
    """Reads artifacts; blocks, so it belongs on a thread.

    An endpoint that fails is passed over at once and asked again only when all have failed, so that a dead
    one costs a refresh one timeout.

    Args:
        settings: endpoints, rounds and waits.
        sleep: waits that many seconds.
    """

    def __init__(self, settings: ControlPlaneSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._sleep = sleep

    def read(
        self, wall_clock_ms: int, used: Artifact | None = None, earlier: Earlier | None = None
    ) -> Received:
        """Return the first artifact that may be used, or, when every endpoint gives a stale one, the first.

        Args:
            wall_clock_ms: now, milliseconds since the Unix epoch.
            used: the latest that was used; nothing older is taken.
            earlier: the latest that was used before this process began; likewise.

        Raises:
            SnapshotError: no endpoint gives one; the code is that of the first that did not give a stale one.
        """
        settings = self._settings
        problems: dict[int, SnapshotError] = {}
        stale: list[Received] = []
        asking = list(range(len(settings.sources)))
        for attempt in range(settings.attempts):
            if attempt:
                wait_ms = min(settings.backoff_ms * 2 ** (attempt - 1), settings.max_backoff_ms)
                self._sleep(wait_ms / 1000)
            for index in asking:
                source = settings.sources[index]
                try:
                    artifact = self._read_one(source, used, earlier)
                except SnapshotError as error:
                    problems[index] = error
                    continue
                problems.pop(index, None)
                received = Received(artifact, source.name, tuple(told.message for told in problems.values()))
                if not artifact.staleness(wall_clock_ms):
                    return received
                stale.append(received)
            asking = [index for index in asking if index in problems and problems[index].retryable]
            if not asking:
                break
        if stale and not problems:
            return stale[0]
        first = problems[min(problems)]
        said = "; ".join(problems[index].message for index in sorted(problems))
        raise SnapshotError(first.code, said, hint=first.hint)

    def _read_one(self, source: Source, used: Artifact | None, earlier: Earlier | None) -> Artifact:
        data = source.read()
        try:
            artifact = decode_artifact(data)
            if self._settings.key is not None:
                check_signature(data, self._settings.key)
            if used is not None:
                _check_order(artifact, used)
            if earlier is not None:
                _check_not_before(artifact, earlier)
        except SnapshotError as error:
            raise SnapshotError(error.code, f"{source.name}: {error.message}", hint=error.hint) from error
        return artifact


def _check_order(artifact: Artifact, used: Artifact) -> None:
    if artifact.order < used.order:
        raise _older(artifact, used, "which is in use", NEWER)
    if artifact.snapshot_version == used.snapshot_version and artifact.digest() != used.digest():
        raise SnapshotError(
            "artifact_invalid",
            f"snapshot_version {artifact.snapshot_version} has other contents than before",
            hint="raise snapshot_version with every change",
        )


def _check_not_before(artifact: Artifact, earlier: Earlier) -> None:
    if artifact.order < earlier.order:
        anew = f"; when its numbers begin anew on purpose, remove {earlier.remembered_in}"
        raise _older(artifact, earlier, "which was used before this start", NEWER + anew)


def _older(artifact: Artifact, than: Artifact | Earlier, because: str, hint: str) -> SnapshotError:
    said = " is older than ".join(
        f"{one.snapshot_version} of {_told(one.issued_at_utc)}" for one in (artifact, than)
    )
    return SnapshotError("snapshot_older", f"snapshot_version {said}, {because}", hint=hint)


def _told(issued: datetime.datetime) -> str:
    return f"{issued.astimezone(datetime.UTC):%FT%TZ}"
