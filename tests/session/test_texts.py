"""Chat texts wait until a turn takes them, once, and never more of them than is said."""

from __future__ import annotations

import pytest

from rspp.session.texts import MAX_EARLY_TEXTS, ChatTexts


def test_a_text_is_taken_once_and_kept_no_longer() -> None:
    texts = ChatTexts()
    first, second = texts.add("one", "event-1"), texts.add("two", "")
    assert texts.get(first) == ("one", "event-1")
    assert texts.get(second).event_id == f"text/{second}"
    assert texts.waiting() == [first, second]
    assert texts.take(first) == "one"
    assert texts.take(first) == ""
    assert texts.waiting() == [second]
    with pytest.raises(KeyError):
        texts.get(first)


def test_of_too_many_that_nobody_takes_the_earliest_are_lost() -> None:
    texts = ChatTexts()
    numbers = [texts.add(str(number), "") for number in range(MAX_EARLY_TEXTS + 2)]
    texts.bound()
    assert texts.waiting() == numbers[2:]
