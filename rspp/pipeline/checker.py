"""Holds a YAML tree against the types of the pipeline file and finds every fault at once.

The decoder of the types stops at its first fault and knows no lines. This one walks tree and types
together, so that an author reads all faults of a file in one run, each with its line and a remedy.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

import msgspec
from msgspec import inspect
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rspp.pipeline.document import line_of, scalar_of

MAX_FAULTS = 50
_SECRET = re.compile(r"key|secret|token|password|credential|authorization", re.IGNORECASE)

_DETERMINISM = "determinism cannot be overridden: the kernel derives seed, order and merge rule itself"
_LANE = "the lane of an edge cannot be overridden: it follows from what the edge carries"
FIXED = {
    "determinism": _DETERMINISM,
    "seed": _DETERMINISM,
    "merge_rule": _DETERMINISM,
    "merge_rule_id": _DETERMINISM,
    "merge_rule_version": _DETERMINISM,
    "ordering_markers": _DETERMINISM,
    "lane": _LANE,
    "lane_priority": _LANE,
    "priority": _LANE,
    "defaulting_source": "it is recorded, not written: rspp-cli show-plan tells where each value came from",
}
"""Keys that an author may expect but that nobody may set, with the reason."""

_UNSPEAKABLE = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff]")


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a pipeline file.

    Attributes:
        line: line in the file from 1, 0 when it concerns the whole.
        path: such as ``llm.rules[2].hear``.
        problem: what is wrong, with the value.
        hint: what to do about it.
    """

    line: int
    path: str
    problem: str
    hint: str


def on_one_line(text: str, most: int = 400) -> str:
    """Return ``text`` without line breaks and control characters, at most ``most`` characters."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(value: object, path: str = "") -> str:
    """Return ``value`` for a message: short, on one line, and never a secret."""
    if _SECRET.search(path.rsplit(".", 1)[-1]):
        return "value not shown"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = re.sub(r"([a-z]://)[^/\s]*@", r"\1…@", text)
    text = on_one_line(text, 60)
    return f'"{text}"' if isinstance(value, str) else text


def fault_at(line: int, path: str, problem: str, hint: str) -> Fault:
    """Return a fault whose texts are fit for a terminal, whatever the file holds."""
    return Fault(line, on_one_line(path, 200), on_one_line(problem), on_one_line(hint))


def nearest(word: str, known: list[str]) -> str:
    """Return a hint that names the known word next to ``word``, or all of them."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"


