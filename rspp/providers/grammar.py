"""The sentences of a pipeline as one small automaton over words.

Patterns that begin alike share states, and so do those that end alike: a recogniser then follows
"i would like to" once and not once per rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp.pipeline.patterns import Node, Pattern, Slot, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_STATES = 20_000


class Automaton:
    """A minimal deterministic automaton that accepts the sentences of some patterns.

    State 0 is the start.

    Attributes:
        transitions: for each state, the state that each possible next word leads to.
        accepting: states in which a sentence may end.

    Raises:
        ValueError: the sentences need more than ``MOST_STATES`` states.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        builder = _Builder()
        for pattern in patterns:
            builder.final.add(builder.add(pattern.root, 0))
        self.transitions, self.accepting = _minimal(*builder.deterministic())

    def accepts(self, words: Sequence[str]) -> bool:
        """Whether the words are one or more whole sentences, one after the other."""
        states = {0}
        at_end = False
        for word in words:
            reached = {self.transitions[state][word] for state in states if word in self.transitions[state]}
            at_end = bool(reached & self.accepting)
            states = reached | {0} if at_end else reached
        return at_end


class _Builder:
    """A non-deterministic automaton without empty moves except those listed."""

    def __init__(self) -> None:
        self.moves: list[dict[str, set[int]]] = [{}]
        self.empty: list[set[int]] = [set()]
        self.final: set[int] = set()

    def _state(self) -> int:
        if len(self.moves) >= MOST_STATES:
            raise ValueError(f"the grammar needs more than {MOST_STATES} states")
        self.moves.append({})
        self.empty.append(set())
        return len(self.moves) - 1

    def add(self, node: Node, start: int) -> int:
        """Add a part that begins in ``start`` and return the state where it ends."""
        if isinstance(node, Word):
            end = self._state()
            self.moves[start].setdefault(node.text, set()).add(end)
            return end
        if isinstance(node, Slot):
            return self.add(node.phrases, start)
        end = self._state()
        for option in node.options:
            state = self._state()
            self.empty[start].add(state)
            for part in option:
                state = self.add(part, state)
            self.empty[state].add(end)
        if node.optional:
            self.empty[start].add(end)
        return end

    def _closure(self, states: Iterable[int]) -> frozenset[int]:
        seen = set(states)
        todo = list(seen)
        while todo:
            fresh = self.empty[todo.pop()] - seen
            seen |= fresh
            todo += fresh
        return frozenset(seen)

    def deterministic(self) -> tuple[list[dict[str, int]], set[int]]:
        """The same sentences, with one state per word sequence."""
        start = self._closure({0})
        numbers = {start: 0}
        order = [start]
        table: list[dict[str, int]] = []
        for states in order:
            row: dict[str, int] = {}
            for word in sorted({word for state in states for word in self.moves[state]}):
                reached = self._closure(
                    target for state in states for target in self.moves[state].get(word, ())
                )
                if reached not in numbers:
                    if len(order) >= MOST_STATES:
                        raise ValueError(f"the grammar needs more than {MOST_STATES} states")
                    numbers[reached] = len(order)
                    order.append(reached)
                row[word] = numbers[reached]
            table.append(row)
        return table, {number for states, number in numbers.items() if states & self.final}


def _minimal(table: list[dict[str, int]], accepting: set[int]) -> tuple[list[dict[str, int]], set[int]]:
    """Merge states that no word sequence can tell apart (Moore's refinement)."""
    block = [int(state in accepting) for state in range(len(table))]
    while True:
        numbers: dict[tuple[int, tuple[tuple[str, int], ...]], int] = {}
        refined = [
            numbers.setdefault(
                (block[state], tuple((word, block[target]) for word, target in row.items())), len(numbers)
            )
            for state, row in enumerate(table)
        ]
        if len(numbers) == len(set(block)):
            break
        block = refined
    block = refined
    merged: list[dict[str, int]] = [{} for _ in numbers]
    for state, row in enumerate(table):
        merged[block[state]] = {word: block[target] for word, target in row.items()}
    return merged, {block[state] for state in accepting}
