"""Payload classes: what is made of a caller's words is as sensitive, and stays inside unless it may leave."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
import pytest

from rspp import _kernel
from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.data_flow import Crossing, DataFlow, check_border, data_flow
from rspp.pipeline.loader import PipelineError, parse_pipeline
from rspp.pipeline.normalise import pipeline_version, spec_digest
from rspp.pipeline.spec import PipelineSpec
from rspp.providers.registry import open_providers
from rspp.session.offload import InlineOffloader

Declared: TypeAlias = tuple[str, str, str, list[str], list[str], list[tuple[str, str]]]

RULES = {"provider": "rules", "rules": [{"hear": "hello", "say": "Hi."}]}
WRITER = {"provider": "openai", "model": "writer", "api_key_env": ""}
VOICE = {"provider": "openai", "model": "voice", "api_key_env": ""}
EARS = {"provider": "openai", "model": "ears", "api_key_env": ""}


def flow(**keys: Any) -> DataFlow:
    return data_flow(spec(**keys))


def spec(**keys: Any) -> PipelineSpec:
    return msgspec.convert({"name": "desk", "llm": RULES, **keys}, PipelineSpec)


def test_raw_speech_becomes_raw_text_and_raw_speech_again() -> None:
    assert flow() == DataFlow("audio_raw", "text_raw", "text_raw", "audio_raw", ())


@pytest.mark.parametrize("tag", ["PII", "PHI"])
def test_what_is_made_of_sensitive_words_is_as_sensitive(tag: Any) -> None:
    assert flow(data={"caller": tag}) == DataFlow(tag, tag, tag, tag, ())


def test_each_provider_over_the_network_is_a_decision_and_embedded_ones_are_none() -> None:
    crossings = flow(stt=EARS, llm=WRITER, alternatives={"llm": [RULES], "tts": [VOICE]}).crossings
    assert crossings == (
        Crossing("stt", "openai/ears", "audio_raw", "allow"),
        Crossing("llm", "openai/writer", "text_raw", "allow"),
        Crossing("tts", "openai/voice", "text_raw", "allow"),
    )


def test_sensitive_words_leave_the_machine_only_where_the_file_says_so() -> None:
    outcomes = {
        (crossing.node, crossing.payload_class): crossing.outcome
        for crossing in flow(llm=WRITER, tts=VOICE, data={"caller": "PHI"}).crossings
    }
    # The voice also speaks notices, which are nobody's words.
    assert outcomes == {("llm", "PHI"): "reject", ("tts", "PHI"): "reject", ("tts", "text_raw"): "allow"}
    check_border(spec(llm=WRITER, data={"caller": "PHI", "external": ["PHI"]}))
    with pytest.raises(
        ConfigurationError, match=r"data\.external: openai/writer .* may not be given the PHI"
    ):
        check_border(spec(llm=WRITER, data={"caller": "PHI"}))


def test_a_file_may_keep_everything_inside() -> None:
    with pytest.raises(ConfigurationError, match="may not be given the audio_raw that goes to stt"):
        check_border(spec(stt=EARS, llm=WRITER, data={"external": ["text_raw"]}))


async def test_nothing_is_opened_that_may_not_have_what_it_would_get() -> None:
    closed_in = spec(llm={**WRITER, "api_key_env": "NO_SUCH_KEY"}, data={"external": []})
    with pytest.raises(ConfigurationError, match=r"data\.external"):
        await open_providers(closed_in, InlineOffloader())


def test_the_file_is_refused_with_its_line() -> None:
    stt = "stt: {provider: pocketsphinx, grammar: [hello]}"
    text = (
        f"name: desk\nllm: {{provider: openai, model: writer}}\n{stt}\ndata:\n  caller: PHI\n  external: []\n"
    )
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text, "desk.yaml")
    assert [(fault.line, fault.path) for fault in caught.value.faults] == [(6, "data.external")]
    assert "embedded provider" in caught.value.faults[0].hint


def test_a_pipeline_that_says_nothing_of_it_keeps_its_version() -> None:
    plain = spec()
    assert spec_digest(plain) != spec_digest(spec(data={"caller": "PHI"}))
    assert b'"data"' not in msgspec.json.encode(plain)
    assert pipeline_version(plain) == pipeline_version(spec())


def test_the_kernel_refuses_a_node_that_is_given_what_it_does_not_take() -> None:
    node: Declared = ("stt", "session", "cooperative", [], ["audio_raw"], [("audio_raw", "text_raw")])
    with pytest.raises(ValueError, match=r'node "stt": inputs lack PHI'):
        _kernel.data_flow([node], [], sources=[(0, "PHI")], external=set(), let_out=[])
    hooked: Declared = ("stt", "session", "cooperative", ["on_cancel"], ["audio_raw"], [])
    with pytest.raises(ValueError, match="hooks lack on_barge_in"):
        _kernel.data_flow([hooked], [], sources=[], external=set(), let_out=[])
