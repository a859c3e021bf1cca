"""Reads a contract document without losing what a plain JSON reader hides.

Repeated keys, whole numbers written as fractions, infinite numbers, torn texts and deep nesting are
refused here, because two readers that treat them differently see two different documents.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None
"""What one JSON document holds."""

MAX_DEPTH = 16
"""Deepest nesting; the deepest contract needs 7."""

_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class Fault(NamedTuple):
    """The first rule that a document breaks.

    Attributes:
        rule: id of the rule, such as ``envelope.turn_id``.
        field: path of the field at fault, such as ``budgets.turn_budget_ms``; empty for the whole document.
        message: what is wrong.
    """

    rule: str
    field: str
    message: str


class FaultyDocumentError(ValueError):
    """A document breaks a rule.

    Args:
        fault: which rule, where, and how.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.rule} at {fault.field!r}: {fault.message}")
        self.fault = fault


class _Members(list[tuple[str, Any]]):
    """The members of an object in order, with repeats."""


def join(path: str, name: str) -> str:
    """Return the path of the member ``name`` of what stands at ``path``."""
    return f"{path}.{name}" if path else name


def read_document(document: bytes, limit_bytes: int) -> Json:
    """Return the value of one JSON document.

    Args:
        document: JSON in UTF-8.
        limit_bytes: most bytes that are read.

    Raises:
        FaultyDocumentError: the document breaks one of the rules ``json.*``.
    """
    if len(document) > limit_bytes:
        raise _faulty("json.size", "", f"{len(document)} bytes where at most {limit_bytes} are allowed")
    if _nesting(document) > MAX_DEPTH:
        raise _faulty("json.depth", "", f"nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            document.decode(),
            object_pairs_hook=_Members,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except ValueError as error:
        raise _faulty("json.syntax", "", " ".join(str(error).split())) from None
    return _plain(value, "")


def _faulty(rule: str, field: str, message: str) -> FaultyDocumentError:
    return FaultyDocumentError(Fault(rule, field, message))


def _nesting(document: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.findall(_TEXT.sub(b"", document)):
        depth = depth + 1 if bracket in b"{[" else max(depth - 1, 0)
        deepest = max(depth, deepest)
    return deepest


def _integer(text: str) -> int | float:
    # Other readers take -0 for a fraction, because integers have no negative zero.
    return -0.0 if text == "-0" else int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number out of range: {text}")
    return number


def _plain(value: Json, path: str) -> Json:
    if isinstance(value, _Members):
        members: dict[str, Any] = {}
        for name, member in value:
            field = join(path, name)
            _whole(name, field)
            if name in members:
                raise _faulty("json.duplicate_key", field, "the key occurs twice")
            members[name] = _plain(member, field)
        return members
    if isinstance(value, list):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str):
        _whole(value, path)
    if isinstance(value, float) and value.is_integer():
        raise _faulty("json.whole_number", path, "a fraction point or exponent in a whole number")
    return value


def _whole(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"half of a character in the text at {path!a}"
        raise _faulty("json.syntax", "", message) from None
