"""The fixtures of the contracts: documents that must pass, and documents that break one rule each.

``python -m rspp.contracts.fixtures --write`` makes ``contracts/fixtures/<kind>/valid|invalid/`` again;
without the flag it names the files that differ. ``contracts/fixtures/index.json`` tells for every invalid
file the rule and the field, and for every valid one which rules it shows being kept.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from rspp.contracts.schema import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rspp.contracts.samples import Document

ROOT = FOLDER / "fixtures"
INDEX = "index.json"
STREAM = "stream"
"""Beside the kinds of document: recorded sessions, one JSON document a line."""


class Fixture(NamedTuple):
    """One fixture file.

    Attributes:
        kind: kind of document, or ``stream``.
        name: file name without its ending.
        content: what the file holds.
        rule: id of the rule that it breaks; empty for a valid one.
        field: path of the field at fault.
        shows: ids of the rules that a valid one shows being kept.
    """

    kind: str
    name: str
    content: bytes
    rule: str = ""
    field: str = ""
    shows: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Path below the root of the fixtures."""
        ending = "jsonl" if self.kind == STREAM else "json"
        return f"{self.kind}/{'invalid' if self.rule else 'valid'}/{self.name}.{ending}"


def rendered(document: Document) -> bytes:
    """Return a document as the text of a fixture file."""
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def valid(kind: str, name: str, document: Document, *shows: str) -> Fixture:
    """Return a fixture that must pass."""
    return Fixture(kind, name, rendered(document), shows=shows)


def invalid(kind: str, rule: str, field: str, document: Document, detail: str = "") -> Fixture:
    """Return a fixture that breaks one rule at one field."""
    return Fixture(kind, f"{rule}--{detail or field or 'document'}", rendered(document), rule, field)


def fixtures() -> list[Fixture]:
    """Return every fixture, in the order of kinds and names.

    Raises:
        ValueError: two fixtures have the same path.
    """
    from rspp.contracts import fixtures_envelope, fixtures_plan, fixtures_stream, fixtures_tables

    made: dict[str, Fixture] = {}
    for part in (fixtures_envelope, fixtures_tables, fixtures_plan, fixtures_stream):
        for fixture in part.fixtures():
            if fixture.path in made:
                raise ValueError(f"two fixtures are called {fixture.path}")
            made[fixture.path] = fixture
    return [made[path] for path in sorted(made)]


def index_text(made: list[Fixture]) -> str:
    """Return the text of the index."""
    entries: dict[str, Any] = {
        fixture.path: {"rule": fixture.rule, "field": fixture.field}
        if fixture.rule
        else {"shows": list(fixture.shows)}
        for fixture in made
    }
    return json.dumps({"fixtures": entries}, indent=1, ensure_ascii=False) + "\n"


def _files() -> Iterator[tuple[str, bytes]]:
    made = fixtures()
    yield INDEX, index_text(made).encode()
    for fixture in made:
        yield fixture.path, fixture.content


def stale(root: Path = ROOT) -> list[str]:
    """Return the paths that differ from what is generated, are missing, or should not be there."""
    wanted = dict(_files())
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    differing = {path for path in wanted.keys() & there if (root / path).read_bytes() != wanted[path]}
    return sorted(differing | (wanted.keys() ^ there))


def write(root: Path = ROOT) -> int:
    """Write every file that differs and remove what should not be there; return how many."""
    wanted = dict(_files())
    differing = stale(root)
    for path in differing:
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(wanted[path])
        else:
            (root / path).unlink()
    return len(differing)


def main(arguments: list[str]) -> int:
    """Write the fixtures, or name those that differ; return the exit status."""
    if arguments == ["--write"]:
        print(f"{write()} files written")
        return 0
    if arguments:
        print("usage: python -m rspp.contracts.fixtures [--write]", file=sys.stderr)
        return 2
    differing = stale()
    for path in differing:
        print(f"contracts/fixtures/{path} is not what the generator makes: run with --write")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
