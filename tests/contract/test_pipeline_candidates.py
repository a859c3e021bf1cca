"""Lists of candidates in a pipeline file: where they go, and how their faults are told."""

from __future__ import annotations

import jsonschema
import pytest
import yaml

from rspp.pipeline.candidates import file_form, provider_policy
from rspp.pipeline.explain import lesser_told
from rspp.pipeline.loader import PipelineError, parse_pipeline
from rspp.pipeline.normalise import key_variables, plan_policy, provider_bindings
from rspp.pipeline.schema import schema_of
from rspp.pipeline.spec import EspeakTts, OpenAiLlm, RulesLlm

TWO = """
name: two
llm:
  - {provider: openai, model: big, api_key_env: ""}
  - provider: rules
    rules:
      - hear: hello
        say: hi
tts:
  - {provider: openai, model: loud, api_key_env: ""}
  - {provider: espeak}
"""


def faults(text: str) -> list[tuple[int, str]]:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text, "two.yaml")
    return [(fault.line, fault.path) for fault in caught.value.faults]


def test_the_first_of_a_list_serves_and_the_rest_take_over() -> None:
    spec = parse_pipeline(TWO, "two.yaml")
    assert isinstance(spec.llm, OpenAiLlm)
    assert [type(llm) for llm in spec.alternatives.llm] == [RulesLlm]
    assert [type(tts) for tts in spec.alternatives.tts] == [EspeakTts]
    bindings = provider_bindings(spec)
    assert (bindings["llm"], bindings["llm.1"]) == ("openai/big", "rules")
    assert (bindings["tts"], bindings["tts.1"]) == ("openai/loud", "espeak/en-us")


def test_a_single_provider_means_the_same_as_a_list_of_one() -> None:
    single = "name: one\nllm: {provider: rules, rules: [{hear: hello, say: hi}]}\n"
    listed = "name: one\nllm:\n  - {provider: rules, rules: [{hear: hello, say: hi}]}\n"
    one, two = parse_pipeline(single, "a"), parse_pipeline(listed, "a")
    assert one == two
    assert plan_policy(one) == plan_policy(two)


def test_the_kernel_is_told_the_candidates_in_order_and_what_the_plan_allows() -> None:
    spec = parse_pipeline(TWO + "adaptive_actions: [retry, degrade]\n", "two.yaml")
    policy = provider_policy(spec, responders=2, synthesizers=2, recognisers=1)
    assert policy["candidates"] == [
        ("stt", "pocketsphinx"),
        ("llm", "openai/big"),
        ("llm", "rules"),
        ("tts", "openai/loud"),
        ("tts", "espeak/en-us"),
    ]
    assert policy["adaptive_actions"] == ["retry", "degrade"]
    assert "lesser" not in policy


def test_a_single_recogniser_is_the_kernels_only_where_something_may_stand_in() -> None:
    def hearing(text: str, recognisers: int) -> list[str]:
        spec = parse_pipeline(text, "two.yaml")
        policy = provider_policy(spec, responders=2, synthesizers=2, recognisers=recognisers)
        return [name for modality, name in policy["candidates"] if modality == "stt"]

    listed = (
        TWO + "stt:\n  - {provider: openai, model: ears, api_key_env: ''}\n  - {provider: pocketsphinx}\n"
    )
    assert hearing(TWO, 1) == []
    assert hearing(listed, 2) == ["openai/ears", "pocketsphinx"]
    spec = parse_pipeline(listed, "two.yaml")
    assert provider_bindings(spec)["stt.1"] == "pocketsphinx"
    assert [item["input_key"] for item in plan_policy(spec)["determinism"]["nondeterministic_inputs"]] == [
        "stt",
        "llm",
        "tts",
    ]


def test_the_lesser_voice_stands_in_for_voices_of_a_network_where_the_plan_allows_it() -> None:
    network = TWO.replace("  - {provider: espeak}\n", "")
    allowed = parse_pipeline(network + "adaptive_actions: [degrade]\n", "two.yaml")
    policy = provider_policy(allowed, responders=2, synthesizers=1, recognisers=1)
    assert policy["lesser"] == [("tts", "espeak/en-us")]
    assert provider_bindings(allowed)["tts.lesser"] == "espeak/en-us"
    assert "tts.lesser" not in provider_bindings(parse_pipeline(network, "two.yaml"))


def test_each_recogniser_of_a_list_is_checked() -> None:
    listed = TWO + "stt:\n  - {provider: pocketsphinx}\n  - {provider: pocketsphinx, grammar: ['(hello']}\n"
    assert (14, "stt[1].grammar[0]") in faults(listed)


@pytest.mark.parametrize(
    ("before", "after", "line", "path"),
    [
        ("say: hi", "say: {x}", 8, "llm[1].rules[0].say"),
        ("hear: hello", "hear: (hello", 7, "llm[1].rules[0].hear"),
        ("model: big", "modell: big", 4, "llm[0].modell"),
        ("provider: espeak", "provider: espeek", 11, "tts[1].provider"),
        ("name: two", "name: two\nalternatives: {}", 3, "alternatives"),
        ('model: loud, api_key_env: ""', 'model: loud, base_url: "http://me:x@h/v1"', 10, "tts[0].base_url"),
    ],
)
def test_a_fault_is_told_where_the_author_wrote_it(before: str, after: str, line: int, path: str) -> None:
    assert (line, path) in faults(TWO.replace(before, after))


