"""Every way to get a pipeline file wrong: one clear message each, with line, field, value and remedy."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.document import MAX_BYTES
from rspp.pipeline.loader import PipelineError, load_pipeline, parse_pipeline
from rspp.pipeline.spec import OpenAiLlm, PipelineSpec, PocketsphinxStt, RulesLlm, SileroVad

if TYPE_CHECKING:
    from rspp.pipeline.checker import Fault

EXAMPLE = Path(__file__).parents[2] / "rspp" / "pipeline" / "examples" / "front-desk.yaml"
RULES = "llm: {provider: rules, rules: [{hear: hello, say: Hi.}]}\n"
WHISPER = "stt: {provider: openai, model: w}\n"
MINIMAL = "name: desk\n" + RULES


def faults(text: str) -> tuple[Fault, ...]:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text, "f.yaml")
    assert caught.value.hint
    return caught.value.faults


def only(text: str) -> Fault:
    found = faults(text)
    assert len(found) == 1, found
    return found[0]


def refusal(text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse_pipeline(text, "f.yaml")
    assert caught.value.hint
    return caught.value


# ------------------------------------------------------------------------------------- valid files


def test_a_handful_of_lines_is_a_pipeline() -> None:
    spec = parse_pipeline(MINIMAL, "f.yaml")
    assert spec.name == "desk"
    assert isinstance(spec.llm, RulesLlm)
    assert spec.llm.rules[0].say == "Hi."
    assert isinstance(spec.stt, PocketsphinxStt)
    assert spec.vad == SileroVad()


def test_the_example_is_valid() -> None:
    assert load_pipeline(EXAMPLE).name == "front-desk"


def test_words_that_old_yaml_took_for_booleans_and_times_are_words() -> None:
    text = "name: desk\nllm:\n  provider: rules\n  rules:\n  - {hear: yes, say: no}\nversion: 2024-01-01\n"
    spec = parse_pipeline(text, "f.yaml")
    assert isinstance(spec.llm, RulesLlm)
    assert (spec.llm.rules[0].hear, spec.llm.rules[0].say, spec.version) == ("yes", "no", "2024-01-01")


def test_an_openai_server_takes_every_part() -> None:
    text = (
        "name: desk\nllm: {provider: openai, base_url: 'http://127.0.0.1:1/v1', model: m, temperature: 1}\n"
        "stt: {provider: openai, model: w}\ntts: {provider: openai, model: t}\n"
    )
    spec = parse_pipeline(text, "f.yaml")
    assert isinstance(spec.llm, OpenAiLlm)
    assert spec.llm.temperature == 1.0
    assert isinstance(spec.llm.temperature, float)


def test_the_only_detector_needs_no_provider_key() -> None:
    assert parse_pipeline(MINIMAL + "vad: {speech: 0.6}\n", "f.yaml").vad.speech == 0.6


def test_an_anchor_is_allowed_within_limits() -> None:
    text = "name: desk\nfailure_notice: &sorry Sorry.\nunrecognised_notice: *sorry\n" + RULES
    assert parse_pipeline(text, "f.yaml").unrecognised_notice == "Sorry."


# --------------------------------------------------------------------------------------- the file


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: no such pipeline file") as caught:
        load_pipeline(tmp_path / "none.yaml")
    assert "front-desk.yaml" in caught.value.hint


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        load_pipeline(tmp_path)


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="cannot be read: Not a directory"):
        load_pipeline(tmp_path / "file" / "f.yaml")


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"name: desk\ngreeting: caf\xe9\n")
    with pytest.raises(ConfigurationError, match=r"f\.yaml:2: not UTF-8 text \(byte 0xe9\)"):
        load_pipeline(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_pipeline(path).name == "desk"


def test_a_file_that_is_too_large_is_not_even_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES * 1000)
    with pytest.raises(ConfigurationError, match="too large"):
        load_pipeline(path)
    path.write_bytes("é".encode() * MAX_BYTES)
    with pytest.raises(ConfigurationError, match="too large"):
        load_pipeline(path)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "~", "null\n"])
def test_an_empty_file(text: str) -> None:
    assert refusal(text).message == "f.yaml: the file is empty"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [a", "f.yaml:1: not valid YAML"),
        ("name: a\n b: c: d", "f.yaml:2: not valid YAML"),
        ("\tname: a", "f.yaml:1: not valid YAML"),
        ("name: a\n---\nname: b", "but found another document"),
        ("name: *nobody", "undefined alias"),
        ("name: \x00", "not allowed"),
        ('name: "\\UFFFFFFFF"', "not valid YAML"),
        ("[" * 5000, "nested deeper than 20 levels"),
        ("{a: " * 5000, "nested deeper than 20 levels"),
        ("- a", "must be a mapping of keys to values, not a list"),
        ("hello", "must be a mapping of keys to values, not a single value"),
        ("name: &a [*a]", "endless or too large"),
        ("a: &a [x]\nb: [" + "*a," * 101 + "]", "more than 100 aliases"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
                for old, new in ("ab", "bc", "cd", "de", "ef")
            ),
            "endless or too large",
        ),
    ],
)
def test_text_that_is_no_usable_yaml(text: str, words: str) -> None:
    assert words in refusal(text).message


# ---------------------------------------------------------------------------------------- the keys


@pytest.mark.parametrize(
    ("text", "line", "path", "problem", "hint"),
    [
        (RULES, 1, "name", "required key is missing", "add `name: ...`"),
        ("name: x", 1, "llm", "required key is missing", "`provider: rules` or `provider: openai`"),
        (MINIMAL + "vda: {}", 3, "vda", "unknown key", "did you mean `vad`?"),
        (MINIMAL + "zzz: {}", 3, "zzz", "unknown key", "known here: name, llm,"),
        (MINIMAL + "name: y", 3, "name", "the key appears twice (first in line 1)", "keep one"),
        (MINIMAL + "<<: {}", 3, "<<", "merge keys are not supported", "write the keys out"),
        (MINIMAL + "? [a]\n: b", 3, "", "a key must be a word", "quotes"),
        ("name: x\nllm: {}", 2, "llm.provider", "required key is missing", "`provider: rules`"),
        ("name: x\nllm: {provider: gpt}", 2, "llm.provider", 'unknown provider ("gpt")', "rules, openai"),
        ("name: x\nllm: {provider: [a]}", 2, "llm.provider", "unknown provider (a list)", "rules"),
        (
            MINIMAL + "stt: {provider: whisper}",
            3,
            "stt.provider",
            'unknown provider ("whisper")',
            "pocketsphinx",
        ),
        (MINIMAL + "vad: {provider: webrtc}", 3, "vad.provider", 'unknown provider ("webrtc")', "silero"),
        ("name: x\nllm: rules", 2, "llm", 'must be a mapping of keys to values (is "rules")', "indent"),
        ("name: x\nllm:", 2, "llm", "must be a mapping of keys to values (is empty)", "indent"),
        (
            "name: x\nllm: {provider: rules, rules: []}",
            2,
            "llm.rules",
            "the list is empty",
            "add at least 1 item",
        ),
        ("name: x\nllm: {provider: rules, rules: a}", 2, "llm.rules", 'must be a list (is "a")', "- "),
        (
            "name: x\nllm: {provider: rules, rules: [{hear: a}]}",
            2,
            "llm.rules[0].say",
            "required key is missing",
            "say",
        ),
        (
            "name: x\nllm:\n  provider: rules\n  rules:\n  - hear: a\n    say: b\n    action: shout",
            7,
            "llm.rules[0].action",
            'is not allowed here ("shout")',
            "one of: hang_up; or leave it out",
        ),
        ("name: 12\n" + RULES, 1, "name", 'must be text (is "12", a number)', 'put it in quotes: "12"'),
        ("name:\n" + RULES, 1, "name", "must be text (is empty)", '"" for none'),
        ("name: ''\n" + RULES, 1, "name", "must not be empty", "write a text"),
        ("name: " + "x" * 201 + "\n" + RULES, 1, "name", "is too long (201 characters)", "at most 200"),
        ('name: "a\\0b"\n' + RULES, 1, "name", "holds a control character or half a character", "remove"),
        ('name: "\\uD800"\n' + RULES, 1, "name", "holds a control character or half a character", "remove"),
        ("name: [x]\n" + RULES, 1, "name", "must be text (is a list)", "write a text"),
        ("name: !!python/object:os.system x\n" + RULES, 1, "name", "cannot be read: tag", "write a text"),
        (
            MINIMAL + "turn:\n  probe_ms: 0",
            4,
            "turn.probe_ms",
            "must be a whole number from 1 to 600000 (is 0)",
            "from 1 to 600000",
        ),
        (
            MINIMAL + "turn: {probe_ms: 80.5}",
            3,
            "turn.probe_ms",
            'must be a whole number from 1 to 600000 (is "80.5", a number)',
            "without quotes or unit",
        ),
        (
            MINIMAL + "turn: {probe_ms: 90ms}",
            3,
            "turn.probe_ms",
            'must be a whole number from 1 to 600000 (is "90ms")',
            "without quotes or unit",
        ),
        (
            MINIMAL + f"turn: {{probe_ms: {'9' * 5000}}}",
            3,
            "turn.probe_ms",
            "cannot be read: a number of more than 20 digits",
            "from 1",
        ),
        (
            MINIMAL + "turn: {probe_ms: !!int x}",
            3,
            "turn.probe_ms",
            "cannot be read: invalid literal",
            "whole number",
        ),
        (
            MINIMAL + "interruption: {enabled: no}",
            3,
            "interruption.enabled",
            'must be true or false (is "no")',
            "write true or false",
        ),
        (MINIMAL + "interruption: {enabled: !!bool on}", 3, "interruption.enabled", "cannot be read", "true"),
        (
            MINIMAL + "interruption: {confirm_words: true}",
            3,
            "interruption.confirm_words",
            'must be a whole number from 1 to 20 (is "true", a boolean)',
            "from 1 to 20",
        ),
        (MINIMAL + "vad: {speech: 1.5}", 3, "vad.speech", "from 0.01 to 0.99 (is 1.5)", "0.99"),
        (MINIMAL + "vad: {speech: !!float nan}", 3, "vad.speech", "from 0.01 to 0.99 (is nan)", "0.99"),
        (MINIMAL + "vad: {speech: .nan}", 3, "vad.speech", "must be a number", "0.99"),
        (
            "name: x\nllm: {provider: openai, model: m, base_url: 'ftp://x'}\n" + WHISPER,
            2,
            "llm.base_url",
            'is not allowed here ("ftp://x")',
            "http:// or https://",
        ),
    ],
)
def test_one_wrong_thing_gives_one_fault(text: str, line: int, path: str, problem: str, hint: str) -> None:
    fault = only(text)
    assert (fault.line, fault.path) == (line, path)
    assert problem in fault.problem
    assert hint in fault.hint


def test_all_faults_are_told_in_the_order_of_their_lines() -> None:
    text = "name: 1\nllm: {provider: rule}\nturn:\n  probe_ms: 0\n  probe: 1\n"
    assert [fault.line for fault in faults(text)] == [1, 2, 4, 5]
    message = refusal(text).message
    assert message.startswith('f.yaml:1: name: must be text (is "1", a number)')
    assert message.endswith("(and 3 more faults: rspp-cli validate-spec f.yaml)")


def test_a_file_full_of_faults_is_not_a_flood() -> None:
    assert len(faults(MINIMAL + "".join(f"key{number}: 1\n" for number in range(500)))) == 50


@pytest.mark.parametrize(
    "section",
    [
        "api_key: sk-verysecret",
        "api_key_env: sk-verysecret",
        "api_key_env: [sk-verysecret]",
        "api_key_env: 0.123\n  token: sk-verysecret",
        "base_url: ftp://user:sk-verysecret@host/v1",
        "base_url: ' http://user:sk-verysecret@host/v1'",
        "base_url: http://user:sk-p@verysecret@host/v1",
    ],
)
def test_a_key_in_the_file_is_refused_and_never_repeated(section: str) -> None:
    text = f"name: x\nllm:\n  provider: openai\n  model: m\n  {section}\n{WHISPER}"
    error = refusal(text)
    assert isinstance(error, PipelineError)
    said = error.message + error.hint + "".join(fault.problem + fault.hint for fault in error.faults)
    assert "verysecret" not in said


def test_a_key_that_is_given_itself_is_pointed_to_the_environment() -> None:
    text = "name: x\nllm: {provider: openai, model: m, api_key: k}\n" + WHISPER
    assert "environment variable" in only(text).hint


# ------------------------------------------------------------------------- keys that contradict others


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("vad: {speech: 0.3}", "vad.speech", "must be above vad.silence, which is 0.35 (is 0.3)"),
        ("vad: {silence: 0.5}", "vad.silence", "must be below vad.speech, which is 0.5 (is 0.5)"),
        ("turn: {probe_ms: 200}", "turn.probe_ms", "at most turn.complete_wait_ms, which is 160"),
        ("turn: {complete_wait_ms: 80}", "turn.complete_wait_ms", "at least turn.probe_ms, which is 90"),
        ("turn: {complete_wait_ms: 1501}", "turn.complete_wait_ms", "at most turn.incomplete_wait_ms"),
        ("turn: {max_utterance_ms: 1500}", "turn.max_utterance_ms", "above turn.incomplete_wait_ms"),
        ("interruption: {short_release_ms: 201}", "interruption.short_release_ms", "at most"),
        (
            "interruption: {short_burst_ms: 700}",
            "interruption.short_burst_ms",
            "below interruption.confirm_ms",
        ),
        ("interruption: {release_ms: 1500}", "interruption.release_ms", "below turn.incomplete_wait_ms"),
        ("stt: {provider: pocketsphinx, grammar: [a (b]}", "stt.grammar[0]", "the bracket is not closed"),
        ("stt: {provider: pocketsphinx, grammar: [a <b>]}", "stt.grammar[0]", "slot <b> is not defined"),
        (
            "stt: {provider: pocketsphinx, backchannels: ['[a]']}",
            "stt.backchannels[0]",
            "every word is optional",
        ),
        (
            "stt: {provider: pocketsphinx, pronunciations: {mhm: M HH XX}}",
            "stt.pronunciations.mhm",
            'unknown phone ("XX")',
        ),
        ("stt: {provider: pocketsphinx, pronunciations: {mhm: ''}}", "stt.pronunciations.mhm", "none given"),
        (
            "stt: {provider: pocketsphinx, pronunciations: {Mhm: M}}",
            "stt.pronunciations.Mhm",
            "small letters",
        ),
    ],
)
def test_a_contradiction_names_both_keys(text: str, path: str, problem: str) -> None:
    fault = only(MINIMAL + text)
    assert (fault.line, fault.path) == (3, path)
    assert problem in fault.problem


@pytest.mark.parametrize(
    ("slots", "hear", "say", "path", "problem"),
    [
        ("{}", "book <n>", "b", "llm.rules[0].hear", "slot <n> is not defined"),
        ("{number: [one]}", "book <numbr>", "b", "llm.rules[0].hear", "slot <numbr> is not defined"),
        ("{n: [one]}", "book <n>", "for {m}", "llm.rules[0].say", "{m} repeats a slot"),
        ("{n: []}", "a", "b", "llm.slots.n", "the slot has no phrase"),
        ("{n: [a <m>], m: [b]}", "a", "b", "llm.slots.n[0]", "a slot cannot hold another slot"),
        ("{'1 n': [a]}", "a", "b", "llm.slots.1 n", "is not allowed"),
        ("{n: ['(']}", "a <n>", "b", "llm.slots.n[0]", "the bracket is not closed"),
        ("{}", "a || b", "b", "llm.rules[0].hear", "position"),
    ],
)
def test_rules_and_slots_must_fit(slots: str, hear: str, say: str, path: str, problem: str) -> None:
    text = (
        f"name: x\nllm:\n  provider: rules\n  slots: {slots}\n  rules:\n"
        f'  - hear: "{hear}"\n    say: "{say}"\n'
    )
    fault = only(text)
    assert fault.path == path
    assert problem in fault.problem


def test_an_unknown_slot_is_guessed() -> None:
    text = "name: x\nllm: {provider: rules, slots: {number: [a]}, rules: [{hear: <numbr>, say: b}]}"
    assert only(text).hint == "did you mean `number`?"


def test_recognition_without_any_sentence_is_refused() -> None:
    fault = only("name: x\nllm: {provider: openai, model: m}\n")
    assert fault.path == "stt.grammar"
    assert "needs a grammar" in fault.problem
    text = "name: x\nllm: {provider: openai, model: m}\nstt: {provider: pocketsphinx, grammar: [hello]}\n"
    assert parse_pipeline(text, "f.yaml").name == "x"


# ---------------------------------------------------------------------------------------- properties

WORDS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["rules", "openai", "silero", "a (b", "<n>", "{n}", "hang_up", 0, 0.5, "yes"]),
)
KNOWN = """name llm version greeting vad stt tts turn interruption budget recording provider rules slots hear
say action grammar backchannels pronunciations speech silence probe_ms enabled model base_url"""
KEYS = st.one_of(st.sampled_from(KNOWN.split()), st.text(string.printable, max_size=8), st.integers())
TREES = st.recursive(
    WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)


def loads_or_explains(text: str) -> PipelineSpec | None:
    try:
        return parse_pipeline(text, "f.yaml")
    except ConfigurationError as error:
        refused = error
    assert "f.yaml" in refused.message
    assert refused.hint
    assert "\n" not in refused.message
    return None


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_document_loads_or_is_explained(tree: object) -> None:
    loads_or_explains(yaml.safe_dump(tree))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_mapping_over_a_valid_file_loads_or_is_explained(tree: dict[object, object]) -> None:
    loads_or_explains(yaml.safe_dump({"name": "x", **yaml.safe_load(RULES), **tree}))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.text("{}[]:,-\n #&*!|>'\"%@`?\\ab01~<", max_size=60))
def test_any_text_loads_or_is_explained(text: str) -> None:
    loads_or_explains(text)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.text("{}[]:,-\n #&*!|'\"\\a0<>()\t", max_size=4), st.integers(0, 6))
def test_a_damaged_example_loads_or_is_explained(place: int, inserted: str, removed: int) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    place %= len(text)
    loads_or_explains(text[:place] + inserted + text[place + removed :])


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_load_or_are_explained(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        load_pipeline(path)


def test_nothing_of_a_file_reaches_the_terminal_as_a_command() -> None:
    text = 'name: x\n"\\e[2J": 1\nllm: {provider: "\\e[31mred\\nline", "\\e[0m": {}}\n'
    for fault in faults(text):
        assert (fault.path + fault.problem + fault.hint).isprintable()
