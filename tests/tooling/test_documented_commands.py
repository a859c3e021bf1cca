"""Each command that a document tells people to type exists, with the options that it is given there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rspp.cli.main import build_app
from rspp.runtime.commands import app as runtime_app
from rspp.runtime.local_commands import app as local_app

if TYPE_CHECKING:
    from cyclopts import App

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAM = r"rspp-(?:cli|runtime|local-runner)"
LINE = re.compile(rf"^ *({PROGRAM} (?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
SPAN = re.compile(rf"`({PROGRAM}\s[^`]*)`")
OPTION = re.compile(r"--[a-z][a-z0-9-]*")


def commands_of(text: str) -> list[list[str]]:
    """The words of each command in a document, up to the words that explain it."""
    found = [match.group(1) for pattern in (LINE, SPAN) for match in pattern.finditer(text)]
    told = (re.split(r"\s#|  +(?=[a-z]+ )|[|>;]", one.replace("\\\n", " "))[0] for one in found)
    return [shlex.split(one) for one in told]


def program(name: str) -> App:
    return build_app() if name == "rspp-cli" else runtime_app if name == "rspp-runtime" else local_app


def faults_of(words: list[str]) -> list[str]:
    """What of a command does not exist."""
    app, rest = program(words[0]), words[1:]
    while rest and not rest[0].startswith("-") and rest[0] in app:
        app, rest = app[rest[0]], rest[1:]
    if app.default_command is None:
        return [f"{' '.join(words)}: no such command"]
    known = {name for argument in app.assemble_argument_collection() for name in argument.names}
    given = [option for word in rest for option in OPTION.findall(word)]
    return [f"{' '.join(words)}: no {option}" for option in given if option not in known]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_documented_command_exists(document: Path) -> None:
    commands = commands_of(document.read_text("utf-8"))
    assert [fault for words in commands for fault in faults_of(words)] == []


def test_the_documents_hold_commands_and_what_is_wrong_is_found() -> None:
    runbook = commands_of((ROOT / "docs/runbook.md").read_text("utf-8"))
    assert ["rspp-runtime", "rotate-lease", "--session", "ID"] in runbook
    assert ["rspp-cli", "timeline", "show", "SESSION", "--evidence", "DIR"] in runbook
    assert ["rspp-cli", "verify-evidence"] in runbook
    assert faults_of(["rspp-cli", "timeline", "shew"]) == ["rspp-cli timeline shew: no such command"]
    assert faults_of(["rspp-cli", "timelime", "show"]) == ["rspp-cli timelime show: no such command"]
    wrong = ["rspp-runtime", "rotate-lease", "--sessions", "ID"]
    assert faults_of(wrong) == ["rspp-runtime rotate-lease --sessions ID: no --sessions"]
