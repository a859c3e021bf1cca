"""Patterns of spoken sentences: ``(a | b)`` alternatives, ``[a]`` optional words, ``<name>`` slots.

A pattern is matched against words, never letters: punctuation and case of what was heard do not count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from rspp.contracts.errors import ConfigurationError

SYNTAX_HINT: Final = "write words, (a | b) for alternatives, [a] for optional words and <name> for a slot"
MOST_DEPTH: Final = 20

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<word>(?:[^\W_]|['\u2019])+)|<\s*(?P<slot>[A-Za-z_]\w*)\s*>|(?P<mark>[()\[\]|-]))"
)
_SPOKEN_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@dataclass(frozen=True)
class Word:
    """One word, in lower case."""

    text: str


@dataclass(frozen=True)
class Slot:
    """Any phrase of the slot of that name."""

    name: str
    phrases: Choice


@dataclass(frozen=True)
class Choice:
    """One of several sequences; ``optional`` allows none of them."""

    options: tuple[tuple[Node, ...], ...]
    optional: bool = False


Node: TypeAlias = Word | Slot | Choice
Slots: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Found:
    """A sentence that a pattern matched inside a longer utterance, in words.

    Attributes:
        start: index of its first word.
        end: index behind its last word.
        slots: the phrase that each slot matched.
    """

    start: int
    end: int
    slots: dict[str, str]


class Pattern:
    """A parsed pattern.

    Attributes:
        source: the pattern as written.
        root: its parts.
        slots: names of its slots, in order.
    """

    def __init__(self, source: str, root: Choice) -> None:
        self.source = source
        self.root = root
        names: list[str] = []
        expression = _expression(root, names)
        self.slots = tuple(dict.fromkeys(names))
        self._names = names
        self._whole = re.compile(expression)

    def match(self, words: Sequence[str]) -> dict[str, str] | None:
        """Return the phrase of each slot if the pattern accepts exactly these words, else none."""
        found = self._whole.fullmatch(_joined(words))
        return None if found is None else self._phrases(found)

    def find(self, words: Sequence[str]) -> Found | None:
        """Return the sentence inside ``words`` that ends last, the longest of those; none if none is."""
        text = _joined(words)
        starts = [0, *(index + 1 for index, letter in enumerate(text[:-1]) if letter == " ")]
        best: Found | None = None
        for first, at in enumerate(starts if words else ()):
            found = self._whole.match(text, at)
            if found is None:
                continue
            end = first + found.group().count(" ")
            if best is None or end > best.end:
                best = Found(start=first, end=end, slots=self._phrases(found))
        return best

    def words(self) -> frozenset[str]:
        """Every word that may occur in a sentence of the pattern."""
        return frozenset(_words(self.root))

    def _phrases(self, found: re.Match[str]) -> dict[str, str]:
        phrases: dict[str, str] = {}
        for index, name in enumerate(self._names):
            phrase = found.group(f"slot{index}")
            if phrase is not None:
                phrases.setdefault(name, phrase.strip())
        return phrases


def parse_pattern(source: str, slots: Slots | None = None) -> Pattern:
    """Parse a pattern.

    Args:
        source: such as ``[i would like] (a table | a room) for <number> people``.
        slots: phrases that each ``<name>`` stands for, patterns themselves without slots.

    Raises:
        ConfigurationError: it is malformed, names an unknown slot, or can match nothing at all; the
            message gives the position, counted from 1.
    """
    pattern = Pattern(source, _Parser(source, slots or {}).parse())
    if pattern.match(()) is not None:
        raise ConfigurationError(
            f"pattern '{source}': every word is optional, so that it matches silence",
            hint="leave at least one word outside [ ]",
        )
    return pattern


def spoken_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return [word.lower().replace("\u2019", "'") for word in _SPOKEN_WORD.findall(text)]


class _Parser:
    """Recursive descent over one pattern."""

    def __init__(self, source: str, slots: Slots, inside_slot: str = "") -> None:
        self._source = source
        self._slots = slots
        self._inside_slot = inside_slot
        self._at = 0
        self._depth = 0
        self._choices: dict[str, Choice] = {}

    def parse(self) -> Choice:
        if not self._source.strip():
            self._fail(1, "it has no words")
        return self._choice("")

    def _choice(self, closing: str) -> Choice:
        opened = self._at
        self._depth += 1
        if self._depth > MOST_DEPTH:
            self._fail(opened, f"brackets are nested deeper than {MOST_DEPTH}")
        options: list[tuple[Node, ...]] = []
        option: list[Node] = []
        while True:
            token = _TOKEN.match(self._source, self._at)
            if token is None:
                rest = self._source[self._at :]
                if rest.strip():
                    position = self._at + len(rest) - len(rest.lstrip()) + 1
                    self._fail(position, f"unexpected '{rest.strip()[0]}'")
                if closing:
                    self._fail(opened, f"the bracket is not closed, '{closing}' is missing")
                break
            self._at = token.end()
            if token["word"] is not None:
                option.append(Word(token["word"].lower().replace("\u2019", "'")))
            elif token["slot"] is not None:
                option.append(self._slot(token["slot"], token.start("slot")))
            elif token["mark"] == "|":
                self._close_option(options, option)
                option = []
            elif token["mark"] == "(":
                option.append(self._choice(")"))
            elif token["mark"] == "[":
                inner = self._choice("]")
                option.append(Choice(inner.options, optional=True))
            elif token["mark"] != "-":
                if token["mark"] != closing:
                    self._fail(self._at, f"'{token['mark']}' closes no bracket")
                break
        self._close_option(options, option)
        self._depth -= 1
        return Choice(tuple(options))

    def _close_option(self, options: list[tuple[Node, ...]], option: list[Node]) -> None:
        if not option:
            self._fail(max(1, self._at), "an alternative is empty")
        options.append(tuple(option))

    def _slot(self, name: str, position: int) -> Slot:
        if self._inside_slot:
            self._fail(position, f"the slot '{self._inside_slot}' uses another slot, '{name}'")
        if name not in self._slots or not self._slots[name]:
            known = ", ".join(sorted(self._slots)) or "none"
            self._fail(position, f"unknown slot '{name}' (known: {known})")
        if name not in self._choices:
            phrases = [_Parser(phrase, {}, inside_slot=name).parse() for phrase in self._slots[name]]
            self._choices[name] = Choice(tuple((phrase,) for phrase in phrases))
        return Slot(name, self._choices[name])

    def _fail(self, position: int, problem: str) -> NoReturn:
        where = f"slot '{self._inside_slot}', phrase" if self._inside_slot else "pattern"
        raise ConfigurationError(
            f"{where} '{self._source}', position {position}: {problem}", hint=SYNTAX_HINT
        )


def _joined(words: Sequence[str]) -> str:
    return "".join(f"{word} " for word in words)


def _expression(node: Node, names: list[str]) -> str:
    """Regular expression over words that each end in one blank; longer alternatives are tried first."""
    if isinstance(node, Word):
        return re.escape(node.text) + " "
    if isinstance(node, Slot):
        names.append(node.name)
        index = len(names) - 1
        return f"(?P<slot{index}>{_expression(node.phrases, names)})"
    options = ["".join(_expression(part, names) for part in option) for option in node.options]
    longest_first = sorted(options, key=lambda option: -option.count(" "))
    return f"(?:{'|'.join(longest_first)}){'?' if node.optional else ''}"


def _words(node: Node) -> list[str]:
    if isinstance(node, Word):
        return [node.text]
    if isinstance(node, Slot):
        return _words(node.phrases)
    return [word for option in node.options for part in option for word in _words(part)]