def test_no_more_than_five_candidates_and_no_empty_list() -> None:
    rule = "  - {provider: rules, rules: [{hear: hello, say: hi}]}\n"
    assert faults("name: many\nllm:\n" + 6 * rule) == [(8, "llm")]
    parse_pipeline("name: many\nllm:\n" + 5 * rule, "many.yaml")
    assert faults("name: none\nllm: []\n")[0][1] == "llm"


def test_the_schema_says_the_same() -> None:
    validator = jsonschema.Draft202012Validator(schema_of("pipeline"))
    document = yaml.safe_load(TWO)
    assert validator.is_valid(document)
    assert not validator.is_valid({**document, "llm": []})
    assert not validator.is_valid({**document, "llm": 6 * [document["llm"][1]]})
    assert not validator.is_valid({**document, "alternatives": {}})


def test_the_file_form_of_a_pipeline_is_that_pipeline() -> None:
    spec = parse_pipeline(TWO, "two.yaml")
    again = parse_pipeline(yaml.safe_dump(file_form(spec)), "again.yaml")
    assert again == spec


LESSER = """
adaptive_actions: [retry, degrade]
degraded:
  llm: {provider: openai, model: small, base_url: "http://127.0.0.1:8000/v1", api_key_env: SMALL_KEY}
"""


def test_what_serves_a_degraded_reply_is_bound_told_to_the_kernel_and_covered_by_the_plan() -> None:
    spec = parse_pipeline(TWO + LESSER, "two.yaml")
    assert provider_bindings(spec)["llm.lesser"] == "openai/small"
    policy = provider_policy(spec, responders=2, synthesizers=2, recognisers=1)
    assert policy["lesser"] == [("llm", "openai/small")]
    assert plan_policy(spec)["provider_bindings"]["llm.lesser"] == "openai/small"
    assert key_variables(spec) == ("SMALL_KEY",)
    network = parse_pipeline(TWO.replace("  - {provider: espeak}\n", "") + LESSER, "two.yaml")
    policy = provider_policy(network, responders=2, synthesizers=1, recognisers=1)
    assert policy["lesser"] == [("llm", "openai/small"), ("tts", "espeak/en-us")]


def test_a_pipeline_without_a_lesser_form_is_the_one_that_it_was() -> None:
    spec = parse_pipeline(TWO, "two.yaml")
    assert "degraded" not in file_form(spec)
    assert "llm.lesser" not in provider_bindings(spec)
    assert provider_policy(spec, responders=2, synthesizers=2, recognisers=1).keys().isdisjoint({"lesser"})


def test_a_degraded_model_over_a_network_is_an_external_input_and_held_at_the_border() -> None:
    embedded = "name: one\nllm: {provider: rules, rules: [{hear: hello, say: hi}]}\n"
    spec = parse_pipeline(embedded + LESSER, "one.yaml")
    inputs = plan_policy(spec)["determinism"]["nondeterministic_inputs"]
    assert [item["input_key"] for item in inputs] == ["llm"]
    # What may not leave the machine may not leave it in a lesser form either.
    paths = [path for _, path in faults(embedded + LESSER + "data: {external: []}\n")]
    assert paths == ["data.external"]


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("[retry, degrade]", "[retry]", "degraded"),
        ("llm: {provider: openai, model: small,", "llm: {model: small,", "degraded.llm.provider"),
        ("provider: openai, model: small", "provider: openai", "degraded.llm.model"),
        ("http://127", "http://me:x@127", "degraded.llm.base_url"),
        ("llm: {provider: openai, model: small,", "tts: {provider: openai, model: small,", "degraded.tts"),
    ],
)
def test_faults_of_a_lesser_form_are_told_where_they_are(before: str, after: str, path: str) -> None:
    assert path in [found for _, found in faults(TWO + LESSER.replace(before, after))]


def test_rules_of_a_lesser_form_are_checked_like_any_and_are_nothing_to_recognise_by() -> None:
    rules = "  llm: {provider: rules, rules: [{hear: 'a <cat>', say: '{dog}'}]}\n"
    wrong = TWO + "adaptive_actions: [degrade]\ndegraded:\n" + rules
    assert [path for _, path in faults(wrong)] == ["degraded.llm.rules[0].hear", "degraded.llm.rules[0].say"]
    alone = "name: one\nllm: {provider: openai, model: big}\nadaptive_actions: [degrade]\ndegraded:\n"
    sound = rules.replace("a <cat>", "cat").replace("{dog}", "dog")
    assert [path for _, path in faults(alone + sound)] == ["stt.grammar"]


def test_in_words_a_degraded_turn_goes_on_with_what_there_is() -> None:
    def told(more: str) -> str:
        return lesser_told(parse_pipeline(TWO + more, "two.yaml"))

    assert told("") == ""
    assert "llm with openai/small" in told(LESSER)
    assert "llm with nothing" in told("adaptive_actions: [degrade]\n")
