"""Three validators of the contracts and what they say about one document.

The kernel decides in production, the Python types serve tools, and the JSON Schemas serve everybody
else. They must agree on every document; what JSON Schema cannot say is marked so in the table of rules.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rspp import _kernel
from rspp.contracts.documents import validate
from rspp.contracts.reading import Fault, join
from rspp.contracts.schema import rules, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError


class Verdicts(NamedTuple):
    """What the three validators say about one document.

    Attributes:
        kernel: the kernel's first fault, or none.
        types: the first fault of the Python types, or none.
        schema: the fields that the JSON Schema refuses; none when the document is no JSON at all.
    """

    kernel: Fault | None
    types: Fault | None
    schema: frozenset[str] | None

    def disagreement(self, *, single: bool) -> str:
        """Return how the validators disagree, or nothing.

        Args:
            single: the document has at most one fault, so that all must name the same field.
        """
        if self.kernel is None or self.types is None:
            if self.kernel != self.types:
                return f"kernel: {_said(self.kernel)}; Python types: {_said(self.types)}"
            return f"JSON Schema refuses {_listed(self.schema)}" if self.schema != frozenset() else ""
        expressible = self.kernel.rule in rules_in_schema()
        if expressible and not self.schema:
            return f"JSON Schema accepts what breaks {self.kernel.rule} at {self.kernel.field!r}"
        if not single:
            return ""
        if self.kernel[:2] != self.types[:2]:
            return f"kernel: {_said(self.kernel)}; Python types: {_said(self.types)}"
        if expressible and self.schema != frozenset((self.kernel.field,)):
            return f"kernel: {self.kernel.field!r}; JSON Schema: {_listed(self.schema)}"
        if not expressible and self.schema and not self.kernel.rule.startswith("json."):
            return f"JSON Schema refuses {_listed(self.schema)}, for a rule that it is said not to know"
        return ""


@cache
def rules_in_schema() -> frozenset[str]:
    """Return the ids of the rules that JSON Schema can say."""
    return frozenset(rule["id"] for rule in rules() if rule["in_schema"])


def judge(kind: str, document: bytes) -> Verdicts:
    """Run one document through the three validators.

    Args:
        kind: kind of document.
        document: JSON in UTF-8.
    """
    found = _kernel.validate_document(kind, document)
    return Verdicts(Fault(*found) if found else None, validate(kind, document), _by_schema(kind, document))


def _said(fault: Fault | None) -> str:
    return "valid" if fault is None else f"{fault.rule} at {fault.field!r}"


def _listed(fields: Iterable[str] | None) -> str:
    return "the text as no JSON" if fields is None else ", ".join(repr(field) for field in sorted(fields))


@cache
def _validator(kind: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    own = schema(kind)
    Draft202012Validator.check_schema(own)
    return Draft202012Validator(own)


def _by_schema(kind: str, document: bytes) -> frozenset[str] | None:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError):
        return None
    return frozenset(field for error in _validator(kind).iter_errors(value) for field in _fields(error))


def _fields(error: ValidationError) -> Iterator[str]:
    path = ""
    for part in error.absolute_path:
        path = f"{path}[{part}]" if isinstance(part, int) else join(path, part)
    rule = error.validator
    instance: dict[str, Any] = error.instance if isinstance(error.instance, dict) else {}
    if rule == "required":
        needed = cast("list[str]", error.validator_value)
        yield from (join(path, name) for name in needed if name not in instance)
    elif rule == "additionalProperties" and isinstance(error.schema, dict):
        known = error.schema["properties"]
        yield from (join(path, name) for name in instance if name not in known)
    else:
        yield path
