"""What the hash of a plan covers: everything that is frozen, and nothing of it twice."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from rspp import _kernel
from rspp.contracts.errors import ConfigurationError
from rspp.contracts.plan_document import ResolvedTurnPlan
from rspp.pipeline.loader import parse_pipeline
from rspp.pipeline.normalise import canonical_json, plan_policy, plan_template, turn_policy
from rspp.pipeline.registry import PipelineRegistry, published

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.pipeline.spec import PipelineSpec

BASE: dict[str, Any] = {
    "name": "desk",
    "greeting": "Hello.",
    "llm": {"provider": "openai", "model": "m"},
    "stt": {"provider": "openai", "model": "w"},
}


def spec_of(**keys: Any) -> PipelineSpec:
    return parse_pipeline(yaml.safe_dump({**BASE, **keys}), "f.yaml")


def frozen_hash(template: dict[str, str], epoch: int = 1) -> str:
    """Return the hash of the plan of the first turn, as the kernel records it."""
    kernel = _kernel.SessionKernel(
        session_id="s",
        policy=_kernel.TurnPolicy(**turn_policy(spec_of())),
        plan=_kernel.PlanTemplate(**template),
        now_us=0,
        wall_clock_ms=0,
    )
    kernel.lease(0, epoch, 4_000_000)
    kernel.start(1, False)
    records = [json.loads(record) for record in kernel.drain_evidence(1000)]
    (frozen,) = [record["plan_hash"] for record in records if record.get("name") == "plan_frozen"]
    return str(frozen)


def variants(value: Any) -> Iterator[Any]:
    """Every value that differs from ``value`` in exactly one leaf, one key or one item."""
    if isinstance(value, dict):
        for key in value:
            for other in variants(value[key]):
                yield {**value, key: other}
            yield {name: item for name, item in value.items() if name != key}
        yield {**value, "one_more": 1}
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for other in variants(item):
                yield [*value[:index], other, *value[index + 1 :]]
            yield value[:index] + value[index + 1 :]
        yield [*value, "one_more"]
    elif isinstance(value, int):
        yield value + 1
    else:
        yield value + "x"


def test_g_09_plans_that_differ_in_any_frozen_field_differ_in_hash() -> None:
    spec = spec_of()
    template, policy = plan_template(spec), plan_policy(spec)
    hashes = {frozen_hash(template)}
    count = 1
    for changed in variants(copy.deepcopy(policy)):
        hashes.add(frozen_hash({**template, "policy_json": canonical_json(changed)}))
        count += 1
    for name in ("pipeline_version", "graph_definition_ref", "execution_profile"):
        hashes.add(frozen_hash({**template, name: template[name] + "x"}))
        count += 1
    hashes.add(frozen_hash(template, epoch=2))
    assert count > 300
    assert len(hashes) == count + 1
    assert frozen_hash(plan_template(spec_of())) in hashes


@pytest.mark.parametrize(
    "change",
    [
        {"version": "v2"},
        {"profile": "own", "profiles": {"own": {"name": "own"}}},
        {
            "profile": "own",
            "profiles": {"own": {"name": "own", "recording": {"level": "L1"}}},
            "recording": {"until_minutes": 60},
        },
        {"adaptive_actions": []},
        {"budget": {"stall_ms": 2999}},
        {"turn": {"probe_ms": 91}},
        {"vad": {"speech": 0.51}},
        {"llm": {"provider": "openai", "model": "other"}},
        {"llm": {"provider": "openai", "model": "m", "system": "Be brief."}},
        {"tts": {"provider": "espeak", "voice": "en-gb"}},
        {"greeting": "Hi."},
        {"failure_notice": ""},
        {"graph": {"edges": [{"from": "tts", "to": "playout", "max_queue_ms": 3999}]}},
        {"graph": {"edges": [{"from": "stt", "to": "turn", "flow_control": "hybrid"}]}},
        {"graph": {"edges": [{"from": "stt", "to": "turn", "id": "words"}]}},
    ],
)
def test_g_09_whatever_an_author_changes_changes_the_hash(change: dict[str, Any]) -> None:
    assert frozen_hash(plan_template(spec_of(**change))) != frozen_hash(plan_template(spec_of()))


def test_g_25_an_empty_list_of_adaptive_actions_and_an_absent_one_are_two_plans() -> None:
    choices: list[dict[str, Any]] = [{}, {"adaptive_actions": []}, {"adaptive_actions": ["retry"]}]
    assert len({frozen_hash(plan_template(spec_of(**keys))) for keys in choices}) == 3


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"adaptive_actions": []},
        {"graph": {"edges": [{"from": "tts", "to": "playout", "max_queue_items": 8}]}},
        {
            "graph": {
                "edges": [
                    {
                        "from": "stt",
                        "to": "turn",
                        "strategy": "block",
                        "max_block_time_ms": 9,
                        "fairness_key": "session",
                        "sync_drop_policy": {"policy": "atomic_drop"},
                        "watermarks": {"queue_ms": {"high": 9, "low": 3}},
                    }
                ]
            }
        },
    ],
)
@pytest.mark.conformance("CT-004")
def test_the_plan_of_a_turn_is_a_document_of_the_contract(keys: dict[str, Any]) -> None:
    spec = spec_of(**keys)
    template, policy = plan_template(spec), plan_policy(spec)
    document = {
        **policy,
        "determinism": {**policy["determinism"], "seed": 1},
        "turn_id": "turn-1-1",
        "plan_hash": frozen_hash(template),
        "authority_epoch": 1,
        **{name: template[name] for name in template if name != "policy_json"},
    }
    encoded = msgspec.json.encode(document)
    assert _kernel.validate_document("resolved_turn_plan", encoded) is None
    assert not list(msgspec.json.decode(encoded, type=ResolvedTurnPlan).check())


# ------------------------------------------------------------------------------------------- versions


def test_cp_01_a_version_that_nobody_published_is_refused() -> None:
    registry = published(spec_of(), spec_of(version="v2"))
    assert registry.versions == ("desk@v1", "desk@v2")
    assert registry.resolve("").version == "v1"
    assert registry.resolve("desk@v2").version == "v2"
    for unknown in ("desk@v3", "pipeline-v1", "desk", " desk@v1"):
        with pytest.raises(ConfigurationError, match="unknown version") as caught:
            registry.resolve(unknown)
        assert "desk@v1, desk@v2" in caught.value.hint
    with pytest.raises(ConfigurationError, match="unknown version"):
        PipelineRegistry().resolve("")


def test_cp_01_a_published_version_never_changes() -> None:
    registry = published(spec_of())
    record = registry.publish(spec_of())
    assert record.graph_definition_ref == plan_template(spec_of())["graph_definition_ref"]
    assert (record.pipeline_version, record.execution_profile) == ("desk@v1", "simple")
    with pytest.raises(ConfigurationError, match="desk@v1 is published with another content"):
        registry.publish(spec_of(greeting="Hi."))
    assert registry.resolve("desk@v1").greeting == "Hello."
