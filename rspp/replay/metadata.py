"""What is declared of each golden recording: ``replay/metadata.json`` (section 11.4 of the contracts).

``python -m rspp.replay.metadata --write`` brings the JSON Schema ``contracts/replay_metadata.schema.json``
up to date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rspp.contracts.errors import ConfigurationError
from rspp.replay.divergence import Expectation, is_scope

ROOT = Path(__file__).parents[2]
METADATA = ROOT / "replay" / "metadata.json"
SCHEMA = ROOT / "contracts" / "replay_metadata.schema.json"
TIMING_TOLERANCE_MS = 15
Gate = Literal["quick", "full"]
GATES: tuple[Gate, ...] = ("quick", "full")

_FIXTURE_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_NUMBERED = re.compile(r"([a-z]+)-([0-9]+)(?:-.*)?")
_MAX_BYTES = 4 * 1024 * 1024


class ReplayWith(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the replay does differently from the recording; without it the replay is exact.

    Attributes:
        policy: thresholds of turns that replace the recorded ones, by their names.
        plan: parts of the turn plan that replace the recorded ones; a dotted name reaches into the plan's
            policy, as in ``snapshot_provenance.routing_view_snapshot``.
        providers: parts of the provider policy that replace the recorded ones.
        behaviours: numbers of the kernel's behaviours.
        recording: compare with this second recording of the fixture instead of running the kernel again.
        compare: what is compared of a second recording: its control events one by one (``trace``), and what
            became of each event (``lineage``).
    """

    policy: dict[str, int | bool | str] = {}
    plan: dict[str, Any] = {}
    providers: dict[str, Any] = {}
    behaviours: tuple[int, ...] | UnsetType = UNSET
    recording: str = ""
    compare: tuple[Literal["trace", "lineage"], ...] = ("trace", "lineage")

    def __post_init__(self) -> None:
        if self.recording and not _FIXTURE_ID.fullmatch(self.recording):
            raise ValueError(
                f"replay_with.recording {self.recording!r} is not lower case words joined by '-'"
            )
        if self.recording and not self.compare:
            raise ValueError("replay_with.compare is empty; name trace, lineage or both")


class Fixture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for one golden recording.

    Attributes:
        gate: the gates that run it.
        timing_tolerance_ms: timing difference that is allowed, milliseconds; negative counts as 0.
        final_attempt_latency_threshold_ms: most that a turn's slowest final attempt may take; unset is not
            checked, negative counts as 0.
        total_invocation_latency_threshold_ms: the same for whole invocations.
        invocation_latency_scopes: turns that the thresholds are about; replaces what the id says.
        expected_divergences: what must diverge, and where.
        shows: ids of the contracts that the recording is kept for.
        about: what happened in the call, and what is changed for the replay.
        replay_with: what the replay does differently.
    """

    gate: Literal["quick", "full", "both"] = "full"
    timing_tolerance_ms: int = TIMING_TOLERANCE_MS
    final_attempt_latency_threshold_ms: int | UnsetType = UNSET
    total_invocation_latency_threshold_ms: int | UnsetType = UNSET
    invocation_latency_scopes: tuple[str, ...] = ()
    expected_divergences: tuple[Expectation, ...] = ()
    shows: tuple[str, ...] = ()
    about: str = ""
    replay_with: ReplayWith = ReplayWith()

    def __post_init__(self) -> None:
        scopes = tuple(sorted({scope.strip() for scope in self.invocation_latency_scopes}))
        for scope in scopes:
            if not is_scope(scope):
                raise ValueError(f"invocation_latency_scopes holds {scope!r}, which is no scope; try turn:ID")
        set_field = msgspec.structs.force_setattr
        set_field(self, "invocation_latency_scopes", scopes)
        set_field(self, "timing_tolerance_ms", max(0, self.timing_tolerance_ms))
        for name in ("final_attempt_latency_threshold_ms", "total_invocation_latency_threshold_ms"):
            value = getattr(self, name)
            if value is not UNSET:
                set_field(self, name, max(0, value))

    def runs_in(self, gate: Gate) -> bool:
        """Tell whether a gate runs this fixture."""
        return self.gate in (gate, "both")

    def latency_scopes(self, fixture_id: str) -> tuple[str, ...]:
        """Return the turns that the latency thresholds are about; none when the id says nothing."""
        if self.invocation_latency_scopes:
            return self.invocation_latency_scopes
        derived = derived_scope(fixture_id)
        return (derived,) if derived else ()


class Metadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: fixtures by their id."""

    fixtures: dict[str, Fixture]

    def __post_init__(self) -> None:
        for fixture_id in self.fixtures:
            if not _FIXTURE_ID.fullmatch(fixture_id):
                raise ValueError(f"fixture id {fixture_id!r} is not lower case words joined by '-'")

    def of_gate(self, gate: str) -> dict[str, Fixture]:
        """Return the fixtures of one gate by id, sorted.

        Raises:
            ConfigurationError: the gate is none.
        """
        known = next((name for name in GATES if name == gate), None)
        if known is None:
            raise ConfigurationError(f"gate {gate!r} is unknown", hint=f"name one of {', '.join(GATES)}")
        chosen = {name: fixture for name, fixture in self.fixtures.items() if fixture.runs_in(known)}
        return dict(sorted(chosen.items()))


def derived_scope(fixture_id: str) -> str:
    """Return the turn that a fixture's id names: ``cf-001-…`` gives ``turn:turn-cf-001``; else nothing."""
    match = _NUMBERED.fullmatch(fixture_id)
    return f"turn:turn-{match[1]}-{match[2]}" if match else ""


def read_metadata(path: Path = METADATA) -> Metadata:
    """Read and check a metadata file.

    Raises:
        ConfigurationError: it cannot be read, a field is unknown, or a value is wrong; the message names the
            place.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"metadata {str(path)!r} cannot be read: {error.strerror}",
            hint="name the metadata.json of the golden recordings",
        ) from error
    if len(content) > _MAX_BYTES:
        raise ConfigurationError(
            f"metadata {str(path)!r} is larger than {_MAX_BYTES} bytes", hint="name a metadata.json"
        )
    try:
        return msgspec.json.decode(content, type=Metadata)
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"metadata {str(path)!r}: {error}", hint="see contracts/replay_metadata.schema.json"
        ) from error


def schema_text() -> str:
    """Return the JSON Schema of the metadata file."""
    body = msgspec.json.schema(Metadata)
    for part in body["$defs"].values():
        if "description" in part:
            part["description"] = part["description"].partition("\n")[0]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What is declared of each golden recording",
        **body,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Print the schema of the metadata file, or write it with ``--write``."""
    if arguments == ["--write"]:
        SCHEMA.write_text(schema_text(), "utf-8")
        print(f"wrote {SCHEMA.relative_to(ROOT)}")
        return 0
    if arguments:
        print("error: unknown argument\nhint: --write, or none", file=sys.stderr)
        return 2
    print(schema_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
