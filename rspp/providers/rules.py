"""The embedded responder: answers by the rules of the pipeline file, without network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rspp.contracts.errors import ConfigurationError
from rspp.contracts.ports import Message, ResponseDelta
from rspp.pipeline.patterns import Pattern, parse_pattern, spoken_words

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rspp.pipeline.spec import Rule, RulesLlm

_PLACE: Final = re.compile(r"\{(\w+)\}")


class RulesResponder:
    """Answers the caller's last message by the first rule whose pattern it matches.

    A message of several sentences in a row, or with words around the sentence, is answered by the rule
    whose sentence ends last in it; of those that end there, by the longest.

    Args:
        spec: rules, slots and the reply when no rule matches.

    Raises:
        ConfigurationError: a pattern is malformed, or a reply repeats a slot that its pattern lacks.
    """

    def __init__(self, spec: RulesLlm) -> None:
        self._rules: list[tuple[Pattern, Rule]] = []
        self._otherwise = spec.otherwise
        for index, rule in enumerate(spec.rules):
            pattern = parse_pattern(rule.hear, spec.slots)
            for name in _PLACE.findall(rule.say):
                if name not in pattern.slots:
                    raise ConfigurationError(
                        f"llm.rules[{index}].say: '{{{name}}}' is no slot of the pattern '{rule.hear}'",
                        hint=f"write <{name}> in 'hear', or take '{{{name}}}' out of 'say'",
                    )
            self._rules.append((pattern, rule))

    async def respond(self, history: Sequence[Message]) -> AsyncGenerator[ResponseDelta, None]:
        """Stream the reply to the last entry of ``history``, word by word, then the rule's action."""
        message = history[-1] if history else None
        rule, slots = self._choose(message.text if message is not None and message.role == "user" else "")
        reply = (
            self._otherwise if rule is None else _PLACE.sub(lambda place: slots.get(place[1], ""), rule.say)
        )
        words = reply.split()
        for index, word in enumerate(words):
            yield ResponseDelta(text=word if index == len(words) - 1 else word + " ")
        if rule is not None and rule.action == "hang_up":
            yield ResponseDelta(action="hang_up")

    def _choose(self, text: str) -> tuple[Rule | None, dict[str, str]]:
        words = spoken_words(text)
        for pattern, rule in self._rules:
            slots = pattern.match(words)
            if slots is not None:
                return rule, slots
        inside = [(pattern.find(words), rule) for pattern, rule in self._rules]
        found = [(sentence, rule) for sentence, rule in inside if sentence is not None]
        if not found:
            return None, {}
        sentence, rule = max(found, key=lambda pair: (pair[0].end, -pair[0].start))
        return rule, sentence.slots

    async def close(self) -> None:
        """Nothing to free."""
