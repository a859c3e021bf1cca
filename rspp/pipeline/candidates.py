"""Several candidates for one part of a pipeline: the first serves, the others take over when it fails.

In a file, ``stt``, ``llm`` and ``tts`` are one provider each or a list of them. The types keep the first one
where a single one stands, and the rest under ``alternatives``, so that everything that asks for the
provider of a part finds the preferred one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from rspp.pipeline.checker import Fault, fault_at, nearest
from rspp.pipeline.document import line_of
from rspp.pipeline.node_types import PROVIDER_NODES
from rspp.pipeline.normalise import (
    compile_pipeline,
    lesser_forms,
    plan_policy,
    profile_of,
    provider_bindings,
)
from rspp.pipeline.spec import PipelineSpec

if TYPE_CHECKING:
    from yaml.nodes import Node

PARTS = ("stt", "llm", "tts")
MAX_CANDIDATES = 5
"""Most providers of one part (contract section 8.5)."""
_KEY = "alternatives"
_TEXT = "tag:yaml.org,2002:str"


class Spread:
    """Where a file's lists of candidates went.

    Args:
        root: the file's mapping; its lists are taken apart in place.
    """

    def __init__(self, root: MappingNode) -> None:
        self.faults: list[Fault] = []
        self._listed: set[str] = set()
        spread: list[tuple[Node, Node]] = []
        rest: list[tuple[Node, Node]] = []
        for key, value in root.value:
            name = key.value if isinstance(key, ScalarNode) else ""
            if name == _KEY:
                known = [field.name for field in msgspec.structs.fields(PipelineSpec) if field.name != _KEY]
                self.faults.append(fault_at(line_of(key), _KEY, "unknown key", nearest(_KEY, known)))
            elif name in PARTS and isinstance(value, SequenceNode) and value.value:
                self._listed.add(name)
                spread.append((key, value.value[0]))
                rest.append((key, self._others(name, value)))
            else:
                spread.append((key, value))
        if rest:
            spread.append((ScalarNode(_TEXT, _KEY, rest[0][0].start_mark), _mapping(rest)))
        root.value = spread

    def _others(self, name: str, listed: SequenceNode) -> SequenceNode:
        if len(listed.value) > MAX_CANDIDATES:
            beyond = line_of(listed.value[MAX_CANDIDATES])
            problem = f"too many candidates ({len(listed.value)})"
            self.faults.append(fault_at(beyond, name, problem, f"keep at most {MAX_CANDIDATES}"))
        return SequenceNode(listed.tag, listed.value[1:], listed.start_mark, listed.end_mark)

    def told(self, faults: list[Fault]) -> list[Fault]:
        """Return the faults of the lists and ``faults``, with paths as the author wrote them."""
        return [*self.faults, *map(self.written, faults)]

    def written(self, fault: Fault) -> Fault:
        """Return ``fault`` with its path as the author wrote it."""
        moved = re.fullmatch(rf"{_KEY}\.(\w+)\[(\d+)\](.*)", fault.path)
        if moved:
            path = f"{moved[1]}[{int(moved[2]) + 1}]{moved[3]}"
            return Fault(fault.line, path, fault.problem, fault.hint)
        part, _, after = fault.path.partition(".")
        if part in self._listed:
            path = f"{part}[0].{after}" if after else f"{part}[0]"
            return Fault(fault.line, path, fault.problem, fault.hint)
        return fault


def _mapping(entries: list[tuple[Node, Node]]) -> MappingNode:
    return MappingNode("tag:yaml.org,2002:map", entries, entries[0][0].start_mark, entries[-1][1].end_mark)


def file_form(spec: PipelineSpec) -> dict[str, Any]:
    """Return ``spec`` as plain values in the form of a file: candidates in lists where there are several."""
    plain: dict[str, Any] = msgspec.to_builtins(spec)
    for part, others in plain.pop(_KEY).items():
        if others:
            plain[part] = [plain[part], *others]
    return plain


def listed_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a pipeline file with lists of candidates where they may stand."""
    properties = {name: value for name, value in schema["properties"].items() if name != _KEY}
    for part in PARTS:
        single = properties[part]["anyOf"]
        many = {"type": "array", "items": {"anyOf": single}, "minItems": 1, "maxItems": MAX_CANDIDATES}
        properties[part] = {**properties[part], "anyOf": [*single, many]}
    definitions = {name: value for name, value in schema["$defs"].items() if name != "AlternativeSection"}
    return {**schema, "properties": properties, "$defs": definitions}


def provider_policy(
    spec: PipelineSpec, *, responders: int, synthesizers: int, recognisers: int
) -> dict[str, Any]:
    """Return the keyword arguments of ``rspp._kernel.ProviderPolicy``.

    The kernel decides on recognition where there is something to decide: where another recogniser can take
    over, or what was heard in part may do.

    Args:
        spec: the pipeline.
        responders: how many candidates are open for replies.
        synthesizers: how many candidates are open for speech.
        recognisers: how many candidates are open for recognition.
    """
    plan, profile = plan_policy(spec), profile_of(spec)
    counts = {"llm": responders, "tts": synthesizers}
    if recognisers > 1 or "degrade" in plan["allowed_adaptive_actions"]:
        counts = {"stt": recognisers, **counts}
    lesser = lesser_forms(spec)
    own = [(modality, *limits) for modality, limits in node_budgets(spec).items()]
    return {
        **({"lesser": list(lesser.items())} if lesser else {}),
        **({"node_budgets": own} if own else {}),
        "candidates": [
            (modality, name) for modality, count in counts.items() for name in _names(spec, modality, count)
        ],
        "adaptive_actions": plan["allowed_adaptive_actions"],
        "max_attempts": profile.attempts.per_provider,
        "max_candidates": profile.attempts.candidates,
        "attempt_ms": plan["budgets"]["node_budget_ms_default"],
        "warn_ms": profile.budgets.node_warn_ms,
    }


def node_budgets(spec: PipelineSpec) -> dict[str, tuple[int, int]]:
    """Return the budgets of the nodes that have their own: when they warn and when they are used up, ms."""
    budgets = profile_of(spec).budgets
    common = (min(budgets.node_warn_ms, budgets.node_ms), budgets.node_ms)
    nodes = compile_pipeline(spec).known().nodes
    own = {node.type: (node.budget.warn_ms, node.budget.exhaust_ms) for node in nodes}
    return {kind: own[kind] for kind in PROVIDER_NODES if own[kind] != common}


def _names(spec: PipelineSpec, modality: str, count: int) -> list[str]:
    bindings = provider_bindings(spec)
    keys = [modality, *(f"{modality}.{index}" for index in range(1, count))]
    return [bindings.get(key, key) for key in keys]