class Checker:
    """Walks one file; ``faults`` and ``lines`` fill as it goes."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.lines: dict[str, int] = {}

    def fault(self, node: Node, path: str, problem: str, hint: str) -> None:
        """Note a fault; after the first fifty nothing more is noted."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault_at(line_of(node), path, problem, hint))

    def value(self, node: Node, kind: inspect.Type, path: str) -> Any:  # noqa: ANN401 - plain YAML values
        """Return the plain value of ``node``, noting whatever does not fit ``kind``."""
        self.lines.setdefault(path, line_of(node))
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        if isinstance(kind, inspect.UnionType):
            return self._union(node, kind, path)
        if isinstance(kind, inspect.StructType):
            return self._struct(node, kind, path)
        if isinstance(kind, inspect.VarTupleType):
            return self._list(node, kind, path)
        if isinstance(kind, inspect.LiteralType):
            return self._word(node, kind, path)
        if isinstance(kind, inspect.DictType):
            return self._dict(node, kind, path)
        return self._scalar(node, kind, path)

    def _entries(self, node: Node, path: str) -> dict[str, tuple[Node, Node]] | None:
        if not isinstance(node, MappingNode):
            self._wrong(node, path, "a mapping of keys to values", "indent its keys below it, one per line")
            return None
        entries: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.fault(key_node, path, "a key must be a word", "put the key in quotes")
                continue
            key = key_node.value
            if key_node.tag == "tag:yaml.org,2002:merge" or key == "<<":
                self.fault(key_node, _join(path, key), "merge keys are not supported", "write the keys out")
            elif key in entries:
                first = line_of(entries[key][0])
                self.fault(
                    key_node,
                    _join(path, key),
                    f"the key appears twice (first in line {first})",
                    "keep one of the two",
                )
            else:
                entries[key] = (key_node, value_node)
        return entries

    def _struct(self, node: Node, kind: inspect.StructType, path: str) -> Any:  # noqa: ANN401
        entries = self._entries(node, path)
        if entries is None:
            return None
        fields = {field.encode_name: field for field in kind.fields}
        result: dict[str, Any] = {}
        for key, (key_node, value_node) in entries.items():
            if key == kind.tag_field:
                result[key] = self._provider(value_node, [str(kind.tag)], _join(path, key))
            elif key in fields:
                result[key] = self.value(value_node, fields[key].type, _join(path, key))
            else:
                known = [*([kind.tag_field] if kind.tag_field else []), *fields]
                hint = FIXED.get(key) or nearest(key, known)
                if _SECRET.search(key) and "api_key_env" in known:
                    hint = (
                        "keep keys out of files: put it in an environment variable, name that in api_key_env"
                    )
                self.fault(key_node, _join(path, shown(key).strip('"')), "unknown key", hint)
        for name, field in fields.items():
            if field.required and name not in entries:
                self.fault(
                    node, _join(path, name), "required key is missing", f"add {_example(field.type, name)}"
                )
        return result

    def _union(self, node: Node, kind: inspect.UnionType, path: str) -> Any:  # noqa: ANN401
        choices = {str(item.tag): item for item in kind.types if isinstance(item, inspect.StructType)}
        entries = self._entries(node, path)
        if entries is None:
            return None
        if "provider" not in entries:
            self.fault(
                node,
                _join(path, "provider"),
                "required key is missing",
                "add " + " or ".join(f"`provider: {name}`" for name in choices),
            )
            return None
        name = self._provider(entries["provider"][1], list(choices), _join(path, "provider"))
        return self._struct(node, choices[name], path) if name in choices else None

    def _provider(self, node: Node, known: list[str], path: str) -> str | None:
        self.lines.setdefault(path, line_of(node))
        name = node.value if isinstance(node, ScalarNode) else None
        if name not in known:
            given = shown(name) if isinstance(name, str) else _kind(node)
            self.fault(node, path, f"unknown provider ({given})", f"known providers: {', '.join(known)}")
            return None
        return str(name)

    def _list(self, node: Node, kind: inspect.VarTupleType, path: str) -> Any:  # noqa: ANN401
        if not isinstance(node, SequenceNode):
            self._wrong(node, path, "a list", "write one item per line, each after `- `")
            return None
        if len(node.value) < (kind.min_length or 0):
            self.fault(node, path, "the list is empty", f"add at least {kind.min_length} item")
        return [self.value(item, kind.item_type, f"{path}[{index}]") for index, item in enumerate(node.value)]

    def _dict(self, node: Node, kind: inspect.DictType, path: str) -> Any:  # noqa: ANN401
        entries = self._entries(node, path)
        if entries is None:
            return None
        return {
            key: self.value(value_node, kind.value_type, _join(path, key))
            for key, (_, value_node) in entries.items()
        }

    def _wrong(self, node: Node, path: str, wanted: str, hint: str) -> None:
        given = _kind(node)
        if isinstance(node, ScalarNode) and node.tag != "tag:yaml.org,2002:null":
            given = shown(node.value, path) if given == "text" else f"{shown(node.value, path)}, {given}"
        self.fault(
            node, path or "file", f"must be {wanted} (is {given})".replace('""', "an empty text"), hint
        )

    def _scalar(self, node: Node, kind: inspect.Type, path: str) -> Any:  # noqa: ANN401
        wanted, hint = _wanted(kind)
        if not isinstance(node, ScalarNode):
            self._wrong(node, path, wanted, hint)
            return None
        try:
            value = scalar_of(node)
        except ValueError as error:
            self.fault(node, path, f"cannot be read: {error} ({shown(node.value, path)})", hint)
            return None
        if isinstance(kind, inspect.StrType):
            return self._text(node, kind, value, path)
        if isinstance(kind, inspect.BoolType):
            if not isinstance(value, bool):
                self._wrong(node, path, wanted, hint)
            return value
        whole = isinstance(kind, inspect.IntType)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            self._wrong(node, path, wanted, hint)
            return None
        if isinstance(kind, inspect.IntType | inspect.FloatType) and not _within(value, kind):
            self.fault(node, path, f"must be {wanted} (is {shown(node.value, path).strip(chr(34))})", hint)
            return None
        return value

    def _word(self, node: Node, kind: inspect.LiteralType, path: str) -> Any:  # noqa: ANN401
        """Return one of a few words or numbers."""
        known = [str(value) for value in kind.values]
        listing = f"one of: {', '.join(known)}" if len(known) > 1 else f"`{known[0]}`"
        if not isinstance(node, ScalarNode):
            self._wrong(node, path, "a word", listing)
            return None
        try:
            given = scalar_of(node)
        except ValueError:
            given = None
        for value in kind.values:
            if type(given) is type(value) and given == value:
                return value
        if len(known) == 1:
            problem = f"cannot be overridden: it is {known[0]} (here {shown(node.value, path)})"
            self.fault(node, path, problem, f"leave it out, or write {listing}")
            return None
        close = difflib.get_close_matches(node.value.lower(), known, n=1, cutoff=0.6)
        hint = f"did you mean `{close[0]}`?" if close else listing
        self.fault(node, path, f"unknown word ({shown(node.value, path)})", hint)
        return None

    def _text(self, node: ScalarNode, kind: inspect.StrType, value: object, path: str) -> str | None:
        if not isinstance(value, str):
            if value is None:
                self.fault(node, path, "must be text (is empty)", 'write a text, or "" for none')
            else:
                remedy = "put it in quotes" + ("" if _SECRET.search(path) else f': "{node.value[:40]}"')
                self._wrong(node, path, "text", remedy)
            return None
        if _UNSPEAKABLE.search(value):
            self.fault(node, path, "holds a control character or half a character", "remove it")
        elif kind.min_length is not None and len(value) < kind.min_length:
            self.fault(
                node, path, "must not be empty", "write a text, or leave the key out where it has a default"
            )
        elif kind.max_length is not None and len(value) > kind.max_length:
            self.fault(
                node, path, f"is too long ({len(value)} characters)", f"at most {kind.max_length} characters"
            )
        elif kind.pattern is not None and not re.search(kind.pattern, value):
            self.fault(node, path, f"is not allowed here ({shown(value, path)})", _pattern_hint(kind.pattern))
        return value


