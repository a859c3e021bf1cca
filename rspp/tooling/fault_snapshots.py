"""A control plane in a call of known faults: real artifacts from a source that breaks when it is told to."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from rspp.controlplane.artifact import SnapshotError
from rspp.controlplane.settings import ControlPlaneSettings
from rspp.controlplane.template import artifact_template
from rspp.pipeline.spec import PipelineSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ISSUED = datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC)
"""Where the wall clock of virtual time begins."""
VALID = datetime.timedelta(hours=1)


class FaultSnapshots:
    """Publishes artifacts for one pipeline.

    Args:
        pipeline: the pipeline, as its file would say it.
    """

    def __init__(self, pipeline: Mapping[str, Any]) -> None:
        self._spec = msgspec.convert(dict(pipeline), PipelineSpec)
        self._data = b""
        self.version = 0
        self.gone = False
        """Whether the endpoint does not answer."""
        self.publish()

    def publish(self, change: Callable[[dict[str, Any]], None] | None = None, *, back: int = 0) -> None:
        """Publish the next version: what lets turns open, changed by ``change``.

        Args:
            change: changes the document in place.
            back: publish an older version instead, by so many.
        """
        if not back:
            self.version += 1
        version = self.version - back
        document = artifact_template(self._spec, issued=ISSUED, valid=VALID, version=version)
        if change is not None:
            change(document)
        self._data = msgspec.json.encode(document)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "snapshots"

    @property
    def identity(self) -> str:
        """The same."""
        return self.name

    @property
    def data(self) -> bytes:
        """The artifact that is published now."""
        return self._data

    def read(self) -> bytes:
        """Give what is published.

        Raises:
            SnapshotError: the source is gone.
        """
        if self.gone:
            raise SnapshotError("artifact_read_failed", "snapshots: does not answer", retryable=True)
        return self._data

    def settings(self, **others: Any) -> ControlPlaneSettings:  # noqa: ANN401 - as the settings take them
        """Return settings by which a call receives from it, as often as ten times a second."""
        return ControlPlaneSettings(
            sources=(self,), **{"cache_ttl_ms": 100, "max_staleness_ms": 900, **others}
        )


def marked_stale(document: dict[str, Any]) -> None:
    """A change: the routing view is out of date."""
    document["routing_view"]["stale"] = True


def deauthorised(document: dict[str, Any]) -> None:
    """A change: CP-07 takes the right to speak away."""
    document["lease"]["default"]["authority_authorized"] = False


def admission(outcome: str, scope: str = "session") -> Callable[[dict[str, Any]], None]:
    """Return a change: CP-05 answers so."""

    def change(document: dict[str, Any]) -> None:
        document["admission"]["default"].update(outcome_kind=outcome, scope=scope, reason="maintenance")

    return change
