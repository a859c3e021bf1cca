"""Reads YAML text into a tree of nodes that remember their lines.

The scalars follow YAML 1.2, as editors do: ``yes``, ``no``, ``on`` and ``off`` are words that a
caller may say, not booleans, and ``12:30`` is no number.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rspp.contracts.errors import ConfigurationError

MAX_BYTES = 256 * 1024
"""Largest pipeline file; a thousand rules take about a third of it."""
MAX_DEPTH = 20
MAX_ALIASES = 100
MAX_NODES = 50_000
"""Most nodes once aliases are expanded, so that a few lines cannot stand for a billion."""

_TAG = "tag:yaml.org,2002:"
_MINIMAL = "the least a pipeline file needs is `name:` and `llm:` with a provider and its rules"


class UnreadableError(ConfigurationError):
    """A file that cannot be read, or whose text is no document: nobody can tell what it says."""


class _Loader(yaml.SafeLoader):
    """A composer with limits; it never constructs objects."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - pyyaml's own shape

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._aliases = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:  # noqa: ANN401 - pyyaml's signature
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise yaml.composer.ComposerError(
                    None, None, f"more than {MAX_ALIASES} aliases", event.start_mark
                )
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(
                None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _core(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_TAG + kind, re.compile(f"^(?:{pattern})$"), list(first))


_core("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_core("int", "[-+]?[0-9]+", "-+0123456789")
_core("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_core("null", "~|null|Null|NULL|", "~nN\0")
_Loader.yaml_implicit_resolvers.setdefault("", []).append((_TAG + "null", re.compile("^$")))


def line_of(node: Node) -> int:
    """Return the line of ``node``, counted from 1."""
    return int(node.start_mark.line) + 1


def compose(text: str, source: str, least: str = _MINIMAL) -> MappingNode:
    """Parse ``text`` into its root mapping.

    Args:
        text: the whole file.
        source: name of the file, for messages.
        least: the least that such a file needs, for hints.

    Raises:
        UnreadableError: not YAML, too large, too deep, empty, or no mapping.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise UnreadableError(
            f"{source}: the file is too large ({size} bytes)",
            hint=f"a pipeline file may have {MAX_BYTES} bytes; split the pipeline or shorten its texts",
        )
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark is not None else source
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise UnreadableError(
            f"{where}: not valid YAML: {problem}",
            hint="check indentation and colons, and put texts that hold `: ` or `#` in quotes",
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # A ValueError comes from the scanner itself, for an escape such as "\\UFFFFFFFF".
        character = getattr(error, "character", None)
        what = f"character {character!r} is not allowed" if character is not None else str(error)
        raise UnreadableError(
            f"{source}: not valid YAML: {what}", hint="remove control characters and impossible escapes"
        ) from error
    if root is None or root.tag == _TAG + "null":
        raise UnreadableError(f"{source}: the file is empty", hint=least)
    if not isinstance(root, MappingNode):
        raise UnreadableError(
            f"{source}:{line_of(root)}: the file must be a mapping of keys to values, not a "
            f"{'list' if isinstance(root, SequenceNode) else 'single value'}",
            hint=least,
        )
    _bound(root, source)
    return root


def _bound(root: Node, source: str) -> None:
    """Refuse a tree that its aliases make endless or enormous."""
    waiting: list[tuple[Node, int]] = [(root, 1)]
    seen = 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if depth > 2 * MAX_DEPTH or seen > MAX_NODES:
            raise UnreadableError(
                f"{source}:{line_of(node)}: aliases make the file endless or too large",
                hint="write the repeated part out, or use fewer aliases",
            )
        if isinstance(node, SequenceNode):
            waiting.extend((item, depth + 1) for item in node.value)
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                waiting.append((key, depth + 1))
                waiting.append((value, depth + 1))


def scalar_of(node: ScalarNode) -> bool | int | float | str | None:
    """Return the value of a scalar by its tag.

    Raises:
        ValueError: an explicit tag that the value does not fit, or a tag that is not of the core.
    """
    kind = node.tag.removeprefix(_TAG)
    text: str = node.value
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError("not a boolean")
        return text.lower() == "true"
    if kind == "int":
        if len(text) > 20:
            raise ValueError("a number of more than 20 digits")
        return int(text)
    if kind == "float":
        return float(text)
    raise ValueError(f"tag {node.tag.replace(_TAG, '!!')} is not supported")