def _pattern_hint(pattern: str) -> str:
    if pattern.startswith("^https?"):
        return "write an address that begins with http:// or https://"
    if "A-Za-z_" in pattern:
        return "write the name of an environment variable, such as OPENAI_API_KEY, never the key itself"
    if pattern == r"\S":
        return "write at least one word"
    options = re.fullmatch(r"\^\(([a-z_|]+)\)\?\$", pattern)
    return (
        f"one of: {options[1].replace('|', ', ')}; or leave it out" if options else f"it must match {pattern}"
    )


def _wanted(kind: inspect.Type) -> tuple[str, str]:
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        span = f" from {kind.ge} to {kind.le}" if kind.ge is not None and kind.le is not None else ""
        return noun + span, f"write {noun}{span}, without quotes or unit"
    if isinstance(kind, inspect.BoolType):
        return "true or false", "write true or false"
    return "text", "write a text, in quotes if need be"


def _within(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    low = -math.inf if kind.ge is None else kind.ge
    high = math.inf if kind.le is None else kind.le
    return low <= value <= high


def _kind(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    names = {"bool": "a boolean", "int": "a number", "float": "a number", "null": "empty"}
    return names.get(node.tag.rsplit(":", 1)[-1], "text")


def _example(kind: inspect.Type, name: str) -> str:
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(kind, inspect.UnionType):
        tags = [str(item.tag) for item in kind.types if isinstance(item, inspect.StructType)]
        return f"`{name}:` with `provider: {tags[0]}`" + "".join(f" or `provider: {tag}`" for tag in tags[1:])
    if isinstance(kind, inspect.VarTupleType):
        return f"`{name}:` with at least one item"
    return f"`{name}: ...`"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
