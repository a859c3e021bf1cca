"""What the caller does: a script of steps, read from JSON.

::

    {"name": "demo", "voice": "en-us+m3", "rate": 160, "limit_ms": 180000,
     "steps": [{"do": "wait_agent_speaking", "ms": 200},
               {"do": "wait_agent_silent", "ms": 600},
               {"do": "say", "name": "question", "text": "what are your opening hours"},
               {"do": "hang_up"}]}

The steps: ``say`` (``text`` or ``wav``), ``wait_agent_present``, ``wait_agent_speaking`` (audible for
``ms``), ``wait_agent_silent`` (inaudible for ``ms``), ``pause`` (``ms``), ``cough`` (``ms``), ``click``,
``tone`` (``hz``, ``ms``), ``hang_up``. A wait has a ``timeout_ms``; one that runs out ends the call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

KINDS = frozenset(
    {
        "say",
        "wait_agent_present",
        "wait_agent_speaking",
        "wait_agent_silent",
        "pause",
        "cough",
        "click",
        "tone",
        "hang_up",
    }
)
MAX_STEPS = 2000
MAX_LIMIT_MS = 3_600_000
DEFAULT_TIMEOUT_MS = 20_000


class ScriptError(ValueError):
    """The script cannot be read or makes no sense."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the caller does.

    Attributes:
        do: one of ``KINDS``.
        name: label that the measurement looks for; empty for none.
        text: words to say.
        wav: file to say instead.
        voice: espeak-ng voice.
        rate: words per minute.
        ms: length of a pause, cough, tone or wait.
        hz: pitch of a tone.
        timeout_ms: longest wait.
        level: loudest sample of a cough, click or tone, as a part of full scale.
    """

    do: str
    name: str = ""
    text: str = ""
    wav: str = ""
    voice: str = "en-us"
    rate: int = 165
    ms: int = 0
    hz: int = 1000
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    level: float = 0.3


@dataclass(frozen=True, slots=True)
class Script:
    """A whole call.

    Attributes:
        name: label of the call.
        limit_ms: longest call.
        steps: in order.
    """

    name: str
    limit_ms: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step that the caller carried out, in samples of its own timeline."""

    do: str
    name: str
    text: str
    begin: int
    end: int


def load_script(path: Path) -> Script:
    """Read a script file.

    Raises:
        ScriptError: the file is missing, not JSON, or a step makes no sense.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ScriptError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ScriptError(f"{path}: not JSON: {error}") from None
    return parse_script(document)


def parse_script(document: object) -> Script:
    """Check a script document and fill its defaults in.

    Raises:
        ScriptError: a field is unknown, missing or out of range.
    """
    if not isinstance(document, dict) or not isinstance(document.get("steps"), list):
        raise ScriptError("a script is an object with a list of steps")
    steps = document["steps"]
    if not 1 <= len(steps) <= MAX_STEPS:
        raise ScriptError(f"steps: {len(steps)} of them; 1 to {MAX_STEPS} are allowed")
    limit = document.get("limit_ms", 180_000)
    if not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT_MS:
        raise ScriptError(f"limit_ms: {limit!r}; 1 to {MAX_LIMIT_MS} is allowed")
    shared = {key: document[key] for key in ("voice", "rate", "timeout_ms") if key in document}
    return Script(
        name=str(document.get("name", "call")),
        limit_ms=limit,
        steps=tuple(_parse_step(index, step, shared) for index, step in enumerate(steps)),
    )


def _parse_step(index: int, document: object, shared: dict[str, Any]) -> Step:
    where = f"steps[{index}]"
    if not isinstance(document, dict):
        raise ScriptError(f"{where}: not an object")
    if document.get("do") not in KINDS:
        raise ScriptError(f"{where}.do: {document.get('do')!r} is none of {', '.join(sorted(KINDS))}")
    try:
        step = Step(**{**shared, **document})
    except TypeError:
        unknown = sorted(set(document) - set(Step.__slots__))
        raise ScriptError(f"{where}: unknown fields {', '.join(unknown)}") from None
    if step.do == "say" and bool(step.text) == bool(step.wav):
        raise ScriptError(f"{where}: say needs either text or wav")
    if step.do in {"pause", "cough", "tone"} and not 1 <= step.ms <= 60_000:
        raise ScriptError(f"{where}.ms: {step.ms}; 1 to 60000 is allowed")
    if not 0 < step.level <= 1:
        raise ScriptError(f"{where}.level: {step.level}; above 0 to 1 is allowed")
    return step
