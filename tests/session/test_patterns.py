"""Patterns of spoken sentences and the automaton made of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.patterns import Pattern, parse_pattern, spoken_words
from rspp.providers.grammar import Automaton

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SLOTS = {"number": ["two", "three", "twenty one"], "day": ["(this | next) friday", "tomorrow"]}


@pytest.mark.parametrize(
    ("pattern", "sentence", "slots"),
    [
        ("where are you", "where are you", {}),
        ("(where | who) are you", "who are you", {}),
        ("[please] book [a | the] table", "book table", {}),
        ("[please] book [a | the] table", "please book the table", {}),
        ("a table for <number>", "a table for twenty one", {"number": "twenty one"}),
        ("<number> on <day>", "two on next friday", {"number": "two", "day": "next friday"}),
        ("<number> or <number>", "two or three", {"number": "two"}),
        ("check-in", "check in", {}),
        ("What IS it", "what is it", {}),
        ("it\u2019s late", "it's late", {}),
    ],
)
def test_a_pattern_accepts_its_sentences_and_gives_their_slots(
    pattern: str, sentence: str, slots: dict[str, str]
) -> None:
    assert parse_pattern(pattern, SLOTS).match(sentence.split()) == slots


@pytest.mark.parametrize("sentence", ["", "where", "where are", "where are you now", "so where are you"])
def test_a_pattern_accepts_nothing_else(sentence: str) -> None:
    assert parse_pattern("where are you").match(sentence.split()) is None


def test_the_sentence_that_ends_last_is_found_inside_an_utterance() -> None:
    found = parse_pattern("[a table] for <number>", SLOTS).find(
        spoken_words("well a table for two, no, a table for three, thanks")
    )
    assert found is not None
    assert (found.start, found.end, found.slots) == (6, 10, {"number": "three"})


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "position 1: it has no words"),
        ("   ", "position 1: it has no words"),
        ("a |", "position 3: an alternative is empty"),
        ("(a", "position 1: the bracket is not closed, ')' is missing"),
        ("(a]", "position 3: ']' closes no bracket"),
        ("a)", "position 2: ')' closes no bracket"),
        ("a ,b", "position 3: unexpected ','"),
        ("a <number", "position 3: unexpected '<'"),
        ("to <city>", "position 4: unknown slot 'city' (known: day, number)"),
        ("[a] [b]", "every word is optional"),
        ("(" * 30 + "a" + ")" * 30, "nested deeper"),
    ],
)
def test_a_malformed_pattern_is_refused_with_its_position(pattern: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_pattern(pattern, SLOTS)
    assert says in caught.value.message
    assert caught.value.hint


def test_a_slot_whose_phrase_is_malformed_or_uses_a_slot_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="slot 'x', phrase '\\(a'"):
        parse_pattern("<x>", {"x": ["(a"]})
    with pytest.raises(ConfigurationError, match="the slot 'x' uses another slot, 'y'"):
        parse_pattern("<x>", {"x": ["<y>"], "y": ["a"]})


@given(st.text(alphabet="ab ()[]|<>x,-'\u2019", max_size=30))
def test_any_text_is_a_pattern_or_is_refused(text: str) -> None:
    try:
        pattern = parse_pattern(text, {"x": ["a b"]})
    except ConfigurationError:
        return
    assert pattern.match([]) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Uh-huh, it\u2019s 'fine' -- 4 people?", ["uh", "huh", "it's", "fine", "4", "people"]),
        ("", []),
        ("...", []),
        ("Straße", ["straße"]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert spoken_words(text) == words


def sentences(patterns: Sequence[Pattern], words: str, longest: int) -> Iterator[tuple[str, ...]]:
    for length in range(1, longest + 1):
        for candidate in itertools.product(words, repeat=length):
            if any(pattern.match(candidate) is not None for pattern in patterns):
                yield candidate


@pytest.mark.parametrize(
    "sources",
    [
        ["a b", "a c"],
        ["[a] b [c]", "a (b | c a)"],
        ["(a | b) (a | b) c", "c"],
        ["a [b [c]] a"],
    ],
)
def test_the_automaton_accepts_exactly_what_the_patterns_do(sources: list[str]) -> None:
    patterns = [parse_pattern(source) for source in sources]
    automaton = Automaton(patterns)
    whole = set(sentences(patterns, "abc", 4))
    for length in range(1, 5):
        for candidate in itertools.product("abc", repeat=length):
            several = any(
                candidate[:cut] in whole and (cut == length or automaton.accepts(candidate[cut:]))
                for cut in range(1, length + 1)
            )
            assert automaton.accepts(candidate) == several, candidate


def test_patterns_share_what_they_begin_and_end_with() -> None:
    automaton = Automaton(
        parse_pattern(f"i would like to (book | see) {thing} please") for thing in ("a", "b")
    )
    assert len(automaton.transitions) == 8


def test_a_grammar_too_large_is_refused() -> None:
    source = " ".join("(a | b)" for _ in range(6000))
    with pytest.raises(ValueError, match="more than 20000 states"):
        Automaton([parse_pattern(source)])


def test_an_empty_utterance_is_no_sentence() -> None:
    assert not Automaton([parse_pattern("a")]).accepts([])
